package tlspolicy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

var today = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// made is a certificate with its key.
type made struct {
	*x509.Certificate
	key crypto.Signer
}

// issue makes a certificate of by (nil: self-signed) for names, ending at end.
func issue(t testing.TB, by *made, ca bool, end time.Time, names ...string) *made {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return issueFor(t, key, by, &x509.Certificate{IsCA: ca, BasicConstraintsValid: true, NotAfter: end, DNSNames: names, Subject: pkix.Name{CommonName: strings.Join(names, " ")}})
}

var serial int64

func issueFor(t testing.TB, key crypto.Signer, by *made, c *x509.Certificate) *made {
	t.Helper()
	serial++
	c.SerialNumber = big.NewInt(serial)
	if c.NotBefore.IsZero() {
		c.NotBefore = today.AddDate(-1, 0, 0)
	}
	if c.IsCA {
		c.DNSNames, c.KeyUsage = nil, x509.KeyUsageCertSign
	}
	parent, signer := c, key
	if by != nil {
		parent, signer = by.Certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	out, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &made{out, key}
}

func tlsa(usage, selector, matching uint8, c *made) mta.TLSA {
	data := c.Raw
	if selector == 1 {
		data = c.RawSubjectPublicKeyInfo
	}
	switch matching {
	case 1:
		sum := sha256.Sum256(data)
		data = sum[:]
	case 2:
		sum := sha512.Sum512(data)
		data = sum[:]
	}
	return mta.TLSA{Usage: usage, Selector: selector, Matching: matching, Data: data}
}

// outcome is the result-type that Match comes to; "" is success.
func outcome(t testing.TB, d *mta.DANE, chain ...*made) string {
	t.Helper()
	var certs []*x509.Certificate
	for _, c := range chain {
		certs = append(certs, c.Certificate)
	}
	err := Match(d, certs, today)
	if err == nil {
		return ""
	}
	var fault *mta.TLSFault
	if !errors.As(err, &fault) || fault.Text == "" {
		t.Fatalf("%T %v", err, err)
	}
	return fault.Result
}

// TestDANEUsage3: the server's own certificate alone is looked at; nothing in it
// means anything (RFC 7672 3.1.1).
func TestDANEUsage3(t *testing.T) {
	t.Parallel()
	past, year := today.AddDate(0, -1, 0), today.AddDate(1, 0, 0)
	ca := issue(t, nil, true, year, "ca")
	leaf, other := issue(t, ca, false, year, "mx.example.net"), issue(t, ca, false, year, "mx.example.net")
	stale, alone := issue(t, ca, false, past, "else.example"), issue(t, nil, false, past)
	names := []string{"mx.example.net"}
	for selector := range uint8(2) {
		for matching := range uint8(3) {
			for name, c := range map[string]*made{"valid": leaf, "expired, another name": stale, "self-signed, no name": alone} {
				d := &mta.DANE{Records: []mta.TLSA{tlsa(3, selector, matching, c)}, Names: names}
				if got := outcome(t, d, c, ca); got != "" {
					t.Errorf("3 %d %d, %s: %s", selector, matching, name, got)
				}
				if got := outcome(t, d, other, c, ca); got != mta.ResultTLSAInvalid { // it must be the first
					t.Errorf("3 %d %d, another than %s: %q", selector, matching, name, got)
				}
			}
		}
	}
	cut := tlsa(3, 1, 1, leaf)
	cut.Data = cut.Data[:31]
	for name, r := range map[string]mta.TLSA{
		"cut": cut, "empty": {Usage: 3, Selector: 1, Matching: 1}, "empty, exact": {Usage: 3, Selector: 1},
		"unknown matching type": {Usage: 3, Selector: 1, Matching: 3, Data: leaf.RawSubjectPublicKeyInfo}, "unknown selector": {Usage: 3, Selector: 2, Data: leaf.Raw},
		"unknown usage": {Usage: 4, Selector: 1, Data: leaf.RawSubjectPublicKeyInfo}, "usage 1": {Usage: 1, Selector: 1, Data: leaf.RawSubjectPublicKeyInfo},
	} {
		if got := outcome(t, &mta.DANE{Records: []mta.TLSA{r}, Names: names}, leaf, ca); got != mta.ResultTLSAInvalid {
			t.Errorf("%s: %q", name, got)
		}
	}
	// One of several is enough, whatever the others say.
	if got := outcome(t, &mta.DANE{Records: []mta.TLSA{tlsa(3, 1, 1, other), tlsa(2, 0, 1, other), tlsa(3, 0, 1, leaf)}}, leaf); got != "" {
		t.Error(got)
	}
	if got := outcome(t, &mta.DANE{Records: []mta.TLSA{tlsa(3, 1, 1, leaf)}}); got != mta.ResultValidation {
		t.Errorf("no certificate: %q", got)
	}
}

// TestDANEDigestAgility: SHA-256 does not count where there is SHA-512 for the
// same usage and selector (RFC 7671 9).
func TestDANEDigestAgility(t *testing.T) {
	t.Parallel()
	year := today.AddDate(1, 0, 0)
	leaf, other := issue(t, nil, false, year, "a.example"), issue(t, nil, false, year, "a.example")
	for name, c := range map[string]struct {
		records []mta.TLSA
		want    string
	}{
		"the weaker one matches":       {[]mta.TLSA{tlsa(3, 1, 1, leaf), tlsa(3, 1, 2, other)}, mta.ResultTLSAInvalid},
		"of another selector":          {[]mta.TLSA{tlsa(3, 1, 1, leaf), tlsa(3, 0, 2, other)}, ""},
		"of another usage":             {[]mta.TLSA{tlsa(3, 1, 1, leaf), tlsa(2, 1, 2, other)}, ""},
		"exact is no digest":           {[]mta.TLSA{tlsa(3, 1, 0, leaf), tlsa(3, 1, 2, other)}, ""},
		"two keys, the same algorithm": {[]mta.TLSA{tlsa(3, 1, 2, other), tlsa(3, 1, 2, leaf)}, ""},
	} {
		if got := outcome(t, &mta.DANE{Records: c.records, Names: []string{"a.example"}}, leaf); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestDANEUsage2: the chain to the authority that a record names must verify,
// and be for one of the names (RFC 7672 3.1.2, 3.2).
func TestDANEUsage2(t *testing.T) {
	t.Parallel()
	past, year := today.AddDate(0, -1, 0), today.AddDate(1, 0, 0)
	root := issue(t, nil, true, year, "root")
	mid := issue(t, root, true, year, "mid")
	leaf := issue(t, mid, false, year, "mx.example.net", "*.wild.example")
	direct := issue(t, root, false, year, "mx.example.net")
	stale := issue(t, mid, false, past, "mx.example.net")
	oldMid := issue(t, root, true, past, "old")
	underOld := issue(t, oldMid, false, year, "mx.example.net")
	alone := issue(t, nil, false, year, "mx.example.net")
	fake := issue(t, nil, true, year, "mid") // the same name, another key
	notCA := issue(t, root, false, year, "mx.example.net")
	underNotCA := issue(t, notCA, false, year, "mx.example.net")
	early := issueFor(t, leaf.key, mid, &x509.Certificate{NotBefore: today.AddDate(0, 0, 1), NotAfter: year, DNSNames: []string{"mx.example.net"}})
	client := issueFor(t, leaf.key, mid, &x509.Certificate{NotAfter: year, DNSNames: []string{"mx.example.net"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})

	names := []string{"mx.example.net", "example.net"}
	for name, c := range map[string]struct {
		record mta.TLSA
		chain  []*made
		names  []string
		want   string
	}{
		"the issuer, an intermediate":           {tlsa(2, 0, 1, mid), []*made{leaf, mid}, names, ""},
		"the same by key":                       {tlsa(2, 1, 1, mid), []*made{leaf, mid}, names, ""},
		"the same by SHA-512":                   {tlsa(2, 1, 2, mid), []*made{leaf, mid}, names, ""},
		"the root, shown":                       {tlsa(2, 1, 1, root), []*made{leaf, mid, root}, names, ""},
		"the root, in another order":            {tlsa(2, 1, 1, root), []*made{leaf, root, mid}, names, ""},
		"the root, among strangers":             {tlsa(2, 1, 1, root), []*made{leaf, alone, fake, mid, root}, names, ""},
		"the root, not shown":                   {tlsa(2, 1, 1, root), []*made{leaf, mid}, names, mta.ResultTLSAInvalid},
		"the root, in the record":               {tlsa(2, 0, 0, root), []*made{leaf, mid}, names, ""},
		"the issuer, in the record":             {tlsa(2, 0, 0, mid), []*made{leaf}, names, ""},
		"the root's key, in the record":         {tlsa(2, 1, 0, root), []*made{leaf, mid}, names, ""},
		"the issuer's key, in the record":       {tlsa(2, 1, 0, mid), []*made{leaf}, names, ""},
		"a root's key, its own certificate":     {tlsa(2, 1, 0, root), []*made{direct}, names, ""},
		"the intermediate missing":              {tlsa(2, 0, 0, root), []*made{leaf}, names, mta.ResultNotTrusted},
		"another authority of the same name":    {tlsa(2, 1, 1, fake), []*made{leaf, fake, mid}, names, mta.ResultNotTrusted},
		"the same, whole in the record":         {tlsa(2, 0, 0, fake), []*made{leaf}, names, mta.ResultNotTrusted},
		"another's key":                         {tlsa(2, 1, 0, fake), []*made{leaf, mid}, names, mta.ResultTLSAInvalid},
		"garbage for a certificate":             {mta.TLSA{Usage: 2, Data: []byte{0x30, 1}}, []*made{leaf, mid}, names, mta.ResultTLSAInvalid},
		"garbage for a key":                     {mta.TLSA{Usage: 2, Selector: 1, Data: []byte{0x30, 1}}, []*made{leaf, mid}, names, mta.ResultTLSAInvalid},
		"the server's own certificate":          {tlsa(2, 0, 1, leaf), []*made{leaf, mid}, names, mta.ResultTLSAInvalid},
		"the same, shown twice":                 {tlsa(2, 0, 1, alone), []*made{alone, alone}, names, mta.ResultTLSAInvalid},
		"it, whole in the record":               {tlsa(2, 0, 0, alone), []*made{alone}, names, mta.ResultTLSAInvalid},
		"a self-signed certificate's key":       {tlsa(2, 1, 0, alone), []*made{alone}, names, ""},
		"expired":                               {tlsa(2, 1, 1, mid), []*made{stale, mid}, names, mta.ResultExpired},
		"expired, by a key":                     {tlsa(2, 1, 0, mid), []*made{stale}, names, mta.ResultExpired},
		"expired authority":                     {tlsa(2, 1, 1, oldMid), []*made{underOld, oldMid}, names, mta.ResultExpired},
		"not valid yet":                         {tlsa(2, 1, 1, mid), []*made{early, mid}, names, mta.ResultNotTrusted},
		"not for servers":                       {tlsa(2, 1, 1, mid), []*made{client, mid}, names, mta.ResultNotTrusted},
		"issued by what is no authority":        {tlsa(2, 1, 1, notCA), []*made{underNotCA, notCA, root}, names, mta.ResultNotTrusted},
		"another name":                          {tlsa(2, 1, 1, mid), []*made{leaf, mid}, []string{"other.example"}, mta.ResultHostMismatch},
		"another name, by a key":                {tlsa(2, 1, 0, mid), []*made{leaf}, []string{"other.example"}, mta.ResultHostMismatch},
		"the second name":                       {tlsa(2, 1, 1, mid), []*made{leaf, mid}, []string{"other.example", "mx.example.net"}, ""},
		"no names":                              {tlsa(2, 1, 1, mid), []*made{leaf, mid}, nil, mta.ResultHostMismatch},
		"wildcard":                              {tlsa(2, 1, 1, mid), []*made{leaf, mid}, []string{"MX1.wild.example."}, ""},
		"wildcard of two labels":                {tlsa(2, 1, 1, mid), []*made{leaf, mid}, []string{"a.b.wild.example"}, mta.ResultHostMismatch},
		"wildcard of none":                      {tlsa(2, 1, 1, mid), []*made{leaf, mid}, []string{"wild.example"}, mta.ResultHostMismatch},
		"the system's authorities are not used": {mta.TLSA{Usage: 2, Selector: 1, Matching: 1, Data: make([]byte, 32)}, []*made{leaf, mid}, names, mta.ResultTLSAInvalid},
	} {
		if got := outcome(t, &mta.DANE{Records: []mta.TLSA{c.record}, Names: c.names}, c.chain...); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	// With several, one that leads to a chain that holds is enough.
	both := &mta.DANE{Records: []mta.TLSA{tlsa(2, 1, 1, fake), tlsa(2, 1, 1, mid), tlsa(3, 1, 1, alone)}, Names: names}
	if got := outcome(t, both, leaf, fake, mid); got != "" {
		t.Error(got)
	}
}

func TestCertifies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		presented, host string
		want            bool
	}{
		{"mx.example.net", "MX.Example.Net.", true},
		{"mx.example.net.", "mx.example.net", true},
		{"*.example.net", "mx.example.net", true},
		{"*.example.net", "a.mx.example.net", false},
		{"*.example.net", "example.net", false},
		{"*.example.net", ".example.net", false},
		{"*.net", "example.net", false},
		{"*", "net", false},
		{"m*.example.net", "mx.example.net", false},
		{"mx.*.net", "mx.example.net", false},
		{"*.*.net", "mx.example.net", false},
		{"", "", false},
		{"", "mx.example.net", false},
		{"mx.example.net", "", false},
		{"mx.example.net\x00.evil.example", "mx.example.net", false},
	} {
		if got := certifies(c.presented, c.host); got != c.want {
			t.Errorf("%q for %q: %v", c.presented, c.host, got)
		}
	}
}

// TestDANECommonName: the subject's common name counts where there is no DNS
// name in the certificate, and there alone.
func TestDANECommonName(t *testing.T) {
	t.Parallel()
	year := today.AddDate(1, 0, 0)
	ca := issue(t, nil, true, year, "ca")
	d := &mta.DANE{Records: []mta.TLSA{tlsa(2, 1, 1, ca)}, Names: []string{"mx.example.net"}}
	key := ca.key
	for name, c := range map[string]struct {
		of   x509.Certificate
		want string
	}{
		"alone":             {x509.Certificate{Subject: pkix.Name{CommonName: "mx.example.net"}}, ""},
		"beside a DNS name": {x509.Certificate{Subject: pkix.Name{CommonName: "mx.example.net"}, DNSNames: []string{"else.example"}}, mta.ResultHostMismatch},
		"nothing":           {x509.Certificate{}, mta.ResultHostMismatch},
	} {
		c.of.NotAfter = year
		if got := outcome(t, d, issueFor(t, key, ca, &c.of), ca); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestMatchIsBounded: what a server and a domain send is looked at up to the
// bounds, and a key whose signatures take seconds to check is none.
func TestMatchIsBounded(t *testing.T) {
	t.Parallel()
	year := today.AddDate(1, 0, 0)
	ca := issue(t, nil, true, year, "ca")
	leaf, other := issue(t, ca, false, year, "mx.example.net"), issue(t, ca, false, year, "mx.example.net")
	names := []string{"mx.example.net"}
	long := append([]*made{leaf}, slices.Repeat([]*made{other}, maxChain-2)...)
	if got := outcome(t, &mta.DANE{Records: []mta.TLSA{tlsa(2, 1, 1, ca)}, Names: names}, append(slices.Clone(long), ca)...); got != "" {
		t.Errorf("within the bound: %q", got)
	}
	if got := outcome(t, &mta.DANE{Records: []mta.TLSA{tlsa(2, 1, 1, ca)}, Names: names}, append(append(slices.Clone(long), other), ca)...); got != mta.ResultTLSAInvalid {
		t.Errorf("beyond it: %q", got)
	}
	many := slices.Repeat([]mta.TLSA{tlsa(3, 1, 1, other)}, maxRecords-1)
	if got := outcome(t, &mta.DANE{Records: append(slices.Clone(many), tlsa(3, 1, 1, leaf)), Names: names}, leaf); got != "" {
		t.Errorf("within the bound: %q", got)
	}
	if got := outcome(t, &mta.DANE{Records: append(append(slices.Clone(many), many[0]), tlsa(3, 1, 1, leaf)), Names: names}, leaf); got != mta.ResultTLSAInvalid {
		t.Errorf("beyond it: %q", got)
	}
	huge := &rsa.PublicKey{N: new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), maxRSA+1), big.NewInt(1)), E: 65537}
	if bearable(huge) || !bearable(&rsa.PublicKey{N: new(big.Int).Rsh(huge.N, 1), E: 65537}) || !bearable(leaf.PublicKey) {
		t.Error("the bound of RSA keys")
	}
	der, err := x509.MarshalPKIXPublicKey(huge)
	if err != nil {
		t.Fatal(err)
	}
	if got := outcome(t, &mta.DANE{Records: []mta.TLSA{{Usage: 2, Selector: 1, Data: der}}, Names: names}, leaf); got != mta.ResultTLSAInvalid {
		t.Errorf("a huge key: %q", got)
	}
}

// FuzzMatch: whatever lies in records, Match comes to a verdict; and only what
// the certificates hold can match.
func FuzzMatch(f *testing.F) {
	year := today.AddDate(1, 0, 0)
	ca := issue(f, nil, true, year, "ca")
	leaf := issue(f, ca, false, year, "mx.example.net")
	chain := []*x509.Certificate{leaf.Certificate, ca.Certificate}
	f.Add(uint8(3), uint8(1), uint8(1), []byte("x"), "mx.example.net")
	f.Add(uint8(2), uint8(0), uint8(0), ca.Raw, "mx.example.net")
	f.Add(uint8(2), uint8(1), uint8(0), ca.RawSubjectPublicKeyInfo, "*.example.net")
	f.Fuzz(func(t *testing.T, usage, selector, matching uint8, data []byte, name string) {
		err := Match(&mta.DANE{Records: []mta.TLSA{{Usage: usage, Selector: selector, Matching: matching, Data: data}}, Names: []string{name}}, chain, today)
		if err != nil && !errors.As(err, new(*mta.TLSFault)) {
			t.Errorf("%T %v", err, err)
		}
		if err == nil && usage != 2 && usage != 3 {
			t.Errorf("usage %d matched", usage)
		}
	})
}
