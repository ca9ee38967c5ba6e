package unsubscribe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/suppress"
)

// books are the journal and the suppression list of a test.
type books struct {
	mu      sync.Mutex
	order   []string // what was written
	journal []*mta.Record
	listed  map[string]mta.ID
	broken  map[string]error // by what fails: journal, put, list
}

func (b *books) Put(_ context.Context, subs ...*spool.Submission) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.broken["put"]; err != nil {
		return err
	}
	for _, s := range subs {
		b.journal, b.order = append(b.journal, s.Records...), append(b.order, "journal")
	}
	return nil
}

func (b *books) Records(_ context.Context, f spool.RecordFilter, each func(*mta.Record) bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range b.journal {
		if r.ID == f.ID && strings.EqualFold(r.Recipient, f.Recipient) && !each(r) {
			break
		}
	}
	return b.broken["journal"]
}

func (b *books) Left(_ context.Context, address, stream string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, there := b.listed[strings.ToLower(address)+"/"+stream]
	return there, b.broken["list"]
}

func (b *books) Unsubscribe(_ context.Context, address, stream string, id mta.ID, _ string) (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.broken["list"]; err != nil {
		return false, err
	}
	b.listed[strings.ToLower(address)+"/"+stream], b.order = id, append(b.order, "list")
	return true, nil
}

var _ List = (*suppress.List)(nil)

const base = "https://news.widget.example/u"

