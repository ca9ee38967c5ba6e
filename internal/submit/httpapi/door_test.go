package httpapi

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"mailout/internal/account"
	"mailout/internal/lint"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/spool/pebble"
	"mailout/internal/submit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// door is the door before a real intake and a real spool in memory.
type door struct {
	t      *testing.T
	fs     vfs.FS
	store  *pebble.Store
	sender *Sender
	mux    *http.ServeMux
	limits Limits
	now    func() time.Time
	busy   atomic.Bool
	full   atomic.Bool
	added  atomic.Int64 // deliveries that the queue was told of
}

// Add implements submit.Queue.
func (d *door) Add(deliveries []*mta.Delivery) { d.added.Add(int64(len(deliveries))) }

func newDoor(t *testing.T) *door {
	d := &door{t: t, fs: vfs.NewCrashableMem(), limits: Limits{MessageSize: 1 << 20, Recipients: 50}, now: time.Now}
	d.open()
	t.Cleanup(func() { _ = d.store.Close() })
	return d
}

// open opens the store and builds the door on it.
func (d *door) open() {
	d.t.Helper()
	store, err := pebble.Open(context.Background(), pebble.Options{Dir: "spool", FS: d.fs, Reserve: -1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		d.t.Fatal(err)
	}
	d.store = store
	intake := submit.NewIntake(submit.Options{
		Store: store, Queue: d, Busy: d.busy.Load, Full: d.full.Load,
		Settings: submit.Settings{Hostname: "out.example.com", MaxSize: d.limits.MessageSize, MaxRecipients: d.limits.Recipients},
	})
	d.sender = NewSender(Options{
		Intake: intake, Reservations: store, Limits: func() Limits { return d.limits }, Now: func() time.Time { return d.now() },
	})
	d.mux = http.NewServeMux()
	Register(rest.New(d.mux, ""), d.sender)
}

// crash forgets what was not synced, and opens again.
func (d *door) crash() {
	d.t.Helper()
	disk := d.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{})
	_ = d.store.Close()
	d.fs = disk
	d.open()
}

// ask is one request; who is a user, or nil for the socket.
type ask struct {
	path, kind, body string
	key              string
	user             *account.User
	header           map[string]string
}

func (d *door) do(a ask) *httptest.ResponseRecorder {
	d.t.Helper()
	if a.path == "" {
		a.path = "/v1/messages"
	}
	if a.kind == "" {
		a.kind = typeJSON
	}
	r := httptest.NewRequest(http.MethodPost, a.path, strings.NewReader(a.body))
	r.Header.Set("Content-Type", a.kind)
	if a.key != "" {
		r.Header.Set("Idempotency-Key", a.key)
	}
	for name, value := range a.header {
		r.Header.Set(name, value)
	}
	ctx := rest.WithLocal(r.Context())
	if a.user != nil {
		ctx = account.WithUser(r.Context(), a.user)
	}
	w := httptest.NewRecorder()
	d.mux.ServeHTTP(w, r.WithContext(ctx))
	return w
}

// accepted sends a request that must be taken.
func (d *door) accepted(a ask) Accepted {
	d.t.Helper()
	w := d.do(a)
	var out Accepted
	if err := json.Unmarshal(w.Body.Bytes(), &out); w.Code != http.StatusAccepted || err != nil || out.ID.IsZero() {
		d.t.Fatalf("%d %s", w.Code, w.Body)
	}
	return out
}

// refused sends a request that must not be taken, and holds the problem to its
// status and field.
func (d *door) refused(a ask, status int, field, text string) rest.Problem {
	d.t.Helper()
	before := d.count()
	w := d.do(a)
	var p rest.Problem
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Header().Get("Content-Type") != "application/problem+json" {
		d.t.Fatalf("no problem: %d %s", w.Code, w.Body)
	}
	if p.Title != http.StatusText(status) {
		d.t.Errorf("%d is titled %s", status, p.Title)
	}
	if w.Code != status || p.Status != status || p.Field != field || !strings.Contains(p.Detail, text) {
		d.t.Errorf("%d, field %q, %q; want %d, %q, %q", w.Code, p.Field, p.Detail, status, field, text)
	}
	if (status == 503 || status == 429 || status == 409) != (w.Header().Get("Retry-After") != "") {
		d.t.Errorf("%d with Retry-After %q", status, w.Header().Get("Retry-After"))
	}
	if d.count() != before {
		d.t.Error("something was stored")
	}
	return p
}

