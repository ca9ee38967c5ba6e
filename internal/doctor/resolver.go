package doctor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/smtpclient"
)

// Each DNS server is asked by itself: the first one in the list answers most
// of the questions, and the second one shows its faults only on the day when
// the first is silent.

const (
	whyAnswers  = "Without DNS no mail server is found: every message waits, and is returned in the end (4.4.3 or \"unknown host\")."
	whyExternal = "Delivery begins with a look-up of the recipient's mail servers: a DNS server that knows inner names only makes every recipient an \"unknown host\" (5.1.2)."
	whyTCP      = "An answer that does not fit into a datagram (a long TXT record, many mail servers, DNSSEC) is fetched over TCP, or not at all: such domains get no mail."
	whyEDNS     = "Without EDNS no answer can be longer than 512 octets, nor say whether DNSSEC protects it: DANE cannot be used, and large answers take a second question."
	whyHonest   = "A server that answers for names that do not exist sends mail for misspelt domains to a stranger's machine instead of back to the sender, and makes every block list seem to list us."
	whyDNSSEC   = "Mail servers with DANE (RFC 7672) are known by signed DNS records: without a DNS server that checks signatures and says so, their certificates cannot be checked, and forged records lead mail astray."
)

func resolverProbes() []probe {
	return []probe{
		{ids: []string{"resolver.answers"}, run: serversAnswer},
		onlyDirect(eachServer("resolver.external", externalCheck)),
		eachServer("resolver.tcp", tcpCheck),
		eachServer("resolver.edns", ednsCheck),
		onlyDirect(eachServer("resolver.honest", honestCheck)),
		onlyDirect(eachServer("resolver.dnssec", dnssecCheck)),
	}
}

// onlyDirect is for what matters when recipients' domains are looked up: a
// router does that itself, and inner DNS is enough to find it.
func onlyDirect(p probe) probe {
	p.direct = true
	return p
}

// eachServer makes one check of every DNS server, side by side.
func eachServer(id string, check func(ctx context.Context, x *exam, server netip.AddrPort, c *Check)) probe {
	return probe{ids: []string{id}, run: func(ctx context.Context, x *exam) []Check {
		if len(x.id.Servers) == 0 {
			return []Check{{ID: id, Subject: x.id.Hostname, Status: Unknown, Seen: "no DNS server is known"}}
		}
		checks := make([]Check, len(x.id.Servers))
		var wg group
		for i, server := range x.id.Servers {
			checks[i] = Check{ID: id, Subject: serverLabel(server), Status: Unknown}
			wg.Go(func() { check(ctx, x, server, &checks[i]) })
		}
		wg.Wait()
		return eachSubject(checks)
	}}
}

// eachSubject drops the findings about a server that is named twice.
func eachSubject(checks []Check) []Check {
	seen := map[string]bool{}
	var out []Check
	for _, c := range checks {
		if !seen[c.Subject] {
			out = append(out, c)
		}
		seen[c.Subject] = true
	}
	return out
}

// serverLabel is a DNS server as the configuration writes it.
func serverLabel(server netip.AddrPort) string {
	if server.Port() == 53 {
		return server.Addr().String()
	}
	return server.String()
}

// configured is how the configuration names the server of a finding's subject:
// one over TLS is written as such, and is never to be asked in clear.
func (x *exam) configured(subject string) string {
	for server, name := range x.id.TLSServers {
		if serverLabel(server) == subject {
			return dns.Server{AddrPort: server, TLS: true, Name: name}.String()
		}
	}
	return subject
}

// reach says what must be open on the way to a server.
func (x *exam) reach(server netip.AddrPort) string {
	if _, tls := x.id.TLSServers[server]; tls {
		return fmt.Sprintf("at TCP port %d, with a certificate for the address, or for the name behind # (tls://%s#dns.example)", server.Port(), server)
	}
	return fmt.Sprintf("at port %d (UDP and TCP)", server.Port())
}

