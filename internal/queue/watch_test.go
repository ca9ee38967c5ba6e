package queue

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mta"
)

// journalOf collects log lines of many goroutines.
type journalOf struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (j *journalOf) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journalOf) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

// Mail that is due and does not move is reported with the reason, a line a
// site, not more than watchLines a minute.
func TestWatchdogReportsWhatDoesNotMove(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		log := &journalOf{}
		w.opts.Logger = slog.New(slog.NewTextHandler(log, nil))
		w.limit = 1
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) { return good(d), 12*time.Minute - time.Second }
		w.up()
		for i := range watchLines + 5 {
			w.send(fmt.Sprintf("a@d%02d.example", i))
			w.send(fmt.Sprintf("b@d%02d.example", i))
		}
		w.wait(9 * time.Minute)
		if log.String() != "" {
			t.Errorf("too early: %s", log)
		}
		w.wait(3 * time.Minute)
		lines := strings.Count(log.String(), `msg="mail is due and does not move"`)
		if lines == 0 || lines > 2*watchLines || !strings.Contains(log.String(), `reason="waits for a connection to d0`) ||
			!strings.Contains(log.String(), `msg="more mail is due and does not move" count=5`) {
			t.Errorf("%d lines: %s", lines, log)
		}
		w.wait(time.Hour)
	})
}
