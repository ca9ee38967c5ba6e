package returns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/spool"
	"mailout/internal/submit"
	"mailout/internal/suppress"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// desk is an office with everything around it.
type desk struct {
	*Office
	t *testing.T

	mu        sync.Mutex
	journal   []*mta.Record
	reports   []queue.ReportRequest
	heads     []string
	queued    int
	evidence  []suppress.Evidence
	complains []*mta.Record
	broken    error // of Put
	at        time.Time
}

func (d *desk) Put(_ context.Context, subs ...*spool.Submission) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return d.broken
	}
	for _, s := range subs {
		d.journal = append(d.journal, s.Records...)
	}
	return nil
}

func (d *desk) Records(_ context.Context, f spool.RecordFilter, each func(*mta.Record) bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, r := range d.journal {
		if r.ID == f.ID && !each(r) {
			break
		}
	}
	return nil
}

func (d *desk) Add([]*mta.Delivery) { d.queued++ }

func (d *desk) Returned(_ context.Context, r queue.ReportRequest, head []byte) (*spool.Submission, error) {
	d.reports, d.heads = append(d.reports, r), append(d.heads, string(head))
	return &spool.Submission{Message: &mta.Message{ID: mta.ID{9}}}, nil
}

func (d *desk) Report(_ context.Context, ev suppress.Evidence) (*suppress.Entry, error) {
	d.evidence = append(d.evidence, ev)
	return nil, nil
}

var letterID = mta.NewID(noon, [10]byte{7})

const domain = "bounces.widget.example"

