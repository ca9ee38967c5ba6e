package spf

import (
	"net/netip"
	"slices"
	"strings"
)

// New is the record of a domain that has none: the addresses may send; for
// others it ends in all, "~all" where services may be forgotten.
func New(all string, addrs ...netip.Addr) *Record {
	r := &Record{Terms: []Term{{Qualifier: all[0], Name: "all", text: all}}}
	return r.Allow(addrs...)
}

// Covers reports whether an ip4 or ip6 mechanism lets the address pass before
// anything could refuse it. What "a", "mx" and "include" cover only DNS knows.
func (r *Record) Covers(addr netip.Addr) bool {
	addr = addr.Unmap()
	for _, t := range r.Terms {
		switch {
		case t.Modifier():
		case t.Qualifier != '+':
			if !t.Net.IsValid() || t.Net.Contains(addr) {
				return false
			}
		case t.Net.IsValid() && t.Net.Contains(addr):
			return true
		case t.Name == "all":
			return true
		}
	}
	return false
}

// Allow merges addresses into the record: one ip4 or ip6 each, unless one
// covers it already. They go behind the ip4 and ip6 mechanisms that the record
// begins with, before everything else: there nothing can refuse them first,
// and receivers need no look-up to find them. All other terms stay as they are
// written, macros and modifiers too. The record itself is not changed.
func (r *Record) Allow(addrs ...netip.Addr) *Record {
	out := &Record{Terms: slices.Clone(r.Terms)}
	for _, addr := range addrs {
		addr = addr.Unmap()
		if !addr.IsValid() || out.nets(addr) {
			continue
		}
		out.Terms = slices.Insert(out.Terms, out.front(), address(addr))
	}
	return out
}

// nets is Covers by ip4 and ip6 alone: "+all" covers everybody and is about to go.
func (r *Record) nets(addr netip.Addr) bool {
	named := func(t Term) bool { return t.Qualifier == '+' && t.Net.IsValid() && t.Net.Contains(addr) }
	return slices.ContainsFunc(r.Terms, named) && r.Covers(addr)
}

// front is behind the leading ip4 and ip6 mechanisms that let pass.
func (r *Record) front() int {
	for i, t := range r.Terms {
		if t.Qualifier != '+' || !t.Net.IsValid() {
			return i
		}
	}
	return len(r.Terms)
}

func address(addr netip.Addr) Term {
	t := Term{Qualifier: '+', Name: "ip6", Spec: addr.String(), Net: netip.PrefixFrom(addr, addr.BitLen())}
	if addr.Is4() {
		t.Name = "ip4"
	}
	t.text = t.Name + ":" + t.Spec
	return t
}

// Close makes the record say that others may not send: a missing end, "+all"
// and "?all" become "~all", which refuses nobody outright, so that a service
// that nobody thought of is not cut off. "-all", "~all" and a redirect stay.
func (r *Record) Close() *Record {
	out := &Record{Terms: slices.Clone(r.Terms)}
	soft := Term{Qualifier: '~', Name: "all", text: "~all"}
	for i, t := range out.Terms {
		if t.Name == "all" && !t.Modifier() {
			if t.Qualifier == '+' || t.Qualifier == '?' {
				out.Terms[i] = soft
			}
			return out
		}
	}
	if out.Redirect() == "" {
		out.Terms = append(out.Terms, soft)
	}
	return out
}

// Join makes one record of several: what any of them lets pass passes, each
// term once, in order. A redirect becomes an include. It ends in the milder of
// their ends, not milder than "~all".
func Join(records ...*Record) *Record {
	if len(records) == 1 {
		return records[0]
	}
	out := new(Record)
	var last []Term // modifiers but redirect
	seen := map[string]bool{}
	end := "-all"
	for _, r := range records {
		if r.All() != '-' {
			end = "~all"
		}
		ended := false
		for _, t := range r.Terms {
			ended = ended || t.Name == "all" && !t.Modifier() // no mechanism behind it is ever looked at
			switch {
			case ended && !t.Modifier(), t.Modifier() && t.Name == "redirect" && r.Redirect() == "":
				continue
			case t.Modifier() && t.Name == "redirect":
				t = Term{Qualifier: '+', Name: "include", Spec: t.Spec, text: "include:" + t.Spec}
			}
			key := strings.ToLower(strings.TrimPrefix(t.text, "+"))
			if t.Modifier() {
				key = t.Name // exp may stand there once
			}
			if seen[key] {
				continue
			}
			seen[key] = true
			if t.Modifier() {
				last = append(last, t)
			} else {
				out.Terms = append(out.Terms, t)
			}
		}
	}
	out.Terms = append(out.Terms, Term{Qualifier: end[0], Name: "all", text: end})
	out.Terms = append(out.Terms, last...)
	return out
}
