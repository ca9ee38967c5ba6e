package filedoor

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEachStopsAtTheFirstThatMustWait(t *testing.T) {
	t.Parallel()
	items := make([]int, 1000)
	var calls, most, now atomic.Int32
	do := func(fails int32) func(int) bool {
		return func(int) bool {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			return calls.Add(1) != fails
		}
	}
	stop := make(chan struct{})
	if !Each(items, stop, do(0)) || calls.Load() != 1000 || most.Load() > Workers {
		t.Errorf("%d calls, %d at once", calls.Load(), most.Load())
	}
	calls.Store(0)
	if Each(items, stop, do(10)) || calls.Load() > 10+2*Workers {
		t.Errorf("%d calls", calls.Load())
	}
	close(stop)
	calls.Store(0)
	if !Each(items, stop, do(0)) || calls.Load() != 0 {
		t.Errorf("%d calls after the stop", calls.Load())
	}
}

func TestPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		start := time.Now()
		if !Pause(time.Hour, stop) || time.Since(start) != time.Hour {
			t.Error(time.Since(start))
		}
		time.AfterFunc(time.Minute, func() { close(stop) })
		if Pause(time.Hour, stop) || time.Since(start) != time.Hour+time.Minute {
			t.Error(time.Since(start))
		}
	})
}

func TestWaits(t *testing.T) {
	t.Parallel()
	refusal := func(code, class, subject, detail int) error {
		return fmt.Errorf("wrapped: %w", &submit.Refusal{Reply: mta.Reply{Code: code, Enhanced: mta.Enhanced{Class: uint16(class), Subject: uint16(subject), Detail: uint16(detail)}}})
	}
	for _, c := range []struct {
		err            error
		refused, waits bool
	}{
		{nil, false, false}, {errors.New("disk"), false, false}, {submit.ErrTaken, false, false},
		{refusal(452, 4, 3, 1), true, true}, {refusal(451, 4, 3, 0), true, true}, {refusal(552, 5, 3, 4), true, false},
		{refusal(452, 4, 5, 3), true, false}, // too many recipients: it will never have fewer
	} {
		if r, waits := Waits(c.err); (r != nil) != c.refused || waits != c.waits {
			t.Errorf("%v: %v, %v", c.err, r, waits)
		}
	}
}

func TestComplaintsAreSaidOnceAndBounded(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := NewComplaints(slog.New(slog.NewTextHandler(&out, nil)))
	for range 3 {
		c.Tell("a", "x", errors.New("why"))
		c.Tell("a", "y", errors.New("why"))
	}
	if n := strings.Count(out.String(), "\n"); n != 2 {
		t.Errorf("%d lines:\n%s", n, &out)
	}
	for i := range 5 * maxTold {
		c.Tell(fmt.Sprint(i), "x", errors.New("why"))
	}
	if n := len(c.mu.told); n > maxTold {
		t.Errorf("%d remembered", n)
	}
}

func TestWatchTells(t *testing.T) {
	dir := t.TempDir()
	type event struct {
		name string
		what Event
	}
	events := make(chan event, 1000)
	stop := Watch(dir, Arrived|Written|Changed, func(name string, what Event) { events <- event{name, what} })
	if stop == nil {
		t.Skip("the system does not tell")
	}
	defer stop()
	wait := func(name string, what Event) {
		t.Helper()
		limit := time.After(30 * time.Second)
		for {
			select {
			case e := <-events:
				if e == (event{name, what}) {
					return
				}
			case <-limit:
				t.Fatalf("%q %d did not come", name, what)
			}
		}
	}
	odd := filepath.Join(dir, "a\n\xff "+strings.Repeat("n", 200))
	if err := os.WriteFile(filepath.Join(dir, "x"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	wait("x", Changed)
	wait("x", Written)
	if err := os.Rename(filepath.Join(dir, "x"), odd); err != nil {
		t.Fatal(err)
	}
	wait(filepath.Base(odd), Arrived)
	if err := os.Remove(odd); err != nil {
		t.Fatal(err)
	}
	wait(filepath.Base(odd), Changed)
	if Watch(filepath.Join(dir, "none"), Arrived, func(string, Event) {}) != nil {
		t.Error("a directory that is not there is watched")
	}
}
