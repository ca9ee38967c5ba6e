package route

import (
	"context"
	"net/netip"
	"sort"
	"strings"
	"sync"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/tlspolicy"
)

// Bounds of the address look-ups for one MX set.
const (
	maxLookups = 20 // hosts
	atOnce     = 8
)

// direct makes the route by the domain's own mail exchangers (RFC 5321 5.1).
func (q *plan) direct(ctx context.Context, matched string, port uint16, o own) (*mta.Route, *mta.Failure) {
	d := q.demands(ctx, matched, port, o)
	defer d.close()
	if isLiteral(q.domain) {
		return q.toLiteral(matched, port, d)
	}
	mx, err := q.p.resolver.MX(ctx, q.domain)
	e := dns.AsError(err)
	if e != nil && e.Kind == dns.NoData {
		return q.implicit(ctx, e, matched, port, d)
	}
	if e != nil {
		return nil, q.noAnswer(e)
	}
	hosts, failure := candidates(q.domain, mx.Records)
	if failure != nil {
		return nil, failure
	}
	hosts, cut := q.cutOurNames(hosts)
	if len(hosts) == 0 {
		return nil, fail(mta.CauseLoop, nil, "we are the best mail server of %s: %s", q.domain, cut)
	}
	d.heard(ctx, mx.Secure, mx.CanonicalName, hosts)
	found := q.gather(ctx, hosts, port, d)
	if found.failure != nil {
		return nil, d.unmet(&found)
	}
	r := q.route(matched, found.hosts, port)
	r.Secure = mx.Secure
	d.complete(r, siteOf(found.allowed(hosts)), &found)
	return q.finish(r, d.bound(earlier(mx.Expires, found.expires)))
}

// implicit makes the route of a domain without MX records: its own address is
// its mail server (RFC 5321 5.1). no is the denial of the MX look-up.
func (q *plan) implicit(ctx context.Context, no *dns.Error, matched string, port uint16, d *demands) (*mta.Route, *mta.Failure) {
	hosts := []mta.Host{{Name: q.domain}}
	if isLocalhost(q.domain) {
		return nil, fail(mta.CauseForbiddenAddr, nil, "%s is this machine", q.domain)
	}
	if left, cut := q.cutOurNames(hosts); len(left) == 0 {
		return nil, fail(mta.CauseLoop, nil, "we are the mail server of %s: %s", q.domain, cut)
	}
	d.heard(ctx, no.Secure, "", hosts)
	found := q.gather(ctx, hosts, port, d)
	if found.failure != nil {
		return nil, d.unmet(&found)
	}
	r := q.route(matched, found.hosts, port)
	r.Secure = no.Secure
	d.complete(r, q.domain, &found)
	return q.finish(r, d.bound(earlier(no.Expires, found.expires)))
}

// toLiteral makes the route to an address given in the recipient's domain, under
// the same rules as one found by DNS.
func (q *plan) toLiteral(matched string, port uint16, d *demands) (*mta.Route, *mta.Failure) {
	addr, ok := literal(q.domain)
	if !ok {
		return nil, fail(mta.CauseNoDomain, nil, "%s is no address literal of IPv4 or IPv6", q.domain)
	}
	if q.c.listening(port, q.p.interfaces).has(addr) {
		return nil, fail(mta.CauseLoop, nil, "we are the mail server of %s: we listen there", q.domain)
	}
	if why := refused(addr, q.c.PrivateNetworks); why != "" {
		return nil, fail(mta.CauseForbiddenAddr, nil, "%s is %s%s", addr, why, q.hint(addr))
	}
	r := q.route(matched, []mta.Host{{Name: addr.String(), Addresses: []netip.Addr{addr}}}, port)
	d.complete(r, q.domain, &gathered{})
	return q.finish(r, q.now.Add(maxLife))
}

// noAnswer says what a failed MX look-up means. Only a denial is about the
// domain; for anything else nobody knows, and there is no fallback to address
// records (TRAPS 30).
func (q *plan) noAnswer(e *dns.Error) *mta.Failure {
	switch e.Kind {
	case dns.NXDomain, dns.BadName:
		return fail(mta.CauseNoDomain, e, "%v", e)
	}
	return fail(mta.CauseDNS, e, "%v", e)
}

