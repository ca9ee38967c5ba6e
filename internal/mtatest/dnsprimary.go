package mtatest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Primary makes a DNS the primary server of one zone: its answers about the
// zone carry its authority (AA), it refuses questions about other names when
// Alone is set, and takes updates (RFC 2136) that are signed with the key.
type Primary struct {
	Zone   string
	Key    string // name of the TSIG key
	Secret string // base64
	Alone  bool

	// OnUpdate, when set, sends the reply to an update in the server's place.
	OnUpdate func(w dns.ResponseWriter, reply *dns.Msg)
}

// Primary sets what the server is the primary of. It is called before Start.
func (d *DNS) Primary(p Primary) {
	p.Zone, p.Key = dns.CanonicalName(p.Zone), dns.CanonicalName(p.Key)
	d.primary = &p
}

// Records gives the values of a name and type in zone-file form, sorted.
func (d *DNS) Records(name string, qtype uint16) []string {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return values(d.mu.zone[dns.CanonicalName(name)][qtype])
}

// Updates is how many updates came.
func (d *DNS) Updates() int {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.mu.updates
}

func values(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(out)
	return out
}

// authority marks an answer; false when the question is not for this server.
func (p *Primary) authority(m *dns.Msg, name string) bool {
	if p == nil {
		return true
	}
	m.Authoritative = dns.IsSubDomain(p.Zone, name)
	return m.Authoritative || !p.Alone
}

func (d *DNS) update(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Question = nil
	m.Rcode = d.make(q, w.TsigStatus())
	if t := q.IsTsig(); t != nil && w.TsigStatus() == nil {
		m.SetTsig(t.Hdr.Name, t.Algorithm, 300, time.Now().Unix())
	}
	if d.primary != nil && d.primary.OnUpdate != nil {
		d.primary.OnUpdate(w, m)
		return
	}
	_ = w.WriteMsg(m) // the client looks again when it is lost
}

// make changes the zone as an update says (RFC 2136 3.2, 3.4) and gives the
// response code.
func (d *DNS) make(q *dns.Msg, signature error) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mu.updates++
	switch {
	case d.primary == nil || len(q.Question) != 1:
		return dns.RcodeNotImplemented
	case q.IsTsig() == nil || signature != nil:
		return dns.RcodeRefused
	case dns.CanonicalName(q.Question[0].Name) != d.primary.Zone:
		return dns.RcodeNotAuth
	}
	if rcode := d.prerequisites(q.Answer); rcode != dns.RcodeSuccess {
		return rcode
	}
	for _, rr := range q.Ns {
		name, qtype := dns.CanonicalName(rr.Header().Name), rr.Header().Rrtype
		switch rr.Header().Class {
		case dns.ClassANY:
			d.drop(name, qtype)
		case dns.ClassINET:
			if len(d.mu.zone[name][dns.TypeCNAME]) == 0 { // else it is left out in silence (3.4.2.2)
				d.insert(rr)
			}
		}
	}
	return dns.RcodeSuccess
}

// prerequisites judges what must stand, or not (RFC 2136 3.2.5).
func (d *DNS) prerequisites(rrs []dns.RR) int {
	want := map[string][]dns.RR{}
	for _, rr := range rrs {
		h := rr.Header()
		switch set := d.mu.zone[dns.CanonicalName(h.Name)][h.Rrtype]; h.Class {
		case dns.ClassNONE:
			if len(set) > 0 {
				return dns.RcodeYXRrset
			}
		case dns.ClassINET:
			k := fmt.Sprint(dns.CanonicalName(h.Name), h.Rrtype)
			want[k] = append(want[k], rr)
		}
	}
	for _, set := range want {
		h := set[0].Header()
		if !slices.Equal(values(set), values(d.mu.zone[dns.CanonicalName(h.Name)][h.Rrtype])) {
			return dns.RcodeNXRrset
		}
	}
	return dns.RcodeSuccess
}
