package route

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/tlspolicy"
)

// How much TLS the hosts of a direct route must do. tlspolicy joins what the
// operator, the message and the recipient domain demand, for each host and before
// the site is named: mail that is demanded more of has a site of its own, so that
// one domain's policy never holds up another's mail on the same hosts.
//
// The MTA-STS policy is asked for beside the MX records, TLSA records behind the
// addresses of each host, where signed DNS vouches for both.

// STS knows the MTA-STS policies of domains: tlspolicy.STS.
type STS interface {
	// Find gives what is known of a domain's policy. A first look takes its time.
	Find(ctx context.Context, domain string) tlspolicy.DomainSTS
	// Renew is Find that has looked at the domain's record just now.
	Renew(ctx context.Context, domain string) tlspolicy.DomainSTS
}

// own is what the operator demands of a direct route.
type own struct {
	tls   mta.TLSRequirement
	ruled bool // a rule for this mail says so, not [tls] outbound
}

// demands finds the demands of one route's hosts.
type demands struct {
	q    *plan
	base tlspolicy.Inputs // what is the same for all hosts
	port uint16

	secure  bool     // signed DNS vouches for the MX answer
	off     bool     // nobody authenticated answers when the look-up began
	unsure  string   // with REQUIRETLS: why nobody can tell (mta.Route.Unsigned)
	nextHop []string // names for certificates of usage 2
	names   []string // the hosts, for policies that do not name one

	stop context.CancelFunc         // of sts
	sts  func() tlspolicy.DomainSTS // waits
	once sync.Once
	of   tlspolicy.DomainSTS // set by once
}

// demands begins to look for what a domain demands. The MX answer is not known
// yet: heard tells of it.
func (q *plan) demands(ctx context.Context, matched string, port uint16, o own) *demands {
	d := &demands{q: q, port: port, base: tlspolicy.Inputs{
		Default: q.c.TLS, DefaultWhy: "[tls] outbound", RequireTLS: q.requireTLS, AnyTLS: q.anyTLS,
	}}
	if o.ruled {
		d.base.Rule, d.base.RuleWhy = &o.tls, matched
	}
	d.doubt(ctx)
	d.off = q.p.resolver.Status() == dns.SecureOff
	d.stop, d.sts = func() {}, func() tlspolicy.DomainSTS { return tlspolicy.DomainSTS{} }
	if q.p.sts == nil || !d.base.Published() || isLiteral(q.domain) {
		return d
	}
	ctx, d.stop = context.WithCancel(ctx)
	found := make(chan tlspolicy.DomainSTS, 1)
	go func() { found <- q.p.sts.Find(ctx, q.domain) }()
	d.sts = sync.OnceValue(func() tlspolicy.DomainSTS { return <-found })
	return d
}

// doubt notes why nobody can tell signed answers now. It is asked before the MX
// look-up and behind it: what that says is judged by what was known in between, and
// lasts as long as the route.
func (d *demands) doubt(ctx context.Context) {
	if !d.base.RequireTLS || d.secure || d.unsure != "" {
		return
	}
	if state := d.q.p.resolver.DNSSEC(ctx); !state.On() {
		d.unsure = state.Why
	}
}

// close breaks off what nobody waits for any more.
func (d *demands) close() {
	d.stop()
	d.sts()
}

// heard takes in what the MX look-up said: whether it is vouched for, and where
// the domain's CNAMEs end.
func (d *demands) heard(ctx context.Context, secure bool, canonical string, hosts []mta.Host) {
	d.secure = secure
	if d.q.c.DANE && !secure && (d.off || d.q.p.resolver.Status() <= dns.SecureOff) {
		d.q.p.unsigned.Store(true)
	}
	d.doubt(ctx)
	d.nextHop = []string{d.q.domain}
	if canonical != "" && canonical != d.q.domain && secure {
		d.nextHop = append(d.nextHop, canonical)
	}
	for i := range hosts {
		d.names = append(d.names, hosts[i].Name)
	}
}

// policy gives the domain's MTA-STS policy. One that does not name a host may be
// out of date: then the domain's record is looked at before the policy counts
// against it (RFC 8461 5.1).
func (d *demands) policy(ctx context.Context) *tlspolicy.DomainSTS {
	d.once.Do(func() {
		d.of = d.sts()
		p := d.of.Policy
		if p == nil || p.Mode == tlspolicy.ModeNone {
			return
		}
		if slices.ContainsFunc(d.names, func(host string) bool { return !p.Names(host) }) {
			d.of = d.q.p.sts.Renew(ctx, d.q.domain)
		}
	})
	return &d.of
}

// look completes what was found of a host: what is demanded of it, or why it gets
// no mail.
func (d *demands) look(ctx context.Context, f *finding, addresses dns.Answer[netip.Addr]) {
	in := d.base
	in.Named = d.secure || f.host.Name == d.q.domain
	if in.Published() {
		f.dane = d.dane(ctx, f.host.Name, addresses)
		if e := f.dane.Expires; !e.IsZero() {
			f.expires = earlier(f.expires, e)
		}
		in.DANE = f.dane.HostDANE
		sts := d.policy(ctx)
		against := sts.Against
		if against == nil && in.RequireTLS && !in.Named { // a policy alone could vouch for the host
			against = sts.Unknown
		}
		if against != nil {
			f.fail(against)
			return
		}
		in.STS = sts.Host(d.q.domain, f.host.Name)
	}
	v := tlspolicy.Join(&in)
	if v.Against != nil {
		against := *v.Against
		if against.Cause == mta.CauseTLSPolicy {
			against.Text = f.host.Name + " gets no mail for " + d.q.domain + ": " + against.Text
		}
		f.fail(&against)
		return
	}
	f.host.TLS = &v.Demand
}

