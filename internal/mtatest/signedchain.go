package mtatest

import (
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

func keyOctets(s string) []byte {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		panic(err) // a key that we made
	}
	return b
}

func base64Of(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func add16(b []byte, by int) { binary.BigEndian.PutUint16(b, binary.BigEndian.Uint16(b)+uint16(by)) }

// finish finds the names and makes the chain of denials.
func (z *signedZone) finish() {
	exists := map[string]bool{}
	for name := range z.sets {
		for at := name; dns.IsSubDomain(z.Name, at); at = above(at) {
			exists[at] = true
			if at == "." {
				break
			}
		}
	}
	for name := range exists {
		if !z.below(name) {
			z.names = append(z.names, name)
		}
	}
	slices.SortFunc(z.names, canonicalOrder)
	switch {
	case z.Unsigned:
	case z.NSEC3:
		z.chain3()
	default:
		z.chainPlain()
	}
}

// canonicalOrder is that of RFC 4034 6.1, for names of ordinary letters.
func canonicalOrder(a, b string) int {
	la, lb := dns.SplitDomainName(a), dns.SplitDomainName(b)
	slices.Reverse(la)
	slices.Reverse(lb)
	return slices.Compare(la, lb)
}

// below reports whether a name lies under a delegation (glue).
func (z *signedZone) below(name string) bool {
	for at := name; at != z.Name; {
		at = above(at)
		if z.cuts[at] {
			return true
		}
	}
	return false
}

// types gives the bit map of a name.
func (z *signedZone) types(name string, more ...uint16) []uint16 {
	var out []uint16
	for t := range z.sets[name] {
		if z.cuts[name] && t != dns.TypeNS && t != dns.TypeDS {
			continue
		}
		out = append(out, t)
	}
	out = append(out, more...)
	slices.Sort(out)
	return slices.Compact(out)
}

func (z *signedZone) chainPlain() {
	names := slices.DeleteFunc(slices.Clone(z.names), func(n string) bool { return z.sets[n] == nil })
	for i, name := range names {
		z.chain = append(z.chain, &dns.NSEC{
			Hdr:        dns.RR_Header{Name: name, Rrtype: dns.TypeNSEC, Class: dns.ClassINET, Ttl: 60},
			NextDomain: names[(i+1)%len(names)], TypeBitMap: z.types(name, dns.TypeNSEC, dns.TypeRRSIG),
		})
	}
}

func (z *signedZone) chain3() {
	z.sets[z.Name][dns.TypeNSEC3PARAM] = []dns.RR{&dns.NSEC3PARAM{
		Hdr:  dns.RR_Header{Name: z.Name, Rrtype: dns.TypeNSEC3PARAM, Class: dns.ClassINET, Ttl: 300},
		Hash: dns.SHA1, Iterations: z.Iterations, SaltLength: uint8(len(z.Salt) / 2), Salt: z.Salt,
	}}
	var all []*dns.NSEC3
	for _, name := range z.names {
		unsigned := z.cuts[name] && z.sets[name][dns.TypeDS] == nil
		if unsigned && z.OptOut {
			continue
		}
		var more []uint16
		if z.sets[name] != nil && !unsigned {
			more = []uint16{dns.TypeRRSIG}
		}
		n := &dns.NSEC3{
			Hdr:  dns.RR_Header{Name: strings.ToLower(z.hash(name)) + "." + strings.TrimPrefix(z.Name, "."), Rrtype: dns.TypeNSEC3, Class: dns.ClassINET, Ttl: 60},
			Hash: dns.SHA1, Iterations: z.Iterations, SaltLength: uint8(len(z.Salt) / 2), Salt: z.Salt, HashLength: 20,
			TypeBitMap: z.types(name, more...),
		}
		if z.OptOut {
			n.Flags = 1
		}
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *dns.NSEC3) int { return strings.Compare(a.Hdr.Name, b.Hdr.Name) })
	for i, n := range all {
		label, _, _ := strings.Cut(all[(i+1)%len(all)].Hdr.Name, ".")
		n.NextDomain = strings.ToUpper(label)
		z.chain = append(z.chain, n)
	}
}

func (z *signedZone) hash(name string) string {
	return dns.HashName(name, dns.SHA1, z.Iterations, z.Salt)
}

// at gives the record of the chain that stands at a name, or covers it.
func (z *signedZone) at(name string, covers bool) dns.RR {
	if z.NSEC3 {
		return z.at3(name, covers)
	}
	var last dns.RR
	for _, rr := range z.chain {
		switch c := canonicalOrder(rr.Header().Name, name); {
		case c == 0 && !covers:
			return rr
		case c < 0:
			last = rr
		}
	}
	if !covers {
		return nil
	}
	return last
}

func (z *signedZone) at3(name string, covers bool) dns.RR {
	sum := strings.ToLower(z.hash(name))
	last := z.chain[len(z.chain)-1] // covers what is before the first one
	for _, rr := range z.chain {
		label, _, _ := strings.Cut(rr.Header().Name, ".")
		switch {
		case label == sum && !covers:
			return rr
		case label < sum:
			last = rr
		}
	}
	if !covers {
		return nil
	}
	return last
}
