package doctor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/net/publicsuffix"

	"mailout/internal/smtp"
)

const (
	whyPort25      = "Direct delivery connects to receivers at port 25. Many providers close it for homes and new servers: then all mail waits, with time-outs, until it expires."
	whyIntercepted = "A box on the way that answers in place of receivers breaks TLS, DKIM and sizes, and what it accepts may never arrive."
)

func port25Probes() []probe {
	return []probe{{ids: []string{"port25", "port25.intercepted"}, direct: true, run: port25}}
}

// port25 reads the same greetings that the visible address is found by.
func port25(ctx context.Context, x *exam) []Check {
	faces := x.faces(ctx)
	if len(faces) == 0 {
		faces = []face{{Hostname: x.id.Hostname}}
	}
	var out []Check
	for _, f := range faces {
		all := x.greetAll(ctx, f)
		out = append(out, x.judgePort25(f, subject(f, faces), all), judgeIntercepted(subject(f, faces), all))
	}
	return out
}

// greetAll connects to every mail server, or gives what came when somebody
// already has; those without an address of the family are left out.
func (x *exam) greetAll(ctx context.Context, f face) []greeting {
	if !f.Local.IsValid() {
		return nil
	}
	probes := x.probesInUse()
	out := make([]greeting, len(probes))
	var wg group
	for i, p := range probes {
		wg.Go(func() { out[i] = x.greet(ctx, f.caller(), p) })
	}
	wg.Wait()
	return slices.DeleteFunc(out, func(g greeting) bool { return errors.Is(g.err, errOtherFamily) })
}

// words says for people how a connection went.
func (g greeting) words() string {
	switch {
	case g.lookup:
		return g.server + ": " + g.err.Error()
	case g.err != nil && obstacleOf(g.err) == obstacleBroken:
		return g.server + ": " + g.err.Error()
	case g.err != nil:
		return g.server + ": " + obstacleOf(g.err).words()
	case g.ehlo.Code/100 == 2:
		return g.server + ": greeted"
	case g.ehlo.Code != 0:
		return g.server + ": answered EHLO with " + oneLine(g.ehlo.String())
	case g.banner.Code != 0 && g.banner.Code/100 != 2:
		return g.server + ": greeted with " + oneLine(g.banner.String())
	}
	return g.server + ": connected, then " + g.trouble
}

func oneLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}

func (x *exam) judgePort25(f face, subject string, all []greeting) Check {
	port := x.smtpPort()
	c := Check{ID: "port25", Subject: subject, Status: Unknown, Why: whyPort25, Asked: fmt.Sprintf("connections to port %d of mail servers", port)}
	var seen []string
	var open, tried, unwelcome int
	obstacles := map[obstacle]int{}
	for _, g := range all {
		seen = append(seen, g.words())
		switch {
		case g.lookup:
		case g.open:
			tried, open = tried+1, open+1
			if g.banner.Code >= 400 || g.ehlo.Code >= 400 {
				unwelcome++
			}
		default:
			if o := obstacleOf(g.err); o != obstacleLocal && o != obstacleBroken {
				tried++
				obstacles[o]++
			}
		}
	}
	c.Seen = strings.Join(seen, "; ")
	switch {
	case len(all) == 0 && len(x.id.Probes) == 0:
		c.problem(Unknown, You, "no mail server to try is configured", Fix{Text: "Name some mail servers as identity.probes; docs/doctor.md says which do well."})
	case len(all) == 0 && !f.Local.IsValid():
		c.Seen = "this machine has no way out to the internet"
	case len(all) == 0:
		c.Seen = "none of the mail servers to try has an address of this family"
	case tried == 0:
	case open == 0:
		c.Status = Fail
		c.blocked(obstacles, x.id.IPv6 && f.V6)
	case unwelcome > 0:
		c.problem(Warn, You, c.Seen, Fix{Text: "The port is open, but a receiver does not welcome this address or name: its reply says why, and the checks of names, reverse records and block lists what to do."})
	default:
		c.Status = Pass
	}
	return c
}

// blocked says who is probably in the way and what to do.
func (c *Check) blocked(seen map[obstacle]int, v6 bool) {
	c.Who = AddressProvider
	router := "or deliver through a router"
	c.Fix = &Fix{Command: "mailout config set router.host smtp.provider.example"}
	ask := "“Please open outgoing TCP port 25 for this address; it runs a mail server with proper records.”"
	switch {
	case v6 && seen[obstacleUnreachable] > 0:
		c.Fix.Command, c.Who = "mailout config set delivery.ipv6 false", You
		c.Fix.Text = "This machine has an IPv6 address but IPv6 leads nowhere: mend it, or switch it off for delivery."
	case len(seen) == 1 && seen[obstacleDropped] > 0:
		c.Fix.Text = "A firewall swallows the packets: this machine's, your router's or, mostly, the provider's. Look at the first two, then write to the provider: " + ask + " " + router + "."
	case len(seen) == 1 && seen[obstacleFiltered] > 0:
		c.Fix.Text = "A firewall forbids port 25 and says so: look at this machine's and your router's rules (REJECT), then write to the provider: " + ask + " " + router + "."
	case len(seen) == 1 && seen[obstacleRefused] > 0:
		c.Fix.Text = "Every server seems to refuse, which servers do not: something on the way answers for them. Look at this machine's and your router's firewall, then write to the provider: " + ask + " " + router + "."
	default:
		c.Fix.Text = "No mail server can be reached at port 25. Look at this machine's and your router's firewall, then write to the provider: " + ask + " " + router + "."
	}
}

