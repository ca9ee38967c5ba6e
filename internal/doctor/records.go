package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	wire "github.com/miekg/dns"

	"mailout/internal/dkim"
	"mailout/internal/dns"
	"mailout/internal/smtp"
	"mailout/internal/spf"
)

const (
	whyDoubled  = "Many web forms add the domain to what is entered, so that mailout.example.com becomes mailout.example.com.example.com and nobody finds it; and of two SPF or DMARC records receivers take neither (550 5.7.26 at Gmail)."
	whyConflict = "A name with a CNAME record may have no others (RFC 1034 3.6.2): resolvers then see one or the other. A wildcard TXT record answers in the place of records that are missing, which receivers read as broken ones."
	whyBounce   = "Receivers refuse mail whose return path cannot get an answer: 550 5.1.8 Sender address rejected: Domain not found, 450 4.1.8, 550 5.7.27 where its MX is null; and without it nobody learns of failed mail."
)

// wildcardLabel is a label that nobody publishes: what answers for it is a
// wildcard.
const wildcardLabel = "mailout-wildcard-check"

func recordProbes() []probe {
	return []probe{
		{ids: []string{"records.doubled"}, run: recordsDoubled},
		{ids: []string{"records.conflict"}, run: recordsConflict},
		{ids: []string{"bounce.domain"}, run: bounceDomains},
	}
}

// named is a name that should have records of a type.
type named struct {
	name  string
	qtype uint16
}

// recordNames are the names that records of ours belong at, by the name or domain
// that they are for.
func (x *exam) recordNames() (subjects []string, names map[string][]named) {
	names = map[string][]named{}
	add := func(subject, name string, qtype uint16) {
		if !slices.Contains(subjects, subject) {
			subjects = append(subjects, subject)
		}
		if n := (named{name, qtype}); !slices.Contains(names[subject], n) {
			names[subject] = append(names[subject], n)
		}
	}
	if !x.routed() {
		for _, host := range x.hostnames() {
			if smtp.HostnameProblem(host) == "" {
				add(strings.ToLower(host), strings.ToLower(host), wire.TypeA)
				add(strings.ToLower(host), strings.ToLower(host), wire.TypeTXT)
			}
		}
	}
	for _, d := range x.domains() {
		add(d, d, wire.TypeTXT)
		add(d, "_dmarc."+d, wire.TypeTXT)
	}
	for _, k := range x.id.DKIM {
		d := strings.ToLower(strings.TrimSuffix(k.Domain, "."))
		add(d, dkim.Name(k.Selector, d), wire.TypeTXT)
	}
	return subjects, names
}

// findings collects what several look-ups found.
type findings struct {
	fail, warn []string
	fixes      []Fix
	err        error
}

func (f *findings) add(s Status, what string, fix Fix) {
	if s == Fail {
		f.fail = append(f.fail, what)
		f.fixes = append([]Fix{fix}, f.fixes...) // the worst first
		return
	}
	f.warn, f.fixes = append(f.warn, what), append(f.fixes, fix)
}

// conclude makes one check of them.
func (f *findings) conclude(c *Check, fine string) {
	switch all := append(f.fail, f.warn...); {
	case len(all) > 0:
		s := Warn
		if len(f.fail) > 0 {
			s = Fail
		}
		fix := f.fixes[0]
		for _, more := range f.fixes[1:] {
			fix.Text += " " + more.Text
		}
		c.problem(s, DNSHost, strings.Join(all, "; "), fix)
	case f.err != nil:
		c.Status, c.Seen = Unknown, f.err.Error()
	default:
		c.Status, c.Seen = Pass, fine
	}
}