// newDesk makes an office that knows a message to ann and bob at example.com and
// cid at example.net, handed over to all of them.
func newDesk(t *testing.T, change ...func(*Settings)) *desk {
	d := &desk{t: t, at: noon.Add(time.Hour)}
	s := Settings{Domain: domain, Forward: true, Complaints: []string{"fbl@" + domain}, Valid: 60 * 24 * time.Hour}
	for _, c := range change {
		c(&s)
	}
	var err error
	d.Office, err = New(Options{
		Keys: filepath.Join(t.TempDir(), "keys"), Store: d, Queue: d, Reporter: d, List: d, Settings: s, Now: func() time.Time { return d.at },
		Complained: func(r *mta.Record) { d.complains = append(d.complains, r) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []mta.Event{mta.EventAccepted, mta.EventDelivered} {
		for _, a := range []string{"ann@example.com", "bob@example.com", "cid@example.net"} {
			d.journal = append(d.journal, &mta.Record{
				Time: noon, Event: e, ID: letterID, MessageID: "<01K9Z3N4V5W6X7Y8Z9ABCDEFGH@mailout.widget.example>", Stream: "news", Sender: "app@widget.example",
				Recipient: a, Tags: []string{"march"}, Site: "mx.example",
			})
		}
	}
	return d
}

// path is the return path of a transaction with the message's recipients.
func (d *desk) path(rcpts ...string) string {
	m := &mta.Message{ID: letterID, Stream: "news", Envelope: mta.Envelope{Sender: "app@widget.example"}}
	list := make([]mta.Recipient, len(rcpts))
	for i, a := range rcpts {
		list[i] = mta.Recipient{Address: a}
	}
	return d.ReturnPath(&mta.Delivery{Message: m}, &mta.Route{}, list)
}

// send hands a message to the door.
func (d *desk) send(to, content string) error {
	r := &submit.Request{Recipients: []mta.Recipient{{Address: to}}}
	draft, err := d.Begin(d.t.Context(), r)
	if err != nil {
		return err
	}
	defer draft.Abort()
	for len(content) > 0 {
		n := min(len(content), 10_000)
		if _, err := draft.Write([]byte(content[:n])); err != nil {
			return err
		}
		content = content[n:]
	}
	_, err = draft.Commit(d.t.Context())
	return err
}

func sample(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../dsn/testdata/returned/" + name + ".eml")
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// new are the journal's records behind the message's own.
func (d *desk) new() string {
	var out []string
	for _, r := range d.journal[6:] {
		out = append(out, fmt.Sprintf("%s %s %d %s %s", r.Event, r.Recipient, r.Code, r.Enhanced, r.BounceClass))
	}
	return strings.Join(out, "; ")
}

func TestBounce(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if err := d.send(d.path("ann@example.com"), sample(t, "postfix")); err != nil {
		t.Fatal(err)
	}
	if got := d.new(); got != "bounced ann@example.com 550 5.1.1 user_unknown" {
		t.Error(got)
	}
	r := d.journal[6]
	if !r.CameBack() || r.Report.IsZero() || r.ID != letterID || r.Stream != "news" || !slices.Equal(r.Tags, []string{"march"}) || r.Reason != "came back from inner.example.com" || !r.Time.Equal(d.at) {
		t.Errorf("%+v", r)
	}
	if len(d.reports) != 1 || d.queued != 1 || d.reports[0].Recipients[0].Address != "ann@example.com" || d.reports[0].Delivery.Message.Envelope.Sender != "app@widget.example" {
		t.Errorf("%+v", d.reports)
	}
	if h := d.heads[0]; !strings.Contains(h, "Subject: User unknown? Not at all\r\n") || strings.Contains(h, "Return-Path") || !strings.HasSuffix(h, "\r\n\r\n") {
		t.Errorf("the header that came back: %q", h)
	}
	if len(d.evidence) != 1 || d.evidence[0].Address != "ann@example.com" || d.evidence[0].Reason != suppress.Dead || d.evidence[0].Reply.Enhanced != "5.1.1" || d.evidence[0].Message != letterID {
		t.Errorf("%+v", d.evidence)
	}
	if err := d.send(strings.ToUpper(d.path("ann@example.com")), sample(t, "postfix")); err != nil {
		t.Fatal(err)
	}
	if len(d.journal) != 7 || len(d.reports) != 1 {
		t.Error("what came a second time is recorded twice")
	}
}

// TestSeveralRecipients: the report says which of them, within the domain that
// the transaction was for.
func TestSeveralRecipients(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ report, want string }{
		"named":        {sample(t, "postfix"), "bounced ann@example.com 550 5.1.1 user_unknown"},
		"other domain": {strings.ReplaceAll(sample(t, "postfix"), "ann@example.com", "cid@example.net"), ""},
		"nobody":       {strings.ReplaceAll(sample(t, "postfix"), "ann@example.com", "eve@example.com"), ""},
		"in words":     {strings.ReplaceAll(sample(t, "exim"), "ann@example.com", "BOB@example.com"), "bounced bob@example.com 550 5.0.0 user_unknown"},
		"qmail":        {strings.NewReplacer("ann@example.jp", "ann@example.com", "bob@example.jp", "bob@example.com").Replace(sample(t, "qmail")), "bounced ann@example.com 550 5.1.1 user_unknown; bounced bob@example.com 0 5.1.1 user_unknown"},
	} {
		d := newDesk(t)
		if err := d.send(d.path("ann@example.com", "bob@example.com"), c.report); err != nil {
			t.Fatal(err)
		}
		if got := d.new(); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
		if c.want == "" && d.Counts().Unmatched != 1 {
			t.Errorf("%s: not counted", name)
		}
	}
}

// TestATagSpeaksOfItsRecipient: whatever a report claims.
func TestATagSpeaksOfItsRecipient(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	forged := strings.NewReplacer("ann@inner.example.com", "bob@example.com", "ann@example.com", "bob@example.com").Replace(sample(t, "postfix"))
	if err := d.send(d.path("ann@example.com"), forged); err != nil {
		t.Fatal(err)
	}
	if got := d.new(); got != "bounced ann@example.com 550 5.1.1 user_unknown" || len(d.evidence) > 0 {
		t.Error(got, d.evidence)
	}
}

// TestNothingFollows: from delays, successes, answers and spam.
func TestNothingFollows(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"delayed", "success", "exim-delay", "vacation", "answer", "spam", "jmrp"} {
		d := newDesk(t)
		if err := d.send(d.path("ann@example.com"), sample(t, name)); err != nil {
			t.Fatal(err)
		}
		if d.new() != "" || len(d.reports)+len(d.evidence) > 0 || d.Counts().Ignored != 1 {
			t.Errorf("%s: %s %v", name, d.new(), d.evidence)
		}
	}
}

func TestComplaints(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to     func(d *desk) string
		sample string
		change func(d *desk, s string) string
		want   string
		reason suppress.Reason
	}{
		"to the tag": {func(d *desk) string { return d.path("ann@example.com") }, "arf", nil, "complained ann@example.com 0  ", suppress.Complained},
		"tag inside": {func(*desk) string { return "fbl@" + domain }, "arf", func(d *desk, s string) string {
			return strings.ReplaceAll(s, "b+aaaa@"+domain, d.path("ann@example.com"))
		}, "complained ann@example.com 0  ", suppress.Complained},
		"tag of several": {func(*desk) string { return "FBL@" + domain }, "arf", func(d *desk, s string) string {
			return strings.NewReplacer("b+aaaa@"+domain, d.path("ann@example.com", "bob@example.com"), "ann@isp.example", "bob@example.com").Replace(s)
		}, "complained bob@example.com 0  ", suppress.Complained},
		"opting out": {func(*desk) string { return "fbl@" + domain }, "arf-opt-out", func(d *desk, s string) string {
			return strings.ReplaceAll(s, "b+aaaa@"+domain, d.path("ann@example.com"))
		}, "complained ann@example.com 0  ", suppress.Unsubscribed},
		"attached": {func(*desk) string { return "fbl@" + domain }, "jmrp", func(d *desk, s string) string {
			return strings.ReplaceAll(s, "b+aaaa@"+domain, d.path("ann@example.com"))
		}, "complained ann@example.com 0  ", suppress.Complained},
		"no tag":    {func(*desk) string { return "fbl@" + domain }, "arf", nil, "", ""},
		"no report": {func(*desk) string { return "fbl@" + domain }, "spam", nil, "", ""},
		"forged tag": {func(*desk) string { return "fbl@" + domain }, "arf", func(d *desk, s string) string {
			return strings.ReplaceAll(s, "b+aaaa@"+domain, newDesk(d.t).path("ann@example.com"))
		}, "", ""},
		"not spam": {func(d *desk) string { return d.path("ann@example.com") }, "arf", func(_ *desk, s string) string {
			return strings.Replace(s, "Feedback-Type: abuse", "Feedback-Type: not-spam", 1)
		}, "", ""},
	} {
		d := newDesk(t)
		text := sample(t, c.sample)
		if c.change != nil {
			text = c.change(d, text)
		}
		for range 2 { // the second time changes nothing in the journal
			if err := d.send(c.to(d), text); err != nil {
				t.Fatal(name, err)
			}
		}
		if got := d.new(); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
		if c.want == "" {
			if len(d.evidence) > 0 || len(d.complains) > 0 {
				t.Errorf("%s: %v", name, d.evidence)
			}
			continue
		}
		if d.evidence[0].Reason != c.reason || d.evidence[0].Stream != "news" || len(d.complains) != 1 || d.complains[0].Site != "mx.example" || len(d.reports) > 0 {
			t.Errorf("%s: %+v %+v", name, d.evidence, d.complains)
		}
	}
}

// TestComplaintByMessageID: a Message-ID of ours serves when its message had one
// recipient, and no other.
func TestComplaintByMessageID(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rcpts     []string
		messageID string // empty: ours
		want      int
	}{{[]string{"ann@isp.example"}, "", 1}, {[]string{"ann@isp.example", "bob@isp.example"}, "", 0}, {[]string{"ann@isp.example"}, "<4711@shop.example>", 0}} {
		d := newDesk(t)
		id, _ := mta.ParseID("01K9Z3N4V5W6X7Y8Z9ABCDEFGH")
		given := c.messageID
		if given == "" {
			given = "<01K9Z3N4V5W6X7Y8Z9ABCDEFGH@mailout.widget.example>"
		}
		for _, a := range c.rcpts {
			d.journal = append(d.journal, &mta.Record{Event: mta.EventAccepted, ID: id, MessageID: given, Stream: "news", Recipient: a})
		}
		if err := d.send("fbl@"+domain, sample(t, "arf")); err != nil {
			t.Fatal(err)
		}
		if len(d.evidence) != c.want {
			t.Errorf("%v %s: %v", c.rcpts, given, d.evidence)
		}
	}
}

