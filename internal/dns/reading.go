package dns

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	wire "github.com/miekg/dns"
)

// Bounds of one answer.
const (
	// MaxRecords is how many records of an answer are kept; the rest is dropped.
	MaxRecords = 100
	// MaxAliases is how many CNAMEs are followed from a name.
	MaxAliases = 10
)

// Bounds of the time that an answer is kept.
const (
	minTTL         = time.Second
	maxTTL         = 24 * time.Hour
	maxNegativeTTL = 5 * time.Minute
	failureTTL     = time.Second
)

// verdict is what one message says about a question.
type verdict uint8

const (
	found    verdict = iota
	nxdomain         // the end of the chain does not exist
	nodata           // it exists, without such records
	alias            // the message ends at a CNAME: ask for its target
	tooLong          // the chain loops or has more than MaxAliases links
	referral         // the server points elsewhere instead of answering
)

// reading is a message, understood.
type reading struct {
	verdict verdict
	records
	name    string // the end of the chain, lower case with the final dot
	aliases int    // links of the chain
	ttl     time.Duration
	secure  bool   // the AD bit
	server  string // who said so; set by the caller of read
}

// denies reports an answer that there are no records.
func (r *reading) denies() bool { return r.verdict == nxdomain || r.verdict == nodata }

// read understands a NOERROR or NXDOMAIN message as the answer to a question
// about name. At most limit CNAMEs are followed, none when they are what was
// asked for. It is pure and bounded by the message's size.
func read(m *wire.Msg, name string, qtype uint16, limit int) reading {
	r := reading{name: name, ttl: maxTTL, secure: m.AuthenticatedData}
	links := aliasesOf(m.Answer)
	if qtype == wire.TypeCNAME {
		links = nil
	}
	seen := map[string]bool{name: true}
	for {
		link, ok := links[r.name]
		if !ok {
			break
		}
		r.aliases++
		r.name = link.target
		r.ttl = min(r.ttl, link.ttl)
		if r.aliases > limit || seen[r.name] {
			r.verdict = tooLong
			return r
		}
		seen[r.name] = true
	}
	r.collect(m.Answer, qtype)
	if r.count() > 0 {
		r.verdict = found
		r.ttl = max(r.ttl, minTTL)
		return r
	}
	r.deny(m)
	return r
}

// deny tells apart the ways in which a message can hold no record (RFC 2308 2).
func (r *reading) deny(m *wire.Msg) {
	soa, delegates := false, false
	negative := failureTTL // RFC 2308 5: without a SOA the denial is not to be cached
	for _, rr := range m.Ns {
		switch rr := rr.(type) {
		case *wire.SOA:
			soa = true
			negative = min(seconds(rr.Hdr.Ttl), seconds(rr.Minttl))
		case *wire.NS:
			delegates = true
		}
	}
	switch {
	case m.Rcode == wire.RcodeNameError:
		r.verdict = nxdomain
	case r.aliases > 0 && !soa:
		r.verdict = alias
		r.ttl = max(r.ttl, minTTL)
		return
	case delegates && !soa:
		r.verdict = referral
	default:
		r.verdict = nodata
	}
	r.ttl = max(min(r.ttl, negative, maxNegativeTTL), minTTL)
}

type link struct {
	target string
	ttl    time.Duration
}

// aliasesOf maps each owner of a CNAME to its target. Of several at one name
// the first counts (RFC 1034 3.6.2 allows one).
func aliasesOf(rrs []wire.RR) map[string]link {
	var links map[string]link
	for _, rr := range rrs {
		c, ok := rr.(*wire.CNAME)
		if !ok || c.Hdr.Class != wire.ClassINET {
			continue
		}
		owner := strings.ToLower(c.Hdr.Name)
		if _, twice := links[owner]; twice {
			continue
		}
		if links == nil {
			links = make(map[string]link)
		}
		links[owner] = link{strings.ToLower(c.Target), seconds(c.Hdr.Ttl)}
	}
	return links
}

// collect takes the records of the type at the end of the chain, at most
// MaxRecords of them.
func (r *reading) collect(rrs []wire.RR, qtype uint16) {
	for _, rr := range rrs {
		h := rr.Header()
		if h.Rrtype != qtype || h.Class != wire.ClassINET || !strings.EqualFold(h.Name, r.name) {
			continue
		}
		if r.count() == MaxRecords {
			return
		}
		before := r.count()
		r.add(rr)
		if r.count() > before {
			r.ttl = min(r.ttl, seconds(h.Ttl))
		}
	}
}

// add appends one record; data that cannot be what its type says is left out.
func (r *records) add(rr wire.RR) {
	switch rr := rr.(type) {
	case *wire.MX:
		r.mx = append(r.mx, MX{rr.Preference, plain(rr.Mx)})
	case *wire.A:
		if a, ok := netip.AddrFromSlice(rr.A); ok {
			r.addrs = append(r.addrs, a.Unmap())
		}
	case *wire.AAAA:
		if a, ok := netip.AddrFromSlice(rr.AAAA); ok && !a.Is4In6() {
			r.addrs = append(r.addrs, a)
		}
	case *wire.TXT:
		r.texts = append(r.texts, unescape(strings.Join(rr.Txt, "")))
	case *wire.CNAME:
		r.texts = append(r.texts, plain(rr.Target))
	case *wire.PTR:
		r.texts = append(r.texts, plain(rr.Ptr))
	case *wire.TLSA:
		if data, err := hex.DecodeString(rr.Certificate); err == nil {
			r.tlsa = append(r.tlsa, TLSA{rr.Usage, rr.Selector, rr.MatchingType, data})
		}
	}
}

// seconds reads a TTL. One with the top bit set counts as zero (RFC 2181 8).
func seconds(ttl uint32) time.Duration {
	if ttl > 1<<31-1 {
		return 0
	}
	return time.Duration(ttl) * time.Second
}
