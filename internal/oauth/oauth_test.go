package oauth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// tokenServer is a token server that a test scripts.
type tokenServer struct {
	*httptest.Server
	mu     sync.Mutex
	asked  []url.Values
	basic  []bool
	answer func(n int, form url.Values, user, pass string) (status int, body string)
	hold   chan struct{} // requests wait for it; nil: they do not
}

func newServer(t *testing.T, answer func(n int, form url.Values, user, pass string) (int, string)) *tokenServer {
	t.Helper()
	s := &tokenServer{answer: answer}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil || r.Method != http.MethodPost {
			t.Errorf("%s %v", r.Method, err)
		}
		user, pass, basic := r.BasicAuth()
		if !basic {
			user, pass = r.Form.Get("client_id"), r.Form.Get("client_secret")
		}
		s.mu.Lock()
		s.asked, s.basic = append(s.asked, r.Form), append(s.basic, basic)
		n, hold := len(s.asked), s.hold
		s.mu.Unlock()
		if hold != nil {
			<-hold
		}
		status, body := s.answer(n, r.Form, user, pass)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *tokenServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// clock is a time that a test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func source(t *testing.T, s *tokenServer, c *clock, change func(*Options)) *Source {
	t.Helper()
	o := Options{TokenURL: s.URL, ClientID: "id", Secret: "top&secret", Client: NewClient(nil), InBody: true, Now: c.Now}
	if change != nil {
		change(&o)
	}
	src := New(o)
	t.Cleanup(src.Close)
	return src
}

func numbered(life int) func(int, url.Values, string, string) (int, string) {
	return func(n int, _ url.Values, _, _ string) (int, string) {
		return 200, fmt.Sprintf(`{"access_token":"token-%d","token_type":"Bearer","expires_in":%d}`, n, life)
	}
}

func want(t *testing.T, s *Source, refused bool, token string) {
	t.Helper()
	if got, err := s.Token(context.Background(), refused); err != nil || got != token {
		t.Errorf("got %q, %v, want %q", got, err, token)
	}
}

// TestLife: a token is used until shortly before its end.
func TestLife(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, numbered(3600)), &clock{now: time.Now()}
	src := source(t, s, c, func(o *Options) { o.Scopes = []string{"a", "b"} })
	want(t, src, false, "token-1")
	c.pass(58 * time.Minute)
	want(t, src, false, "token-1")
	c.pass(2 * time.Minute)
	want(t, src, false, "token-2")
	form := s.asked[0]
	if form.Get("grant_type") != "client_credentials" || form.Get("scope") != "a b" || form.Get("client_id") != "id" || form.Get("client_secret") != "top&secret" {
		t.Errorf("asked %v", form)
	}
}

// TestRefused: a refused token is renewed once, also when many were refused
// together.
func TestRefused(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, numbered(3600)), &clock{now: time.Now()}
	src := source(t, s, c, nil)
	want(t, src, false, "token-1")
	want(t, src, true, "token-1") // it was just got: another would be refused too
	c.pass(time.Minute)
	for range 5 {
		want(t, src, true, "token-2")
	}
	c.pass(time.Minute)
	want(t, src, true, "token-3")
	if n := s.count(); n != 3 {
		t.Errorf("%d requests", n)
	}
}

// TestSingleFlight: who asks while a request is under way waits for it; who goes
// away does not end it.
func TestSingleFlight(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, numbered(3600)), &clock{now: time.Now()}
	s.hold = make(chan struct{})
	src := source(t, s, c, nil)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := src.Token(gone, false); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { want(t, src, false, "token-1") })
	}
	close(s.hold)
	all.Wait()
	if n := s.count(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// TestRotation: a refresh token that replaces the one before is used and kept;
// what could not be kept is tried again.
func TestRotation(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(n int, form url.Values, _, _ string) (int, string) {
		if form.Get("grant_type") != "refresh_token" || form.Get("refresh_token") != fmt.Sprintf("refresh-%d", n-1) {
			return 400, `{"error":"invalid_grant"}`
		}
		return 200, fmt.Sprintf(`{"access_token":"token-%d","token_type":"bearer","expires_in":600,"refresh_token":"refresh-%d"}`, n, n)
	})
	c := &clock{now: time.Now()}
	var kept []string
	fail := true
	src := source(t, s, c, func(o *Options) {
		o.RefreshToken, o.Secret = "refresh-0", ""
		o.Keep = func(_ context.Context, token string) error {
			if fail {
				fail = false
				return errors.New("the disk is full")
			}
			kept = append(kept, token)
			return nil
		}
	})
	for i := range 3 {
		want(t, src, false, fmt.Sprintf("token-%d", i+1))
		c.pass(time.Hour)
	}
	if fmt.Sprint(kept) != "[refresh-2 refresh-3]" {
		t.Error(kept)
	}
}

