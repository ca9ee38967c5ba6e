package dns

import (
	"net/netip"
	"slices"
	"time"
)

// Answer is what servers said about one name and type. The caller owns it.
type Answer[T any] struct {
	Records []T // in the server's order; at least one, at most MaxRecords
	// Secure reports that every message the answer was made of is authenticated:
	// by the AD bit of a server that is believed, or by signatures checked here.
	Secure bool
	// Expires is when the answer is to be asked for again.
	Expires time.Time
	// CanonicalName is the end of the CNAME chain; the name asked for when
	// there is none. Lower case, without a trailing dot.
	CanonicalName string
}

// MX is one mail exchanger (RFC 1035 3.3.9).
type MX struct {
	Preference uint16
	Host       string // lower case, without a trailing dot; "." is the root, as in a null MX (RFC 7505)
}

// TLSA is one certificate association, as it was published (RFC 6698 2.1).
type TLSA struct {
	Usage, Selector, MatchingType uint8
	Data                          []byte // the association, decoded from hexadecimal
}

// records holds the data of one answer; only the field of its type is used.
type records struct {
	mx    []MX
	addrs []netip.Addr
	texts []string // TXT or PTR
	tlsa  []TLSA
}

func (r *records) count() int { return len(r.mx) + len(r.addrs) + len(r.texts) + len(r.tlsa) }

// result is the outcome of one look-up. It is immutable, shared by the callers
// and the cache.
type result struct {
	records
	secure    bool
	expires   time.Time
	canonical string
	err       *Error // when there are no records
}

// cost estimates the octets of memory that the result takes in the cache.
func (r *result) cost() int {
	n := 400 + len(r.canonical) + len(r.addrs)*24
	for i := range r.mx {
		n += 24 + len(r.mx[i].Host)
	}
	for i := range r.texts {
		n += 16 + len(r.texts[i])
	}
	for i := range r.tlsa {
		n += 32 + len(r.tlsa[i].Data)
	}
	if r.err != nil {
		n += 160 + len(r.err.Name) + len(r.err.Text)
	}
	return n
}

// answer makes the caller's copy of a result.
func answer[T any](r *result, err *Error, pick func(*result) []T) (Answer[T], error) {
	if err != nil {
		return Answer[T]{}, err
	}
	return Answer[T]{
		Records:       slices.Clone(pick(r)),
		Secure:        r.secure,
		Expires:       r.expires,
		CanonicalName: r.canonical,
	}, nil
}
