// Package oauth gets OAuth 2.0 access tokens for the routers that want them
// instead of a password (RFC 6749): by a refresh token, or by the rights of the
// application itself (client credentials). A token is kept until shortly before
// its end; many who ask at once share one request; and a token server that
// refuses or is away is not asked again at once.
//
// It must not judge mail, know SMTP or read files: the daemon makes a Source of
// what the configuration says, and its Token is what mta.Credentials carry. No
// error of it quotes a secret.
//
// A Source starts a goroutine for each request, one at a time; Close waits for it.
package oauth

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// The times of a token.
const (
	requestTime = 30 * time.Second // one request, from the look-up to the last octet
	// early is how long before its end a token is renewed: longer than any
	// exchange that it was handed out for.
	early = time.Minute
	// unsaid is how long a token is used whose server does not say how long.
	unsaid = time.Hour
	// least is how long a token is used whatever its server says of it.
	least = 5 * time.Second
	// failureTime is how long a failure is the answer to all who ask.
	failureTime = 10 * time.Second
	// renewTime is the least age of a token that is renewed for being refused:
	// sessions that were refused together ask for one new token.
	renewTime = 5 * time.Second
)

// maxText bounds what a token server says about a refusal, in octets.
const maxText = 300

// Options say where tokens come from. They are not changed: other options are
// another Source.
type Options struct {
	TokenURL string
	ClientID string
	Secret   string // empty: a public client
	Scopes   []string
	// RefreshToken is the grant; empty: the application's own rights.
	RefreshToken string
	// InBody sends ID and secret in the body, as Microsoft and Google ask for;
	// else both ways are tried, the header first (RFC 6749 section 2.3.1).
	InBody bool
	Client *http.Client // of NewClient; required
	// Keep, when set, makes a refresh token durable that replaces the one before.
	// What it cannot keep is kept in memory, and tried again with the next token.
	Keep   func(ctx context.Context, refreshToken string) error
	Logger *slog.Logger // may be nil
	Now    func() time.Time
}

// Error says why there is no token.
type Error struct {
	// Refused says that the server answered and will not give one: the grant or
	// the client is not good (any more). Else it may be better later.
	Refused bool
	Code    string // of RFC 6749 section 5.2: "invalid_grant"; may be empty
	Text    string // for people, without secrets
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// errClosed is what a closed source says: it is nobody's trouble.
var errClosed = fmt.Errorf("the credentials are not used any more: %w", context.Canceled)

// Source gives tokens. It is safe for concurrent use.
type Source struct {
	opt  Options
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu struct {
		sync.Mutex
		token   string
		got     time.Time
		until   time.Time // of its use
		err     error     // of the last request
		failed  time.Time
		flight  *flight // the request under way; nil: none
		refresh string  // the token in use
		unkept  bool    // Keep has not taken it yet
		closed  bool
	}
}

// flight is one request. token and err are set before done is closed.
type flight struct {
	done  chan struct{}
	token string
	err   error
}

// New makes a source; nothing is asked before the first Token.
func New(o Options) *Source {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Source{opt: o}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.mu.refresh = o.RefreshToken
	return s
}

// NewClient makes the client of a Source: it takes the proxies of the
// environment, follows no redirection (secrets go to the configured server
// alone), and trusts roots, nil meaning the system's.
func NewClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout:       requestTime,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: requestTime / 2}).DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    requestTime / 2,
			ResponseHeaderTimeout:  requestTime,
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true, // a request an hour
			ForceAttemptHTTP2:      true,
		},
	}
}

