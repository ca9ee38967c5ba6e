package daemon

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/config"
	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/suppress"
)

// suppression joins the suppression list to intake and the carrier.
type suppression struct {
	list   *suppress.List
	refuse atomic.Bool // [suppress] answer
}

// buildSuppression makes the list; it needs store and resolver.
func (d *Daemon) buildSuppression(c *config.Config) {
	d.suppression.list = suppress.New(suppress.Options{
		Notes: d.store, Gone: d.domainGone, Classifier: readerOf(c), Settings: suppressSettings(c), Logger: d.log,
	})
	d.suppression.refuse.Store(c.Suppress.Answer == config.SuppressRefuse)
}

// configure takes over a configuration.
func (s *suppression) configure(c *config.Config) {
	s.list.Configure(suppressSettings(c))
	s.refuse.Store(c.Suppress.Answer == config.SuppressRefuse)
	s.list.Classify(readerOf(c))
}

// readerOf are the rules that replies are read by, the operator's before ours.
func readerOf(c *config.Config) *bounce.Classifier {
	classifier, err := c.Classifier()
	if err != nil || classifier == nil { // the check of the configuration told of it
		return bounce.New()
	}
	return classifier
}

func suppressSettings(c *config.Config) suppress.Settings {
	s := suppress.Settings{
		Off: !c.Suppress.Learn, Dead: c.Suppress.Dead, Domain: c.Suppress.Domain,
		Sure: c.Suppress.Sure, Unsure: c.Suppress.Unsure, UnsureWithin: c.Suppress.UnsureWithin, Streams: map[string][]suppress.Reason{},
	}
	for _, one := range c.Streams {
		s.Streams[one.Name] = one.Suppress
	}
	return s
}

// Suppressed implements submit.Suppression.
func (s *suppression) Suppressed(ctx context.Context, address, stream string) string {
	e := s.list.Find(ctx, address, stream)
	if e == nil {
		return ""
	}
	s.list.Stopped(suppress.AtIntake, e)
	return e.Words()
}

// words is what the list says of an address; empty: nothing.
func (s *suppression) words(ctx context.Context, address, stream string) string {
	if e := s.list.Find(ctx, address, stream); e != nil {
		return e.Words()
	}
	return ""
}

// Refuses implements submit.Suppression.
func (s *suppression) Refuses() bool { return s.refuse.Load() }

// atAttempt answers the carrier. Reports of ours go to whoever sends mail: for
// them the list does not count.
func (s *suppression) atAttempt(d *mta.Delivery, recipient string) string {
	if d.Message.Kind != mta.KindMail {
		return ""
	}
	e := s.list.Find(context.Background(), recipient, d.Message.Stream)
	if e == nil {
		return ""
	}
	s.list.Stopped(suppress.AtAttempt, e)
	return e.Words()
}

// goneTime bounds the question whether a domain exists.
const goneTime = 20 * time.Second

// domainGone asks DNS whether a domain does not exist.
func (d *Daemon) domainGone(ctx context.Context, domain string) bool {
	ctx, cancel := context.WithTimeout(ctx, goneTime)
	defer cancel()
	_, err := d.resolver.MX(ctx, domain)
	var no *dns.Error
	return errors.As(err, &no) && no.Kind == dns.NXDomain
}

// hearing lets the suppression list hear what attempts came to.
type hearing struct {
	queue.Planner
	list *suppress.List
}

// Learn implements queue.Planner.
func (h hearing) Learn(route *mta.Route, d *mta.Delivery, a *mta.Attempt) queue.Lesson {
	lesson := h.Planner.Learn(route, d, a) // it may find another route
	h.list.Learn(d, a)
	return lesson
}
