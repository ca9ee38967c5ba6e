package daemon

import (
	"context"

	"mailout/internal/config"
	"mailout/internal/dns"
	"mailout/internal/doctor"
)

// Open files that a daemon needs besides the connections of its listeners:
// those of the queue to other servers (its own bound), and the spool's files,
// look-ups, the control socket and what the system takes.
const (
	outgoingFiles = 5000
	otherFiles    = 1000
)

// Identity is what the doctor needs to know of a configuration. Without [dns]
// servers it reads the system's, as they are now.
func Identity(c *config.Config) doctor.Identity {
	i := c.Identity
	id := doctor.Identity{
		Hostname: c.Hostname, Sources: c.LocalSources(), IPv6: c.Delivery.IPv6, Port: c.Delivery.Port,
		Router:  examined(c),
		Servers: dns.Addresses(c.DNS.Servers), TLSServers: dns.TLSNames(c.DNS.Servers), HostsFile: c.DNS.HostsFile,
		Postmaster: c.Postmaster, Domains: i.Domains, Returns: c.Returns.Domain, TrustedCA: c.TLS.CAFile,
		PublicIP: i.PublicIP, Reflectors: i.Reflectors, Probes: i.Probes, BlockLists: i.BlockLists,
		ExternalNames: i.ExternalNames, BogusName: i.BogusName,
		Spool: c.Spool, SpoolFree: c.Limits.SpoolFree, MaxFiles: outgoingFiles + otherFiles,
	}
	id.DNSSEC = func(ctx context.Context) dns.DNSSECState {
		r := Resolver(c)
		defer r.Close()
		return r.DNSSEC(ctx)
	}
	if len(id.Servers) == 0 {
		id.Servers, id.SystemServers = dns.SystemServers(), true
	}
	for i := range c.Routes {
		id.Routes = append(id.Routes, doctorRoute(c, &c.Routes[i]))
	}
	for _, k := range c.DKIM {
		id.DKIM = append(id.DKIM, doctor.DKIMKey{Domain: k.Domain, Selector: k.Selector, Path: k.Key})
	}
	for _, l := range c.Listen {
		id.MaxFiles += uint64(l.Connections)
	}
	return id
}
