package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/smtpclient"
)

// With a router, what receivers see is the router's affair, and what counts
// here is that the router can be found, is who it should be, and takes our
// name and password. It hears EHLO, STARTTLS, AUTH and QUIT.

const (
	whyRouter     = "Mail that goes to the wrong place is the hardest to find: with a router it is the router's name and address that receivers judge."
	whyRouterName = "A router that is not found holds all of its mail: it waits, and is returned in the end."
	whyRouterTLS  = "On the way to the router everybody in between reads mail that is not encrypted; and encryption to somebody unknown may be to a stranger."
	whyRouterAuth = "A router that does not know us refuses to relay: 530 5.7.0 Authentication required, 535 5.7.8 Authentication credentials invalid, or 550 5.7.1 Relaying denied."
)

// maxRouterAddresses is how many of the router's addresses are tried.
const maxRouterAddresses = 4

// routerReply is the time for each of the router's replies.
const routerReply = 10 * time.Second

func routerProbes() []probe {
	return []probe{
		{ids: []string{"router"}, offline: true, run: whichWay},
		{ids: []string{"router.name"}, run: routerName},
		{ids: []string{"router.tls", "router.auth"}, run: routerSession},
	}
}

// whichWay says which mail goes where.
func whichWay(_ context.Context, x *exam) []Check {
	r := x.id.Router
	c := Check{ID: "router", Subject: "none", Status: Pass, Asked: "[router] and [[route]] of the configuration", Why: whyRouter}
	switch {
	case r.Host == "":
		c.Seen = "no router is set: mail is delivered directly to the mail servers of each recipient's domain"
	case r.Use == "always":
		c.Subject = r.Host
		c.Seen = "all mail goes to the router " + r.label() + r.line() + ", which delivers it: receivers see the router's name and address"
	case r.Use == "fallback":
		c.Subject = r.Host
		c.Seen = "mail is delivered directly, and goes to the router " + r.label() + r.line() + " when that fails"
	default:
		c.Subject = r.Host
		c.Seen = "mail is delivered directly; only what is for domains whose mail servers cannot be found in DNS goes to the router " + r.label() + r.line()
	}
	for i, route := range x.id.Routes {
		if i == shownRoutes {
			c.Seen += fmt.Sprintf("; and %d more [[route]]", len(x.id.Routes)-i)
			break
		}
		c.Seen += "; " + route.words()
	}
	return []Check{c}
}

// label is the router with its port.
func (r Router) label() string {
	if strings.Contains(r.Host, ":") && r.NotLookedAt != "" {
		return r.Host
	}
	return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
}

func (r Router) line() string {
	if r.Line == 0 {
		return ""
	}
	return fmt.Sprintf(" (line %d)", r.Line)
}

// The bounds of what is told of routes.
const (
	shownDomains = 5  // of a route
	shownRoutes  = 20 // of all
)

func (r Route) words() string {
	domains := slices.Clone(r.Domains)
	if more := len(domains) - shownDomains; more > 0 {
		domains = append(domains[:shownDomains], fmt.Sprintf("%d more", more))
	}
	s := "mail"
	if len(domains) > 0 {
		s += " for " + strings.Join(domains, ", ")
	}
	if r.Of != "" {
		s += " " + r.Of
	}
	switch {
	case r.Way != "":
		s += " " + r.Way
	case r.Host != "":
		s += " goes to " + net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
	default:
		s += " goes directly"
	}
	if r.Line > 0 {
		s += fmt.Sprintf(" (line %d)", r.Line)
	}
	return s
}

// noRouter is what the checks of a router say where there is none.
func noRouter(r *Router, ids ...string) []Check {
	var out []Check
	subject, seen := "none", "no router is set"
	if r.Host != "" {
		subject, seen = r.Host, "not looked at: the router is "+r.NotLookedAt
	}
	for _, id := range ids {
		out = append(out, Check{ID: id, Subject: subject, Status: Skip, Seen: seen})
	}
	return out
}

// found are the router's addresses, in the order in which they are used.
type found struct {
	addrs []netip.Addr
	from  string // "DNS", or the hosts file
	err   error  // nothing is known
}

// routerAddresses finds them as delivery does: the hosts file, then DNS.
func (x *exam) routerAddresses(ctx context.Context) found {
	host := x.id.Router.Host
	if a, err := netip.ParseAddr(host); err == nil {
		return found{addrs: []netip.Addr{a.Unmap()}, from: "the configuration"}
	}
	if addrs := dns.HostsAddresses(x.id.HostsFile, host); len(addrs) > 0 {
		return found{addrs: addrs, from: x.id.HostsFile}
	}
	v4, v6 := x.look(ctx, host, wire.TypeA), x.look(ctx, host, wire.TypeAAAA)
	f := found{addrs: append(v4.addrs(), v6.addrs()...), from: "DNS"}
	if len(f.addrs) == 0 && (v4.err != nil || v6.err != nil) {
		f.err = errors.Join(v4.err, v6.err)
		if v4.err != nil {
			f.err = v4.err
		}
	}
	return f
}

