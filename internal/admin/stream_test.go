package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/spool"
	"mailout/internal/spool/pebble"
)

// pipes is a listener of pipes, and dials them.
type pipes struct{ c chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.c
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p *pipes) Close() error   { close(p.c); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }
func (p *pipes) dial(context.Context, string, string) (net.Conn, error) {
	client, server := net.Pipe()
	p.c <- server
	return client, nil
}

// office is the API on a real store, for one bubble of virtual time.
type office struct {
	*testing.T
	store  *pebble.Store
	api    *Server
	server *listener
	client *http.Client
	user   *account.User // who asks; nil: the Unix socket
	n      byte
}

func newOffice(t *testing.T) *office {
	t.Helper()
	store, err := pebble.Open(t.Context(), pebble.Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, SharedBytes: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	o := &office{T: t, store: store}
	o.api = New(Options{Store: store, History: store, Feed: store, Queue: scheduler{}, Logger: slog.New(slog.DiscardHandler)})
	p := &pipes{make(chan net.Conn)}
	o.client = &http.Client{Transport: &http.Transport{DialContext: p.dial}}
	o.server = newListener(&http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o.user != nil {
			o.api.mux.ServeHTTP(w, r.WithContext(account.WithUser(r.Context(), o.user)))
			return
		}
		o.api.routes().ServeHTTP(w, r)
	})}, slog.New(slog.DiscardHandler))
	o.server.serve(p)
	return o
}

func (o *office) close() {
	o.Helper()
	if err := o.server.stop(context.Background()); err != nil {
		o.Error(err)
	}
	o.client.CloseIdleConnections()
	if err := o.store.Close(); err != nil {
		o.Error(err)
	}
}

// happen puts a record of its own into the journal.
func (o *office) happen(r mta.Record) mta.ID {
	o.Helper()
	o.n++
	m := &mta.Message{ID: mta.ID{1, 15: o.n}, Stream: mta.DefaultStream, Arrived: time.Now()}
	r.ID, r.Time = m.ID, time.Now()
	if r.Stream == "" {
		r.Stream = mta.DefaultStream
	}
	if r.Recipient == "" {
		r.Recipient = "a@one.example"
	}
	if err := o.store.Put(o.Context(), &spool.Submission{Message: m, Records: []*mta.Record{&r}}); err != nil {
		o.Fatal(err)
	}
	return m.ID
}

// stream is one open answer.
type stream struct {
	*testing.T
	resp *http.Response
	in   *bufio.Reader
}

func (o *office) open(query, last string) *stream {
	o.Helper()
	req, err := http.NewRequestWithContext(o.Context(), http.MethodGet, "http://mailout/v1/events"+query, nil)
	if err != nil {
		o.Fatal(err)
	}
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := o.client.Do(req)
	if err != nil {
		o.Fatal(err)
	}
	return &stream{T: o.T, resp: resp, in: bufio.NewReader(resp.Body)}
}

func (s *stream) close() { s.resp.Body.Close() }

// next reads fields up to an empty line.
func (s *stream) next() map[string]string {
	s.Helper()
	out := map[string]string{}
	for {
		line, err := s.in.ReadString('\n')
		if err != nil {
			s.Fatalf("the stream ended: %v", err)
		}
		if line == "\n" {
			return out
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		out[name] = value
	}
}

// event reads the next event, and gives its type and ID.
func (s *stream) event() (kind, id, cursor string) {
	s.Helper()
	for range 5 {
		f := s.next()
		if f["data"] == "" {
			continue
		}
		var e struct {
			Type string
			ID   string
			Data struct{ ID, Recipient string }
		}
		if err := json.Unmarshal([]byte(f["data"]), &e); err != nil || e.Type != f["event"] || !strings.HasPrefix(e.ID, e.Data.ID) {
			s.Fatalf("%v: %v", err, f)
		}
		return e.Type, e.Data.ID, f["id"]
	}
	s.Fatal("no event came")
	return "", "", ""
}

func TestEventStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		before := o.happen(mta.Record{Event: mta.EventAccepted})
		now := o.open("", "")
		if got := now.resp.Header; got.Get("Content-Type") != "text/event-stream" || got.Get("Cache-Control") != "no-store" {
			t.Errorf("header %v", got)
		}
		if f := now.next(); f["retry"] != "3000" {
			t.Errorf("first %v", f)
		}
		first := o.happen(mta.Record{Event: mta.EventDelivered})
		kind, id, cursor := now.event()
		if kind != "message.delivered" || id != first.String() {
			t.Errorf("%s %s, want the delivery of %s", kind, id, first)
		}
		now.close()
		second := o.happen(mta.Record{Event: mta.EventIdentity})
		again := o.open("?after=0", cursor) // the header counts
		if kind, id, _ = again.event(); kind != "server.identity" || id != second.String() {
			t.Errorf("%s %s behind %s", kind, id, cursor)
		}
		again.close()
		all := o.open("?after=0", "")
		for _, want := range []mta.ID{before, first, second} {
			if _, id, _ = all.event(); id != want.String() {
				t.Errorf("%s, want %s", id, want)
			}
		}
		all.close()
		o.close()
	})
}

