package daemon

import (
	"path/filepath"
	"time"

	"mailout/internal/config"
	"mailout/internal/control"
	"mailout/internal/queue"
	"mailout/internal/route"
)

// ruled is the queue as the controller has it: a route that an operator gives a
// destination is known to the planner before the queue asks it.
type ruled struct {
	*queue.Queue
	planner *route.Planner
}

// SetReroutes implements control.Queue.
func (r ruled) SetReroutes(rules []queue.Reroute) {
	r.planner.Reroute(routeRules(rules))
	r.Queue.SetReroutes(rules)
}

func routeRules(rules []queue.Reroute) []route.Reroute {
	out := make([]route.Reroute, len(rules))
	for i, r := range rules {
		out[i] = route.Reroute{Domain: r.Destination, Stream: r.Stream, To: r.To, Why: r.String()}
	}
	return out
}

// orders are what operators ordered of destinations before this start.
type orders struct {
	holdsFile, routesFile string
	holds                 []queue.Hold
	reroutes              []queue.Reroute
}

func readOrders(c *config.Config) (o orders, err error) {
	o.holdsFile, o.routesFile = filepath.Join(c.Spool, control.HoldsFile), filepath.Join(c.Spool, control.ReroutesFile)
	if o.holds, err = control.ReadHolds(o.holdsFile); err == nil {
		o.reroutes, err = control.ReadReroutes(o.routesFile)
	}
	return o, err
}

// controller makes the controller, and tells the planner the routes.
func (d *Daemon) controller(o orders) *control.Controller {
	d.planner.Reroute(routeRules(control.ActiveRoutes(o.reroutes, time.Now())))
	return control.New(control.Options{
		Store: d.store, Queue: ruled{d.queue, d.planner}, Logger: d.log,
		File: o.holdsFile, Holds: o.holds, RoutesFile: o.routesFile, Reroutes: o.reroutes,
	})
}