func recordsDoubled(ctx context.Context, x *exam) []Check {
	subjects, names := x.recordNames()
	return sideBySide(subjects, func(subject string) []Check {
		c := Check{ID: "records.doubled", Subject: subject, Why: whyDoubled,
			Asked: "SPF and DMARC records, whether there are two, and the names of our records with the domain behind them once more"}
		var f findings
		x.findTwice(ctx, &f, subject)
		for _, n := range names[subject] {
			x.findDoubled(ctx, &f, n)
		}
		f.conclude(&c, "each record is there once, and no name is doubled")
		return []Check{c}
	})
}

// findTwice looks for two SPF or two DMARC records.
func (x *exam) findTwice(ctx context.Context, f *findings, domain string) {
	a := x.look(ctx, domain, wire.TypeTXT)
	var texts []string
	var parsed []*spf.Record
	for _, text := range a.texts() {
		if !spf.Is(text) {
			continue
		}
		texts = append(texts, text)
		if r, err := spf.Parse(text); err == nil {
			parsed = append(parsed, r)
		}
	}
	if len(texts) > 1 {
		fix := Fix{Text: fmt.Sprintf("Make one SPF record of those of %s, and remove the others.", domain)}
		if len(parsed) == len(texts) {
			fix.Record = textRecord(domain, spf.Join(parsed...).Close().String())
			fix.Text = fmt.Sprintf("Publish this record in place of the SPF records of %s.", domain)
		}
		f.add(Fail, fmt.Sprintf("%s has %d SPF records", domain, len(texts)), fix)
	}
	policies, err := x.dmarcAt(ctx, domain)
	if len(policies) > 1 {
		f.add(Fail, fmt.Sprintf("_dmarc.%s has %d DMARC records", domain, len(policies)), Fix{
			Record: textRecord("_dmarc."+domain, strictest(policies)), Text: "Keep this DMARC record alone."})
	}
	if f.err = a.err; f.err == nil {
		f.err = err
	}
}

// findDoubled looks for a name with its zone behind it once more.
func (x *exam) findDoubled(ctx context.Context, f *findings, n named) {
	zone := strings.TrimSuffix(x.authorities(ctx, n.name).zone, ".")
	if zone == "" || len(n.name)+1+len(zone) > 253 {
		return // no zone, or the root's: there is nothing to double
	}
	doubled := n.name + "." + zone
	a := x.look(ctx, doubled, n.qtype)
	if a.err != nil {
		f.err = a.err
		return
	}
	if !a.found() || x.wildcard(ctx, doubled, n.qtype) {
		return
	}
	short := strings.TrimSuffix(strings.TrimSuffix(n.name, zone), ".")
	if short == "" {
		short = "@"
	}
	s := Warn
	if x.look(ctx, n.name, n.qtype).missing() {
		s = Fail
	}
	f.add(s, fmt.Sprintf("there is a %s record at %s", wire.TypeToString[n.qtype], doubled), Fix{
		Text: fmt.Sprintf("Remove the record at %s; where a web form adds the domain by itself, enter the name as %q; in a zone file, end it with a dot.", doubled, short)})
}

// wildcard reports that names beside this one, which nobody published, have
// the same type of record.
func (x *exam) wildcard(ctx context.Context, name string, qtype uint16) bool {
	above, ok := dns.Parent(wire.CanonicalName(name))
	return ok && x.look(ctx, wildcardLabel+"."+above, qtype).found()
}

func recordsConflict(ctx context.Context, x *exam) []Check {
	subjects, names := x.recordNames()
	return sideBySide(subjects, func(subject string) []Check {
		c := Check{ID: "records.conflict", Subject: subject, Why: whyConflict,
			Asked: "CNAME records beside others, and wildcard TXT records"}
		var f findings
		looked := map[string]bool{}
		for _, n := range names[subject] {
			if !looked[n.name] {
				looked[n.name] = true
				x.findBeside(ctx, &f, n.name)
			}
		}
		x.findWildcard(ctx, &f, subject)
		f.conclude(&c, "no record is in another's way")
		return []Check{c}
	})
}

