package unsubscribe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"mailout/internal/mta"
)

// The bounds of the server.
const (
	requestTime = 20 * time.Second // for TLS, header and body of a request; and for its answer
	storeTime   = 30 * time.Second // for an unsubscription to be stored
	maxHeader   = 16 << 10         // octets
	maxBody     = 8 << 10          // octets
	maxStoring  = 64               // unsubscriptions at once
	retryAfter  = 60               // seconds, told to who is put off

	// DefaultConnections is how many connections are open at once.
	DefaultConnections = 256
)

// ServerOptions are what a Server is built of.
type ServerOptions struct {
	Address string // HOST:PORT
	// Certificate makes the listener speak TLS; nil: it does not, for a proxy
	// before it does.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	Connections int // at once; 0: DefaultConnections
	Logger      *slog.Logger
	Now         func() time.Time // nil: time.Now
}

// Server serves the links: whatever comes before the token in a path, so that a
// proxy may take a part of it away, and links of an older URL go on. GET gives a
// page with a button, POST what RFC 8058 3.2 says; both for everybody, and
// nothing else is served. It sets no cookies, and never redirects (RFC 8058 3.1).
type Server struct {
	opts    ServerOptions
	desk    *Desk
	http    *http.Server
	guesses *guesses
	storing chan struct{}
	on      net.Listener
	done    chan struct{}
}

// NewServer makes a server for a desk; nothing runs before Start.
func NewServer(desk *Desk, o ServerOptions) *Server {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Connections <= 0 {
		o.Connections = DefaultConnections
	}
	s := &Server{opts: o, desk: desk, guesses: newGuesses(o.Now), storing: make(chan struct{}, maxStoring), done: make(chan struct{})}
	s.http = &http.Server{
		Handler: s, ReadTimeout: requestTime, WriteTimeout: requestTime + storeTime, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	s.http.SetKeepAlivesEnabled(false) // whoever comes has one thing to say
	return s
}

// Start binds the address and serves.
func (s *Server) Start(context.Context) error {
	bound, err := net.Listen("tcp", s.opts.Address)
	if err != nil {
		return err
	}
	var l net.Listener = newCrowd(bound, s.opts.Connections)
	if s.opts.Certificate != nil {
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.opts.Certificate, NextProtos: []string{"http/1.1", "acme-tls/1"}}) // the latter: an authority's challenge (RFC 8737)
	}
	s.on = bound
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.opts.Logger.Error("links of unsubscription are not served any more", mta.KeyListener, bound.Addr().String(), mta.KeyError, err)
		}
	}()
	return nil
}

// Addr is the address that is served; nil before Start.
func (s *Server) Addr() net.Addr {
	if s.on == nil {
		return nil
	}
	return s.on.Addr()
}

// Stop closes the listener and lets requests finish until ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	if s.on == nil {
		return nil
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", contentPolicy)
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Robots-Tag", "noindex, nofollow")
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		h.Set("Allow", "GET, POST")
		answer(w, http.StatusMethodNotAllowed, pageWrong)
		return
	}
	l, err := s.desk.open(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
	switch {
	case err != nil:
		s.unknown(w, r)
	case r.Method == http.MethodGet:
		s.desk.counts.shown.Add(1)
		answer(w, http.StatusOK, pageAsk)
	default:
		s.leave(w, r, l)
	}
}

// unknown answers who has no link of ours, the same for every cause. A peer that
// tries many is put off; those who have a link never are.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	if !s.guesses.allow(peerOf(r)) {
		s.putOff(w, http.StatusTooManyRequests)
		return
	}
	s.desk.counts.unknown.Add(1)
	answer(w, http.StatusNotFound, pageUnknown)
}

func (s *Server) putOff(w http.ResponseWriter, status int) {
	s.desk.counts.limited.Add(1)
	w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	answer(w, status, pageLater)
}

// leave answers a POST: 200 when the unsubscription is on stable storage.
func (s *Server) leave(w http.ResponseWriter, r *http.Request, l leave) {
	if status := oneClick(w, r); status != http.StatusOK {
		s.desk.counts.malformed.Add(1)
		answer(w, status, pageWrong)
		return
	}
	select {
	case s.storing <- struct{}{}:
		defer func() { <-s.storing }()
	default:
		s.putOff(w, http.StatusServiceUnavailable)
		return
	}
	// Who hangs up has said it all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), storeTime)
	defer cancel()
	fresh, err := s.desk.leave(ctx, l)
	switch {
	case err != nil:
		s.desk.counts.trouble.Add(1)
		s.desk.trouble.Do(func() {
			s.opts.Logger.Error("an unsubscription cannot be stored; whoever sent it is asked to come again", mta.KeyID, l.message.String(), mta.KeyStream, l.stream, mta.KeyError, err)
		})
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
		answer(w, http.StatusServiceUnavailable, pageLater)
		return
	case fresh:
		s.desk.counts.left.Add(1)
	default:
		s.desk.counts.again.Add(1)
	}
	answer(w, http.StatusOK, pageDone)
}

// oneClick reads the body of a POST, and reports what is wrong with it as a
// status: it has to hold "List-Unsubscribe=One-Click" (RFC 8058 3.2), as either
// kind of form. Some send no Content-Type.
func oneClick(w http.ResponseWriter, r *http.Request) int {
	kind := "application/x-www-form-urlencoded"
	if given := r.Header.Get("Content-Type"); given != "" {
		var err error
		if kind, _, err = mime.ParseMediaType(given); err != nil {
			return http.StatusUnsupportedMediaType
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	var err error
	switch kind {
	case "application/x-www-form-urlencoded":
		r.Header.Set("Content-Type", kind)
		err = r.ParseForm()
	case "multipart/form-data":
		err = r.ParseMultipartForm(maxBody)
	default:
		return http.StatusUnsupportedMediaType
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge
	case err != nil && r.PostForm == nil:
		return http.StatusBadRequest
	case !strings.EqualFold(r.PostForm.Get("List-Unsubscribe"), "One-Click"):
		return http.StatusBadRequest
	}
	return http.StatusOK
}

// peerOf is the address of a peer; of IPv6 its network of 64 bits, which is one
// peer's as a rule.
func peerOf(r *http.Request) netip.Prefix { return networkOf(r.RemoteAddr) }

func networkOf(hostport string) netip.Prefix {
	a, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Prefix{}
	}
	ip, bits := a.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 32
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// answer writes a page.
func answer(w http.ResponseWriter, status int, page string) {
	w.Header().Set("Content-Length", strconv.Itoa(len(page)))
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, page) // the peer went away: nobody to tell
}
