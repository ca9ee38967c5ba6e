package daemon

import (
	"crypto/tls"
	"time"

	"mailout/internal/admin"
)

// meters are the parts that tell the API's metrics. The doors are made after
// the API, and asked once both run.
func (d *Daemon) meters() admin.Meters {
	return admin.Meters{
		Spool: d.store, Sites: d.queue, Doors: d.meterDoors, DNS: d.resolver.Counts, Sessions: d.carrier.Counts, Memory: d.memory.meter, Suppress: d.suppression.list.Counts, Returns: d.returns.Counts, Unsubscribe: d.links.desk.Counts,
		Warmup: d.warmup.States, Sources: d.sources.up,
		Routers: d.routers.alarms.meter,
		TLSRPT:  d.tlsReports.Counts, TLSPolicies: d.meterTLSPolicies,
	}
}

func (g *memoryGate) meter() admin.Memory {
	live, held := memoryInUse()
	return admin.Memory{Live: live, Held: held, Limit: g.limit.Load(), Short: g.Busy()}
}

func (d *Daemon) meterDoors() []admin.Door {
	list := d.DoorCounts()
	out := make([]admin.Door, len(list))
	for i, one := range list {
		out[i] = admin.Door{Listener: one.Listener, Counts: one.Counts, Expires: d.doors[i].certificate.expires(d.opts.Config.Hostname)}
	}
	return out
}

// expires tells until when the certificate in use is good; zero when there is
// none.
func (c *certificate) expires(hostname string) time.Time {
	var pair *tls.Certificate
	if authority := c.authority.Load(); authority != nil {
		pair = authority.Certificate(hostname)
	} else {
		pair = c.current.Load()
	}
	if pair == nil || pair.Leaf == nil {
		return time.Time{}
	}
	return pair.Leaf.NotAfter
}
