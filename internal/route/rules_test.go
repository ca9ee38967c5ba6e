package route

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/account"
	"mailout/internal/mta"
)

// mail makes a message: "sender stream user tag,tag", "-" for what is missing.
func mail(text string) (*mta.Message, string) {
	f := strings.Fields(text)
	for i := range f {
		f[i] = strings.TrimPrefix(f[i], "-")
	}
	m := &mta.Message{Envelope: mta.Envelope{Sender: f[0]}, Stream: f[1], Origin: mta.Origin{User: f[2]}}
	if m.Stream == "" {
		m.Stream = mta.DefaultStream
	}
	if f[3] != "" {
		m.Tags = strings.Split(f[3], ",")
	}
	return m, m.Stream
}

// matched says which rule takes mail, by way of a variant.
func (w *world) matched(domain, text string) string {
	w.t.Helper()
	m, stream := mail(text)
	d := mta.Destination{Domain: domain, Stream: stream}
	c, list, current, ok := w.p.under(w.p.Variant(m, d))
	if !ok || !current {
		w.t.Fatalf("%s: the variant is not understood", text)
	}
	name, err := ascii(domain)
	if err != nil {
		w.t.Fatal(err)
	}
	decided, f := c.decide(context.Background(), name, stream, list, false)
	if f != nil {
		return f.Cause.String() + ": " + f.Text
	}
	return decided.matched
}

// Each condition in each form, alone and with others.
func TestConditions(t *testing.T) {
	t.Parallel()
	rule := func(r Rule) Rule { r.Host = Direct; return r }
	for _, c := range []struct {
		rule     Rule
		yes, not string // "domain sender stream user tags", with ";" between them
	}{
		{rule(Rule{Domains: []string{"a.test"}}), "a.test - - - -; A.TEST. x@y.test s u t", "b.a.test - - - -; aa.test - - - -"},
		{rule(Rule{Domains: []string{"*.a.test"}}), "b.a.test - - - -; c.b.a.test - - - -", "a.test - - - -; ba.test - - - -"},
		{rule(Rule{Domains: []string{".a.test"}}), "b.a.test - - - -", "a.test - - - -"},
		{rule(Rule{Domains: []string{"*"}}), "a.test - - - -; [192.0.2.1] - - - -", ""},
		{rule(Rule{Domains: []string{"[192.0.2.1]"}}), "[192.0.2.1] - - - -", "[192.0.2.2] - - - -"},
		{rule(Rule{Domains: []string{"bücher.test", "b.test"}}), "xn--bcher-kva.test - - - -; b.test - - - -", "c.test - - - -"},
		{rule(Rule{Senders: []string{"A@x.test"}}), "b.test a@X.test - - -; a.test A@x.test - - -", "a.test b@x.test - - -; a.test a@b.x.test - - -; a.test - - - -"},
		{rule(Rule{Senders: []string{"*@x.test"}}), "a.test a@x.test - - -", "a.test a@b.x.test - - -; a.test a@xx.test - - -; a.test - - - -"},
		{rule(Rule{Senders: []string{"*@*.x.test"}}), "a.test a@b.x.test - - -; a.test a@c.b.x.test - - -", "a.test a@x.test - - -; a.test - - - -"},
		{rule(Rule{Senders: []string{"*"}}), "a.test a@b.x.test - - -; a.test - - - -; a.test ? - - -", ""},
		{rule(Rule{Senders: []string{"<>"}}), "a.test - - - -", "a.test a@x.test - - -; a.test ? - - -"},
		{rule(Rule{Streams: []string{"s", "t"}}), "a.test - s - -; a.test - t - -", "a.test - u - -; a.test - - - -"},
		{rule(Rule{Users: []string{"u", "unix:v"}}), "a.test - - u -; a.test - - unix:v -", "a.test - - U -; a.test - - v -; a.test - - - -"},
		{rule(Rule{Tags: []string{"t", "u"}}), "a.test - - - t; a.test - - - x,u", "a.test - - - T; a.test - - - -; a.test - - - tu"},
		{rule(Rule{Domains: []string{"a.test"}, Senders: []string{"*@x.test"}, Streams: []string{"s"}, Users: []string{"u"}, Tags: []string{"t"}}),
			"a.test a@x.test s u t",
			"b.test a@x.test s u t; a.test a@y.test s u t; a.test a@x.test - u t; a.test a@x.test s - t; a.test a@x.test s u -"},
		{rule(Rule{Domains: []string{"*", "a.test"}, Tags: []string{"t"}}), "b.test - - - t", "a.test - - - -"},
		{rule(Rule{Senders: []string{"*", "<>"}, Users: []string{"u"}}), "b.test - - u -", "a.test - - - -"},
	} {
		s := standard()
		s.Rules = []Rule{c.rule}
		w := newWorld(t, s, "")
		for want, list := range map[string]string{"[[route]] 1": c.yes, "": c.not} {
			for text := range strings.SplitSeq(list, ";") {
				domain, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
				if domain == "" {
					continue
				}
				if got := w.matched(domain, rest); got != want {
					t.Errorf("%+v: %s: %q", c.rule, text, got)
				}
				m, stream := mail(rest)
				if trace := w.p.Trace(m, mta.Destination{Domain: domain, Stream: stream}); trace.Matched != want {
					t.Errorf("%+v: %s: traced %q", c.rule, text, trace.Matched)
				}
			}
		}
	}
}

