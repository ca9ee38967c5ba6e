package lookup

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// The bounds of a service.
const (
	MaxAnswers   = 100_000  // kept
	MaxQuestions = 16 << 20 // octets of the questions whose answers are kept
	MaxAnswer    = 64 << 10 // octets of one answer
	AskTime      = 5 * time.Second
	// StaleTime is how long an answer is good beyond its time, while the service
	// gives no new one.
	StaleTime = 24 * time.Hour
	// DefaultTTL is how long an answer is good that does not say; LeastTTL and
	// MostTTL bound those that do.
	DefaultTTL = 5 * time.Minute
	LeastTTL   = time.Second
	MostTTL    = 24 * time.Hour

	connections = 16               // at once
	firstPause  = time.Second      // after a failure nothing is asked; the pause doubles
	lastPause   = 30 * time.Second // up to this
	staleFor    = 30 * time.Second // how soon a stale answer is to be asked for again
)

// HTTPOptions say what a service is.
type HTTPOptions[T any] struct {
	URL string // http or https
	// Token gives what stands in the Authorization field behind Bearer; nil: no
	// such field is sent. It is called for each request.
	Token func() (string, error)
	Roots *x509.CertPool // that verify the service; nil: the system's
	// Answer reads the body of an answer with status 200. ttl 0 is DefaultTTL.
	Answer func(body []byte) (value T, ttl time.Duration, err error)
	// Now is the clock; nil: time.Now. Transport is for tests; nil: a real one.
	Now       func() time.Time
	Transport http.RoundTripper
}

// HTTP asks a service: a POST of the question, which is JSON. 200 answers, 204
// and 404 say that there is nothing; all else is trouble of the service. A
// question is asked once at a time, whoever waits for its answer. It is safe for
// concurrent use.
type HTTP[T any] struct {
	options HTTPOptions[T]
	client  *http.Client
	now     func() time.Time

	mu struct {
		sync.Mutex
		kept      map[string]Answer[T]
		questions int // octets in kept's keys
		asking    map[string]*flight[T]
		err       error     // of the last request
		until     time.Time // nothing is asked before
		pause     time.Duration
	}
}

// Answer is what a service said.
type Answer[T any] struct {
	Value T
	Found bool
	Until time.Time // it is good until then
	Stale bool      // it was good once; the service gives no new one
}

// flight is a question that is being asked.
type flight[T any] struct {
	done   chan struct{}
	answer Answer[T]
	err    error
}

// NewHTTP makes a service's table.
func NewHTTP[T any](o HTTPOptions[T]) *HTTP[T] {
	h := &HTTP[T]{options: o, now: o.Now}
	if h.now == nil {
		h.now = time.Now
	}
	transport := o.Transport
	if transport == nil {
		transport = &http.Transport{
			DialContext:     (&net.Dialer{Timeout: AskTime}).DialContext,
			TLSClientConfig: &tls.Config{RootCAs: o.Roots, MinVersion: tls.VersionTLS12},
			MaxConnsPerHost: connections, MaxIdleConnsPerHost: connections, IdleConnTimeout: 30 * time.Second,
			ForceAttemptHTTP2: true,
		}
	}
	h.client = &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	h.mu.kept, h.mu.asking = map[string]Answer[T]{}, map[string]*flight[T]{}
	return h
}

// Close ends the connections that are kept open. The table may still be asked.
func (h *HTTP[T]) Close() { h.client.CloseIdleConnections() }

// Err is the trouble that the service was in when it was asked last; nil when
// it answered.
func (h *HTTP[T]) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.err
}