// serversAnswer asks every server something that each must know. One that is
// silent costs time with every look-up; when all are, nothing is delivered.
func serversAnswer(ctx context.Context, x *exam) []Check {
	if len(x.id.Servers) == 0 {
		return []Check{{ID: "resolver.answers", Subject: x.id.Hostname, Status: Fail, Why: whyAnswers,
			Asked: "which DNS servers are configured", Seen: "none",
			Fix: &Fix{Text: "Name the DNS servers of this network in [dns] servers (mailout setup asks for them)."}, Who: You}}
	}
	checks := eachServer("resolver.answers", answersCheck).run(ctx, x)
	var good []string
	for _, c := range checks {
		if c.Status == Pass {
			good = append(good, x.configured(c.Subject))
		}
	}
	for i := range checks {
		if c := &checks[i]; c.Status == Fail && len(good) > 0 {
			c.Status = Warn
			c.Fix.Command = "mailout config set dns.servers " + strings.Join(good, ",")
			c.Fix.Text = "Mend this server, or leave it out."
		}
	}
	return checks
}

func answersCheck(ctx context.Context, x *exam, server netip.AddrPort, c *Check) {
	c.Asked, c.Why = "the name servers of the root (. NS)", whyAnswers
	r, err := x.world.Ask(ctx, dns.Probe{Server: server, Name: ".", Type: wire.TypeNS})
	switch {
	case err != nil && ctx.Err() != nil:
		c.Seen = "no answer within the time of this examination"
	case err != nil:
		c.Status, c.Seen = Fail, "no answer: "+askError(err)
		c.Fix, c.Who = &Fix{Text: "Name DNS servers that answer in [dns] servers" + x.origin() + ", and let this machine reach them " + x.reach(server) + "."}, You
	case r.Msg.Rcode == wire.RcodeRefused:
		c.Status, c.Seen = Fail, "it refuses to answer this machine (REFUSED)"
		c.Fix, c.Who = &Fix{Text: "Allow this machine in the server's access list (unbound: access-control, bind: allow-recursion), or name another server in [dns] servers" + x.origin() + "."}, You
	default:
		c.Status, c.Seen = Pass, "it answers"
		if r.Msg.Rcode != wire.RcodeSuccess {
			c.Seen += " (" + wire.RcodeToString[r.Msg.Rcode] + ")"
		}
		if r.Took > 0 {
			c.Seen += fmt.Sprintf(" after %d ms", r.Took.Round(time.Millisecond).Milliseconds())
		}
		if x.id.SystemServers {
			c.Seen += "; it is the system's (" + dns.SystemResolvers + "), as [dns] servers names none"
		}
	}
}

// origin tells where servers that nobody configured come from.
func (x *exam) origin() string {
	if x.id.SystemServers {
		return " (it names none, so those of " + dns.SystemResolvers + " are asked)"
	}
	return ""
}

// askError is why no answer came, for people.
func askError(err error) string {
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "nothing came back in time"
	}
	return smtpclient.Words(err)
}

// unanswered marks a check of a server that did not answer: that is another
// check's finding.
func (c *Check) unanswered(err error) {
	c.Status, c.Seen = Unknown, "no answer ("+askError(err)+"); see resolver.answers"
}

func externalCheck(ctx context.Context, x *exam, server netip.AddrPort, c *Check) {
	c.Why = whyExternal
	if len(x.id.ExternalNames) == 0 {
		c.Status, c.Asked, c.Seen = Skip, "names outside of this network", "[identity] external_names names none"
		return
	}
	c.Asked = "the address of " + strings.Join(x.id.ExternalNames, " or ")
	var unknown, failed []string
	for _, name := range x.id.ExternalNames {
		r, err := x.world.Ask(ctx, dns.Probe{Server: server, Name: name, Type: wire.TypeA})
		if err != nil {
			c.unanswered(err)
			return
		}
		switch m := r.Msg; {
		case m.Rcode == wire.RcodeNameError:
			unknown = append(unknown, name)
		case m.Rcode != wire.RcodeSuccess:
			failed = append(failed, name+": "+wire.RcodeToString[m.Rcode])
		case len(m.Answer) == 0 && len(m.Ns) > 0 && m.Ns[0].Header().Rrtype == wire.TypeNS:
			failed = append(failed, name+": it refers to other servers instead of asking them")
		default:
			a := read(answer{question: question{wire.CanonicalName(name), wire.TypeA}, server: server}, m)
			c.Status, c.Seen = Pass, name+": "+a.said()
			return
		}
	}
	c.Status, c.Who = Fail, You
	if len(failed) == 0 {
		c.Seen = "unknown host: it says that " + strings.Join(unknown, " and ") + " do not exist"
		if len(unknown) == 1 {
			c.Seen = "unknown host: it says that " + unknown[0] + " does not exist"
		}
		c.Fix = &Fix{Text: "This server knows the names of your network only. Let it pass other questions on (a forwarder), or name one in [dns] servers that does."}
		return
	}
	c.Seen = strings.Join(append(failed, unknown...), "; ")
	c.Fix = &Fix{Text: "Let this server reach other name servers (UDP and TCP port 53 outwards) or pass questions on to one that does, or name another in [dns] servers."}
}

