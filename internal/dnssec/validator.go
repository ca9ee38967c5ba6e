package dnssec

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Bounds of the work for one look-up, and of what is kept.
const (
	maxChecks     = 48     // signatures checked
	maxTries      = 4      // for one record set, or digests for one DS record
	maxSignatures = 16     // of one record set that are looked at
	maxQueries    = 32     // for keys and DS records
	maxRounds     = 12_000 // of SHA-1 for NSEC3
	maxIterations = 100    // of NSEC3 (RFC 9276 3.2)
	maxKeys       = 64     // in a zone
	maxDS         = 16     // at a zone cut
	maxDenials    = 8      // NSEC or NSEC3 records of one message
	maxLinks      = 12     // CNAMEs of one message

	maxKept = 24 * 60 * 60 // seconds that anything is kept
	skew    = 5 * 60       // seconds by which clocks may differ

	failureKept  = 5 * time.Second
	insecureKept = time.Minute // where no record says for how long
)

// Options configure a Validator.
type Options struct {
	Anchors Anchors
	Source  Source
	// Private are names of zones that are taken as unsigned, with all below them
	// (negative trust anchors, RFC 7646), but for anchors deeper than they are.
	Private []string
	Now     func() time.Time // nil: time.Now
}

// Validator checks messages. It is safe for concurrent use, and keeps the keys
// of the zones that it met.
type Validator struct {
	anchors Anchors
	source  Source
	private map[string]bool
	clock   func() time.Time
	cuts    cuts
}

// New makes a Validator. Nothing is asked yet.
func New(o Options) *Validator {
	v := &Validator{anchors: o.Anchors, source: o.Source, private: make(map[string]bool, len(o.Private)), clock: o.Now}
	for _, name := range o.Private {
		v.private[dns.CanonicalName(name)] = true
	}
	if v.clock == nil {
		v.clock = time.Now
	}
	v.cuts.init()
	return v
}

// work is one look-up's share: what it asks, and what it has spent.
type work struct {
	*Validator
	ctx  context.Context
	now  time.Time
	name string // looked up

	checks, rounds, queries int
	spent                   bool // a bound was met: what follows from that is true of this look-up alone
}

func (v *Validator) work(ctx context.Context, name string) *work {
	return &work{Validator: v, ctx: ctx, now: v.clock(), name: name}
}

// errSpent is the end of a look-up's share.
var errSpent = errors.New("more questions than are asked for one look-up")

// ask asks for more records. What is not a positive or negative answer is not
// shown to good.
func (w *work) ask(name string, qtype uint16, good func(*dns.Msg) bool) error {
	if w.queries == maxQueries {
		return errSpent
	}
	w.queries++
	return w.source(w.ctx, name, qtype, func(m *dns.Msg) bool {
		return (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) && good(m)
	})
}

// Validate checks a NOERROR or NXDOMAIN message as the answer about a name: the
// CNAMEs from the name on, and the records at their end or the proof that there
// are none. A message that ends at a CNAME is checked that far.
func (v *Validator) Validate(ctx context.Context, m *dns.Msg, name string, qtype uint16) Verdict {
	w := v.work(ctx, dns.CanonicalName(name))
	until, err := w.message(m, qtype)
	if err != nil {
		return verdictOf(err)
	}
	return Verdict{Status: Secure, Until: until}
}

// message follows the message as a reader does: a CNAME comes first.
func (w *work) message(m *dns.Msg, qtype uint16) (time.Time, error) {
	sets, authority := rrsets(m.Answer), rrsets(m.Ns)
	until := w.now.Add(maxKept * time.Second)
	name := w.name
	var worst error // insecure: what follows may be bogus all the same
	note := func(good time.Time, err error) error {
		var t *trouble
		if errors.As(err, &t) && t.status == Insecure {
			worst = err
			return nil
		}
		if err == nil && good.Before(until) {
			until = good
		}
		return err
	}
	links := 0
	for ; ; links++ {
		alias := pick(sets, name, dns.TypeCNAME)
		if alias == nil || qtype == dns.TypeCNAME {
			break
		}
		if links >= maxLinks {
			return until, bogus("%s has too many aliases", w.name)
		}
		if err := note(w.alias(alias, sets, authority)); err != nil {
			return until, err
		}
		name = dns.CanonicalName(alias.rrs[0].(*dns.CNAME).Target)
	}
	set := pick(sets, name, qtype)
	var err error
	switch {
	case set != nil:
		if qtype == dns.TypeCNAME {
			err = note(w.alias(set, sets, authority))
			break
		}
		err = note(w.positive(set, authority))
	case links > 0 && m.Rcode != dns.RcodeNameError && !hasSOA(m.Ns):
		// The server leaves the rest to the next question.
	default:
		err = note(w.negative(authority, name, qtype, m.Rcode == dns.RcodeNameError))
	}
	if err != nil {
		return until, err
	}
	return until, worst
}

func hasSOA(section []dns.RR) bool {
	for _, rr := range section {
		if rr.Header().Rrtype == dns.TypeSOA {
			return true
		}
	}
	return false
}

