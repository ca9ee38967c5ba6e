package submit

import (
	"bytes"
	"context"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// memStore is a spool that keeps what it is given. The methods that intake and
// reporter do not use are those of the nil interface.
type memStore struct {
	spool.Store
	mu         sync.Mutex
	draftErr   error // of Draft
	writeErr   error // of Draft.Write
	putErr     error
	recordsErr error  // of Records
	onPut      func() // called inside Put
	put        []*spool.Submission
	open       map[mta.ID]spool.Content
	live       int // drafts neither put nor discarded
}

type memDraft struct {
	store *memStore
	buf   bytes.Buffer
	ended bool
}

func (s *memStore) Draft() (spool.Draft, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draftErr != nil {
		return nil, s.draftErr
	}
	s.live++
	return &memDraft{store: s}, nil
}

func (s *memStore) Put(ctx context.Context, subs ...*spool.Submission) error {
	if s.onPut != nil {
		s.onPut()
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, sub := range subs {
		sub.Content.(*memDraft).end()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.putErr != nil {
		return s.putErr
	}
	s.put = append(s.put, subs...)
	return nil
}

func (s *memStore) Open(_ context.Context, id mta.ID) (spool.Content, error) {
	if c, ok := s.open[id]; ok {
		return c, nil
	}
	return nil, spool.ErrNotFound
}

func (d *memDraft) Write(p []byte) (int, error) {
	if d.store.writeErr != nil {
		return 0, d.store.writeErr
	}
	return d.buf.Write(p)
}

func (d *memDraft) Size() int64 { return int64(d.buf.Len()) }

func (d *memDraft) Discard() { d.end() }

func (d *memDraft) end() {
	d.store.mu.Lock()
	defer d.store.mu.Unlock()
	if !d.ended {
		d.ended = true
		d.store.live--
	}
}

type memContent struct {
	*bytes.Reader
	b []byte
}

func (c memContent) Bytes() []byte { return c.b }
func (c memContent) Close() error  { return nil }
func contentOf(s string) memContent {
	return memContent{bytes.NewReader([]byte(s)), []byte(s)}
}

type memQueue struct {
	mu    sync.Mutex
	added []*mta.Delivery
}

func (q *memQueue) Add(d []*mta.Delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.added = append(q.added, d...)
}

// world is an intake with a fake store and queue, at a fixed time.
type world struct {
	*Intake
	store *memStore
	queue *memQueue
	opts  Options
}

var noon = time.Date(2026, 3, 4, 12, 0, 0, 123_456_789, time.FixedZone("east", 3600))

func newWorld(change ...func(*Options)) *world {
	w := &world{store: &memStore{}, queue: &memQueue{}}
	w.opts = Options{Store: w.store, Queue: w.queue, Now: func() time.Time { return noon }, Settings: Settings{Hostname: "out.example.com"}}
	for _, c := range change {
		c(&w.opts)
	}
	w.Intake = NewIntake(w.opts)
	return w
}

func request(rcpts ...string) *Request {
	r := &Request{
		Origin:   mta.Origin{Door: "smtp", Protocol: "ESMTP", Peer: netip.MustParseAddr("192.0.2.9"), Helo: "pc"},
		Envelope: mta.Envelope{Sender: "app@example.com"},
	}
	if len(rcpts) == 0 {
		rcpts = []string{"a@example.net"}
	}
	for _, a := range rcpts {
		r.Recipients = append(r.Recipients, mta.Recipient{Address: a})
	}
	return r
}

// submit hands over content in pieces of the given size (0: at once).
func (w *world) submit(t testing.TB, r *Request, content string, size int) (*spool.Submission, string, error) {
	t.Helper()
	if size <= 0 {
		size = len(content) + 1
	}
	d, err := w.Begin(t.Context(), r)
	if err != nil {
		return nil, "", err
	}
	for at := 0; at < len(content); at += size {
		piece := []byte(content[at:min(at+size, len(content))])
		n, err := d.Write(piece)
		if err == nil && n != len(piece) {
			t.Fatalf("wrote %d of %d", n, len(piece))
		}
		clear(piece) // the door reuses its buffer
	}
	id, err := d.Commit(t.Context())
	d.Abort()
	if w.store.live != 0 {
		t.Fatalf("%d drafts leak", w.store.live)
	}
	if err != nil {
		if !id.IsZero() {
			t.Fatal("an ID with an error")
		}
		return nil, "", err
	}
	sub := w.store.put[len(w.store.put)-1]
	if sub.Message.ID != id {
		t.Fatal("another ID than the message's")
	}
	return sub, sub.Content.(*memDraft).buf.String(), nil
}

// cut takes off the Received field and gives the rest.
func cut(t testing.TB, content string) string {
	t.Helper()
	const end = "\r\n\tWed, 4 Mar 2026 11:00:00 +0000\r\n"
	i := strings.Index(content, end)
	if !strings.HasPrefix(content, "Received: from pc ([192.0.2.9])\r\n\tby out.example.com with ") || i < 0 {
		t.Fatalf("no Received field in front of %q", content)
	}
	return content[i+len(end):]
}
