package standing

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/mta"
)

// What is kept over a restart, and the goroutine that keeps it.
//
// A site that has changed is marked; the goroutine wakes, waits out the pace and
// writes what the marked sites are then. A crash loses the marks of the pace at
// most, and what they stood for is learnt again from the next reply. A note that
// cannot be read counts as none.

const (
	prefix    = "standing/"
	keepPace  = 200 * time.Millisecond
	sweepPace = time.Hour
	keepBatch = 1000 // notes in one write
	keepTime  = 10 * time.Second
	// maxUntold bounds the changes that wait to be told; beyond, only their
	// number is.
	maxUntold = 1000
)

type keeper struct {
	kick chan struct{}
	ctx  context.Context // ends writing
	end  context.CancelFunc
	quit chan struct{}
	done chan struct{}

	mu struct {
		sync.Mutex
		marked  map[string]struct{}
		changes []Change
		untold  int
	}
}

func (k *keeper) init() {
	k.kick = make(chan struct{}, 1)
	k.mu.marked = make(map[string]struct{})
}

// mark notes that a site is to be kept anew.
func (k *keeper) mark(name string) {
	k.mu.Lock()
	k.mu.marked[name] = struct{}{}
	k.mu.Unlock()
	k.wake()
}

// tell notes a change for Options.Changed.
func (k *keeper) tell(c Change) {
	k.mu.Lock()
	if len(k.mu.changes) < maxUntold {
		k.mu.changes = append(k.mu.changes, c)
	} else {
		k.mu.untold++
	}
	k.mu.Unlock()
	k.wake()
}

func (k *keeper) wake() {
	select {
	case k.kick <- struct{}{}:
	default:
	}
}

func (k *keeper) start(ctx context.Context, s *Standing) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	k.ctx, k.end = context.WithCancel(context.WithoutCancel(ctx))
	k.quit, k.done = make(chan struct{}), make(chan struct{})
	go k.run(s)
	return nil
}

func (k *keeper) stop(ctx context.Context) {
	if k.quit == nil {
		return
	}
	defer context.AfterFunc(ctx, k.end)()
	close(k.quit)
	<-k.done
	k.end()
	k.quit = nil
}

func (k *keeper) run(s *Standing) {
	defer close(k.done)
	sweep := time.NewTicker(sweepPace)
	defer sweep.Stop()
	for {
		select {
		case <-k.kick:
			s.keep()
			select { // many changes in one write
			case <-time.After(keepPace):
			case <-k.quit:
			}
		case <-sweep.C:
			s.sweep()
		case <-k.quit:
			s.keep()
			return
		}
	}
}

// keep tells the changes and writes the marked sites.
func (s *Standing) keep() {
	k := &s.keeper
	k.mu.Lock()
	changes, untold, marked := k.mu.changes, k.mu.untold, k.mu.marked
	k.mu.changes, k.mu.untold, k.mu.marked = nil, 0, make(map[string]struct{})
	k.mu.Unlock()
	s.write(marked)
	if untold > 0 {
		s.opts.Logger.Warn("more changes of our standing than can be told", mta.KeyCount, untold)
	}
	if len(changes) > 0 && s.opts.Changed != nil {
		s.opts.Changed(changes)
	}
}

