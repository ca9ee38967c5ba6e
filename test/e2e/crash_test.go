package e2e

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// kills is how many times the daemon is killed; seed makes a run repeatable
// as far as timing allows.
var (
	kills = flag.Int("kills", 10, "how often TestKillNine kills the daemon")
	seed  = flag.Uint64("seed", 0, "seed of TestKillNine; 0 takes a new one")
)

// Sizes of content: in the store, in the file that contents share (above
// 64 KiB), and in a file of its own (above 1 MiB).
const (
	inStore  = 4096
	inShared = 100_000
	inFile   = 1_200_000
)

// TestKillNine kills the daemon at random moments under load through every
// door and starts it again, while one receiver drops the connection after the
// final dot now and then. Every message that was accepted must arrive. A
// message may arrive twice only when its receiver withheld the final reply, or
// when the kill fell between the reply and its record: at most one for each
// session that was open at the kill. Every event of the journal comes out at the
// webhook, whose receiver fails now and then, and stands in the file of events,
// once.
func TestKillNine(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	c := newCrash(t)
	for round := range *kills {
		c.round(round, random)
	}
	if len(c.accepted) == 0 {
		t.Fatal("no message was accepted before a kill: the test proves nothing")
	}
	c.drain()
	v := c.book.judge(c.accepted, c.fine, c.lossy)
	fmt.Printf("result: kill -9 × %d: %v (%d doubled by kills, %d sessions open at the kills; seed %d)\n",
		*kills, v, v.unexplained, c.bound, *seed)
	if v.lost != 0 {
		t.Errorf("lost=%d", v.lost)
	}
	if v.unexplained > c.bound {
		t.Errorf("%d messages came twice without a withheld reply, but only %d sessions were open at the kills", v.unexplained, c.bound)
	}
	noViolationsBut(t, c.fine, "the connection ended inside")
	noViolationsBut(t, c.lossy, "the connection ended inside")
	c.watch.complete(c.d)
}

// crash is a daemon that is killed again and again.
type crash struct {
	t           *testing.T
	d           *daemon
	fine, lossy *mtatest.MX
	domains     []string
	book        *ledger
	watch       *watcher
	accepted    map[string]bool
	bound       int
}

func newCrash(t *testing.T) *crash {
	w := newWorld(t)
	c := &crash{t: t, accepted: map[string]bool{}, book: newLedger(), watch: newWatcher(t)}
	for i := range 50 {
		c.domains = append(c.domains, fmt.Sprintf("d%d.crash.example", i))
	}
	c.fine = w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id"}, c.domains[:40]...)
	c.lossy = w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id", OnMessage: c.book.onMessage, OnEvent: c.book.onEvent}, c.domains[40:]...)
	c.d = w.daemon(c.watch.config()).start()
	return c
}

func (c *crash) to(n int) []string { return []string{"user@" + c.domains[n%len(c.domains)]} }

// round is one life of the daemon under load.
func (c *crash) round(round int, random *rand.Rand) {
	// One rule takes the message and withholds the reply, the other drops it.
	c.lossy.SetRules(
		mtatest.Rule{Stage: mtatest.StageDot, Skip: random.IntN(100), First: 1 + random.IntN(5), Action: mtatest.Action{Drop: true, Keep: true}},
		mtatest.Rule{Stage: mtatest.StageDot, Skip: random.IntN(100), First: 1 + random.IntN(5), Action: mtatest.Action{Drop: true, Reset: true}},
	)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	loads := []*mtatest.Load{
		{Addr: c.d.smtp, Name: fmt.Sprintf("r%d-small", round), Sessions: 20, Size: inStore, To: c.to},
		{Addr: c.d.smtp, Name: fmt.Sprintf("r%d-large", round), Sessions: 4, Size: inShared, To: c.to},
		{Addr: c.d.smtp, Name: fmt.Sprintf("r%d-huge", round), Sessions: 1, Size: inFile, To: c.to},
	}
	results := make([]*mtatest.LoadResult, len(loads))
	for i, load := range loads {
		wg.Go(func() { results[i] = load.Run(ctx) })
	}
	sent := newDoors()
	for i, size := range []int{inStore, inShared} {
		wg.Go(func() { sent.socket(ctx, c.d, fmt.Sprintf("r%d-socket%d", round, i), size, c.to) })
	}
	wg.Go(func() { sent.command(ctx, c.t, c.d, fmt.Sprintf("r%d-send", round), inStore, c.to) })

	pause(ctx, time.Duration(50+random.IntN(1450))*time.Millisecond)
	c.bound += sessionsUntil(c.d.kill, c.fine, c.lossy)
	cancel()
	wg.Wait()
	for _, result := range results {
		for id := range result.Accepted {
			c.accepted[id] = true
		}
	}
	maps.Copy(c.accepted, sent.mu.accepted)
	c.d.start()
}

// sessionsUntil does something that ends every session, and counts those that
// were open before or began meanwhile.
func sessionsUntil(end func(), sinks ...*mtatest.MX) int {
	n := 0
	for _, mx := range sinks {
		s := mx.Stats()
		n += int(s.Open - s.Sessions)
	}
	end()
	for _, mx := range sinks {
		n += int(mx.Stats().Sessions)
	}
	return n
}

// drain waits until the queue is empty.
func (c *crash) drain() {
	c.t.Helper()
	c.lossy.SetRules()
	c.d.drain(3 * time.Minute)
}

func (d *daemon) drain(limit time.Duration) {
	d.t.Helper()
	mtatest.Eventually(d.t, limit, "the queue is empty", func() bool {
		s := d.summary()
		return s["queued"]+s["deferred"]+s["active"] == 0
	})
}
