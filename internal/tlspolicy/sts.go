package tlspolicy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// The policies of domains (MTA-STS, RFC 8461).
//
// Goal: every domain's policy is known when its mail is planned, no mail waits
// for one that is known, and nobody can take a policy away by breaking its host,
// its record, or our memory of it.
//
// Method: a policy that was read holds until its max_age is over, whatever
// happens to its record and its host. While it holds, mail goes by it at once;
// behind that its record is looked at now and then, and the policy is read anew
// when the id is another one, and once a day. Without a policy that holds, mail
// waits for the record, and where there is one for the first fetch; not for long,
// since mail to a domain whose policy cannot be had goes as to one without (RFC
// 8461 3.3). A fetch that failed is not tried again for a while.
//
// Memory is a cache of notes in the spool. A domain whose note cannot be read may
// have had a policy: its mail waits until a new look shows one, or shows that
// there is none, at most lostFor.
//
// Rejected: the policy of a new id before its mail goes out (RFC 8461 5.1 leaves
// that open, and a broken host would hold up mail); but where a policy names none
// or not all of the domain's hosts, the planner asks for Renew.

// The bounds of STS.
const (
	// MaxFetches is how many fetches are on the wire at once.
	MaxFetches = 32
	// maxFlights bounds the fetches that are wanted, those under way included; of
	// those that nobody waits for, a tenth.
	maxFlights = 10_000
	// MaxKnown and maxCost bound what is in memory: domains, and octets.
	MaxKnown = 20_000
	maxCost  = 32 << 20
	// maxKept bounds the notes.
	maxKept = 200_000

	// firstWait is how long mail waits for a policy that is read for the first
	// time.
	firstWait = 20 * time.Second
	// checkEvery is how often the record of a policy that holds is looked at, when
	// there is mail.
	checkEvery = 10 * time.Minute
	// freshFor is how long a look at the record counts as just now.
	freshFor = time.Minute
	// After a fetch that failed the next one waits, each time twice as long.
	firstPause, lastPause = 5 * time.Minute, time.Hour
	// troubleLife bounds how long nobody asks again where DNS gave no answer.
	troubleLife = time.Minute
	// lostFor is how long mail waits at most for the sake of a note that cannot be
	// read.
	lostFor = 4 * time.Hour
	// idleFor is how long a policy that no mail asks for is still refreshed.
	idleFor = 30 * 24 * time.Hour

	httpsPort = 443
)

// Resolver is the part of dns.Resolver that finds policies.
type Resolver interface {
	TXT(ctx context.Context, name string) (dns.Answer[string], error)
	Addresses(ctx context.Context, host string) (dns.Answer[netip.Addr], error)
	A(ctx context.Context, host string) (dns.Answer[netip.Addr], error)
}

// Settings can be replaced at any time.
type Settings struct {
	On              bool           // [tls] mta_sts; off: no domain has a policy
	Port            uint16         // of policy hosts; 0 means 443
	Roots           *x509.CertPool // nil: the system's
	IPv6            bool           // policy hosts are asked at IPv6 addresses too
	PrivateNetworks bool           // and at private ones
}

// STSOptions are what an STS is made of.
type STSOptions struct {
	Resolver Resolver
	Notes    Notes    // nil: nothing is kept beyond the process
	Dial     DialFunc // nil: the network
	Settings Settings
	Logger   *slog.Logger // nil: none
}

// STS knows the MTA-STS policies of domains. It is safe for concurrent use.
type STS struct {
	opts     STSOptions
	log      *slog.Logger
	settings atomic.Pointer[inForce]
	slots    chan struct{} // one token a fetch on the wire
	counts   stsCounts

	life context.Context // ends in Stop
	end  context.CancelFunc
	wg   sync.WaitGroup

	mu struct {
		sync.Mutex
		known   map[string]*known
		cost    int
		flights map[string]*flight
		kept    int // notes, as the last sweep counted them, and those made since
		stopped bool
	}
}

// inForce are settings with what depends on them. Immutable.
type inForce struct {
	Settings
	getter *getter
}