// Token gives an access token, waiting for one as long as ctx lasts. refused says
// that the last one was not taken; it is renewed then, unless it was just got.
// Errors are *Error, or
// ctx's, or one that is context.Canceled after Close.
func (s *Source) Token(ctx context.Context, refused bool) (string, error) {
	f := s.now(refused)
	select {
	case <-f.done:
		return f.token, f.err
	default:
	}
	select {
	case <-f.done:
		return f.token, f.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// now gives what there is, or the request to wait for.
func (s *Source) now(refused bool) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.opt.Now()
	if refused && now.Sub(s.mu.got) >= renewTime {
		s.mu.token = ""
	}
	switch {
	case s.mu.token != "" && now.Before(s.mu.until):
		return landed(s.mu.token, nil)
	case s.mu.flight != nil:
		return s.mu.flight
	case s.mu.err != nil && now.Sub(s.mu.failed) < failureTime:
		return landed("", s.mu.err)
	case s.mu.closed:
		return landed("", errClosed)
	}
	f := &flight{done: make(chan struct{})}
	s.mu.flight = f
	refresh := s.mu.refresh
	s.wg.Go(func() { s.fetch(f, refresh) })
	return f
}

// landed is a request whose answer is known.
func landed(token string, err error) *flight {
	f := &flight{done: make(chan struct{}), token: token, err: err}
	close(f.done)
	return f
}

// fetch makes one request and ends the flight. It does not end with those who
// wait: a refresh token that was replaced meanwhile would be lost.
func (s *Source) fetch(f *flight, refresh string) {
	ctx, cancel := context.WithTimeout(s.ctx, requestTime)
	defer cancel()
	token, err := s.request(ctx, refresh)
	s.mu.Lock()
	now := s.opt.Now()
	if s.mu.err, f.err = err, err; err != nil {
		s.mu.failed = now
	} else {
		f.token = token.AccessToken
		s.mu.token, s.mu.got, s.mu.until = token.AccessToken, now, now.Add(life(token))
		if token.RefreshToken != "" && token.RefreshToken != s.mu.refresh && refresh != "" {
			s.mu.refresh, s.mu.unkept = token.RefreshToken, true
		}
	}
	keep := ""
	if s.mu.unkept {
		keep = s.mu.refresh
	}
	s.mu.Unlock()
	kept := keep != "" && s.keep(keep)
	s.mu.Lock()
	if kept {
		s.mu.unkept = false
	}
	s.mu.flight = nil
	s.mu.Unlock()
	close(f.done)
}

// life is how long a token is used.
func life(t *oauth2.Token) time.Duration {
	if t.Expiry.IsZero() {
		return unsaid
	}
	left := time.Until(t.Expiry) // which the library made with this machine's clock
	return max(left-min(early, left/2), least)
}

// keep makes a new refresh token durable, also when the daemon is stopping.
func (s *Source) keep(token string) bool {
	if s.opt.Keep == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), requestTime)
	defer cancel()
	if err := s.opt.Keep(ctx, token); err != nil {
		s.opt.Logger.Warn("a new refresh token could not be kept: it is lost with the next stop unless that mends", mta.KeyHost, s.host(), mta.KeyError, err)
		return false
	}
	return true
}

// request asks the token server.
func (s *Source) request(ctx context.Context, refresh string) (*oauth2.Token, error) {
	conf := clientcredentials.Config{
		ClientID: s.opt.ClientID, ClientSecret: s.opt.Secret, TokenURL: s.opt.TokenURL, Scopes: s.opt.Scopes,
	}
	if s.opt.InBody || s.opt.Secret == "" {
		conf.AuthStyle = oauth2.AuthStyleInParams
	}
	if refresh != "" { // RFC 6749 section 6
		conf.EndpointParams = url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}}
	}
	token, err := conf.Token(context.WithValue(ctx, oauth2.HTTPClient, s.opt.Client))
	switch {
	case err != nil:
		return nil, s.failure(err, refresh)
	case token.AccessToken == "":
		return nil, &Error{Text: "the token server " + s.host() + " gave an empty token"}
	case !strings.EqualFold(token.Type(), "Bearer"):
		return nil, &Error{Text: "the token server " + s.host() + " gave a token of another type than Bearer"}
	}
	return token, nil
}

// failure says for people why there is no token.
func (s *Source) failure(err error, refresh string) error {
	before := "the token server " + s.host() + " "
	var refusal *oauth2.RetrieveError
	if !errors.As(err, &refusal) {
		if s.ctx.Err() != nil {
			return errClosed
		}
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err
		}
		return &Error{Text: before + "cannot be asked: " + s.clean(err.Error(), refresh)}
	}
	e := &Error{Code: s.clean(refusal.ErrorCode, refresh)}
	status := ""
	if refusal.Response != nil {
		status = refusal.Response.Status
		e.Refused = refusal.Response.StatusCode/100 == 4 && refusal.Response.StatusCode != http.StatusTooManyRequests
	}
	if e.Code == "" {
		e.Text = before + "answered " + s.clean(status, refresh)
		return e
	}
	if e.Code == "temporarily_unavailable" || e.Code == "server_error" {
		e.Refused = false
	}
	e.Text = before + "says " + e.Code
	if said := s.clean(refusal.ErrorDescription, refresh); said != "" {
		e.Text += ": " + said
	}
	return e
}

// clean bounds a text of the server and takes out what we sent.
func (s *Source) clean(text, refresh string) string {
	for _, secret := range []string{s.opt.Secret, refresh, s.opt.RefreshToken, url.QueryEscape(s.opt.Secret), url.QueryEscape(refresh)} {
		if secret != "" {
			text = strings.ReplaceAll(text, secret, "(hidden)")
		}
	}
	text = strings.Join(strings.Fields(text), " ")
	return smtp.Harmless(text[:min(len(text), maxText)])
}

// host names the server.
func (s *Source) host() string {
	if u, err := url.Parse(s.opt.TokenURL); err == nil {
		return u.Host
	}
	return "configured"
}

// Close ends a request under way and waits for it. No token is got afterwards;
// one that is good is still given.
func (s *Source) Close() {
	s.mu.Lock()
	s.mu.closed = true
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
}
