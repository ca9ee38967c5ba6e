package suppress

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"mailout/internal/bounce"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// notes are spool.Notes in memory.
type notes struct {
	mu     sync.Mutex
	of     map[string][]byte
	broken error
	reads  int
	taken  func() // called when a snapshot has been taken; may be nil
}

func newNotes() *notes { return &notes{of: map[string][]byte{}} }

func (n *notes) Note(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reads++
	return n.of[name], n.broken
}

func (n *notes) Notes(_ context.Context, prefix, after string, f func(string, []byte) bool) error {
	n.mu.Lock()
	snapshot := maps.Clone(n.of)
	err := n.broken
	n.mu.Unlock()
	if err != nil {
		return err
	}
	if n.taken != nil {
		n.taken()
	}
	for _, name := range slices.Sorted(maps.Keys(snapshot)) {
		if strings.HasPrefix(name, prefix) && name > after && !f(name, snapshot[name]) {
			return nil
		}
	}
	return nil
}

func (n *notes) SetNotes(_ context.Context, changes map[string][]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken != nil {
		return n.broken
	}
	for name, value := range changes {
		if len(name) > spool.MaxNoteName {
			return errors.New("a name too long")
		}
		if value == nil {
			delete(n.of, name)
		} else {
			n.of[name] = value
		}
	}
	return nil
}

type world struct {
	*List
	t     *testing.T
	notes *notes
	at    time.Time
	gone  map[string]bool
}

func newWorld(t *testing.T, s Settings) *world {
	w := &world{t: t, notes: newNotes(), at: time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC), gone: map[string]bool{}}
	w.List = New(Options{
		Notes: w.notes, Settings: s, Now: func() time.Time { return w.at },
		Gone: func(_ context.Context, domain string) bool { return w.gone[domain] },
	})
	return w
}

func (w *world) must(added Added, err error) Added {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	return added
}

func (w *world) listed(address, stream string) bool {
	return w.Find(context.Background(), address, stream) != nil
}

func TestFind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1, Streams: map[string][]Reason{"invoices": {Dead, Complained}}})
	w.must(w.Add(t.Context(),
		Entry{Address: "Ann@EXAMPLE.com", Reason: Dead},
		Entry{Address: "bob@example.com", Stream: "news", Reason: Unsubscribed},
		Entry{Address: "cid@example.com", Reason: Unsubscribed},
		Entry{Address: "dan@bücher.example", Reason: Manual, Expires: w.at.Add(time.Hour)},
	))
	w.Start(t.Context())
	w.Stop() // the filter was read, or not: the answers are the same
	for _, c := range []struct {
		address, stream string
		want            bool
	}{
		{"ann@example.com", "default", true}, {"ANN@example.com", "invoices", true}, {"ann@example.org", "default", false},
		{"bob@example.com", "news", true}, {"bob@example.com", "default", false},
		{"cid@example.com", "default", true}, {"cid@example.com", "invoices", false},
		{"dan@xn--bcher-kva.example", "default", true}, {"dan@xn--bcher-kva.example", "invoices", false},
		{"ann@example.co", "default", false}, {"nn@example.com", "default", false},
	} {
		if got := w.listed(c.address, c.stream); got != c.want {
			t.Errorf("%s in %s: %v", c.address, c.stream, got)
		}
	}
	w.at = w.at.Add(time.Hour)
	if w.listed("dan@xn--bcher-kva.example", "default") {
		t.Error("an entry that has expired counts")
	}
}

// TestTroubleOfOursSuppressesNobody: a store that fails makes addresses unlisted.
func TestTroubleOfOursSuppressesNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	w.must(w.Add(t.Context(), Entry{Address: "ann@example.com"}))
	w.notes.broken = errors.New("disk")
	if w.listed("ann@example.com", "default") || w.Counts().Errors == 0 {
		t.Error("listed, or not counted")
	}
	if _, err := w.Add(t.Context(), Entry{Address: "bob@example.com"}); err == nil {
		t.Error("a change that was not stored is told as done")
	}
	w.Start(t.Context())
	w.Stop()
	w.notes.broken = nil
	if !w.listed("ann@example.com", "default") {
		t.Error("what could not be read once is forgotten")
	}
	w.notes.of[entryName("bad@example.com", "")] = []byte("{")
	if w.listed("bad@example.com", "default") {
		t.Error("a damaged entry counts")
	}
}

