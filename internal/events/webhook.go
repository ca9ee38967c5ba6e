package events

// A webhook's road: a loop that owns everything, and a goroutine a request.
//
// Goal: every event at least once, the events of a message in their order, and
// a receiver that is slow, down, or chokes on one event costs only what waits
// for it.
//
// Method: the loop cuts the journal into batches, each a range of it, and
// keeps few of them open. A batch may fly when no earlier open one has a
// message of it. What is acknowledged leaves; the state that is kept in the
// spool is the place of the reading and the ranges that are open, so a crash
// repeats at most what was acknowledged since it was saved last. Bodies are
// read from the journal for each try.
//
// Failures have two clocks. The receiver's (gate): while it fails one request
// at a time probes it, with whichever batch has waited longest, so that one bad
// event cannot pose as a dead receiver. The batch's own (due): it decides when
// a bad one comes again while others get through. A batch that the receiver
// refuses twice is halved, until the bad event is alone; later events of its
// message are kept apart and wait behind it, those of other messages do not.
//
// Rejected: a queue in memory (unbounded, or another way to lose); one cursor
// and one batch at a time (a bad event would stop everything for three days).
//
// Limits: concurrency + 16 batches open (and, while bad ones are halved, 200),
// each of 1,000 events and about 1 MiB at most; the bodies of twice the
// concurrency in memory.

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// webhook is one receiver; run owns all fields below the line.
type webhook struct {
	name  string // as a follower of the feed
	conf  Webhook
	feed  spool.Feed
	log   *slog.Logger
	note  func(ctx context.Context, words string) error
	agent string
	// giveUpAfter is GiveUpAfter.
	giveUpAfter time.Duration
	client      *http.Client
	roots       *x509.CertPool
	told        *telling // what others may read

	// -------------------------------------------------------------------------
	read       spool.Position // what comes next
	open       []*batch       // in the journal's order
	disabled   time.Time      // the receiver answered 410
	flying     int
	answers    chan answer
	more       chan error // of a wait at the end of the journal; nil: none is under way
	rest       time.Time  // no reading before
	failing    int        // how often the receiver has failed since it took something last
	since      time.Time  // when that began
	gate       time.Time  // no request before
	later      time.Time  // when a request may begin by the passing of time
	dirty      bool
	saved      time.Time
	dropped    uint64 // events given up and not noted yet
	why        string
	complained time.Time
	noted      time.Time
}

func newWebhook(o *Options, s *Settings, conf Webhook) *webhook {
	return &webhook{
		name: "webhook " + conf.Name, conf: conf, feed: o.Feed, note: o.Note, agent: "mailout/" + o.Version,
		log: o.Logger.With("webhook", conf.Name), client: newClient(o, s, &conf), roots: s.Roots, told: &telling{kind: "webhook", name: conf.Name},
		answers: make(chan answer, conf.Concurrency), giveUpAfter: cmp.Or(o.giveUp, GiveUpAfter),
	}
}

func (w *webhook) follower() string  { return w.name }
func (w *webhook) telling() *telling { return w.told }

// run sends until ctx ends, then lets the requests under way end until hard
// ends.
func (w *webhook) run(ctx, hard context.Context) {
	defer w.client.CloseIdleConnections()
	if !w.disabled.IsZero() {
		w.log.Warn("the webhook is disabled: its receiver answered 410 Gone; another url, or taking it out and in again, enables it", "since", w.disabled)
	}
	for {
		if ctx.Err() == nil && w.disabled.IsZero() {
			w.fill(ctx)
			w.launch(ctx, hard)
		}
		w.tell()
		w.noteDropped(hard, false)
		w.keep(hard, false)
		if ctx.Err() != nil && w.flying == 0 {
			break
		}
		w.await(ctx, hard)
	}
	last, cancel := lastWords(hard)
	defer cancel()
	w.noteDropped(last, true)
	w.keep(last, true)
	if w.more != nil {
		<-w.more // it ends with ctx
	}
}

// fill opens batches while there is room and something to send.
func (w *webhook) fill(ctx context.Context) {
	if w.more != nil || time.Now().Before(w.rest) {
		return
	}
	for w.room() && ctx.Err() == nil {
		c, next, end, err := w.collect(ctx, w.read, spool.NoFloor, w.conf.Batch, w.stuck())
		if err != nil {
			w.unreadable(ctx, err)
			return
		}
		w.dirty = w.dirty || next != w.read
		if c.count > 0 {
			b := &batch{from: w.read, to: next}
			b.take(&c)
			if len(w.open) >= 2*w.conf.Concurrency {
				b.body = nil // made again when its turn comes
			}
			w.open = append(w.open, b)
			w.overdue(ctx, b, c.newest)
		}
		w.read = next
		if end {
			w.watch(ctx)
		}
		if end || c.count == 0 { // a long way without anything of interest: others first
			return
		}
	}
}

