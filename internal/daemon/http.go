package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"mailout/internal/account"
	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/submit/httpapi"
)

// web is what the daemon keeps for the API.
type web struct {
	certificate certificate // of the TCP listener; unused without [http] cert
	open        atomic.Bool // the doors accept and the queue runs
	limits      atomic.Pointer[httpapi.Limits]
}

// buildAPI makes the API and the users who may come in by it.
func (d *Daemon) buildAPI(c *config.Config) error {
	d.limitSending(c)
	d.users = account.NewBook(nil)
	d.users.Configure(users(c))
	if _, err := d.useAuthority(c); err != nil {
		return err
	}
	if err := d.loadWebCertificates(c); err != nil {
		return err
	}
	d.admin = admin.New(admin.Options{
		Socket: c.HTTP.Socket, TCP: d.webListener(c), Store: d.store, History: d.store, Queue: d.queue, Intake: d.intake,
		Reload: d.Reload, Doctor: d.sentinel, Checks: d.sourceChecks, Control: d.control, Standing: d, Signing: d, Explain: d.Explain, Records: d.records, Ready: d.ready, Events: d.events, Feed: d.store, Meters: d.meters(),
		Routes: d.sendingDoors(c), Version: d.opts.Version, Logger: d.log,
	})
	if c.HTTP.Plain && c.HTTP.Cert == "" && !c.HTTP.ACME && c.HTTP.Address.IsValid() && !c.HTTP.Address.Addr().Unmap().IsLoopback() {
		d.log.Warn("http.plain: tokens and mail cross the network in clear text unless something before this listener has TLS", mta.KeyListener, c.HTTP.Address.String())
	}
	return nil
}

// webListener is the API's TCP listener as configured.
func (d *Daemon) webListener(c *config.Config) admin.TCP {
	if !c.HTTP.Address.IsValid() {
		return admin.TCP{}
	}
	names := []string{strings.ToLower(c.Hostname)}
	for _, name := range c.HTTP.Names {
		names = append(names, strings.TrimSuffix(strings.ToLower(name), "."))
	}
	t := admin.TCP{
		Address: c.HTTP.Address.String(), Users: d.users, Names: slices.Compact(names), Connections: c.HTTP.Connections,
		Body: requestSize(c),
	}
	if c.HTTP.Cert != "" || c.HTTP.ACME {
		t.Certificate = d.web.certificate.get
	}
	return t
}

// requestSize bounds a request: the largest message in base64, and what stands
// around it.
func requestSize(c *config.Config) int64 { return c.Limits.MessageSize/3*4 + 1<<20 }

// site is a listener of HTTP with its certificate, its files as the code for
// certificates of mail's listeners knows them.
type site struct {
	table string // of the configuration
	host  string // by which it is called
	files config.Listener
	own   *certificate
}

// sites are those that there are.
func (d *Daemon) sites(c *config.Config) (out []site) {
	h, u := &c.HTTP, &c.Unsubscribe
	if h.Address.IsValid() {
		out = append(out, site{"[http]", c.Hostname, config.Listener{Address: h.Address, Cert: h.Cert, Key: h.Key, ACME: h.ACME}, &d.web.certificate})
	}
	if u.Address.IsValid() {
		out = append(out, site{"[unsubscribe]", u.Host(), config.Listener{Address: u.Address, Cert: u.Cert, Key: u.Key, ACME: u.ACME}, &d.links.certificate})
	}
	return out
}

// loadWebCertificates reads the certificates of the sites.
func (d *Daemon) loadWebCertificates(c *config.Config) error {
	for _, s := range d.sites(c) {
		if err := d.loadWebCertificate(s); err != nil {
			return err
		}
	}
	return nil
}

func (d *Daemon) loadWebCertificate(s site) error {
	if s.files.ACME {
		s.own.authority.Store(d.authority.now)
	}
	if s.files.Cert == "" {
		return nil
	}
	stamp := stampOf(s.files) // before reading: a change meanwhile is seen next time
	pair, err := config.ReadCertificate(s.files.Cert, s.files.Key)
	if err != nil {
		return fmt.Errorf("%w: %s cert: %w", ErrConfig, s.table, err)
	}
	s.own.current.Store(&pair)
	s.own.stamp.Store(&stamp)
	s.own.warn(s.host, s.files, d.log, time.Now())
	return nil
}

// renewWebCertificates reads the certificates of sites whose files have changed;
// again repeats what is wrong with the others. The daemon's lock is held.
func (d *Daemon) renewWebCertificates(again bool) {
	for _, s := range d.sites(d.mu.config) {
		if s.files.Cert == "" {
			continue
		}
		if old := s.own.stamp.Load(); old != nil && *old == stampOf(s.files) {
			if again {
				s.own.warn(s.host, s.files, d.log, time.Now())
			}
			continue
		}
		if err := d.loadWebCertificate(s); err != nil {
			d.log.Error("a changed certificate cannot be used; the one before stays", mta.KeyError, err)
			continue
		}
		d.log.Info("certificate read", mta.KeyListener, s.files.Address.String(), mta.KeyPath, s.files.Cert)
	}
}

// errClosed says that the daemon starts or stops.
var errClosed = errors.New("the daemon is starting or stopping")

// ready says why no mail can be taken or delivered now.
func (d *Daemon) ready(ctx context.Context) error {
	switch {
	case !d.web.open.Load():
		return errClosed
	case d.store.Full():
		return spool.ErrFull
	case d.memory.Busy():
		return errors.New("memory is short ([limits] memory)")
	}
	if _, err := d.queue.Summary(ctx); err != nil {
		return fmt.Errorf("the queue does not answer: %w", err)
	}
	return nil
}

// records finds the records that direct delivery needs, as `mailout records`
// shows them.
func (d *Daemon) records(ctx context.Context) ([]doctor.Record, error) {
	d.mu.Lock()
	c := d.mu.config
	d.mu.Unlock()
	plan := doctor.PlanRecords(ctx, Identity(c), doctor.SystemWorld(d.sentinel.Learned), doctor.Options{})
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	out := plan.All()
	if out == nil {
		out = []doctor.Record{} // a list, also when it is empty
	}
	return out, nil
}

// stopWeb closes the API to others. The Unix socket serves until all has ended.
func (d *Daemon) stopWeb(ctx context.Context) {
	if d.admin == nil {
		return
	}
	if err := d.cutOff("[http] address", d.admin.StopTCP(ctx)); err != nil {
		d.log.Warn("the API did not end in order", mta.KeyError, err)
	}
}