func refused(code int, enhanced mta.Enhanced, text string) mta.Result {
	return mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Reply: mta.Reply{Code: code, Enhanced: enhanced, Text: text}}
}

var (
	e511 = mta.Enhanced{Class: 5, Subject: 1, Detail: 1}
	e521 = mta.Enhanced{Class: 5, Subject: 2, Detail: 1}
	e571 = mta.Enhanced{Class: 5, Subject: 7, Detail: 1}
)

// learn lets the list hear of one attempt, and waits.
func (w *world) learn(r mta.Result) {
	m := &mta.Message{ID: mta.ID{1}, Stream: "news"}
	w.Learn(&mta.Delivery{Message: m, Recipients: []mta.Recipient{{Address: "ann@example.com"}}}, &mta.Attempt{Results: []mta.Result{r}})
	for {
		select {
		case h := <-w.heard:
			w.take(context.Background(), h)
		default:
			return
		}
	}
}

// TestWhatReceiversSay: which replies list an address at once, which do not.
func TestWhatReceiversSay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		result mta.Result
		want   bool
	}{
		"code and words":     {refused(550, e511, "User unknown in virtual mailbox table"), true},
		"disabled":           {refused(550, e521, "The account has been disabled"), true},
		"words alone":        {refused(550, mta.Enhanced{}, "No such user here"), false},
		"code alone":         {refused(550, e511, "see https://mail.example/help for what to do"), false},
		"policy":             {refused(550, e571, "Message refused by policy"), false},
		"policy says user":   {refused(550, e571, "Service unavailable; client host blocked using Spamhaus"), false},
		"full":               {refused(552, mta.Enhanced{Class: 5, Subject: 2, Detail: 2}, "Mailbox full"), false},
		"content":            {refused(554, mta.Enhanced{Class: 5, Subject: 6}, "looks like spam"), false},
		"domain":             {refused(550, mta.Enhanced{Class: 5, Subject: 1, Detail: 2}, "No such domain"), false},
		"not of a recipient": {mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeMessage, Reply: mta.Reply{Code: 550, Enhanced: e511, Text: "User unknown"}}, false},
		"temporary":          {mta.Result{Class: mta.ClassTemporary, Scope: mta.ScopeRecipient, Reply: mta.Reply{Code: 450, Enhanced: mta.Enhanced{Class: 4, Subject: 1, Detail: 1}, Text: "User unknown"}}, false},
		"no reply":           {mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Enhanced: e511}, false},
		"listed before":      {mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Suppressed: true, Reply: mta.Reply{Code: 550, Enhanced: e511, Text: "User unknown"}}, false},
		"another class":      {mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeRecipient, Bounce: "policy", Reply: mta.Reply{Code: 550, Enhanced: e511, Text: "User unknown"}}, false},
	} {
		w := newWorld(t, Settings{Sure: 1})
		w.learn(c.result)
		if got := w.listed("ann@example.com", "other"); got != c.want {
			t.Errorf("%s: listed %v", name, got)
		}
	}
	w := newWorld(t, Settings{Sure: 1, Off: true})
	w.learn(refused(550, e511, "User unknown"))
	if w.listed("ann@example.com", "news") {
		t.Error("learned though it is off")
	}
}