func routerName(ctx context.Context, x *exam) []Check {
	r := x.id.Router
	if r.Host == "" || r.NotLookedAt != "" {
		return noRouter(&r, "router.name")
	}
	c := Check{ID: "router.name", Subject: r.Host, Asked: "the addresses of " + r.Host, Why: whyRouterName}
	f := x.routerAddresses(ctx)
	usable := slices.ContainsFunc(f.addrs, func(a netip.Addr) bool { return x.id.IPv6 || a.Is4() })
	switch {
	case f.err != nil:
		c.Status, c.Seen = Unknown, f.err.Error()
	case len(f.addrs) == 0:
		c.Status, c.Seen, c.Who = Fail, "unknown host: the name has no address", You
		c.Fix = &Fix{Command: "mailout config set router.host NAME", Text: "Write the name of the router as its provider gives it in [router] host" + r.line() + ", or have its address record made."}
	case !usable:
		c.Status, c.Seen, c.Who = Fail, "it has IPv6 addresses only ("+words(f.addrs)+"), and IPv6 is off", You
		c.Fix = &Fix{Command: "mailout config set delivery.ipv6 true", Text: "Turn IPv6 on, or name a router that has an IPv4 address."}
	default:
		c.Status, c.Seen = Pass, words(f.addrs)+" (from "+f.from+")"
	}
	return []Check{c}
}

// words lists addresses.
func words(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	return strings.Join(out, ", ")
}

// routerSession talks to the router as delivery would, up to the point where
// mail would begin.
func routerSession(ctx context.Context, x *exam) []Check {
	if r := &x.id.Router; r.Host == "" || r.NotLookedAt != "" {
		return noRouter(r, "router.tls", "router.auth")
	}
	label := x.id.Router.label()
	secure := Check{ID: "router.tls", Subject: label, Asked: "EHLO and " + x.tlsAsked() + " at " + label, Why: whyRouterTLS}
	auth := Check{ID: "router.auth", Subject: label, Asked: "AUTH at " + label, Why: whyRouterAuth}
	s := x.judgeTLS(ctx, &secure)
	if s == nil {
		auth.Status, auth.Seen = Unknown, "there was no session to authenticate in; see router.tls"
		if !x.id.Router.signsIn() && x.id.Router.certificate() == nil {
			auth.Status, auth.Seen = Skip, "no user name is configured"
		}
		return []Check{secure, auth}
	}
	defer s.Quit()
	stop := context.AfterFunc(ctx, s.Abort)
	defer stop()
	x.judgeAuth(ctx, s, &auth)
	return []Check{secure, auth}
}

func (x *exam) tlsAsked() string {
	switch x.id.Router.TLS {
	case mta.TLSImplicit:
		return "TLS from the first octet"
	case mta.TLSNone:
		return "nothing more (tls = \"none\")"
	}
	return "STARTTLS"
}

// judgeTLS opens a session with verified TLS where that is possible, also when
// less is demanded; then as delivery would.
func (x *exam) judgeTLS(ctx context.Context, c *Check) *smtpclient.Session {
	demand := x.id.Router.TLS
	first := demand
	if demand == mta.TLSOpportunistic {
		first = mta.TLSRequired
	}
	s, f := x.openRouter(ctx, first)
	if s != nil {
		x.reached(s, c)
		return s
	}
	if demand == mta.TLSOpportunistic && aboutTLS(f) {
		return x.settleForLess(ctx, f, c)
	}
	x.unreached(f, c)
	return nil
}

// aboutTLS reports that the router answers, but not with TLS as demanded.
func aboutTLS(f *mta.Failure) bool {
	return f.Stage == mta.StageTLS && (f.Cause == mta.CauseTLS || f.Cause == mta.CauseNeed || f.Cause == mta.CauseReply)
}

// reached judges a session that fulfils the demand.
func (x *exam) reached(s *smtpclient.Session, c *Check) {
	c.Status = Pass
	switch tls := s.TLS(); {
	case tls.Verified != "":
		c.Seen = "it takes us; " + tls.Version + ", with a certificate that fits " + x.id.Router.Host
		if x.id.Router.TLS == mta.TLSOpportunistic {
			c.Seen += " (so tls = \"required\" would work too)"
		}
	case s.Capabilities().StartTLS:
		c.Status, c.Seen, c.Who = Warn, "it offers STARTTLS, and tls = \"none\" leaves it unused: mail goes in clear text", You
		c.Fix = &Fix{Command: "mailout config set router.tls required", Text: "Use the encryption that the router offers."}
	default:
		c.Seen = "it takes us, in clear text as configured; it offers no TLS"
	}
}

