package daemon

import (
	"context"
	"net/netip"

	"mailout/internal/config"
	"mailout/internal/dkim"
)

// dkimEntries are the keys of a configuration.
func dkimEntries(c *config.Config) []dkim.Entry {
	out := make([]dkim.Entry, 0, len(c.DKIM))
	for _, k := range c.DKIM {
		out = append(out, dkim.Entry{Domain: k.Domain, Selector: k.Selector, Path: k.Key})
	}
	return out
}

// ringOptions are those of a Ring that looks at records as the configuration
// says.
func ringOptions(c *config.Config, servers func() []netip.AddrPort) dkim.RingOptions {
	return dkim.RingOptions{Entries: dkimEntries(c), Servers: servers, FirstLook: min(c.DNS.Timeout, dkim.DefaultFirstLook)}
}

// newRing makes the Ring of the daemon.
func (d *Daemon) newRing(c *config.Config) *dkim.Ring {
	o := ringOptions(c, d.resolver.Servers)
	o.Notes, o.Logger = d.store, d.log
	return dkim.NewRing(o)
}

// SurveyDKIM looks at the records of a configuration's keys once: what the
// command line does where no daemon can be asked.
func SurveyDKIM(ctx context.Context, c *config.Config) []dkim.KeyStatus {
	resolver := Resolver(c)
	defer resolver.Close()
	return dkim.Survey(ctx, ringOptions(c, resolver.Servers))
}
