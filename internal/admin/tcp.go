package admin

import (
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/smtp"
	"mailout/internal/submit/dropin"
)

// How long a peer may take, and what it may send, before its request is known.
const (
	headerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
	maxHeader  = 64 << 10 // octets, on TCP; the Unix socket takes 1 MB
)

// TCP is the listener for those who sign in.
type TCP struct {
	Address string        // HOST:PORT; empty: no port is opened
	Users   *account.Book // who may sign in
	// Certificate makes the listener speak TLS; nil: it does not.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Names are the host names by which a listener on loopback may be called,
	// besides localhost and addresses: see rebound.
	Names []string
	// Connections bounds those open at once; 0: 256.
	Connections int
	// Body bounds what one request may send, in octets; 0: 64 MiB.
	Body int64
}

func (t *TCP) server(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           t.bounded(handler),
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
	}
}

// listen binds the address for a server, which is told to follow its
// connections.
func (t *TCP) listen(server *http.Server) (net.Listener, error) {
	bound, err := net.Listen("tcp", t.Address)
	if err != nil {
		return nil, err
	}
	guests := newCrowd(bound, t.Connections)
	server.ConnState = guests.state
	var l net.Listener = guests
	if t.Certificate != nil {
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: t.Certificate, NextProtos: []string{"http/1.1", "acme-tls/1"}}) // the latter: an authority's challenge (RFC 8737)
	}
	return l, nil
}

// public serves who comes by TCP: nobody gets further than /healthz and /readyz
// without a token, so that a stranger learns nothing, not even which paths there
// are.
func (s *Server) public() http.Handler {
	browsers := http.NewCrossOriginProtection()
	browsers.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, &Problem{Status: http.StatusForbidden, Detail: "requests of pages from elsewhere are not taken"})
	}))
	return browsers.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		w = dropin.Dress(w, r)
		if p := s.opts.TCP.rebound(r); p != nil {
			writeProblem(w, p)
			return
		}
		if r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
			s.mux.ServeHTTP(w, r)
			return
		}
		user, err := s.signIn(r)
		if err != nil {
			s.refuse(w, r, err)
			return
		}
		s.mux.ServeHTTP(w, r.WithContext(account.WithUser(r.Context(), user)))
	}))
}

// rebound refuses what a page in a browser of this machine may have sent after
// its name was pointed to loopback: the name by which a listener on loopback is
// called must be one of its own.
func (t *TCP) rebound(r *http.Request) *Problem {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || !addressOf(local.String()).IsLoopback() {
		return nil
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if _, err := netip.ParseAddr(host); err == nil || host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") || slices.Contains(t.Names, host) {
		return nil
	}
	return &Problem{Status: http.StatusMisdirectedRequest, Field: "Host", Detail: smtp.Harmless(host) + " is not a name of this listener ([http] names)"}
}

// addressOf reads the address of HOST:PORT; the zero value when it is none.
func addressOf(hostport string) netip.Addr {
	a, err := netip.ParseAddrPort(hostport)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap()
}

// tokenHeader is where clients of Postmark send their token.
const tokenHeader = "X-Postmark-Server-Token"

// errNoToken says that a request had no token at all: it is no failed sign-in.
var errNoToken = errors.New("no token")

// signIn finds out whose request it is.
func (s *Server) signIn(r *http.Request) (*account.User, error) {
	book, peer := s.opts.TCP.Users, addressOf(r.RemoteAddr)
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	switch {
	case strings.EqualFold(scheme, "Bearer"):
		return book.SignInToken(r.Context(), peer, strings.TrimSpace(token))
	case strings.EqualFold(scheme, "Basic"):
		name, password, ok := r.BasicAuth()
		if !ok {
			return nil, errNoToken
		}
		return book.SignIn(r.Context(), peer, name, password)
	case scheme != "":
		return nil, errNoToken
	}
	if token := r.Header.Get(tokenHeader); token != "" {
		return book.SignInToken(r.Context(), peer, token)
	}
	return nil, errNoToken
}

// refuse answers who could not sign in, and tells the operator.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var wait *account.WaitError
	switch {
	case errors.As(err, &wait):
		writeProblem(w, &Problem{Status: http.StatusTooManyRequests, Detail: err.Error(), Retry: wait.After})
	case errors.Is(err, account.ErrDenied):
		s.opts.Logger.Warn("sign-in failed", mta.KeyListener, "http", mta.KeyPeer, r.RemoteAddr)
		writeProblem(w, &Problem{Status: http.StatusUnauthorized, Detail: "the token is wrong", Challenge: rest.Challenge})
	case errors.Is(err, errNoToken):
		writeProblem(w, &Problem{Status: http.StatusUnauthorized, Detail: "sign in with `Authorization: Bearer TOKEN`", Challenge: rest.Challenge})
	default:
		writeProblem(w, &Problem{Status: http.StatusServiceUnavailable, Detail: err.Error()})
	}
}