// again marks what could not be written, for the next write: what holds then.
func (k *keeper) again(batch map[string][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name := range batch {
		k.mu.marked[strings.TrimPrefix(name, prefix)] = struct{}{}
	}
}

// write keeps the sites named. Those that could not be written stay marked.
func (s *Standing) write(marked map[string]struct{}) {
	if s.opts.Notes == nil {
		return
	}
	batch := make(map[string][]byte, min(len(marked), keepBatch))
	flush := func() {
		ctx, cancel := context.WithTimeout(s.keeper.ctx, keepTime)
		defer cancel()
		if err := s.opts.Notes.SetNotes(ctx, batch); err != nil {
			s.counts.lost.Add(1)
			s.opts.Logger.Warn("our standing with some sites could not be kept for a restart", mta.KeyCount, len(batch), mta.KeyError, err)
			s.keeper.again(batch)
		}
		clear(batch)
	}
	for name := range marked {
		batch[prefix+name] = s.note(name)
		if len(batch) >= keepBatch {
			flush()
		}
	}
	if len(batch) > 0 {
		flush()
	}
}

// The form of a note. Times are Unix seconds (milliseconds for what is shorter
// than that), durations milliseconds.
type noted struct {
	Router *notedRouter           `json:"router,omitempty"`
	Idle   int64                  `json:"idle,omitempty"`
	From   map[string]notedSource `json:"from,omitempty"`
}

type notedRouter struct {
	On    bool   `json:"on,omitempty"`
	Since int64  `json:"since,omitempty"`
	Why   string `json:"why,omitempty"`
	Wait  int64  `json:"wait"`
	Next  int64  `json:"next,omitempty"`
	Left  int64  `json:"left,omitempty"`
}

type notedSource struct {
	Until   int64   `json:"until,omitempty"`
	Hard    bool    `json:"hard,omitempty"`
	Wait    int64   `json:"wait,omitempty"`
	Why     string  `json:"why,omitempty"`
	Factor  float64 `json:"factor,omitempty"`
	Slowed  int64   `json:"slowed,omitempty"`
	Half    int64   `json:"half,omitempty"`
	SlowWhy string  `json:"slow_why,omitempty"`
}

func toMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// note is what is kept of a site; nil when there is nothing to say.
func (s *Standing) note(name string) []byte {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.mu.sites[name]
	if st == nil || st.spent(now) {
		return nil
	}
	n := noted{Idle: toMS(st.idle)}
	if r := &st.router; r.on || !r.left.IsZero() {
		n.Router = &notedRouter{On: r.on, Since: toMS(r.since), Why: r.why, Wait: r.wait.Milliseconds(), Next: toMS(r.next), Left: toMS(r.left)}
	}
	for key, f := range st.from {
		if f.spent(now) {
			continue
		}
		if n.From == nil {
			n.From = make(map[string]notedSource)
		}
		n.From[key] = notedSource{
			Until: toMS(f.until), Hard: f.hard, Wait: f.wait.Milliseconds(), Why: f.why,
			Factor: f.factor, Slowed: toMS(f.slowed), Half: f.half.Milliseconds(), SlowWhy: f.slowWhy,
		}
	}
	v, err := json.Marshal(n)
	if err != nil {
		return nil // a factor that is no number, which share does not make
	}
	return v
}

// load takes what was kept, at most MaxSites; what cannot be read is forgotten.
func (s *Standing) load(ctx context.Context) error {
	if s.opts.Notes == nil {
		return nil
	}
	now := s.now()
	bad := 0
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.opts.Notes.Notes(ctx, prefix, "", func(name string, v []byte) bool {
		name = strings.TrimPrefix(name, prefix)
		var n noted
		if json.Unmarshal(v, &n) != nil || name == "" {
			bad++
			s.keeper.mark(name)
			return true
		}
		if len(s.mu.sites) < MaxSites {
			s.make(name).fill(&n, now)
		}
		if st := s.mu.sites[name]; st == nil || st.spent(now) {
			s.keeper.mark(name) // its note goes
		}
		return true
	})
	if bad > 0 {
		s.opts.Logger.Warn("notes of our standing with sites cannot be read; it is learnt again", mta.KeyCount, bad)
	}
	if err != nil {
		return fmt.Errorf("read our standing with sites: %w", err)
	}
	return nil
}

// fill takes a note. A clock that was set back, or a damaged number, must not
// suspend for longer than a rule could have.
func (st *site) fill(n *noted, now time.Time) {
	latest := now.Add(MaxFor)
	atMost := func(ms int64) time.Time {
		if t := fromMS(ms); t.Before(latest) {
			return t
		}
		return latest
	}
	short := func(ms int64) time.Duration {
		return min(max(time.Duration(ms)*time.Millisecond, 0), maxProbe)
	}
	st.idle = atMost(n.Idle)
	if r := n.Router; r != nil {
		st.router.on, st.router.since, st.router.why = r.On, fromMS(r.Since), cut(r.Why, maxWhy)
		st.router.wait, st.router.next, st.router.left = short(r.Wait), fromMS(r.Next), atMost(r.Left)
		if last := now.Add(max(st.router.wait, time.Second)); st.router.next.After(last) {
			st.router.next = last
		}
	}
	for key, v := range n.From {
		f := st.of(key, now)
		if f == nil {
			break
		}
		f.until, f.hard, f.wait, f.why = atMost(v.Until), v.Hard, min(short(v.Wait), MaxFor), cut(v.Why, maxWhy)
		if v.Factor > 0 && v.Factor < 1 {
			f.factor, f.slowed, f.half, f.slowWhy = max(v.Factor, leastFactor), atMost(v.Slowed), min(short(v.Half), MaxFor), cut(v.SlowWhy, maxWhy)
		}
	}
}

// counts are what happened since the start.
type counts struct {
	suspensions, slowings, fallbacks, probes, probesFailed, lost atomic.Int64
}
