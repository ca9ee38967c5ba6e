package httpapi

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http/httptest"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/submit"
)

// swallow is an intake that keeps nothing.
type swallow struct{ octets int }

func (*swallow) Check(context.Context, *submit.Request) error { return nil }

func (s *swallow) Begin(context.Context, *submit.Request) (submit.Draft, error) { return s, nil }

func (s *swallow) Write(p []byte) (int, error) { s.octets += len(p); return len(p), nil }

func (*swallow) Commit(context.Context) (mta.ID, error) { return mta.ID{1}, nil }

func (*swallow) Abort() {}

// TestMemoryOfARequest: what a large request holds at most is what is set aside
// for it. Garbage counts little, for the collector runs often here; in the
// daemon it runs more often when memory gets short.
func TestMemoryOfARequest(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(10))
	limits := Limits{MessageSize: 100 << 20, Recipients: 50}
	file := base64.StdEncoding.EncodeToString(make([]byte, 1<<20))
	text := strings.Repeat("words and words\\n", 1<<20/17)
	for name, body := range map[string]string{
		"a file":         with(`"attachments":[{"name":"a.bin","content":"` + file + `"}]`),
		"a message":      with(`"attachments":[{"name":"a.eml","type":"message/rfc822","content":"` + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("Subject: x\r\n", 90_000))) + `"}]`),
		"text":           instead("text", `"`+text+`"`),
		"text of ü":      instead("text", `"`+strings.Repeat("ü", 1<<19)+`"`),
		"HTML":           strings.Replace(simple, `"text":"Hi"`, `"html":"`+text+`"`, 1),
		"HTML of tags":   strings.Replace(simple, `"text":"Hi"`, `"html":"`+strings.Repeat("<b>", 1<<18)+`"`, 1),
		"raw":            `{"from":"a@example.com","to":"b@example.net","raw":"Subject: x\n\n` + text + `"}`,
		"raw, base64":    `{"from":"a@example.com","to":"b@example.net","raw":"` + base64.StdEncoding.EncodeToString([]byte(strings.Repeat("Subject: x\r\n", 90_000))) + `"}`,
		"large metadata": with(`"metadata":{"a":"` + strings.Repeat(`\u0041`, 1<<17) + `"}`),
	} {
		sink := &swallow{}
		s := NewSender(Options{Intake: sink, Limits: func() Limits { return limits }})
		r := httptest.NewRequest("POST", "/v1/messages", strings.NewReader(body))
		r.Header.Set("Content-Type", typeJSON)
		r = r.WithContext(rest.WithLocal(r.Context()))
		w := httptest.NewRecorder()
		peak := peakOf(func() { s.serveMessage(w, r) })
		factor := float64(peak) / float64(len(body))
		t.Logf("%-14s %d octets become %d: %.1f times held, status %d", name, len(body), sink.octets, factor, w.Code)
		if factor > memoryFactor {
			t.Errorf("%s: %.1f times its size is held, %d are set aside", name, factor, memoryFactor)
		}
	}
}

// peakOf is the most memory that f adds to the heap, as far as can be seen.
func peakOf(f func()) (peak uint64) {
	heap := func() uint64 {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	runtime.GC()
	before := heap()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			if now := heap(); now > before {
				peak = max(peak, now-before)
			}
			select {
			case <-stop:
				return
			default:
				runtime.Gosched()
			}
		}
	}()
	f()
	close(stop)
	<-done
	return peak
}

// watching is an intake that looks at the memory that is held.
type watching struct {
	swallow
	s       *Sender
	mu      sync.Mutex
	checked int64 // the most while messages are checked
	begun   int64 // the most while they are taken
}

func (w *watching) held() int64 {
	w.s.memory.mu.Lock()
	defer w.s.memory.mu.Unlock()
	return w.s.memory.mu.used
}

func (w *watching) Check(context.Context, *submit.Request) error {
	w.checked = max(w.checked, w.held())
	return nil
}

func (w *watching) Begin(context.Context, *submit.Request) (submit.Draft, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.begun = max(w.begun, w.held())
	return &swallow{}, nil
}

