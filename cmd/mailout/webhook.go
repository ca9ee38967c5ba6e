package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/events"
)

type webhookCmd struct {
	Test webhookTestCmd `cmd:"" help:"Send an event of the type server.test to a webhook, and tell its answer."`
}

// webhookTestCmd tries a [[webhook]] of the configuration, from this process:
// whether a daemon runs does not matter.
type webhookTestCmd struct {
	Name string `arg:"" help:"Name of the [[webhook]]."`
}

// Run prints the answer; status 69 when it is not 2xx.
func (c *webhookTestCmd) Run(g *globals) error {
	conf, err := config.Load(g.Config)
	if err != nil {
		return err
	}
	settings, err := daemon.EventSettings(conf)
	if err != nil {
		return fail(exitConfig, "%v", err)
	}
	for _, w := range settings.Webhooks {
		if w.Name != c.Name {
			continue
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		trial, err := events.Try(ctx, events.Options{Version: version}, settings, w)
		if err != nil {
			return fail(exitSoftware, "%v", err)
		}
		words := fmt.Sprintf("%s (after %s)", trial.Answer, trial.Took.Round(time.Millisecond))
		if !trial.OK {
			return fail(exitUnavailable, "webhook %s: %s", c.Name, words)
		}
		_, err = fmt.Fprintln(g.Stdout, words)
		return err
	}
	return fail(exitUsage, "there is no [[webhook]] with the name %q in %s", c.Name, g.Config)
}
