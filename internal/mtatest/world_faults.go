package mtatest

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/miekg/dns"
)

// Fate is what becomes of mail to a site when the sender does everything
// right, whatever the order of events.
type Fate uint8

// The fates.
const (
	FateOpen Fate = iota // depends on timing
	FateDelivered
	FateFailed
	FateExpired
)

// String gives the fate's word, which is that of a recipient's final state.
func (f Fate) String() string { return [...]string{"open", "delivered", "failed", "expired"}[f] }

// Local parts that begin with these words have a fate of their own at every
// site, unless the site keeps all mail from arriving.
const (
	WorldNobody = "nobody" // 550 5.1.1
	WorldFull   = "full"   // 452 4.2.2 for ever
)

// FateOf is the fate of one recipient.
func (w *World) FateOf(local, domain string) Fate {
	s := w.byDomain[domain]
	switch {
	case s == nil:
		return FateOpen
	case s.Fate != FateDelivered:
		if hasPrefix(local, WorldNobody) || hasPrefix(local, WorldFull) {
			return FateOpen // whichever comes first
		}
		return s.Fate
	case hasPrefix(local, WorldNobody):
		return FateFailed
	case hasPrefix(local, WorldFull):
		return FateExpired
	}
	return FateDelivered
}

func hasPrefix(s, p string) bool { return len(s) >= len(p) && s[:len(p)] == p }

// fault is one way for a site to be difficult. make changes the site and gives
// the fate of its mail.
type fault struct {
	name   string
	weight int
	make   func(s *WorldSite, rng *rand.Rand) Fate
}

