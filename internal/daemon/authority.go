package daemon

import (
	"context"
	"path/filepath"
	"reflect"

	"mailout/internal/acme"
	"mailout/internal/config"
	"mailout/internal/mta"
)

// acmeFolder is where certificates by ACME, their keys and the account are kept,
// in the directory of the spool.
const acmeFolder = "acme"

// authority is the Manager of [acme], if a listener wants it, and what it was
// made from. It belongs to who holds the daemon's lock.
type authority struct {
	now     *acme.Manager // nil: none is wanted
	made    config.ACME
	started bool
}

// useAuthority makes the Manager that the configuration wants. It gives the one
// that was there before, to be stopped when no listener shows it any more; nil
// when it is still the same.
func (d *Daemon) useAuthority(c *config.Config) (before *acme.Manager, err error) {
	a := &d.authority
	if wanted := c.UsesACME(); wanted == (a.now != nil) && (!wanted || reflect.DeepEqual(a.made, c.ACME)) {
		return nil, nil
	} else if !wanted {
		before, a.now = a.now, nil
		return before, nil
	}
	pool, err := rootsOf("acme.ca_file", c.ACME.CAFile)
	if err != nil {
		return nil, err
	}
	o := acme.Options{
		Names: c.ACME.Names, Directory: c.ACME.Directory, Email: c.ACME.Email, Address: c.ACME.Address,
		Roots: pool, Folder: filepath.Join(c.Spool, acmeFolder), Logger: d.log,
	}
	if c.ACME.Challenge == config.ChallengeTLS {
		o.Challenge = acme.TLSALPN
	}
	before, a.now, a.made = a.now, acme.New(o), c.ACME
	if !a.now.Ready() {
		d.log.Warn("there is no certificate yet; STARTTLS is not offered, and listeners with implicit TLS close connections, until the authority gives one",
			mta.KeyHost, c.ACME.Names, mta.KeyServer, c.ACME.Directory)
	}
	if a.started {
		a.now.Start(context.Background())
	}
	return before, nil
}

// restoreAuthority undoes what useAuthority and loadCertificates did for a
// configuration that is not to be used after all.
func (d *Daemon) restoreAuthority(before authority) {
	made := d.authority.now
	d.authority = before
	if err := d.loadCertificates(d.mu.config); err != nil {
		d.log.Error("a certificate cannot be read; the one before stays", mta.KeyError, err)
	}
	if made != nil && made != before.now {
		made.Stop()
	}
}

// startAuthority lets the Manager work, and those that a reload brings.
func (d *Daemon) startAuthority(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.authority.started = true
	if d.authority.now != nil {
		d.authority.now.Start(ctx)
	}
}

// stopAuthority ends it.
func (d *Daemon) stopAuthority() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.authority.now != nil {
		d.authority.now.Stop()
		d.authority.now = nil
	}
}
