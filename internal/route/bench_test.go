package route

import (
	"fmt"
	"io"
	"log/slog"
	"testing"

	"mailout/internal/mta"
)

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// manyRules are MaxRules of several kinds.
func manyRules() (s Settings) {
	for i := range MaxRules {
		r := Rule{Host: Direct}
		switch i % 4 {
		case 0:
			r.Domains = []string{fmt.Sprintf("domain%d.test", i)}
		case 1:
			r.Domains = []string{fmt.Sprintf("*.domain%d.test", i)}
		case 2:
			r.Senders = []string{fmt.Sprintf("*@sender%d.test", i)}
		case 3:
			r.Domains, r.Tags = []string{fmt.Sprintf("domain%d.test", i)}, []string{"t"}
		}
		s.Rules = append(s.Rules, r)
	}
	return s
}

// BenchmarkVariant is what ten thousand rules cost for each message.
func BenchmarkVariant(b *testing.B) {
	p, err := New(Options{Settings: manyRules()})
	if err != nil {
		b.Fatal(err)
	}
	for name, m := range map[string]*mta.Message{
		"none":   {Envelope: mta.Envelope{Sender: "bounce+4711@news.example.com"}},
		"sender": {Envelope: mta.Envelope{Sender: "u@sender9998.test"}},
	} {
		b.Run(name, func(b *testing.B) {
			d := mta.Destination{Domain: "mail.receiver.example.net", Stream: mta.DefaultStream}
			b.ReportAllocs()
			for b.Loop() {
				p.Variant(m, d)
			}
		})
	}
}

// BenchmarkDecide is what they cost for each plan.
func BenchmarkDecide(b *testing.B) {
	p, err := New(Options{Settings: manyRules()})
	if err != nil {
		b.Fatal(err)
	}
	c := p.settings.Load()
	b.ReportAllocs()
	for b.Loop() {
		if _, f := c.decide(b.Context(), "x.domain9997.test", mta.DefaultStream, nil, false); f != nil {
			b.Fatal(f)
		}
	}
}

// TestManyRules: the index looks at a few rules of ten thousand, and one more is
// refused.
func TestManyRules(t *testing.T) {
	t.Parallel()
	s := manyRules()
	p, err := New(Options{Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	c := p.settings.Load()
	var w walk
	c.index.begin(&w, "x.domain9997.test", mta.DefaultStream)
	c.index.widen(&w, &mta.Message{Envelope: mta.Envelope{Sender: "u@sender9998.test"}, Tags: []string{"t"}})
	var seen []int32
	for i, ok := w.next(); ok; i, ok = w.next() {
		seen = append(seen, i)
	}
	if fmt.Sprint(seen) != "[9997 9998]" {
		t.Errorf("%d rules are looked at: %v", len(seen), seen)
	}
	s.Rules = append(s.Rules, Rule{Domains: []string{"*"}, Host: Direct})
	if err := Check(s); err == nil {
		t.Error("a rule too many is taken")
	}
	s = Settings{}
	for i := range MaxTables + 1 {
		s.Rules = append(s.Rules, Rule{Table: Table{Source: fmt.Sprintf("https://t%d.test", i)}})
	}
	if err := Check(s); err == nil {
		t.Error("a table too many is taken")
	}
}