// worldFaults are all of them. A rule that ends (First) serves a few tries
// only, so that mail gets through within the sender's patience.
var worldFaults = []fault{
	{"healthy", 24, func(*WorldSite, *rand.Rand) Fate { return FateDelivered }},
	{"slow", 4, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: anyStage(rng), Action: Action{Delay: time.Duration(1+rng.IntN(8)) * time.Second}})
		return FateDelivered
	}},
	{"very slow", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: anyStage(rng), Action: Action{Delay: time.Duration(30+rng.IntN(600)) * time.Second}})
		return FateOpen
	}},
	{"greylist", 5, func(s *WorldSite, rng *rand.Rand) Fate {
		reply := []string{"", "451 4.7.1 Greylisted, try again in 90 seconds", "450 4.2.0 greylisted"}[rng.IntN(3)]
		s.rule(Rule{Stage: StageRcpt, Action: Action{Greylist: 1 + rng.IntN(2), Reply: reply}})
		return FateDelivered
	}},
	{"4xx for a while", 5, func(s *WorldSite, rng *rand.Rand) Fate {
		stage := anyStage(rng)
		s.rule(Rule{Stage: stage, First: 1 + rng.IntN(3), Action: Action{Reply: []string{"451 4.3.0 trouble", "450 not now", "452 4.3.1 disk full", "451 4.4.5 busy"}[rng.IntN(4)]}})
		return FateDelivered
	}},
	{"421 for a while", 5, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: anyStage(rng), First: 1 + rng.IntN(3), Action: Action{Reply: "421 4.3.2 closing, come again", Drop: true}})
		return FateDelivered
	}},
	{"4xx for ever", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: anyStage(rng), Action: Action{Reply: "451 4.3.0 never now"}})
		return FateExpired
	}},
	{"5xx", 4, func(s *WorldSite, rng *rand.Rand) Fate {
		stage := []Stage{StageMail, StageRcpt, StageData, StageDot}[rng.IntN(4)]
		s.rule(Rule{Stage: stage, Action: Action{Reply: []string{"550 5.7.1 not from you", "554 no", "553 5.1.8 bad sender", "571 5.7.1 blocked"}[rng.IntN(4)]}})
		return FateFailed
	}},
	{"5xx greeting", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageConnect, Action: Action{Reply: "554 5.7.1 go away"}})
		return FateFailed
	}},
	{"drops for a while", 4, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: anyStage(rng), First: 1 + rng.IntN(3), Action: Action{Drop: true, Reset: rng.IntN(2) == 0}})
		return FateDelivered
	}},
	{"lost final replies", 6, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageDot, First: 1 + rng.IntN(3), Action: Action{Drop: true, Keep: true, Reset: rng.IntN(2) == 0}})
		return FateDelivered
	}},
	{"never a final reply", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageDot, Action: Action{Drop: rng.IntN(2) == 0, Hang: true, Keep: true}})
		return FateExpired
	}},
	{"garbled final reply", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageDot, First: 2, Action: Action{Raw: "what?\r\n", Keep: true, Drop: true}})
		return FateDelivered
	}},
	{"late final reply", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageDot, First: 1, Action: Action{Delay: time.Duration(1+rng.IntN(15)) * time.Minute}})
		return FateDelivered
	}},
	{"hangs for a while", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: anyStage(rng), First: 1, Action: Action{Hang: true}})
		return FateDelivered
	}},
	{"tar pit", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: anyStage(rng), Action: Action{Hang: true}})
		return FateExpired
	}},
	{"odd replies", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		raw := []string{"\r\n", "2\r\n", "250-a\r\n251 b\r\n", "999 what\r\n", "250 ok", "HTTP/1.1 200 OK\r\n\r\n"}[rng.IntN(6)]
		s.rule(Rule{Stage: anyStage(rng), First: 2, Action: Action{Raw: raw, Drop: true}})
		return FateDelivered
	}},
	// A client that pipelines cannot tell whose answer it is.
	{"an answer too many", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.each(func(h *worldHost) { h.cfg.Without = []string{"PIPELINING"} })
		stage := []Stage{StageConnect, StageHelo, StageMail, StageRcpt}[rng.IntN(4)]
		s.rule(Rule{Stage: stage, First: 1 + rng.IntN(3), Action: Action{After: "250 2.0.0 and another\r\n"}})
		return FateOpen
	}},
	{"dead", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		s.each(func(h *worldHost) { h.dead, h.silent = -1, rng.IntN(2) == 0 })
		return FateExpired
	}},
	{"dead for a while", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		d := time.Duration(1+rng.Int64N(int64(s.world.opts.Patience/time.Minute)/3)) * time.Minute
		s.each(func(h *worldHost) { h.dead, h.silent = d, rng.IntN(2) == 0 })
		return FateDelivered
	}},
	{"dead first host", 4, func(s *WorldSite, rng *rand.Rand) Fate {
		s.hosts[0].dead, s.hosts[0].silent = -1, rng.IntN(2) == 0
		s.addHost(2)
		return FateDelivered
	}},
	{"rate limit", 4, rateLimit},
	{"few sessions", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		n := 1 + rng.IntN(2)
		s.each(func(h *worldHost) { h.cfg.MaxSessions = n })
		return FateDelivered
	}},
	{"few messages a session", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		n := 1 + rng.IntN(3)
		s.each(func(h *worldHost) { h.cfg.MaxMessages = n })
		return FateDelivered
	}},
	{"few recipients", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		n := 1 + rng.IntN(2)
		s.each(func(h *worldHost) { h.cfg.MaxRecipients = n })
		return FateDelivered
	}},
	{"old software", 4, func(s *WorldSite, rng *rand.Rand) Fate {
		var without []string
		for _, w := range []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "SIZE", "ENHANCEDSTATUSCODES"} {
			if rng.IntN(2) == 0 {
				without = append(without, w)
			}
		}
		s.each(func(h *worldHost) { h.cfg.Without = without })
		return FateDelivered
	}},
	{"no EHLO", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageHelo, First: 1, Action: Action{Reply: "500 what"}})
		return FateDelivered
	}},
	{"TLS", 2, func(s *WorldSite, rng *rand.Rand) Fate { return s.offerTLS(rng.IntN(3) > 0) }},
	{"TLS handshake broken", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		if rng.IntN(2) == 0 {
			s.rule(Rule{Stage: StageHandshake, Action: Action{Drop: true}})
			return s.offerTLS(true)
		}
		// Looks like an attack (octets injected in clear): not answered by a
		// retreat to clear text.
		s.rule(Rule{Stage: StageHandshake, Action: Action{Raw: "no handshake at all\r\n", Drop: true}})
		s.offerTLS(true)
		return FateOpen
	}},
	{"TLS refused", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageStartTLS, Action: Action{Reply: "454 4.7.0 not now"}})
		return s.offerTLS(true)
	}},
	{"TLS injected", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageStartTLS, First: 2, Action: Action{After: "250 2.0.0 injected\r\n"}})
		s.offerTLS(true)
		return FateOpen
	}},
	{"TLS hangs", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.rule(Rule{Stage: StageHandshake, First: 2, Action: Action{Hang: true}})
		return s.offerTLS(true)
	}},
	{"no such domain", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.zone = []string{}
		return FateFailed
	}},
	{"null MX", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.zoneEach("%s. 300 IN MX 0 .")
		return FateFailed
	}},
	{"MX without address", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.zoneEach("%s. 300 IN MX 10 nowhere.invalid.")
		return FateOpen
	}},
	{"address only", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.Domains = s.Domains[:1] // each name without MX is a site of its own
		s.zoneEach("%s. 300 IN A " + s.hosts[0].addrs[0].String())
		return FateDelivered
	}},
	{"alias", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.zone = []string{fmt.Sprintf("alias-%d.world. 300 IN MX 5 %s.", s.Number, s.hosts[0].name)}
		for _, d := range s.Domains {
			s.zone = append(s.zone, fmt.Sprintf("%s. 300 IN CNAME alias-%d.world.", d, s.Number))
		}
		return FateDelivered
	}},
	{"SERVFAIL for ever", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.script(Script{Rcode: dns.RcodeServerFailure})
		return FateExpired
	}},
	{"DNS silent for ever", 1, func(s *WorldSite, rng *rand.Rand) Fate {
		s.script(Script{Silent: true})
		return FateExpired
	}},
	{"SERVFAIL for a while", 3, func(s *WorldSite, rng *rand.Rand) Fate {
		s.script(Script{Rcode: dns.RcodeServerFailure, Times: 1 + rng.IntN(8)})
		return FateDelivered
	}},
	{"DNS silent for a while", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.script(Script{Silent: true, Times: 1 + rng.IntN(8)})
		return FateDelivered
	}},
	{"DNS slow and truncated", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.script(Script{Truncate: true, Delay: time.Duration(rng.IntN(1500)) * time.Millisecond})
		return FateDelivered
	}},
	{"NXDOMAIN flaps", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		s.script(Script{Rcode: dns.RcodeNameError, Times: 1})
		return FateOpen
	}},
	{"host address SERVFAIL", 2, func(s *WorldSite, rng *rand.Rand) Fate {
		for _, h := range s.hosts {
			s.world.DNS.Script(h.name, 0, Script{Rcode: dns.RcodeServerFailure, Times: 4 + rng.IntN(12)})
		}
		return FateDelivered
	}},
}

