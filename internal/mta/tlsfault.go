package mta

import (
	"crypto/x509"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Verifies reports whether the host's certificate must authenticate it.
func (r TLSRequirement) Verifies() bool {
	return r == TLSRequired || r == TLSImplicit || r == TLSDANE
}

// Insists reports whether mail waits rather than go in clear text.
func (r TLSRequirement) Insists() bool { return r != TLSOpportunistic && r != TLSNone }

// The result-types of RFC 8460 4.3 that a session can come to.
const (
	ResultNoSTARTTLS   = "starttls-not-supported"
	ResultHostMismatch = "certificate-host-mismatch"
	ResultExpired      = "certificate-expired"
	ResultNotTrusted   = "certificate-not-trusted"
	ResultTLSAInvalid  = "tlsa-invalid"
	ResultValidation   = "validation-failure" // none of the others

	// Of a host that is not asked: nobody knows whether it has TLSA records.
	ResultDNSSECInvalid = "dnssec-invalid"
)

// TLSFault says why TLS with a host did not come about, or does not
// authenticate it. As the Err of a Failure it gives the failure its
// result-type.
type TLSFault struct {
	Result string // of the constants above
	// Text is a sentence without a full stop. It may quote a certificate: make it
	// harmless before it is shown.
	Text string
	Err  error // the cause in Go's terms; may be nil
}

// Error implements error.
func (f *TLSFault) Error() string { return f.Text }

// Unwrap gives the cause.
func (f *TLSFault) Unwrap() error { return f.Err }

// maxNames is how many names of a certificate a fault tells.
const maxNames = 3

// CertificateFault says what an error of verification means (RFC 8460 4.3.1);
// nil when err speaks of no certificate. now is when it was verified.
func CertificateFault(err error, now time.Time) *TLSFault {
	var fault *TLSFault
	var name x509.HostnameError
	var invalid x509.CertificateInvalidError
	var unknown x509.UnknownAuthorityError
	switch {
	case errors.As(err, &fault):
		return fault
	case errors.As(err, &name):
		return &TLSFault{Result: ResultHostMismatch, Text: "the certificate is for " + certified(name.Certificate) + ", not for " + name.Host, Err: err}
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return outOfDate(invalid.Cert, now, err)
	case errors.As(err, &invalid), errors.As(err, new(x509.ConstraintViolationError)), errors.As(err, new(x509.UnhandledCriticalExtension)), errors.As(err, new(x509.SystemRootsError)):
		return &TLSFault{Result: ResultNotTrusted, Text: "the certificate is not valid: " + shortened(err.Error()), Err: err}
	case errors.As(err, &unknown):
		return &TLSFault{Result: ResultNotTrusted, Text: "the certificate is issued by nobody who is trusted here" + issuer(unknown.Cert), Err: err}
	}
	return nil
}

func outOfDate(c *x509.Certificate, now time.Time, err error) *TLSFault {
	switch {
	case c == nil:
		return &TLSFault{Result: ResultExpired, Text: "the certificate has expired", Err: err}
	case now.Before(c.NotBefore): // RFC 8460 has no word for it
		return &TLSFault{Result: ResultNotTrusted, Text: "the certificate is valid from " + c.NotBefore.UTC().Format(time.RFC3339) + " only", Err: err}
	}
	return &TLSFault{Result: ResultExpired, Text: "the certificate expired at " + c.NotAfter.UTC().Format(time.RFC3339), Err: err}
}

// certified tells who a certificate is for, in a few words.
func certified(c *x509.Certificate) string {
	if c == nil {
		return "another name"
	}
	names := c.DNSNames
	if len(names) == 0 && c.Subject.CommonName != "" {
		names = []string{c.Subject.CommonName}
	}
	if len(names) == 0 {
		return "no host name"
	}
	out := strings.Join(names[:min(maxNames, len(names))], ", ")
	if more := len(names) - maxNames; more > 0 {
		out += " and " + strconv.Itoa(more) + " more"
	}
	return shortened(out)
}

func issuer(c *x509.Certificate) string {
	if c == nil || c.Issuer.CommonName == "" {
		return ""
	}
	return " (" + shortened(c.Issuer.CommonName) + ")"
}

// maxWords bounds, in octets, what is told out of a certificate.
const maxWords = 160

func shortened(s string) string {
	if len(s) <= maxWords {
		return s
	}
	return strings.ToValidUTF8(s[:maxWords], "") + "…"
}
