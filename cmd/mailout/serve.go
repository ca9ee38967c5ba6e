package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// serveCmd runs the daemon: ready when a line with msg=ready is on stderr,
// drained and ended with status 0 on SIGTERM or SIGINT, re-read on SIGHUP.
type serveCmd struct {
	Debug bool `help:"Log every step of every attempt."`
}

// Run blocks until the daemon has ended.
func (c *serveCmd) Run(g *globals) error {
	cfg, err := config.Load(g.Config)
	if err != nil {
		return &exitError{Status: exitConfig, Err: err}
	}
	level := slog.LevelInfo
	if c.Debug {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(g.Stderr, &slog.HandlerOptions{Level: level}))
	slog.SetDefault(log) // libraries that log without being asked

	if os.Geteuid() == 0 {
		log.Warn("running as root; safer is a user of its own, with CAP_NET_BIND_SERVICE for ports below 1024")
	}

	// Whoever reads our log may end, or be restarted: that loses lines, and must
	// not kill the daemon in the middle of deliveries.
	signal.Ignore(syscall.SIGPIPE)
	var sig signals
	defer sig.listen()()

	d := daemon.New(daemon.Options{ConfigPath: g.Config, Config: cfg, Logger: log, Version: version})
	if err := d.Start(context.Background()); err != nil {
		return startError(err)
	}
	log.Info("ready", "version", version, "hostname", cfg.Hostname)
	notifySystemd("READY=1", log)
	return c.run(d, &sig, log)
}

// signals are what the daemon listens to. Those that end it have a channel of
// their own: a burst of SIGHUP while a reload is slow must not displace them.
type signals struct{ end, reload chan os.Signal }

// listen begins; the function it gives ends it.
func (s *signals) listen() func() {
	s.end = make(chan os.Signal, 2)
	s.reload = make(chan os.Signal, 1) // one reload reads all changes
	signal.Notify(s.end, syscall.SIGTERM, syscall.SIGINT)
	signal.Notify(s.reload, syscall.SIGHUP)
	return func() {
		signal.Stop(s.end)
		signal.Stop(s.reload)
	}
}

// run serves until a signal ends it.
func (c *serveCmd) run(d *daemon.Daemon, sig *signals, log *slog.Logger) error {
	for {
		select {
		case <-sig.reload:
			reload(d, log)
		case s := <-sig.end:
			log.Info("stopping", "signal", s.String())
			return stop(d, sig, log)
		case err := <-d.Failed():
			log.Error("stopping: a part failed", mta.KeyError, err)
			return errors.Join(&exitError{Status: exitTemporary, Err: err}, stop(d, sig, log))
		}
	}
}

// stop drains within the limit; a second signal ends the wait at once.
func stop(d *daemon.Daemon, sig *signals, log *slog.Logger) error {
	notifySystemd("STOPPING=1", log)
	ctx, cancel := context.WithTimeout(context.Background(), d.StopLimit())
	defer cancel()
	go func() {
		select {
		case <-sig.end:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := d.Stop(ctx); err != nil {
		return &exitError{Status: exitSoftware, Err: fmt.Errorf("mailout: stopping: %w", err)}
	}
	log.Info("stopped")
	return nil
}

func reload(d *daemon.Daemon, log *slog.Logger) {
	notifySystemd("RELOADING=1", log)
	if _, err := d.Reload(context.Background()); err != nil {
		log.Error("the configuration was not reloaded; the old one stays in force", mta.KeyError, err)
	}
	notifySystemd("READY=1", log)
}

// startError gives the exit status of a daemon that could not start: 75 when
// another instance holds the spool, 78 when the configuration is to blame.
func startError(err error) error {
	switch {
	case errors.Is(err, spool.ErrLocked):
		return fail(exitTemporary, "%v", err)
	case errors.Is(err, daemon.ErrConfig):
		return fail(exitConfig, "%v", err)
	}
	return fail(exitUnavailable, "cannot start: %v", err)
}
