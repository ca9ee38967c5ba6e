package route

import (
	"strconv"
	"strings"

	"mailout/internal/mta"
)

// Variants.
//
// Goal: mail of one destination is planned apart exactly as far as rules tell it
// apart by what only the message says (sender, user, tags), and a plan can be
// made of destination and variant alone.
//
// Method: Variant walks through the rules that the message meets, in their
// order, up to the first that certainly decides, and notes those that look at
// the message. What a table knows of a domain may change between Variant and
// Plan, so such a rule decides nothing certainly: what comes after it is noted
// too. PlanFor walks through the rules that the destination meets, and of those
// that look at the message takes only the noted ones.
//
// The text has a line for each noted rule, behind one with the number of the
// configuration that it was made under (generation):
//
//	12        the generation
//	3         rule 3 holds
//	4?{…}     rule 4 holds, and these facts are asked of its table
//	5=host    the table of rule 5 has this target for the sender
//	6!        the table of rule 6 was never read: nobody knows
//
// Without any rule that looks at messages it is empty. Mail with REQUIRETLS, and
// with "TLS-Required: No", has a word for that in front (mta.VariantRequireTLS).
// PlanFor answers a
// variant of an earlier generation by the rules of that generation, of which
// pastRules are kept, with a plan that expires at once; one that is older still
// is refused for now, never misread.
//
// Rejected: the facts themselves as variant (as many plans as senders), and the
// number of the deciding rule alone (a table by domain may take the decision
// away from it, or give it back).

// pastRules is how many configurations before the present are kept.
const pastRules = 3

// noted is one line of a variant.
type noted struct {
	rule int32
	mark byte // 0, '?', '=' or '!'
	text string
}

// Variant names the rules that a message meets beyond its destination. It is
// pure and quick: files' tables are asked in memory, services never.
func (p *Planner) Variant(m *mta.Message, d mta.Destination) string {
	c := p.settings.Load()
	v := ""
	if c.dependent && d.Via == "" {
		v = c.variant(m, d)
	}
	switch {
	case m.Envelope.RequireTLS:
		return mta.VariantRequireTLS + v
	case m.AnyTLS:
		return mta.VariantAnyTLS + v
	}
	return v
}

// byMessage takes off a variant what the message says of TLS.
func byMessage(variant string) (rest string, requireTLS, anyTLS bool) {
	rest, requireTLS = strings.CutPrefix(variant, mta.VariantRequireTLS)
	if !requireTLS {
		rest, anyTLS = strings.CutPrefix(rest, mta.VariantAnyTLS)
	}
	return rest, requireTLS, anyTLS
}

func (c *compiled) variant(m *mta.Message, d mta.Destination) string {
	domain, err := ascii(d.Domain)
	if err != nil {
		return ""
	}
	var (
		lists room
		w     = walk{lists: lists[:0]}
		b     []byte
		first = int32(-1) // noted alone so far, without text
	)
	c.index.begin(&w, domain, d.Stream)
	c.index.widen(&w, m)
	for i, ok := w.next(); ok; i, ok = w.next() {
		rule := &c.rules[i]
		if !rule.meetsStream(d.Stream) || !rule.meets(m) {
			continue
		}
		n, noting, certain := rule.note(m)
		switch {
		case !noting:
		case first < 0 && b == nil && n.mark == 0:
			first = i
		default:
			if b == nil {
				b = append(b, c.none...)
			}
			if first >= 0 {
				b, first = noted{rule: first}.append(b), -1
			}
			n.rule = i
			b = n.append(b)
		}
		if certain {
			break
		}
	}
	switch {
	case b != nil:
		return string(b)
	case first >= 0:
		return c.rules[first].alone
	}
	return c.none
}

// note says what a variant notes of a rule that the message meets, and whether
// the rule certainly decides: one that holds does not, because mail that was
// released passes it over.
func (r *compiledRule) note(m *mta.Message) (n noted, noting, certain bool) {
	if r.table == nil {
		return n, r.dependent, r.target.way != wayHold
	}
	return r.table.note(m, r.dependent)
}

func (n noted) append(b []byte) []byte {
	b = append(b, '\n')
	b = strconv.AppendInt(b, int64(n.rule), 10)
	if n.mark != 0 {
		b = append(append(b, n.mark), n.text...)
	}
	return b
}

// readVariant is the way back. It reports false for what no Variant gave.
func readVariant(v string) (generation string, list []noted, ok bool) {
	generation, rest, more := strings.Cut(v, "\n")
	for more {
		var line string
		line, rest, more = strings.Cut(rest, "\n")
		n := noted{}
		if at := strings.IndexAny(line, "?=!"); at >= 0 {
			n.mark, n.text, line = line[at], line[at+1:], line[:at]
		}
		i, err := strconv.ParseInt(line, 10, 32)
		if err != nil {
			return "", nil, false
		}
		n.rule = int32(i)
		list = append(list, n)
	}
	return generation, list, true
}

// reads reports whether a variant was made under these settings, and reads it.
// The empty one holds for every message under settings that look at none.
func (c *compiled) reads(variant string) ([]noted, bool) {
	if variant == "" {
		return nil, !c.dependent
	}
	generation, list, ok := readVariant(variant)
	if !ok || generation != c.none {
		return nil, false
	}
	for _, n := range list {
		if int(n.rule) >= len(c.rules) || n.rule < 0 {
			return nil, false
		}
	}
	return list, true
}

// under finds the settings that a variant was made under.
func (p *Planner) under(variant string) (c *compiled, list []noted, current, ok bool) {
	c = p.settings.Load()
	for n := 0; c != nil && n <= pastRules; n++ {
		if list, ok := c.reads(variant); ok {
			return c, list, n == 0, true
		}
		c = c.past.Load()
	}
	return nil, nil, false, false
}
