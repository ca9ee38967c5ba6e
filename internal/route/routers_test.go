package route

import (
	"slices"
	"testing"

	"mailout/internal/mta"
)

// TestRouterAuth: routes by a router carry its credentials, and no others do.
func TestRouterAuth(t *testing.T) {
	t.Parallel()
	one, two := &mta.Credentials{Username: "one"}, &mta.Credentials{Username: "two"}
	s := standard()
	s.Rules = []Rule{
		{Domains: []string{"two.test"}, Host: "192.0.2.2", Peers: Peers{Auth: two}},
		{Domains: []string{"none.test"}, Host: "192.0.2.3"},
		{Domains: []string{"router.test"}, Host: "router"},
		{Domains: []string{"a.test"}, Host: Direct},
	}
	s.Router = Router{Host: "192.0.2.1", Peers: Peers{Auth: one}}
	w := newWorld(t, s, relayZone)
	for domain, want := range map[string]*mta.Credentials{"two.test": two, "none.test": nil, "router.test": one, "any.test": one, "a.test": nil} {
		r, f := w.p.Route(t.Context(), domain)
		if f != nil || r.Auth != want {
			t.Errorf("%s: %v %v", domain, r, f)
		}
	}
	if got := w.p.Routers(); !slices.Equal(got, []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}) {
		t.Error(got)
	}
}

// TestCredentialsTellRoutersApart: the same hosts with other credentials are
// another router and another site, those with the same are the same.
func TestCredentialsTellRoutersApart(t *testing.T) {
	t.Parallel()
	one, two := &mta.Credentials{Username: "one"}, &mta.Credentials{Username: "two"}
	s := standard()
	rule := func(domain string, auth *mta.Credentials) Rule {
		return Rule{Domains: []string{domain}, Host: "192.0.2.1", Port: 587, Peers: Peers{Auth: auth}}
	}
	s.Rules = []Rule{rule("one.test", one), rule("two.test", two), rule("too.test", two), rule("none.test", nil)}
	s.Router = Router{Host: "192.0.2.1", Port: 587, Peers: Peers{Auth: one}}
	w := newWorld(t, s, relayZone)
	for domain, want := range map[string][2]string{
		"any.test":  {"192.0.2.1", "router:192.0.2.1:587"},
		"one.test":  {"192.0.2.1", "router:192.0.2.1:587"},
		"two.test":  {"192.0.2.1/two", "router:192.0.2.1:587/two"},
		"too.test":  {"192.0.2.1/two", "router:192.0.2.1:587/two"},
		"none.test": {"192.0.2.1/-", "router:192.0.2.1:587/-"},
	} {
		if r, f := w.p.Route(t.Context(), domain); f != nil || r.Router != want[0] || r.Site != want[1] {
			t.Errorf("%s: %+v %v", domain, r, f)
		}
	}
	if got := w.p.Routers(); !slices.Equal(got, []string{"192.0.2.1", "192.0.2.1/two", "192.0.2.1/-"}) {
		t.Error(got)
	}
}

// TestUnresolvedIsTold: each time, by the name of the router.
func TestUnresolvedIsTold(t *testing.T) {
	t.Parallel()
	s := standard()
	s.Router = Router{Host: "gone.test"}
	w := newWorld(t, s, relayZone)
	var told []string
	w.p.unresolved = func(router string, f *mta.Failure) { told = append(told, router+" "+f.Cause.String()) }
	for range 2 {
		if _, f := w.p.Route(t.Context(), "any.test"); f == nil {
			t.Error("found")
		}
	}
	if !slices.Equal(told, []string{"gone.test router", "gone.test router"}) {
		t.Error(told)
	}
}