// findBeside looks for a CNAME record and others at the same name.
func (x *exam) findBeside(ctx context.Context, f *findings, name string) {
	alias := x.look(ctx, name, wire.TypeCNAME)
	if alias.err != nil {
		f.err = alias.err
	}
	if !alias.found() {
		return
	}
	var beside []string
	for _, qtype := range []uint16{wire.TypeSOA, wire.TypeNS, wire.TypeMX, wire.TypeTXT, wire.TypeA, wire.TypeAAAA} {
		if x.has(ctx, alias, name, qtype) {
			beside = append(beside, wire.TypeToString[qtype])
		}
	}
	if len(beside) > 0 {
		f.add(Fail, fmt.Sprintf("%s is an alias (CNAME) and has %s records too", name, strings.Join(beside, ", ")), Fix{
			Text: fmt.Sprintf("Remove the CNAME record of %s, and publish what it stood for as records of the name itself.", name)})
	}
}

// has asks the server that knows of an alias for a type that the name itself
// has besides: an answer that look would follow to the alias's target.
func (x *exam) has(ctx context.Context, alias answer, name string, qtype uint16) bool {
	r, err := x.world.Ask(ctx, dns.Probe{Server: alias.server, Name: name, Type: qtype})
	if err != nil || r.Msg == nil {
		return false
	}
	return slices.ContainsFunc(r.Msg.Answer, func(rr wire.RR) bool {
		return rr.Header().Rrtype == qtype && wire.CanonicalName(rr.Header().Name) == wire.CanonicalName(name)
	})
}

// findWildcard looks for TXT records that answer for any name under a domain.
func (x *exam) findWildcard(ctx context.Context, f *findings, domain string) {
	for _, above := range []string{domain, "_domainkey." + domain} {
		a := x.look(ctx, wildcardLabel+"."+above, wire.TypeTXT)
		switch {
		case a.err != nil:
			f.err = a.err
		case a.found() && len(a.aliases) == 0:
			f.add(Warn, fmt.Sprintf("*.%s has TXT records, which answer for every name that has none: %s", above, shortened(strings.Join(a.texts(), ", "))), Fix{
				Text: fmt.Sprintf("Remove the wildcard TXT record *.%s, and publish it at the names that need it.", above)})
			return
		}
	}
}

// maxBounceHosts bounds how many mail servers of a domain are tried.
const maxBounceHosts = 2

func bounceDomains(ctx context.Context, x *exam) []Check {
	domains := x.returnPaths()
	if d := postmasterDomain(x.id.Postmaster); d != "" && !slices.Contains(domains, d) {
		domains = append(domains, d)
	}
	return sideBySide(domains, func(domain string) []Check {
		c := Check{ID: "bounce.domain", Subject: domain, Why: whyBounce,
			Asked: "MX and address records of " + domain + ", and whether a mail server there greets (no mail is sent)"}
		x.judgeBounce(ctx, &c, domain)
		return []Check{c}
	})
}

// takers are the hosts that take a domain's mail.
type takers struct {
	hosts []string
	null  bool // a null MX: none does (RFC 7505)
	plain bool // there is no MX, and the domain's own address counts
	err   error
}

func (x *exam) takers(ctx context.Context, domain string) takers {
	mx := x.look(ctx, domain, wire.TypeMX)
	if mx.err != nil {
		return takers{err: mx.err}
	}
	if !mx.found() {
		a, aaaa := x.look(ctx, domain, wire.TypeA), x.look(ctx, domain, wire.TypeAAAA)
		switch {
		case a.found() || aaaa.found():
			return takers{hosts: []string{domain}, plain: true}
		case a.err != nil:
			return takers{err: a.err}
		}
		return takers{err: aaaa.err}
	}
	records := slices.Clone(mx.records)
	slices.SortStableFunc(records, func(a, b wire.RR) int { return int(a.(*wire.MX).Preference) - int(b.(*wire.MX).Preference) })
	var t takers
	for _, rr := range records {
		if host := strings.TrimSuffix(rr.(*wire.MX).Mx, "."); host != "" {
			t.hosts = append(t.hosts, host)
		}
	}
	t.null = len(t.hosts) == 0
	return t
}

