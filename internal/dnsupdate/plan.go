package dnsupdate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

// Change is what is wanted of one name and type.
type Change struct {
	Name string
	Type string // "A", "TXT", …
	// Add are the values that are to be there, and Remove those that are to go,
	// in zone-file form. A value of a TXT record without quotes is one text,
	// however long.
	Add, Remove []string
	Only        bool // every value but Add goes
}

// Edit is a change as it would be made: the whole set of records before and
// after.
type Edit struct {
	Zone, Name string // lower case, with the trailing dot
	Type       string
	Old, New   []string      // values in zone-file form, sorted
	TTL        time.Duration // of New
	OldTTL     time.Duration // for how long caches keep Old, or that there is nothing

	qtype    uint16
	old, new []wire.RR
}

// Removed are the values that go.
func (e *Edit) Removed() []string { return without(e.Old, e.New) }

// Added are the values that come.
func (e *Edit) Added() []string { return without(e.New, e.Old) }

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(v string) bool { return slices.Contains(some, v) })
}

// ByHand is a change that cannot be made here.
type ByHand struct {
	Change Change
	Why    string // "is not in the zone …"
}

// Plan is what would be done.
type Plan struct {
	Edits  []Edit // those that change something
	ByHand []ByHand
}

// Plan asks the server what stands in its zones and works out what the changes
// would alter. A change that is made already is in neither list. The error
// says that the server could not be asked.
func (u *Updater) Plan(ctx context.Context, changes []Change) (Plan, error) {
	if len(changes) > MaxChanges {
		return Plan{}, fmt.Errorf("%d changes of DNS records are more than one update takes (%d)", len(changes), MaxChanges)
	}
	server, err := u.server(ctx)
	if err != nil {
		return Plan{}, err
	}
	var p Plan
	for _, c := range merged(changes) {
		e, why, err := u.edit(ctx, server, c)
		switch {
		case err != nil:
			return Plan{}, err
		case why != "":
			p.ByHand = append(p.ByHand, ByHand{c, why})
		case !slices.Equal(e.Old, e.New):
			p.Edits = append(p.Edits, e)
		}
	}
	return p, nil
}

// merged makes the changes of one name and type one, because a set goes in
// whole.
func merged(changes []Change) []Change {
	var out []Change
	for _, c := range changes {
		i := slices.IndexFunc(out, func(o Change) bool {
			return wire.CanonicalName(o.Name) == wire.CanonicalName(c.Name) && o.Type == c.Type
		})
		if i < 0 {
			out = append(out, c)
			continue
		}
		o := &out[i]
		o.Add, o.Remove, o.Only = slices.Concat(o.Add, c.Add), slices.Concat(o.Remove, c.Remove), o.Only || c.Only
	}
	return out
}

// edit works out one change; why says that it is not one for this server.
func (u *Updater) edit(ctx context.Context, server netip.AddrPort, c Change) (e Edit, why string, err error) {
	e = Edit{Name: wire.CanonicalName(c.Name), Type: c.Type, TTL: u.o.TTL, qtype: wire.StringToType[c.Type]}
	if u.zone != "" && !wire.IsSubDomain(u.zone, e.Name) {
		return e, "it is not in the zone " + plain(u.zone), nil
	}
	add, err := records(e, c.Add)
	if err != nil {
		return e, "", err
	}
	remove, err := records(e, c.Remove)
	if err != nil {
		return e, "", err
	}
	if why, err = u.standing(ctx, server, &e); err != nil || why != "" {
		return e, why, err
	}
	e.new = after(e.old, add, remove, c.Only)
	for i, rr := range e.new {
		e.new[i] = wire.Copy(rr)
		e.new[i].Header().Name, e.new[i].Header().Ttl = e.Name, uint32(u.o.TTL/time.Second)
	}
	e.Old, e.New = values(e.old), values(e.new)
	return e, "", nil
}

// records reads values.
func records(e Edit, values []string) ([]wire.RR, error) {
	_, isName := wire.IsDomainName(e.Name)
	if e.qtype == 0 || !isName || strings.ContainsAny(e.Name, " \t$;\"()") {
		return nil, fmt.Errorf("%q %q is no record that can be published", e.Name, e.Type)
	}
	var out []wire.RR
	for _, v := range values {
		rr, err := read(e, v)
		if err != nil {
			return nil, fmt.Errorf("%s %s %s: that is no value of such a record (%w)", plain(e.Name), e.Type, v, err)
		}
		out = append(out, rr)
	}
	return out, nil
}

// read makes a record of a value, as it would come back from a server.
func read(e Edit, value string) (wire.RR, error) {
	var rr wire.RR = &wire.TXT{Hdr: e.header(), Txt: split(value)}
	if e.qtype != wire.TypeTXT || strings.HasPrefix(value, `"`) {
		if strings.ContainsAny(value, "\r\n") {
			return nil, errors.New("it has several lines")
		}
		var err error
		if rr, err = wire.NewRR(e.Name + " 0 IN " + e.Type + " " + value); err != nil {
			return nil, err
		}
		if rr == nil || rr.Header().Rrtype != e.qtype {
			return nil, errors.New("it is empty")
		}
	}
	raw := make([]byte, wire.MaxMsgSize)
	n, err := wire.PackRR(rr, raw, 0, nil, false)
	if err != nil {
		return nil, err
	}
	rr, _, err = wire.UnpackRR(raw[:n], 0)
	return rr, err
}

func (e *Edit) header() wire.RR_Header {
	return wire.RR_Header{Name: e.Name, Rrtype: e.qtype, Class: wire.ClassINET}
}

