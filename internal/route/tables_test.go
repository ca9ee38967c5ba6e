package route

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
)

func TestSpec(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"direct":                                 "direct",
		" router\tpool:p ":                       "router pool:p",
		"host.test":                              "host.test",
		"host.test:2525   pool:bulk":             "host.test:2525 pool:bulk",
		"[192.0.2.1]:2525":                       "[192.0.2.1]:2525",
		"pool:p":                                 "pool:p",
		"hold":                                   "hold",
		"discard":                                "discard",
		"fail":                                   "fail",
		"fail  No such mail, sorry.":             "fail No such mail, sorry.",
		"fail\tGone":                             "fail Gone",
		"":                                       "!there is no target",
		"hold it":                                "!\"hold\" has something behind it",
		"pool:p q":                               "!\"pool:p\" has something behind it",
		"pool:":                                  "!there is no target",
		"host.test pool:":                        "!pool: has no name",
		"host.test other":                        "!\"other\" is neither",
		"host.test pool:a b":                     "!\"a b\" is not the name",
		"ho st":                                  "!\"st\" is neither",
		"a_b:x:y":                                "!host: ",
		"host.test:0":                            "!host: ",
		"fail \x07":                              "!the text is not",
		"fail " + strings.Repeat("x", maxText+1): "!the text is not",
	} {
		s, err := parseSpec(text)
		if wrong, is := strings.CutPrefix(want, "!"); is {
			if err == nil || !strings.HasPrefix(err.Error(), wrong) {
				t.Errorf("%q: %v", text, err)
			}
			continue
		}
		if err != nil || s.String() != want {
			t.Errorf("%q: %q %v", text, s, err)
		}
	}
}

