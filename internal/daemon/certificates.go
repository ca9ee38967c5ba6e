package daemon

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"mailout/internal/acme"
	"mailout/internal/config"
	"mailout/internal/mta"
)

// certificate is what a listener shows under TLS: the pair of its files, or what
// ACME got. Sessions read it, reloads and the watch replace it; one of them at a
// time, under the daemon's lock.
type certificate struct {
	current   atomic.Pointer[tls.Certificate]
	stamp     atomic.Pointer[certStamp]
	authority atomic.Pointer[acme.Manager] // nil: the files
}

// certStamp tells whether the files have changed since they were read.
type certStamp struct {
	cert, key string
	seen      [2]fileStamp
}

type fileStamp struct {
	changed time.Time
	size    int64
}

// get implements tls.Config.GetCertificate.
func (c *certificate) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if authority := c.authority.Load(); authority != nil {
		return authority.GetCertificate(hello)
	}
	if pair := c.current.Load(); pair != nil {
		return pair, nil
	}
	return nil, fmt.Errorf("this listener has no certificate")
}

// ready reports whether there is a certificate: ACME may not have got it yet.
func (c *certificate) ready() bool {
	if authority := c.authority.Load(); authority != nil {
		return authority.Ready()
	}
	return c.current.Load() != nil
}

// use reads the files of a listener, and warns of what is wrong with them but
// does not keep TLS from working. On an error the old certificate stays.
// authority is that of [acme]; it is nil when no listener wants it.
func (c *certificate) use(hostname string, l config.Listener, authority *acme.Manager, log *slog.Logger) error {
	if l.ACME {
		c.authority.Store(authority)
		return nil
	}
	if l.Cert == "" {
		return nil // what was there stays for sessions that go over to TLS just now
	}
	stamp := stampOf(l) // before reading: a change meanwhile is seen next time
	pair, err := config.ReadCertificate(l.Cert, l.Key)
	if err != nil {
		return fmt.Errorf("%w: [[listen]] %s: %w", ErrConfig, l.Address, err)
	}
	c.current.Store(&pair)
	c.stamp.Store(&stamp)
	c.authority.Store(nil)
	c.warn(hostname, l, log, time.Now())
	return nil
}

// warn tells what clients will dislike.
func (c *certificate) warn(hostname string, l config.Listener, log *slog.Logger, now time.Time) {
	pair := c.current.Load()
	if pair == nil {
		return
	}
	attrs := []any{mta.KeyListener, l.Address.String(), mta.KeyPath, l.Cert}
	leaf := pair.Leaf
	switch {
	case now.After(leaf.NotAfter):
		log.Warn("the certificate has expired", append(attrs, "expired", mta.FormatTime(leaf.NotAfter))...)
	case now.Before(leaf.NotBefore):
		log.Warn("the certificate is not valid yet", append(attrs, "from", mta.FormatTime(leaf.NotBefore))...)
	case now.Add(expiresSoon).After(leaf.NotAfter):
		log.Warn("the certificate expires soon", append(attrs, "expires", mta.FormatTime(leaf.NotAfter))...)
	}
	if err := leaf.VerifyHostname(hostname); err != nil {
		log.Warn("the certificate does not cover the host name", append(attrs, mta.KeyHost, hostname, mta.KeyError, err)...)
	}
}

// expiresSoon is how long before its end a certificate is warned of: renewal by
// ACME happens a month before.
const expiresSoon = 7 * 24 * time.Hour

// stampOf looks at the files without reading them; what is not there has the
// zero stamp.
func stampOf(l config.Listener) certStamp {
	s := certStamp{cert: l.Cert, key: l.Key}
	for i, file := range [2]string{l.Cert, l.Key} {
		if info, err := os.Stat(file); err == nil {
			s.seen[i] = fileStamp{info.ModTime(), info.Size()}
		}
	}
	return s
}

// loadCertificates reads the files of every door anew, as the configuration
// says. It changes nothing for doors whose files cannot be used.
func (d *Daemon) loadCertificates(c *config.Config) error {
	if err := d.loadWebCertificates(c); err != nil {
		return err
	}
	for _, door := range d.doors {
		if l, there := listenerOf(c, door); there {
			if err := door.certificate.use(c.Hostname, l, d.authority.now, d.log); err != nil {
				return err
			}
		}
	}
	return nil
}

// How often the files of certificates are looked at, and what is wrong with
// them told again.
const (
	certificatesEvery = time.Minute
	certificatesWarn  = 24 * time.Hour
)

// watchCertificates takes certificates that were renewed, until ctx ends.
func (d *Daemon) watchCertificates(ctx context.Context) {
	warned := time.Now()
	every(ctx, certificatesEvery, func() {
		again := time.Since(warned) >= certificatesWarn
		if again {
			warned = time.Now()
		}
		d.renewCertificates(again)
	})
}

// renewCertificates reads the files that have changed. A pair that does not fit
// (a renewal caught between its two files) is told, and looked at again.
func (d *Daemon) renewCertificates(again bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.renewWebCertificates(again)
	c := d.mu.config
	for _, door := range d.doors {
		l, there := listenerOf(c, door)
		if !there || l.Cert == "" {
			continue
		}
		if old := door.certificate.stamp.Load(); old != nil && *old == stampOf(l) {
			if again {
				door.certificate.warn(c.Hostname, l, d.log, time.Now())
			}
			continue
		}
		if err := door.certificate.use(c.Hostname, l, nil, d.log); err != nil {
			d.log.Error("a changed certificate cannot be used; the one before stays", mta.KeyError, err)
			continue
		}
		d.log.Info("certificate read", mta.KeyListener, l.Address.String(), mta.KeyPath, l.Cert)
	}
}
