package config

// route is a route with the defaults of what is not given.
func route(r Route) Route {
	for _, list := range []*[]string{&r.Domains, &r.Senders, &r.Streams, &r.Users, &r.Tags} {
		if *list == nil {
			*list = []string{}
		}
	}
	if r.TableBy == nil {
		r.TableBy = []RouteFact{RouteByDomain}
	}
	r.Auth = noCredentials
	return r
}