// candidates sorts an MX set by preference and takes out what cannot be a host.
// It is pure. The order inside one preference stays the look-up's.
func candidates(domain string, records []dns.MX) ([]mta.Host, *mta.Failure) {
	hosts := make([]mta.Host, 0, len(records))
	roots, local := 0, false
	for _, mx := range records {
		switch {
		case mx.Host == ".":
			roots++
		case isLocalhost(mx.Host):
			local = true
		case !isAddressText(mx.Host):
			hosts = append(hosts, mta.Host{Name: mx.Host, Preference: mx.Preference})
		}
	}
	if len(hosts) > 0 {
		return withoutDoubles(hosts), nil
	}
	switch {
	case roots > 0 && roots == len(records):
		return nil, fail(mta.CauseNullMX, nil, "%s accepts no mail (null MX, RFC 7505)", domain)
	case local:
		return nil, fail(mta.CauseForbiddenAddr, nil, "the MX records of %s name only localhost", domain)
	}
	return nil, fail(mta.CauseNoAddress, nil, "the MX records of %s name no host, only what looks like addresses", domain)
}

// withoutDoubles sorts by preference; a name given twice keeps its best one.
func withoutDoubles(hosts []mta.Host) []mta.Host {
	sort.SliceStable(hosts, func(i, j int) bool { return hosts[i].Preference < hosts[j].Preference })
	seen := make(map[string]bool, len(hosts))
	out := hosts[:0]
	for _, h := range hosts {
		if !seen[h.Name] {
			seen[h.Name] = true
			out = append(out, h)
		}
	}
	return out
}

// isAddressText reports an address where a name belongs. Names whose last label
// is a number cannot exist (RFC 3696 2), whether or not they parse.
func isAddressText(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") == "" || strings.ContainsAny(name, ":[")
}

// cutOurNames cuts the set at the preference of a name of ours.
func (q *plan) cutOurNames(hosts []mta.Host) (left []mta.Host, why string) {
	for _, h := range hosts {
		if q.c.ourNames[h.Name] {
			return above(hosts, h.Preference), h.Name + " is our name"
		}
	}
	return hosts, ""
}

// above gives the hosts that are preferred to a preference.
func above(hosts []mta.Host, preference uint16) []mta.Host {
	n := sort.Search(len(hosts), func(i int) bool { return hosts[i].Preference >= preference })
	return hosts[:n]
}

// gathered is an MX set with its addresses.
type gathered struct {
	hosts   []mta.Host // those looked up, usable or with their Failure
	dane    []tlspolicy.Found
	before  int // how many of the set count: all, or those before ourselves
	expires time.Time
	failure *mta.Failure // when no host is usable
}

// allowed are the hosts of the set that the site is named by: not those that the
// domain's MTA-STS policy forbids.
func (g *gathered) allowed(set []mta.Host) []mta.Host {
	out := make([]mta.Host, 0, g.before)
	for i := range set[:g.before] {
		if i < len(g.hosts) && g.hosts[i].Failure != nil && g.hosts[i].Failure.Cause == mta.CauseTLSPolicy {
			continue
		}
		out = append(out, set[i])
	}
	return out
}

// gather looks up the hosts' addresses, best first, until enough hosts have
// some, and finishes the preference it has begun so that all of it can be
// shuffled. Ourselves by address and port cut the rest.
func (q *plan) gather(ctx context.Context, set []mta.Host, port uint16, d *demands) gathered {
	g := gathered{before: len(set), expires: q.now.Add(maxLife)}
	listening := q.c.listening(port, q.p.interfaces)
	usable, self := 0, ""
	for from := 0; from < min(len(set), maxLookups) && self == ""; {
		if usable >= q.c.MaxHosts && set[from].Preference != set[from-1].Preference {
			break
		}
		to := min(from+atOnce, len(set), maxLookups)
		for _, f := range q.look(ctx, set[from:to], listening, d) {
			g.expires = earlier(g.expires, f.expires)
			if f.self != "" && self == "" {
				self = f.self
				g.before = len(above(set, f.host.Preference))
			}
			if len(f.host.Addresses) > 0 {
				usable++
			}
			g.hosts, g.dane = append(g.hosts, f.host), append(g.dane, f.dane)
		}
		from = to
	}
	g.hosts, g.dane = g.hosts[:min(len(g.hosts), g.before)], g.dane[:min(len(g.dane), g.before)]
	if len(g.hosts) == 0 {
		g.failure = fail(mta.CauseLoop, nil, "we are the best mail server of %s: %s", q.domain, self)
		return g
	}
	g.failure = verdict(q.domain, g.hosts)
	return g
}

// finding is one host's look-up.
type finding struct {
	host    mta.Host
	self    string // why it is ourselves, or ""
	dane    tlspolicy.Found
	expires time.Time
}

// look looks hosts up at once, at most atOnce of them.
func (q *plan) look(ctx context.Context, hosts []mta.Host, listening listening, d *demands) []finding {
	out := make([]finding, len(hosts))
	if len(hosts) == 1 {
		out[0] = q.lookHost(ctx, hosts[0], listening, d)
		return out
	}
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() { out[i] = q.lookHost(ctx, hosts[i], listening, d) })
	}
	wg.Wait()
	return out
}