// settleForLess is for a router without verified TLS where none is demanded:
// delivery goes on, and others may read along.
func (x *exam) settleForLess(ctx context.Context, why *mta.Failure, c *Check) *smtpclient.Session {
	s, f := x.openRouter(ctx, mta.TLSOpportunistic)
	if s == nil && aboutTLS(f) {
		s, f = x.openRouter(ctx, mta.TLSNone)
	}
	if s == nil {
		x.unreached(f, c)
		return nil
	}
	c.Status, c.Who = Warn, RouterProvider
	if version := s.TLS().Version; version != "" {
		c.Seen = "it takes us; " + version + ", but it might be anybody: " + tlsWords(why)
		c.Fix = &Fix{Text: "Write the router's name as its certificate has it in [router] host, or name the authority that made the certificate in [tls] ca_file; then set tls = \"required\"."}
		return s
	}
	c.Seen = "it takes us, but in clear text: " + tlsWords(why)
	c.Fix = &Fix{Text: "Ask whoever runs the router for STARTTLS with a valid certificate, or for the port that has TLS from the first octet (465); then set tls = \"required\" or \"implicit\"."}
	return s
}

// tlsWords is what went wrong without the stage in front.
func tlsWords(f *mta.Failure) string {
	if f.Cause == mta.CauseReply {
		return "STARTTLS was answered with " + f.Reply.String()
	}
	return f.Text
}

// unreached judges a session that did not come about.
func (x *exam) unreached(f *mta.Failure, c *Check) {
	c.Status, c.Seen, c.Who = Fail, f.Error(), RouterProvider
	switch {
	case f.Cause == mta.CauseLocal || f.Cause == mta.CauseDNS:
		c.Status, c.Seen, c.Who = Unknown, f.Text, ""
	case f.Cause == mta.CauseRouter:
		c.Status, c.Seen, c.Who = Unknown, "its address is not known; see router.name", ""
	case f.Stage == mta.StageConnect:
		c.Seen, c.Who = f.Text, You
		c.Fix = &Fix{Text: "Check [router] host and port" + x.id.Router.line() + " against what the router's provider says, and let this machine connect to it: many networks block port 25, and leave 587 and 465 open."}
	case f.Stage == mta.StageTLS && f.Cause == mta.CauseNeed:
		c.Seen = tlsWords(f) + ", and tls = \"" + tlsWord(x.id.Router.TLS) + "\" demands it: mail waits"
		c.Fix = &Fix{Text: "Use the port at which the router offers STARTTLS (587) or, with tls = \"implicit\", speaks TLS from the first octet (465)."}
	case f.Stage == mta.StageTLS:
		c.Seen = tlsWords(f)
		c.Fix = &Fix{Text: "Write the router's name as its certificate has it in [router] host, or name the authority that made the certificate in [tls] ca_file."}
	case f.Cause == mta.CauseReply:
		c.Seen = "at " + f.Stage.String() + " it answered " + f.Reply.String()
		c.Fix = &Fix{Text: "Show this answer to whoever runs the router: it does not take this machine's name or address."}
	default:
		c.Fix = &Fix{Text: "Check [router] port and tls" + x.id.Router.line() + ": a port with TLS from the first octet (465) needs tls = \"implicit\", the others must not have it."}
	}
}

func tlsWord(t mta.TLSRequirement) string {
	if t == mta.TLSImplicit {
		return "implicit"
	}
	return "required"
}

// openRouter connects to the router's addresses, in order, until one answers.
func (x *exam) openRouter(ctx context.Context, tls mta.TLSRequirement) (*smtpclient.Session, *mta.Failure) {
	f := x.routerAddresses(ctx)
	if f.err != nil || len(f.addrs) == 0 {
		return nil, &mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseRouter}
	}
	roots, err := x.id.roots()
	if err != nil {
		return nil, &mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseLocal, Text: "[tls] ca_file: " + err.Error()}
	}
	failure := &mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseIO, Text: "the router has no address of a family in use"}
	for _, addr := range f.addrs[:min(len(f.addrs), maxRouterAddresses)] {
		if addr.Is6() && !x.id.IPv6 {
			continue
		}
		conn, hello, err := x.dialRouter(ctx, addr)
		if err != nil {
			failure.Text = "connect to " + netip.AddrPortFrom(addr, x.id.Router.Port).String() + ": " + askError(err)
			if ctx.Err() != nil {
				failure.Cause, failure.Text = mta.CauseLocal, "no connection within the time of this examination"
			}
			continue
		}
		return smtpclient.Open(ctx, conn, smtpclient.Options{
			Hello: hello, Host: x.id.Router.Host, TLS: tls, RootCAs: roots, ReplyTimeout: routerReply,
			NeedESMTP: x.id.Router.signsIn(), Certificate: x.id.Router.certificate(),
		})
	}
	return nil, failure
}

// dialRouter connects from the source of the address's family.
func (x *exam) dialRouter(ctx context.Context, addr netip.Addr) (conn net.Conn, hello string, err error) {
	ctx, cancel := context.WithTimeout(ctx, routerReply)
	defer cancel()
	network, hello := "tcp4", x.id.Hostname
	if addr.Is6() {
		network = "tcp6"
	}
	var source netip.Addr
	for _, s := range x.id.Sources {
		if s.IP.Is6() == addr.Is6() {
			source, hello = s.IP, s.Hostname
			break
		}
	}
	conn, err = x.world.Dial(ctx, source, network, netip.AddrPortFrom(addr, x.id.Router.Port).String())
	return conn, hello, err
}