// TestUnclearRepliesOnSeveralDays: they count once a day, within two weeks, and
// a delivery takes them back.
func TestUnclearRepliesOnSeveralDays(t *testing.T) {
	t.Parallel()
	unclear := refused(550, mta.Enhanced{}, "No such user here")
	const day = 24 * time.Hour
	for name, c := range map[string]struct {
		after []time.Duration // between the replies
		want  bool
	}{
		"three days":         {[]time.Duration{0, day, day}, true},
		"one day":            {[]time.Duration{0, time.Hour, time.Hour, time.Hour}, false},
		"two days":           {[]time.Duration{0, day, time.Hour, time.Hour}, false},
		"over three weeks":   {[]time.Duration{0, 10 * day, 10 * day}, false},
		"within two weeks":   {[]time.Duration{0, 6 * day, 7 * day}, true},
		"and again later on": {[]time.Duration{0, 20 * day, day, day}, true},
	} {
		w := newWorld(t, Settings{Sure: 1})
		for _, d := range c.after {
			w.at = w.at.Add(d)
			w.learn(unclear)
		}
		if got := w.listed("ann@example.com", "news"); got != c.want {
			t.Errorf("%s: listed %v", name, got)
		}
	}
	w := newWorld(t, Settings{Sure: 1})
	w.tidy(t.Context())
	for i := range 5 {
		w.learn(unclear)
		w.at = w.at.Add(day)
		if i%2 == 1 {
			w.learn(mta.Result{Class: mta.ClassDelivered})
		}
	}
	if w.listed("ann@example.com", "news") {
		t.Error("listed, though mail reached it in between")
	}
}

func TestExpiry(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1, Dead: 48 * time.Hour, Domain: time.Hour})
	w.gone["example.com"] = true
	w.learn(refused(550, mta.Enhanced{Class: 5, Subject: 1, Detail: 2}, "No such domain"))
	if !w.listed("ann@example.com", "news") {
		t.Fatal("a domain that is gone is not listed")
	}
	w.at = w.at.Add(time.Hour)
	if w.listed("ann@example.com", "news") {
		t.Error("a domain that is gone stays for longer than an hour")
	}
	w.learn(refused(550, e511, "User unknown"))
	w.at = w.at.Add(47 * time.Hour)
	if !w.listed("ann@example.com", "news") {
		t.Error("a dead address was forgotten too early")
	}
	w.learn(refused(550, e511, "User unknown"))
	w.at = w.at.Add(47 * time.Hour)
	e := w.Find(t.Context(), "ann@example.com", "news")
	if e == nil || e.Hits != 2 || !strings.Contains(e.Words(), "it is dead (550 5.1.1 User unknown)") {
		t.Errorf("what was said again: %+v", e)
	}
	w.at = w.at.Add(2 * time.Hour)
	if w.listed("ann@example.com", "news") {
		t.Error("a dead address stays for ever")
	}
	if w.tidy(t.Context()); len(w.notes.of) != 0 {
		t.Errorf("what has expired stays in the store: %v", w.notes.of)
	}
}

