package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	evaluator "blitiri.com.ar/go/spf"
	wire "github.com/miekg/dns"

	"mailout/internal/spf"
)

const (
	whySPF     = "Receivers ask the sender's domain which addresses may send for it, and refuse or mark mail when the record is missing or cannot be read: 550 5.7.26 at Gmail, 550 5.7.515 at Outlook."
	whySPFPass = "Mail from an address that the sender's domain does not name is unauthenticated: 550 5.7.26 at Gmail, 550 5.7.515 at Outlook, 550 5.7.1 SPF check failed elsewhere."
	whySPFHost = "Bounces have no sender, so receivers ask the name in EHLO instead (RFC 7208 2.4); without a record there, notices of failed mail are unauthenticated: 550 5.7.26 at Gmail."
)

func spfProbes() []probe {
	return []probe{
		{ids: []string{"spf.record"}, run: spfRecords},
		{ids: []string{"spf.pass"}, direct: true, run: spfPass},
		{ids: []string{"spf.host"}, direct: true, run: spfHost},
	}
}

// domains are the sender domains, each once.
func (x *exam) domains() []string {
	var out []string
	for _, d := range x.id.Domains {
		if d = strings.ToLower(strings.TrimSuffix(d, ".")); d != "" && !slices.Contains(out, d) {
			out = append(out, d)
		}
	}
	return out
}

// returnPaths are the domains of return paths: those that SPF is asked for, and
// that bounces go to.
func (x *exam) returnPaths() []string {
	out := x.domains()
	if d := x.id.Returns; d != "" && !slices.Contains(out, d) {
		out = append(out, d)
	}
	return out
}

// sideBySide makes the checks of several things at the same time and keeps
// their order.
func sideBySide[T any](things []T, run func(T) []Check) []Check {
	results := make([][]Check, len(things))
	var wg group
	for i, thing := range things {
		wg.Go(func() { results[i] = run(thing) })
	}
	wg.Wait()
	return slices.Concat(results...)
}

// spfView is what is published for one domain, and what should be.
type spfView struct {
	domain  string
	err     error    // nothing is known
	texts   []string // the SPF records there
	records []*spf.Record
	bad     *spf.SyntaxError // of the first that cannot be read
	total   tally            // of the record there, when there is one and it can be read
	want    string           // the record that should be there; empty: nobody can tell
	missing []netip.Addr     // visible addresses that want adds
	unsure  error            // whether some pass could not be found out: want goes without them
}

// spfOf finds out about a domain. addrs are to be let through; host says that
// it is a name in EHLO, which nothing but this machine sends as.
func (x *exam) spfOf(ctx context.Context, domain string, addrs []netip.Addr, host bool) spfView {
	domain = strings.ToLower(strings.TrimSuffix(domain, "."))
	v := spfView{domain: domain}
	a := x.look(ctx, domain, wire.TypeTXT)
	if v.err = a.err; v.err != nil {
		return v
	}
	for _, text := range a.texts() {
		if !spf.Is(text) {
			continue
		}
		v.texts = append(v.texts, text)
		r, err := spf.Parse(text)
		if err != nil {
			if v.bad == nil {
				v.bad, _ = err.(*spf.SyntaxError)
			}
			continue
		}
		v.records = append(v.records, r)
	}
	if v.bad != nil {
		return v
	}
	x.propose(ctx, &v, addrs, host)
	if len(v.records) == 1 {
		v.total = x.count(ctx, domain, v.records[0])
	}
	return v
}

// propose finds the record that should be there: what is there, with those
// addresses merged in that do not pass as it stands.
func (x *exam) propose(ctx context.Context, v *spfView, addrs []netip.Addr, host bool) {
	switch {
	case len(v.records) == 0 && host:
		v.missing, v.want = addrs, "v=spf1 a -all" // follows the address records, whatever they become
		return
	case len(v.records) == 0:
		if v.missing = addrs; len(addrs) > 0 {
			v.want = spf.New("~all", addrs...).String()
		}
		return
	}
	joined := spf.Join(v.records...)
	for _, addr := range addrs {
		result, err := x.evaluate(ctx, addr, v.domain, v.domain)
		if result == evaluator.Pass && !open(joined) || joined.Close().Covers(addr) {
			continue
		}
		if result == evaluator.TempError && !open(joined) {
			v.unsure = err
			continue
		}
		v.missing = append(v.missing, addr)
	}
	v.want = joined.Allow(v.missing...).Close().String()
}

