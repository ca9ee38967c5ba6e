package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync"
	"time"

	"mailout/internal/account"
	"mailout/internal/config"
	"mailout/internal/mta"
	"mailout/internal/submit"
	"mailout/internal/submit/pickup"
)

// pickups are the takers of [[pickup]].
type pickups struct {
	intake submit.Acceptor
	users  *account.Book
	log    *slog.Logger

	mu struct {
		sync.Mutex // held while takers start and stop
		running    []pickupTaker
		stopped    bool
	}
}

type pickupTaker struct {
	settings config.Pickup
	taker    *pickup.Taker
}

// pickupEnd is how long a reload waits for messages of a directory that are
// under way; they are taken later.
const pickupEnd = 10 * time.Second

func (p *pickups) start(ctx context.Context, c *config.Config) error {
	next, err := p.prepare(c)
	if err != nil {
		return err
	}
	p.change(ctx, next)
	return nil
}

// prepare makes takers of what is new or other in the configuration, and keeps
// the rest. Nothing has changed when it fails, or before change.
func (p *pickups) prepare(c *config.Config) ([]pickupTaker, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := make([]pickupTaker, 0, len(c.Pickups))
	for _, s := range c.Pickups {
		if old := p.find(p.mu.running, s); old != nil {
			next = append(next, *old)
			continue
		}
		t := pickup.NewTaker(pickup.Options{
			Directory: s.Directory, Bad: s.Bad, Done: s.Done, Quiet: s.Quiet, Poll: s.Poll,
			Stream: s.Stream, From: s.From, User: p.user(s.User), Intake: p.intake, Logger: p.log,
		})
		if err := t.Prepare(); err != nil {
			return nil, fmt.Errorf("%w: [[pickup]]: %w", ErrConfig, err)
		}
		next = append(next, pickupTaker{s, t})
	}
	return next, nil
}

// user finds the user anew for each message: a reload may change it.
func (p *pickups) user(name string) func() *account.User {
	if name == "" {
		return nil
	}
	gone := &account.User{Name: name} // may send from nowhere
	return func() *account.User {
		if u := p.users.User(name); u != nil {
			return u
		}
		return gone
	}
}

func (*pickups) find(in []pickupTaker, s config.Pickup) *pickupTaker {
	for i := range in {
		if reflect.DeepEqual(in[i].settings, s) {
			return &in[i]
		}
	}
	return nil
}

// change ends the takers that are not among next, then starts those that do not
// run yet: a directory has one at a time.
func (p *pickups) change(ctx context.Context, next []pickupTaker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.mu.stopped { // a reload came too late
		return
	}
	limit, cancel := context.WithTimeout(ctx, pickupEnd)
	defer cancel()
	p.each(p.mu.running, next, func(t pickupTaker) { t.taker.Stop(limit) })
	for _, t := range next {
		if p.find(p.mu.running, t.settings) == nil {
			t.taker.Start(ctx)
			p.log.Info("picking up", mta.KeyPath, t.settings.Directory)
		}
	}
	p.mu.running = next
}

// each does something with those of a list that are not in another, side by
// side.
func (p *pickups) each(list, without []pickupTaker, do func(pickupTaker)) {
	var all sync.WaitGroup
	for _, t := range list {
		if p.find(without, t.settings) == nil {
			all.Go(func() { do(t) })
		}
	}
	all.Wait()
}

// stop ends all.
func (p *pickups) stop(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.each(p.mu.running, nil, func(t pickupTaker) { t.taker.Stop(ctx) })
	p.mu.running, p.mu.stopped = nil, true
}
