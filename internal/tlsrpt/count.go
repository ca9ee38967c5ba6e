package tlsrpt

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/mta"
)

// Counting: many workers at once tell how their sessions went. Method: shards by
// the hash of the domain, each with a lock that is held for some map look-ups; no
// look-up in DNS, no disk and no waiting. Which domain asks for reports is found
// out by ask.go, to which a new domain is handed over if there is room.

// The bounds of counting.
const (
	MaxDomains = 20_000   // domains counted at a time
	MaxUnknown = 4_096    // of them those of which nobody knows yet whether they ask
	MaxCounted = 32 << 20 // octets of all counts, as reckoned; beyond, nothing stands apart any more

	shards   = 64
	refusals = 1024          // of a shard: domains that do not ask, as hashes
	silence  = 4 * time.Hour // how long a domain counts as one that does not ask
)

// Session is how TLS went in one session with a mail server of a recipient.
type Session struct {
	Route  *mta.Route
	Host   string
	IP     netip.Addr // the server's; zero when there was no connection
	From   netip.Addr // ours; zero when not known
	Helo   string     // what the server called itself
	Result string     // result-type of a failure (RFC 8460 4.3); empty: success
	Reason string     // one sentence; with Result
	Demand mta.TLSDemand
}

// counter holds the counts.
type counter struct {
	seed    maphash.Seed
	shard   [shards]shard
	domains atomic.Int64 // tallies in memory
	unknown atomic.Int64 // of them those that nobody knows about
	cost    atomic.Int64
	// closed is the newest day (number since 1970) that is over: nothing is added
	// to it, whatever the clock says.
	closed atomic.Int64
	ask    chan string // domains to be asked about; read by the lookups
	counts counts
}

// shard holds the domains of one part of the hashes.
type shard struct {
	sync.Mutex
	days    map[int64]map[string]*tally // by day; nearly always one
	refused [refusals]refusal
}

// refusal is a domain that does not ask for reports.
type refusal struct {
	hash  uint64
	until int64 // Unix seconds
}

func newCounter() *counter {
	c := &counter{seed: maphash.MakeSeed(), ask: make(chan string, MaxUnknown)}
	for i := range c.shard {
		c.shard[i].days = make(map[int64]map[string]*tally)
	}
	return c
}

// dayOf numbers the UTC day of a time.
func dayOf(t time.Time) int64 { return floorDay(t.Unix()) }

func floorDay(sec int64) int64 {
	d := sec / 86400
	if sec%86400 < 0 {
		d--
	}
	return d
}

// startOf is when a day begins.
func startOf(day int64) time.Time { return time.Unix(day*86400, 0).UTC() }

// today is the day that a time counts for. It does not go back to a day that is
// over when the clock does, unless the clock was wrong by days.
func (c *counter) today(now time.Time) int64 {
	day, closed := dayOf(now), c.closed.Load()
	if day == closed {
		return day + 1
	}
	return day
}

func (c *counter) place(domain string) (*shard, uint64) {
	h := maphash.String(c.seed, domain)
	return &c.shard[h%shards], h
}

func (s *shard) refusalAt(hash uint64) *refusal { return &s.refused[hash/shards%refusals] }

// count adds a session.
func (c *counter) count(o *Session, now time.Time) {
	r := o.Route
	if len(r.Policies) == 0 || r.Router != "" || r.Domain == "" || r.Domain[0] == '[' || len(r.Domain) > maxName {
		return // nobody looked for policies: there is nothing to say about them
	}
	if o.Result == "" {
		c.counts.success.Add(1)
	} else {
		c.counts.failure.Add(1)
	}
	s, hash := c.place(r.Domain)
	s.Lock()
	defer s.Unlock()
	t, found := s.find(r.Domain, c.today(now))
	if !found {
		if n := s.refusalAt(hash); n.hash == hash && now.Unix() < n.until {
			return
		}
		if t = c.begin(s, r.Domain, now); t == nil {
			c.counts.uncounted.Add(1)
			return
		}
	}
	before := t.cost
	t.session(o, c.cost.Load() < MaxCounted)
	t.dirty = true
	if t.cost != before {
		c.cost.Add(t.cost - before)
	}
}

func (s *shard) find(domain string, day int64) (*tally, bool) {
	t, found := s.days[day][domain]
	return t, found
}

// begin makes the tally of a domain that is new today, and has the domain asked
// about. nil: there is no room. s is locked.
func (c *counter) begin(s *shard, domain string, now time.Time) *tally {
	if c.domains.Load() >= MaxDomains || c.unknown.Load() >= MaxUnknown || c.cost.Load() >= MaxCounted {
		return nil
	}
	t := &tally{}
	c.put(s, domain, c.today(now), t)
	c.inquire(domain, t)
	return t
}