// open reports a record that lets everybody pass: who passes by that alone
// will not when it is closed.
func open(r *spf.Record) bool { return r.All() == '+' }

// visibleAddrs are the addresses that receivers see, IPv4 first.
func (x *exam) visibleAddrs(ctx context.Context) []netip.Addr {
	if x.routed() {
		return nil
	}
	known, _ := x.visitors(ctx)
	var out []netip.Addr
	for _, v := range known {
		out = append(out, v.addr)
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() })
	return out
}

func spfRecords(ctx context.Context, x *exam) []Check {
	return sideBySide(x.returnPaths(), func(domain string) []Check {
		v := x.spfOf(ctx, domain, x.visibleAddrs(ctx), false)
		c := Check{ID: "spf.record", Subject: domain, Asked: "TXT records of " + domain + ", and all that its SPF record includes", Why: whySPF}
		x.judgeSPF(&c, v)
		return []Check{c}
	})
}

// judgeSPF is about the record itself; whether our addresses pass is spf.pass's.
func (x *exam) judgeSPF(c *Check, v spfView) {
	switch {
	case v.err != nil:
		c.Status, c.Seen = Unknown, v.err.Error()
	case len(v.texts) == 0:
		c.problem(Fail, DNSHost, "no SPF record", x.spfFix(v, "Publish this record; add what else sends for "+v.domain+" (newsletters, a mail provider) before \"~all\"."))
	case v.bad != nil:
		c.problem(Fail, DNSHost, shortened(strings.Join(v.texts, " and "))+": "+v.bad.Error(), Fix{
			Text: fmt.Sprintf("Correct %q in the record of %s: receivers answer permerror for the whole record as it stands.", v.bad.Term, v.domain)})
	case len(v.texts) > 1:
		c.problem(Fail, DNSHost, fmt.Sprintf("%d SPF records, and receivers take neither: %s", len(v.texts), strings.Join(v.texts, " and ")),
			x.spfFix(v, "Publish this one record in place of the "+fmt.Sprint(len(v.texts))+"."))
	default:
		x.judgeTally(c, v)
	}
}

func (x *exam) judgeTally(c *Check, v spfView) {
	r, t := v.records[0], v.total
	seen := fmt.Sprintf("%s (%s)", shortened(v.texts[0]), t.said())
	doubts := r.Doubts()
	switch {
	case len(t.problems) > 0:
		c.problem(Fail, DNSHost, seen+": "+strings.Join(t.problems, "; "), Fix{
			Text: "Remove or correct what is named above: receivers that come to it answer permerror for the whole record."})
	case t.lookups > spf.MaxLookups:
		c.problem(Fail, DNSHost, seen, Fix{Text: fmt.Sprintf(
			"Remove includes that are no longer used, or write the addresses they stand for as ip4 and ip6: receivers stop after %d look-ups with permerror. %s.", spf.MaxLookups, t.costs())})
	case t.voids > spf.MaxVoids:
		c.problem(Fail, DNSHost, seen+": nothing is found at "+strings.Join(t.void, ", "), Fix{Text: fmt.Sprintf(
			"Remove the terms that lead nowhere: receivers stop after %d of them with permerror.", spf.MaxVoids)})
	case t.end == '+':
		c.problem(Fail, DNSHost, seen+": it lets the whole world send for "+v.domain, x.spfFix(v, "Publish this record in its place: it names our addresses, and others fail softly."))
	case t.err != nil:
		c.Status, c.Seen = Unknown, seen+"; "+t.err.Error()
	case t.end != '-' && t.end != '~':
		c.problem(Warn, DNSHost, seen+": it does not say that others may not send", x.spfFix(v, "Publish this record in its place: it ends in \"~all\"."))
	case len(doubts) > 0:
		c.problem(Warn, DNSHost, seen+": "+strings.Join(doubts, "; "), Fix{Text: "Remove or correct these terms; the rest of the record may stay."})
	default:
		c.Status, c.Seen = Pass, seen
	}
}