// count is how many messages the spool has.
func (d *door) count() int64 {
	d.t.Helper()
	st, err := d.store.Stats(context.Background())
	if err != nil {
		d.t.Fatal(err)
	}
	return st.Messages
}

// message gives what is stored of a message, and its deliveries.
func (d *door) message(id mta.ID) (string, []*mta.Delivery) {
	d.t.Helper()
	ds, err := d.store.Get(context.Background(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	c, err := d.store.Open(context.Background(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	content, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil {
		d.t.Fatal(err)
	}
	return string(content), ds
}

const simple = `{"from":"Ann <ann@example.com>","to":"bob@example.net","subject":"Hello","text":"Hi"}`

func TestAMessageOfFields(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	got := d.accepted(ask{body: `{
		"from": {"name": "Ann Ö", "address": "ann@example.com"}, "to": ["Bob <bob@Example.net>", {"email": "carl@example.org"}], "cc": "bob@example.net",
		"bcc": ["dora@example.org"], "reply_to": "office@example.com", "return_path": "bounces@example.com",
		"subject": "Gr\u00fc\u00dfe \ud83d\ude00", "text": "Hi\nthere", "html": "<p>Hi <img src=\"cid:logo\"></p>",
		"headers": {"X-One": "1", "X-Two": ["a", "b"]},
		"attachments": [{"filename": "a.txt", "content": "aGVs\r\nbG8="}, {"name": "l.png", "content_type": "image/png", "cid": "logo", "inline": true, "content": "iVBORw0KGgo"}],
		"stream": "news", "send_at": null, "expire": "2h", "require_tls": true, "tags": ["x"], "metadata": {"n": 1, "b": true, "s": "t"}}`})
	want := []Recipient{{"bob@example.net", "queued"}, {"carl@example.org", "queued"}, {"dora@example.org", "queued"}}
	if !slices.Equal(got.Recipients, want) {
		t.Errorf("%v", got.Recipients)
	}
	content, ds := d.message(got.ID)
	m := ds[0].Message
	if m.Envelope.Sender != "bounces@example.com" || m.Stream != "news" || !m.Envelope.RequireTLS || !slices.Equal(m.Tags, []string{"x"}) || m.Origin.Door != "send" {
		t.Errorf("%+v", m)
	}
	if m.Metadata["n"] != "1" || m.Metadata["b"] != "true" || m.Metadata["s"] != "t" || m.Expires.Sub(m.Arrived).Round(time.Minute) != 2*time.Hour {
		t.Errorf("%v, %v", m.Metadata, m.Expires)
	}
	for _, part := range []string{
		"\r\nTo: Bob <bob@example.net>, carl@example.org\r\n", "\r\nReply-To: office@example.com\r\n", "\r\nX-One: 1\r\n", "\r\nX-Two: b\r\n",
		"aGVsbG8=", "Content-Id: <logo>", "with LOCAL", "iVBORw0KGgo=",
	} {
		if !strings.Contains(content, part) {
			t.Errorf("%q is not in\n%s", part, content)
		}
	}
	if strings.Contains(content, "dora") {
		t.Error("Bcc is shown")
	}
	if found := lint.Check([]byte(content), lint.Options{From: "bounces@example.com", Now: time.Now()}); len(found) > 0 {
		t.Errorf("%v", found)
	}
	if d.added.Load() != 3-1 {
		t.Errorf("the queue knows of %d deliveries", d.added.Load())
	}
}
