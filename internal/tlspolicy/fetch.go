package tlspolicy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// The bounds of one fetch (RFC 8461 3.3).
const (
	fetchTime   = time.Minute      // all of it
	dialTime    = 10 * time.Second // to one address
	dialMost    = 4                // addresses
	headerBytes = 16 << 10         // of the answer
)

// fetchError says why a policy could not be had, in a word of RFC 8460 4.3 and
// a sentence.
type fetchError struct {
	result string
	text   string
	err    error
}

func (e *fetchError) Error() string { return e.text }
func (e *fetchError) Unwrap() error { return e.err }

// The words of RFC 8460 4.3.2.2.
const (
	fetchFailed   = "sts-policy-fetch-error"
	policyInvalid = "sts-policy-invalid"
	webPKIInvalid = "sts-webpki-invalid"
)

// getter fetches policies under one configuration.
type getter struct {
	http *http.Client
	port uint16
}

// newGetter makes a client that looks names up by our own resolver, follows no
// redirect, keeps no connection and no answer, and takes nothing compressed (RFC
// 8461 3.3).
func newGetter(resolver Resolver, dial DialFunc, s *Settings) *getter {
	d := dialer{resolver: resolver, dial: dial, ipv6: s.IPv6, private: s.PrivateNetworks}
	return &getter{port: s.Port, http: &http.Client{
		Transport: &http.Transport{
			DialContext:            d.connect,
			TLSClientConfig:        &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
			DisableKeepAlives:      true,
			DisableCompression:     true,
			MaxResponseHeaderBytes: headerBytes,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// policyHost is who has a domain's policy.
func policyHost(domain string) string { return "mta-sts." + domain }

// fetch gets and reads a domain's policy.
func (g *getter) fetch(ctx context.Context, domain string) (*Policy, *fetchError) {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	host := policyHost(domain)
	if g.port != httpsPort {
		host += ":" + strconv.Itoa(int(g.port))
	}
	at := "https://" + host + "/.well-known/mta-sts.txt"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, failedFetch(at, err)
	}
	req.Header.Set("User-Agent", "mailout")
	resp, err := g.http.Do(req)
	if err != nil {
		return nil, failedFetch(at, err)
	}
	defer resp.Body.Close()
	if why := against(resp); why != "" {
		return nil, &fetchError{result: fetchFailed, text: at + " " + why}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, MaxPolicy+1))
	if err != nil {
		return nil, failedFetch(at, err)
	}
	p, err := ParsePolicy(text)
	if err != nil {
		return nil, &fetchError{result: policyInvalid, text: "the policy at " + at + " is invalid: " + err.Error(), err: err}
	}
	return p, nil
}

// against says what is wrong with an answer, but for its content.
func against(r *http.Response) string {
	if r.StatusCode != http.StatusOK {
		return fmt.Sprintf("answers with the status %d (redirects are not followed)", r.StatusCode)
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "text/plain" {
		return "is not text/plain"
	}
	if r.Header.Get("Content-Encoding") != "" {
		return "is encoded, which nobody asked for"
	}
	return ""
}

// failedFetch says what an error of HTTP means.
func failedFetch(of string, err error) *fetchError {
	if u := (*url.Error)(nil); errors.As(err, &u) {
		err = u.Err // without the URL
	}
	e := &fetchError{result: fetchFailed, text: "fetching " + of + ": " + plain(err.Error()), err: err}
	var late interface{ Timeout() bool }
	switch {
	case errors.As(err, new(*tls.CertificateVerificationError)):
		e.result = webPKIInvalid
	case errors.As(err, &late) && late.Timeout():
		e.text = "fetching " + of + ": there was no whole answer in time"
	}
	return e
}

// maxWords bounds what a stranger's server can put into a sentence.
const maxWords = 200

// plain makes words harmless.
func plain(s string) string {
	out := []byte(s[:min(len(s), maxWords)])
	for i, c := range out {
		if c < ' ' || c >= 0x7f {
			out[i] = '?'
		}
	}
	return string(out)
}

// dialer connects to policy hosts.
type dialer struct {
	resolver Resolver
	dial     DialFunc
	ipv6     bool
	private  bool
}

// DialFunc connects to an address with its port.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// connect finds a host's addresses and gives the first connection that comes
// about. What is no public address is refused as it is for mail: a policy host
// must not lead us to a service of this network.
func (d *dialer) connect(ctx context.Context, _, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	ask := d.resolver.Addresses
	if !d.ipv6 {
		ask = d.resolver.A
	}
	a, err := ask(ctx, host)
	if err != nil {
		return nil, dns.AsError(err)
	}
	err = errors.New("no address of " + host + " can be used")
	for n, addr := range a.Records {
		if n == dialMost {
			break
		}
		if why := mta.Refused(addr, d.private); why != "" {
			err = fmt.Errorf("%s is %s", addr, why)
			continue
		}
		var conn net.Conn
		if conn, err = d.one(ctx, addr, port); err == nil {
			return conn, nil
		}
	}
	return nil, err
}

func (d *dialer) one(ctx context.Context, addr netip.Addr, port string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	return d.dial(ctx, "tcp", net.JoinHostPort(addr.String(), port))
}