func (x *exam) judgeBounce(ctx context.Context, c *Check, domain string) {
	t := x.takers(ctx, domain)
	fix := Fix{Record: domain + ". IN MX 10 " + x.bounceHost(ctx, domain) + ".",
		Text: "Publish an MX record that leads to a server which takes the domain's mail (this one, if it is that), or use a return path in a domain that has one."}
	if domain == x.id.Returns {
		fix.Text = "Publish an MX record that leads to this machine: [returns] reads what comes back."
	}
	switch {
	case t.err != nil:
		c.Status, c.Seen = Unknown, t.err.Error()
	case t.null:
		c.problem(Fail, DNSHost, "its MX is null (RFC 7505): it says that it takes no mail", fix)
	case len(t.hosts) == 0:
		c.problem(Fail, DNSHost, "neither MX nor address records", fix)
	default:
		x.judgeTakers(ctx, c, domain, t)
	}
}

// judgeTakers tries whether one of the hosts greets.
func (x *exam) judgeTakers(ctx context.Context, c *Check, domain string, t takers) {
	how := "MX " + strings.Join(t.hosts, ", ")
	if t.plain {
		how = "no MX; its own address counts"
	}
	var heard []string
	refused, nowhere := 0, 0
	hosts := t.hosts[:min(len(t.hosts), maxBounceHosts)]
	for _, host := range hosts {
		g := x.greetAny(ctx, host)
		switch {
		case g.banner.Code/100 == 2:
			c.Status, c.Seen = Pass, how+"; "+host+" greets"
			return
		case g.lookup:
			if x.noAddress(ctx, host) {
				nowhere++
			}
			heard = append(heard, host+": no address")
			continue
		case g.err != nil:
			if obstacleOf(g.err) == obstacleRefused {
				refused++
			}
			heard = append(heard, host+": "+obstacleOf(g.err).words())
		default:
			heard = append(heard, host+": "+g.words())
		}
	}
	c.Seen = how + "; " + strings.Join(heard, "; ")
	switch {
	case nowhere == len(hosts):
		c.problem(Fail, DNSHost, c.Seen, Fix{Text: fmt.Sprintf("Publish address records for the hosts in the MX records of %s, or name others there.", domain)})
	case refused+nowhere == len(hosts):
		c.problem(Warn, You, c.Seen, Fix{Text: "Let a mail server listen there, or lead the MX record to one that takes the domain's mail: bounces cannot come back as it is."})
	default:
		c.Status = Unknown
		c.Seen += " (if port 25 is closed from here, that says nothing about the server)"
	}
}

// noAddress reports a host that certainly has no address.
func (x *exam) noAddress(ctx context.Context, host string) bool {
	return x.look(ctx, host, wire.TypeA).missing() && x.look(ctx, host, wire.TypeAAAA).missing()
}

// greetAny connects over IPv4, and over IPv6 to a host that has no IPv4
// address.
func (x *exam) greetAny(ctx context.Context, host string) greeting {
	c := caller{hello: x.id.Hostname}
	if x.look(ctx, host, wire.TypeA).missing() && x.look(ctx, host, wire.TypeAAAA).found() {
		c.v6 = true
	}
	return x.greet(ctx, c, host)
}

// bounceHost is a host that could take a domain's bounces: what takes the
// postmaster's mail, else this one; those of [returns] come here.
func (x *exam) bounceHost(ctx context.Context, domain string) string {
	if domain == x.id.Returns {
		return x.id.Hostname
	}
	if d := postmasterDomain(x.id.Postmaster); d != "" && d != domain {
		if t := x.takers(ctx, d); len(t.hosts) > 0 && !t.plain {
			return t.hosts[0]
		}
	}
	return x.id.Hostname
}