// Ask gives the answer to a question. The error is trouble of the service's, or
// of ctx, and no answer is known. It takes AskTime at most.
func (h *HTTP[T]) Ask(ctx context.Context, question string) (Answer[T], error) {
	h.mu.Lock()
	now := h.now()
	kept, known := h.mu.kept[question]
	if known && now.Before(kept.Until) {
		h.mu.Unlock()
		return kept, nil
	}
	if f := h.mu.asking[question]; f != nil {
		h.mu.Unlock()
		select {
		case <-f.done:
			return f.answer, f.err
		case <-ctx.Done():
			return Answer[T]{}, context.Cause(ctx)
		}
	}
	if h.mu.err != nil && now.Before(h.mu.until) {
		defer h.mu.Unlock()
		return h.stale(kept, known, now, h.mu.err)
	}
	f := &flight[T]{done: make(chan struct{}), err: errors.New("the question was not asked to its end")}
	h.mu.asking[question] = f
	h.mu.Unlock()
	defer h.land(question, f) // also when Answer panics
	answer, err := h.ask(ctx, question)
	f.answer, f.err = h.learn(ctx, question, answer, err)
	return f.answer, f.err
}

func (h *HTTP[T]) land(question string, f *flight[T]) {
	h.mu.Lock()
	delete(h.mu.asking, question)
	h.mu.Unlock()
	close(f.done)
}

// learn keeps what came of a request.
func (h *HTTP[T]) learn(ctx context.Context, question string, answer Answer[T], err error) (Answer[T], error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if err == nil {
		h.mu.err, h.mu.pause = nil, 0
		h.keep(question, answer)
		return answer, nil
	}
	if ctx.Err() == nil { // else it is not the service's fault
		h.mu.err = err
		h.mu.pause = min(max(2*h.mu.pause, firstPause), lastPause)
		h.mu.until = now.Add(h.mu.pause)
	}
	kept, known := h.mu.kept[question]
	return h.stale(kept, known, now, err)
}

// stale gives an old answer in need.
func (h *HTTP[T]) stale(kept Answer[T], known bool, now time.Time, err error) (Answer[T], error) {
	if !known || now.Sub(kept.Until) > StaleTime {
		return Answer[T]{}, err
	}
	kept.Stale, kept.Until = true, now.Add(staleFor)
	return kept, nil
}

// keep remembers an answer. In want of room some others are forgotten, whichever
// come: an answer that is needed is asked for again.
func (h *HTTP[T]) keep(question string, a Answer[T]) {
	if _, known := h.mu.kept[question]; !known {
		for old := range h.mu.kept {
			full := len(h.mu.kept) >= MaxAnswers || h.mu.questions+len(question) > MaxQuestions
			if !full {
				break
			}
			delete(h.mu.kept, old)
			h.mu.questions -= len(old)
		}
		h.mu.questions += len(question)
	}
	h.mu.kept[question] = a
}

// ask makes the request.
func (h *HTTP[T]) ask(ctx context.Context, question string) (a Answer[T], err error) {
	ctx, cancel := context.WithTimeout(ctx, AskTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.options.URL, bytes.NewReader([]byte(question)))
	if err != nil {
		return a, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "mailout")
	if h.options.Token != nil {
		token, err := h.options.Token()
		if err != nil {
			return a, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return a, plain(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, MaxAnswer+1))
	switch {
	case err != nil:
		return a, plain(err)
	case len(body) > MaxAnswer:
		return a, fmt.Errorf("the answer is longer than %d octets", MaxAnswer)
	}
	return h.read(resp.StatusCode, body)
}

func (h *HTTP[T]) read(status int, body []byte) (a Answer[T], err error) {
	ttl := time.Duration(0)
	switch status {
	case http.StatusOK:
		if a.Value, ttl, err = h.options.Answer(body); err != nil {
			return Answer[T]{}, fmt.Errorf("the answer cannot be understood: %w", err)
		}
		a.Found = true
	case http.StatusNoContent, http.StatusNotFound:
	default:
		return a, fmt.Errorf("it answers with status %d", status)
	}
	if ttl == 0 {
		ttl = DefaultTTL
	}
	a.Until = h.now().Add(min(max(ttl, LeastTTL), MostTTL))
	return a, nil
}

// plain takes method and URL off an error of net/http: whoever tells it names
// the table, and a URL may have a secret in it.
func plain(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
