package dnssec

import (
	"encoding/base64"
	"strings"

	"github.com/miekg/dns"
)

// Bounds of the RSA keys that can be checked, which are those of crypto/rsa and
// of miekg/dns. What only another key signs is insecure, as if the algorithm were
// unknown: the fault is not the zone's.
const (
	minRSA      = 1024 / 8 // octets of the modulus
	maxRSA      = 4096 / 8
	maxExponent = 1<<31 - 1 // some old keys have 1<<32 + 1
)

// algorithm reports whether signatures of an algorithm are checked (RFC 8624
// 3.1; SHA-1 while zones use it).
func algorithm(a uint8) bool {
	switch a {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512, dns.ECDSAP256SHA256, dns.ECDSAP384SHA384, dns.ED25519:
		return true
	}
	return false
}

// digest reports whether DS records of a digest are checked (RFC 8624 3.3).
func digest(d uint8) bool { return d == dns.SHA1 || d == dns.SHA256 || d == dns.SHA384 }

// supported reports whether a DS record can begin a chain.
func supported(ds *dns.DS) bool { return algorithm(ds.Algorithm) && digest(ds.DigestType) }

// usable reports whether a key may sign a zone: it is a zone key of protocol 3
// (RFC 4034 2.1), not revoked (RFC 5011 2.1), of a supported algorithm and size.
func usable(k *dns.DNSKEY) bool { return signs(k) && !odd(k) }

// signs is usable for keys of any size.
func signs(k *dns.DNSKEY) bool {
	return k.Flags&dns.ZONE != 0 && k.Flags&dns.REVOKE == 0 && k.Protocol == 3 && algorithm(k.Algorithm)
}

// odd reports an RSA key whose modulus or exponent is of a size that cannot be
// checked, or that cannot be read.
func odd(k *dns.DNSKEY) bool {
	switch k.Algorithm {
	case dns.RSASHA1, dns.RSASHA1NSEC3SHA1, dns.RSASHA256, dns.RSASHA512:
	default:
		return false
	}
	b, err := base64.StdEncoding.DecodeString(k.PublicKey)
	if err != nil || len(b) < 3 {
		return true
	}
	length, at := int(b[0]), 1 // RFC 3110 2
	if length == 0 {
		length, at = int(b[1])<<8|int(b[2]), 3
	}
	modulus := len(b) - at - length
	if length == 0 || length > 4 || modulus < minRSA || modulus > maxRSA || b[at] == 0 || b[at+length] == 0 {
		return true
	}
	exponent := 0
	for _, c := range b[at : at+length] {
		exponent = exponent<<8 | int(c)
	}
	return exponent > maxExponent
}

// key is a zone's key with its tag.
type key struct {
	*dns.DNSKEY
	tag uint16
	odd bool // not to be checked here
}

// strongest gives the DS records that count: supported ones, without SHA-1 where
// there is a better digest (RFC 4509 3).
func strongest(set []*dns.DS) []*dns.DS {
	var good, old []*dns.DS
	for _, ds := range set {
		switch {
		case !supported(ds):
		case ds.DigestType == dns.SHA1:
			old = append(old, ds)
		default:
			good = append(good, ds)
		}
	}
	if len(good) > 0 {
		return good
	}
	return old
}

// entry finds the keys of a set that a DS record names (RFC 4035 5.2). At most
// maxTries digests are made for each record.
func entry(keys []*dns.DNSKEY, ds *dns.DS) []key {
	var out []key
	tries := 0
	for _, k := range keys {
		if k.Algorithm != ds.Algorithm || k.Flags&dns.ZONE == 0 || k.Flags&dns.REVOKE != 0 || k.Protocol != 3 || k.KeyTag() != ds.KeyTag {
			continue
		}
		if tries++; tries > maxTries {
			break
		}
		if made := k.ToDS(ds.DigestType); made != nil && strings.EqualFold(made.Digest, ds.Digest) {
			out = append(out, key{k, ds.KeyTag, odd(k)})
		}
	}
	return out
}
