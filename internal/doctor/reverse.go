package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	wire "github.com/miekg/dns"
)

const (
	whyPTR       = "Gmail answers 550 5.7.25 (or 421 4.7.23) to addresses without a reverse record that leads back; many others 450 4.7.1 or 550 5.7.1 Client host rejected: cannot find your reverse hostname."
	whyConfirmed = "The reverse record must name a host that has this address: 550 5.7.25 at Gmail, 450 4.7.1 Client host rejected: cannot find your hostname. A name other than that in EHLO costs trust."
	whyGeneric   = "Names that look made by a machine (dyn, dhcp, the address in the name) are taken for home connections: 550 5.7.1 … generic reverse DNS, 554 5.7.1 blocked using a list of dynamic addresses."
)

func reverseProbes() []probe {
	return []probe{
		{ids: []string{"ptr.exists", "ptr.confirmed", "ptr.generic"}, direct: true, run: reverseRecords},
		{ids: []string{"ipv6"}, direct: true, run: ipv6Check},
	}
}

// visitor is one address as receivers see it, with the names used from it.
type visitor struct {
	addr  netip.Addr
	hosts []string
}

// visitors are the visible addresses, each once, and the faces whose is not
// known.
func (x *exam) visitors(ctx context.Context) (known []visitor, unknown []face) {
	for _, f := range x.faces(ctx) {
		if !f.Visible.IsValid() {
			unknown = append(unknown, f)
			continue
		}
		i := slices.IndexFunc(known, func(v visitor) bool { return v.addr == f.Visible })
		if i < 0 {
			known = append(known, visitor{f.Visible, []string{f.Hostname}})
		} else if !slices.ContainsFunc(known[i].hosts, func(h string) bool { return strings.EqualFold(h, f.Hostname) }) {
			known[i].hosts = append(known[i].hosts, f.Hostname)
		}
	}
	return known, unknown
}

func reverseRecords(ctx context.Context, x *exam) []Check {
	known, unknown := x.visitors(ctx)
	results := make([][]Check, len(known))
	var wg group
	for i, v := range known {
		wg.Go(func() { results[i] = x.judgeReverse(ctx, v) })
	}
	wg.Wait()
	out := slices.Concat(results...)
	seen := map[string]bool{}
	if len(known)+len(unknown) == 0 {
		unknown = []face{{Hostname: x.id.Hostname}}
	}
	for _, f := range unknown {
		if seen[f.label()] {
			continue
		}
		seen[f.label()] = true
		for _, id := range []string{"ptr.exists", "ptr.confirmed", "ptr.generic"} {
			out = append(out, Check{ID: id, Subject: f.label(), Status: Unknown, Asked: "the reverse record of the visible address",
				Seen: "nobody could tell the visible address (address.public)", Why: whyPTR})
		}
	}
	return out
}

// reverseView is what the DNS says of a visitor.
type reverseView struct {
	name   string // in-addr.arpa or ip6.arpa, without the final dot
	answer answer
	names  []string // what the PTR records say, without final dots
	// confirmed are those of names that have the address; unsure those whose
	// addresses nobody could tell.
	confirmed, unsure []string
}

// maxReverse is how many names of an address are looked up: receivers look at
// no more (RFC 7208 4.6.4).
const maxReverse = 10

// reverse looks up the PTR records of an address and the addresses of the
// names in them. A reverse zone may send to another by CNAME (RFC 2317).
func (x *exam) reverse(ctx context.Context, addr netip.Addr) reverseView {
	arpa, err := wire.ReverseAddr(addr.Unmap().WithZone("").String())
	if err != nil {
		return reverseView{answer: answer{err: err}}
	}
	v := reverseView{name: strings.TrimSuffix(arpa, "."), answer: x.look(ctx, arpa, wire.TypePTR)}
	for i, rr := range v.answer.records {
		name := strings.TrimSuffix(rr.(*wire.PTR).Ptr, ".")
		v.names = append(v.names, name)
		if i >= maxReverse {
			continue
		}
		forward := x.look(ctx, name, addressType(addr.Is6()))
		switch {
		case forward.err != nil:
			v.unsure = append(v.unsure, name)
		case slices.Contains(forward.addrs(), addr):
			v.confirmed = append(v.confirmed, name)
		}
	}
	return v
}