// flight is one look at a domain's record and, if need be, policy.
type flight struct {
	done  chan struct{} // closed when known is set
	known *known
}

// NewSTS makes an STS. It asks nobody before Find.
func NewSTS(o STSOptions) *STS {
	s := &STS{opts: o, log: o.Logger, slots: make(chan struct{}, MaxFetches)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.opts.Dial == nil {
		s.opts.Dial = (&net.Dialer{}).DialContext
	}
	s.life, s.end = context.WithCancel(context.Background())
	s.mu.known, s.mu.flights = map[string]*known{}, map[string]*flight{}
	s.Reconfigure(o.Settings)
	return s
}

// Reconfigure replaces the settings. Fetches under way end by the old ones. What
// is known stays, but for pauses after fetches that failed.
func (s *STS) Reconfigure(to Settings) {
	if to.Port == 0 {
		to.Port = httpsPort
	}
	s.settings.Store(&inForce{to, newGetter(s.opts.Resolver, s.opts.Dial, &to)})
	s.mu.Lock()
	defer s.mu.Unlock()
	for domain, k := range s.mu.known {
		if k.again.IsZero() {
			continue
		}
		eased := *k
		eased.again = time.Time{}
		s.mu.known[domain] = &eased
	}
}

// Start begins to refresh policies that are kept.
func (s *STS) Start(context.Context) {
	if s.opts.Notes == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.mu.stopped {
		s.wg.Go(s.refresh)
	}
}

// Stop ends what is under way and waits for it. Later calls of Find know what is
// known, and fetch nothing.
func (s *STS) Stop() {
	s.mu.Lock()
	s.mu.stopped = true
	s.mu.Unlock()
	s.end()
	s.wg.Wait()
}

// Find gives what is known of a domain's policy. It waits only where none is
// known to hold: for the domain's record and the first fetch, at most 20 seconds
// and until ctx ends.
func (s *STS) Find(ctx context.Context, domain string) DomainSTS { return s.find(ctx, domain, false) }

// Renew is Find that has looked at the domain's record within the last minute,
// and read the policy if its id is new.
func (s *STS) Renew(ctx context.Context, domain string) DomainSTS { return s.find(ctx, domain, true) }

func (s *STS) find(ctx context.Context, domain string, fresh bool) DomainSTS {
	if !s.settings.Load().On {
		return DomainSTS{}
	}
	now := time.Now()
	k, err := s.recall(ctx, domain, now)
	switch {
	case err != nil:
		return s.unread(domain, err)
	case !k.holds(now):
		return s.first(ctx, domain, k, now)
	case fresh && now.Sub(k.checked).Abs() >= freshFor:
		if f := s.begin(domain, true); f != nil {
			if newer, ok := f.wait(ctx); ok && newer != nil {
				k = newer
			}
		}
	case s.due(k, now):
		s.begin(domain, false)
	}
	return k.answer(now)
}

// due reports whether a policy that holds is to be looked at behind the mail: not
// for each message where its record or its host is broken.
func (s *STS) due(k *known, now time.Time) bool {
	since := now.Sub(k.checked).Abs()
	return since >= checkEvery || now.Sub(k.used) >= 24*time.Hour ||
		since >= min(firstPause, max(k.policy.MaxAge, leastLife)/4) && !now.Before(k.refresh(now)) && !now.Before(k.again)
}

// answer is what is known of a domain with or without a policy in force.
func (k *known) answer(now time.Time) DomainSTS {
	if k.holds(now) {
		return DomainSTS{Policy: k.policy, ID: k.id, Fetched: k.fetched, Expires: k.expires()}
	}
	if k == nil || k.trouble == "" {
		return DomainSTS{}
	}
	return DomainSTS{Trouble: k.trouble, Reason: k.reason, Again: k.again}
}

// first answers for a domain of which no policy holds.
func (s *STS) first(ctx context.Context, domain string, k *known, now time.Time) DomainSTS {
	r := s.record(ctx, domain)
	switch {
	case r.err != nil:
		if k.missing(now) {
			return s.unread(domain, r.err)
		}
		unknown := &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseDNS, Text: "nobody knows whether " + domain + " has an MTA-STS policy: " + r.err.Error(), Err: r.err}
		return DomainSTS{Again: now.Add(troubleLife), Unknown: unknown}
	case !r.there:
		s.forget(domain, k)
		return DomainSTS{}
	case r.wrong != "" && !k.missing(now):
		return DomainSTS{Trouble: policyInvalid, Reason: r.wrong}
	case r.wrong != "":
		return s.unread(domain, errors.New(r.wrong))
	}
	if k == nil || !now.Before(k.again) {
		f := s.begin(domain, true)
		if f == nil {
			return s.late(domain, k, "too many policies are being fetched")
		}
		newer, ok := f.wait(ctx)
		switch {
		case !ok:
			return s.late(domain, k, "it could not be had at once, and is still being fetched")
		case newer != nil:
			k = newer
		}
	}
	if now = time.Now(); !k.holds(now) && k.missing(now) {
		return s.unread(domain, errors.New(k.reason))
	}
	return k.answer(now)
}

