package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client talks to one daemon. Its fields may be changed before the first call.
type Client struct {
	// HTTP carries the requests. The one that New makes has no time-out of its
	// own: contexts bound the calls.
	HTTP *http.Client
	// Tries is how often a call is tried in all, at least 1.
	Tries int
	// Wait is the time before the second try; it doubles for each further one,
	// up to a minute, and is spread by half.
	Wait time.Duration
	// MaxWait is the longest Retry-After that is waited for; a longer one ends
	// the call, with an *Error that has it.
	MaxWait time.Duration
	// UserAgent is sent with every request.
	UserAgent string

	base  *url.URL
	token string
}

// The settings of a Client that New makes.
const (
	DefaultTries   = 6
	DefaultWait    = 500 * time.Millisecond
	DefaultMaxWait = 2 * time.Minute
	longestWait    = time.Minute
)

// New makes a client for a daemon at a base URL, "https://host:8025", or on
// this machine at "unix:/run/mailout.sock", which needs no token.
func New(base, token string) (*Client, error) {
	c := &Client{Tries: DefaultTries, Wait: DefaultWait, MaxWait: DefaultMaxWait, UserAgent: "mailout-client", token: token}
	if path, ok := strings.CutPrefix(base, "unix:"); ok {
		path = strings.TrimPrefix(path, "//")
		if path == "" {
			return nil, errors.New("mailout: unix: needs the path of a socket")
		}
		c.base = &url.URL{Scheme: "http", Host: "localhost"}
		c.HTTP = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}, CheckRedirect: stay}
		return c, nil
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("mailout: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return nil, fmt.Errorf("mailout: %q is not https://HOST:PORT or unix:PATH", base)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	c.base = u
	c.HTTP = &http.Client{CheckRedirect: stay}
	return c, nil
}

// stay follows no redirection: the daemon sends none, and the token is for it
// alone.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// Error is an answer of the daemon that is no success (RFC 9457).
type Error struct {
	Status int    `json:"status"` // HTTP status
	Title  string `json:"title"`
	Detail string `json:"detail"` // a sentence: what is wrong
	Field  string `json:"field"`  // the part at fault: "to[2]", "attachments[0].name"; may be empty
	Reply  string `json:"reply"`  // the SMTP reply that says the same; may be empty
	// RetryAfter is when the daemon wants to be asked again; zero: it does not
	// say.
	RetryAfter time.Duration `json:"-"`
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Detail
	if text == "" {
		text = e.Title
	}
	if e.Field != "" {
		text = e.Field + ": " + text
	}
	return fmt.Sprintf("mailout: %d: %s", e.Status, text)
}

// Temporary reports whether the same call may succeed later.
func (e *Error) Temporary() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout, http.StatusInsufficientStorage:
		return true
	case http.StatusConflict: // another call with the same key is under way
		return e.RetryAfter > 0
	}
	return false
}

// Send hands a message over. With a receipt it is on stable storage. An *Error
// that is not Temporary says what is wrong with the message; after any other
// error it is unknown whether the message was taken, and Send with the same Key
// finds out without sending it twice.
func (c *Client) Send(ctx context.Context, m *Message) (*Receipt, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("mailout: %w", err)
	}
	var receipt Receipt
	if err := c.post(ctx, "/v1/messages", m.Key, body, &receipt); err != nil {
		return nil, err
	}
	return &receipt, nil
}

// post sends a body under an idempotency key and reads the answer.
func (c *Client) post(ctx context.Context, path, key string, body []byte, answer any) error {
	key = orNew(key)
	return c.try(ctx, func() error { return c.postOnce(ctx, path, key, body, answer) })
}

func orNew(key string) string {
	if key == "" {
		return rand.Text()
	}
	return key
}

func (c *Client) postOnce(ctx context.Context, path, key string, body []byte, answer any) error {
	req, err := c.request(ctx, http.MethodPost, path, nil, body)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(answer); err != nil {
		return &brokenError{err}
	}
	return nil
}

// The bounds of what is read of an answer, in octets.
const (
	maxAnswer  = 64 << 20
	maxProblem = 1 << 20
)

func (c *Client) request(ctx context.Context, method, path string, query url.Values, body []byte) (*http.Request, error) {
	u := *c.base
	u.Path += path
	u.RawQuery = query.Encode()
	var content io.Reader
	if body != nil {
		content = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), content)
	if err != nil {
		return nil, fmt.Errorf("mailout: %w", err)
	}
	req.Header.Set("User-Agent", c.UserAgent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	return req, nil
}

// brokenError is a connection that failed before the answer was whole.
type brokenError struct{ err error }

func (e *brokenError) Error() string { return "mailout: " + e.err.Error() }
func (e *brokenError) Unwrap() error { return e.err }

// do gives a good answer, whose body the caller closes, or an *Error or a
// *brokenError.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, &brokenError{err}
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	e := &Error{}
	if json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(e) != nil {
		*e = Error{}
	}
	e.Status = resp.StatusCode
	if e.Title == "" {
		e.Title = http.StatusText(resp.StatusCode)
	}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"))
	return nil, e
}

// retryAfter reads seconds or a date (RFC 9110 10.2.3).
func retryAfter(value string) time.Duration {
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(time.Until(at), 0)
	}
	return 0
}

// try calls f until it succeeds, or fails for good, or often enough.
func (c *Client) try(ctx context.Context, f func() error) error {
	for n := 1; ; n++ {
		err := f()
		wait, again := c.again(err, n)
		if !again || ctx.Err() != nil {
			return err
		}
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
	}
}

// again tells whether to try after the n-th failure, and when.
func (c *Client) again(err error, n int) (time.Duration, bool) {
	if err == nil || n >= c.Tries {
		return 0, false
	}
	wait := min(max(c.Wait, 0), longestWait)
	for range n - 1 {
		wait = min(2*wait, longestWait)
	}
	wait += time.Duration(mathrand.Int64N(int64(wait)/2 + 1))
	var answer *Error
	var broken *brokenError
	switch {
	case errors.As(err, &answer):
		if !answer.Temporary() || answer.RetryAfter > c.MaxWait {
			return 0, false
		}
		return max(wait, answer.RetryAfter), true
	case errors.As(err, &broken):
		return wait, true
	}
	return 0, false
}
