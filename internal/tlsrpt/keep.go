package tlsrpt

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailout/internal/spool"
)

// What is kept over a restart.
//
// The counts of a domain on a day are notes, one a policy:
//
//	tlsrpt/day/2026-11-22/example.com/00
//
// They are written anew, whole, when they have changed: every KeepPace, at Stop,
// and when the day is over, from when on they live in the spool alone. The counts
// of a domain that is not known to ask are kept by the last two only. A crash
// loses what was counted since the last time, and can count nothing twice.

const (
	prefix    = "tlsrpt/"
	dayPrefix = prefix + "day/"
	jobPrefix = prefix + "job/"

	// KeepPace is how often counts are written: what a crash loses at most.
	KeepPace = 5 * time.Minute

	keepTime  = 10 * time.Second // of one write
	keepNotes = 1000             // of one write
	keepSize  = 4 << 20          // octets of one write

	dayLayout = "2006-01-02"
)

// Counts as notes and in the making of a report.
type notedPolicy struct {
	Type    string        `json:"type"`
	Domain  string        `json:"domain,omitempty"`
	Lines   []string      `json:"lines,omitempty"`
	Hosts   []string      `json:"hosts,omitempty"`
	Success uint64        `json:"success,omitempty"`
	Failure uint64        `json:"failure,omitempty"`
	Details []notedDetail `json:"details,omitempty"`
}

type notedDetail struct {
	Result string     `json:"result"`
	Host   string     `json:"host,omitempty"`
	IP     netip.Addr `json:"ip,omitzero"`
	From   netip.Addr `json:"from,omitzero"`
	Helo   string     `json:"helo,omitempty"`
	Reason string     `json:"reason,omitempty"`
	Count  uint64     `json:"count"`
}

// note copies what a policy's tally says.
func (p *policyTally) note() notedPolicy {
	n := notedPolicy{Type: p.kind, Domain: p.domain, Lines: p.lines, Hosts: p.hosts, Success: p.success, Failure: p.failure}
	for k, d := range p.details {
		n.Details = append(n.Details, notedDetail{k.result, k.host, k.ip, k.from, d.helo, d.reason, d.count})
	}
	return n
}

// tally makes of a note what it was.
func (n *notedPolicy) tally() *policyTally {
	p := &policyTally{kind: n.Type, domain: n.Domain, lines: n.Lines, hosts: n.Hosts, success: n.Success, failure: n.Failure}
	for i := range n.Details {
		d := &n.Details[i]
		if p.details == nil {
			p.details = make(map[detailKey]*detail)
		}
		p.details[detailKey{d.Result, d.Host, d.IP, d.From}] = &detail{d.Count, d.Helo, d.Reason}
	}
	return p
}

// encode writes a note. Policies and texts are bounded so that it fits; where
// escapes make it too long all the same, the rarest details are joined.
func (n *notedPolicy) encode() ([]byte, error) {
	n.Lines, n.Hosts = trimmed(n.Lines), trimmed(n.Hosts)
	slices.SortFunc(n.Details, func(a, b notedDetail) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.Result, b.Result), strings.Compare(a.Host, b.Host), a.IP.Compare(b.IP), a.From.Compare(b.From))
	})
	for {
		value, err := json.Marshal(n)
		if err != nil || len(value) <= spool.MaxNoteValue {
			return value, err
		}
		if len(n.Details) == 0 {
			return nil, fmt.Errorf("%d octets are no note", len(value))
		}
		n.Details = joined(n.Details, len(n.Details)/2)
	}
}

// joined leaves the first details and joins the others by their result.
func joined(list []notedDetail, leave int) []notedDetail {
	out := slices.Clone(list[:leave])
	for _, d := range list[leave:] {
		i := slices.IndexFunc(out, func(o notedDetail) bool { return o.Result == d.Result && o.Host == "" && !o.IP.IsValid() })
		if i < 0 {
			out = append(out, notedDetail{Result: d.Result, Count: d.Count})
			continue
		}
		out[i].Count += d.Count
	}
	if len(out) >= len(list) { // nothing to join: what is left is too long by itself
		return out[:leave]
	}
	return out
}

// trimmed leaves of foreign lines what a report has room for.
func trimmed(lines []string) []string {
	n := 0
	for i, s := range lines {
		if n += len(s); n > maxPolicyText {
			return lines[:i]
		}
	}
	return lines
}

// kept is one domain on one day on its way to the spool.
type kept struct {
	day      int64
	domain   string
	policies []notedPolicy
	before   int // notes that there were; those beyond the policies are removed
}

func dayName(day int64) string { return startOf(day).Format(dayLayout) }

func (k *kept) name(i int) string {
	return dayPrefix + dayName(k.day) + "/" + k.domain + "/" + fmt.Sprintf("%02d", i)
}

// parseName reads "2026-11-22/example.com/00", or without the number, which is 0
// then.
func parseName(rest string) (day int64, domain string, n int, ok bool) {
	date, rest, _ := strings.Cut(rest, "/")
	domain, number, _ := strings.Cut(rest, "/")
	n, _ = strconv.Atoi(number)
	t, err := time.Parse(dayLayout, date)
	return dayOf(t), domain, n, err == nil && domain != "" && len(domain) <= maxName && 0 <= n && n < 100
}

