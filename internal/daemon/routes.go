package daemon

import (
	"context"
	"fmt"
	"strings"
	"time"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/route"
)

// routeRule is what the planner is told of [[route]] n, counted from 1.
func routeRule(c *config.Config, n int) route.Rule {
	r := &c.Routes[n-1]
	rule := route.Rule{
		Domains: r.Domains, Senders: r.Senders, Streams: r.Streams, Users: r.Users, Tags: r.Tags,
		Host: r.Host, Pool: r.Pool, Action: routeAction(r.Action), Text: r.Text, Line: r.Line,
	}
	if r.To() {
		rule.Host, rule.Peers = "", peers(&r.Peers, r.Host)
	} else if r.Table != "" {
		rule.Peers = peers(&r.Peers, "")
	}
	// The hosts of a table may have ports of their own, and keep to [tls] outbound
	// as all mail does.
	if r.To() || r.Direct() || c.Given(fmt.Sprintf("route.%d.port", n)) {
		rule.Port = r.Port
	}
	if r.To() || c.Given(fmt.Sprintf("route.%d.tls", n)) {
		rule.TLS = &r.TLS
	}
	if r.Table != "" {
		rule.Table = route.Table{Source: r.Table, TokenFile: r.TableTokenFile}
		for _, fact := range r.TableBy {
			rule.Table.By = append(rule.Table.By, routeFact(fact))
		}
	}
	return rule
}

func routeAction(a config.RouteAction) route.Action {
	return [...]route.Action{
		config.RouteSend: route.ActionNone, config.RouteHold: route.ActionHold,
		config.RouteDiscard: route.ActionDiscard, config.RouteFail: route.ActionFail,
	}[a]
}

func routeFact(f config.RouteFact) route.Fact {
	return [...]route.Fact{
		config.RouteByDomain: route.ByDomain, config.RouteBySender: route.BySender, config.RouteByStream: route.ByStream,
		config.RouteByUser: route.ByUser, config.RouteByTags: route.ByTags,
	}[f]
}

// CheckTables reads the tables of routes that stand in files, and reports what is
// wrong in them.
func CheckTables(c *config.Config) error { return route.CheckTables(routeSettings(c)) }

// tablesEvery is how often files of routes are looked at. A file that changes is
// read when it was the same for one look.
const tablesEvery = 2 * time.Second

// watchTables keeps the tables of routes fresh.
func (d *Daemon) watchTables(ctx context.Context) {
	every(ctx, tablesEvery, func() {
		if d.planner.Refresh() {
			d.queue.Replan()
		}
	})
}

// doctorRoute is what the doctor is told of a [[route]].
func doctorRoute(c *config.Config, r *config.Route) doctor.Route {
	out := doctor.Route{Domains: r.Domains, Line: r.Line, Of: routeConditions(r)}
	switch {
	case r.Direct():
		out.Port = r.Port
	case r.Host == config.RouteRouter:
		out.Host, out.Port = c.Router.Host, c.Router.Port
	case r.To() && hostWords(r) != "":
		out.Way = "goes to " + hostWords(r)
	case r.To():
		out.Host, out.Port = r.Host, r.Port
	case r.Action == config.RouteHold:
		out.Way = "is held"
	case r.Action == config.RouteDiscard:
		out.Way = "is discarded"
	case r.Action == config.RouteFail:
		out.Way = "is returned to its sender"
	case r.Table != "":
		out.Way, out.Directly = "goes where "+config.TableName(r.Table)+" says", true
	default:
		out.Way = "goes out from the pool " + r.Pool
	}
	return out
}

// routeConditions are those beside the domains, in words.
func routeConditions(r *config.Route) string {
	var words []string
	for _, each := range []struct {
		what string
		list []string
	}{{"senders", r.Senders}, {"streams", r.Streams}, {"users", r.Users}, {"tags", r.Tags}} {
		if n := len(each.list); n > 0 {
			few := each.list[:min(n, 3)]
			words = append(words, "of "+each.what+" "+strings.Join(few, ", "))
			if n > len(few) {
				words[len(words)-1] += fmt.Sprintf(" and %d more", n-len(few))
			}
		}
	}
	return strings.Join(words, " ")
}