func TestDoor(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	good := d.path("ann@example.com")
	for address, want := range map[string]bool{
		good: true, strings.ToUpper(good): true, "fbl@" + domain: true, "FBL@" + domain: true,
		"postmaster@" + domain: false, "b+@" + domain: false, strings.Replace(good, domain, "widget.example", 1): false,
		strings.Replace(good, "b+", "c+", 1): false, "ann@example.com": false, "": false,
	} {
		err := d.CheckRecipient(t.Context(), &submit.Request{}, address)
		var r *submit.Refusal
		if (err == nil) != want || !want && (!errors.As(err, &r) || r.Reply.Code != 550) {
			t.Errorf("%s: %v", address, err)
		}
		if _, err := d.Begin(t.Context(), &submit.Request{Recipients: []mta.Recipient{{Address: good}, {Address: address}}}); (err == nil) != want {
			t.Errorf("%s beside a good one: %v", address, err)
		}
	}
	if _, err := d.Begin(t.Context(), &submit.Request{}); err == nil {
		t.Error("nobody is taken")
	}
	d.at = noon.Add(100 * 24 * time.Hour)
	if d.CheckRecipient(t.Context(), &submit.Request{}, good) == nil {
		t.Error("a return path that is too old is taken")
	}
}

func TestReturnPath(t *testing.T) {
	t.Parallel()
	const sender = "app@widget.example"
	plain := &mta.Message{ID: letterID, Stream: "news", Envelope: mta.Envelope{Sender: sender}, Origin: mta.Origin{User: "erp"}}
	ann := []mta.Recipient{{Address: "ann@example.com"}}
	for name, c := range map[string]struct {
		change func(*Settings)
		m      *mta.Message
		route  mta.Route
		ours   bool
	}{
		"all":           {func(*Settings) {}, plain, mta.Route{}, true},
		"null":          {func(*Settings) {}, &mta.Message{ID: letterID}, mta.Route{}, false},
		"router":        {func(*Settings) {}, plain, mta.Route{Router: "r"}, false},
		"routers too":   {func(s *Settings) { s.Routers = true }, plain, mta.Route{Router: "r"}, true},
		"its stream":    {func(s *Settings) { s.Streams = []string{"news"} }, plain, mta.Route{}, true},
		"other streams": {func(s *Settings) { s.Streams = []string{"x"} }, plain, mta.Route{}, false},
		"its user":      {func(s *Settings) { s.Users = []string{"erp"} }, plain, mta.Route{}, true},
		"other users":   {func(s *Settings) { s.Users = []string{"x"} }, plain, mta.Route{}, false},
		"no domain":     {func(s *Settings) { s.Domain = "" }, plain, mta.Route{}, false},
	} {
		d := newDesk(t, c.change)
		got := d.ReturnPath(&mta.Delivery{Message: c.m}, &c.route, ann)
		if ours := strings.HasPrefix(got, "b+"); ours != c.ours || !ours && got != c.m.Envelope.Sender {
			t.Errorf("%s: %q", name, got)
		}
	}
	d := newDesk(t)
	quiet := d.ReturnPath(&mta.Delivery{Message: plain}, &mta.Route{}, []mta.Recipient{{Address: "ann@example.com", Notify: mta.NotifyNever}})
	if err := d.send(quiet, sample(t, "postfix")); err != nil {
		t.Fatal(err)
	}
	if len(d.reports) > 0 || len(d.journal) != 7 {
		t.Error("the sender is told though NOTIFY=NEVER, or the journal is not")
	}
	off := newDesk(t, func(s *Settings) { s.Forward = false })
	if err := off.send(off.path("ann@example.com"), sample(t, "postfix")); err != nil || len(off.reports) > 0 || len(off.journal) != 7 {
		t.Error("forward = false:", err, len(off.reports))
	}
}

