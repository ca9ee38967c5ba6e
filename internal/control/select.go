package control

import (
	"context"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Selector names deliveries: all conditions that are set must be met.
type Selector struct {
	ID          mta.ID
	Destination string // domain, canonical
	Stream      string
	Sender      string // canonical
	NullSender  bool   // the null return path
	Recipient   string // canonical
	Site        string // as the queue knows it: its route's now, or the last attempt's
	State       *mta.State
	Older       time.Duration // arrived at least so long ago; 0: any
	Newer       time.Duration // arrived at most so long ago; 0: any
	All         bool          // says that no condition is meant
}

// Empty reports that nothing is selected, not even everything.
func (s *Selector) Empty() bool { return *s == Selector{} }

// broad is the selector without what makes a hold of a destination.
func (s *Selector) broad() bool {
	rest := *s
	rest.Destination, rest.Stream = "", ""
	return rest == Selector{}
}

// filter is what the store can select; matches looks at the rest.
func (s *Selector) filter() spool.Filter {
	return spool.Filter{ID: s.ID, Destination: s.Destination, Stream: s.Stream, Sender: s.Sender, Recipient: s.Recipient, State: s.State}
}

// covers looks at what filter selects.
func (s *Selector) covers(d *mta.Delivery) bool {
	m := d.Message
	return (s.ID.IsZero() || s.ID == m.ID) && (s.Stream == "" || s.Stream == d.Destination.Stream) &&
		(s.Destination == "" || strings.EqualFold(s.Destination, d.Destination.Domain)) &&
		(s.Sender == "" || strings.EqualFold(s.Sender, m.Envelope.Sender)) &&
		(s.Recipient == "" || slices.ContainsFunc(d.Recipients, func(r mta.Recipient) bool { return strings.EqualFold(s.Recipient, r.Address) }))
}

// matches looks at a delivery whose state may be another than the store's
// filter saw.
func (s *Selector) matches(d *mta.Delivery, now time.Time) bool {
	age := now.Sub(d.Message.Arrived)
	return (!s.NullSender || d.Message.Envelope.Sender == "") && (s.State == nil || *s.State == d.State) &&
		(s.Older == 0 || age >= s.Older) && (s.Newer == 0 || age <= s.Newer)
}

// sited leaves those whose site is the selected one.
func (c *Controller) sited(ctx context.Context, site string, list []*mta.Delivery) ([]*mta.Delivery, error) {
	if site == "" || len(list) == 0 {
		return list, nil
	}
	why, err := c.opts.Queue.WhyAll(ctx, list)
	if err != nil {
		return nil, err
	}
	out := list[:0]
	for i, d := range list {
		if strings.EqualFold(why[i].Site, site) {
			out = append(out, d)
		}
	}
	return out, nil
}

// each calls f with batches of what an errand is about, in the order of
// arrival. f owns the batch.
func (c *Controller) each(ctx context.Context, e *errand, f func(batch []*mta.Delivery) error) error {
	var failed error
	var batch []*mta.Delivery
	hand := func() bool {
		if batch, failed = c.sited(ctx, e.Select.Site, batch); failed == nil && len(batch) > 0 {
			failed = f(batch)
		}
		batch = nil
		return failed == nil
	}
	err := c.opts.Store.List(ctx, e.Select.filter(), func(d *mta.Delivery) bool {
		if !e.wants(d) {
			return true
		}
		if batch == nil {
			batch = make([]*mta.Delivery, 0, batchSize)
		}
		batch = append(batch, d)
		return len(batch) < batchSize || hand()
	})
	if err == nil && failed == nil {
		hand()
	}
	if failed != nil {
		return failed
	}
	return err
}
