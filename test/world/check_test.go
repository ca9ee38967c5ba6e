package world

import (
	"bytes"
	"fmt"
	"sort"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// history is everything about one recipient of one message.
type history struct {
	id        mta.ID
	messageID string
	recipient string
	accept    *mta.Record
	finals    []*mta.Record
	all       []*mta.Record // but accepted and bounced
	bounced   []*mta.Record
	arrivals  []*mtatest.Arrival
	notify    mta.Notify
	known     bool // the application was told that the message is safe
}

func (h *history) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s to %s", h.id, h.messageID, h.recipient)
	for i, r := range h.all {
		if i == 3 && len(h.all) > 8 {
			fmt.Fprintf(&b, "\n      … %d more", len(h.all)-6)
		}
		if i >= 3 && i < len(h.all)-3 && len(h.all) > 8 {
			continue
		}
		fmt.Fprintf(&b, "\n      %s %s attempt %d uncertain=%t: %s", r.Time.Format(time.TimeOnly), r.Event, r.Attempt, r.Uncertain, r.Reason)
	}
	for _, a := range h.arrivals {
		fmt.Fprintf(&b, "\n      %s arrived at %s from process %d, answered %q", a.Time.Format(time.TimeOnly+".000"), a.Host, a.Machine, a.Reply)
	}
	return b.String()
}

// checker holds the history of a run to the promises.
type checker struct {
	r        *run
	list     []*history
	byKey    map[string]*history // Message-ID and recipient
	byID     map[mta.ID][]*history
	arrivals []mtatest.Arrival
	crashed  map[int]bool
	excused  map[int]map[string]bool // by process: deliveries repeated because of its crash
	broken   []string
}

func (c *checker) fail(h *history, format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if h != nil {
		s += "\n    " + h.String()
	}
	c.broken = append(c.broken, s)
}

func joined(messageID, recipient string) string { return messageID + " " + recipient }

// check gives every breach of a promise.
func (r *run) check() []string {
	c := &checker{
		r: r, byKey: map[string]*history{}, byID: map[mta.ID][]*history{}, arrivals: r.world.Arrivals(),
		crashed: map[int]bool{}, excused: map[int]map[string]bool{},
	}
	for _, n := range r.mu.crashes {
		c.crashed[n] = true
		c.excused[n] = map[string]bool{}
	}
	c.gather()
	c.knowArrivals()
	for _, s := range r.mu.tripped {
		c.fail(nil, "%s", s)
	}
	for _, left := range r.left {
		c.fail(nil, "stuck: %s", left)
	}
	for _, v := range r.world.Broken() {
		c.fail(nil, "on the wire: %s", v)
	}
	for _, h := range c.list {
		c.oneEnd(h)
		c.duplicates(h)
		c.reported(h)
		c.noticed(h)
		c.fate(h)
		c.obeyed(h)
		if m := c.planned(h); m != nil {
			c.facts(h, m)
		}
	}
	for n, list := range c.excused {
		if len(list) > r.mu.peaks[n] {
			c.fail(nil, "the crash of process %d repeated %d deliveries; it never had more than %d sessions: %v", n, len(list), r.mu.peaks[n], list)
		}
	}
	return c.broken
}

