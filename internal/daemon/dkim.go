package daemon

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/dkim"
	"mailout/internal/dns"
	"mailout/internal/mta"
)

// dkimEntries are the keys of a configuration.
func dkimEntries(c *config.Config) []dkim.Entry {
	out := make([]dkim.Entry, 0, len(c.DKIM))
	for _, k := range c.DKIM {
		out = append(out, dkim.Entry{Domain: k.Domain, Selector: k.Selector, Path: k.Key})
	}
	return out
}

// resolvers asks the configured DNS servers as the configuration says: those over
// TLS that are to be, and never in clear.
type resolvers struct {
	servers func() []netip.AddrPort
	secure  atomic.Pointer[secureServers]
}

type secureServers struct {
	names map[netip.AddrPort]string // what their certificates are for
	roots *x509.CertPool
}

// configure takes the servers of a configuration. Roots that cannot be read are
// told of elsewhere; without them no certificate fits.
func (r *resolvers) configure(c *config.Config) {
	pool, err := roots(c)
	if err != nil {
		pool = x509.NewCertPool()
	}
	r.secure.Store(&secureServers{dns.TLSNames(c.DNS.Servers), pool})
}

// ask is dkim.RingOptions.Ask.
func (r *resolvers) ask(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error) {
	s := r.secure.Load()
	if name, ok := s.names[p.Server]; ok {
		p.TLS, p.TLSName, p.RootCAs = true, name, s.roots
	}
	return dns.Ask(ctx, nil, p)
}

// ringOptions are those of a Ring that looks at records as the configuration
// says.
func ringOptions(c *config.Config, r *resolvers) dkim.RingOptions {
	r.configure(c)
	return dkim.RingOptions{Entries: dkimEntries(c), Servers: r.servers, Ask: r.ask, FirstLook: min(c.DNS.Timeout, dkim.DefaultFirstLook)}
}

// newRing makes the Ring of the daemon.
func (d *Daemon) newRing(c *config.Config) *dkim.Ring {
	d.resolvers.servers = d.resolver.Servers
	o := ringOptions(c, &d.resolvers)
	o.Notes, o.Logger = d.store, d.log
	return dkim.NewRing(o)
}

// configureRing takes the keys and the servers of a new configuration.
func (d *Daemon) configureRing(c *config.Config) {
	d.resolvers.configure(c)
	d.ring.Configure(context.Background(), dkimEntries(c))
}

// SurveyDKIM looks at the records of a configuration's keys once: what the
// command line does where no daemon can be asked.
func SurveyDKIM(ctx context.Context, c *config.Config) []dkim.KeyStatus {
	resolver := Resolver(c)
	defer resolver.Close()
	o := ringOptions(c, &resolvers{servers: resolver.Servers})
	o.Logger = slog.New(slog.DiscardHandler) // what is wrong stands in the answer
	return dkim.Survey(ctx, o)
}

var _ admin.Signing = (*Daemon)(nil)

// DKIMKeys implements admin.Signing.
func (d *Daemon) DKIMKeys() []dkim.KeyStatus { return d.ring.Status() }

// DKIMLooks implements admin.Signing.
func (d *Daemon) DKIMLooks() dkim.LookCounts { return d.ring.Looks() }

// Unaligned implements admin.Signing.
func (d *Daemon) Unaligned() (accepted, refused int64) { return d.intake.Unaligned() }

// covers is submit.Options.Covered. Where there is no key at all, nobody expects
// signatures.
func (d *Daemon) covers(domain string) bool { return !d.ring.Any() || d.ring.Covers(domain) }

// unalignedFrom is submit.Options.Unaligned.
func (d *Daemon) unalignedFrom(domain string, id mta.ID) {
	if d.unaligned.due(domain, time.Now()) {
		d.log.Warn("mail is taken whose From domain has no DKIM key: it goes out without a signature that counts for its author",
			"domain", domain, mta.KeyID, id.String(), mta.KeyFix, "make a key (\"mailout dkim new DOMAIN\"), or say with unaligned in [identity] that such mail is accepted or refused")
	}
}

// unalignedLog lets one line an hour through for each domain.
type unalignedLog struct {
	mu struct {
		sync.Mutex
		told map[string]time.Time
	}
}

const (
	unalignedEvery = time.Hour
	maxUnaligned   = 1000 // domains that are remembered
)

func (l *unalignedLog) due(domain string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at, ok := l.mu.told[domain]; ok && now.Sub(at) < unalignedEvery {
		return false
	}
	if len(l.mu.told) >= maxUnaligned {
		for d, at := range l.mu.told {
			if now.Sub(at) >= unalignedEvery {
				delete(l.mu.told, d)
			}
		}
		if len(l.mu.told) >= maxUnaligned {
			return false // the counter tells
		}
	}
	if l.mu.told == nil {
		l.mu.told = map[string]time.Time{}
	}
	l.mu.told[domain] = now
	return true
}