const targetZone = `
a.test MX 10 mx.a.test
mx.a.test A 198.51.100.1
smart.test A 198.51.100.2
host.test A 198.51.100.3
`

// Each target: what plan comes of it.
func TestTargets(t *testing.T) {
	t.Parallel()
	always := Router{Host: "smart.test", Line: 9}
	for _, c := range []struct {
		rule   Rule
		router Router
		want   string
	}{
		{Rule{Host: Direct}, always, "direct mx.a.test | [[route]] 1"},
		{Rule{Host: ViaRouter}, Router{Host: "smart.test", Use: UseUnresolved}, "smart.test | [[route]] 1"},
		{Rule{Host: "host.test"}, always, "host.test | [[route]] 1"},
		{Rule{Host: "host.test", Pool: "p"}, always, "host.test of p | [[route]] 1"},
		{Rule{Host: Direct, Pool: "p"}, always, "direct mx.a.test of p | [[route]] 1"},
		{Rule{Pool: "p"}, always, "smart.test of p | [[route]] 1, then [router] (line 9)"},
		{Rule{Pool: "p"}, Router{}, "direct mx.a.test of p | [[route]] 1, then direct (default)"},
		{Rule{Action: ActionHold}, always, "hold: held by [[route]] 1 | [[route]] 1"},
		{Rule{Action: ActionDiscard}, always, "discard: discarded by [[route]] 1 | [[route]] 1"},
		{Rule{Action: ActionFail, Text: "No such mail."}, always, "rule: No such mail."},
		{Rule{Action: ActionFail}, always, "rule: " + DefaultText},
	} {
		s := standard()
		s.Pools = []Pool{pooled("p", "192.0.2.1")}
		s.Router, c.rule.Domains = c.router, []string{"*"}
		s.Rules = []Rule{c.rule}
		w := newWorld(t, s, targetZone)
		d := mta.Destination{Domain: "a.test", Stream: mta.DefaultStream}
		if got := planWords(w.p.PlanFor(t.Context(), d, w.p.Variant(&mta.Message{}, d))); got != c.want {
			t.Errorf("%+v: %s, want %s", c.rule, got, c.want)
		}
		// An operator's route comes before all rules.
		d.Via = ViaDirect
		if got := planWords(w.p.PlanFor(t.Context(), d, w.p.Variant(&mta.Message{}, d))); got != "direct mx.a.test | rerouted to direct" {
			t.Errorf("%+v: rerouted: %s", c.rule, got)
		}
		d.Via = ""
		w.p.Reroute([]Reroute{{Domain: "a.test", To: "host.test", Why: "me"}})
		if got := planWords(w.p.PlanFor(t.Context(), d, w.p.Variant(&mta.Message{}, d))); got != "host.test | me" {
			t.Errorf("%+v: rerouted: %s", c.rule, got)
		}
	}
}