// rateLimit takes some messages, then refuses for a minute. Each time the other
// rules begin anew.
func rateLimit(s *WorldSite, rng *rand.Rand) Fate {
	h, each := s.hosts[0], int64(2+rng.IntN(4))
	refusal := Rule{Stage: StageMail, Action: Action{Reply: []string{"451 4.7.28 too fast", "421 4.7.0 too many messages, slow down", "450 4.7.1 rate limited, try again in 60 seconds"}[rng.IntN(3)]}}
	h.cfg.OnEvent = func(e Event) {
		if e.Stage != StageDot || h.mx.Stats().Messages%each != 0 {
			return
		}
		h.mx.SetRules(append([]Rule{refusal}, h.cfg.Rules...)...)
		time.AfterFunc(time.Minute, func() { h.mx.SetRules(h.cfg.Rules...) })
	}
	return FateDelivered
}

// anyStage is a stage of a session that every delivery passes.
func anyStage(rng *rand.Rand) Stage {
	return []Stage{StageConnect, StageHelo, StageMail, StageRcpt, StageData, StageDot}[rng.IntN(6)]
}

// plan makes site n: its domains, hosts and faults.
func (w *World) plan(n int, rng *rand.Rand) *WorldSite {
	s := &WorldSite{Number: n, world: w}
	for i := range 1 + rng.IntN(2)*rng.IntN(3) {
		s.Domains = append(s.Domains, fmt.Sprintf("d%d-%d.example", n, i))
	}
	s.addHost(1)
	if rng.IntN(5) == 0 {
		s.addHost(1)
	}
	s.rule(Rule{Stage: StageRcpt, Match: WorldNobody + "*", Action: Action{Reply: "550 5.1.1 no such user"}})
	s.rule(Rule{Stage: StageRcpt, Match: WorldFull + "*", Action: Action{Reply: "452 4.2.2 mailbox full"}})
	s.Fate = FateDelivered
	if n > 0 { // the first is everybody's good neighbour
		s.afflict(rng)
	}
	// Last, for all that no fault answers: the way takes time.
	way := time.Duration(1+rng.IntN(200)) * time.Millisecond
	s.rule(Rule{Stage: StageConnect, Action: Action{Delay: way}})
	s.rule(Rule{Stage: StageDot, Action: Action{Delay: way}})
	return s
}