// spfFix gives the record that should be there.
func (x *exam) spfFix(v spfView, text string) Fix {
	switch {
	case len(v.texts) == 1 && v.want == v.texts[0] && v.records[0].Redirect() != "": // its end is another's
		return Fix{Text: fmt.Sprintf("Let the record of %s, to which this one redirects, name who may send and end in \"~all\".", v.records[0].Redirect())}
	case v.want != "":
		return Fix{Record: textRecord(v.domain, v.want), Text: text}
	case x.routed():
		return Fix{Text: "Ask who runs the router for the term that its SPF record needs (mostly include:DOMAIN), and publish \"v=spf1 TERM ~all\"."}
	}
	return Fix{Text: "Publish a record with the visible address of this machine, \"v=spf1 ip4:ADDRESS ~all\"; nobody could tell that address yet (address.public)."}
}

// spfPass evaluates the record of every sender domain for every visible
// address.
func spfPass(ctx context.Context, x *exam) []Check {
	known, unknown := x.visitors(ctx)
	return sideBySide(x.returnPaths(), func(domain string) []Check {
		v := x.spfOf(ctx, domain, x.visibleAddrs(ctx), false)
		var out []Check
		for _, w := range known {
			out = append(out, x.judgePass(ctx, w, v))
		}
		seen := map[string]bool{}
		for _, f := range unknown {
			if label := f.label(); !seen[label] {
				seen[label] = true
				out = append(out, unseen("spf.pass", domain+" from "+label, whySPFPass))
			}
		}
		if len(out) == 0 {
			out = append(out, unseen("spf.pass", domain, whySPFPass))
		}
		return out
	})
}

func unseen(id, subject, why string) Check {
	return Check{ID: id, Subject: subject, Status: Unknown, Asked: "what the SPF record says of the visible address",
		Seen: "nobody could tell the visible address (address.public)", Why: why}
}

func (x *exam) judgePass(ctx context.Context, w visitor, v spfView) Check {
	c := Check{ID: "spf.pass", Subject: v.domain + " from " + w.addr.String(), Why: whySPFPass,
		Asked: fmt.Sprintf("the SPF record of %s, evaluated for mail from %s", v.domain, w.addr)}
	result, err := x.evaluate(ctx, w.addr, w.hosts[0], v.domain)
	c.Seen = evaluated(result, err)
	switch result {
	case evaluator.Pass:
		c.Status = Pass
	case evaluator.TempError:
		c.Status = Unknown
	default:
		c.problem(Fail, DNSHost, c.Seen, x.passFix(ctx, v))
	}
	return c
}

// passFix is the record with the address merged in, its look-ups counted.
func (x *exam) passFix(ctx context.Context, v spfView) Fix {
	if v.bad != nil {
		return Fix{Text: fmt.Sprintf("Correct %q in the record first (spf.record).", v.bad.Term)}
	}
	if len(v.texts) == 0 {
		return x.spfFix(v, "Publish this record; add what else sends for "+v.domain+" (newsletters, a mail provider) before \"~all\".")
	}
	text := "Publish this record in place of the one that is there: it is the same with our address merged in"
	if r, err := spf.Parse(v.want); err == nil {
		t := x.count(ctx, v.domain, r)
		text += fmt.Sprintf(", and needs %d of %d look-ups", t.lookups, spf.MaxLookups)
		if t.lookups > spf.MaxLookups || len(t.problems) > 0 {
			text += ", so the record must be mended as well (spf.record)"
		}
		if r.Macros() {
			text += "; its macros look like those of a service that keeps the record: if so, enter the address there"
		}
	}
	return x.spfFix(v, text+".")
}

// spfHost evaluates the record of every name in EHLO, which is what bounces
// are judged by.
func spfHost(ctx context.Context, x *exam) []Check {
	return sideBySide(x.hostnames(), func(host string) []Check {
		c := Check{ID: "spf.host", Subject: host, Asked: "the SPF record of " + host + ", evaluated for the addresses that use this name", Why: whySPFHost}
		x.judgeHost(ctx, &c, host)
		return []Check{c}
	})
}