// common is a question that a server must have an answer to, whatever it is.
var common = dns.Probe{Name: ".", Type: wire.TypeNS}

func tcpCheck(ctx context.Context, x *exam, server netip.AddrPort, c *Check) {
	c.Asked, c.Why = "the name servers of the root, over TCP", whyTCP
	p := common
	p.Server, p.TCP = server, true
	if _, err := x.world.Ask(ctx, p); err == nil {
		c.Status, c.Seen = Pass, "it answers over TCP"
		return
	} else if p.TCP = false; ctx.Err() == nil {
		if _, silent := x.world.Ask(ctx, p); silent == nil {
			c.Status, c.Seen = Warn, "it answers over UDP, but not over TCP: "+askError(err)
			c.Fix, c.Who = &Fix{Text: "Open TCP port 53 to this server, in the firewalls between and in its own configuration (RFC 7766 demands it), or name another in [dns] servers."}, You
			return
		}
		c.unanswered(err)
		return
	}
	c.Seen = "no answer within the time of this examination"
}

func ednsCheck(ctx context.Context, x *exam, server netip.AddrPort, c *Check) {
	c.Asked, c.Why = "the name servers of the root, with EDNS (RFC 6891)", whyEDNS
	p := common
	p.Server = server
	r, err := x.world.Ask(ctx, p)
	if err != nil {
		c.unanswered(err)
		return
	}
	if opt := r.Msg.IsEdns0(); opt != nil {
		c.Status, c.Seen = Pass, fmt.Sprintf("it knows EDNS and takes answers of up to %d octets", opt.UDPSize())
		return
	}
	c.Status, c.Seen = Warn, "the answer came without EDNS ("+wire.RcodeToString[r.Msg.Rcode]+")"
	c.Fix, c.Who = &Fix{Text: "Use a DNS server that knows EDNS, in [dns] servers; some home routers and firewalls do not, or cut it out."}, You
}

// nonsense is a name that nobody has.
func nonsense() string {
	var b [10]byte
	rand.Read(b[:]) // never fails (crypto/rand)
	return "mailout-" + hex.EncodeToString(b[:]) + ".com"
}

func honestCheck(ctx context.Context, x *exam, server netip.AddrPort, c *Check) {
	c.Asked, c.Why = "the address of a name made up at random, under com", whyHonest
	name := nonsense()
	r, err := x.world.Ask(ctx, dns.Probe{Server: server, Name: name, Type: wire.TypeA})
	if err != nil {
		c.unanswered(err)
		return
	}
	a := read(answer{question: question{wire.CanonicalName(name), wire.TypeA}, server: server}, r.Msg)
	switch {
	case a.err != nil:
		c.Seen = a.err.Error()
	case a.rcode == wire.RcodeNameError && len(r.Msg.Answer) == 0:
		c.Status, c.Seen = Pass, "it says that the name does not exist (NXDOMAIN)"
	case a.found() || len(r.Msg.Answer) > 0:
		c.Status, c.Seen = Fail, name+" has an answer that it cannot have: "+a.said()
		c.Fix, c.Who = &Fix{Text: "Turn the \"search help\" of this DNS server off with the provider, or use a server that answers honestly, best one of your own (unbound), in [dns] servers."}, You
	default:
		c.Status, c.Seen = Warn, "it says that "+name+" exists, without an address"
		c.Fix, c.Who = &Fix{Text: "Use a DNS server that says of names which do not exist that they do not (NXDOMAIN), in [dns] servers."}, You
	}
}