// TestEndedBefore: what we reported ourselves is not reported again; and a
// message that the journal does not know changes nothing.
func TestEndedBefore(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	path := d.path("ann@example.com")
	d.journal[3].Event = mta.EventExpired
	if err := d.send(path, sample(t, "postfix")); err != nil || d.new() != "" || len(d.evidence)+len(d.reports) > 0 {
		t.Error(err, d.new())
	}
	d.journal = nil
	if err := d.send(path, sample(t, "postfix")); err != nil || len(d.journal) > 0 || d.Counts().Unmatched != 1 {
		t.Error(err, d.journal)
	}
}

// TestTroubleComesAgain: what could not be stored is put off, and done the next
// time.
func TestTroubleComesAgain(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	d.broken = spool.ErrFull
	var r *submit.Refusal
	if err := d.send(d.path("ann@example.com"), sample(t, "postfix")); !errors.As(err, &r) || r.Reply.Code != 451 || len(d.evidence) > 0 || d.queued > 0 {
		t.Fatal(err, d.evidence)
	}
	d.broken = nil
	if err := d.send(d.path("ann@example.com"), sample(t, "postfix")); err != nil || d.new() == "" {
		t.Error(err, d.new())
	}
}

// TestBounds: a large message is read as far as the bound, what drafts hold is
// bounded in all, and so is the pace.
func TestBounds(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	if err := d.send(d.path("ann@example.com"), sample(t, "exim")+strings.Repeat("x", 3*maxHead)); err != nil || d.new() == "" {
		t.Error(err, d.new())
	}
	var drafts []submit.Draft
	var err error
	for range maxMemory/maxHead + 1 {
		var one submit.Draft
		if one, err = d.Begin(t.Context(), &submit.Request{Recipients: []mta.Recipient{{Address: "fbl@" + domain}}}); err != nil {
			break
		}
		drafts = append(drafts, one)
		if _, err = one.Write(make([]byte, maxHead)); err != nil {
			break
		}
	}
	var r *submit.Refusal
	if !errors.As(err, &r) || r.Reply.Code != 451 {
		t.Error("memory is not bounded:", err)
	}
	for _, one := range drafts {
		one.Abort()
		one.Abort()
	}
	if held := d.memory.Load(); held != 0 {
		t.Errorf("%d octets are held for ever", held)
	}
	for err = nil; err == nil; {
		err = d.send("fbl@"+domain, "x")
	}
	if !errors.As(err, &r) || r.Reply.Code != 451 || d.Counts().Ignored > burst {
		t.Error("the pace is not bounded:", err)
	}
}