func TestEventStreamFilters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		a := o.happen(mta.Record{Event: mta.EventAccepted, Recipient: "Ann@one.example"})
		b := o.happen(mta.Record{Event: mta.EventFailed, Stream: "other"})
		c := o.happen(mta.Record{Event: mta.EventDelivered})
		last := o.happen(mta.Record{Event: mta.EventAccepted, Recipient: "ann@one.example", Stream: "other"})
		for query, want := range map[string][]mta.ID{
			"&event=delivered&event=message.failed": {b, c},
			"&stream=other":                         {b, last},
			"&recipient=ann@ONE.example":            {a, last},
			"&id=" + c.String():                     {c},
			"&event=accepted&stream=other":          {last},
		} {
			s := o.open("?after=0"+query, "")
			var got []string
			for range want {
				_, id, _ := s.event()
				got = append(got, id)
			}
			var ids []string
			for _, id := range want {
				ids = append(ids, id.String())
			}
			if !slices.Equal(got, ids) {
				t.Errorf("%s: %v, want %v", query, got, ids)
			}
			// What it does not want moves its cursor, with the next beat.
			f := s.next()
			if f["id"] != o.store.End().String() || f["data"] != "" {
				t.Errorf("%s: the beat is %v", query, f)
			}
			s.close()
		}
		for query, field := range map[string]string{
			"?event=sent": "event", "?id=x": "id", "?after=1000000": "after", "?after=-1": "after", "?after=01": "after",
			"?" + strings.Repeat("stream=a&", maxStreamWords+1): "stream",
		} {
			s := o.open(query, "")
			var p rest.Problem
			if err := json.NewDecoder(s.in).Decode(&p); err != nil || p.Status != 400 || p.Field != field {
				t.Errorf("%s: %+v, %v", query, p, err)
			}
			s.close()
		}
		o.close()
	})
}

func TestEventStreamOfOneUser(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		o.happen(mta.Record{Event: mta.EventAccepted, User: "shop"})
		mine := o.happen(mta.Record{Event: mta.EventAccepted, User: "erp"})
		o.happen(mta.Record{Event: mta.EventAccepted})
		o.happen(mta.Record{Event: mta.EventIdentity, Recipient: mta.IdentityRecipient})
		o.user = &account.User{Name: "erp", Scopes: []account.Scope{account.ScopeRead}}
		s := o.open("?after=0", "")
		if _, id, _ := s.event(); id != mine.String() {
			t.Errorf("got %s, want %s", id, mine)
		}
		if f := s.next(); f["data"] != "" {
			t.Errorf("more than the user's own: %v", f)
		}
		s.close()
		o.user = &account.User{Name: "erp", Scopes: []account.Scope{account.ScopeControl}}
		if s := o.open("", ""); s.resp.StatusCode != http.StatusForbidden {
			t.Errorf("without a scope: %d", s.resp.StatusCode)
		} else {
			s.close()
		}
		o.close()
	})
}

