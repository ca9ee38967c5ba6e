package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/doctor"
	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/rest"
	"mailout/internal/spool"
	"mailout/internal/submit"
)

// Queue is what the API asks the scheduler.
type Queue interface {
	WhyAll(ctx context.Context, list []*mta.Delivery) ([]queue.Explanation, error)
	Summary(ctx context.Context) (queue.Summary, error)
}

// Reload is the outcome of applying a changed configuration file.
type Reload struct {
	Applied      []string `json:"applied"`       // keys now in force
	NeedsRestart []string `json:"needs_restart"` // keys that changed but wait for a restart
}

// Options are the parts the server stands on. All are required, but for
// Address, Doctor, Control, Explain, Records, Ready and Routes.
type Options struct {
	Socket string // path of the Unix socket
	TCP    TCP    // the listener for others; without an address there is none
	Store  spool.Store
	// History answers what became of mail; the store again.
	History journal.History
	Queue   Queue
	Intake  submit.Acceptor
	Reload  func(ctx context.Context) (*Reload, error)
	// Doctor answers /v1/doctor and tells metrics; nil: it is not part of the API.
	Doctor Doctor
	// Checks are findings that other parts have for /v1/doctor; nil: none.
	Checks func() []doctor.Check
	// Standing answers /v1/standing and tells metrics; nil: it is not part of the API.
	Standing Standing
	// Signing answers /v1/dkim and tells metrics; nil: it is not part of the API.
	Signing Signing
	// Control carries out commands for queued mail; nil: it is not part of the API.
	Control Controller
	// Explain answers GET /v1/explain; nil: it is not part of the API.
	Explain Explainer
	// Records answers GET /v1/records; nil: it is not part of the API.
	Records Recorder
	// Events tells metrics of the receivers of events; nil: it does not.
	Events Receivers
	// Meters are the other parts that tell metrics.
	Meters Meters
	// Feed answers GET /v1/events; nil: it is not part of the API.
	Feed spool.Feed
	// Ready says why no mail can be taken or delivered now; nil: it always can.
	Ready func(ctx context.Context) error
	// Routes register what other parts serve.
	Routes  []func(huma.API)
	Version string
	Logger  *slog.Logger
}

// Server serves the control API on a Unix socket, and on TCP.
type Server struct {
	opts    Options
	mux     *http.ServeMux
	api     huma.API
	socket  *listener
	tcp     *listener // nil: none
	streams places    // of event streams
	reading places    // of listings on TCP
	health  health
	asking  chan struct{} // held by the request that asks DNS for records
}

// New makes a server; nothing runs before Start.
func New(opts Options) *Server {
	s := &Server{opts: opts, mux: http.NewServeMux(), asking: make(chan struct{}, 1), streams: places{most: maxStreams, each: maxUserStreams}, reading: places{most: maxListings, each: maxUserListings}}
	s.api = rest.New(s.mux, opts.Version)
	s.api.UseMiddleware(s.bounded)
	s.register(s.api)
	s.socket = newListener(&http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: headerTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    1 << 20,
		ConnContext:       withPeer,
	}, opts.Logger)
	if opts.TCP.Address != "" {
		s.tcp = newListener(s.opts.TCP.server(s.public()), opts.Logger)
	}
	return s
}

// Start binds the socket, readable and writable by owner and group, and the
// TCP address, and serves. A socket left by a process that died is replaced;
// see clearPath.
func (s *Server) Start(context.Context) error {
	if err := clearPath(s.opts.Socket); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	l, err := net.Listen("unix", s.opts.Socket)
	if err != nil {
		return fmt.Errorf("control socket %s: %w", s.opts.Socket, err)
	}
	if err := os.Chmod(s.opts.Socket, 0o660); err != nil {
		l.Close()
		return fmt.Errorf("control socket: %w", err)
	}
	s.socket.serve(l)
	if s.tcp == nil {
		return nil
	}
	if l, err = s.opts.TCP.listen(s.tcp.http); err != nil {
		return fmt.Errorf("[http] address %s: %w", s.opts.TCP.Address, err)
	}
	s.tcp.serve(l)
	s.opts.Logger.Info("listening", mta.KeyListener, "http "+l.Addr().String())
	return nil
}

// Addr is the address that TCP is served on; nil when it is not.
func (s *Server) Addr() net.Addr {
	if s.tcp == nil || s.tcp.on == nil {
		return nil
	}
	return s.tcp.on.Addr()
}

// StopTCP closes the TCP listener and lets its requests finish until ctx ends.
// Long answers are told to end (rest.Stopping).
func (s *Server) StopTCP(ctx context.Context) error {
	if s.tcp == nil {
		return nil
	}
	return s.tcp.stop(ctx)
}

// Stop does the same for both listeners.
func (s *Server) Stop(ctx context.Context) error {
	return errors.Join(s.StopTCP(ctx), s.socket.stop(ctx))
}

// listener is an HTTP server on one listener; it owns the goroutine that
// serves.
type listener struct {
	http *http.Server
	log  *slog.Logger
	on   net.Listener
	done chan struct{}
}

func newListener(server *http.Server, log *slog.Logger) *listener {
	stopping, stop := context.WithCancel(context.Background())
	server.BaseContext = func(net.Listener) context.Context { return rest.WithStopping(context.Background(), stopping.Done()) }
	server.RegisterOnShutdown(stop)
	server.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	return &listener{http: server, log: log, done: make(chan struct{})}
}

func (l *listener) serve(on net.Listener) {
	l.on = on
	go func() {
		defer close(l.done)
		if err := l.http.Serve(on); !errors.Is(err, http.ErrServerClosed) {
			l.log.Error("the control API failed", mta.KeyListener, on.Addr().String(), mta.KeyError, err)
		}
	}()
}

func (l *listener) stop(ctx context.Context) error {
	if l.on == nil {
		return nil
	}
	err := l.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, l.http.Close())
	}
	<-l.done
	return err
}

// clearPath removes a socket that nobody serves any more. Whatever else stands
// at the path stays: a file may be precious, and a socket that is served is a
// living process's. That is no daemon of this spool, whose lock the caller
// holds, but may be one of another spool with the same http.socket.
func clearPath(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there already and is no socket: choose another http.socket, or move it away", path)
	}
	const dialLimit = time.Second
	conn, err := net.DialTimeout("unix", path, dialLimit)
	if err == nil {
		conn.Close()
	}
	// Only a refused connection says that the listener is gone; a full backlog
	// or a lack of permission does not.
	switch {
	case err == nil:
		return fmt.Errorf("another process serves %s: choose another http.socket, or stop that process", path)
	case !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("whether another process serves %s cannot be told (%w): remove it if none does", path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