// home is the name whose zone the records of a name and type are in: a DS set
// is the parent's (RFC 4035 3.1.4.1).
func home(name string, qtype uint16) string {
	if qtype == dns.TypeDS && name != "." {
		return parent(name)
	}
	return name
}

// positive checks a record set of an answer.
func (w *work) positive(s *rrset, authority []*rrset) (time.Time, error) {
	signer, signed := s.signer()
	if !signed {
		z, err := w.zoneOf(home(s.name, s.qtype))
		if err != nil {
			return time.Time{}, err
		}
		return time.Time{}, bogus("the %s records of %s have no signature, although %s is signed", dns.TypeToString[s.qtype], s.name, z.name)
	}
	z, err := w.zone(signer)
	if err != nil {
		return time.Time{}, err
	}
	p, err := w.check(s, z.name, z.keys)
	if err != nil {
		return time.Time{}, err
	}
	encloser, expanded := p.expanded(s)
	if !expanded {
		return p.until, nil
	}
	good, err := w.denier(z, authority).wildcard(s.name, encloser)
	if good.Before(p.until) {
		return good, err
	}
	return p.until, err
}

// alias checks a CNAME: by its signature, or by that of the DNAME that it was
// made from (RFC 6672 5.3.1).
func (w *work) alias(s *rrset, sets, authority []*rrset) (time.Time, error) {
	if len(s.sigs) > 0 {
		return w.positive(s, authority)
	}
	for _, d := range sets {
		if d.qtype != dns.TypeDNAME || d.name == s.name || !dns.IsSubDomain(d.name, s.name) || len(d.rrs) != 1 || len(s.rrs) != 1 {
			continue
		}
		made, fits := substitute(s.name, d.name, dns.CanonicalName(d.rrs[0].(*dns.DNAME).Target))
		if fits && made == dns.CanonicalName(s.rrs[0].(*dns.CNAME).Target) {
			return w.positive(d, authority)
		}
	}
	return w.positive(s, authority)
}

// substitute puts to in the place of from at the end of a name.
func substitute(name, from, to string) (string, bool) {
	head := name[:len(name)-len(from)]
	if from == "." {
		head = name
	}
	if to == "." {
		to = ""
	}
	made := head + to
	_, ok := dns.IsDomainName(made)
	return made, ok
}

// negative checks that a name has no records of a type, or does not exist.
func (w *work) negative(authority []*rrset, name string, qtype uint16, gone bool) (time.Time, error) {
	signer, signed := "", false
	for _, s := range authority {
		if zone, ok := s.signer(); ok && dns.IsSubDomain(zone, home(name, qtype)) && (s.qtype == dns.TypeNSEC || s.qtype == dns.TypeNSEC3) {
			if !signed || dns.CountLabel(zone) > dns.CountLabel(signer) {
				signer, signed = zone, true
			}
		}
	}
	var unproved error
	if signed {
		z, err := w.zone(signer)
		if err != nil {
			return time.Time{}, err
		}
		d := w.denier(z, authority)
		var a absence
		if gone {
			a, err = d.noName(name)
		} else {
			a, err = d.noType(name, qtype)
		}
		if err == nil && a.optOut {
			return time.Time{}, insecure("%s may be an unsigned delegation of %s (opt-out)", name, z.name)
		}
		if err == nil {
			return d.until, nil
		}
		unproved = err
	}
	// A signed zone above may have said something; the name may still lie in an
	// unsigned one below.
	z, err := w.zoneOf(home(name, qtype))
	switch {
	case err != nil:
		return time.Time{}, err
	case unproved != nil:
		return time.Time{}, unproved
	}
	return time.Time{}, bogus("%s is signed, and there is no proof that %s has no %s records", z.name, name, dns.TypeToString[qtype])
}

// Test checks what every chain begins with: that the keys of an anchored zone
// (the root, where it is anchored) can be had and fit an anchor, and that a
// denial comes with its proof. It asks anew. A nil error says that answers can be
// checked; Status tells of others.
func (v *Validator) Test(ctx context.Context) error {
	zone := "."
	if _, ok := v.anchors[zone]; !ok {
		for zone = range v.anchors {
			break
		}
	}
	w := v.work(ctx, zone)
	c := w.apex(zone)
	if c.err != nil {
		return c.err
	}
	v.cuts.put(zone, c)
	var found error
	err := w.ask(zone, dns.TypeTLSA, func(m *dns.Msg) bool {
		_, found = w.negative(rrsets(m.Ns), zone, dns.TypeTLSA, m.Rcode == dns.RcodeNameError)
		return found == nil
	})
	if found != nil {
		return fmt.Errorf("denials come without their proofs: %w", found)
	}
	return err
}

// StatusOf tells bogus from insecure and from what cannot be known now.
func StatusOf(err error) Status { return verdictOf(err).Status }

// Flush forgets the keys of all zones.
func (v *Validator) Flush() { v.cuts.init() }
