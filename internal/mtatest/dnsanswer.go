package mtatest

import (
	"strings"
	"time"

	"github.com/miekg/dns"
)

// maxChain bounds how many CNAMEs one answer follows.
const maxChain = 10

// answer makes the answer to q, waits as scripted, and records both. nil
// means silence.
func (d *DNS) answer(q *dns.Msg, network string) *dns.Msg {
	m := new(dns.Msg)
	if len(q.Question) != 1 || q.Opcode != dns.OpcodeQuery || q.Response {
		return m.SetRcode(q, dns.RcodeFormatError)
	}
	m.SetReply(q)
	m.RecursionAvailable = true
	opt := q.IsEdns0()
	name, qtype := dns.CanonicalName(q.Question[0].Name), q.Question[0].Qtype
	s := d.take(name, qtype)
	if s.Rcode != 0 {
		m.Rcode = s.Rcode
	} else if !d.primary.authority(m, name) {
		m.Rcode = dns.RcodeRefused
	} else if d.Tree != nil {
		d.Tree.look(m, name, qtype, opt != nil && opt.Do())
	} else {
		d.look(m, name, qtype)
	}
	if d.Alter != nil {
		d.Alter(m)
	}
	size := dns.MinMsgSize
	if opt != nil {
		size = max(size, int(opt.UDPSize()))
		m.SetEdns0(dns.DefaultMsgSize, opt.Do())
	}
	m.AuthenticatedData = (q.AuthenticatedData || opt != nil && opt.Do()) && d.isSecure(name) && m.Rcode != dns.RcodeServerFailure
	d.record(q, m, network, s.Silent)
	if s.Silent || !d.pause(s.Delay) {
		return nil
	}
	if network == "udp" {
		if s.Truncate {
			m.Answer, m.Ns, m.Truncated = nil, nil, true
		}
		m.Truncate(size)
		m.Truncated = m.Truncated || s.Truncate
	}
	return m
}

// pause waits for a scripted delay; false means that the server stopped.
func (d *DNS) pause(delay time.Duration) bool {
	if delay <= 0 {
		return true
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-d.stop:
		return false
	}
}

// take finds the newest script that fits and uses one of its times.
func (d *DNS) take(name string, qtype uint16) Script {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := len(d.mu.scripts) - 1; i >= 0; i-- {
		s := d.mu.scripts[i]
		if s.name != "*" && s.name != name || s.qtype != 0 && s.qtype != qtype {
			continue
		}
		if s.Times > 0 {
			if s.left == 0 {
				continue
			}
			s.left--
		}
		return s.Script
	}
	return Script{}
}

// look fills m from the records, following CNAMEs.
func (d *DNS) look(m *dns.Msg, name string, qtype uint16) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for range maxChain {
		sets, ok := d.sets(name)
		if !ok {
			m.Rcode = dns.RcodeNameError
			d.deny(m, name)
			return
		}
		if rrs := sets[qtype]; len(rrs) > 0 {
			m.Answer = appendAs(m.Answer, rrs, name)
			return
		}
		alias := sets[dns.TypeCNAME]
		if len(alias) == 0 {
			d.deny(m, name)
			return
		}
		m.Answer = appendAs(m.Answer, alias, name)
		name = dns.CanonicalName(alias[0].(*dns.CNAME).Target)
	}
}

// sets gives the records of name, or of the wildcard that covers it (RFC 4592);
// false when the name does not exist.
func (d *DNS) sets(name string) (map[uint16][]dns.RR, bool) {
	if sets, ok := d.mu.zone[name]; ok {
		return sets, true
	}
	if d.mu.nodes[name] > 0 {
		return nil, true // an empty non-terminal
	}
	for i, end := dns.NextLabel(name, 0); !end; i, end = dns.NextLabel(name, i) {
		if sets, ok := d.mu.zone["*."+name[i:]]; ok {
			return sets, true
		}
		if d.mu.nodes[name[i:]] > 0 {
			return nil, false // the closest encloser has no wildcard
		}
	}
	return nil, false
}

// deny adds the SOA that negative answers carry (RFC 2308); a synthetic one
// when the records have none above name.
func (d *DNS) deny(m *dns.Msg, name string) {
	for up := name; ; {
		if soa := d.mu.zone[up][dns.TypeSOA]; len(soa) > 0 {
			m.Ns = append(m.Ns, soa[0])
			return
		}
		i, end := dns.NextLabel(up, 0)
		if end {
			break
		}
		up = up[i:]
	}
	m.Ns = append(m.Ns, &dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: 60},
		Ns:  "ns.invalid.", Mbox: "hostmaster.invalid.", Serial: 1, Refresh: 60, Retry: 60, Expire: 60, Minttl: 60,
	})
}

// appendAs appends copies of rrs, named as asked (a wildcard's take the name
// of the question).
func appendAs(to, rrs []dns.RR, name string) []dns.RR {
	for _, rr := range rrs {
		c := dns.Copy(rr)
		c.Header().Name = name
		to = append(to, c)
	}
	return to
}

func (d *DNS) isSecure(name string) bool {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range d.mu.secure {
		if dns.IsSubDomain(n, name) || name == "." { // who checks anything checks the root
			return true
		}
	}
	return false
}

func (d *DNS) record(q, m *dns.Msg, network string, silent bool) {
	one := Query{
		Name:    strings.TrimSuffix(dns.CanonicalName(q.Question[0].Name), "."),
		Type:    dns.TypeToString[q.Question[0].Qtype],
		Network: network,
	}
	if opt := q.IsEdns0(); opt != nil {
		one.DO = opt.Do()
	}
	if !silent {
		one.Rcode = dns.RcodeToString[m.Rcode]
		for _, rr := range m.Answer {
			one.Answers = append(one.Answers, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
	}
	d.mu.Lock()
	d.mu.count++
	if len(d.mu.queries) < maxQueries {
		d.mu.queries = append(d.mu.queries, one)
	}
	d.mu.Unlock()
	if d.OnQuery != nil {
		d.OnQuery(one)
	}
}
