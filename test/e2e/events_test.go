package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"mailout/internal/mtatest"
)

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// watcher gets the events of a daemon in every way: a webhook, the file of
// events, the event stream. Its receiver answers 500 now and then, or not at
// all although it has taken the events.
type watcher struct {
	t      *testing.T
	server *httptest.Server
	file   string

	mu struct {
		sync.Mutex
		rng   *rand.Rand
		every int            // one answer in so many goes wrong; 0: none
		taken map[string]int // events acknowledged
		seen  map[string][]string
		wrong []string // what must not be
	}
}

func newWatcher(t *testing.T) *watcher {
	w := &watcher{t: t, file: filepath.Join(t.TempDir(), "events.jsonl")}
	w.mu.rng, w.mu.every = rand.New(rand.NewPCG(7, 7)), 10
	w.mu.taken, w.mu.seen = map[string]int{}, map[string][]string{}
	w.server = httptest.NewServer(w)
	t.Cleanup(w.server.Close)
	return w
}

// config is what the daemon is told.
func (w *watcher) config() string {
	return fmt.Sprintf(`
[events]
file = %q
rotate_size = "20MB"

[[webhook]]
name = "watcher"
url = %q
secret = %q
wait = "50ms"
`, w.file, w.server.URL, webhookSecret)
}

type webhookEvent struct {
	ID, Type string
	Data     struct{ ID, Event, Recipient string }
}

// ServeHTTP implements http.Handler.
func (w *watcher) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the daemon was killed
	}
	hook, err := webhooks.NewWebhook(webhookSecret)
	if err == nil {
		err = hook.Verify(body, r.Header)
	}
	var list []webhookEvent
	if err == nil {
		err = json.Unmarshal(body, &list)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.mu.wrong = append(w.mu.wrong, err.Error())
		return
	}
	w.ordered(list)
	n := 1
	if w.mu.every > 0 {
		n = w.mu.rng.IntN(w.mu.every)
	}
	if n == 0 && w.mu.rng.IntN(2) == 0 {
		out.WriteHeader(http.StatusInternalServerError)
		return
	}
	for _, e := range list {
		w.mu.taken[e.ID]++
	}
	if n == 0 {
		panic(http.ErrAbortHandler) // taken, and the answer is lost
	}
}

// ordered holds what came to the order of each message's events: one that is
// new here comes behind all that came before, acknowledged or in this request.
func (w *watcher) ordered(list []webhookEvent) {
	here := map[string]bool{}
	for _, e := range list {
		seen := w.mu.seen[e.Data.ID]
		if !slices.Contains(seen, e.ID) {
			for _, earlier := range seen {
				if w.mu.taken[earlier] == 0 && !here[earlier] {
					w.mu.wrong = append(w.mu.wrong, e.ID+" came before "+earlier+" was acknowledged")
				}
			}
			w.mu.seen[e.Data.ID] = append(seen, e.ID)
		}
		here[e.ID] = true
	}
}

// journal gives the IDs of all events, from the event stream.
func (d *daemon) journal() (ids []string) {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p := d.poster()
	p.http.Timeout = 0
	defer p.http.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://mailout/v1/events?after=0", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := p.http.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	in := bufio.NewReader(resp.Body)
	for data := true; ; {
		line, err := in.ReadBytes('\n')
		if err != nil {
			d.t.Fatalf("the event stream of the socket ended: %v", err)
		}
		switch {
		case bytes.HasPrefix(line, []byte("data: ")):
			ids = append(ids, idOf(d.t, line[6:]))
			data = true
		case bytes.HasPrefix(line, []byte("id: ")):
			data = false
		case len(line) == 1 && !data: // a beat: that was all
			return ids
		}
	}
}

// idOf reads the beginning of an event.
func idOf(t *testing.T, line []byte) string {
	t.Helper()
	rest, ok := bytes.CutPrefix(line, []byte(`{"id":"`))
	id, _, ok2 := bytes.Cut(rest, []byte{'"'})
	if !ok || !ok2 || line[len(line)-1] != '\n' {
		t.Fatalf("not an event: %q", line)
	}
	return string(id)
}

// complete waits until everything has arrived everywhere: at the webhook at
// least once, in the file once, whole and in order.
func (w *watcher) complete(d *daemon) {
	w.t.Helper()
	w.mu.Lock()
	w.mu.every = 0
	w.mu.Unlock()
	want := d.journal()
	missing := func() (n int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, id := range want {
			if w.mu.taken[id] == 0 {
				n++
			}
		}
		return n
	}
	mtatest.Eventually(w.t, 5*time.Minute, "every event is at the webhook", func() bool { return missing() == 0 })
	w.mu.Lock()
	twice := 0
	for _, n := range w.mu.taken {
		twice += n - 1
	}
	for _, what := range w.mu.wrong {
		w.t.Error(what)
	}
	w.mu.Unlock()
	w.t.Logf("%d events; %d came to the webhook again", len(want), twice)
	w.filed(d, want)
}

