package events

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// state is what a webhook keeps in the spool: how far it has read, and which
// ranges before that are not acknowledged.
type state struct {
	Read spool.Position `json:"read"`
	Open []openState    `json:"open,omitempty"`
	// Shape is of the settings that make batches what they are.
	Shape string `json:"shape"`
	// Disabled is when the receiver answered 410, and Gone is the URL that did.
	Disabled time.Time `json:"disabled,omitzero"`
	Gone     string    `json:"gone,omitempty"`
}

type openState struct {
	From  spool.Position `json:"from"`
	To    spool.Position `json:"to"`
	Tries int            `json:"tries,omitempty"`
	First time.Time      `json:"first,omitzero"`
}

// digest names a text without showing it.
func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

func (w *webhook) shape() string {
	return digest(fmt.Sprint(w.conf.Batch, w.conf.Filter.Events, w.conf.Filter.Streams))
}

// begin finds out where the webhook stands. A new one starts at the end of the
// journal, durably, before anything is sent.
func (w *webhook) begin(ctx context.Context, known []spool.Follower) error {
	end := w.feed.End()
	w.read = end
	for _, f := range known {
		if f.Name == w.name {
			if err := w.restore(ctx, f.State, end); err != nil {
				return err
			}
		}
	}
	return w.save(ctx)
}

// restore takes up a stored state.
func (w *webhook) restore(ctx context.Context, stored []byte, end spool.Position) error {
	var s state
	if err := json.Unmarshal(stored, &s); err != nil {
		w.log.Error("the state of a webhook cannot be read; it begins anew with events from now on", mta.KeyError, err)
		return nil
	}
	if !s.Disabled.IsZero() && s.Gone == digest(w.conf.URL) {
		w.disabled = s.Disabled
		return nil
	}
	if !s.Disabled.IsZero() {
		return nil // another URL: from now on
	}
	if s.Read.Compare(end) > 0 {
		w.log.Error("a webhook had got further than this journal reaches; it begins anew with events from now on", "read", s.Read, "end", end)
		return nil
	}
	w.read = s.Read
	if s.Shape != w.shape() { // other batches: from the first open one on
		if len(s.Open) > 0 {
			w.read = s.Open[0].From
		}
		return nil
	}
	for _, o := range s.Open {
		b := &batch{from: o.From, to: o.To, tries: o.Tries, first: o.First}
		c, _, _, err := w.collect(ctx, b.from, b.to, MaxBatch, nil)
		if err != nil {
			return err
		}
		b.take(&c)
		b.body = nil
		if c.count > 0 {
			w.open = append(w.open, b)
		}
	}
	return nil
}

// floor is the place from which on the journal is still needed.
func (w *webhook) floor() spool.Position {
	switch {
	case !w.disabled.IsZero():
		return spool.NoFloor
	case len(w.open) > 0:
		return w.open[0].from
	}
	return w.read
}

// save makes the state durable.
func (w *webhook) save(ctx context.Context) error {
	s := state{Read: w.read, Shape: w.shape()}
	if !w.disabled.IsZero() {
		s.Disabled, s.Gone = w.disabled, digest(w.conf.URL)
	}
	for _, b := range w.open {
		s.Open = append(s.Open, openState{From: b.from, To: b.to, Tries: b.tries, First: b.first})
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return w.feed.SaveFollower(ctx, spool.Follower{Name: w.name, Floor: w.floor(), State: text})
}

func itoa(n int) string { return strconv.Itoa(n) }

// lastWords is a context for what a follower writes when it ends, also when it
// was cut off.
func lastWords(hard context.Context) (context.Context, context.CancelFunc) {
	const most = 5 * time.Second
	return context.WithTimeout(context.WithoutCancel(hard), most)
}