func (x *exam) judgeHost(ctx context.Context, c *Check, host string) {
	addrs := x.wanted4or6(ctx, host)
	v := x.spfOf(ctx, host, addrs, true)
	if slices.Contains(x.returnPaths(), v.domain) { // then one record is for both
		v = x.spfOf(ctx, host, x.visibleAddrs(ctx), false)
	}
	var results []string
	failed, unsure := false, false
	for _, addr := range addrs {
		result, err := x.evaluate(ctx, addr, host, host)
		results = append(results, addr.String()+": "+evaluated(result, err))
		failed = failed || result != evaluator.Pass && result != evaluator.TempError
		unsure = unsure || result == evaluator.TempError
	}
	c.Seen = strings.Join(results, "; ")
	switch {
	case v.err != nil:
		c.Status, c.Seen = Unknown, v.err.Error()
	case len(v.texts) == 0:
		c.problem(Warn, DNSHost, "no SPF record", x.spfFix(v, "Publish this record: it lets the name's own addresses send as it, and nobody else."))
	case failed:
		c.problem(Fail, DNSHost, c.Seen, x.passFix(ctx, v))
	case unsure:
		c.Status = Unknown
	case len(addrs) == 0:
		c.Status, c.Seen = Unknown, "nobody could tell the visible address (address.public)"
	default:
		c.Status = Pass
	}
}

// evaluate runs the record of a domain as a receiver does, for a sender in the
// domain.
func (x *exam) evaluate(ctx context.Context, addr netip.Addr, helo, domain string) (evaluator.Result, error) {
	return evaluator.CheckHostWithSender(addr.AsSlice(), helo, "postmaster@"+domain,
		evaluator.WithContext(ctx), evaluator.WithResolver(spfResolver{x, addr.Is6()}))
}

// evaluated is a result for people.
func evaluated(result evaluator.Result, err error) string {
	out := string(result)
	switch result {
	case evaluator.None:
		out += ": there is no SPF record"
	case evaluator.Neutral:
		out += ": the record neither allows nor forbids the address"
	case evaluator.SoftFail, evaluator.Fail:
		out += ": the record does not allow the address"
	case evaluator.PermError, evaluator.TempError:
		if err != nil {
			out += ": " + err.Error()
		}
	}
	return out
}

// spfResolver answers the evaluator from the examination's look-ups, asking
// for addresses of the family in question (RFC 7208 5).
type spfResolver struct {
	x  *exam
	v6 bool
}

// notFound and tempError are what the evaluator tells answers by.
func dnsError(a answer) error {
	e := &net.DNSError{Err: a.said(), Name: strings.TrimSuffix(a.question.name, ".")}
	if a.err != nil {
		e.IsTemporary = true
	} else {
		e.IsNotFound = true
	}
	return e
}

// LookupTXT implements the evaluator's DNSResolver.
func (r spfResolver) LookupTXT(ctx context.Context, name string) ([]string, error) {
	a := r.x.look(ctx, name, wire.TypeTXT)
	if !a.found() {
		return nil, dnsError(a)
	}
	return a.texts(), nil
}

// LookupMX implements the evaluator's DNSResolver.
func (r spfResolver) LookupMX(ctx context.Context, name string) ([]*net.MX, error) {
	a := r.x.look(ctx, name, wire.TypeMX)
	if !a.found() {
		return nil, dnsError(a)
	}
	var out []*net.MX
	for _, rr := range a.records {
		if mx, ok := rr.(*wire.MX); ok {
			out = append(out, &net.MX{Host: mx.Mx, Pref: mx.Preference})
		}
	}
	return out, nil
}

// LookupIPAddr implements the evaluator's DNSResolver. For an IPv6 sender the
// A records are given too: "exists" counts those alone (RFC 7208 5.7).
func (r spfResolver) LookupIPAddr(ctx context.Context, host string) ([]net.IPAddr, error) {
	a := r.x.look(ctx, host, wire.TypeA)
	addrs := a.addrs()
	if r.v6 {
		six := r.x.look(ctx, host, wire.TypeAAAA)
		if addrs = append(six.addrs(), addrs...); six.err != nil {
			a = six
		}
	}
	if len(addrs) == 0 {
		return nil, dnsError(a)
	}
	var out []net.IPAddr
	for _, addr := range addrs {
		out = append(out, net.IPAddr{IP: addr.AsSlice()})
	}
	return out, nil
}

// LookupAddr implements the evaluator's DNSResolver.
func (r spfResolver) LookupAddr(ctx context.Context, addr string) ([]string, error) {
	arpa, err := wire.ReverseAddr(addr)
	if err != nil {
		return nil, &net.DNSError{Err: err.Error(), Name: addr, IsNotFound: true}
	}
	a := r.x.look(ctx, arpa, wire.TypePTR)
	if !a.found() {
		return nil, dnsError(a)
	}
	var out []string
	for _, rr := range a.records {
		if ptr, ok := rr.(*wire.PTR); ok {
			out = append(out, ptr.Ptr)
		}
	}
	return out, nil
}
