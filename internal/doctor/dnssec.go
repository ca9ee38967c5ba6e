package doctor

import (
	"context"
	"net/netip"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// signatures is what a server does about DNSSEC.
type signatures struct {
	ad    bool  // it says of a signed name that it checked it
	bogus fate  // of the name whose signatures are wrong
	err   error // it did not answer
}

// fate is what became of a question about the bogus name.
type fate uint8

const (
	untried  fate = iota // there is no such name to ask for
	refused              // SERVFAIL, and an answer when told not to check: it checks
	believed             // it was answered
	broken               // SERVFAIL either way: nothing is known
	absent               // the server does not know the name
)

func (x *exam) signatures(ctx context.Context, server netip.AddrPort) signatures {
	root := x.askServer(ctx, dns.Probe{Server: server, Name: ".", Type: wire.TypeSOA})
	if root.err != nil {
		return signatures{err: root.err}
	}
	s := signatures{ad: root.secure && root.found()}
	if x.id.BogusName == "" {
		return s
	}
	p := dns.Probe{Server: server, Name: x.id.BogusName, Type: wire.TypeA}
	r, err := x.world.Ask(ctx, p)
	switch {
	case err != nil:
		s.err = err
	case r.Msg.Rcode == wire.RcodeNameError:
		s.bogus = absent
	case r.Msg.Rcode == wire.RcodeSuccess:
		s.bogus = believed
	default:
		s.bogus = broken
		p.CheckingDisabled = true
		if r, err := x.world.Ask(ctx, p); err == nil && r.Msg.Rcode == wire.RcodeSuccess {
			s.bogus = refused
		}
	}
	return s
}

// state is who authenticates answers, as the resolver has it; ok is false where
// there is none to tell.
func (x *exam) state(ctx context.Context) (st dns.DNSSECState, ok bool) {
	if x.id.DNSSEC == nil {
		return st, false
	}
	return x.dnssec.get(struct{}{}, func() dns.DNSSECState { return x.id.DNSSEC(ctx) }), true
}

func dnssecCheck(ctx context.Context, x *exam, server netip.AddrPort, c *Check) {
	c.Asked, c.Why = "the root's SOA record, which is signed", whyDNSSEC
	if x.id.BogusName != "" {
		c.Asked += ", and " + x.id.BogusName + ", whose signature is wrong on purpose"
	}
	st, known := x.state(ctx)
	if known && st.Mode == dns.DNSSECOff {
		c.Status, c.Seen = Skip, st.Why
		return
	}
	s := x.signatures(ctx, server)
	if s.err != nil {
		c.unanswered(s.err)
		return
	}
	if known && st.Status == dns.SecureHere && !trustOf(&st, server).Believed {
		checkedHere(&st, c)
		return
	}
	s.judge(x, server, c)
	if known {
		s.trusted(&st, server, c)
	}
}

// checkedHere is what counts of a server whose answers mailout checks itself:
// what it says of signatures does not matter.
func checkedHere(st *dns.DNSSECState, c *Check) {
	c.Status, c.Seen = Pass, st.Why
	if st.Doubt != "" {
		c.Status, c.Who = Warn, You
		c.Fix = &Fix{Text: "Look after this machine's clock, after what lies between it and its DNS servers, and after dns.trust_anchors."}
	}
}

func trustOf(st *dns.DNSSECState, server netip.AddrPort) dns.ServerTrust {
	for _, t := range st.Servers {
		if t.Server == server {
			return t
		}
	}
	return dns.ServerTrust{}
}

// judge says what a server does by itself.
func (s *signatures) judge(x *exam, server netip.AddrPort, c *Check) {
	own := &Fix{Command: "mailout config set dns.servers 127.0.0.1",
		Text: "Run a DNS server that checks signatures on this machine (unbound does so as it is installed), and name it alone in [dns] servers."}
	switch {
	case s.ad && s.bogus == believed:
		c.Status, c.Seen = Fail, "it says that it checks signatures (AD), and yet answers for "+x.id.BogusName+": its AD means nothing"
		c.Fix, c.Who = own, You
	case s.ad && (s.bogus == broken || s.bogus == absent):
		c.Seen = "it marks the root as checked (AD), but does not know " + x.id.BogusName + " at all, so that nothing shows whether it refuses wrong signatures"
	case s.ad:
		c.Status, c.Seen = Pass, "it marks the root as checked (AD)"
		if s.bogus == refused {
			c.Seen += ", and refuses " + x.id.BogusName + " (SERVFAIL)"
		}
		if _, tls := x.id.TLSServers[server]; !tls && !server.Addr().IsLoopback() {
			c.Seen += "; on the way from " + serverLabel(server) + " to this machine the mark is not protected"
		}
	case s.bogus == refused:
		c.Status, c.Seen = Warn, "it checks signatures, as it refuses "+x.id.BogusName+", but the mark of it (AD) is missing from its answers: it, or something between, strips it"
		c.Fix, c.Who = own, You
	default:
		c.Status, c.Seen = Warn, "it does not mark the root as checked (no AD)"
		if s.bogus == believed {
			c.Seen += ", and answers for " + x.id.BogusName + ": it does not check signatures"
		}
		c.Fix, c.Who = own, You
	}
}

// trusted adds what the resolver makes of the server: whether its answers count
// as authenticated.
func (s *signatures) trusted(st *dns.DNSSECState, server netip.AddrPort, c *Check) {
	of := trustOf(st, server)
	switch {
	case of.Believed:
		c.Seen += "; its answers count as authenticated (" + of.Trusted + ")"
	case st.Alarm:
		c.Status, c.Who = Fail, You
		c.Seen += "; answers were authenticated before and are not now, and DANE is off: " + st.Why
		c.Fix = &Fix{Text: "Look after this machine's clock, after what lies between it and its DNS servers, and after dns.trust_anchors."}
	case c.Status == Pass || c.Status == Unknown:
		c.Status, c.Who = Warn, You
		c.Seen += "; its answers do not count as authenticated, and DANE is not used with them: " + st.Why
		c.Fix = &Fix{Text: "Name a DNS server in [dns] servers that passes signatures on, so that mailout can check them (dns.dnssec = \"auto\"); or one that checks them and is on this machine or asked over TLS (tls://); or name this one in [dns] trusted when nobody else writes on the way to it. Where the root is a private one, its keys belong into dns.trust_anchors."}
	case st.Mode == dns.DNSSECTrust:
		c.Seen += "; mailout checks none itself (dns.dnssec = \"trust\")"
	case st.Mode != dns.AsSaid:
		c.Seen += "; mailout itself checks none either: " + st.Why
	}
}
