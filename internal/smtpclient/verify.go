package smtpclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// handshake turns the connection into TLS. What is not demanded is not
// verified: opportunistic encryption to anyone beats none (RFC 7435).
func (s *Session) handshake(ctx context.Context) *mta.Failure {
	conn := tls.Client(s.raw, s.tlsConfig())
	start := time.Now()
	err := s.raw.SetDeadline(start.Add(s.opt.cap(waitTLS)))
	if err == nil {
		err = conn.HandshakeContext(ctx)
	}
	if err != nil {
		return s.handshakeFailure(err)
	}
	state := conn.ConnectionState()
	s.conn, s.tlsTime = conn, time.Since(start)
	s.secure = mta.TLSFacts{
		Version: strings.ReplaceAll(tls.VersionName(state.Version), " ", ""),
		Cipher:  tls.CipherSuiteName(state.CipherSuite),
	}
	switch {
	case s.opt.TLS == mta.TLSDANE:
		s.secure.Verified = "dane"
	case s.opt.TLS.Verifies():
		s.secure.Verified = "pkix"
	case s.opt.Audit:
		s.audit = s.audited(state.PeerCertificates)
	}
	s.verified = s.secure.Verified != ""
	if s.opt.Observe != nil {
		s.opt.Observe(Step{Stage: mta.StageTLS, TLS: s.secure})
	}
	return nil
}

// tlsConfig is how TLS is spoken. There is no ALPN: SMTP has none.
func (s *Session) tlsConfig() *tls.Config {
	conf := &tls.Config{
		ServerName:         s.opt.Host,
		InsecureSkipVerify: !s.opt.TLS.Verifies(),
		MinVersion:         max(tls.VersionTLS12, s.opt.MinVersion),
		RootCAs:            s.opt.RootCAs,
		ClientSessionCache: s.opt.SessionCache,
	}
	if s.opt.ServerName != "" {
		conf.ServerName = strings.TrimSuffix(s.opt.ServerName, ".")
	}
	if s.opt.TLS == mta.TLSDANE {
		// The records decide alone, and about each session: one that is resumed
		// shows no certificate.
		conf.InsecureSkipVerify, conf.ClientSessionCache = true, nil
		conf.VerifyConnection = func(state tls.ConnectionState) error { return s.matches(state.PeerCertificates) }
	}
	if s.opt.Audit {
		conf.ClientSessionCache = nil
	}
	if s.opt.Certificate != nil {
		s.show(conf, s.opt.Certificate)
	}
	return conf
}

// show offers a client certificate, whatever authorities the server names.
func (s *Session) show(conf *tls.Config, c *mta.Certificate) {
	conf.ClientSessionCache = nil
	pair := &tls.Certificate{Certificate: c.Chain, PrivateKey: c.Key}
	conf.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
}

func (s *Session) matches(chain []*x509.Certificate) error {
	if s.opt.Match == nil {
		return errors.New("nobody knows which certificate is the right one")
	}
	return s.opt.Match(chain, time.Now())
}

// audited verifies as TLSRequired does, and says why that fails; nil: it does
// not.
func (s *Session) audited(chain []*x509.Certificate) *mta.TLSFault {
	now := time.Now()
	opt := x509.VerifyOptions{Roots: s.opt.RootCAs, DNSName: s.opt.Host, CurrentTime: now, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] { // Go's client has at least the server's own
		opt.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(opt)
	if err == nil {
		return nil
	}
	fault := mta.CertificateFault(err, now)
	if fault == nil {
		fault = &mta.TLSFault{Result: mta.ResultNotTrusted, Text: err.Error(), Err: err}
	}
	fault.Text = smtp.Harmless(fault.Text)
	return fault
}

// handshakeFailure states why there is no TLS; Err tells when the certificate
// is to blame (mta.TLSFault).
func (s *Session) handshakeFailure(err error) *mta.Failure {
	f := s.failure(mta.StageTLS, err)
	f.Cause, f.Text = mta.CauseTLS, "TLS handshake: "+Words(err)
	if fault := mta.CertificateFault(err, time.Now()); fault != nil {
		f.Text, f.Err = smtp.Harmless(fault.Text), fault
	}
	return f
}
