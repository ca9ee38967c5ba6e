package lookup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// service answers as it is told, in place of a network.
type service struct {
	mu     sync.Mutex
	status int
	body   string
	err    error
	asked  []string
	fields http.Header
	wait   time.Duration
}

func (s *service) RoundTrip(r *http.Request) (*http.Response, error) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked, s.fields = append(s.asked, string(body)), r.Header
	status, text, err, wait := s.status, s.body, s.err, s.wait
	s.mu.Unlock()
	if wait > 0 {
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(text)), Request: r}, nil
}

func (s *service) set(status int, body string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status, s.body, s.err = status, body, err
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

func (s *service) table() *HTTP[string] {
	return NewHTTP(HTTPOptions[string]{URL: "https://table.example/x?key=secret", Transport: s, Answer: func(body []byte) (string, time.Duration, error) {
		value, ttl, _ := strings.Cut(string(body), " ")
		if value == "bad" {
			return "", 0, errors.New("bad")
		}
		d, _ := time.ParseDuration(ttl)
		return value, d, nil
	}})
}

// ask asks once: "value", "value (stale)", "none", or the error.
func ask(h *HTTP[string], question string) string {
	a, err := h.Ask(context.Background(), question)
	switch {
	case err != nil:
		return "error: " + err.Error()
	case !a.Found:
		return "none"
	case a.Stale:
		return a.Value + " (stale)"
	}
	return a.Value
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		err    error
		want   string
		ttl    time.Duration
	}{
		{200, "x", nil, "x", DefaultTTL},
		{200, "x 30s", nil, "x", 30 * time.Second},
		{200, "x 1ms", nil, "x", LeastTTL},
		{200, "x 9999h", nil, "x", MostTTL},
		{204, "", nil, "none", DefaultTTL},
		{404, "anything", nil, "none", DefaultTTL},
		{200, "bad", nil, "error: the answer cannot be understood: bad", 0},
		{200, strings.Repeat("x", MaxAnswer+1), nil, "error: the answer is longer than 65536 octets", 0},
		{500, "x", nil, "error: it answers with status 500", 0},
		{301, "x", nil, "error: it answers with status 301", 0},
		{401, "x", nil, "error: it answers with status 401", 0},
		{0, "", errors.New("refused"), "error: refused", 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &service{status: c.status, body: c.body, err: c.err}
			h := s.table()
			if got := ask(h, `{"domain":"a"}`); got != c.want || (h.Err() == nil) != (c.ttl > 0) {
				t.Errorf("%d %.20q: %s, %v", c.status, c.body, got, h.Err())
			}
			if c.ttl == 0 {
				return
			}
			time.Sleep(c.ttl - time.Millisecond)
			ask(h, `{"domain":"a"}`)
			if s.count() != 1 {
				t.Errorf("%d %q: asked again before its time", c.status, c.body)
			}
			time.Sleep(time.Millisecond)
			ask(h, `{"domain":"a"}`)
			if s.count() != 2 || s.asked[0] != `{"domain":"a"}` || s.fields.Get("Content-Type") != "application/json" || s.fields.Get("Authorization") != "" {
				t.Errorf("%d %q: %q %v", c.status, c.body, s.asked, s.fields)
			}
		})
	}
}

// TestHTTPTrouble: old answers hold for a day while the service is down; it is
// not asked all the time; and it is asked again soon enough.
func TestHTTPTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &service{status: 200, body: "x 10s"}
		h := s.table()
		expect := func(question, want string, asked int) {
			t.Helper()
			if got := ask(h, question); got != want || s.count() != asked {
				t.Fatalf("%s: %s, %d asked", question, got, s.count())
			}
		}
		expect("old", "x", 1)
		s.set(503, "", nil)
		time.Sleep(10 * time.Second)
		expect("old", "x (stale)", 2)
		expect("new", "error: it answers with status 503", 2) // and is not asked
		time.Sleep(firstPause)
		expect("new", "error: it answers with status 503", 3)
		time.Sleep(firstPause)
		expect("new", "error: it answers with status 503", 3) // the pause has doubled
		time.Sleep(firstPause)
		expect("new", "error: it answers with status 503", 4)
		for range 10 {
			time.Sleep(lastPause)
			ask(h, "new")
		}
		if s.count() != 14 || h.Err() == nil {
			t.Fatal(s.count(), "asked")
		}
		s.set(200, "y 10s", nil)
		time.Sleep(lastPause)
		expect("old", "y", 15)
		if h.Err() != nil {
			t.Fatal(h.Err())
		}
		s.set(503, "", nil)
		time.Sleep(10*time.Second + StaleTime)
		expect("old", "y (stale)", 16)
		time.Sleep(lastPause)
		expect("old", "error: it answers with status 503", 17)
		s.set(204, "", nil)
		time.Sleep(lastPause)
		expect("old", "none", 18)
	})
}

// TestHTTPOnce: one question is asked once, whoever waits; who is gone does not
// count as the service's trouble; a slow service is given up.
func TestHTTPOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &service{status: 200, body: "x", wait: time.Second}
		h := s.table()
		var all sync.WaitGroup
		var right atomic.Int32
		for range 50 {
			all.Go(func() {
				if ask(h, "q") == "x" {
					right.Add(1)
				}
			})
		}
		all.Wait()
		if s.count() != 1 || right.Load() != 50 {
			t.Errorf("%d asked, %d answers", s.count(), right.Load())
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		defer cancel()
		if _, err := h.Ask(ctx, "gone"); err == nil || h.Err() != nil {
			t.Error(err, h.Err())
		}
		s.wait = time.Minute
		start := time.Now()
		if got := ask(h, "slow"); !strings.HasPrefix(got, "error: ") || time.Since(start) != AskTime || h.Err() == nil {
			t.Error(got, time.Since(start))
		}
	})
}

// TestHTTPToken: the token is read for each request, and trouble with it is the
// table's.
func TestHTTPToken(t *testing.T) {
	t.Parallel()
	s := &service{status: 204}
	token, fault := "one", error(nil)
	h := NewHTTP(HTTPOptions[string]{URL: "https://table.example", Transport: s, Token: func() (string, error) { return token, fault }})
	ask(h, "1")
	if got := s.fields.Get("Authorization"); got != "Bearer one" {
		t.Error(got)
	}
	token = "two"
	ask(h, "2")
	if got := s.fields.Get("Authorization"); got != "Bearer two" {
		t.Error(got)
	}
	fault = errors.New("no token")
	if got := ask(h, "3"); got != "error: no token" || s.count() != 2 {
		t.Error(got, s.count())
	}
}

// TestHTTPIsBounded: no more is kept than the bounds say.
func TestHTTPIsBounded(t *testing.T) {
	t.Parallel()
	s := &service{status: 204}
	h := s.table()
	answer := Answer[string]{Until: time.Now().Add(time.Hour)}
	for i := range MaxAnswers + 100 {
		h.keep(fmt.Sprint(i), answer)
	}
	if n := len(h.mu.kept); n != MaxAnswers {
		t.Errorf("%d are kept", n)
	}
	big := strings.Repeat("x", 1<<20)
	for i := range 40 {
		h.keep(big+fmt.Sprint(i), answer)
	}
	octets := 0
	for q := range h.mu.kept {
		octets += len(q)
	}
	if octets > MaxQuestions || octets != h.mu.questions {
		t.Errorf("%d octets are kept, %d counted", octets, h.mu.questions)
	}
}
