package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

const loadMessages = 10_000

// memoryBound is what the daemon may hold resident under this load.
const memoryBound = 200 << 20

func TestTenThousandToOneDestination(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id"}, "one.example")
	d := w.daemon("").start()
	relay(t, d, mx, func(int) []string { return []string{"user@one.example"} })
}

func TestTenThousandToAThousandDomains(t *testing.T) {
	w := newWorld(t)
	domains := make([]string, 1000)
	for i := range domains {
		domains[i] = fmt.Sprintf("d%d.many.example", i)
	}
	mx := w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id"}, domains...)
	d := w.daemon("").start()
	relay(t, d, mx, func(n int) []string { return []string{"user@" + domains[n%len(domains)]} })
}

// relay pushes the load through and demands each message once, within the
// memory bound.
func relay(t *testing.T, d *daemon, mx *mtatest.MX, to func(int) []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	load := mtatest.Load{Addr: d.smtp, Sessions: 20, Messages: loadMessages, Size: 4096, To: to}
	result := load.Run(ctx)
	if len(result.Accepted) != loadMessages {
		t.Fatalf("%d of %d accepted; first trouble: %v\n%s", len(result.Accepted), loadMessages, result.First, d.log())
	}
	if err := mx.Wait(ctx, loadMessages); err != nil {
		t.Fatalf("%d of %d arrived: %v\n%s", len(mx.Seen()), loadMessages, err, d.log())
	}
	mtatest.Eventually(t, time.Minute, "the queue is empty", func() bool {
		s := d.summary()
		return s["queued"]+s["deferred"]+s["active"] == 0
	})
	missing, doubled := compare(result.Accepted, mx.Seen())
	if missing != 0 || doubled != 0 {
		t.Errorf("missing %d, doubled %d", missing, doubled)
	}
	if v := mx.Violations(); len(v) > 0 {
		t.Errorf("the receiver saw %d breaches of the protocol, first: %s", len(v), v[0])
	}
	peak := d.peakMemory()
	fmt.Printf("result: %s: %d messages accepted in %v, peak resident memory %d MB\n", t.Name(), loadMessages, result.Elapsed.Round(time.Millisecond), peak>>20)
	if peak > memoryBound {
		t.Errorf("peak resident memory %d MB", peak>>20)
	}
	d.stop()
}

// compare counts accepted messages that never arrived, and arrivals beyond the
// first.
func compare(accepted map[string]string, seen map[string]int) (missing, doubled int) {
	for id := range accepted {
		if seen[id] == 0 {
			missing++
		}
	}
	for _, n := range seen {
		doubled += n - 1
	}
	return missing, doubled
}