func FuzzSpec(f *testing.F) {
	for _, seed := range []string{"direct", "router pool:p", "host.test:25", "fail x y", "hold", "pool:x", "fail\t\tx", "mx:a.test", "unix:/run/x", "a|b pool:c"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSpec(text)
		if err != nil {
			return
		}
		if again, err := parseSpec(s.String()); err != nil || again != s {
			t.Fatalf("%q: %+v, then %q: %+v %v", text, s, s.String(), again, err)
		}
		if strings.ContainsAny(s.String(), "\r\n") {
			t.Fatalf("%q has a line end", s)
		}
	})
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"route":"direct"}`:                        "direct 0s",
		`{"route":"router","pool":"p","ttl_s":60}`:  "router pool:p 1m0s",
		`{"route":"pool:p","ttl_s":99999999999999}`: "pool:p 24h0m0s",
		`{"pool":"p"}`:                              "pool:p 0s",
		`{"route":"host.test:25","other":[1]}`:      "host.test:25 0s",
		`{"route":"fail","text":"no"}`:              "fail no 0s",
		`{"route":"hold"}`:                          "hold 0s",
		`{}`:                                        "!",
		`[]`:                                        "!",
		``:                                          "!",
		`{"route":""}`:                              "!",
		`{"route":"hold","pool":"p"}`:               "!",
		`{"route":"direct","text":"x"}`:             "!",
		`{"route":"pool:p","pool":"q"}`:             "!",
		`{"route":"fail","text":"a\r\nb"}`:          "!",
		`{"route":"direct","ttl_s":-1}`:             "!",
		`{"route":"a b"}`:                           "!",
		`{"route":3}`:                               "!",
		`{"route":"direct","pool":"a\nb"}`:          "!",
		`{"route":"fail","text":"` + strings.Repeat("x", maxText+1) + `"}`: "!",
	} {
		s, ttl, err := readAnswer([]byte(body))
		if got := fmt.Sprint(s, ttl); want == "!" && err == nil || want != "!" && (err != nil || got != want) {
			t.Errorf("%s: %s %v", body, got, err)
		}
	}
}

// rewrite writes a table, with a time of its own.
func rewrite(t *testing.T, path, text string) {
	t.Helper()
	at := time.Now().Add(-time.Hour)
	if old, err := os.Stat(path); err == nil {
		at = old.ModTime().Add(time.Second)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

// A table that cannot be read has its mail wait, and never go another way; once
// read, what it said holds until it can be read again. Told once.
func TestTrap36_UnreadableTable(t *testing.T) {
	t.Parallel()
	for _, by := range []Fact{ByDomain, BySender} {
		path := filepath.Join(t.TempDir(), "table")
		s := standard()
		s.Rules = []Rule{{Table: Table{Source: path, By: []Fact{by}}}, {Domains: []string{"*"}, Host: Direct}}
		pattern := []string{ByDomain: "a.test", BySender: "u@x.test"}[by]
		w := newWorld(t, s, targetZone)
		expect := func(what, want string) {
			t.Helper()
			m := &mta.Message{Envelope: mta.Envelope{Sender: "u@x.test"}}
			d := mta.Destination{Domain: "a.test", Stream: mta.DefaultStream}
			if got := planWords(w.p.PlanFor(t.Context(), d, w.p.Variant(m, d))); got != want {
				t.Errorf("%s: %s", what, got)
			}
		}
		alarms := func(n int) {
			t.Helper()
			for range 3 {
				w.p.Refresh()
			}
			if got := strings.Count(w.log.String(), "level=ERROR"); got != n {
				t.Errorf("%d alarms, want %d\n%s", got, n, w.log.String())
			}
		}
		place := []string{ByDomain: path + ":1", BySender: path}[by]
		waits := "local: the table of routes " + path + " cannot be read"
		expect("missing", waits)
		alarms(1)
		rewrite(t, path, pattern+" host.test pool:none\nwrong\n")
		alarms(2)
		expect("broken", waits)
		rewrite(t, path, pattern+" host.test\n")
		alarms(2)
		expect("read", "host.test | [[route]] 1, "+place)
		rewrite(t, path, pattern+" direct\nwrong\n")
		alarms(3)
		expect("broken again", "host.test | [[route]] 1, "+place)
		rewrite(t, path, "other.test discard\n")
		alarms(3)
		expect("without us", "direct mx.a.test | [[route]] 2")
		rewrite(t, path, pattern+" host.test pool:none\n")
		alarms(3)
		expect("a pool that is not there", "local: [[route]] 1, "+place+`: pool: there is no pool "none"`)
		rewrite(t, path, pattern+" router\n")
		alarms(3)
		expect("a router that is not there", "router: [[route]] 1, "+place+`: host: "router" is named, and no [router] is configured`)
		if err := w.p.Reconfigure(Settings{Rules: []Rule{{Table: Table{Source: path + "2"}}}}); err == nil {
			t.Error("settings with a new table that is missing are taken")
		}
		if err := CheckTables(s); err != nil {
			t.Error(err)
		}
		rewrite(t, path, "wrong\n")
		if err := CheckTables(s); err == nil || !strings.Contains(err.Error(), path+":1: ") {
			t.Error(err)
		}
		if err := w.p.Reconfigure(s); err != nil { // the table is known
			t.Error(err)
		}
		expect("after a reload", "router: [[route]] 1, "+place+`: host: "router" is named, and no [router] is configured`)
	}
}

// The hosts of a table have the port and TLS of their rule, and their own port
// first.
func TestTableHosts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	rewrite(t, path, "a.test direct\nb.test host.test\nc.test host.test:2525\n*.test host.test pool:p\n")
	implicit := mta.TLSImplicit
	s := standard()
	s.Pools = []Pool{pooled("p", "192.0.2.1")}
	s.Rules = []Rule{{Table: Table{Source: path}, Port: 587, TLS: &implicit}}
	w := newWorld(t, s, targetZone)
	for domain, want := range map[string]string{"a.test": "587 2", "b.test": "587 3", "c.test": "2525 3", "x.y.test": "587 3 of p"} {
		r, f := w.p.Route(t.Context(), domain)
		if f != nil {
			t.Fatal(domain, f)
		}
		got := fmt.Sprint(r.Port, " ", int(r.TLS))
		if r.Pool != "" {
			got += " of " + r.Pool
		}
		if got != want {
			t.Errorf("%s: %s, want %s", domain, got, want)
		}
	}
}

// flaky is a service that says what it is told.
type flaky struct {
	status int
	body   string
	err    error
	asked  int
}

func (f *flaky) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.asked++; f.err != nil {
		return nil, f.err
	}
	return &http.Response{StatusCode: f.status, Body: io.NopCloser(strings.NewReader(f.body)), Request: r}, nil
}

// A service that is down has the mail wait that it never answered for; old
// answers hold; a plan is no better than its answer; told once.
func TestTrap36_ServiceDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		service := &flaky{status: 200, body: `{"route":"192.0.2.7","ttl_s":60}`}
		var log strings.Builder
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		p.log, p.transport = logTo(&log), service
		if err := p.Reconfigure(Settings{IPv6: true, Rules: []Rule{{Table: Table{Source: "https://user.test/x?key=secret"}}}}); err != nil {
			t.Fatal(err)
		}
		expect := func(domain, want string, life time.Duration) {
			t.Helper()
			plan, f := p.PlanFor(t.Context(), mta.Destination{Domain: domain, Stream: "s"}, "")
			if got := planWords(plan, f); got != want || f == nil && time.Until(plan.Expires) != life {
				t.Errorf("%s: %s", domain, got)
			}
			if f == nil && time.Until(plan.Expires) != life {
				t.Errorf("%s: good for %v", domain, time.Until(plan.Expires))
			}
		}
		expect("a.test", "192.0.2.7 | [[route]] 1, https://user.test/x", time.Minute)
		service.err = errors.New("no route to host")
		time.Sleep(time.Minute)
		expect("a.test", "192.0.2.7 | [[route]] 1, https://user.test/x (an old answer: it gives no new one)", 30*time.Second)
		expect("b.test", "local: the table of routes https://user.test/x gives no answer: no route to host", 0)
		for range 3 {
			if p.Refresh() {
				t.Error("plans are made anew because a service is down")
			}
		}
		service.err = nil
		time.Sleep(time.Minute)
		expect("b.test", "192.0.2.7 | [[route]] 1, https://user.test/x", time.Minute)
		if !p.Refresh() || p.Refresh() {
			t.Error("plans are not made anew, once, when a service is back")
		}
		if got := log.String(); strings.Count(got, "ERROR") != 1 || strings.Count(got, "again") != 1 || strings.Contains(got, "secret") {
			t.Error(got)
		}
		// The order of tags tells no mail apart.
		tags := &httpTable{by: []Fact{ByTags}}
		if a, _, _ := tags.note(&mta.Message{Tags: []string{"a", "b"}}, false); a.text != `{"tags":["a","b"]}` {
			t.Error(a.text)
		} else if b, _, _ := tags.note(&mta.Message{Tags: []string{"b", "a"}}, false); a != b {
			t.Error(a, b)
		}
		// The cache outlives a reload that leaves the table as it is.
		asked := service.asked
		if err := p.Reconfigure(Settings{IPv6: true, Rules: []Rule{{Domains: []string{"x.test"}, Host: Direct}, {Table: Table{Source: "https://user.test/x?key=secret"}}}}); err != nil {
			t.Fatal(err)
		}
		expect("b.test", "192.0.2.7 | [[route]] 2, https://user.test/x", time.Minute)
		if service.asked != asked {
			t.Error("asked again after a reload")
		}
	})
}

// A variant of rules that were replaced is answered by them for the moment, and
// never read as one of the new rules; a much older one is put off.
func TestVariantAfterReload(t *testing.T) {
	t.Parallel()
	rules := func(n int) (s Settings) { // the tag counts from another rule each time
		s = standard()
		for range n {
			s.Rules = append(s.Rules, Rule{Domains: []string{"other.test"}, Host: Direct})
		}
		s.Rules = append(s.Rules, Rule{Tags: []string{"t"}, Host: "host.test"}, Rule{Tags: []string{"u"}, Action: ActionDiscard})
		return s
	}
	w := newWorld(t, rules(0), targetZone)
	m := &mta.Message{Tags: []string{"t"}}
	d := mta.Destination{Domain: "a.test", Stream: mta.DefaultStream}
	old := w.p.Variant(m, d)
	if plain := w.p.Variant(&mta.Message{}, d); plain == old {
		t.Fatal("mail with and without the tag is planned as one")
	}
	for n := 1; n <= pastRules+1; n++ {
		if err := w.p.Reconfigure(rules(n)); err != nil {
			t.Fatal(err)
		}
		plan, f := w.p.PlanFor(t.Context(), d, old)
		if n > pastRules {
			if got := planWords(plan, f); !strings.HasPrefix(got, "local: ") {
				t.Errorf("%d reloads later: %s", n, got)
			}
			break
		}
		if got := planWords(plan, f); got != "host.test | [[route]] 1" || time.Until(plan.Expires) > minLife {
			t.Errorf("%d reloads later: %s", n, got)
		}
		if got := planWords(w.p.PlanFor(t.Context(), d, w.p.Variant(m, d))); got != fmt.Sprintf("host.test | [[route]] %d", n+1) {
			t.Errorf("%d reloads later, anew: %s", n, got)
		}
	}
	now := w.p.Variant(m, d)
	for _, wrong := range []string{"x", "\n", old, now + "\n", now + "x", now + "\n99", now + "\n-1", now + "\n99999999999", "0\n0"} {
		if got := planWords(w.p.PlanFor(t.Context(), d, wrong)); !strings.HasPrefix(got, "local: ") {
			t.Errorf("%q: %s", wrong, got)
		}
	}
	past := 0
	for c := w.p.settings.Load().past.Load(); c != nil; c = c.past.Load() {
		past++
	}
	if past != pastRules {
		t.Errorf("%d settings of the past are kept", past)
	}
	// From rules that look at no message to some that do.
	w = newWorld(t, standard(), targetZone)
	if none := w.p.Variant(m, d); none != "" {
		t.Fatalf("%q without rules", none)
	}
	if err := w.p.Reconfigure(rules(0)); err != nil {
		t.Fatal(err)
	}
	if got := planWords(w.p.PlanFor(t.Context(), d, "")); got != "direct mx.a.test | direct (default)" {
		t.Error(got)
	}
	if got := planWords(w.p.PlanFor(t.Context(), d, w.p.Variant(m, d))); got != "host.test | [[route]] 1" {
		t.Error(got)
	}
}

// TestTrace: the rules passed over for the message's sake are told, those for
// another domain are not.
func TestTrace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	rewrite(t, path, "# who\nu@x.test host.test\n")
	s := standard()
	s.Rules = []Rule{
		{Domains: []string{"b.test"}, Tags: []string{"t"}, Host: Direct},
		{Domains: []string{"*"}, Tags: []string{"t"}, Host: Direct},
		{Streams: []string{"s"}, Host: Direct},
		{Users: []string{"u"}, Host: Direct, Line: 7},
		{Senders: []string{"*@z.test"}, Host: Direct},
		{Table: Table{Source: path, By: []Fact{BySender}}, Line: 9},
		{Table: Table{Source: "https://x.test"}},
		{Domains: []string{"a.test"}, Host: Direct},
	}
	w := newWorld(t, s, "")
	d := mta.Destination{Domain: "a.test", Stream: mta.DefaultStream}
	got := w.p.Trace(&mta.Message{Envelope: mta.Envelope{Sender: "u@x.test"}, Tags: []string{"x"}}, d)
	want := Trace{"[[route]] 6 (line 9), " + path + ":2", []string{
		"[[route]] 2 is not for mail with no other tags than x", "[[route]] 3 is not for the stream default",
		"[[route]] 4 (line 7) is for users that signed in", "[[route]] 5 is not for the sender <u@x.test>",
	}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%q\n%q", got, want)
	}
	got = w.p.Trace(&mta.Message{Origin: mta.Origin{User: "v"}}, d)
	if got.Matched != "" || len(got.PassedOver) != 4 || got.PassedOver[0] != "[[route]] 2 is for mail with tags" || got.PassedOver[2] != "[[route]] 4 (line 7) is not for the user v" {
		t.Errorf("%q", got)
	}
	got = w.p.Trace(&mta.Message{Envelope: mta.Envelope{Sender: "?"}}, d)
	if len(got.PassedOver) != 4 || got.PassedOver[3] != "[[route]] 5 is for some senders, and none is known" {
		t.Errorf("%q", got)
	}
	d.Via = ViaDirect
	if got := w.p.Trace(&mta.Message{}, d); len(got.PassedOver) > 0 || got.Matched != "" {
		t.Errorf("%q", got)
	}
}
