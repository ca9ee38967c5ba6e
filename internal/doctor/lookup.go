package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// question is what is asked of the configured servers.
type question struct {
	name  string // lower case, with the trailing dot
	qtype uint16
}

// answer is what the first configured server that answers said.
type answer struct {
	question question
	server   netip.AddrPort
	rcode    int
	records  []wire.RR     // of the type asked for, at the end of the chain of CNAMEs
	aliases  []string      // the chain: what the name is an alias of, in order
	secure   bool          // AD
	ttl      time.Duration // the server keeps it: the shortest of the records, or of there being none; 0 also when it does not say
	err      error         // no server answered, or SERVFAIL: nothing is known
}

// found reports that there are records.
func (a answer) found() bool { return a.err == nil && len(a.records) > 0 }

// missing reports that there are certainly none.
func (a answer) missing() bool { return a.err == nil && len(a.records) == 0 }

// said is the answer for people: "NXDOMAIN", "no record", or the records.
func (a answer) said() string {
	switch {
	case a.err != nil:
		return a.err.Error()
	case a.rcode == wire.RcodeNameError:
		return "the name does not exist (NXDOMAIN)"
	case len(a.records) == 0:
		return "no " + wire.TypeToString[a.question.qtype] + " record"
	}
	var all []string
	for _, rr := range a.records {
		all = append(all, value(rr))
	}
	return strings.Join(all, ", ")
}

// value is a record without its name, time to live, class and type.
func value(rr wire.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }

// addrs are the addresses among the records.
func (a answer) addrs() []netip.Addr {
	var out []netip.Addr
	for _, rr := range a.records {
		switch r := rr.(type) {
		case *wire.A:
			if addr, ok := netip.AddrFromSlice(r.A); ok {
				out = append(out, addr.Unmap())
			}
		case *wire.AAAA:
			if addr, ok := netip.AddrFromSlice(r.AAAA); ok {
				out = append(out, addr)
			}
		}
	}
	return out
}

// texts are the TXT records, the strings of each joined (RFC 7208 3.3).
func (a answer) texts() []string { return dns.Texts(a.records) }

// look asks the configured servers, in turn until one answers, once for each
// question in an examination.
func (x *exam) look(ctx context.Context, name string, qtype uint16) answer {
	q := question{wire.CanonicalName(name), qtype}
	return x.looked.get(q, func() answer { return x.lookUp(ctx, q) })
}

func (x *exam) lookUp(ctx context.Context, q question) answer {
	a := answer{question: q, err: errors.New("no DNS server is configured")}
	for _, timeout := range askTimeouts {
		for _, server := range x.id.Servers {
			a = x.askServer(ctx, dns.Probe{Server: server, Name: q.name, Type: q.qtype, Timeout: timeout})
			if a.err == nil || ctx.Err() != nil {
				return a
			}
		}
	}
	return a
}

// askTimeouts are for the first and the second question to a server: a datagram
// that was lost is no finding.
var askTimeouts = []time.Duration{2 * time.Second, 4 * time.Second}

// askServer puts one question to one server.
func (x *exam) askServer(ctx context.Context, p dns.Probe) answer {
	a := answer{question: question{wire.CanonicalName(p.Name), p.Type}, server: p.Server}
	r, err := x.world.Ask(ctx, p)
	if err != nil {
		a.err = &silenceError{p.Server, err}
		return a
	}
	return read(a, r.Msg)
}

// silenceError says that a server did not answer, and why, in words that are the
// same each time: without the port that the question went out from.
type silenceError struct {
	server netip.AddrPort
	err    error
}

func (e *silenceError) Error() string {
	return fmt.Sprintf("%s gave no answer: %s", e.server, askError(e.err))
}

func (e *silenceError) Unwrap() error { return e.err }

// read takes the records out of a message, along its CNAMEs.
func read(a answer, m *wire.Msg) answer {
	a.rcode, a.secure = m.Rcode, m.AuthenticatedData
	if m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError {
		a.err = fmt.Errorf("%s answered %s", a.server, wire.RcodeToString[m.Rcode])
		return a
	}
	a.records, a.aliases = dns.Chain(m, a.question.name, a.question.qtype)
	for i, rr := range a.records {
		ttl := time.Duration(rr.Header().Ttl) * time.Second
		if i == 0 || ttl < a.ttl {
			a.ttl = ttl
		}
	}
	if len(a.records) == 0 {
		a.ttl = negativeTTL(m)
	}
	return a
}

// negativeTTL is how long it is remembered that there is nothing (RFC 2308 5);
// 0 when the message does not say.
func negativeTTL(m *wire.Msg) time.Duration {
	for _, rr := range m.Ns {
		if soa, ok := rr.(*wire.SOA); ok {
			return time.Duration(min(soa.Hdr.Ttl, soa.Minttl)) * time.Second
		}
	}
	return 0
}

// cut is the zone of a name and the servers that are authoritative for it.
type cut struct {
	zone    string // with the trailing dot
	servers []nameServer
	err     error
}

// nameServer is one of a zone's, with one address each.
type nameServer struct {
	name string
	addr netip.AddrPort
}

// maxAuthorities bounds how many of a zone's servers are asked.
const maxAuthorities = 6

// authorities finds the zone that a name is in, by its SOA, and that zone's
// servers.
func (x *exam) authorities(ctx context.Context, name string) cut {
	name = wire.CanonicalName(name)
	return x.cuts.get(name, func() cut { return x.findCut(ctx, name) })
}

func (x *exam) findCut(ctx context.Context, name string) cut {
	zone, err := dns.FindZone(ctx, func(ctx context.Context, name string, qtype uint16) (dns.Looked, error) {
		a := x.look(ctx, name, qtype)
		return dns.Looked{Records: a.records, Alias: len(a.aliases) > 0}, a.err
	}, name)
	c := cut{zone: zone.Name, err: err}
	for _, s := range zone.Servers[:min(len(zone.Servers), maxAuthorities)] {
		c.servers = append(c.servers, nameServer{s.Name, s.Addrs[0]})
	}
	return c
}

// askAuthority asks one of a zone's own servers, past every cache.
func (x *exam) askAuthority(ctx context.Context, s nameServer, name string, qtype uint16) answer {
	var a answer
	for _, timeout := range askTimeouts {
		a = x.askServer(ctx, dns.Probe{Server: s.addr, Name: name, Type: qtype, NoRecursion: true, Timeout: timeout})
		if a.err == nil || ctx.Err() != nil {
			break
		}
	}
	return a
}