// TestStreamsEndWithTheKey: who may not sign in any more reads nothing more.
func TestStreamsEndWithTheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		_, key := account.NewKey()
		user := account.User{Name: "erp", Key: key, Scopes: []account.Scope{account.ScopeAdmin}}
		less, other := user, user
		less.Scopes = []account.Scope{account.ScopeSend}
		_, other.Key = account.NewKey()
		for name, now := range map[string][]account.User{"another key": {other}, "gone": nil, "less": {less}} {
			o.api.opts.TCP.Users = account.NewBook(nil)
			o.api.opts.TCP.Users.Configure([]account.User{user})
			o.user = o.api.opts.TCP.Users.User("erp")
			s := o.open("", "")
			trace, err := o.client.Get("http://mailout/v1/trace?follow=true&event=failed")
			if err != nil || trace.StatusCode != http.StatusOK {
				t.Fatal(err, trace.Status)
			}
			behind := fmt.Sprintf("behind%d@one.example", len(now)+len(name))
			s.next() // the beat
			synctest.Wait()
			o.happen(mta.Record{Event: mta.EventFailed, Recipient: "before@one.example"})
			_, _, _ = s.event()
			synctest.Wait()
			o.api.opts.TCP.Users.Configure(now)
			o.happen(mta.Record{Event: mta.EventFailed, Recipient: behind})
			for what, in := range map[string]io.Reader{"events": s.in, "trace": trace.Body} {
				if rest, err := io.ReadAll(in); err != nil || strings.Contains(string(rest), behind) {
					t.Errorf("%s, %s: %v %s", name, what, err, rest)
				}
			}
			s.close()
			trace.Body.Close()
		}
		o.user = nil
		o.close()
	})
}

func TestEventStreamsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		var open []*stream
		for range maxUserStreams {
			open = append(open, o.open("", ""))
		}
		s := o.open("", "")
		if s.resp.StatusCode != http.StatusServiceUnavailable || s.resp.Header.Get("Retry-After") == "" {
			t.Errorf("one too many: %d", s.resp.StatusCode)
		}
		s.close()
		open[0].close()
		synctest.Wait()
		o.happen(mta.Record{Event: mta.EventAccepted}) // the writing tells that the client is gone
		time.Sleep(streamBeat)
		synctest.Wait()
		if s = o.open("", ""); s.resp.StatusCode != http.StatusOK {
			t.Errorf("after one has left: %d", s.resp.StatusCode)
		}
		s.close()
		for _, s := range open {
			s.close()
		}
		time.Sleep(2 * streamBeat)
		synctest.Wait()
		if n := o.api.streams.mu.all; n != 0 || len(o.api.streams.mu.byUser) != 0 {
			t.Errorf("%d streams are left", n)
		}
		o.close()
	})
}

// TestEventStreamSlowClient: who does not read is cut off, and goes on behind
// what came through.
func TestEventStreamSlowClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		for range 100 {
			o.happen(mta.Record{Event: mta.EventDelivered, Reply: strings.Repeat("x", 5000)})
		}
		s := o.open("?after=0", "")
		_, _, cursor := s.event()
		time.Sleep(2 * stallTime)
		n, id := 1, ""
		for {
			line, err := s.in.ReadString('\n')
			if err != nil {
				break
			}
			if v, ok := strings.CutPrefix(line, "id: "); ok {
				id = strings.TrimSuffix(v, "\n")
			}
			if line == "\n" { // only now the event is whole
				n, cursor = n+1, id
			}
		}
		if n >= 100 {
			t.Error("it was not cut off")
		}
		s.close()
		again := o.open("", cursor)
		for ; n < 100; n++ {
			again.event()
		}
		again.close()
		o.close()
	})
}

// TestEventStreamEndsWithTheServer: a stream does not keep the daemon.
func TestEventStreamEndsWithTheServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		s := o.open("", "")
		ended := make(chan error)
		go func() {
			_, err := io.Copy(io.Discard, s.in)
			ended <- err
		}()
		synctest.Wait()
		begun := time.Now()
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			o.close()
		}()
		if err := <-ended; err != nil {
			t.Errorf("the stream did not end as it should: %v", err)
		}
		if d := time.Since(begun); d > time.Second {
			t.Errorf("it ended after %v", d)
		}
		s.close()
		<-closed
	})
}
