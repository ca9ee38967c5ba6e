package admin

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/spool"
	"mailout/internal/submit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store is a spool with some deliveries; the methods that these tests do not
// use are those of the nil interface.
type store struct {
	spool.Store
	list   []*mta.Delivery
	filter spool.Filter // of the last List
	err    error        // of List and Records, after what they have
}

func (s *store) List(_ context.Context, filter spool.Filter, f func(*mta.Delivery) bool) error {
	s.filter = filter
	for _, d := range s.list {
		if !f(d) {
			return nil
		}
	}
	return s.err
}

func (s *store) Records(_ context.Context, _ spool.RecordFilter, f func(*mta.Record) bool) error {
	for _, d := range s.list {
		if !f(&mta.Record{ID: d.Message.ID}) {
			return nil
		}
	}
	return s.err
}

// scheduler explains nothing.
type scheduler struct{}

func (scheduler) WhyAll(_ context.Context, list []*mta.Delivery) ([]queue.Explanation, error) {
	return make([]queue.Explanation, len(list)), nil
}

func (scheduler) Summary(context.Context) (queue.Summary, error) { return queue.Summary{}, nil }

// intake refuses everything with one reply.
type intake struct{ refusal *submit.Refusal }

func (i intake) Check(context.Context, *submit.Request) error { return nil }

func (i intake) Begin(context.Context, *submit.Request) (submit.Draft, error) { return nil, i.refusal }

func newServer(s *store) *Server {
	return New(Options{Store: s, History: bookless{s}, Queue: scheduler{}, Logger: slog.New(slog.DiscardHandler)})
}

func delivery(n byte, sender string) *mta.Delivery {
	m := &mta.Message{ID: mta.ID{15: n}, Envelope: mta.Envelope{Sender: sender}}
	return &mta.Delivery{Message: m, Recipients: []mta.Recipient{{Address: "a@example.net"}}}
}

func get(s *Server, path string, query url.Values) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path+"?"+query.Encode(), nil))
	return w
}

// socketAt gives a server for a path of its own.
func socketAt(t *testing.T) (*Server, string) {
	path := filepath.Join(t.TempDir(), "sock")
	return New(Options{Socket: path, Queue: scheduler{}, Logger: slog.New(slog.DiscardHandler)}), path
}

func TestSocketTakesTheBusinessOfADeadProcess(t *testing.T) {
	t.Parallel()
	s, path := socketAt(t)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false) // as kill -9 leaves it
	dead.Close()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("the socket stays behind")
	}
}

// TestSocketOfALivingProcessStays: a second daemon whose http.socket is the
// same must not make the first one unreachable.
func TestSocketOfALivingProcessStays(t *testing.T) {
	t.Parallel()
	first, path := socketAt(t)
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := New(Options{Socket: path, Queue: scheduler{}, Logger: slog.New(slog.DiscardHandler)})
	if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another process serves") {
		t.Errorf("started with %v", err)
	}
	if err := second.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal("the first one cannot be reached any more: ", err)
	}
	conn.Close()
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestSocketNeverRemovesAFile: a path by mistake must not cost a file.
func TestSocketNeverRemovesAFile(t *testing.T) {
	t.Parallel()
	s, path := socketAt(t)
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err == nil {
		t.Error("it started")
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file holds %q, %v", b, err)
	}
}

// TestListingLooksForWhatPeopleMean: a listing that finds nothing must mean
// that there is nothing.
func TestListingLooksForWhatPeopleMean(t *testing.T) {
	t.Parallel()
	s := &store{}
	server := newServer(s)
	for _, c := range []struct {
		key, text string
		got       func() string
		want      string
	}{
		{"destination", "Bücher.Example.", func() string { return s.filter.Destination }, "xn--bcher-kva.example"},
		{"destination", "[ipv6:2001:DB8::1]", func() string { return s.filter.Destination }, "[IPv6:2001:db8::1]"},
		{"destination", "no domain", func() string { return s.filter.Destination }, "no domain"},
		{"recipient", "<a@Bücher.example>", func() string { return s.filter.Recipient }, "a@xn--bcher-kva.example"},
		{"recipient", "a", func() string { return s.filter.Recipient }, "a"},
		{"sender", " <a@EXAMPLE.com> ", func() string { return s.filter.Sender }, "a@example.com"},
		{"sender", "<>", func() string { return s.filter.Sender }, ""},
	} {
		get(server, "/v1/deliveries", url.Values{c.key: {c.text}})
		if got := c.got(); got != c.want {
			t.Errorf("%s %q is looked for as %q", c.key, c.text, got)
		}
	}
}

func TestListingByNullSender(t *testing.T) {
	t.Parallel()
	server := newServer(&store{list: []*mta.Delivery{delivery(1, "a@example.com"), delivery(2, ""), delivery(3, "b@example.com")}})
	for sender, want := range map[string]int{"<>": 1, "": 3} {
		w := get(server, "/v1/deliveries", url.Values{"sender": {sender}})
		if n := strings.Count(w.Body.String(), "\n"); n != want {
			t.Errorf("sender %q: %d deliveries", sender, n)
		}
	}
}

// TestListingFailsPlainly: with a problem as long as nothing was said, by
// breaking off afterwards; never with half a listing that looks whole.
func TestListingFailsPlainly(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/v1/deliveries", "/v1/trace"} {
		query := url.Values{"query": {"a@example.net"}}
		if w := get(newServer(&store{err: spool.ErrCorrupt}), path, query); w.Code != http.StatusInternalServerError {
			t.Errorf("%s answers %d", path, w.Code)
		}
		// Enough for the listing to be on its way.
		var many []*mta.Delivery
		for range explainBatch {
			many = append(many, delivery(1, ""))
		}
		func() {
			defer func() {
				if recover() != http.ErrAbortHandler {
					t.Errorf("%s: half a listing ends as if it were whole", path)
				}
			}()
			get(newServer(&store{list: many, err: spool.ErrCorrupt}), path, query)
		}()
	}
}

func TestTraceOfNothingIsRefused(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"", " ", "<>"} {
		if w := get(newServer(&store{}), "/v1/trace", url.Values{"query": {query}}); w.Code != http.StatusBadRequest {
			t.Errorf("%q is answered %d", query, w.Code)
		}
	}
}