// filed ends the daemon and looks at the file: each event once, and in order.
func (w *watcher) filed(d *daemon, want []string) {
	w.t.Helper()
	done := fmt.Sprintf(`mailout_events_pending{kind="file",name=%q} 0`, w.file)
	mtatest.Eventually(w.t, time.Minute, "the file has all events", func() bool { return strings.Contains(d.metrics(), done) })
	d.stop() // the file is closed, and nothing is being rotated
	if got := w.lines(); !slices.Equal(got, want) {
		w.t.Errorf("%d lines in the file for %d events, each once and in order", len(got), len(want))
	}
}

// lines gives the IDs in the file of events and in those before it.
func (w *watcher) lines() (ids []string) {
	w.t.Helper()
	names, err := filepath.Glob(strings.TrimSuffix(w.file, ".jsonl") + "-*")
	if err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range append(names, w.file) {
		f, err := os.Open(name)
		if err != nil {
			w.t.Fatal(err)
		}
		in := bufio.NewReader(f)
		if strings.HasSuffix(name, ".zst") {
			z, err := zstd.NewReader(f)
			if err != nil {
				w.t.Fatal(err)
			}
			defer z.Close()
			in = bufio.NewReader(z)
		}
		for {
			line, err := in.ReadBytes('\n')
			if err == io.EOF && len(line) == 0 {
				break
			}
			if err != nil {
				w.t.Fatalf("%s: %v", name, err)
			}
			ids = append(ids, idOf(w.t, line))
		}
		f.Close()
	}
	return ids
}

// TestEventsOut: one message, everywhere that events go.
func TestEventsOut(t *testing.T) {
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "near.example")
	watch := newWatcher(t)
	watch.mu.every = 0 // TestKillNine has the failures
	dir, err := os.MkdirTemp("", "mo")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	syslog, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer syslog.Close()
	d := w.daemon(strings.Replace(watch.config(), "[[webhook]]", fmt.Sprintf("syslog = %q\n\n[[webhook]]", "unix://"+filepath.Join(dir, "log")), 1)).start()
	if out := d.must("webhook", "test", "watcher"); !strings.HasPrefix(out, "200 OK") && !strings.HasPrefix(out, "204") {
		t.Errorf("webhook test: %s", out)
	}
	id := d.submit("app@sender.example", []string{"a@near.example", "b@near.example"}, "Subject: x\r\n\r\nx\r\n")
	d.waitEvent(id, "delivered")
	d.drain(30 * time.Second)
	buf := make([]byte, 64<<10)
	for lines := 0; lines < 4; { // the identity's events come as well
		n, err := syslog.Read(buf)
		if err != nil || !bytes.HasPrefix(buf[:n], []byte("<2")) {
			t.Fatalf("%q, %v", buf[:n], err)
		}
		if bytes.Contains(buf[:n], []byte(`"id":"`+id)) {
			lines++
		}
	}
	if n := watch.of(id, d.journal()); n != 4 {
		t.Errorf("%d events of message %s", n, id)
	}
	mtatest.Eventually(t, 30*time.Second, "the metrics know that all was sent", func() bool {
		return strings.Contains(d.metrics(), `mailout_events_pending{kind="webhook",name="watcher"} 0`) && watch.of(id, nil) == 4
	})
	// A reload takes the webhook out, and another one in.
	d.replace(`name = "watcher"`, `name = "other"`)
	d.must("config", "reload")
	id = d.submit("app@sender.example", []string{"c@near.example"}, "Subject: y\r\n\r\ny\r\n")
	d.drain(30 * time.Second)
	mtatest.Eventually(t, 30*time.Second, "the other webhook gets what comes after it", func() bool {
		return watch.of(id, nil) == 2 && !strings.Contains(d.metrics(), `"watcher"`)
	})
	watch.filed(d, d.journal())
}

// of counts a message's events among those given; nil: those that the webhook
// has taken.
func (w *watcher) of(id string, ids []string) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ids == nil {
		ids = slices.Collect(maps.Keys(w.mu.taken))
	}
	for _, e := range ids {
		if strings.HasPrefix(e, id+"-") {
			n++
		}
	}
	return n
}

// metrics reads /metrics from the socket.
func (d *daemon) metrics() string {
	d.t.Helper()
	p := d.poster()
	defer p.http.CloseIdleConnections()
	resp, err := p.http.Get("http://mailout/metrics")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}
