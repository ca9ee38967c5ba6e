package events

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/spool/pebble"
)

const testSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func secrets(t testing.TB, s string) Secrets {
	t.Helper()
	out, err := ParseSecrets(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// hook is a webhook with the defaults of the configuration.
func hook(t testing.TB, name string) Webhook {
	return Webhook{
		Name: name, URL: "http://" + name + ".example/events", Secrets: secrets(t, testSecret),
		Batch: 100, Wait: time.Second, Timeout: 30 * time.Second, Concurrency: 4,
	}
}

// house is a store with mail that comes and goes, and receivers that are
// dialled by their host names.
type house struct {
	*testing.T
	disk      *vfs.MemFS
	store     *pebble.Store
	receivers map[string]*receiver
	n         int // messages made
	giveUp    time.Duration
	notes     []string
}

func newHouse(t *testing.T) *house {
	h := &house{T: t, disk: vfs.NewCrashableMem(), receivers: map[string]*receiver{}}
	h.open()
	return h
}

func (h *house) open() {
	h.Helper()
	s, err := pebble.Open(h.Context(), pebble.Options{
		Dir: "spool", FS: h.disk, Reserve: -1, SharedBytes: -1, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		h.Fatal(err)
	}
	h.store = s
}

func (h *house) close() {
	h.Helper()
	if err := h.store.Close(); err != nil {
		h.Fatal(err)
	}
	for _, r := range h.receivers {
		r.end()
	}
}

// hub starts a hub.
func (h *house) hub(s Settings) *Hub {
	h.Helper()
	hub := NewHub(Options{
		Feed: h.store, Logger: slog.New(slog.DiscardHandler), Settings: s, Version: "1", Hostname: "mailout.example", giveUp: h.giveUp,
		Note: func(_ context.Context, words string) error {
			h.notes = append(h.notes, words)
			return nil
		},
		Dial: h.dial,
	})
	if err := hub.Start(h.Context()); err != nil {
		h.Fatal(err)
	}
	return hub
}

func (h *house) dial(ctx context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return h.receivers[host].dial(ctx)
}

func (h *house) stop(hub *Hub) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	hub.Stop(ctx)
}

// accept puts a message, and gives what ends it.
func (h *house) accept(recipients ...string) *spool.Submission {
	h.Helper()
	d, err := h.store.Draft()
	if err != nil {
		h.Fatal(err)
	}
	h.n++
	now := time.Now().UTC().Truncate(time.Millisecond)
	m := &mta.Message{
		ID: mta.NewID(now, [10]byte{byte(h.n >> 16), byte(h.n >> 8), byte(h.n)}), Arrived: now, Stream: mta.DefaultStream, Size: 1,
		MessageID: fmt.Sprintf("<%d@x.example>", h.n), Envelope: mta.Envelope{Sender: "s@x.example"}, Deliveries: len(recipients),
	}
	if _, err := io.WriteString(d, "x"); err != nil {
		h.Fatal(err)
	}
	sub := &spool.Submission{Message: m, Content: d}
	for i, r := range recipients {
		del := &mta.Delivery{
			Message: m, N: uint32(i), Due: now, Destination: mta.Destination{Domain: "one.example", Stream: mta.DefaultStream},
			Recipients: []mta.Recipient{{Address: r}},
		}
		sub.Deliveries = append(sub.Deliveries, del)
		sub.Records = append(sub.Records, h.record(del, mta.EventAccepted))
	}
	if err := h.store.Put(h.Context(), sub); err != nil {
		h.Fatal(err)
	}
	return sub
}

func (h *house) record(d *mta.Delivery, e mta.Event) *mta.Record {
	return &mta.Record{
		Time: time.Now().UTC().Truncate(time.Millisecond), Event: e, ID: d.Message.ID, MessageID: d.Message.MessageID,
		Stream: d.Message.Stream, Sender: "s@x.example", Recipient: d.Recipients[0].Address, Destination: "one.example", Size: 1,
	}
}

// settle writes an event of a delivery; delivered ends it.
func (h *house) settle(d *mta.Delivery, e mta.Event) {
	h.Helper()
	s := &spool.Settlement{Delivery: d.Key(), Records: []*mta.Record{h.record(d, e)}}
	if e != mta.EventDelivered {
		next := *d
		next.State = mta.Deferred
		s.Next = &next
	}
	if _, err := h.store.Settle(h.Context(), s); err != nil {
		h.Fatal(err)
	}
}

// life is a message from its acceptance to its end: three events.
func (h *house) life() mta.ID {
	h.Helper()
	sub := h.accept("a@one.example")
	h.settle(sub.Deliveries[0], mta.EventDeferred)
	h.settle(sub.Deliveries[0], mta.EventDelivered)
	return sub.Message.ID
}

// journal gives the IDs of all events behind a position.
func (h *house) journal(after spool.Position) (ids []string) {
	h.Helper()
	for {
		next, err := h.store.Follow(h.Context(), after, func(at spool.Position, r *mta.Record) bool {
			ids = append(ids, IDOf(at, r))
			return true
		})
		if err != nil {
			h.Fatal(err)
		}
		if next == after {
			return ids
		}
		after = next
	}
}

// request is what a receiver got at once.
type request struct {
	at     time.Time
	header http.Header
	body   []byte
	events []got
}

type got struct {
	ID        string
	Type      string
	Timestamp time.Time
	Data      struct{ ID, Event, Recipient string }
}

// receiver is a web server at the end of pipes. It checks the signature of
// each request, and that no event comes before the earlier ones of its message
// have been acknowledged.
type receiver struct {
	t      *testing.T
	server *http.Server
	conns  chan net.Conn
	// answer decides; nil answers 200. 0 cuts the connection after the request
	// was taken, so that the answer is lost.
	answer func(r *request) (status int, header http.Header)

	mu struct {
		sync.Mutex
		down     bool
		requests []*request
		taken    map[string]int // acknowledged, by event
		order    map[string][]string
		excused  map[string]bool
	}
}

func (h *house) receiver(host string) *receiver {
	r := &receiver{t: h.T, conns: make(chan net.Conn)}
	r.mu.taken, r.mu.order = map[string]int{}, map[string][]string{}
	r.server = &http.Server{Handler: r}
	go func() { _ = r.server.Serve(r) }()
	h.receivers[host] = r
	return r
}

func (r *receiver) end() { _ = r.server.Close() }

// Accept implements net.Listener.
func (r *receiver) Accept() (net.Conn, error) {
	c, ok := <-r.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close implements net.Listener.
func (r *receiver) Close() error {
	close(r.conns)
	return nil
}

// Addr implements net.Listener.
func (r *receiver) Addr() net.Addr { return &net.TCPAddr{} }

func (r *receiver) dial(ctx context.Context) (net.Conn, error) {
	r.mu.Lock()
	down := r.mu.down
	r.mu.Unlock()
	if down {
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	}
	client, server := net.Pipe()
	select {
	case r.conns <- server:
		return client, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *receiver) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.down = down
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return
	}
	req := &request{at: time.Now(), header: q.Header, body: body}
	if err := verify(q.Header, body); err != nil {
		r.t.Errorf("a request that does not verify: %v", err)
	}
	if bytes.HasPrefix(body, []byte("[")) {
		err = json.Unmarshal(body, &req.events)
	} else {
		req.events = make([]got, 1)
		err = json.Unmarshal(body, &req.events[0])
	}
	if err != nil {
		r.t.Errorf("a body that is not JSON: %v: %s", err, body)
	}
	r.begins(req)
	status, header := http.StatusOK, http.Header(nil)
	if r.answer != nil {
		status, header = r.answer(req)
	}
	if status == 0 || status/100 == 2 {
		r.took(req, status != 0)
	}
	if status == 0 {
		panic(http.ErrAbortHandler)
	}
	for k, v := range header {
		w.Header()[k] = v
	}
	w.WriteHeader(status)
}

// verify goes by the fake clock.
func verify(h http.Header, body []byte) error {
	w, err := webhooks.NewWebhook(testSecret)
	if err != nil {
		return err
	}
	return w.Verify(body, h)
}

// begins holds a request to the order.
func (r *receiver) begins(req *request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.requests = append(r.mu.requests, req)
	here := map[string]bool{}
	for _, e := range req.events {
		known := false
		for _, earlier := range r.mu.order[e.Data.ID] {
			if earlier == e.ID {
				known = true
				break
			}
			if r.mu.taken[earlier] == 0 && !here[earlier] && !r.mu.excused[e.Data.ID] {
				r.t.Errorf("event %s of a message comes before %s was acknowledged", e.ID, earlier)
			}
		}
		if !known {
			r.mu.order[e.Data.ID] = append(r.mu.order[e.Data.ID], e.ID)
		}
		here[e.ID] = true
	}
}

func (r *receiver) took(req *request, told bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range req.events {
		if told {
			r.mu.taken[e.ID]++
		}
	}
}

// excuse lifts the order for a message of which events are given up.
func (r *receiver) excuse(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.excused = map[string]bool{id: true}
}

// got counts the events that were acknowledged.
func (r *receiver) got() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.mu.taken)
}

func (r *receiver) requests() []*request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*request(nil), r.mu.requests...)
}

// complete holds a receiver to the journal: every event at least once, and the
// events of a message were first sent in their order.
func (r *receiver) complete(want []string) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	missing := 0
	place := map[string]int{}
	for i, id := range want {
		place[id] = i
		if r.mu.taken[id] == 0 {
			missing++
		}
	}
	if missing > 0 {
		r.t.Errorf("%d of %d events did not arrive", missing, len(want))
	}
	for _, order := range r.mu.order {
		for i := 1; i < len(order); i++ {
			if place[order[i]] < place[order[i-1]] {
				r.t.Errorf("%s was sent before %s", order[i-1], order[i])
			}
		}
	}
}

var quiet = slog.New(slog.DiscardHandler)

// crash cuts the power: the hub and the store of before go on, but nothing
// that they do counts any more, and what follows runs on what the disk had.
func (h *house) crash(hub *Hub) {
	h.Helper()
	disk := h.disk.CrashClone(vfs.CrashCloneCfg{})
	old := h.store
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	hub.Stop(ctx)
	if err := old.Close(); err != nil {
		h.Fatal(err)
	}
	h.disk = disk
	h.open()
}
