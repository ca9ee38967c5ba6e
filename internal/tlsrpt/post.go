package tlsrpt

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// The bounds of a report by HTTPS.
const (
	postTime     = 30 * time.Second // all of it, redirects included
	dialTime     = 10 * time.Second // one address
	maxRedirects = 3
	maxAddresses = 4        // that are tried
	maxAnswer    = 4 << 10  // octets of an answer that are read
	maxHeader    = 64 << 10 // octets of its header
)

// client posts reports. It goes through no proxy, keeps no connection, verifies
// certificates, and connects only to addresses that mail may go to as well: who
// publishes a record must not make us speak to the machines beside us.
type client struct {
	http    *http.Client
	resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	private bool            // [delivery] private_networks
	life    context.Context // ends connecting: net/http does not when a request has ended
}

func (r *Reports) newClient(life context.Context, s *Settings) *client {
	c := &client{dial: r.opts.Dial, private: s.PrivateNetworks, life: life}
	if c.dial == nil {
		c.dial = (&net.Dialer{Timeout: dialTime}).DialContext
	}
	c.resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
		answer, err := r.opts.Resolver.Addresses(ctx, host)
		return answer.Records, err
	}
	c.http = &http.Client{
		CheckRedirect: checkRedirect,
		Transport: &http.Transport{
			DialContext: c.connect, DisableKeepAlives: true, DisableCompression: true, ForceAttemptHTTP2: true,
			TLSClientConfig:        &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    dialTime,
			MaxResponseHeaderBytes: maxHeader,
		},
	}
	return c
}

// checkRedirect follows what asks for the same request elsewhere (RFC 9110
// 15.4.8, 15.4.9), over TLS.
func checkRedirect(next *http.Request, before []*http.Request) error {
	switch {
	case len(before) > maxRedirects:
		return fmt.Errorf("more than %d redirects", maxRedirects)
	case next.Method != http.MethodPost:
		return errors.New("redirected to something that is no place for a report")
	case next.URL.Scheme != "https":
		return errors.New("redirected to what is not https")
	}
	return nil
}

// connect dials the addresses of a host, in turn.
func (c *client) connect(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.life, cancel)()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, err := c.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	var first error
	for _, a := range addrs {
		one, cancel := context.WithTimeout(ctx, dialTime)
		conn, err := c.dial(one, network, net.JoinHostPort(a.String(), port))
		cancel()
		if err == nil {
			return conn, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// addresses gives those of a host that may be connected to.
func (c *client) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	var all, out []netip.Addr
	if literal, err := netip.ParseAddr(host); err == nil {
		all = []netip.Addr{literal.WithZone("")}
	} else if all, err = c.resolve(ctx, strings.TrimSuffix(host, ".")); err != nil {
		return nil, err
	}
	refused := host + " has no address"
	for _, a := range all {
		if why := mta.Refused(a, c.private); why != "" {
			refused = a.String() + " is " + why
			continue
		}
		out = append(out, a.Unmap())
	}
	if len(out) == 0 {
		return nil, errors.New(refused)
	}
	return out[:min(len(out), maxAddresses)], nil
}

// post sends a report to a URL (RFC 8460 5.4). Any answer but success is tried
// again.
func (c *client) post(ctx context.Context, m *made, to, agent string, now time.Time) attempt {
	ctx, cancel := context.WithTimeout(ctx, postTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(m.packed))
	if err != nil {
		return attempt{err: err, final: true}
	}
	req.Header.Set("Content-Type", "application/tlsrpt+gzip")
	req.Header.Set("User-Agent", agent)
	resp, err := c.http.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return attempt{err: err}
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // its rest decides nothing
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return attempt{}
	}
	text, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	const most = 200
	return attempt{
		err:   fmt.Errorf("%d %s: %s", resp.StatusCode, http.StatusText(resp.StatusCode), smtp.Harmless(text[:min(len(text), most)])),
		after: retryAfter(resp.Header.Get("Retry-After"), now),
	}
}

// retryAfter reads the field (RFC 9110 10.2.3); 0: it says nothing.
func retryAfter(value string, now time.Time) time.Duration {
	var wait time.Duration
	if n, err := strconv.Atoi(value); err == nil && n > 0 {
		wait = time.Duration(min(n, int(GiveUp/time.Second))) * time.Second
	} else if t, err := http.ParseTime(value); err == nil {
		wait = t.Sub(now)
	}
	return max(0, min(wait, GiveUp))
}
