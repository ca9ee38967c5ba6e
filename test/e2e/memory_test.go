package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestMemoryStaysNearItsLimit pushes far more mail than limits.memory can hold
// at a destination that takes none: the process stays within the limit by a
// quarter, and what it cannot take it refuses for now, never for good.
func TestMemoryStaysNearItsLimit(t *testing.T) {
	const limit = 128 << 20
	w := newWorld(t)
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "450 4.2.0 later"}}}}, "later.example")
	d := w.daemon("retry = [\"1h\"]\n\n[limits]\nmemory = \"128MiB\"\n")
	d.replace("retry = [\"1s\"]\n", "")
	d.start()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, load := range []mtatest.Load{
		{Addr: d.smtp, Name: "large", Sessions: 20, Messages: 400, Size: 1 << 20, Reconnect: true, To: to("user@later.example")},
		{Addr: d.smtp, Name: "small", Sessions: 20, Messages: 20_000, Size: 1024, Reconnect: true, To: to("user@later.example")},
	} {
		result := load.Run(ctx)
		if len(result.Accepted) == 0 {
			t.Fatalf("%s: nothing was accepted: %v\n%s", load.Name, result.First, d.log())
		}
		if result.Refused > 0 && !isTemporary(result.First) {
			t.Errorf("%s: refused for good: %v", load.Name, result.First)
		}
		t.Logf("%s: %d accepted, %d put off (%v)", load.Name, len(result.Accepted), result.Refused, result.First)
	}
	peak := d.peakMemory()
	fmt.Printf("result: %s: peak resident memory %d MiB at a limit of %d MiB\n", t.Name(), peak>>20, limit>>20)
	if peak > limit+limit/4 {
		t.Errorf("peak resident memory %d MiB", peak>>20)
	}
	d.stop()
}

func to(address string) func(int) []string { return func(int) []string { return []string{address} } }

func isTemporary(err error) bool {
	var refused *mtatest.RefusedError
	return errors.As(err, &refused) && refused.Reply.Code/100 == 4
}