// TestComplaintsStay: neither time nor a server's reply takes one back.
func TestComplaintsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	for _, ev := range []Evidence{
		{Address: "ann@example.com", Stream: "news", Reason: Complained},
		{Address: "ann@example.com", Stream: "news", Reason: Dead, Reply: bounce.Reply{Code: 550, Enhanced: "5.1.1", Text: "User unknown"}},
	} {
		if e, err := w.Report(t.Context(), ev); err != nil || e == nil {
			t.Fatal(e, err)
		}
	}
	w.at = w.at.AddDate(20, 0, 0)
	e := w.Find(t.Context(), "ann@example.com", "invoices")
	if e == nil || e.Reason != Complained || e.Hits != 2 {
		t.Errorf("%+v", e)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	for field, e := range map[string]Entry{
		"address": {Address: "nobody"}, "reason": {Address: "a@example.com", Reason: "because"},
		"stream": {Address: "a@example.com", Stream: "a b"}, "expires": {Address: "a@example.com", Expires: w.at},
	} {
		_, err := w.Add(t.Context(), Entry{Address: "good@example.com"}, e)
		var at *EntryError
		var what *FieldError
		if !errors.As(err, &at) || at.Index != 1 || !errors.As(err, &what) || what.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if len(w.notes.of) > 0 {
		t.Error("a part of what was refused is stored")
	}
	if _, err := w.Add(t.Context(), make([]Entry, MaxBatch+1)...); err == nil {
		t.Error("more than a batch is taken")
	}
	long := Entry{Address: strings.Repeat("a", 64) + "@" + strings.Repeat("b.", 85) + "example", Stream: strings.Repeat("s", 64), Reply: strings.Repeat("ü", 1000)}
	w.must(w.Add(t.Context(), long))
}

func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	var want []string
	for i := range 25 {
		e := Entry{Address: fmt.Sprintf("a%02d@example.com", i), Stream: []string{"", "news"}[i%2], Reason: Reasons[i%3]}
		want = append(want, e.Address)
		w.must(w.Add(t.Context(), e))
	}
	var got []string
	cursor, pages := "", 0
	for {
		page, next, err := w.Page(t.Context(), Query{}, cursor, 7)
		if err != nil || len(page) > 7 {
			t.Fatal(len(page), err)
		}
		for _, e := range page {
			got = append(got, e.Address)
		}
		if pages++; next == "" {
			break
		}
		cursor = next
	}
	if !slices.Equal(got, want) || pages != 4 {
		t.Errorf("%d pages: %v", pages, got)
	}
	news := "news"
	for _, c := range []struct {
		q Query
		n int
	}{
		{Query{Stream: &news}, 12}, {Query{Reason: Dead}, 9}, {Query{Address: "A03@example.com"}, 1}, {Query{Domain: "EXAMPLE.com"}, 25},
		{Query{Domain: "ample.com"}, 0}, {Query{Address: "a0@example.com"}, 0},
	} {
		if page, _, err := w.Page(t.Context(), c.q, "", 100); err != nil || len(page) != c.n {
			t.Errorf("%+v: %d, %v", c.q, len(page), err)
		}
	}
}

func TestRemove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Settings{Sure: 1})
	w.must(w.Add(t.Context(), Entry{Address: "ann@example.com"}, Entry{Address: "ann@example.com", Stream: "news"}, Entry{Address: "ann@example.co"}))
	w.learn(refused(550, mta.Enhanced{}, "No such user here"))
	if n, err := w.Remove(t.Context(), "Ann@example.com", "", false); n != 1 || err != nil || !w.listed("ann@example.com", "news") || w.listed("ann@example.com", "other") {
		t.Error("of one stream:", n, err)
	}
	if n, err := w.Remove(t.Context(), "Ann@example.com", "", true); n != 1 || err != nil || w.listed("ann@example.com", "news") {
		t.Error("of all:", n, err)
	}
	if n, err := w.Remove(t.Context(), "Ann@example.com", "", true); n != 0 || err != nil || len(w.notes.of) != 1 || !w.listed("ann@example.co", "news") {
		t.Error("again, or somebody else's:", n, err, w.notes.of)
	}
}

// TestRun: what is learned is written by the goroutine, and what was learned
// before the stop as well; what has expired is removed within an hour or so.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newNotes()
		l := New(Options{Notes: n, Settings: Settings{Sure: 1, Dead: 30 * time.Minute}})
		l.Start(t.Context())
		d := &mta.Delivery{Message: &mta.Message{Stream: "news"}, Recipients: []mta.Recipient{{Address: "ann@example.com"}}}
		a := &mta.Attempt{Results: []mta.Result{refused(550, e511, "User unknown")}}
		l.Learn(d, a)
		synctest.Wait()
		if l.Find(t.Context(), "ann@example.com", "news") == nil || l.Counts().Learned[Dead] != 1 || l.Counts().Entries[Dead] != 1 {
			t.Errorf("not learned: %+v", l.Counts())
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if len(n.of) != 0 || l.Counts().Entries[Dead] != 0 {
			t.Errorf("not removed: %v", n.of)
		}
		for range maxHeard + 10 { // more than it holds: dropped, never waited for
			l.Learn(d, a)
		}
		l.Stop()
		if l.Find(t.Context(), "ann@example.com", "news") == nil {
			t.Error("what was learned before the stop is lost")
		}
	})
}