// lookHost fills in a host's addresses and what is demanded of it, or why it gets
// no mail.
func (q *plan) lookHost(ctx context.Context, h mta.Host, listening listening, d *demands) finding {
	a, err := q.addresses(ctx, h.Name)
	if err != nil {
		f := finding{host: h, expires: err.Expires}
		if err.Temporary() {
			f.expires = q.now.Add(partialLife)
			f.host.Failure = fail(mta.CauseDNS, err, "%v", err)
			return f
		}
		f.host.Failure = fail(mta.CauseNoAddress, err, "%v%s", err, q.familyHint(err))
		return f
	}
	f := finding{host: h, expires: a.Expires}
	for _, addr := range a.Records {
		if listening.has(addr) {
			f.self = addr.String() + " is where we listen"
			return f
		}
	}
	var why string
	var last netip.Addr
	f.host.Secure = a.Secure
	f.host.Addresses, why = keep(a.Records, func(addr netip.Addr) string {
		last = addr
		return refused(addr, q.c.PrivateNetworks)
	})
	if why != "" {
		f.host.Failure = fail(mta.CauseForbiddenAddr, nil, "%s: %s%s", h.Name, why, q.hint(last))
		return f
	}
	d.look(ctx, &f, a)
	return f
}

// hint names the setting that would allow an address, if one would.
func (q *plan) hint(a netip.Addr) string {
	if !q.c.PrivateNetworks && refused(a, true) == "" {
		return " (delivery.private_networks = false)"
	}
	return ""
}

// familyHint names the setting that kept AAAA from being asked for.
func (q *plan) familyHint(e *dns.Error) string {
	if !q.c.IPv6 && e.Kind == dns.NoData {
		return " (delivery.ipv6 = false: IPv6 addresses are not looked for)"
	}
	return ""
}

// verdict gives nil when a host is usable. Otherwise one that nobody knows about
// makes the whole unknown: its mail must wait. Then a refusal of ours counts
// before a lack of theirs.
func verdict(domain string, hosts []mta.Host) *mta.Failure {
	var worst *mta.Failure
	for i := range hosts {
		f := hosts[i].Failure
		if f == nil {
			return nil
		}
		if worst == nil || rank(f.Cause) > rank(worst.Cause) {
			worst = f
		}
	}
	if len(hosts) == 1 && hosts[0].Name == domain {
		return worst
	}
	return fail(worst.Cause, worst, "no mail server of %s can be used: %s", domain, worst.Text)
}

func rank(c mta.Cause) int {
	switch c {
	case mta.CauseTLSPolicy:
		return 3
	case mta.CauseDNS:
		return 2
	case mta.CauseForbiddenAddr:
		return 1
	}
	return 0
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
