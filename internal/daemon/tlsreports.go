package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"time"

	"mailout/internal/config"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/spool"
	"mailout/internal/tlsrpt"
	"mailout/internal/transport"
)

// buildTLSReports makes what tells receivers how TLS went; store, resolver,
// sentinel and intake are there.
func (d *Daemon) buildTLSReports(c *config.Config) error {
	s, err := tlsReportSettings(c)
	if err != nil {
		return err
	}
	d.tlsReports = tlsrpt.New(tlsrpt.Options{
		Notes: d.store, Resolver: d.resolver, Intake: d.intake, Settings: s, Signs: d.signsReports, Told: d.toldReport, Seen: d.seenAs,
		Agent: "mailout/" + d.opts.Version, Logger: d.log,
	})
	return nil
}

func tlsReportSettings(c *config.Config) (tlsrpt.Settings, error) {
	pool, err := roots(c)
	r := &c.TLSReports
	return tlsrpt.Settings{
		Send: r.Send, Hostname: c.Hostname, From: canonicalMailbox(r.From), Contact: canonicalMailbox(r.Contact), Organization: r.Organization,
		Roots: pool, PrivateNetworks: c.Delivery.PrivateNetworks,
	}, err
}

// canonicalMailbox is a mailbox of the configuration as it stands in messages.
func canonicalMailbox(s string) string {
	m, err := smtp.ParseMailbox(s, true)
	if err != nil { // the configuration's check let it through
		return s
	}
	return m.String()
}

// secured is transport.Options.Secured. The carrier is made before the reports.
func (d *Daemon) secured(r *mta.Route, t *mta.Target, o transport.TLSOutcome) {
	d.tlsReports.Count(&tlsrpt.Session{
		Route: r, Host: t.Host.Name, IP: t.IP, From: o.Local, Helo: o.Helo, Result: o.Result, Reason: o.Reason, Demand: o.Demand,
	})
}

// unmet counts the hosts that policies about TLS kept an attempt from, when they
// left none.
func (d *Daemon) unmet(f *mta.Failure) {
	var u *mta.TLSUnmet
	if !errors.As(f.Err, &u) {
		return
	}
	r := &mta.Route{Domain: u.Domain, Hosts: u.Hosts, Policies: u.Policies}
	for i := range u.Hosts {
		if why := mta.PolicyFault(&u.Hosts[i], u.Policies); why != nil {
			d.tlsReports.Count(&tlsrpt.Session{Route: r, Host: u.Hosts[i].Name, Result: why.Result, Reason: why.Text})
		}
	}
}

// signsReports reports whether mail from an address is signed for its domain.
func (d *Daemon) signsReports(from string) bool {
	return d.ring.Covers(smtp.SplitAddress(from).Domain)
}

// seenAs gives the address that receivers see when we send from a local one. What
// is behind a translator that nobody told us of is nobody's business.
func (d *Daemon) seenAs(local netip.Addr) netip.Addr {
	if mta.NetworkOf(local).Global() {
		return local
	}
	for _, l := range d.sentinel.Learned() {
		if l.Source == local && mta.NetworkOf(l.Visible).Global() {
			return l.Visible
		}
	}
	return netip.Addr{}
}

// toldReport writes into the journal what became of a report.
func (d *Daemon) toldReport(ctx context.Context, s *tlsrpt.Sent) {
	var entropy [10]byte
	_, _ = rand.Read(entropy[:]) // never fails
	at := s.Time.UTC().Truncate(time.Millisecond)
	sub := &spool.Submission{Message: &mta.Message{ID: mta.NewID(at, entropy), Arrived: at, Stream: mta.DefaultStream}}
	sub.Records = []*mta.Record{{
		Time: at, Event: mta.EventTLSReport, ID: sub.Message.ID, Recipient: mta.TLSReportRecipient, Destination: s.Domain, Report: s.Message, Reason: s.Words(),
	}}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTime)
	defer cancel()
	if err := d.store.Put(ctx, sub); err != nil && !errors.Is(err, spool.ErrClosed) {
		d.log.Warn("what became of a TLS report could not be written to the journal", mta.KeyDestination, s.Domain, mta.KeyReason, s.Words(), mta.KeyError, err)
	}
}