// TestFailures: what is said, what is remembered, and that no secret is shown.
func TestFailures(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status  int
		body    string
		says    string
		code    string
		refused bool
	}{
		"grant":        {400, `{"error":"invalid_grant","error_description":"AADSTS70008: the refresh token\r\nhas expired"}`, "says invalid_grant: AADSTS70008: the refresh token has expired", "invalid_grant", true},
		"client":       {401, `{"error":"invalid_client","error_description":"top&secret and refresh-0 are wrong, top%26secret"}`, "invalid_client: (hidden) and (hidden) are wrong, (hidden)", "invalid_client", true},
		"away":         {503, `sorry`, "answered 503 Service Unavailable", "", false},
		"busy":         {429, `{}`, "answered 429", "", false},
		"for a while":  {400, `{"error":"temporarily_unavailable"}`, "temporarily_unavailable", "temporarily_unavailable", false},
		"no JSON":      {200, `<html>`, "cannot be asked", "", false},
		"no token":     {200, `{"token_type":"Bearer"}`, "missing access_token", "", false},
		"another type": {200, `{"access_token":"x","token_type":"mac"}`, "another type", "", false},
		"endless":      {400, `{"error":"invalid_grant","error_description":"` + strings.Repeat("x", 2<<20), "answered 400", "", true},
		"long":         {400, `{"error":"invalid_grant","error_description":"` + strings.Repeat("x", 10000) + `"}`, "invalid_grant: xxx", "invalid_grant", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, now := newServer(t, func(int, url.Values, string, string) (int, string) { return c.status, c.body }), &clock{now: time.Now()}
			src := source(t, s, now, func(o *Options) { o.RefreshToken = "refresh-0" })
			for range 3 { // remembered for a while
				_, err := src.Token(context.Background(), true)
				var e *Error
				if !errors.As(err, &e) || !strings.Contains(e.Text, c.says) || e.Refused != c.refused || e.Code != c.code {
					t.Fatalf("%+v", err)
				}
				if strings.Contains(e.Text, "top") || strings.Contains(e.Text, "refresh-0") || len(e.Text) > 500 {
					t.Errorf("it shows too much: %s", e.Text)
				}
			}
			if n := s.count(); n != 1 {
				t.Errorf("%d requests", n)
			}
			now.pass(time.Minute)
			_, _ = src.Token(context.Background(), false)
			if n := s.count(); n != 2 {
				t.Errorf("%d requests after a while", n)
			}
		})
	}
}

// TestNoRedirect: secrets go nowhere else.
func TestNoRedirect(t *testing.T) {
	t.Parallel()
	other := newServer(t, numbered(60))
	front := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(front.Close)
	src := source(t, other, &clock{now: time.Now()}, func(o *Options) { o.TokenURL = front.URL })
	if _, err := src.Token(context.Background(), false); err == nil || other.count() != 0 {
		t.Errorf("%v, %d requests", err, other.count())
	}
}

// TestHeader: without InBody the header is used, and the body where that fails.
func TestHeader(t *testing.T) {
	t.Parallel()
	for _, inHeader := range []bool{true, false} {
		s := newServer(t, nil)
		s.answer = func(n int, _ url.Values, user, pass string) (int, string) {
			if s.basic[n-1] != inHeader || user != "id" {
				return 401, `{"error":"invalid_client"}`
			}
			return 200, `{"access_token":"x","token_type":"Bearer"}`
		}
		src := source(t, s, &clock{now: time.Now()}, func(o *Options) { o.InBody = false })
		want(t, src, false, "x")
	}
}

// TestClose: it ends what waits, and a token that is there is still given.
func TestClose(t *testing.T) {
	t.Parallel()
	s := newServer(t, numbered(3600))
	src := source(t, s, &clock{now: time.Now()}, nil)
	want(t, src, false, "token-1")
	src.Close()
	want(t, src, false, "token-1")
	fresh := source(t, s, &clock{now: time.Now()}, nil)
	fresh.Close()
	if _, err := fresh.Token(context.Background(), false); !errors.Is(err, context.Canceled) {
		t.Error("asked after Close:", err)
	}
}

// TestNoLife: a server that says that its tokens end at once is not asked by
// each session anew.
func TestNoLife(t *testing.T) {
	t.Parallel()
	s, c := newServer(t, numbered(-5)), &clock{now: time.Now()}
	src := source(t, s, c, nil)
	want(t, src, false, "token-1")
	want(t, src, false, "token-1")
	c.pass(time.Minute)
	want(t, src, false, "token-2")
}
