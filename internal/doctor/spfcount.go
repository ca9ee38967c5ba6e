package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"

	wire "github.com/miekg/dns"

	"mailout/internal/spf"
)

// Counting the look-ups of an SPF record (RFC 7208 4.6.4).
//
// Receivers count while they evaluate and stop at the first match, so one
// record costs different senders differently. What is counted here is the
// whole: every term that asks DNS, of the record and of all that it includes.
// A record within the bound as a whole is so for everybody; one beyond it
// fails for those who are named late or not at all. Macros depend on the
// message: such a term counts as one look-up and is not followed.

// maxCounted bounds the look-ups of one count, however records include each
// other.
const maxCounted = 40

// tally is what a record costs and how it ends.
type tally struct {
	lookups, voids int
	void           []string // names where nothing is found
	problems       []string // receivers answer permerror when they come to these
	end            byte     // qualifier of "all", also behind a redirect; 0: none
	err            error    // part of it could not be looked up
	shares         []share  // by term of the record itself
}

type share struct {
	term    string
	lookups int
}

func (t tally) said() string {
	s := fmt.Sprintf("%d of %d look-ups", t.lookups, spf.MaxLookups)
	if t.lookups >= maxCounted {
		s = fmt.Sprintf("%d or more look-ups, and %d are allowed", t.lookups, spf.MaxLookups)
	}
	if t.voids > 0 {
		s += fmt.Sprintf(", %d of them without a result", t.voids)
	}
	return s
}

// costs names what each term of the record costs.
func (t tally) costs() string {
	var out []string
	for _, s := range t.shares {
		out = append(out, fmt.Sprintf("%s costs %d", s.term, s.lookups))
	}
	return strings.Join(out, ", ")
}

// count follows a record of a domain.
func (x *exam) count(ctx context.Context, domain string, r *spf.Record) tally {
	var t tally
	x.countTerms(ctx, &t, r, []string{strings.ToLower(domain)}, true)
	return t
}

// countTerms adds the terms of one record. path is how we came to it, the
// record's own domain last; main says that redirects alone led here, so that
// the record's end is the end.
func (x *exam) countTerms(ctx context.Context, t *tally, r *spf.Record, path []string, main bool) {
	if main {
		t.end = r.All()
	}
	redirect := r.Redirect()
	for _, term := range r.Terms {
		if term.Name == "all" && !term.Modifier() {
			return // nothing behind it is looked at
		}
		if !term.Lookup() || term.Name == "redirect" && redirect == "" {
			continue
		}
		if t.lookups >= maxCounted {
			return
		}
		before := t.lookups
		t.lookups++
		if !term.Macro() {
			x.countTerm(ctx, t, term, path, main)
		}
		if len(path) == 1 {
			t.shares = append(t.shares, share{term.String(), t.lookups - before})
		}
	}
}

func (x *exam) countTerm(ctx context.Context, t *tally, term spf.Term, path []string, main bool) {
	name := strings.ToLower(strings.TrimSuffix(term.Spec, "."))
	if name == "" {
		name = path[len(path)-1]
	}
	switch term.Name {
	case "include", "redirect":
		x.countRecord(ctx, t, term, name, path, main && term.Name == "redirect")
	case "a":
		a, aaaa := x.look(ctx, name, wire.TypeA), x.look(ctx, name, wire.TypeAAAA)
		t.found(name, a.found() || aaaa.found(), errors.Join(a.err, aaaa.err))
	case "exists":
		a := x.look(ctx, name, wire.TypeA)
		t.found(name, a.found(), a.err)
	case "mx":
		mx := x.look(ctx, name, wire.TypeMX)
		t.found(name, mx.found(), mx.err)
		if len(mx.records) > 10 {
			t.problems = append(t.problems, fmt.Sprintf("%s has %d MX records, and ten are allowed", name, len(mx.records)))
		}
	}
}

// found takes down whether a look-up had a result.
func (t *tally) found(name string, found bool, err error) {
	switch {
	case found:
	case err != nil:
		t.err = err
	default:
		t.voids++
		t.void = append(t.void, name)
	}
}

// countRecord follows an include or redirect.
func (x *exam) countRecord(ctx context.Context, t *tally, term spf.Term, name string, path []string, main bool) {
	for _, p := range path {
		if p == name {
			t.problems = append(t.problems, fmt.Sprintf("%s leads back to %s, in a circle", term, name))
			return
		}
	}
	a := x.look(ctx, name, wire.TypeTXT)
	t.found(name, a.found(), a.err)
	if a.err != nil {
		return
	}
	var records []string
	for _, text := range a.texts() {
		if spf.Is(text) {
			records = append(records, text)
		}
	}
	if len(records) != 1 {
		t.problems = append(t.problems, fmt.Sprintf("%s: %s has %s", term, name, map[bool]string{true: "no SPF record", false: "several SPF records"}[len(records) == 0]))
		return
	}
	r, err := spf.Parse(records[0])
	if err != nil {
		t.problems = append(t.problems, fmt.Sprintf("%s: the record there is wrong: %v", term, err))
		return
	}
	next := append(append([]string{}, path...), name)
	x.countTerms(ctx, t, r, next, main)
}
