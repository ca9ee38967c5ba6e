package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

const (
	whyPublic = "Every record that receivers check must name the address that they see, and behind a router with NAT that is not the one of the interface."
	whyRecord = "Receivers look up the name in EHLO and compare: 450 4.7.1 Client host rejected: cannot find your hostname; 550 5.7.1 Helo command rejected: Host not found; 550 5.7.25 at Gmail, where the reverse record leads to this name."
	whyZone   = "Receivers ask the zone's own servers, each another one, and keep the answer: as long as the servers differ, or caches hold an old record, some receivers see the wrong address."
)

func addressProbes() []probe {
	return []probe{
		{ids: []string{"address.public"}, direct: true, run: addressPublic},
		{ids: []string{"address.record", "address.authoritative"}, direct: true, run: addressRecords},
	}
}

// addressPublic shows the visible address of every face with the ways that it
// was found by.
func addressPublic(ctx context.Context, x *exam) []Check {
	faces := x.faces(ctx)
	if len(faces) == 0 {
		return []Check{{ID: "address.public", Subject: x.id.Hostname, Status: Unknown, Why: whyPublic,
			Asked: "which addresses mail leaves from", Seen: "no source address is in use"}}
	}
	var out []Check
	for _, f := range faces {
		out = append(out, x.judgePublic(f, faces))
	}
	return out
}

// subject names a face where each must have a check of its own: by its
// visible address, and where several share that, by the local one as well.
func subject(f face, all []face) string {
	shared := 0
	for _, o := range all {
		if o.label() == f.label() {
			shared++
		}
	}
	if shared > 1 && f.Local.IsValid() && f.Local != f.Visible {
		return f.label() + " from " + f.Local.String()
	}
	return f.label()
}

// missingLocal reports that a configured source is not an address of this
// machine.
func (x *exam) missingLocal(f face) bool {
	if !f.Local.IsValid() {
		return false
	}
	have, err := x.world.Addresses()
	return err == nil && !slices.ContainsFunc(have, func(a netip.Addr) bool { return a.Unmap().WithZone("") == f.Local })
}

func (x *exam) judgePublic(f face, all []face) Check {
	agree, text := saidBy(f)
	c := Check{ID: "address.public", Subject: subject(f, all), Status: Pass, Why: whyPublic,
		Asked: "which address receivers see: the configuration, the interface, mail servers, reflectors", Seen: text}
	outside, configured := standing(f)
	switch {
	case x.missingLocal(f) && !f.Local.IsLoopback():
		c.problem(Fail, You, "this machine has no interface with "+f.Local.String(), Fix{
			Text: "Give the address " + f.Local.String() + " to an interface, or correct the ip of its [[source]]."})
	case !f.Local.IsValid():
		c.problem(Unknown, You, "this machine has no way out to the internet", Fix{Text: "Connect the machine to the network, with a default route."})
	case !f.Visible.IsValid():
		c.problem(Unknown, You, text, Fix{
			Text: "Name a service that tells, as identity.reflectors, or the address itself, as identity.public_ip; docs/doctor.md has examples."})
	case outside > 0 && configured.IsValid() && configured != f.Visible:
		c.problem(Fail, You, text, Fix{Command: "mailout config set identity.public_ip " + f.Visible.String(),
			Text: fmt.Sprintf("The configuration says %s and the world sees %s: correct or remove identity.public_ip, and let the records follow.", configured, f.Visible)})
	case others(f) != "":
		c.problem(Warn, AddressProvider, text, Fix{
			Text: "Receivers see several addresses (" + f.Visible.String() + ", " + others(f) + "): ask for one fixed outgoing address, or publish every record for each of them."})
	case innerNetwork(f.Visible) != "":
		c.problem(Warn, You, text+"; that is "+innerNetwork(f.Visible), Fix{
			Text: "Receivers on the internet never see such an address: name a reflector or mail server out there, or set identity.public_ip."})
	case mta.NetworkOf(f.Local) == mta.SharedNetwork:
		c.problem(Warn, AddressProvider, text+"; the interface has "+f.Local.String()+", "+innerNetwork(f.Local), Fix{
			Text: "The visible address is shared with other customers, and its reverse record can never be yours: ask the provider for an address of your own, or deliver through a router."})
	case agree < 2 && !f.witnessed():
		c.problem(Warn, You, text+"; nobody else confirmed it", Fix{
			Text: "Name a service that tells, as identity.reflectors, so that a changed address is noticed; docs/doctor.md has examples."})
	case f.Local != f.Visible:
		c.Seen += "; behind NAT, the interface has " + f.Local.String()
	}
	return c
}

// problem makes a finding of a check.
func (c *Check) problem(s Status, who Who, seen string, fix Fix) {
	c.Status, c.Who, c.Seen, c.Fix = s, who, seen, &fix
}

// standing counts who outside says what is believed, and gives what the
// configuration says.
func standing(f face) (outside int, configured netip.Addr) {
	for _, w := range f.Ways {
		switch {
		case w.kind == wayConfigured:
			configured = w.Visible
		case w.Err == nil && w.Visible == f.Visible && (w.kind.outside() || w.kind == wayLearned):
			outside++
		}
	}
	return outside, configured
}

// others are the further addresses that witnesses of this moment saw.
func others(f face) string {
	var out []string
	for _, w := range f.Ways {
		if f.elsewhere(w) && !slices.Contains(out, w.Visible.String()) {
			out = append(out, w.Visible.String())
		}
	}
	return strings.Join(out, ", ")
}

// claim is one EHLO name in one family and the addresses that it must lead to.
type claim struct {
	host  string
	v6    bool
	addrs []netip.Addr // visible; none: nobody could tell
}

