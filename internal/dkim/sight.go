package dkim

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// Asker finds out who sees a key's record. It asks the zone's own servers, all
// of them and past every cache; where none of them answers this machine, the
// resolvers. A server that does not answer, or not with authority, says nothing
// either way: receivers ask another one then.
//
// It remembers zones for five minutes, and which of them had a server that
// answered lately: there, silence is trouble and no reason to believe a
// resolver, which may have heard from the one server that has the record already.
type Asker struct {
	// Ask puts one question to one server; nil: dns.Ask.
	Ask func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error)
	// Servers are the resolvers, asked in turn until one answers.
	Servers func() []netip.AddrPort

	mu struct {
		sync.Mutex
		zones map[string]knownZone // by the name asked about
		heard map[string]time.Time // zones, when a server of theirs last answered
	}
}

type knownZone struct {
	zone  dns.Zone
	found time.Time
}

const (
	zoneLife   = 5 * time.Minute
	heardLife  = time.Hour
	maxAliases = 4    // from one zone to another
	maxZones   = 1000 // remembered
)

// The waits for an answer, over UDP and TCP.
const (
	udpWait = time.Second
	tcpWait = 1500 * time.Millisecond
)

// Look finds out who sees the record of a key at a name.
func (a *Asker) Look(ctx context.Context, name string, key *Key) Sight {
	return a.look(ctx, wire.CanonicalName(name), key, maxAliases)
}

func (a *Asker) look(ctx context.Context, name string, key *Key, aliases int) Sight {
	resolved := make(chan reply, 1)
	also, enough := context.WithCancel(ctx)
	defer enough()
	go func() { resolved <- a.resolve(also, name, wire.TypeTXT) }()
	zone, err := a.zone(ctx, name)
	s := Sight{Why: "its zone's servers are not known"}
	if err == nil {
		s = a.authorities(ctx, zone, name, key, aliases)
	}
	if s.Finding != Unknown || a.heardLately(zone.Name) {
		enough()
		<-resolved
		return s
	}
	r := <-resolved
	heard := judge(r, key)
	heard.Why, heard.Settled = "a resolver: "+heard.Why, false
	if err == nil {
		heard.Why = "the zone's own servers cannot be asked from here; " + heard.Why
	}
	return heard
}

// reply is what one server said of a name's TXT records.
type reply struct {
	server    string
	records   []wire.RR
	aliases   []string
	none      bool // there is certainly no record
	authority bool
	err       error
}

// judge is one server's answer about a record.
func judge(r reply, key *Key) Sight {
	texts := dns.Texts(r.records)
	s := Sight{Authority: r.authority, Settled: true}
	switch {
	case r.err != nil:
		return Sight{Why: r.err.Error()}
	case len(texts) == 0:
		s.Finding, s.Why = Absent, "no record"
		return s
	case len(texts) > 1:
		s.Finding, s.Why = Differs, fmt.Sprintf("%d records, and nobody knows which one counts", len(texts))
		return s
	}
	record, err := ParseRecord(texts[0])
	switch {
	case err != nil:
		s.Finding, s.Why = Differs, err.Error()
	case record.Revoked():
		s.Finding, s.Why = Withdrawn, "the key is revoked (p= is empty)"
	case !key.Matches(record):
		s.Finding, s.Why = Differs, "the published key is another one"
	case record.Usable() != "":
		s.Finding, s.Why = Differs, record.Usable()
	default:
		s.Finding, s.Why = Published, "the record is there"
	}
	return s
}

// authorities asks all of the zone's servers side by side.
func (a *Asker) authorities(ctx context.Context, zone dns.Zone, name string, key *Key, aliases int) Sight {
	replies := make([]reply, len(zone.Servers))
	var wg sync.WaitGroup
	for i, s := range zone.Servers {
		wg.Go(func() { replies[i] = a.authority(ctx, s, name) })
	}
	wg.Wait()
	if slices.ContainsFunc(replies, func(r reply) bool { return r.err == nil && r.authority }) {
		a.hear(zone.Name)
	}
	return a.joined(ctx, replies, key, aliases)
}

// joined is what all servers together say: the worst that one says with
// authority counts, for a receiver may ask that one.
func (a *Asker) joined(ctx context.Context, replies []reply, key *Key, aliases int) Sight {
	all := Sight{Settled: true}
	var said, targets []string
	for _, r := range replies {
		if n := len(r.aliases); r.err == nil && n > 0 {
			if !slices.Contains(targets, r.aliases[n-1]) {
				targets = append(targets, r.aliases[n-1])
			}
			continue
		}
		s := judge(r, key)
		switch {
		case s.Finding == Unknown, s.Finding != Absent && !s.Authority:
			all.Settled = false
			said = append(said, r.server+": "+strings.TrimPrefix(s.Why, r.server+" "))
			continue
		}
		all = worse(all, s)
		said = append(said, r.server+": "+s.Why)
	}
	for i, target := range targets {
		if aliases == 0 || i == maxAliases {
			all = worse(all, Sight{Finding: Differs, Authority: true, Why: "too many aliases"})
			break
		}
		s := a.look(ctx, wire.CanonicalName(target), key, aliases-1)
		if s.Finding == Unknown {
			return Sight{Why: "an alias of " + target + ": " + s.Why}
		}
		all = worse(all, s)
		said = append(said, "an alias of "+target+": "+s.Why)
	}
	all.Why = strings.Join(said, "; ")
	return all
}

