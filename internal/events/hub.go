package events

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"sync"
	"time"

	"mailout/internal/spool"
)

// Hub runs the followers that the settings name. Start it once, Stop it once;
// every method may be called from any goroutine.
type Hub struct {
	opts Options

	// life is held by whoever changes what runs; mu inside it, briefly.
	life struct {
		sync.Mutex
		settings         Settings
		started, stopped bool
	}
	mu struct {
		sync.Mutex
		running map[string]*running // by the follower's name
	}
}

// follower is a receiver's loop.
type follower interface {
	follower() string // its name in the spool
	telling() *telling
	// begin finds out where it stands, and makes that durable.
	begin(ctx context.Context, known []spool.Follower) error
	// run works until ctx ends, and lets what is under way end until hard does.
	run(ctx, hard context.Context)
	// same reports whether the settings still ask for what it does.
	same(s *Settings) bool
}

// running is a follower and its goroutine.
type running struct {
	follower
	stop, cut context.CancelFunc // begin nothing new; end what is under way
	done      chan struct{}
}

// NewHub makes a hub; nothing runs before Start.
func NewHub(o Options) *Hub {
	h := &Hub{opts: o}
	h.mu.running = make(map[string]*running)
	h.life.settings = o.Settings
	return h
}

// Start takes up every follower where it stands, makes new ones stand at the
// end of the journal, forgets those that are not in the settings, and runs.
func (h *Hub) Start(ctx context.Context) error {
	h.life.Lock()
	defer h.life.Unlock()
	h.life.started = true
	return h.adopt(ctx)
}

// Reconfigure puts other settings in force. Followers that stay as they are are
// not disturbed; those that change have some seconds for what is under way.
func (h *Hub) Reconfigure(ctx context.Context, s Settings) error {
	h.life.Lock()
	defer h.life.Unlock()
	h.life.settings = s
	if !h.life.started || h.life.stopped {
		return nil
	}
	return h.adopt(ctx)
}

// adopt makes what runs the same as what the settings name. life is held.
func (h *Hub) adopt(ctx context.Context) error {
	want := h.followers()
	var leave []*running
	h.mu.Lock()
	for name, r := range h.mu.running {
		if want[name] != nil && r.same(&h.life.settings) {
			want[name] = nil // runs already
			continue
		}
		leave = append(leave, r)
	}
	h.mu.Unlock()
	const patience = 5 * time.Second
	patient, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	h.end(patient, leave)
	known, err := h.opts.Feed.Followers(ctx)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	var errs []error
	for _, k := range known {
		if _, wanted := want[k.Name]; !wanted {
			h.opts.Logger.Info("a receiver of events is not configured any more", "follower", k.Name)
			errs = append(errs, h.opts.Feed.DropFollower(ctx, k.Name))
		}
	}
	for name, f := range want {
		if f == nil {
			continue
		}
		if err := f.begin(ctx, known); err != nil {
			errs = append(errs, fmt.Errorf("events: %s: %w", name, err))
			continue
		}
		h.run(f)
	}
	return errors.Join(errs...)
}

func (h *Hub) run(f follower) {
	hard, cut := context.WithCancel(context.Background())
	ctx, stop := context.WithCancel(hard)
	r := &running{follower: f, stop: stop, cut: cut, done: make(chan struct{})}
	h.mu.Lock()
	h.mu.running[f.follower()] = r
	h.mu.Unlock()
	go func() {
		defer close(r.done)
		f.run(ctx, hard)
	}()
}

// end ends followers: none begins anything new, and what is under way may end
// until ctx does. life is held.
func (h *Hub) end(ctx context.Context, list []*running) {
	for _, r := range list {
		r.stop()
		stop := context.AfterFunc(ctx, r.cut)
		defer stop()
	}
	for _, r := range list {
		<-r.done
		r.cut()
		h.mu.Lock()
		delete(h.mu.running, r.follower.follower())
		h.mu.Unlock()
	}
}

// followers makes those that the settings name.
func (h *Hub) followers() map[string]follower {
	out := make(map[string]follower)
	for _, conf := range h.life.settings.Webhooks {
		w := newWebhook(&h.opts, &h.life.settings, conf)
		out[w.name] = w
	}
	if conf := h.life.settings.File; conf.Path != "" {
		l := newFileFollower(&h.opts, conf)
		out[l.name] = l
	}
	if conf := h.life.settings.Syslog; conf.URL != "" {
		if l, err := newSyslogFollower(&h.opts, conf); err == nil { // else the configuration was not checked
			out[l.name] = l
		}
	}
	return out
}

// Stop ends every follower: none begins anything new, and what is under way
// may end until ctx does. What a receiver was in the middle of taking then
// comes again after the next start.
func (h *Hub) Stop(ctx context.Context) {
	h.life.Lock()
	defer h.life.Unlock()
	h.life.stopped = true
	h.mu.Lock()
	all := slices.Collect(maps.Values(h.mu.running))
	h.mu.Unlock()
	h.end(ctx, all)
}

// Lost is how many journal entries were removed that a follower had not got.
func (h *Hub) Lost() uint64 {
	if h.opts.Lost == nil {
		return 0
	}
	return h.opts.Lost()
}

// Status tells how every follower fares, by kind and name.
func (h *Hub) Status() []Status {
	h.mu.Lock()
	defer h.mu.Unlock()
	end := h.opts.Feed.End()
	out := make([]Status, 0, len(h.mu.running))
	for _, r := range h.mu.running {
		out = append(out, r.telling().status(end))
	}
	sort.Slice(out, func(i, j int) bool {
		return out[i].Kind < out[j].Kind || out[i].Kind == out[j].Kind && out[i].Name < out[j].Name
	})
	return out
}

// same implements follower.
func (w *webhook) same(s *Settings) bool {
	for i := range s.Webhooks {
		if s.Webhooks[i].Name == w.conf.Name {
			return w.conf.equal(&s.Webhooks[i]) && w.roots.Equal(s.Roots)
		}
	}
	return false
}