// TestMemoryOfABatch: a few octets may ask for large messages, and for many of
// them; what they take is set aside too, and given back.
func TestMemoryOfABatch(t *testing.T) {
	t.Parallel()
	to := strings.Repeat(`{"to":"a@example.net"},`, 99) + `{"to":"a@example.net"}`
	for _, c := range []struct {
		name, body     string
		total          int64
		checked, begun int64 // at least
	}{
		{"one large message", fmt.Sprintf(`{"from":"a@example.com","text":%q,"substitutions":{"a":%q},"recipients":[{"to":"a@example.net"}]}`,
			strings.Repeat("{{a}}", 1000), strings.Repeat("x", 8<<10)), 256 << 20, memoryFactor * 8_000_000, 8 << 20},
		{"many small ones", fmt.Sprintf(`{"from":"a@example.com","text":%q,"recipients":[%s]}`, strings.Repeat("x", 60_000), to), 256 << 20, 0, 100 * 60_000},
		{"many, and little memory", fmt.Sprintf(`{"from":"a@example.com","text":%q,"recipients":[%s]}`, strings.Repeat("x", 60_000), to), 4 << 20, 0, 0},
		{"one larger than the memory", fmt.Sprintf(`{"from":"a@example.com","text":%q,"substitutions":{"a":%q},"recipients":[{"to":"a@example.net"}]}`,
			strings.Repeat("{{a}}", 1000), strings.Repeat("x", 8<<10)), 4 << 20, 4 << 20, 4 << 20},
	} {
		intake := &watching{}
		s := NewSender(Options{Intake: intake, Limits: func() Limits { return Limits{MessageSize: 50 << 20, Recipients: 50} }, Memory: c.total})
		intake.s = s
		r := httptest.NewRequest("POST", "/v1/messages/batch", strings.NewReader(c.body))
		r.Header.Set("Content-Type", typeJSON)
		w := httptest.NewRecorder()
		s.serveBatch(w, r.WithContext(rest.WithLocal(r.Context())))
		if w.Code != 202 || intake.checked < c.checked || intake.begun < c.begun || intake.begun > c.total {
			t.Errorf("%s: %d, held %d and %d: %.200s", c.name, w.Code, intake.checked, intake.begun, w.Body)
		}
		if left := intake.held(); left != 0 {
			t.Errorf("%s: %d octets are not given back", c.name, left)
		}
	}
}

// TestHeadersOfABatchAreBounded: together with the rest, not each by itself.
func TestHeadersOfABatchAreBounded(t *testing.T) {
	t.Parallel()
	b := &Batch{Substitutions: map[string]string{"a": strings.Repeat("x", 1000)}, Recipients: make([]BatchRecipient, 1)}
	for range 4 {
		b.Template.Headers = append(b.Template.Headers, Header{"X-A", strings.Repeat("{{a}}", 400)})
	}
	m, err := b.templates(Limits{MessageSize: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.message(0); err == nil || problemOf(err).Status != 422 {
		t.Errorf("%v", err)
	}
}

// TestMemoryIsShared: requests wait for each other, the first first, and are
// refused when it takes too long.
func TestMemoryIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := &memory{total: 100}
		first, err := m.take(t.Context(), 1000) // all there is
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := m.take(t.Context(), 1); err == nil || problemOf(err).Status != 503 || time.Since(start) != memoryWait {
			t.Errorf("%v after %s", err, time.Since(start))
		}
		var mu sync.Mutex
		var served []int64
		order := func() string {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprint(served)
		}
		for _, n := range []int64{80, 30, 10} {
			go func() {
				release, err := m.take(t.Context(), n)
				mu.Lock()
				served = append(served, n)
				mu.Unlock()
				if err != nil {
					t.Error(err)
					return
				}
				time.Sleep(time.Second)
				release()
			}()
			synctest.Wait()
		}
		first()
		first() // once is enough
		synctest.Wait()
		if order() != "[80]" {
			t.Errorf("%v", order()) // the one of 10 must not overtake that of 30
		}
		time.Sleep(3 * time.Second)
		if got := order(); got != "[80 30 10]" && got != "[80 10 30]" {
			t.Errorf("%v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		hold, _ := m.take(t.Context(), 100)
		cancel()
		if _, err := m.take(ctx, 1); err == nil {
			t.Error("a request that went away has memory")
		}
		hold()
		// One that gives up lets a smaller one behind it through.
		half, _ := m.take(t.Context(), 50)
		ctx, cancel = context.WithCancel(t.Context())
		go func() { _, _ = m.take(ctx, 100) }()
		synctest.Wait()
		start = time.Now()
		time.AfterFunc(time.Second, cancel)
		if small, err := m.take(t.Context(), 10); err != nil || time.Since(start) != time.Second {
			t.Errorf("%v after %s", err, time.Since(start))
		} else {
			small()
		}
		half()
		if release, err := m.take(t.Context(), m.total); err != nil {
			t.Error("memory is not given back")
		} else {
			release()
		}
	})
}

// TestChunkedBodies: a body without a size is bounded as it comes.
func TestChunkedBodies(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for _, size := range []int{0, 100, bodyStart, 300_000, 3 << 20} {
		body := instead("text", `"`+strings.Repeat("x", size)+`"`)
		r := httptest.NewRequest("POST", "/v1/messages", struct{ *strings.Reader }{strings.NewReader(body)})
		r.ContentLength = -1
		r.Header.Set("Content-Type", typeJSON)
		b, err := newBody(r, maxBody(d.limits))
		if err != nil {
			t.Fatal(err)
		}
		content, release, err := d.sender.readAll(b)
		release()
		var p *rest.Problem
		if small := size < 1<<20; small && (err != nil || string(content) != body) || !small && (!errors.As(err, &p) || p.Status != 413) {
			t.Errorf("%d octets: %d, %v", size, len(content), err)
		}
	}
	if d.sender.memory.mu.used != 0 {
		t.Error("memory is not given back")
	}
}