// late answers where nobody can wait for a policy.
func (s *STS) late(domain string, k *known, why string) DomainSTS {
	now := time.Now()
	if k.missing(now) {
		return s.unread(domain, errors.New(why))
	}
	return DomainSTS{Trouble: fetchFailed, Reason: "the policy of " + domain + ": " + why, Again: now.Add(troubleLife)}
}

// missing reports that the domain may have a policy that we knew and lost.
func (k *known) missing(now time.Time) bool {
	return k != nil && !k.lost.IsZero() && now.Sub(k.lost) < lostFor
}

// unread answers for a domain whose policy cannot be read here.
func (s *STS) unread(domain string, err error) DomainSTS {
	why := "nobody knows the MTA-STS policy of " + domain + " that was kept: it cannot be read"
	if err != nil && err.Error() != "" {
		why += " (" + err.Error() + ")"
	}
	return DomainSTS{Again: time.Now().Add(troubleLife), Against: &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseTLSPolicy, Text: why, Err: err}}
}

// txt is what a domain's record says.
type txt struct {
	id    string
	there bool   // there is one that may be meant
	wrong string // why it does not count
	err   error  // nobody knows
}

// record asks for a domain's record (RFC 8461 3.1).
func (s *STS) record(ctx context.Context, domain string) txt {
	name := "_mta-sts." + domain
	a, err := s.opts.Resolver.TXT(ctx, name)
	if e := dns.AsError(err); e != nil {
		if e.Temporary() {
			return txt{err: e}
		}
		return txt{}
	}
	id, ok := ParseRecord(a.Records)
	if ok {
		return txt{id: id, there: true}
	}
	for _, text := range a.Records {
		if len(text) >= 7 && text[:7] == "v=STSv1" {
			return txt{there: true, wrong: fmt.Sprintf("the TXT records of %s are not one record of MTA-STS with an id of 1 to 32 letters and digits", name)}
		}
	}
	return txt{}
}

// wait gives what the flight found; it reports false when ctx ends first, or the
// time that mail waits.
func (f *flight) wait(ctx context.Context) (*known, bool) {
	ctx, cancel := context.WithTimeout(ctx, firstWait)
	defer cancel()
	select {
	case <-f.done:
		return f.known, true
	case <-ctx.Done():
		return nil, false
	}
}

// begin gives the flight for a domain that mail asks for, a new one if none is
// under way; nil when there are too many. Somebody waits for it, or nobody does.
func (s *STS) begin(domain string, waited bool) *flight { return s.beginFor(domain, waited, true) }

func (s *STS) beginFor(domain string, waited, used bool) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.mu.flights[domain]; f != nil {
		return f
	}
	if n := len(s.mu.flights); s.mu.stopped || n >= maxFlights || !waited && n >= maxFlights/10 {
		return nil
	}
	f := &flight{done: make(chan struct{})}
	s.mu.flights[domain] = f
	s.wg.Go(func() { s.fly(domain, f, used) })
	return f
}
