package admin

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// slow is a store whose listings wait.
type slow struct {
	store
	wait chan struct{}
}

func (s *slow) List(context.Context, spool.Filter, func(*mta.Delivery) bool) error {
	<-s.wait
	return nil
}

// TestListingsAreBounded: of one user and in all; the command line is not, and
// everything else is served meanwhile.
func TestListingsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &slow{wait: make(chan struct{})}
		s := New(Options{Store: store, Queue: scheduler{}, Logger: quiet()})
		ask := func(user, path string) *httptest.ResponseRecorder {
			w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil)
			if user == "" {
				s.routes().ServeHTTP(w, r)
				return w
			}
			u := &account.User{Name: user, Scopes: []account.Scope{account.ScopeAdmin}}
			s.mux.ServeHTTP(w, r.WithContext(account.WithUser(r.Context(), u)))
			return w
		}
		var open sync.WaitGroup
		for _, user := range []string{"a", "b", "c", "d", ""} {
			for range maxUserListings {
				open.Go(func() {
					if w := ask(user, "/v1/deliveries"); w.Code != http.StatusOK {
						t.Error(user, w.Code)
					}
				})
			}
			synctest.Wait()
			if user == "" {
				continue
			}
			if w := ask(user, "/v1/deliveries"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
				t.Errorf("one more of %s is %d", user, w.Code)
			}
		}
		if w := ask("e", "/v1/deliveries"); w.Code != http.StatusServiceUnavailable {
			t.Error("one more than all is", w.Code)
		}
		if w := ask("e", "/v1/queues"); w.Code != http.StatusOK {
			t.Error("other requests are", w.Code)
		}
		close(store.wait)
		open.Wait()
		if w := ask("a", "/v1/deliveries"); w.Code != http.StatusOK || s.reading.mu.all != 0 || len(s.reading.mu.byUser) != 0 {
			t.Error(w.Code, s.reading.mu.all)
		}
	})
}

// TestReadyz: what is wrong is told, and the queue is asked once a second at
// most, however many ask.
func TestReadyz(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var wrong error
		asked := 0
		s := New(Options{Queue: scheduler{}, Logger: quiet(), Ready: func(context.Context) error { asked++; return wrong }})
		ask := func(ctx context.Context) int {
			w := httptest.NewRecorder()
			s.mux.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
			return w.Code
		}
		for range 100 {
			if ask(t.Context()) != http.StatusOK {
				t.Fatal("not ready")
			}
		}
		if asked != 1 {
			t.Error("asked", asked, "times")
		}
		wrong = errors.New("the disk is full")
		time.Sleep(healthFor)
		if ask(t.Context()) != http.StatusServiceUnavailable {
			t.Error("ready with a full disk")
		}
		wrong = nil
		time.Sleep(healthFor)
		// Who hung up is no sign of anything.
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		wrong = context.Canceled
		ask(gone)
		wrong = nil
		if ask(t.Context()) != http.StatusOK {
			t.Error("the one who hung up decides for others")
		}
	})
}