func planWords(p *mta.Plan, f *mta.Failure) string {
	switch {
	case f != nil:
		return f.Cause.String() + ": " + f.Text
	case p.Stop != nil:
		return [...]string{mta.StopHold: "hold", mta.StopDiscard: "discard"}[p.Stop.Action] + ": " + p.Stop.Reason + " | " + p.Stop.Matched
	}
	r := p.Routes[0]
	words := r.Router
	if words == "" {
		words = "direct " + r.Hosts[0].Name
	}
	if r.Pool != "" {
		words += " of " + r.Pool
	}
	return words + " | " + r.Matched
}

// facts is what a naive reader of the rules has.
type facts struct {
	domain string
	m      *mta.Message
}

// naive walks through the rules as the documentation says, with tables as maps
// from patterns to targets; released mail passes what holds. It gives the rule
// and the target of its table.
func naive(rules []Rule, tables map[string]map[string]string, f facts, released bool) string {
	for i, r := range rules {
		domain := len(r.Domains) == 0 || slices.ContainsFunc(r.Domains, func(p string) bool { return domainFits(p, f.domain) })
		sender := len(r.Senders) == 0 || slices.ContainsFunc(r.Senders, func(p string) bool { return senderFits(p, f.m.Envelope.Sender) })
		stream := len(r.Streams) == 0 || slices.Contains(r.Streams, f.m.Stream)
		user := len(r.Users) == 0 || slices.Contains(r.Users, f.m.Origin.User)
		tags := len(r.Tags) == 0 || slices.ContainsFunc(f.m.Tags, func(t string) bool { return slices.Contains(r.Tags, t) })
		if !domain || !sender || !stream || !user || !tags {
			continue
		}
		if r.Table.Source == "" {
			if released && r.Action == ActionHold {
				continue
			}
			return fmt.Sprintf("[[route]] %d", i+1)
		}
		if to := naiveTable(&r.Table, tables[r.Table.Source], f); to != "" && !(released && to == "hold") {
			return fmt.Sprintf("[[route]] %d %s", i+1, to)
		}
	}
	return ""
}

func domainFits(pattern, domain string) bool {
	rest, sub := strings.CutPrefix(pattern, "*.")
	if !sub {
		rest, sub = strings.CutPrefix(pattern, ".")
	}
	return pattern == "*" || sub && !strings.HasPrefix(domain, "[") && strings.HasSuffix(domain, "."+rest) || !sub && pattern == domain
}

func senderFits(pattern, sender string) bool {
	return pattern == "<>" && sender == "" || account.Senders{pattern}.Allow(sender)
}

// naiveTable finds the pattern that fits with the most parts.
func naiveTable(t *Table, lines map[string]string, f facts) (to string) {
	if t.Remote() {
		return lines[remoteKey(t, f)]
	}
	best := -1
	for pattern, target := range lines {
		fits, weight := domainFits(pattern, f.domain), 10*len(pattern)
		if slices.Contains(t.By, BySender) {
			fits = senderFits(pattern, f.m.Envelope.Sender)
		}
		switch {
		case pattern == "*":
			weight = 0
		case strings.HasPrefix(pattern, "*@*."):
			weight = len(pattern)
		case strings.HasPrefix(pattern, "*@"):
			weight = 100 + len(pattern)
		case strings.HasPrefix(pattern, "*."), strings.HasPrefix(pattern, "."):
			weight = len(strings.TrimPrefix(pattern, "*"))
		default:
			weight += 1000
		}
		if fits && weight > best {
			best, to = weight, target
		}
	}
	return to
}

// remoteKey is the question of a service as its stand-in has it.
func remoteKey(t *Table, f facts) string {
	key := ""
	for _, fact := range []Fact{ByDomain, BySender, ByStream, ByUser, ByTags} {
		if !slices.Contains(t.By, fact) {
			continue
		}
		tags := slices.Sorted(slices.Values(f.m.Tags))
		key += [...]string{f.domain, f.m.Envelope.Sender, f.m.Stream, f.m.Origin.User, strings.Join(tags, ",")}[fact] + "|"
	}
	return key
}

