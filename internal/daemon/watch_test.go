package daemon

import (
	"context"
	"testing"
)

// TestAStoreThatFailsEndsTheDaemon guards that a spool which can write no more
// is not mistaken for one that is merely idle.
func TestAStoreThatFailsEndsTheDaemon(t *testing.T) {
	t.Parallel()
	d := New(Options{})
	failed := make(chan struct{})
	close(failed)
	d.watchStore(context.Background(), failed)
	select {
	case err := <-d.Failed():
		if err == nil {
			t.Error("no reason is given")
		}
	default:
		t.Error("Failed says nothing")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	d.watchStore(ctx, make(chan struct{}))
	if len(d.Failed()) != 0 {
		t.Error("an orderly end is told as a failure")
	}
}
