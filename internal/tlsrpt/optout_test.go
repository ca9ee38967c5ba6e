package tlsrpt

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestOptOutWhileSending: when reports are turned off, those under way end, and
// no further one is begun.
func TestOptOutWhileSending(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		before := w.start()
		for i := range 4 * workers {
			domain := fmt.Sprintf("d%d.example", i)
			w.ask(domain, "mailto:tls@"+domain)
			before.Count(session(domain))
		}
		time.Sleep(KeepPace + time.Minute)
		before.Stop(t.Context())
		time.Sleep(40 * time.Hour) // all are due
		r := w.start()
		defer r.Stop(t.Context())
		off := w.settings
		off.Send = false
		turnOff := func(changes map[string][]byte) error {
			for name := range changes {
				if strings.HasPrefix(name, jobPrefix) {
					r.Reconfigure(off)
				}
			}
			return nil
		}
		w.notes.mu.Lock()
		w.notes.before = turnOff
		w.notes.mu.Unlock()
		time.Sleep(48 * time.Hour)
		if n := len(w.said()); n == 0 || n > workers {
			t.Errorf("%d reports were sent, with %d workers", n, workers)
		}
		if left := w.notes.names(); len(left) != 0 {
			t.Errorf("left %q", left)
		}
	})
}