// owner is the name at which the PTR record stands: the reverse name, or where
// that is delegated to.
func (v reverseView) owner() string {
	if n := len(v.answer.aliases); n > 0 {
		return v.answer.aliases[n-1]
	}
	return v.name
}

// judgeReverse makes the three checks of one address.
func (x *exam) judgeReverse(ctx context.Context, w visitor) []Check {
	v := x.reverse(ctx, w.addr)
	exists := Check{ID: "ptr.exists", Subject: w.addr.String(), Status: Pass, Asked: "PTR records of " + v.name, Seen: v.answer.said(), Why: whyPTR}
	confirmed := Check{ID: "ptr.confirmed", Subject: w.addr.String(), Status: Pass, Why: whyConfirmed,
		Asked: "whether the reverse record names the host that introduces itself, and that leads back"}
	generic := Check{ID: "ptr.generic", Subject: w.addr.String(), Status: Pass, Asked: "whether the reverse record looks made by a machine", Why: whyGeneric}
	if n := len(v.answer.aliases); n > 0 {
		exists.Seen += " (delegated to " + v.owner() + ", RFC 2317)"
	}
	switch {
	case v.answer.err != nil:
		exists.Status, confirmed.Status, generic.Status = Unknown, Unknown, Unknown
		confirmed.Seen, generic.Seen = exists.Seen, exists.Seen
	case len(v.names) == 0:
		confirmed.Status, generic.Status = Skip, Skip
		confirmed.Seen, generic.Seen = "there is no reverse record (ptr.exists)", "there is no reverse record (ptr.exists)"
		x.noReverse(ctx, &exists, w, v)
	default:
		x.judgeConfirmed(ctx, &confirmed, w, v)
		x.judgeGeneric(ctx, &generic, w, v)
	}
	return []Check{exists, confirmed, generic}
}

func (x *exam) noReverse(ctx context.Context, c *Check, w visitor, v reverseView) {
	if kind := innerNetwork(w.addr); kind != "" {
		c.Status, c.Seen = Skip, c.Seen+"; "+kind+" has no public reverse record"
		return
	}
	who, fix := x.askFor(ctx, w, v)
	c.problem(Fail, who, c.Seen, fix)
}

// judgeConfirmed: every PTR record leads back, there is one, and it is the
// name in EHLO (RFC 8601 2.7.3 calls the first iprev).
func (x *exam) judgeConfirmed(ctx context.Context, c *Check, w visitor, v reverseView) {
	who, fix := x.askFor(ctx, w, v)
	host := w.hosts[0]
	ours := func(name string) bool {
		return slices.ContainsFunc(w.hosts, func(h string) bool { return strings.EqualFold(h, name) })
	}
	list := strings.Join(v.names, ", ")
	switch {
	case len(v.confirmed) == 0 && len(v.unsure) > 0:
		c.Status, c.Seen = Unknown, "the addresses of "+strings.Join(v.unsure, ", ")+" could not be found"
	case len(v.confirmed) == 0 && slices.ContainsFunc(v.names, ours):
		x.judgeForward(ctx, c, w, v.names[slices.IndexFunc(v.names, ours)])
	case len(v.confirmed) == 0:
		c.problem(Fail, who, list+" does not lead back to "+w.addr.String(), fix)
	case !slices.ContainsFunc(v.confirmed, ours):
		fix.Command = "mailout config set hostname " + v.confirmed[0]
		fix.Text = fmt.Sprintf("Introduce this machine as %s, or have the reverse record changed to %s: %s", v.confirmed[0], host, fix.Text)
		c.problem(Warn, who, list+" leads back, but EHLO says "+strings.Join(w.hosts, ", "), fix)
	case len(v.names) > 1:
		fix.Text = "Receivers take one of them, nobody knows which. " + fix.Text
		c.problem(Warn, who, fmt.Sprintf("%d reverse records: %s", len(v.names), list), fix)
	case len(w.hosts) > 1:
		c.problem(Warn, You, "one address, seen as "+strings.Join(w.hosts, " and ")+", and one reverse record: "+list, Fix{
			Text: "Sources that share one visible address should share one hostname, since one reverse record can name one only."})
	default:
		c.Seen = list + ", which leads back to " + w.addr.String()
	}
}

