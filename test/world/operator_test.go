package world

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"mailout/internal/control"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/route"
)

// The operator: commands about what waits, given to whatever process lives, by
// the controller that internal/control is. In the end everything is released
// and goes as configured, so that nothing may be left.

// ordersEnd is when the operator ends all holds and routes.
const ordersEnd = mailingTime + 20*time.Minute

// order is one command, at a moment.
type order struct {
	at time.Duration
	control.Request
}

// operate draws the operator's commands. One seed in three has none.
func (r *run) operate(rng *rand.Rand) {
	if rng.IntN(3) == 0 {
		return
	}
	for range 1 + rng.IntN(8) {
		o := order{at: time.Duration(rng.Int64N(int64(ordersEnd - time.Minute)))}
		m := r.plan.mails[rng.IntN(len(r.plan.mails))]
		rcpt := m.recipients[rng.IntN(len(m.recipients))].Address
		domain := rcpt[strings.LastIndexByte(rcpt, '@')+1:]
		o.Select = []control.Selector{
			{Recipient: rcpt}, {Sender: m.sender, NullSender: m.sender == ""}, {Destination: domain}, {Destination: domain},
			{Stream: "alerts"}, {All: true},
		}[rng.IntN(6)]
		o.By, o.Reason = "ann", fmt.Sprintf("order %d", len(r.plan.orders))
		switch rng.IntN(10) {
		case 0, 1, 2:
			o.Verb, o.Once = queue.VerbHold, rng.IntN(2) == 0
			if o.Select.Destination != "" && !o.Once && rng.IntN(2) == 0 {
				o.Expires = time.Duration(1+rng.IntN(10)) * time.Minute
			}
		case 3, 4:
			o.Verb = queue.VerbRelease
		case 5:
			o.Verb = queue.VerbRetry
		case 6:
			if o.Verb = queue.VerbCancel; o.Select.All || o.Select.Stream != "" {
				o.Select = control.Selector{Recipient: rcpt}
			}
		default:
			o.Verb, o.To, o.Once = queue.VerbReroute, route.ViaDirect, rng.IntN(2) == 0
			if rng.IntN(4) == 0 {
				o.To = control.Default
			}
		}
		r.plan.orders = append(r.plan.orders, o)
	}
	sort.SliceStable(r.plan.orders, func(i, j int) bool { return r.plan.orders[i].at < r.plan.orders[j].at })
	for _, verb := range []queue.Verb{queue.VerbRelease, queue.VerbReroute} {
		r.plan.orders = append(r.plan.orders, order{ordersEnd, control.Request{Verb: verb, To: control.Default, By: "ann", Reason: "the end", Select: control.Selector{All: true}}})
	}
}

// operator gives the commands, each until a living process has carried it out.
func (r *run) operator(ended <-chan struct{}, current func() *process) {
	defer r.operated.Store(true)
	for _, o := range r.plan.orders {
		wait := time.After(o.at - time.Since(r.start))
		for done := false; !done; wait = time.After(20 * time.Second) {
			select {
			case <-wait:
			case <-ended:
				return
			}
			p := current()
			if p == nil {
				continue
			}
			_, err := p.control.Run(context.Background(), o.Request, nil)
			done = err == nil && !p.bomb.dead.Load()
			if err != nil && !p.bomb.dead.Load() && !errors.Is(err, queue.ErrStopped) && current() == p {
				r.trip("order %s: %v", o.Reason, err)
				return
			}
		}
	}
}

// desk keeps the files of holds and routes, which are outside the simulated
// disk: each process has a folder, with what the one before it had at its end.
type desk struct {
	folder string
	files  map[string][]byte
}

// orderFiles are what operators leave.
var orderFiles = []string{control.HoldsFile, control.ReroutesFile}

// lay puts the files into a process's folder.
func (d *desk) lay(number int) (dir string, err error) {
	dir = filepath.Join(d.folder, fmt.Sprint(number))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	for name, data := range d.files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
}

// take keeps the files as they are at this moment.
func (d *desk) take(dir string) {
	d.files = make(map[string][]byte)
	for _, name := range orderFiles {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			d.files[name] = data
		} else if !errors.Is(err, fs.ErrNotExist) {
			panic(err)
		}
	}
}

// ruled is the queue as internal/daemon gives it to the controller.
type ruled struct {
	*queue.Queue
	planner *route.Planner
}

// SetReroutes implements control.Queue.
func (q ruled) SetReroutes(list []queue.Reroute) {
	q.planner.Reroute(rules(list))
	q.Queue.SetReroutes(list)
}

func rules(list []queue.Reroute) []route.Reroute {
	out := make([]route.Reroute, len(list))
	for i, r := range list {
		out[i] = route.Reroute{Domain: r.Destination, Stream: r.Stream, To: r.To, Why: r.String()}
	}
	return out
}

// ordered makes the controller's options of what is in a process's folder.
func ordered(dir string, log *slog.Logger) (o control.Options, err error) {
	o = control.Options{File: filepath.Join(dir, control.HoldsFile), RoutesFile: filepath.Join(dir, control.ReroutesFile), Logger: log}
	if o.Holds, err = control.ReadHolds(o.File); err == nil {
		o.Reroutes, err = control.ReadReroutes(o.RoutesFile)
	}
	return o, err
}