// put takes a tally in. s is locked.
func (c *counter) put(s *shard, domain string, day int64, t *tally) {
	names := s.days[day]
	if names == nil {
		names = make(map[string]*tally)
		s.days[day] = names
	}
	names[strings.Clone(domain)] = t
	t.cost += domainCost + int64(len(domain))
	c.domains.Add(1)
	c.cost.Add(t.cost)
	if !t.asks {
		c.unknown.Add(1)
	}
}

// drop forgets a tally. s is locked.
func (c *counter) drop(s *shard, domain string, day int64, t *tally) {
	names := s.days[day]
	delete(names, domain)
	if len(names) == 0 {
		delete(s.days, day)
	}
	c.domains.Add(-1)
	c.cost.Add(-t.cost)
	if !t.asks {
		c.unknown.Add(-1)
	}
}

// inquire hands a domain over to be asked about, if there is room.
func (c *counter) inquire(domain string, t *tally) {
	select {
	case c.ask <- domain:
		t.asking = true
	default: // the sweep tries again
	}
}

// session adds one session to the policies that it says something about.
//
// A policy that could not be had or used is a failure of that policy, whatever
// became of the session; one that holds although no newer could be had counts as
// two, one of them without its text. The session itself counts for the policy
// that was applied: the TLSA records of the host where they were, else MTA-STS
// (RFC 7672 and RFC 8461 2: DANE goes before), else none. A host that is passed
// over because its policy could not be had has no session.
func (t *tally) session(o *Session, room bool) {
	applied := o.applied()
	troubled, passed := false, false
	for i := range o.Route.Policies {
		p := &o.Route.Policies[i]
		if p.Trouble == "" || !o.concerns(p) {
			continue
		}
		what := *p
		if holds(p) {
			what.Strings, what.MXHosts = nil, nil
		}
		into := t.under(&what, room)
		if into == nil {
			continue
		}
		troubled, passed = true, passed || p.Trouble == o.Result
		into.failure++
		t.cost += into.fail(o.detail(p.Trouble), "", p.Reason, room)
		if p.Trouble != o.Result && o.Result != "" && applied == nil {
			t.cost += into.fail(o.detail(o.Result), o.Helo, o.Reason, room)
		}
	}
	switch {
	case passed || applied == nil && troubled:
		return
	case applied == nil:
		applied = &mta.TLSPolicy{Type: typeNone, Domain: o.Route.Domain}
	}
	into := t.under(applied, room)
	switch {
	case into == nil:
	case o.Result == "":
		into.success++
	default:
		into.failure++
		t.cost += into.fail(o.detail(o.Result), o.Helo, o.Reason, room)
	}
}

// holds reports whether a policy counts although something is wrong: one that is
// known from before and has not expired (RFC 8461 5.1).
func holds(p *mta.TLSPolicy) bool {
	return p.Trouble == "" || p.Type == typeSTS && len(p.Strings) > 0
}

func (o *Session) detail(result string) detailKey {
	host := o.Host
	if len(host) > maxName {
		host = host[:maxName]
	}
	return detailKey{result: result, host: host, ip: o.IP, from: o.From}
}

// applied gives the policy that the session was held to; nil: none.
func (o *Session) applied() *mta.TLSPolicy {
	var none, sts, tlsa *mta.TLSPolicy
	for i := range o.Route.Policies {
		p := &o.Route.Policies[i]
		switch {
		case !holds(p) || !o.concerns(p):
		case p.Type == typeTLSA && tlsa == nil:
			tlsa = p
		case p.Type == typeSTS && sts == nil:
			sts = p
		case p.Type == typeNone && none == nil:
			none = p
		}
	}
	switch {
	case tlsa != nil && o.Demand.Origin != mta.TLSBySTS:
		return tlsa
	case sts != nil:
		return sts
	}
	return none
}

// concerns reports whether a policy is about the host of the session: TLSA
// records are one host's (RFC 7672 2.2.3: under its own name, or that which its
// aliases lead to). Where the host's demand comes from records that cannot be
// used, they are those that stand under no other host's name.
func (o *Session) concerns(p *mta.TLSPolicy) bool {
	switch {
	case p.Type != typeTLSA || p.Domain == o.Host:
		return true
	case o.Demand.DANE != nil:
		return slices.Contains(o.Demand.DANE.Names, p.Domain)
	case o.Demand.Origin != mta.TLSByDANE || p.Trouble == "":
		return false
	}
	return !slices.ContainsFunc(o.Route.Hosts, func(h mta.Host) bool { return h.Name == p.Domain })
}
