package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"mailout/internal/mtatest"
)

// sinkCmd runs a receiving server for tests. What it does is told by a
// script (docs/sink.md); without one it accepts everything.
type sinkCmd struct {
	Listen      []string `default:"127.0.0.1:2525" help:"Address to listen on; repeatable. Port 0 takes a free one and prints it." placeholder:"ADDRESS"`
	Script      string   `help:"Rules: who is refused, delayed, greylisted or dropped (docs/sink.md)." placeholder:"FILE" type:"path"`
	TLS         bool     `name:"tls" help:"Offer STARTTLS with a certificate made at the start."`
	Count       bool     `help:"Only count: keep and print nothing about single messages."`
	Unique      string   `help:"Count how often each value of this header field comes; the summary tells how many came twice." placeholder:"FIELD"`
	Dir         string   `help:"Store each message as NNNNNN.eml with its envelope as NNNNNN.json." placeholder:"DIR" type:"path"`
	MaxMessages int64    `help:"End after so many messages." placeholder:"N"`
	JSON        bool     `name:"json" help:"One JSON object a line for each event and the summary."`
}

// Run receives until a signal or the last message, then prints a summary.
func (c *sinkCmd) Run(g *globals) error {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer cancel()
	return c.run(ctx, g)
}

func (c *sinkCmd) run(ctx context.Context, g *globals) error {
	cfg, err := c.configure()
	if err != nil {
		return err
	}
	out := &sinkPrinter{json: c.JSON, quiet: c.Count, w: g.Stdout}
	var store *sinkStore
	if c.Dir != "" {
		if store, err = newSinkStore(c.Dir); err != nil {
			return fail(exitUnavailable, "sink: %v", err)
		}
	}
	full := make(chan struct{}, 1)
	cfg.OnMessage = c.onMessage(out, store, full)
	if !c.Count {
		cfg.OnEvent = out.event
	}
	mx := mtatest.NewMX(*cfg)
	for _, addr := range c.Listen {
		at, err := mx.Listen(addr)
		if err != nil {
			mx.Stop()
			return fail(exitUnavailable, "sink: %v", err)
		}
		out.listening(at)
	}
	select {
	case <-ctx.Done():
	case <-full:
	}
	mx.Finish()
	out.summary(mx, c.Unique)
	if store != nil && store.err != nil {
		return fail(exitUnavailable, "sink: messages were not all stored: %v", store.err)
	}
	return nil
}

func (c *sinkCmd) configure() (*mtatest.MXConfig, error) {
	cfg := &mtatest.MXConfig{Hostname: "sink.example", Discard: true, Remember: c.Unique}
	if c.Script != "" {
		f, err := os.Open(c.Script)
		if err != nil {
			return nil, fail(exitNoInput, "sink: the script: %v", err)
		}
		defer f.Close()
		if err := mtatest.ParseScript(f, filepath.Base(c.Script), cfg); err != nil {
			return nil, fail(exitData, "sink: %v", err)
		}
	}
	if !c.TLS {
		return cfg, nil
	}
	authority, err := mtatest.NewAuthority()
	if err != nil {
		return nil, fail(exitSoftware, "sink: %v", err)
	}
	cfg.Certificate, err = authority.Certificate(true, cfg.Hostname, "localhost", "127.0.0.1", "::1")
	if err != nil {
		return nil, fail(exitSoftware, "sink: %v", err)
	}
	return cfg, nil
}

// onMessage prints and stores a message, and tells when it was the last.
func (c *sinkCmd) onMessage(out *sinkPrinter, store *sinkStore, full chan<- struct{}) func(*mtatest.Message) {
	return func(m *mtatest.Message) {
		out.message(m)
		if store != nil {
			store.put(m)
		}
		if c.MaxMessages > 0 && m.Seq >= c.MaxMessages {
			select {
			case full <- struct{}{}:
			default: // told already
			}
		}
	}
}

// shownTLS is the protocol of a message's session in a word.
func shownTLS(m *mtatest.Message) string {
	if m.TLS == nil {
		return "clear text"
	}
	return fmt.Sprintf("%s %s", tlsVersion(m.TLS), tlsCipher(m.TLS))
}
