package daemon

import (
	"context"
	"log/slog"

	"mailout/internal/mta"
	"mailout/internal/transport"
)

// transcript writes each step of each attempt to the log, at debug level
// (`mailout serve --debug`). Addresses of recipients stand in it; content
// does not.
type transcript struct{ log *slog.Logger }

// newTranscript gives nil when nobody would read it: then steps cost nothing.
func newTranscript(log *slog.Logger) transport.Observer {
	if !log.Enabled(context.Background(), slog.LevelDebug) {
		return nil
	}
	return transcript{log}
}

// Observe implements transport.Observer.
func (t transcript) Observe(e transport.Event) {
	attrs := []any{
		mta.KeyID, e.Delivery.Message.String(), mta.KeyHost, e.Target.Host.Name, mta.KeyIP, e.Target.IP.String(),
		mta.KeyStage, e.Step.Stage.String(),
	}
	add := func(key, value string) {
		if value != "" {
			attrs = append(attrs, key, value)
		}
	}
	add("command", e.Step.Command)
	add(mta.KeyReply, e.Step.Reply.String())
	add("tls", e.Step.TLS.Version)
	if e.Failure != nil {
		add(mta.KeyReason, e.Failure.Error())
	}
	t.log.Debug("step", attrs...)
}