func (c claim) subject() string {
	if c.v6 {
		return c.host + " (IPv6)"
	}
	return c.host
}

// claims are the names of all faces, by family.
func (x *exam) claims(ctx context.Context) []claim {
	var out []claim
	for _, f := range x.faces(ctx) {
		i := slices.IndexFunc(out, func(c claim) bool { return strings.EqualFold(c.host, f.Hostname) && c.v6 == f.V6 })
		if i < 0 {
			i = len(out)
			out = append(out, claim{host: f.Hostname, v6: f.V6})
		}
		if f.Visible.IsValid() && !slices.Contains(out[i].addrs, f.Visible) {
			out[i].addrs = append(out[i].addrs, f.Visible)
		}
	}
	return out
}

// wanted4or6 are the addresses that a name must have, IPv4 first.
func (x *exam) wanted4or6(ctx context.Context, host string) []netip.Addr {
	var out []netip.Addr
	for _, c := range x.claims(ctx) {
		if strings.EqualFold(c.host, host) {
			out = append(out, c.addrs...)
		}
	}
	return out
}

// addressRecord is the record in zone-file form.
func addressRecord(host string, a netip.Addr) string {
	kind := "A"
	if a.Is6() {
		kind = "AAAA"
	}
	return strings.TrimSuffix(host, ".") + ". IN " + kind + " " + a.String()
}

// addressRecords compares the address records of every name with the visible
// addresses, at the resolver and at the zone's own servers.
func addressRecords(ctx context.Context, x *exam) []Check {
	claims := x.claims(ctx)
	if len(claims) == 0 {
		claims = []claim{{host: x.id.Hostname}}
	}
	out := make([]Check, 2*len(claims))
	var wg group
	for i, c := range claims {
		wg.Go(func() { out[2*i], out[2*i+1] = x.judgeClaim(ctx, c) })
	}
	wg.Wait()
	return out
}

// compared is a set of records against the addresses wanted.
type compared struct {
	missing, wrong []netip.Addr
}

func compare(have, want []netip.Addr) compared {
	var c compared
	for _, a := range want {
		if !slices.Contains(have, a) {
			c.missing = append(c.missing, a)
		}
	}
	for _, a := range have {
		if !slices.Contains(want, a) {
			c.wrong = append(c.wrong, a)
		}
	}
	return c
}

func (c compared) equal() bool { return len(c.missing) == 0 && len(c.wrong) == 0 }

func (x *exam) judgeClaim(ctx context.Context, c claim) (record, authoritative Check) {
	kind := addressKind(c.v6)
	record = Check{ID: "address.record", Subject: c.subject(), Why: whyRecord, Asked: kind + " records of " + c.host}
	authoritative = Check{ID: "address.authoritative", Subject: c.subject(), Why: whyZone,
		Asked: kind + " records of " + c.host + " at the zone's own servers"}
	if smtp.HostnameProblem(c.host) != "" {
		record.Status, record.Seen = Fail, "no record can lead from an impossible name to anywhere (name.form)"
		record.Who, record.Fix = You, &Fix{Text: "Set a host name that can exist; then its record can be judged."}
		authoritative.Status, authoritative.Seen = Skip, "there can be no records for this name (name.form)"
		return record, authoritative
	}
	resolved := x.look(ctx, c.host, addressType(c.v6))
	zone := x.askZone(ctx, c, resolved)
	x.judgeRecord(&record, c, resolved, zone)
	judgeZone(&authoritative, c, resolved, zone)
	return record, authoritative
}

func addressKind(v6 bool) string {
	if v6 {
		return "AAAA"
	}
	return "A"
}

// judgeRecord is about what the configured resolver says.
func (x *exam) judgeRecord(out *Check, c claim, resolved answer, zone zoneView) {
	out.Seen = resolved.said()
	if len(resolved.aliases) > 0 {
		out.Seen += " (by way of " + strings.Join(resolved.aliases, ", ") + ")"
	}
	got := compare(resolved.addrs(), c.addrs)
	x.note(c, got.missing, zone.right())
	switch {
	case resolved.err != nil:
		out.Status = Unknown
	case len(c.addrs) == 0:
		out.Status = Unknown
		out.Seen += "; nobody could tell the visible address (address.public)"
	case got.equal():
		out.Status = Pass
	case zone.right():
		out.problem(Warn, DNSHost, out.Seen+"; "+stale(resolved), Fix{
			Text: "The right record is published: wait until caches have forgotten the old one."})
	case zone.partly():
		out.problem(Warn, DNSHost, out.Seen+"; the right record is published at some of the zone's own servers", Fix{
			Text: "Wait until the others have it, and caches have forgotten the old one (address.authoritative)."})
	case len(got.missing) > 0:
		out.problem(Fail, DNSHost, out.Seen, missingFix(c, got))
	default:
		out.problem(Warn, DNSHost, out.Seen, Fix{
			Text: "Remove " + addressList(c.host, got.wrong) + ": no mail of this machine comes from there. Keep it if another machine has the same name."})
	}
}

// missingFix tells the record that is missing and what stands in its place.
func missingFix(c claim, got compared) Fix {
	f := Fix{Record: addressRecord(c.host, got.missing[0]), Text: "Publish this address record."}
	if len(got.missing) > 1 {
		f.Text = "Publish this address record, and " + addressList(c.host, got.missing[1:]) + "."
	}
	if len(got.wrong) > 0 {
		f.Text = strings.TrimSuffix(f.Text, ".") + ", in place of " + addressList(c.host, got.wrong) + "."
	}
	return f
}

func addressList(host string, addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, addressRecord(host, a))
	}
	return strings.Join(out, ", ")
}