// services stand in for the network: each answers from its table.
type services struct {
	tables map[string]map[string]string
	by     map[string][]Fact
}

func (s *services) RoundTrip(r *http.Request) (*http.Response, error) {
	var q question
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
		return nil, err
	}
	m := &mta.Message{}
	f := facts{m: m}
	set := func(into *string, from *string) {
		if from != nil {
			*into = *from
		}
	}
	set(&f.domain, q.Domain)
	set(&m.Envelope.Sender, q.Sender)
	set(&m.Stream, q.Stream)
	set(&m.Origin.User, q.User)
	if q.Tags != nil {
		m.Tags = *q.Tags
	}
	source := r.URL.String()
	to := s.tables[source][remoteKey(&Table{By: s.by[source]}, f)]
	if to == "" {
		return &http.Response{StatusCode: http.StatusNotFound, Body: http.NoBody, Request: r}, nil
	}
	body, err := json.Marshal(map[string]any{"route": to, "ttl_s": 3600})
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(string(body))), Request: r}, err
}

var (
	someDomains = []string{"a.test", "b.a.test", "c.b.a.test", "b.test", "[192.0.2.1]"}
	somePattern = []string{"a.test", "b.a.test", "*.a.test", ".b.a.test", "*", "b.test", "[192.0.2.1]", "*.test"}
	someSenders = []string{"", "u@x.test", "v@x.test", "u@y.x.test", "u@z.test"}
	someSender  = []string{"<>", "u@x.test", "*@x.test", "*@*.x.test", "*", "*@z.test", "*@*.test"}
	someWords   = []string{"p", "q"}
	someTargets = []string{"direct", "host.test", "hold"}
)

func someOf(t *rapid.T, list []string, most int, label string) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom(list), 0, most, rapid.ID[string]).Draw(t, label)
}

// drawTable draws a table of some kind with its lines.
func drawTable(t *rapid.T, dir string, i int) (Table, map[string]string) {
	lines := map[string]string{}
	put := func(keys []string) {
		for _, k := range keys {
			lines[k] = rapid.SampledFrom(someTargets).Draw(t, "target")
		}
	}
	switch rapid.IntRange(0, 2).Draw(t, "table") {
	case 0:
		put(someOf(t, []string{"a.test", "*.a.test", ".b.a.test", "b.test", "*"}, 3, "lines"))
		return Table{Source: filepath.Join(dir, fmt.Sprintf("domains%d", i))}, lines
	case 1:
		put(someOf(t, someSender, 3, "lines"))
		return Table{Source: filepath.Join(dir, fmt.Sprintf("senders%d", i)), By: []Fact{BySender}}, lines
	}
	table := Table{Source: fmt.Sprintf("https://service%d.test/", i), By: rapid.SliceOfNDistinct(rapid.SampledFrom([]Fact{ByDomain, BySender, ByStream, ByUser, ByTags}), 1, 3, rapid.ID[Fact]).Draw(t, "by")}
	for range 6 {
		f := drawMail(t)
		put([]string{remoteKey(&table, f)})
	}
	return table, lines
}

func drawMail(t *rapid.T) facts {
	return facts{domain: rapid.SampledFrom(someDomains).Draw(t, "domain"), m: &mta.Message{
		Envelope: mta.Envelope{Sender: rapid.SampledFrom(someSenders).Draw(t, "sender")},
		Stream:   rapid.SampledFrom(someWords).Draw(t, "stream"),
		Origin:   mta.Origin{User: rapid.SampledFrom([]string{"", "p", "q"}).Draw(t, "user")},
		Tags:     someOf(t, []string{"p", "q", "r"}, 3, "tags"),
	}}
}

