package mtatest

import (
	"github.com/miekg/dns"
)

// Answer makes the whole answer to a question, with signatures and proofs when
// do is set. AD is never set.
func (t *Tree) Answer(name string, qtype uint16, do bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Response, m.RecursionAvailable = true, true
	t.look(m, dns.CanonicalName(name), qtype, do)
	return m
}

func (t *Tree) look(m *dns.Msg, name string, qtype uint16, do bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for range maxChain {
		home := name
		if qtype == dns.TypeDS && name != "." {
			home = above(name)
		}
		z := t.zoneFor(home)
		a := answering{m: m, z: z, do: do && !z.Unsigned}
		if next := a.one(name, qtype); next != "" {
			name = next
			continue
		}
		return
	}
}

// answering is one zone's part of an answer.
type answering struct {
	m    *dns.Msg
	z    *signedZone
	do   bool
	said map[dns.RR]bool
}

// one answers from one zone; it gives the target of a CNAME that is to be
// followed.
func (a *answering) one(name string, qtype uint16) string {
	z := a.z
	if sets, ok := z.sets[name]; ok {
		return a.sets(sets, name, name, qtype)
	}
	encloser := name
	for !z.exists(encloser) {
		if rrs := z.sets[above(encloser)][dns.TypeDNAME]; len(rrs) > 0 {
			return a.dname(rrs, name)
		}
		encloser = above(encloser)
	}
	if encloser == name { // an empty non-terminal
		a.noData(name)
		return ""
	}
	wild := "*." + encloser
	if encloser == "." {
		wild = "*."
	}
	if sets, ok := z.sets[wild]; ok {
		return a.expand(sets, name, wild, encloser, qtype)
	}
	a.m.Rcode = dns.RcodeNameError
	a.soa()
	a.gone(name, encloser)
	a.deny(wild, true)
	return ""
}

func (z *signedZone) exists(name string) bool {
	for _, n := range z.names {
		if n == name {
			return true
		}
	}
	return false
}

func (a *answering) sets(sets map[uint16][]dns.RR, name, owner string, qtype uint16) string {
	if rrs := sets[qtype]; len(rrs) > 0 {
		a.answer(rrs, name)
		return ""
	}
	if alias := sets[dns.TypeCNAME]; len(alias) > 0 {
		a.answer(alias, name)
		return dns.CanonicalName(alias[0].(*dns.CNAME).Target)
	}
	a.noData(owner)
	return ""
}

// expand answers from a wildcard.
func (a *answering) expand(sets map[uint16][]dns.RR, name, wild, encloser string, qtype uint16) string {
	target := a.sets(sets, name, wild, qtype)
	if a.m.Rcode == dns.RcodeSuccess && len(sets[qtype]) == 0 && target == "" {
		a.gone(name, encloser) // noData has said what the wildcard lacks
		return target
	}
	if a.z.NSEC3 {
		a.deny(nextCloser(name, encloser), true)
	} else {
		a.deny(name, true)
	}
	return target
}

// dname answers with a DNAME and the CNAME made from it.
func (a *answering) dname(rrs []dns.RR, name string) string {
	d := rrs[0].(*dns.DNAME)
	a.answer(rrs, d.Hdr.Name)
	target := name[:len(name)-len(d.Hdr.Name)] + dns.CanonicalName(d.Target)
	a.m.Answer = append(a.m.Answer, &dns.CNAME{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: 300}, Target: target})
	return target
}

// answer adds a set, and its signature, named as asked.
func (a *answering) answer(rrs []dns.RR, name string) {
	a.m.Answer = appendAs(a.m.Answer, rrs, name)
	if a.do {
		a.m.Answer = appendAs(a.m.Answer, []dns.RR{a.z.sign(rrs)}, name)
	}
}

func (a *answering) soa() {
	soa := a.z.sets[a.z.Name][dns.TypeSOA]
	a.m.Ns = append(a.m.Ns, soa[0])
	if a.do {
		a.m.Ns = append(a.m.Ns, a.z.sign(soa))
	}
}

// noData says that a name lacks a type.
func (a *answering) noData(name string) {
	a.soa()
	if !a.do {
		return
	}
	if a.z.at(name, false) != nil {
		a.deny(name, false)
		return
	}
	if a.z.NSEC3 { // opt-out left it out
		a.gone(name, a.z.encloser(name))
		return
	}
	a.deny(name, true) // an empty non-terminal
}

// encloser gives the closest name above that stands in the chain.
func (z *signedZone) encloser(name string) string {
	for name = above(name); z.at(name, false) == nil; name = above(name) {
	}
	return name
}

// gone proves that a name does not exist.
func (a *answering) gone(name, encloser string) {
	if !a.do {
		return
	}
	if !a.z.NSEC3 {
		a.deny(name, true)
		return
	}
	a.deny(encloser, false)
	a.deny(nextCloser(name, encloser), true)
}

func nextCloser(name, encloser string) string {
	for above(name) != encloser {
		name = above(name)
	}
	return name
}

// deny adds a record of the chain, once.
func (a *answering) deny(name string, covers bool) {
	if !a.do {
		return
	}
	rr := a.z.at(name, covers)
	if rr == nil || a.said[rr] {
		return
	}
	if a.said == nil {
		a.said = map[dns.RR]bool{}
	}
	a.said[rr] = true
	a.m.Ns = append(a.m.Ns, rr, a.z.sign([]dns.RR{rr}))
}