// newDesk makes a desk whose stream "news" has links.
func newDesk(t testing.TB, change ...func(*Options)) (*Desk, *books) {
	t.Helper()
	b := &books{listed: map[string]mta.ID{}, broken: map[string]error{}}
	b.journal = []*mta.Record{
		{Time: noon, Event: mta.EventAccepted, ID: letter.ID, MessageID: "<1@widget.example>", Stream: "news", Sender: "app@widget.example", Recipient: "Ann@example.com", Destination: "example.com/news", Tags: []string{"march"}},
		{Time: noon, Event: mta.EventAccepted, ID: letter.ID, Stream: "news", Recipient: "bob@example.com"},
	}
	feedback, err := ParseFeedback("{tag}:{stream}:widget")
	if err != nil {
		t.Fatal(err)
	}
	o := Options{
		Keys: filepath.Join(t.TempDir(), "keys"), Store: b, List: b, Now: func() time.Time { return noon },
		Settings: Settings{URL: base, Streams: map[string]Stream{"news": {Link: true, Feedback: feedback}, "plain": {}, "loop": {Feedback: feedback}}},
	}
	for _, c := range change {
		c(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return d, b
}

// content is a message in memory, or on a disk.
type content struct {
	*bytes.Reader
	whole  []byte // nil: it has to be read
	reads  *int
	broken error
}

func stored(s string) *content { return &content{Reader: bytes.NewReader([]byte(s)), reads: new(int)} }

func inMemory(s string) *content {
	c := stored(s)
	c.whole = []byte(s)
	return c
}

func (c *content) Bytes() []byte { *c.reads++; return c.whole }

func (c *content) ReadAt(p []byte, at int64) (int, error) {
	*c.reads++
	if c.broken != nil {
		return 0, c.broken
	}
	return c.Reader.ReadAt(p, at)
}

func to(addresses ...string) (list []mta.Recipient) {
	for _, a := range addresses {
		list = append(list, mta.Recipient{Address: a})
	}
	return list
}

// linkIn gives the token of the link in fields.
func linkIn(t testing.TB, fields []byte) string {
	t.Helper()
	_, rest, found := strings.Cut(string(fields), "List-Unsubscribe: <"+base+"/")
	token, _, closed := strings.Cut(rest, ">")
	if !found || !closed {
		t.Fatalf("no link in %q", fields)
	}
	return token
}

const plain = "From: app@widget.example\r\nSubject: hello\r\n\r\nList-Unsubscribe: in the body\r\n"

// TestFields: mail of a stream with links gets both fields of RFC 8058 and its
// Feedback-ID, for each recipient its own and each time the same; other mail gets
// nothing, and is not read.
func TestFields(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)
	var before []byte
	for _, c := range []*content{inMemory(plain), stored(plain)} {
		got, err := d.Fields(letter, to("Ann@example.com"), c)
		if err != nil {
			t.Fatal(err)
		}
		token := linkIn(t, got)
		if want := "Feedback-ID: march_sale:news:widget\r\nList-Unsubscribe: <" + base + "/" + token + ">\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"; string(got) != want {
			t.Errorf("%q, want %q", got, want)
		}
		if before != nil && !bytes.Equal(got, before) {
			t.Error("the second try has another link")
		}
		before = got
		l, err := d.open(token)
		if err != nil || l != (leave{"news", "Ann@example.com", letter.ID}) {
			t.Errorf("%+v, %v", l, err)
		}
	}
	if other, _ := d.Fields(letter, to("bob@example.com"), stored(plain)); bytes.Equal(other, before) {
		t.Error("two recipients have one link")
	}
	for _, m := range []*mta.Message{{ID: letter.ID, Stream: "plain"}, {ID: letter.ID, Stream: "unheard-of"}, {ID: letter.ID, Stream: "news", Kind: mta.KindBounce}, {ID: letter.ID, Stream: "news", Kind: mta.KindNotice}} {
		c := stored(plain)
		if got, err := d.Fields(m, to("ann@example.com"), c); got != nil || err != nil || *c.reads != 0 {
			t.Errorf("%s: %q, %v, read %d times", m.Stream, got, err, *c.reads)
		}
		if d.Apart(&mta.Delivery{Message: m}) {
			t.Errorf("%s: recipients get transactions of their own for nothing", m.Stream)
		}
	}
	if !d.Apart(&mta.Delivery{Message: letter}) {
		t.Error("recipients of a stream with links share a transaction")
	}
	if got, _ := d.Fields(letter, to("ann@example.com", "bob@example.com"), stored(plain)); strings.Contains(string(got), "List-Unsubscribe") {
		t.Errorf("two recipients share a link: %q", got)
	}
	loop := &mta.Message{ID: letter.ID, Stream: "loop"}
	if got, _ := d.Fields(loop, to("a@example.com", "b@example.com"), stored(plain)); string(got) != "Feedback-ID: :loop:widget\r\n" || d.Apart(&mta.Delivery{Message: loop}) {
		t.Errorf("%q", got)
	}
}

// TestOwnFields: what the application wrote stays, and stays alone.
func TestOwnFields(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)
	for head, want := range map[string]string{
		"list-unsubscribe: <mailto:x@widget.example>\r\n": "Feedback-ID", "List-Unsubscribe:\r\n <https://widget.example>\r\n": "Feedback-ID",
		"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n": "Feedback-ID", "FEEDBACK-ID: a:b:c\r\n": "List-Unsubscribe List-Unsubscribe-Post",
		"Feedback-ID: a:b:c\r\nList-Unsubscribe: <x>\r\n": "", "X-List-Unsubscribe: no\r\nList-Id: a\r\n": "Feedback-ID List-Unsubscribe List-Unsubscribe-Post",
		strings.Repeat("X: y\r\n", 20_000): "", // beyond the bounds: as if it had them all
	} {
		got, err := d.Fields(letter, to("ann@example.com"), stored("From: a@widget.example\r\n"+head+"\r\nbody\r\n"))
		var names []string
		for line := range strings.SplitSeq(strings.TrimSuffix(string(got), "\r\n"), "\r\n") {
			if name, _, ok := strings.Cut(line, ": "); ok {
				names = append(names, name)
			}
		}
		if strings.Join(names, " ") != want || err != nil {
			t.Errorf("%.60q: %q, want %s, %v", head, got, want, err)
		}
	}
	c := stored(plain)
	c.broken = errors.New("input/output error")
	if got, err := d.Fields(letter, to("ann@example.com"), c); got != nil || !errors.Is(err, c.broken) {
		t.Errorf("%q, %v", got, err)
	}
	if n := d.Counts(); n.Own != 5 || n.Links != 2 {
		t.Errorf("%+v", n)
	}
}

// TestReadIsBounded: of a message on the disk no more is read than its header.
func TestReadIsBounded(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)
	c := stored(plain + strings.Repeat("body\r\n", 1<<20))
	if _, err := d.Fields(letter, to("ann@example.com"), c); err != nil || *c.reads > 3 {
		t.Error(*c.reads, err)
	}
}

