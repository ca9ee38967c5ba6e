package mta

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestCertificateFault: each way in which a certificate is not good has its
// result-type (RFC 8460 4.3.1) and few words, however long the certificate's are.
func TestCertificateFault(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	long := strings.Repeat("ü", 4000)
	names := &x509.Certificate{DNSNames: []string{"a.example", "b.example", "c.example", "d.example", "e.example"}}
	for name, c := range map[string]struct {
		err          error
		result, says string
	}{
		"another name":            {x509.HostnameError{Certificate: names, Host: "mx.example"}, ResultHostMismatch, "the certificate is for a.example, b.example, c.example and 2 more, not for mx.example"},
		"a common name":           {x509.HostnameError{Certificate: &x509.Certificate{Subject: pkix.Name{CommonName: "x"}}, Host: "mx.example"}, ResultHostMismatch, "the certificate is for x, not for mx.example"},
		"no name":                 {x509.HostnameError{Certificate: &x509.Certificate{}, Host: "mx.example"}, ResultHostMismatch, "the certificate is for no host name, not for mx.example"},
		"a long name":             {x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{long}}, Host: "mx.example"}, ResultHostMismatch, ""},
		"expired":                 {x509.CertificateInvalidError{Cert: &x509.Certificate{NotAfter: now.Add(-time.Hour)}, Reason: x509.Expired}, ResultExpired, "the certificate expired at 2026-03-04T11:00:00Z"},
		"not valid yet":           {x509.CertificateInvalidError{Cert: &x509.Certificate{NotBefore: now.Add(time.Hour)}, Reason: x509.Expired}, ResultNotTrusted, "the certificate is valid from 2026-03-04T13:00:00Z only"},
		"expired, nobody knows":   {x509.CertificateInvalidError{Reason: x509.Expired}, ResultExpired, "the certificate has expired"},
		"no authority":            {x509.CertificateInvalidError{Reason: x509.NotAuthorizedToSign, Detail: long}, ResultNotTrusted, ""},
		"an unknown issuer":       {x509.UnknownAuthorityError{Cert: &x509.Certificate{Issuer: pkix.Name{CommonName: "somebody"}}}, ResultNotTrusted, "the certificate is issued by nobody who is trusted here (somebody)"},
		"a long issuer":           {x509.UnknownAuthorityError{Cert: &x509.Certificate{Issuer: pkix.Name{CommonName: long}}}, ResultNotTrusted, ""},
		"no certificate":          {x509.UnknownAuthorityError{}, ResultNotTrusted, "the certificate is issued by nobody who is trusted here"},
		"a critical extension":    {x509.UnhandledCriticalExtension{}, ResultNotTrusted, ""},
		"the system has no roots": {x509.SystemRootsError{Err: io.EOF}, ResultNotTrusted, ""},
		"a fault already":         {&TLSFault{Result: ResultTLSAInvalid, Text: "x"}, ResultTLSAInvalid, "x"},
	} {
		fault := CertificateFault(fmt.Errorf("wrapped: %w", c.err), now)
		if fault == nil || fault.Result != c.result || c.says != "" && fault.Text != c.says {
			t.Errorf("%s: %+v", name, fault)
			continue
		}
		if len(fault.Text) > 300 || fault.Error() == "" {
			t.Errorf("%s: %d octets: %q", name, len(fault.Text), fault.Text)
		}
	}
	for _, err := range []error{io.EOF, errors.New("tls: handshake failure"), nil} {
		if f := CertificateFault(err, now); f != nil {
			t.Errorf("%v: %+v", err, f)
		}
	}
}

func TestRequirementsInsist(t *testing.T) {
	t.Parallel()
	for r, want := range map[TLSRequirement][2]bool{
		TLSOpportunistic: {false, false}, TLSNone: {false, false}, TLSEncrypted: {true, false},
		TLSRequired: {true, true}, TLSImplicit: {true, true}, TLSDANE: {true, true},
	} {
		if r.Insists() != want[0] || r.Verifies() != want[1] {
			t.Errorf("%d: insists %v, verifies %v", r, r.Insists(), r.Verifies())
		}
	}
}