// overdue gives a batch up at once that is as old as those that are given up,
// when the receiver has failed for as long.
func (w *webhook) overdue(ctx context.Context, b *batch, newestRecord time.Time) {
	if w.failing == 0 {
		return
	}
	b.first = newest(w.since, newestRecord)
	if time.Since(b.first) >= w.giveUpAfter {
		w.giveUp(ctx, b, "the receiver has failed since then")
	}
}

func (w *webhook) unreadable(ctx context.Context, err error) {
	const pause = 5 * time.Second
	w.rest = time.Now().Add(pause)
	if ctx.Err() == nil && !errors.Is(err, spool.ErrClosed) {
		w.log.Error("the journal cannot be read for a webhook", mta.KeyError, err)
	}
}

// watch waits for more at the end of the journal.
func (w *webhook) watch(ctx context.Context) {
	more := make(chan error, 1)
	w.more = more
	read := w.read
	go func() { more <- w.feed.Await(ctx, read) }()
}

// launch starts what may start.
func (w *webhook) launch(ctx, hard context.Context) {
	if err := w.sift(ctx); err != nil {
		w.unreadable(ctx, err)
	}
	for {
		w.later = time.Time{}
		if w.flying >= w.conf.Concurrency || w.flying > 0 && w.failing > 0 {
			return
		}
		now := time.Now()
		var b *batch
		if b, w.later = w.ready(now); b == nil {
			return
		}
		if err := w.load(ctx, b); err != nil {
			w.unreadable(ctx, err)
			w.gate = newest(w.gate, w.rest)
			w.later = w.gate
			return
		}
		if b.count == 0 { // what it held was damaged, or too old for the journal
			w.remove(b)
			w.dirty = true
			continue
		}
		if b.first.IsZero() {
			b.first = now
		}
		b.flying, b.tried = true, now
		w.flying++
		go func() { w.answers <- w.post(hard, b) }()
	}
}

// load makes the body of a batch that was tried before.
func (w *webhook) load(ctx context.Context, b *batch) error {
	if b.halve {
		if err := w.cut(ctx, b); err != nil {
			return err
		}
	}
	if b.body != nil {
		return nil
	}
	c, _, _, err := w.collect(ctx, b.from, b.to, MaxBatch, nil)
	if err == nil {
		b.take(&c)
	}
	return err
}

// await waits for whatever comes first.
func (w *webhook) await(ctx, hard context.Context) {
	var timer <-chan time.Time
	if d, some := w.nextWake(ctx); some {
		t := time.NewTimer(d)
		defer t.Stop()
		timer = t.C
	}
	done := ctx.Done()
	if ctx.Err() != nil {
		done = nil // known: now the requests under way end
	}
	select {
	case a := <-w.answers:
		w.settle(hard, a)
	case err := <-w.more:
		w.more = nil
		w.rest = time.Now().Add(w.conf.Wait) // others may come
		if err != nil {
			w.unreadable(ctx, err)
		}
	case <-timer:
	case <-done:
	}
}

// nextWake is how long nothing happens by itself; false: for ever.
func (w *webhook) nextWake(ctx context.Context) (time.Duration, bool) {
	var at time.Time
	earliest := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if w.dirty {
		earliest(w.saved.Add(w.pace()))
	}
	if w.dropped > 0 {
		earliest(w.noted.Add(noteEvery))
	}
	if ctx.Err() == nil && w.disabled.IsZero() {
		if w.more == nil && w.room() {
			earliest(newest(w.rest, time.Now()))
		}
		earliest(w.later)
	}
	if at.IsZero() {
		return 0, false
	}
	return max(time.Until(at), time.Millisecond), true
}

// settle takes the end of a request.
func (w *webhook) settle(ctx context.Context, a answer) {
	b := a.b
	b.flying = false
	w.flying--
	b.body = nil
	if ctx.Err() != nil && a.status == 0 || !w.disabled.IsZero() {
		return // cut off by our own end, or of no interest any more
	}
	w.dirty = true
	switch {
	case a.ok():
		w.remove(b)
		w.told.sent.Add(uint64(b.count))
		w.recovered()
	case a.status == http.StatusGone:
		w.disable(ctx)
	default:
		w.failed(ctx, b, &a)
	}
}