// afflict gives the site a fault, sometimes two.
func (s *WorldSite) afflict(rng *rand.Rand) {
	total := 0
	for _, f := range worldFaults {
		total += f.weight
	}
	for i := range 1 + rng.IntN(6)/5 {
		pick := rng.IntN(total)
		for _, f := range worldFaults {
			if pick -= f.weight; pick >= 0 {
				continue
			}
			s.Faults = append(s.Faults, f.name)
			fate := f.make(s, rng)
			switch {
			case i == 0 || fate == s.Fate && f.name != "rate limit" && s.Faults[0] != "rate limit":
				s.Fate = fate
			default:
				s.Fate = FateOpen
			}
			break
		}
	}
	if s.zone != nil && s.hosts[0].dead != 0 {
		s.Fate = FateOpen // the records may name the dead host alone
	}
}

func (s *WorldSite) rule(r Rule) { s.rules = append(s.rules, r) }

func (s *WorldSite) each(f func(*worldHost)) {
	for _, h := range s.hosts {
		f(h)
	}
}

// addHost adds a host with one address of each kind asked for.
func (s *WorldSite) addHost(addresses int) {
	i := len(s.hosts)
	h := &worldHost{name: fmt.Sprintf("mx%d.site%d.world", i, s.Number)}
	for a := range addresses {
		h.addrs = append(h.addrs, netip.AddrFrom4([4]byte{20, byte(s.Number >> 8), byte(s.Number), byte(10*i + a + 1)}))
	}
	s.hosts = append(s.hosts, h)
}

// zoneEach replaces the MX records of all domains.
func (s *WorldSite) zoneEach(format string) {
	s.zone = []string{}
	for _, d := range s.Domains {
		s.zone = append(s.zone, fmt.Sprintf(format, d))
	}
}

// script departs from the records of the site's domains.
func (s *WorldSite) script(x Script) {
	for _, d := range s.Domains {
		s.world.DNS.Script(d, dns.TypeMX, x)
	}
}

// offerTLS offers STARTTLS at every host; a certificate that is not valid is
// no hindrance to opportunistic TLS.
func (s *WorldSite) offerTLS(valid bool) Fate {
	for _, h := range s.hosts {
		cert, err := s.world.authority.Certificate(valid, h.name)
		if err != nil {
			panic(err) // no randomness: nothing can work
		}
		h.cfg.TLS = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	}
	return FateDelivered
}