// judgeIntercepted looks for somebody who answers in place of the servers.
func judgeIntercepted(subject string, all []greeting) Check {
	c := Check{ID: "port25.intercepted", Subject: subject, Status: Unknown, Why: whyIntercepted,
		Asked: "whether the servers that answer at port 25 are those that were called"}
	greeted := slices.DeleteFunc(slices.Clone(all), func(g greeting) bool { return g.banner.Code == 0 })
	fix := Fix{Text: "Something between here and the receivers answers at port 25: a firewall's SMTP inspection (Cisco: no fixup protocol smtp, no inspect esmtp), a virus scanner, or the provider's relay. Switch it off, or ask the provider to; or deliver through a router."}
	signs := slices.IndexFunc(greeted, func(g greeting) bool { return interceptedSign(g) != "" })
	switch {
	case len(greeted) == 0:
		c.Seen = "no server greeted (port25)"
	case signs >= 0:
		c.problem(Fail, AddressProvider, greeted[signs].server+" "+interceptedSign(greeted[signs]), fix)
	case sameEverywhere(greeted):
		c.problem(Fail, AddressProvider, "the same banner from every server: "+oneLine(greeted[0].banner.String()), fix)
	case len(greeted) > 1 && everyone(greeted, withoutExtensions):
		c.problem(Fail, AddressProvider, "no server offers any of the usual extensions after EHLO", fix)
	case everyone(greeted, withoutTLS):
		c.problem(Warn, AddressProvider, "no server offers STARTTLS", fix)
	default:
		c.Status = Pass
		c.Seen = bannersOf(greeted)
	}
	return c
}

func bannersOf(all []greeting) string {
	var out []string
	for _, g := range all {
		out = append(out, g.server+" is "+smtp.GreetingHost(g.banner))
	}
	return strings.Join(out, "; ")
}

// interceptedSign is what only a box on the way does: it overwrites what it
// does not like with asterisks, or with capital X.
func interceptedSign(g greeting) string {
	if masked(g.banner.Text, '*') {
		return "greets with " + oneLine(g.banner.String())
	}
	if g.ehlo.Code/100 == 2 && (masked(g.ehlo.Text, 'X') || masked(g.ehlo.Text, '*')) {
		return "seems to offer extensions named XXXX"
	}
	return ""
}

// masked reports whether a word of the text is that letter alone, four times
// or more. Cisco leaves 2, 0 and spaces alone: "220 ****2****0**".
func masked(text string, letter rune) bool {
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsDigit(r) }) {
		if len(word) >= 4 && strings.Trim(word, string(letter)+"AB") == "" && strings.Contains(word, strings.Repeat(string(letter), 4)) {
			return true
		}
	}
	return false
}

// sameEverywhere reports whether servers of different people call themselves
// the same.
func sameEverywhere(all []greeting) bool {
	owners := map[string]bool{}
	for _, g := range all {
		name := smtp.GreetingHost(g.banner)
		if name == "" || !strings.EqualFold(name, smtp.GreetingHost(all[0].banner)) {
			return false
		}
		owners[ownerOf(g)] = true
	}
	return len(owners) > 1
}

// ownerOf is the domain under which a server's name was registered; an address
// is its own.
func ownerOf(g greeting) string {
	if d, err := publicsuffix.EffectiveTLDPlusOne(g.host); err == nil && g.host != g.addr.Addr().String() {
		return d
	}
	return g.host
}

func everyone(all []greeting, is func(greeting) bool) bool {
	return !slices.ContainsFunc(all, func(g greeting) bool { return !is(g) })
}

// withoutExtensions: every server of today has one of these at least.
func withoutExtensions(g greeting) bool {
	caps := smtp.ParseCapabilities(g.ehlo)
	bare := !caps.Pipelining && !caps.EightBitMIME && !caps.HasSize && !caps.StartTLS && !caps.EnhancedStatusCodes
	return g.banner.Code/100 == 2 && g.ehlo.Code != 0 && (g.ehlo.Code/100 != 2 || bare) && g.ehlo.Code/100 != 4
}

// withoutTLS: large receivers all offer STARTTLS; a box that takes it away
// leaves the rest.
func withoutTLS(g greeting) bool {
	return g.ehlo.Code/100 == 2 && !smtp.ParseCapabilities(g.ehlo).StartTLS
}