// fail takes a host's addresses away.
func (f *finding) fail(why *mta.Failure) { f.host.Addresses, f.host.Failure = nil, why }

// dane asks for a host's TLSA records, where they would count (RFC 7672 2.2).
func (d *demands) dane(ctx context.Context, host string, a dns.Answer[netip.Addr]) tlspolicy.Found {
	alias := a.CanonicalName != "" && a.CanonicalName != host
	if !d.q.c.DANE || !d.secure || !a.Secure && !alias {
		return tlspolicy.Found{}
	}
	f := tlspolicy.LookDANE(ctx, d.q.p.resolver, &tlspolicy.Question{
		Host: host, Canonical: a.CanonicalName, Insecure: !a.Secure, Port: d.port, NextHop: d.nextHop,
	})
	d.q.p.dane[f.State].Add(1)
	return f
}

// DANECounts are the look-ups of TLSA records since the start, by what they gave:
// one a host and plan.
type DANECounts struct{ None, Usable, Unusable, Failed uint64 }

// DANECounts gives them.
func (p *Planner) DANECounts() DANECounts {
	return DANECounts{
		None: p.dane[tlspolicy.DANENone].Load(), Usable: p.dane[tlspolicy.DANEUsable].Load(),
		Unusable: p.dane[tlspolicy.DANEUnusable].Load(), Failed: p.dane[tlspolicy.DANEFailed].Load(),
	}
}

// complete gives a route its demands, its policies and the rest of its site's
// name: name is that of its hosts.
func (d *demands) complete(r *mta.Route, name string, found *gathered) {
	in := d.base
	in.Named = r.Secure
	of := tlspolicy.Join(&in).Demand // of a host that nothing is published of
	r.TLS, r.TLSOrigin, r.TLSWhy = of.Requirement, of.Origin, of.Why
	var words siteWords
	for i := range r.Hosts {
		h := &r.Hosts[i]
		if h.Failure != nil {
			continue
		}
		if h.TLS == nil { // nobody looked: an address literal
			words.add(of.Origin)
			continue
		}
		words.add(h.TLS.Origin)
		if t := h.TLS; t.DANE == nil && !t.Audit && t.Requirement == of.Requirement && t.Origin == of.Origin && (t.Authentic == of.Authentic || !d.base.RequireTLS) {
			h.TLS = nil
		}
	}
	own := r.TLS
	if !words[0] {
		own = d.q.c.TLS // nobody has only what the operator demands
	}
	r.Site = d.q.c.site(name, r.Port, own, d.q.c.Port) + words.String()
	r.Policies = d.policies(found)
	if !r.Secure {
		r.Unsigned = d.unsure
	}
}

// policies are what reports name. Nobody looked where the domain's do not count.
func (d *demands) policies(found *gathered) (out []mta.TLSPolicy) {
	if !d.base.Published() || d.q.p.sts == nil && !d.q.c.DANE || isLiteral(d.q.domain) {
		return nil
	}
	for i := range found.dane {
		p := found.dane[i].Report()
		if p != nil && !slices.ContainsFunc(out, func(had mta.TLSPolicy) bool { return had.Domain == p.Domain }) {
			out = append(out, *p)
		}
	}
	if p := d.of.Report(d.q.domain); p != nil {
		out = append(out, *p)
	}
	if len(out) == 0 {
		out = append(out, tlspolicy.NoPolicy(d.q.domain))
	}
	return out
}

// unmet is the failure when no host is usable, with what reports tell of it.
func (d *demands) unmet(found *gathered) *mta.Failure {
	list := d.policies(found)
	if !slices.ContainsFunc(found.hosts, func(h mta.Host) bool { return mta.PolicyFault(&h, list) != nil }) {
		return found.failure
	}
	f := *found.failure
	f.Err = &mta.TLSUnmet{Domain: d.q.domain, Hosts: found.hosts, Policies: list, Err: found.failure.Err}
	return &f
}

// bound ends a route's life with the policies'.
func (d *demands) bound(expires time.Time) time.Time {
	for _, t := range []time.Time{d.of.Expires, d.of.Again} {
		if !t.IsZero() {
			expires = earlier(expires, t)
		}
	}
	if d.unsure != "" && !d.secure {
		expires = earlier(expires, d.q.now.Add(partialLife))
	}
	return expires
}

// siteWords say in a site's name who demands more than the operator: not the
// first, that is the operator.
type siteWords [4]bool

var siteOrigins = [...]mta.TLSOrigin{"", mta.TLSByMessage, mta.TLSByDANE, mta.TLSBySTS}

func (w *siteWords) add(o mta.TLSOrigin) { w[max(slices.Index(siteOrigins[:], o), 0)] = true }

func (w *siteWords) String() string {
	var words []string
	for i, is := range w {
		if is && i > 0 {
			words = append(words, string(siteOrigins[i]))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return "/" + strings.Join(words, "+")
}