// changed copies the tallies of a shard that have changed and that pick wants.
func (s *shard) changed(pick func(day int64, t *tally) bool) (out []kept) {
	s.Lock()
	defer s.Unlock()
	for day, names := range s.days {
		for domain, t := range names {
			if !t.dirty || !pick(day, t) {
				continue
			}
			k := kept{day: day, domain: domain, before: t.noted}
			for _, p := range t.policies {
				k.policies = append(k.policies, p.note())
			}
			t.dirty, t.noted = false, len(t.policies)
			out = append(out, k)
		}
	}
	return out
}

// again marks what could not be written.
func (s *shard) again(list []kept) {
	s.Lock()
	defer s.Unlock()
	for i := range list {
		if t, found := s.find(list[i].domain, list[i].day); found {
			t.dirty, t.noted = true, max(t.noted, list[i].before)
		}
	}
}

// keep writes what pick wants.
func (r *Reports) keep(ctx context.Context, pick func(day int64, t *tally) bool) error {
	var first error
	for i := range r.counter.shard {
		s := &r.counter.shard[i]
		list := s.changed(pick)
		if err := r.write(ctx, list); err != nil {
			s.again(list)
			if first == nil {
				first = err
			}
		}
	}
	return first
}

// write makes the counts of some domains durable, some at a time.
func (r *Reports) write(ctx context.Context, list []kept) error {
	batch, size := map[string][]byte{}, 0
	for i := range list {
		for n := range list[i].policies {
			value, err := list[i].policies[n].encode()
			if err != nil {
				return fmt.Errorf("counts of %s: %w", list[i].domain, err)
			}
			if len(batch) == keepNotes || size+len(value) > keepSize {
				if err := r.set(ctx, batch); err != nil {
					return err
				}
				clear(batch)
				size = 0
			}
			batch[list[i].name(n)] = value
			size += len(value)
		}
		for n := len(list[i].policies); n < list[i].before; n++ {
			batch[list[i].name(n)] = nil
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return r.set(ctx, batch)
}

func (r *Reports) set(ctx context.Context, changes map[string][]byte) error {
	ctx, cancel := context.WithTimeout(ctx, keepTime)
	defer cancel()
	return r.opts.Notes.SetNotes(ctx, changes)
}

// load takes in what earlier processes left: the counts of today, and the days
// that are over as reports to be sent.
func (r *Reports) load(ctx context.Context) error {
	now := r.now()
	today := r.counter.today(now)
	err := r.opts.Notes.Notes(ctx, dayPrefix, "", func(name string, value []byte) bool {
		day, domain, number, ok := parseName(strings.TrimPrefix(name, dayPrefix))
		switch {
		case !ok:
		case day < today:
			r.schedule(day, domain)
		case day == today: // a later day comes when the clock does
			var n notedPolicy
			if json.Unmarshal(value, &n) == nil {
				r.counter.restore(domain, today, number, &n)
			}
		}
		return true
	})
	if err != nil {
		return fmt.Errorf("TLS reports: read what was counted: %w", err)
	}
	return nil
}

// restore adds the counts of a policy that were noted.
func (c *counter) restore(domain string, day int64, number int, n *notedPolicy) {
	s, _ := c.place(domain)
	s.Lock()
	defer s.Unlock()
	t, found := s.find(domain, day)
	if !found {
		if c.domains.Load() >= MaxDomains {
			return
		}
		t = &tally{}
		c.put(s, domain, day, t)
		c.inquire(domain, t)
	}
	p := n.tally()
	t.policies = append(t.policies, p)
	t.noted = max(t.noted, number+1)
	cost := p.cost() + int64(len(p.details))*(detailCost+maxReason)
	t.cost += cost
	c.cost.Add(cost)
}

// over gives the domains of the days that are over.
func (c *counter) over(today int64) (out []kept) {
	for i := range c.shard {
		s := &c.shard[i]
		s.Lock()
		for day, names := range s.days {
			if day >= today {
				continue
			}
			for domain := range names {
				out = append(out, kept{day: day, domain: domain})
			}
		}
		s.Unlock()
	}
	return out
}

// release forgets a day of a domain whose notes are written; false when it was
// counted on meanwhile.
func (c *counter) release(day int64, domain string) bool {
	s, _ := c.place(domain)
	s.Lock()
	defer s.Unlock()
	t, found := s.find(domain, day)
	if found && t.dirty {
		return false
	}
	if found {
		c.drop(s, domain, day, t)
	}
	return true
}

// endDays writes the counts of days that are over, and schedules their reports.
// What cannot be written stays in memory and is tried again.
func (r *Reports) endDays(ctx context.Context, now time.Time) error {
	c := r.counter
	today := c.today(now)
	if closed := c.closed.Load(); today-1 != closed {
		c.closed.Store(today - 1)
	}
	list := c.over(today)
	if len(list) == 0 {
		return nil
	}
	err := r.keep(ctx, func(day int64, _ *tally) bool { return day < today })
	for _, k := range list {
		if c.release(k.day, k.domain) {
			r.schedule(k.day, k.domain)
		}
	}
	return err
}
