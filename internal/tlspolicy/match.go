package tlspolicy

// Whether a server's certificates are those that TLSA records mean.
//
// Usage 3 (DANE-EE) is about the server's own certificate alone: names, dates
// and purposes in it mean nothing (RFC 7672 3.1.1, RFC 7671 5.1). Usage 2
// (DANE-TA) names an authority above it: the chain up to there must verify,
// dates and all, and the certificate must be for one of the reference
// identifiers (RFC 7672 3.1.2, 3.2). The authority is a certificate that the
// server sends, or one that a record has in full; of a record with a full key
// the certificates that the key signed will do. The system's authorities play
// no part.

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"strconv"
	"strings"
	"time"

	"mailout/internal/mta"
)

// The bounds of one match; what is beyond is not looked at.
const (
	maxChain   = 16   // certificates
	maxRecords = 64   // records
	maxRSA     = 8192 // bits of an RSA key in a record
)

// The numbers of RFC 7218.
const (
	usageTA, usageEE            = 2, 3
	wholeCert, publicKey        = 0, 1
	exactly, bySHA256, bySHA512 = 0, 1, 2
)

// Match reports whether a server that showed the chain, its own certificate
// first, is the one that d demands. The error is an *mta.TLSFault:
// tlsa-invalid when no record matches, else what is wrong with the chain that
// one does match. It may be called by many goroutines at once.
func Match(d *mta.DANE, chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 {
		return &mta.TLSFault{Result: mta.ResultValidation, Text: "the server shows no certificate"}
	}
	chain = chain[:min(maxChain, len(chain))]
	m := matcher{chain: chain, now: now, names: d.Names}
	records := strongest(d.Records[:min(maxRecords, len(d.Records))])
	for i := range records {
		if r := &records[i]; r.Usage == usageEE && is(r, chain[0]) {
			return nil
		}
	}
	for i := range records {
		if records[i].Usage == usageTA {
			m.trust(&records[i])
		}
	}
	return m.verify(len(records))
}

// strongest leaves out SHA-256 where SHA-512 is there for the same usage and
// selector (digest agility, RFC 7671 9).
func strongest(records []mta.TLSA) []mta.TLSA {
	var has [4][2]bool
	for i := range records {
		if r := &records[i]; r.Matching == bySHA512 && r.Usage < 4 && r.Selector < 2 {
			has[r.Usage][r.Selector] = true
		}
	}
	out := make([]mta.TLSA, 0, len(records))
	for _, r := range records {
		if r.Usage < 4 && r.Selector < 2 && !(r.Matching == bySHA256 && has[r.Usage][r.Selector]) {
			out = append(out, r)
		}
	}
	return out
}

// is reports whether a record is about a certificate (RFC 6698 2.1).
func is(r *mta.TLSA, c *x509.Certificate) bool {
	data := c.Raw
	if r.Selector == publicKey {
		data = c.RawSubjectPublicKeyInfo
	}
	switch r.Matching {
	case exactly:
		return bytes.Equal(r.Data, data)
	case bySHA256:
		sum := sha256.Sum256(data)
		return bytes.Equal(r.Data, sum[:])
	case bySHA512:
		sum := sha512.Sum512(data)
		return bytes.Equal(r.Data, sum[:])
	}
	return false
}

// matcher looks for a chain to an authority that a record of usage 2 names.
type matcher struct {
	chain   []*x509.Certificate
	now     time.Time
	names   []string
	anchors []*x509.Certificate
}

// trust takes the authorities that a record of usage 2 names. The server's own
// certificate is none, unless a key in a record signed it.
func (m *matcher) trust(r *mta.TLSA) {
	for _, c := range m.chain[1:] {
		if is(r, c) && !c.Equal(m.chain[0]) {
			m.anchors = append(m.anchors, c)
		}
	}
	if r.Matching != exactly {
		return
	}
	if r.Selector == wholeCert {
		if c, err := x509.ParseCertificate(r.Data); err == nil && bearable(c.PublicKey) && !c.Equal(m.chain[0]) {
			m.anchors = append(m.anchors, c)
		}
		return
	}
	key, err := x509.ParsePKIXPublicKey(r.Data)
	if err != nil || !bearable(key) {
		return
	}
	authority := x509.Certificate{PublicKey: key}
	for _, c := range m.chain {
		if authority.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil {
			m.anchors = append(m.anchors, c)
		}
	}
}

// bearable reports whether signatures by a key take no time that matters.
func bearable(key any) bool {
	k, ok := key.(*rsa.PublicKey)
	return !ok || k.N.BitLen() <= maxRSA
}

// unmatched says that no record means what the server shows.
func unmatched(records int) string {
	if records == 1 {
		return "the only TLSA record does not match the certificates shown"
	}
	return "none of the " + strconv.Itoa(records) + " TLSA records matches the certificates shown"
}

// verify checks the chain to the authorities found, and the name.
func (m *matcher) verify(records int) error {
	if len(m.anchors) == 0 {
		return &mta.TLSFault{Result: mta.ResultTLSAInvalid, Text: unmatched(records)}
	}
	opt := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), CurrentTime: m.now}
	for _, c := range m.anchors {
		opt.Roots.AddCert(c)
	}
	for _, c := range m.chain[1:] {
		opt.Intermediates.AddCert(c)
	}
	leaf := m.chain[0]
	if _, err := leaf.Verify(opt); err != nil {
		if fault := mta.CertificateFault(err, m.now); fault != nil {
			return fault
		}
		return &mta.TLSFault{Result: mta.ResultNotTrusted, Text: err.Error(), Err: err}
	}
	presented := leaf.DNSNames
	if len(presented) == 0 { // a CN counts only where there is no DNS-ID (RFC 6125 6.4.4)
		presented = []string{leaf.Subject.CommonName}
	}
	for _, reference := range m.names {
		for _, p := range presented {
			if certifies(p, reference) {
				return nil
			}
		}
	}
	reference := ""
	if len(m.names) > 0 {
		reference = m.names[0]
	}
	return mta.CertificateFault(x509.HostnameError{Certificate: leaf, Host: reference}, m.now)
}

// certifies reports whether a name in a certificate is about a host. An asterisk
// stands for one whole leftmost label (RFC 7672 3.2.3).
func certifies(presented, host string) bool {
	presented, host = strings.TrimSuffix(presented, "."), strings.TrimSuffix(host, ".")
	if presented == "" || host == "" {
		return false
	}
	if parent, wild := strings.CutPrefix(presented, "*."); wild {
		label, rest, ok := strings.Cut(host, ".")
		return ok && label != "" && strings.Contains(parent, ".") && !strings.Contains(parent, "*") && strings.EqualFold(rest, parent)
	}
	return strings.EqualFold(presented, host)
}
