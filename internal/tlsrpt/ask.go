package tlsrpt

import (
	"context"
	"net/netip"
	"time"

	"mailout/internal/dns"
)

// Which domains ask for reports. Not knowing (DNS has trouble) is no answer: the
// domain is counted on, and asked about again.

// Resolver asks DNS; dns.Resolver is one.
type Resolver interface {
	TXT(ctx context.Context, name string) (dns.Answer[string], error)
	Addresses(ctx context.Context, host string) (dns.Answer[netip.Addr], error)
}

const (
	lookups    = 4                // questions at a time
	askTime    = 30 * time.Second // of one
	askAgain   = time.Minute      // after a question that failed; twice as long after each
	askAgainBy = time.Hour        // the longest
)

// finding is what DNS says of a domain.
type finding uint8

const (
	findTrouble finding = iota // nobody knows
	findNone                   // the domain does not ask
	findTargets
)

// targetsOf asks where a domain wants its reports.
func (r *Reports) targetsOf(ctx context.Context, domain string) ([]Target, finding, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	answer, err := r.opts.Resolver.TXT(ctx, Label+domain)
	if err != nil {
		switch e := dns.AsError(err); e.Kind {
		case dns.NXDomain, dns.NoData, dns.BadName:
			return nil, findNone, nil
		default:
			return nil, findTrouble, e
		}
	}
	list := ParseRecords(answer.Records)
	if len(list) == 0 {
		return nil, findNone, nil
	}
	return list, findTargets, nil
}

// lookUp answers the counter's questions until ctx ends.
func (r *Reports) lookUp(ctx context.Context) {
	for {
		select {
		case domain := <-r.counter.ask:
			_, found, _ := r.targetsOf(ctx, domain)
			if ctx.Err() == nil {
				r.counter.learn(domain, found, r.now())
			}
		case <-ctx.Done():
			return
		}
	}
}

// learn takes in what was found out about a domain.
func (c *counter) learn(domain string, found finding, now time.Time) {
	s, hash := c.place(domain)
	s.Lock()
	defer s.Unlock()
	if found == findNone {
		*s.refusalAt(hash) = refusal{hash, now.Add(silence).Unix()}
	}
	for day, names := range s.days {
		t := names[domain]
		if t == nil {
			continue
		}
		t.asking = false
		switch found {
		case findTrouble:
			t.again = now.Add(pause(askAgain, askAgainBy, t.tries)).Unix()
			t.tries++
		case findTargets:
			if !t.asks {
				t.asks = true
				c.unknown.Add(-1)
			}
		case findNone:
			if t.asks || t.noted > 0 { // it asked before: what holds after the day decides
				t.again = now.Add(silence).Unix()
				continue
			}
			c.drop(s, domain, day, t)
		}
	}
}

// pause is how long to wait after tries that failed: first, then twice as long
// each time, up to most.
func pause(first, most time.Duration, tries int) time.Duration {
	if tries > 20 {
		return most
	}
	return min(first<<tries, most)
}

// sweep has the domains asked about that nobody knows about, and whose time has
// come.
func (c *counter) sweep(now time.Time) {
	for i := range c.shard {
		s := &c.shard[i]
		s.Lock()
		for _, names := range s.days {
			for domain, t := range names {
				if !t.asks && !t.asking && now.Unix() >= t.again {
					c.inquire(domain, t)
				}
			}
		}
		s.Unlock()
	}
}
