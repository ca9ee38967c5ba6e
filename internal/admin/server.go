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

	"mailout/internal/mta"
	"mailout/internal/queue"
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

// Options are the parts the server stands on. All are required, but for Doctor,
// Control and Explain.
type Options struct {
	Socket string // path of the Unix socket
	Store  spool.Store
	Queue  Queue
	Intake submit.Acceptor
	Reload func(ctx context.Context) (*Reload, error)
	// Doctor answers /v1/doctor and tells metrics; nil: it is not part of the API.
	Doctor Doctor
	// Control carries out commands for queued mail; nil: it is not part of the API.
	Control Controller
	// Explain answers GET /v1/explain; nil: it is not part of the API.
	Explain Explainer
	Logger  *slog.Logger
}

// Server serves the control API on a Unix socket.
type Server struct {
	opts   Options
	http   *http.Server
	listen net.Listener
	done   chan struct{}
}

// New makes a server; nothing runs before Start.
func New(opts Options) *Server {
	s := &Server{opts: opts, done: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s.routes(),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    1 << 20,
		ConnContext:       withPeer,
	}
	return s
}

// Start binds the socket, readable and writable by owner and group, and
// serves. A socket left by a process that died is replaced; see clearPath.
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
	s.listen = l
	go func() {
		defer close(s.done)
		if err := s.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.opts.Logger.Error("control socket failed", mta.KeyPath, s.opts.Socket, mta.KeyError, err)
		}
	}()
	return nil
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

// Stop lets requests under way finish until ctx ends, then closes the socket.
func (s *Server) Stop(ctx context.Context) error {
	if s.listen == nil {
		return nil
	}
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /v1/queues", s.summary)
	mux.HandleFunc("GET /v1/deliveries", s.deliveries)
	mux.HandleFunc("GET /v1/messages/{id}", s.message)
	mux.HandleFunc("POST /v1/messages", s.submit)
	mux.HandleFunc("POST /v1/handover", s.handover)
	mux.HandleFunc("GET /v1/trace", s.trace)
	mux.HandleFunc("POST /v1/config/reload", s.reload)
	mux.Handle("GET /metrics", s.metrics())
	if s.opts.Control != nil {
		s.controlRoutes(mux)
	}
	if s.opts.Doctor != nil {
		mux.HandleFunc("GET /v1/doctor", s.lastDoctor)
		mux.HandleFunc("POST /v1/doctor", s.doctorNow)
	}
	if s.opts.Explain != nil {
		mux.HandleFunc("GET /v1/explain", s.explain)
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		writeProblem(w, &Problem{Status: http.StatusNotFound, Detail: r.Method + " " + r.URL.Path + " is not part of this API"})
	})
	return mux
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	result, err := s.opts.Reload(r.Context())
	if err != nil {
		writeProblem(w, reloadProblem(err))
		return
	}
	writeJSON(w, http.StatusOK, result)
}
