package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
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

// sizes of content, by round: in the store, and (above 64 KiB) in a file of its own.
var sizes = []int{4096, 4096, 100_000}

// TestKillNine kills the daemon at random moments under load and starts it
// again. Every message that got 250 must arrive. A message may arrive twice
// only when the kill fell between the receiver's reply and its record: at most
// one for each session open at the kill.
func TestKillNine(t *testing.T) {
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", *seed)
	random := rand.New(rand.NewPCG(*seed, 1))
	w := newWorld(t)
	domains := make([]string, 50)
	for i := range domains {
		domains[i] = fmt.Sprintf("d%d.crash.example", i)
	}
	mx := w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id"}, domains...)
	d := w.daemon("").start()

	accepted := map[string]string{}
	bound := 0
	for round := range *kills {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		done := make(chan *mtatest.LoadResult, 1)
		load := mtatest.Load{
			Addr: d.smtp, Name: fmt.Sprintf("round%d", round), Sessions: 20, Size: sizes[round%len(sizes)],
			To: func(n int) []string { return []string{"user@" + domains[n%len(domains)]} },
		}
		go func() { done <- load.Run(ctx) }()
		afterRandomTime(ctx, random)
		sessions := int(mx.Stats().Open)
		d.kill()
		cancel()
		for id, queued := range (<-done).Accepted {
			accepted[id] = queued
		}
		bound += sessions
		d.start()
	}
	if len(accepted) == 0 {
		t.Fatal("no message was accepted before a kill: the test proves nothing")
	}
	uncertain := drain(t, d, mx, accepted)
	lost, doubled := compare(accepted, mx.Seen())
	fmt.Printf("result: kill -9 × %d: accepted=%d lost=%d doubled=%d uncertain=%d (bound %d, seed %d)\n",
		*kills, len(accepted), lost, doubled, uncertain, bound, *seed)
	if lost != 0 {
		t.Errorf("lost=%d", lost)
	}
	if doubled > bound+uncertain {
		t.Errorf("doubled=%d, but only %d sessions were open at the kills and %d attempts were uncertain", doubled, bound, uncertain)
	}
	d.stop()
}

// afterRandomTime lets the load run for 50 to 1,500 ms.
func afterRandomTime(ctx context.Context, random *rand.Rand) {
	timer := time.NewTimer(time.Duration(50+random.IntN(1450)) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// drain waits until every accepted message has arrived and the queue is empty,
// and gives the number of uncertain attempts since the last start.
func drain(t *testing.T, d *daemon, mx *mtatest.MX, accepted map[string]string) int {
	t.Helper()
	uncertain := 0
	eventually(t, 3*time.Minute, "the queue is empty", func() bool {
		s := d.summary()
		uncertain = int(s["uncertain"])
		return s["queued"]+s["deferred"]+s["active"] == 0
	})
	return uncertain
}
