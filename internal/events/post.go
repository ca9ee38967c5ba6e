package events

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"mailout/internal/smtp"
)

// answer is the end of one request.
type answer struct {
	b      *batch
	status int           // 0: there was none
	after  time.Duration // Retry-After
	text   string        // the beginning of what the receiver said
	err    error         // why there was no status
}

func (a *answer) ok() bool { return a.status >= 200 && a.status < 300 }

// aboutContent reports whether an answer may be about one of the events rather
// than about the receiver's own state.
func (a *answer) aboutContent() bool {
	switch a.status {
	case 0, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusRequestTimeout, http.StatusTooManyRequests,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return false
	}
	return a.status >= 400
}

// words says what went wrong, for people. The receiver's text is harmless.
func (a *answer) words() string {
	if a.err != nil {
		var u *url.Error
		if errors.As(a.err, &u) { // without the URL, which may hold a token
			return u.Err.Error()
		}
		return a.err.Error()
	}
	text := strconv.Itoa(a.status) + " " + http.StatusText(a.status)
	if a.text != "" {
		text += ": " + a.text
	}
	return text
}

// newClient makes the client of one webhook. It follows no redirect (the
// signature was made for this receiver), and goes through no proxy.
func newClient(o *Options, s *Settings, conf *Webhook) *http.Client {
	dial := o.Dial
	if dial == nil {
		dial = (&net.Dialer{Timeout: conf.Timeout, KeepAlive: 30 * time.Second}).DialContext
	}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: dial, ForceAttemptHTTP2: true, DisableCompression: true,
			TLSClientConfig:     &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12},
			MaxIdleConnsPerHost: conf.Concurrency, MaxConnsPerHost: conf.Concurrency,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		},
	}
}

// post sends one batch and waits for the answer.
func (w *webhook) post(ctx context.Context, b *batch) answer {
	ctx, cancel := context.WithTimeout(ctx, w.conf.Timeout)
	defer cancel()
	a := answer{b: b}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.conf.URL, bytes.NewReader(b.body))
	if err != nil {
		a.err = err
		return a
	}
	now := time.Now()
	signature, err := w.conf.Secrets.sign(b.id, now, b.body)
	if err != nil {
		a.err = err
		return a
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", w.agent)
	req.Header.Set("webhook-id", b.id)
	req.Header.Set("webhook-timestamp", strconv.FormatInt(now.Unix(), 10))
	req.Header.Set("webhook-signature", signature)
	resp, err := w.client.Do(req)
	if err != nil {
		a.err = err
		return a
	}
	defer resp.Body.Close()
	// The answer's rest decides nothing; what is read lets the connection be
	// used again.
	said, _ := io.ReadAll(io.LimitReader(resp.Body, answerOctets))
	a.status = resp.StatusCode
	if !a.ok() {
		a.text = firstLine(said)
		a.after = retryAfter(resp.Header.Get("Retry-After"), now)
	}
	return a
}

// firstLine is the beginning of an answer, for the log.
func firstLine(said []byte) string {
	const most = 200
	text, _, _ := strings.Cut(strings.TrimSpace(string(said)), "\n")
	if len(text) > most {
		text = text[:most]
	}
	return smtp.Harmless(text)
}

// retryAfter reads the field: seconds or a date (RFC 9110 10.2.3), at most a
// day; 0 for anything else.
func retryAfter(field string, now time.Time) time.Duration {
	if n, err := strconv.ParseInt(field, 10, 32); err == nil {
		return min(max(time.Duration(n)*time.Second, 0), maxRetryAfter)
	}
	if t, err := http.ParseTime(field); err == nil {
		return min(max(t.Sub(now), 0), maxRetryAfter)
	}
	return 0
}
