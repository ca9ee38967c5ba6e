package daemon

import (
	"fmt"
	"path/filepath"

	"mailout/internal/config"
	"mailout/internal/mta"
	"mailout/internal/returns"
	"mailout/internal/submit"
	"mailout/internal/submit/smtpd"
)

// returnKeys is the file in the spool that holds the keys of return paths.
const returnKeys = "returns.key"

// buildReturns makes the office for what comes back; it needs store, queue and
// the suppression list.
func (d *Daemon) buildReturns(c *config.Config, reports *submit.Reporter) (err error) {
	d.returns, err = returns.New(returns.Options{
		Keys: filepath.Join(c.Spool, returnKeys), Store: d.store, Queue: d.queue, Reporter: reports, List: d.suppression.list, Classifier: readerOf(c),
		Settings: returnsSettings(c), Logger: d.log, Complained: d.complained,
	})
	if err != nil {
		return fmt.Errorf("%w: [returns]: %w", ErrConfig, err)
	}
	return nil
}

func returnsSettings(c *config.Config) returns.Settings {
	r := c.Returns
	return returns.Settings{
		Domain: r.Domain, Streams: r.Streams, Users: r.Users, Routers: r.Routers, Forward: r.Forward, Complaints: r.Complaints, Valid: r.Valid,
	}
}

// returnPath answers the carrier, which is made before the office.
func (d *Daemon) returnPath(m *mta.Delivery, route *mta.Route, recipients []mta.Recipient) string {
	return d.returns.ReturnPath(m, route, recipients)
}

// acceptor is what takes the mail of a listener.
func (d *Daemon) acceptor(l config.Listener) submit.Acceptor {
	if l.Returns {
		return d.returns
	}
	return d.intake
}

// doorOf is what a listener is told. One for what comes back serves everybody,
// knows no users, and has no postmaster: the office takes its own addresses only.
func (d *Daemon) doorOf(c *config.Config, l config.Listener, own *certificate) smtpd.Settings {
	if !l.Returns {
		return secureDoor(doorSettings(c, l), l, own, d.users)
	}
	s := secureDoor(doorSettings(c, l), l, own, nil)
	s.Everybody, s.Auth, s.Postmaster, s.LineEnds = true, smtpd.AuthNever, "", submit.RepairBare
	return s
}
