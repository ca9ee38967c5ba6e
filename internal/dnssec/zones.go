package dnssec

import (
	"errors"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// zone is a secure zone: its keys are proved from an anchor on.
type zone struct {
	name string
	keys []key
}

// cut is what is known of a name between an anchor and a record: a secure zone
// begins there, an insecure or bogus one does (err), or none does. It is
// immutable.
type cut struct {
	zone  *zone
	gone  bool // and nothing is below it
	err   error
	until time.Time

	set []*dns.DS // of a zone whose keys are not known yet
}

// failed makes a cut of an error. What may be otherwise for another look-up is
// not kept.
func (w *work) failed(err error) *cut {
	c := &cut{err: err}
	if StatusOf(err) == Insecure {
		c.until = w.now.Add(insecureKept)
		return c
	}
	if t := (*trouble)(nil); errors.As(err, &t) && !w.spent {
		c.until = w.now.Add(failureKept)
	}
	return c
}

// zone gives the keys of a zone that is named as a signer.
func (w *work) zone(name string) (*zone, error) {
	z, err := w.zoneOf(name)
	if err != nil {
		return nil, err
	}
	if z.name != name {
		return nil, bogus("%s signs, but is no zone of its own", name)
	}
	return z, nil
}

// zoneOf walks from the nearest anchor down to a name, and gives the secure zone
// that it lies in. The error is insecure where an unsigned zone begins.
func (w *work) zoneOf(name string) (*zone, error) {
	at, ok := w.anchors.above(name)
	if !ok {
		return nil, insecure("no trust anchor is above %s", name)
	}
	if w.private[at] {
		return nil, notChecked(at)
	}
	c := w.cuts.get(w, at, func() *cut { return w.apex(at) })
	if c.err != nil {
		return nil, c.err
	}
	z := c.zone
	labels := dns.SplitDomainName(name)
	for i := len(labels) - dns.CountLabel(at) - 1; i >= 0; i-- {
		child := strings.Join(labels[i:], ".") + "."
		if w.private[child] || z.name == "." && privateTLDs[child] {
			return nil, notChecked(child)
		}
		above := z
		c := w.cuts.get(w, child, func() *cut { return w.step(above, child) })
		switch {
		case c.err != nil:
			return nil, c.err
		case c.gone:
			// It is proved that the name is not there: whoever has something to say of
			// it, signed or not, is an inner server. Nobody can take security away from
			// a name that does not exist.
			return nil, insecure("%s is not there for all the world to see (%s proves it): what is said of it is private", child, z.name)
		case c.zone != nil:
			z = c.zone
		}
	}
	return z, nil
}

// apex proves the keys of an anchored zone.
func (w *work) apex(name string) *cut {
	return w.keysOf(name, w.anchors[name], w.now.Add(maxKept*time.Second))
}

// step finds out whether a zone begins at a name whose parent lies in zone above.
func (w *work) step(above *zone, name string) *cut {
	var c *cut
	err := w.ask(name, dns.TypeDS, func(m *dns.Msg) bool {
		c = w.delegation(above, name, m)
		return c.err == nil || StatusOf(c.err) == Insecure
	})
	switch {
	case c == nil && err == nil:
		err = errors.New("no usable answer about the delegation of " + name)
		fallthrough
	case c == nil:
		return w.failed(err)
	case c.set != nil:
		return w.keysOf(name, c.set, c.until)
	}
	return c
}

// delegation reads the answer to a question for the DS records of a name (RFC
// 4035 5.2).
func (w *work) delegation(above *zone, name string, m *dns.Msg) *cut {
	answer := rrsets(m.Answer)
	if s := pick(answer, name, dns.TypeDS); s != nil {
		return w.delegated(above, s)
	}
	if s := pick(answer, name, dns.TypeCNAME); s != nil {
		p, err := w.check(s, above.name, above.keys)
		if err != nil {
			return w.failed(err)
		}
		return &cut{until: p.until} // an alias is no zone
	}
	d := w.denier(above, rrsets(m.Ns))
	a, err := d.noType(name, dns.TypeDS)
	if err == nil {
		switch {
		case a.optOut:
			return &cut{err: insecure("%s may be an unsigned delegation of %s (opt-out)", name, above.name), until: d.until}
		case a.gone:
			return &cut{gone: true, until: d.until}
		case a.delegated:
			return &cut{err: insecure("%s is delegated by %s without a signature", name, above.name), until: d.until}
		}
		return &cut{until: d.until}
	}
	if a, gone := d.noName(name); gone == nil {
		if a.optOut {
			return &cut{err: insecure("%s may be an unsigned delegation of %s (opt-out)", name, above.name), until: d.until}
		}
		return &cut{gone: true, until: d.until}
	}
	return w.failed(err)
}

// delegated checks a DS set.
func (w *work) delegated(above *zone, s *rrset) *cut {
	p, err := w.check(s, above.name, above.keys)
	if err != nil {
		return w.failed(err)
	}
	if _, expanded := p.expanded(s); expanded || len(s.rrs) > maxDS {
		return w.failed(bogus("the DS records of %s are from a wildcard, or more than %d", s.name, maxDS))
	}
	c := &cut{until: p.until}
	for _, rr := range s.rrs {
		c.set = append(c.set, rr.(*dns.DS))
	}
	return c
}

// keysOf proves the keys of a zone by its DS records (RFC 4035 5.2): one that a
// DS record names must have signed them all.
func (w *work) keysOf(name string, set []*dns.DS, until time.Time) *cut {
	set = strongest(set)
	if len(set) == 0 {
		return &cut{err: insecure("%s is signed only by algorithms that are not supported", name), until: until}
	}
	var c *cut
	err := w.ask(name, dns.TypeDNSKEY, func(m *dns.Msg) bool {
		c = w.proved(name, set, pick(rrsets(m.Answer), name, dns.TypeDNSKEY), until)
		return c.err == nil || StatusOf(c.err) == Insecure
	})
	switch {
	case c != nil:
		return c
	case err == nil:
		err = errors.New("no usable answer about the keys of " + name)
	}
	return w.failed(err)
}

func (w *work) proved(name string, set []*dns.DS, s *rrset, until time.Time) *cut {
	switch {
	case s == nil:
		return w.failed(bogus("%s is to be signed, and has no keys", name))
	case len(s.rrs) > maxKeys:
		return w.failed(bogus("%s has more than %d keys", name, maxKeys))
	}
	all := make([]*dns.DNSKEY, 0, len(s.rrs))
	for _, rr := range s.rrs {
		all = append(all, rr.(*dns.DNSKEY))
	}
	var entries []key
	short := 0
	for _, ds := range set {
		for _, k := range entry(all, ds) {
			if !usable(k.DNSKEY) {
				short++
				continue
			}
			entries = append(entries, k)
		}
	}
	if len(entries) == 0 && short > 0 {
		return &cut{err: insecure("the keys of %s are shorter or longer than is supported", name), until: until}
	}
	if len(entries) == 0 {
		return w.failed(bogus("no key of %s is the one that its DS records (or trust anchors) name", name))
	}
	p, err := w.check(s, name, entries)
	if err != nil {
		return w.failed(err)
	}
	z := &zone{name: name}
	for _, k := range all {
		if signs(k) {
			z.keys = append(z.keys, key{k, k.KeyTag(), odd(k)})
		}
	}
	if p.until.Before(until) {
		until = p.until
	}
	return &cut{zone: z, until: until}
}