// gravity orders findings.
var gravity = []Finding{Unknown, Published, Absent, Differs, Withdrawn}

// worse joins two findings. Authority belongs to the one that counts.
func worse(a, b Sight) Sight {
	settled := a.Settled && b.Settled
	worst := a
	if slices.Index(gravity, b.Finding) > slices.Index(gravity, a.Finding) || b.Finding == a.Finding && b.Authority {
		worst = b
	}
	worst.Settled = settled
	return worst
}

// authority asks one of a zone's own servers: over UDP, over TCP, and at its
// next address, for a datagram that was lost says nothing.
func (a *Asker) authority(ctx context.Context, s dns.NameServer, name string) reply {
	p := dns.Probe{Server: s.Addrs[0], Name: name, Type: wire.TypeTXT, NoRecursion: true, Timeout: udpWait}
	r := a.question(ctx, p)
	if r.err != nil && ctx.Err() == nil {
		again := p
		again.TCP, again.Timeout = true, tcpWait
		r = a.question(ctx, again)
	}
	if r.err != nil && ctx.Err() == nil && len(s.Addrs) > 1 {
		p.Server = s.Addrs[1]
		r = a.question(ctx, p)
	}
	r.server = s.Name
	if r.err == nil && !r.authority && (!r.none || len(r.aliases) > 0) {
		// Not the zone's server at all, or something on the way that answers in its
		// place. That there is nothing is believed all the same: it delays a key.
		r.err = errors.New("it answers without authority")
	}
	return r
}

// resolve asks the resolvers in turn.
func (a *Asker) resolve(ctx context.Context, name string, qtype uint16) reply {
	r := reply{err: errors.New("no DNS server is configured")}
	for _, wait := range []time.Duration{udpWait, 2 * udpWait} {
		for _, server := range a.Servers() {
			r = a.question(ctx, dns.Probe{Server: server, Name: name, Type: qtype, Timeout: wait})
			r.authority = false
			if r.err == nil || ctx.Err() != nil {
				return r
			}
		}
	}
	return r
}

// question asks one server once.
func (a *Asker) question(ctx context.Context, p dns.Probe) reply {
	ask := a.Ask
	if ask == nil {
		ask = func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error) { return dns.Ask(ctx, nil, p) }
	}
	r := reply{server: p.Server.String()}
	got, err := ask(ctx, p)
	if err != nil {
		r.err = errors.New(r.server + " gave no answer")
		return r
	}
	m := got.Msg
	if m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError {
		r.err = fmt.Errorf("%s answered %s", r.server, wire.RcodeToString[m.Rcode])
		return r
	}
	r.records, r.aliases = dns.Chain(m, p.Name, p.Type)
	r.authority = m.Authoritative
	r.none = len(r.records) == 0 && (m.Authoritative || m.Rcode == wire.RcodeNameError || slices.ContainsFunc(m.Ns, func(rr wire.RR) bool {
		return rr.Header().Rrtype == wire.TypeSOA // else it is a referral
	}))
	if p.NoRecursion && len(r.records) == 0 && !r.none && len(r.aliases) == 0 {
		r.err = errors.New(r.server + " does not know the zone")
	}
	return r
}

// zone finds the zone of a name.
func (a *Asker) zone(ctx context.Context, name string) (dns.Zone, error) {
	now := time.Now()
	a.mu.Lock()
	known, ok := a.mu.zones[name]
	a.mu.Unlock()
	if ok && now.Sub(known.found) < zoneLife {
		return known.zone, nil
	}
	zone, err := dns.FindZone(ctx, func(ctx context.Context, name string, qtype uint16) (dns.Looked, error) {
		r := a.resolve(ctx, name, qtype)
		return dns.Looked{Records: r.records, Alias: len(r.aliases) > 0}, r.err
	}, name)
	if err != nil {
		return known.zone, err // which may be old: it says whether silence is trouble
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.zones == nil || len(a.mu.zones) >= maxZones {
		a.mu.zones = map[string]knownZone{}
	}
	a.mu.zones[name] = knownZone{zone, now}
	return zone, nil
}

func (a *Asker) hear(zone string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mu.heard == nil || len(a.mu.heard) >= maxZones {
		a.mu.heard = map[string]time.Time{}
	}
	a.mu.heard[zone] = time.Now()
}

// heardLately reports that a server of the zone answered not long ago.
func (a *Asker) heardLately(zone string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	t, ok := a.mu.heard[zone]
	return ok && time.Since(t) < heardLife
}