// isOrder reports whether a record tells of an operator's command.
func isOrder(r *mta.Record) bool {
	switch r.Event {
	case mta.EventHeld, mta.EventReleased, mta.EventRetried, mta.EventRerouted, mta.EventCancelled:
		return true
	}
	return false
}

// touched reports whether an operator had to do with a recipient.
func (h *history) touched() bool { return slices.ContainsFunc(h.all, isOrder) }

// obeyed: nothing goes out between a hold and its release, nor after a cancel;
// and what is held is not deferred, delivered or failed meanwhile. An arrival
// that an uncertain attempt began before may come later.
func (c *checker) obeyed(h *history) {
	var held *mta.Record
	uncertain := false
	for _, r := range h.all {
		uncertain = uncertain || r.Uncertain
	}
	for i, r := range h.all {
		switch r.Event {
		case mta.EventHeld:
			if held != nil {
				c.fail(h, "held twice")
			}
			held = r
			continue
		case mta.EventReleased:
			if held == nil {
				c.fail(h, "released, and was not held")
			}
			held = nil
		case mta.EventRetried:
			if held != nil {
				c.fail(h, "retried while it was held")
			}
		case mta.EventRerouted:
			continue
		case mta.EventCancelled:
			if i != len(h.all)-1 {
				c.fail(h, "goes on after it was cancelled")
			}
			held = r
			continue
		default:
			if held != nil {
				c.fail(h, "%s while it was held", r.Event)
			}
		}
	}
	if held != nil && !uncertain { // for ever
		c.silent(h, held, nil)
	}
	for i, r := range h.all {
		if r.Event == mta.EventHeld && !uncertain {
			c.silent(h, r, next(h.all[i+1:]))
		}
	}
}

// next is the end of a hold.
func next(list []*mta.Record) *mta.Record {
	for _, r := range list {
		if r.Event == mta.EventReleased {
			return r
		}
	}
	return nil
}

// silent: no arrival between two records, as the world saw them.
func (c *checker) silent(h *history, from, to *mta.Record) {
	begin, known := c.r.mu.noted[keyOf(from)]
	if !known {
		return
	}
	for _, a := range h.arrivals {
		if a.Machine >= begin.process && a.Time.After(begin.at) && (to == nil || a.Time.Before(c.r.mu.noted[keyOf(to)].at)) {
			c.fail(h, "arrived at %s, and was %s at %s", a.Time.Format(time.TimeOnly), from.Event, begin.at.Format(time.TimeOnly))
		}
	}
}

// facts: what the application said beside the content comes back on every
// record, and the first attempt waits for its time.
func (c *checker) facts(h *history, m *mail) {
	for _, r := range append(slices.Clone(h.all), h.accept) {
		if r == nil || slices.Equal(r.Tags, m.tags) && (m.tags == nil) == (r.Metadata == nil) {
			continue
		}
		c.fail(h, "the record %s has the tags %q and metadata %v, not %q", r.Event, r.Tags, r.Metadata, m.tags)
	}
	if len(c.r.plan.jumps) > 0 {
		return
	}
	for _, a := range h.arrivals {
		if early := c.r.start.Add(m.notBefore); m.notBefore > 0 && a.Time.Before(early) {
			c.fail(h, "arrived at %s, not to be sent before %s", a.Time.Format(time.TimeOnly), early.Format(time.TimeOnly))
		}
	}
	for _, r := range h.finals {
		if end := c.r.start.Add(m.expires); m.expires > 0 && r.Event == mta.EventExpired && r.Time.Before(end) && r.Time.Before(c.r.start.Add(patience)) {
			c.fail(h, "expired before %s", end.Format(time.TimeOnly))
		}
	}
}

// schedule gives some of the mail a time to be sent, an expiry, and tags.
func (r *run) schedule(rng *rand.Rand) {
	for i := range r.plan.mails {
		m := &r.plan.mails[i]
		if rng.IntN(8) == 0 {
			m.notBefore = m.at + time.Duration(rng.Int64N(int64(20*time.Minute)))
		}
		if rng.IntN(12) == 0 {
			m.expires = max(m.at, m.notBefore) + time.Duration(1+rng.IntN(30))*time.Minute
		}
		if rng.IntN(4) == 0 {
			m.tags = []string{"tagged", fmt.Sprint(i)}
		}
	}
}

// trip notes what broke while the seed was played.
func (r *run) trip(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.tripped = append(r.mu.tripped, fmt.Sprintf(format, args...))
}

// planned finds the mail that a history is of, or nil.
func (c *checker) planned(h *history) *mail {
	if !strings.HasSuffix(h.messageID, "@app.world.test>") {
		return nil
	}
	for i := range c.r.plan.mails {
		m := &c.r.plan.mails[i]
		if slices.ContainsFunc(m.recipients, func(r mta.Recipient) bool { return r.Address == h.recipient }) {
			return m
		}
	}
	return nil
}