// gather sorts the journal by recipient, and finds everything accepted there.
func (c *checker) gather() {
	for _, r := range c.r.journal {
		k := joined(r.MessageID, r.Recipient)
		h := c.byKey[k]
		if h == nil {
			h = &history{id: r.ID, messageID: r.MessageID, recipient: r.Recipient}
			c.byKey[k] = h
			c.byID[r.ID] = append(c.byID[r.ID], h)
			c.list = append(c.list, h)
		}
		if h.id != r.ID {
			c.fail(h, "one Message-ID, two messages: %s", r.ID)
		}
		switch r.Event {
		case mta.EventAccepted:
			if h.accept != nil {
				c.fail(h, "accepted twice")
			}
			h.accept = r
			continue
		case mta.EventBounced:
			h.bounced = append(h.bounced, r)
			continue
		case mta.EventDelivered, mta.EventRelayed, mta.EventFailed, mta.EventExpired, mta.EventCancelled:
			h.finals = append(h.finals, r)
		}
		h.all = append(h.all, r)
	}
	for _, a := range c.r.mu.accepted {
		for _, rcpt := range a.recipients {
			h := c.byKey[joined(a.messageID, rcpt.Address)]
			if h == nil || h.accept == nil || h.id != a.id {
				c.fail(nil, "lost: %s to %s was accepted by process %d and the journal does not know it", a.messageID, rcpt.Address, a.process)
				continue
			}
			h.known = true
		}
	}
	for _, m := range c.r.plan.mails {
		for _, rcpt := range m.recipients {
			for _, h := range c.list {
				if h.recipient == rcpt.Address && strings.HasSuffix(h.messageID, "@app.world.test>") {
					h.notify = rcpt.Notify
				}
			}
		}
	}
}

// knowArrivals gives every arrival to its recipients' histories.
func (c *checker) knowArrivals() {
	for i := range c.arrivals {
		a := &c.arrivals[i]
		for _, to := range a.To {
			h := c.byKey[joined(a.MessageID, to)]
			if h == nil {
				c.fail(nil, "%s took %s for %s, of which the journal knows nothing", a.Host, a.MessageID, to)
				continue
			}
			if a.From != h.accept.Sender {
				c.fail(h, "came with the return path <%s>, not <%s>", a.From, h.accept.Sender)
			}
			if !a.Whole && strings.HasSuffix(h.messageID, "@app.world.test>") {
				c.fail(h, "came without its end at %s", a.Host)
			}
			h.arrivals = append(h.arrivals, a)
		}
	}
}

// oneEnd: exactly one final state, and nothing after it.
func (c *checker) oneEnd(h *history) {
	switch {
	case h.accept == nil:
		c.fail(h, "the journal has no acceptance")
	case len(h.finals) == 0 && len(c.r.left) == 0:
		c.fail(h, "ended in silence")
	case len(h.finals) > 1:
		c.fail(h, "%d final states", len(h.finals))
	case len(h.finals) == 1 && h.all[len(h.all)-1] != h.finals[0]:
		c.fail(h, "the journal goes on behind the final state")
	}
}

// duplicates: each arrival has a record, of a delivery or of an uncertain one,
// by the process that brought it; one more may have none when that process
// crashed before it could write it. And what is recorded as delivered arrived.
func (c *checker) duplicates(h *history) {
	type events struct {
		arrivals []*mtatest.Arrival
		records  []*mta.Record
	}
	by := map[int]*events{}
	of := func(n int) *events {
		if by[n] == nil {
			by[n] = &events{}
		}
		return by[n]
	}
	for _, a := range h.arrivals {
		of(a.Machine).arrivals = append(of(a.Machine).arrivals, a)
	}
	for _, r := range h.all {
		n, ok := c.r.mu.noted[keyOf(r)]
		if !ok {
			c.fail(h, "a record that nobody settled: %s at %s", r.Event, r.Time)
			continue
		}
		of(n.process).records = append(of(n.process).records, r)
	}
	for process, e := range by {
		c.match(h, process, e.arrivals, e.records)
	}
}