// judgeForward: the reverse record is right, and the name does not lead back,
// or caches do not know yet that it does.
func (x *exam) judgeForward(ctx context.Context, c *Check, w visitor, name string) {
	resolved := x.look(ctx, name, addressType(w.addr.Is6()))
	zone := x.askZone(ctx, claim{host: name, v6: w.addr.Is6(), addrs: []netip.Addr{w.addr}}, resolved)
	if zone.right() {
		c.problem(Warn, DNSHost, "the address record of "+name+" is "+stale(resolved), Fix{
			Text: "The right record is published: wait until caches have forgotten the old one."})
		return
	}
	c.problem(Fail, DNSHost, name+" does not lead back to "+w.addr.String(), Fix{
		Record: addressRecord(name, w.addr), Text: "Publish this address record; the reverse record is right already."})
}

func (x *exam) judgeGeneric(ctx context.Context, c *Check, w visitor, v reverseView) {
	c.Seen = strings.Join(v.names, ", ")
	for _, name := range v.names {
		if sign := genericSign(name, w.addr); sign != "" {
			who, fix := x.askFor(ctx, w, v)
			c.problem(Warn, who, name+" "+sign, fix)
			return
		}
	}
}

// askFor is the request for the right reverse record. Only the owner of the
// address can make it, unless its zone is delegated (RFC 2317); the SOA record
// of the reverse zone tells who that is.
func (x *exam) askFor(ctx context.Context, w visitor, v reverseView) (Who, Fix) {
	host := w.hosts[0]
	fix := Fix{Record: v.owner() + ". IN PTR " + strings.TrimSuffix(host, ".") + "."}
	if len(v.answer.aliases) > 0 {
		fix.Text = fmt.Sprintf("The owner of the address has delegated its reverse record to %s: publish it there, in place of any other.", v.owner())
		return DNSHost, fix
	}
	fix.Text = fmt.Sprintf("Only the owner of the address, who gave it to you, can make this record%s. Write: “Please set the reverse DNS (PTR) record of %s to %s, and remove any other. The address record of that name leads to %s.”",
		x.reverseContact(ctx, v.name), w.addr, host, w.addr)
	return AddressProvider, fix
}

// reverseContact names who runs the reverse zone, as far as DNS tells.
func (x *exam) reverseContact(ctx context.Context, name string) string {
	cut := x.authorities(ctx, name)
	if cut.zone == "" {
		return ""
	}
	zone := strings.TrimSuffix(cut.zone, ".")
	soa := x.look(ctx, zone, wire.TypeSOA)
	if !soa.found() || registryZone(zone) {
		return ""
	}
	r := soa.records[0].(*wire.SOA)
	return fmt.Sprintf(" (the zone %s is run at %s, %s)", zone, strings.TrimSuffix(r.Ns, "."), mailboxOf(r.Mbox))
}

// registryZone reports a reverse zone as large as a registry's: shorter than
// 16 bits of IPv4 or 24 of IPv6. Its contact knows nothing of one address.
func registryZone(zone string) bool {
	if strings.HasSuffix(zone, "ip6.arpa") {
		return strings.Count(zone, ".") < 7
	}
	return strings.Count(zone, ".") < 3
}

// mailboxOf reads the RNAME of an SOA record: the first dot that is not
// escaped is the at sign (RFC 1035 8).
func mailboxOf(rname string) string {
	name := strings.TrimSuffix(rname, ".")
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '.':
			return strings.ReplaceAll(name[:i], `\`, "") + "@" + name[i+1:]
		}
	}
	return name
}