// split makes the strings of a TXT record of one text: 255 octets each (RFC
// 1035 3.3.14), with the escapes that the library's form of them needs.
func split(text string) []string {
	const most = 255
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`)
	var out []string
	for len(text) > most {
		out, text = append(out, escape.Replace(text[:most])), text[most:]
	}
	return append(out, escape.Replace(text))
}

// after is the set of records once the change is made. Of two that mean the
// same, the one that stands already is kept as it is.
func after(old, add, remove []wire.RR, only bool) []wire.RR {
	var out []wire.RR
	for _, rr := range old {
		wanted := holds(add, rr)
		if wanted || !only && !holds(remove, rr) {
			out = append(out, rr)
		}
	}
	for _, rr := range add {
		if !holds(out, rr) {
			out = append(out, rr)
		}
	}
	return out
}

func holds(all []wire.RR, rr wire.RR) bool {
	return slices.ContainsFunc(all, func(o wire.RR) bool { return meaning(o) == meaning(rr) })
}

// meaning is what a record says: a text the same however it is split.
func meaning(rr wire.RR) string {
	if t, ok := rr.(*wire.TXT); ok {
		return strings.Join(t.Txt, "")
	}
	return strings.ToLower(value(rr))
}

// value is a record without its name, time to live, class and type.
func value(rr wire.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }

func values(rrs []wire.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, value(rr))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func plain(name string) string { return strings.TrimSuffix(name, ".") }

// standing fills in the zone and what stands there now.
func (u *Updater) standing(ctx context.Context, server netip.AddrPort, e *Edit) (why string, err error) {
	m, err := u.ask(ctx, server, e.Name, e.qtype, true)
	if err != nil {
		return "", err
	}
	switch {
	case m.Rcode == wire.RcodeRefused || m.Rcode == wire.RcodeNotAuth:
		return u.unserved(server, m.Rcode)
	case m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError:
		return "", fmt.Errorf("the DNS server %s answered %s when asked for the %s records of %s", server, wire.RcodeToString[m.Rcode], e.Type, plain(e.Name))
	case !m.Authoritative:
		return "the DNS server " + server.String() + " is not the one for it: that name is in another zone, or the server is no primary", nil
	}
	for _, rr := range m.Answer {
		if a, ok := rr.(*wire.CNAME); ok && e.qtype != wire.TypeCNAME && wire.CanonicalName(a.Hdr.Name) == e.Name {
			return "it is an alias (CNAME " + a.Target + "), beside which no other record may stand: change the records of that name, or remove the alias first", nil
		}
		if h := rr.Header(); h.Rrtype == e.qtype && wire.CanonicalName(h.Name) == e.Name {
			e.old = append(e.old, rr)
			e.OldTTL = max(e.OldTTL, time.Duration(h.Ttl)*time.Second)
		}
	}
	if err := u.findZone(ctx, server, e, m); err != nil {
		return "", err
	}
	if e.Zone == "" {
		return "no zone was found for it at the DNS server " + server.String(), nil
	}
	return "", u.besideWildcard(ctx, server, e)
}

// unserved is about a server that does not want to be asked: with a zone
// configured that is an error, without one the name is another server's.
func (u *Updater) unserved(server netip.AddrPort, rcode int) (why string, err error) {
	said := fmt.Sprintf("the DNS server %s answered %s", server, wire.RcodeToString[rcode])
	if u.zone == "" {
		return said + ": it is not the server of that name's zone", nil
	}
	return "", fmt.Errorf("%s when asked for records of the zone %s: see that it is that zone's primary, and that it answers questions from this machine", said, plain(u.zone))
}

// findZone takes the zone from the configuration or from the SOA, and from the
// SOA for how long caches keep that there is nothing (RFC 2308 5).
func (u *Updater) findZone(ctx context.Context, server netip.AddrPort, e *Edit, m *wire.Msg) error {
	e.Zone = u.zone
	if e.Zone != "" && len(e.old) > 0 {
		return nil
	}
	soa := soaOf(m)
	if soa == nil {
		m, err := u.ask(ctx, server, e.Name, wire.TypeSOA, true)
		if err != nil {
			return err
		}
		if soa = soaOf(m); soa == nil {
			return nil
		}
	}
	if e.Zone == "" {
		e.Zone = wire.CanonicalName(soa.Hdr.Name)
	}
	if len(e.old) == 0 {
		e.OldTTL = time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second
	}
	return nil
}

func soaOf(m *wire.Msg) *wire.SOA {
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		if soa, ok := rr.(*wire.SOA); ok {
			return soa
		}
	}
	return nil
}

// besideWildcard empties Old when the answer was made of a wildcard record
// (RFC 4592): in an update such a name holds nothing. Where a wildcard has the
// same values, the server is asked by an update that only has a prerequisite.
func (u *Updater) besideWildcard(ctx context.Context, server netip.AddrPort, e *Edit) error {
	if len(e.old) == 0 || strings.HasPrefix(e.Name, "*.") {
		return nil
	}
	for name := e.Name; name != e.Zone; {
		i, end := wire.NextLabel(name, 0)
		if end {
			return nil
		}
		name = name[i:]
		m, err := u.ask(ctx, server, "*."+name, e.qtype, true)
		if err != nil {
			return err
		}
		if len(m.Answer) == 0 || !slices.Equal(values(m.Answer), values(e.old)) {
			continue
		}
		err = u.send(ctx, server, e.Zone, u.message(e.Zone, []Edit{*e}, true))
		if IsChanged(err) {
			e.old = nil
			return nil
		}
		return err
	}
	return nil
}