// match gives each record of one process the arrival it speaks of.
func (c *checker) match(h *history, process int, arrivals []*mtatest.Arrival, records []*mta.Record) {
	left := append([]*mtatest.Arrival(nil), arrivals...)
	sort.Slice(left, func(i, j int) bool { return left[i].Time.Before(left[j].Time) })
	var last time.Time
	uncertain := 0
	for _, r := range records {
		last = c.r.mu.noted[keyOf(r)].at
		switch {
		case r.Event == mta.EventDelivered || r.Event == mta.EventRelayed:
			n := len(left) // the latest that had come by then
			for n > 0 && left[n-1].Time.After(last) {
				n--
			}
			if n == 0 {
				c.fail(h, "recorded as %s by process %d, but no receiver has it", r.Event, process)
				continue
			}
			left = append(left[:n-1], left[n:]...)
		case r.Uncertain:
			uncertain++
		}
	}
	// Each uncertain attempt may have brought one, also after we gave it up.
	left = left[min(uncertain, len(left)):]
	switch {
	case len(left) == 0:
	case len(left) == 1 && c.crashed[process] && !left[0].Time.Before(last):
		c.excused[process][h.id.String()+" "+h.recipient[strings.LastIndexByte(h.recipient, '@'):]+" "+left[0].Time.String()] = true
	default:
		c.fail(h, "%d arrivals from process %d without a reason", len(left), process)
	}
}

// reported: a failure tells the sender, once, unless NOTIFY forbids it; with a
// null return path the operator, unless it was a notice to the operator.
func (c *checker) reported(h *history) {
	if len(h.finals) != 1 || h.accept == nil {
		return
	}
	final := h.finals[0]
	failed := final.Event == mta.EventFailed || final.Event == mta.EventExpired
	notice := h.accept.Sender == "" && h.recipient == postmaster
	owed := failed && !notice && h.notify.Wants(mta.NotifyFailure)
	switch {
	case !owed && len(h.bounced) > 0:
		c.fail(h, "a report that nobody is owed")
		return
	case !owed:
		return
	case len(h.bounced) != 1:
		c.fail(h, "%d reports of the failure", len(h.bounced))
		return
	}
	to := h.accept.Sender
	if to == "" {
		to = postmaster
	}
	reports := c.byID[h.bounced[0].Report]
	if len(reports) != 1 || reports[0].accept == nil || reports[0].accept.Report != h.id || reports[0].recipient != to {
		c.fail(h, "the report %s is not a message to %s", h.bounced[0].Report, to)
		return
	}
	for _, a := range reports[0].arrivals {
		if !bytes.Contains(a.Data, []byte(h.recipient)) {
			c.fail(h, "the report does not name the recipient:\n%s", a.Data)
		}
	}
}

// noticed: at most one delay notice, and a report of success where mail was
// handed to a host that does not report itself; both only to those who want it.
func (c *checker) noticed(h *history) {
	if h.accept == nil {
		return
	}
	wants := func(event mta.Notify) bool { return h.accept.Sender != "" && h.notify.Wants(event) }
	delays := 0
	for _, r := range h.all {
		told := r.Report != mta.ID{}
		switch {
		case r.Event == mta.EventDeferred && told:
			delays++
		case r.Event == mta.EventRelayed && told != wants(mta.NotifySuccess):
			c.fail(h, "relayed: told %t", told)
		}
		if told && len(c.byID[r.Report]) != 1 {
			c.fail(h, "the notice %s is no message", r.Report)
		}
	}
	if delays > 1 || delays > 0 && !wants(mta.NotifyDelay) {
		c.fail(h, "%d delay notices", delays)
	}
}

// fate: where the outcome depends on no timing, it is the world's.
func (c *checker) fate(h *history) {
	if len(h.finals) != 1 || !c.r.steady() || h.accept == nil || h.touched() {
		return
	}
	if m := c.planned(h); m != nil && m.expires > 0 {
		return
	}
	at := strings.LastIndexByte(h.recipient, '@')
	want := c.r.world.FateOf(h.recipient[:at], h.recipient[at+1:])
	if strings.HasSuffix(h.messageID, "@"+hostname+">") && want != mtatest.FateFailed {
		return // reports are given up earlier
	}
	got := h.finals[0].Event.String()
	if h.finals[0].Event == mta.EventRelayed { // delivered, to a host that does not report
		got = mta.EventDelivered.String()
	}
	if want != mtatest.FateOpen && got != want.String() {
		s := c.r.world.Site(h.recipient[at+1:])
		c.fail(h, "%s, but site %d (%s) means %s", got, s.Number, strings.Join(s.Faults, ", "), want)
	}
}