func drawRules(t *rapid.T, dir string) (rules []Rule, tables map[string]map[string]string, by map[string][]Fact) {
	tables, by = map[string]map[string]string{}, map[string][]Fact{}
	for i := range rapid.IntRange(0, 7).Draw(t, "rules") {
		r := Rule{Domains: someOf(t, somePattern, 2, "domains")}
		for n, list := range []*[]string{&r.Senders, &r.Streams, &r.Users, &r.Tags} {
			if rapid.IntRange(0, 2).Draw(t, "has") == 0 {
				*list = someOf(t, [][]string{someSender, someWords, someWords, someWords}[n], 2, "list")
			}
		}
		if rapid.IntRange(0, 2).Draw(t, "by table") == 0 {
			r.Table, tables[fmt.Sprint(i)] = drawTable(t, dir, i)
			tables[r.Table.Source], by[r.Table.Source] = tables[fmt.Sprint(i)], r.Table.By
		} else {
			if r.Host = rapid.SampledFrom([]string{Direct, "host.test", ""}).Draw(t, "host"); r.Host == "" {
				r.Action = ActionHold
			}
			if len(r.Domains)+len(r.Senders)+len(r.Streams)+len(r.Users)+len(r.Tags) == 0 {
				r.Domains = []string{"*"}
			}
		}
		rules = append(rules, r)
	}
	return rules, tables, by
}

// writeTables writes the files, each with a time of its own.
func writeTables(t *rapid.T, tables map[string]map[string]string, at time.Time, sort func(path string) bool) {
	for path, lines := range tables {
		if !filepath.IsAbs(path) || !sort(path) {
			continue
		}
		var b strings.Builder
		for pattern, to := range lines {
			b.WriteString(pattern + "\t" + to + "\n")
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVariantThenPlan: for whatever rules and mail, deciding by way of a variant
// comes to what a reader of the rules comes to with the message at hand; also
// when tables by domain change in between, and then by what they say now.
func TestVariantThenPlan(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	at := time.Now().Add(-time.Hour)
	rapid.Check(t, func(t *rapid.T) {
		rules, tables, by := drawRules(t, dir)
		at = at.Add(time.Millisecond)
		writeTables(t, tables, at, func(string) bool { return true })
		p, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		p.transport = &services{tables, by}
		if err := p.Reconfigure(Settings{Rules: rules}); err != nil {
			t.Fatal(err)
		}
		mails := make([]facts, 12)
		variants := make([]string, len(mails))
		for i := range mails {
			f := drawMail(t)
			mails[i], variants[i] = f, p.Variant(f.m, mta.Destination{Domain: f.domain, Stream: f.m.Stream})
		}
		if rapid.Bool().Draw(t, "tables change") {
			for path, lines := range tables {
				if strings.Contains(path, "domains") {
					clear(lines)
					for _, k := range someOf(t, []string{"a.test", "*.a.test", ".b.a.test", "b.test", "*"}, 3, "new lines") {
						lines[k] = rapid.SampledFrom(someTargets).Draw(t, "new target")
					}
				}
			}
			at = at.Add(time.Millisecond)
			writeTables(t, tables, at, func(path string) bool { return strings.Contains(path, "domains") })
			p.Refresh()
			p.Refresh()
		}
		for i, f := range mails {
			released := rapid.Bool().Draw(t, "released")
			want := naive(rules, tables, f, released)
			if got := decided(t, p, f, variants[i], released); got != want {
				t.Fatalf("%s %+v\nvariant %q: %q, want %q\nrules %+v\ntables %v", f.domain, f.m, variants[i], got, want, rules, tables)
			}
		}
	})
}

// decided gives what naive gives.
func decided(t *rapid.T, p *Planner, f facts, variant string, released bool) string {
	c, list, _, ok := p.under(variant)
	if !ok {
		t.Fatalf("%q is not understood", variant)
	}
	d, failure := c.decide(context.Background(), f.domain, f.m.Stream, list, released)
	if failure != nil {
		t.Fatal(failure)
	}
	rule, table, _ := strings.Cut(d.matched, ", ")
	if table == "" {
		return rule
	}
	switch d.target.way {
	case wayDirect:
		return rule + " direct"
	case wayHold:
		return rule + " hold"
	}
	return rule + " " + d.target.relay.text
}
