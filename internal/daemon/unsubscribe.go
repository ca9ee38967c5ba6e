package daemon

import (
	"context"
	"fmt"
	"path/filepath"

	"mailout/internal/config"
	"mailout/internal/mta"
	"mailout/internal/transport"
	"mailout/internal/unsubscribe"
)

// unsubscribeKeys is the file in the spool that holds the keys of links.
const unsubscribeKeys = "unsubscribe.key"

// links are the links to unsubscribe: the desk makes and reads them, the server
// is where they lead.
type links struct {
	desk        *unsubscribe.Desk
	server      *unsubscribe.Server // nil: there are none
	certificate certificate
}

// buildLinks makes the desk, and the server; it needs store and suppression list.
// The API's part reads the certificate.
func (d *Daemon) buildLinks(c *config.Config) (err error) {
	d.links.desk, err = unsubscribe.New(unsubscribe.Options{
		Keys: filepath.Join(c.Spool, unsubscribeKeys), Store: d.store, List: d.suppression.list, Settings: linkSettings(c), Logger: d.log,
	})
	if err != nil {
		return fmt.Errorf("%w: [unsubscribe]: %w", ErrConfig, err)
	}
	u := c.Unsubscribe
	if !u.Address.IsValid() {
		return nil
	}
	o := unsubscribe.ServerOptions{Address: u.Address.String(), Connections: u.Connections, Logger: d.log}
	if u.Cert != "" || u.ACME {
		o.Certificate = d.links.certificate.get
	}
	d.links.server = unsubscribe.NewServer(d.links.desk, o)
	return nil
}

// linkSettings are the desk's.
func linkSettings(c *config.Config) unsubscribe.Settings {
	s := unsubscribe.Settings{URL: c.Unsubscribe.URL, Streams: make(map[string]unsubscribe.Stream, len(c.Streams))}
	for _, one := range c.Streams {
		s.Streams[one.Name] = unsubscribe.Stream{Feedback: one.Feedback, Link: one.Unsubscribe, Places: one.Places}
	}
	return s
}

// startLinks lets the desk work, and serves links.
func (d *Daemon) startLinks(ctx context.Context) error {
	d.links.desk.Start(ctx)
	if d.links.server == nil {
		return nil
	}
	if err := d.links.server.Start(ctx); err != nil {
		return fmt.Errorf("[unsubscribe] address: %w", err)
	}
	d.log.Info("listening", mta.KeyListener, "unsubscribe "+d.links.server.Addr().String())
	return nil
}

// closeLinks ends the server, and lets requests end until ctx does.
func (d *Daemon) closeLinks(ctx context.Context) {
	if d.links.server == nil {
		return
	}
	if err := d.cutOff("[unsubscribe] address", d.links.server.Stop(ctx)); err != nil {
		d.log.Warn("the links of unsubscription did not end in order", mta.KeyError, err)
	}
}

// stopLinks ends the desk.
func (d *Daemon) stopLinks() {
	if d.links.desk != nil {
		d.links.desk.Stop()
	}
}

// fields gives the header fields that streams add to their mail; nil: none. A
// failure strikes the transaction's recipients, who are tried again.
func (l *links) fields(o *transport.Outgoing) ([]byte, *mta.Failure) {
	out, err := l.desk.Fields(o.Delivery.Message, o.Recipients, o.Content)
	if err != nil {
		return nil, &mta.Failure{Stage: mta.StageData, Cause: mta.CauseLocal, Text: "the message's header cannot be read: " + err.Error(), Err: err}
	}
	return out, nil
}

// apart says that each recipient gets a transaction of its own.
func (l *links) apart(m *mta.Delivery) bool { return l.desk.Apart(m) }