// TestLongAddress: a link never passes its bound; without room for the ID it goes
// without.
func TestLongAddress(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t, func(o *Options) { o.Settings.URL = base + strings.Repeat("x", 80) })
	for n := 1; n <= 300; n++ {
		address := strings.Repeat("a", n) + "@example.com"
		got, err := d.Fields(letter, to(address), inMemory(plain))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(got), "\r\n") {
			if rest, ok := strings.CutPrefix(line, "List-Unsubscribe: <"); ok && len(rest) > MaxURL+1 {
				t.Errorf("%d octets of %s", len(rest), address)
			}
		}
		if fits := len(address) <= maxAddress; fits != strings.Contains(string(got), "List-Unsubscribe") {
			t.Errorf("an address of %d octets: %q", len(address), got)
		}
	}
	if n := d.Counts(); n.Unfit != 300+12-maxAddress {
		t.Errorf("%+v", n)
	}
}

// TestLeave: the journal and the list hear of it, in this order, once.
func TestLeave(t *testing.T) {
	t.Parallel()
	d, b := newDesk(t)
	l := leave{"news", "Ann@example.com", letter.ID}
	if fresh, err := d.leave(t.Context(), l); !fresh || err != nil {
		t.Fatal(fresh, err)
	}
	r := b.journal[len(b.journal)-1]
	if r.Event != mta.EventUnsubscribed || r.ID != letter.ID || r.Recipient != "Ann@example.com" || r.MessageID != "<1@widget.example>" || r.Destination != "example.com/news" || len(r.Tags) != 1 || r.Reason != "unsubscribed from the stream news by the link in the message" || !r.Time.Equal(noon) {
		t.Errorf("%+v", r)
	}
	if fresh, err := d.leave(t.Context(), l); fresh || err != nil {
		t.Error(fresh, err)
	}
	if got := fmt.Sprint(b.order, b.listed); got != fmt.Sprint([]string{"journal", "list"}, map[string]mta.ID{"ann@example.com/news": letter.ID}) {
		t.Error(got)
	}
	// Without a message, or one that the journal has dropped, the list has to do.
	for _, l := range []leave{{"news", "cid@example.com", mta.ID{}}, {"news", "dan@example.com", letter.ID}, {"news", "eve@example.com", mta.ID{9}}} {
		if fresh, err := d.leave(t.Context(), l); !fresh || err != nil {
			t.Error(l, err)
		}
	}
	if len(b.listed) != 4 || len(b.journal) != 3 {
		t.Error(b.listed, len(b.journal))
	}
}

// TestLeaveInTrouble: the journal may fail, the list must not.
func TestLeaveInTrouble(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"journal", "put", "list"} {
		d, b := newDesk(t)
		b.broken[what] = errors.New("no space left on device")
		fresh, err := d.leave(t.Context(), leave{"news", "ann@example.com", letter.ID})
		if _, listed := b.listed["ann@example.com/news"]; fresh != (what != "list") || listed != fresh || (err == nil) != fresh {
			t.Errorf("%s: %v, %v, %v", what, fresh, listed, err)
		}
	}
}

// TestReload: links may come and go while mail flows, and with a damaged file of
// keys they do not come.
func TestReload(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t, func(o *Options) { o.Settings.URL = "" })
	if got, err := d.Fields(letter, to("ann@example.com"), inMemory(plain)); string(got) != "Feedback-ID: march_sale:news:widget\r\n" || err != nil || d.Apart(&mta.Delivery{Message: letter}) {
		t.Errorf("without a URL: %q, %v", got, err)
	}
	if _, err := d.open("AQAA"); err == nil {
		t.Error("without keys a token opens")
	}
	on := Settings{URL: base, Streams: map[string]Stream{"news": {Link: true}}}
	if err := d.Configure(on); err != nil {
		t.Fatal(err)
	}
	got, err := d.Fields(letter, to("ann@example.com"), inMemory(plain))
	if err != nil || !d.Apart(&mta.Delivery{Message: letter}) {
		t.Fatal(err)
	}
	if _, err := d.open(linkIn(t, got)); err != nil {
		t.Error(err)
	}
	bad, _ := newDesk(t, func(o *Options) { o.Settings.URL = "" })
	bad.opts.Keys = filepath.Join(t.TempDir(), "not", "there")
	if err := bad.Configure(on); err == nil || !strings.HasPrefix(err.Error(), "the keys of unsubscription: ") || bad.Apart(&mta.Delivery{Message: letter}) {
		t.Error(err)
	}
}

func BenchmarkFields(b *testing.B) {
	d, _ := newDesk(b)
	c, rcpt := inMemory(plain), to("ann@example.com")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Fields(letter, rcpt, c); err != nil {
			b.Fatal(err)
		}
	}
}