// recovered notes that the receiver took something.
func (w *webhook) recovered() {
	const spell = 3 // failures in a row that are the receiver's and not a batch's
	if w.failing >= spell {
		w.log.Info("the webhook's receiver takes events again", "failed_since", w.since)
		for _, b := range w.open {
			b.due = time.Time{}
		}
	}
	w.failing, w.gate = 0, time.Time{}
}

// failed decides what becomes of a batch that was not taken, and when the
// receiver is asked again.
func (w *webhook) failed(ctx context.Context, b *batch, a *answer) {
	now := time.Now()
	w.told.failures.Add(1)
	if w.failing == 0 {
		w.since = now
	}
	if !now.Before(w.gate) { // others that were under way count as one
		w.failing++
		w.gate = now.Add(wait(gateWaits, w.failing))
		w.complain(a)
	}
	if a.after > 0 {
		w.gate = newest(w.gate, now.Add(a.after))
	}
	b.tries++
	b.due = now.Add(wait(batchWaits, b.tries))
	b.halve = b.tries >= 2 && b.count > 1 && a.aboutContent()
	if now.Sub(b.first) >= w.giveUpAfter {
		w.giveUp(ctx, b, a.words())
	}
}

// complain logs the first failure of a row, once a minute at most, and then
// about one an hour.
func (w *webhook) complain(a *answer) {
	const (
		hour   = 12 // of the longest pauses
		minute = time.Minute
	)
	now := time.Now()
	if w.failing == 1 && now.Sub(w.complained) < minute || w.failing > 1 && w.failing%hour != len(gateWaits) {
		return
	}
	w.complained = now
	w.log.Warn("a webhook's receiver did not take events; they stay in the journal and are sent again",
		mta.KeyReason, a.words(), "failures", w.failing, mta.KeyNext, mta.FormatTime(w.gate))
}

// giveUp lets a batch go that was tried for as long as any.
func (w *webhook) giveUp(ctx context.Context, b *batch, why string) {
	w.remove(b)
	w.dirty = true
	w.told.givenUp.Add(uint64(b.count))
	w.dropped += uint64(b.count)
	w.why = why
	w.noteDropped(ctx, false)
}

// noteDropped tells of what was given up: at once, and then once an hour, or
// at the end. More lines would be events for the same receiver.
func (w *webhook) noteDropped(ctx context.Context, now bool) {
	if w.dropped == 0 || !now && time.Since(w.noted) < noteEvery {
		return
	}
	words := fmt.Sprintf("webhook %s: %d events were given up, after being tried for %s: %s", w.conf.Name, w.dropped, w.giveUpAfter, w.why)
	w.noted, w.dropped = time.Now(), 0
	w.log.Error("events were given up", mta.KeyReason, words)
	w.write(ctx, words)
}

// disable ends the webhook for good: its receiver says that it is gone.
func (w *webhook) disable(ctx context.Context) {
	w.disabled, w.open = time.Now().UTC().Truncate(time.Millisecond), nil
	words := fmt.Sprintf("webhook %s: disabled, because its receiver answered 410 Gone", w.conf.Name)
	w.log.Error("a webhook was disabled", mta.KeyReason, words)
	w.write(ctx, words)
	w.keep(ctx, true)
}

// write puts words into the journal.
func (w *webhook) write(ctx context.Context, words string) {
	if w.note == nil {
		return
	}
	if err := w.note(ctx, words); err != nil {
		w.log.Warn("a note about a webhook could not be written to the journal", mta.KeyError, err)
	}
}

// pace is how long the state may wait to be saved: what was only passed costs
// nothing to pass again.
func (w *webhook) pace() time.Duration {
	if len(w.open) == 0 && w.flying == 0 && w.told.sent.Load() == w.told.kept {
		return saveIdle
	}
	return saveEvery
}

// keep saves the state when it is time, or now.
func (w *webhook) keep(ctx context.Context, now bool) {
	if !w.dirty || !now && time.Since(w.saved) < w.pace() {
		return
	}
	sent := w.told.sent.Load()
	w.saved = time.Now()
	if err := w.save(ctx); err != nil {
		w.saved = w.saved.Add(saveAgain)
		if !errors.Is(err, spool.ErrClosed) && ctx.Err() == nil {
			w.log.Error("how far a webhook has got could not be kept; after a restart some events come again", mta.KeyError, err)
		}
		return
	}
	w.dirty, w.told.kept = false, sent
}

// tell publishes where the webhook stands.
func (w *webhook) tell() {
	oldest := time.Time{}
	if len(w.open) > 0 {
		oldest = w.open[0].oldest
	}
	w.told.set(w.floor(), oldest, w.failing > 0, !w.disabled.IsZero())
}
