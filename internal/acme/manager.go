package acme

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"

	"mailout/internal/mta"
)

// Challenge is how the authority is shown that a name is ours.
type Challenge uint8

// The challenges.
const (
	HTTP    Challenge = iota // http-01, a page on port 80 (RFC 8555 8.3)
	TLSALPN                  // tls-alpn-01, a handshake on port 443 (RFC 8737)
)

// Options make a Manager.
type Options struct {
	Names     []string // each gets a certificate of its own; the first serves clients that name none
	Directory string   // URL of the authority's directory
	Email     string   // where the authority writes to; may be empty
	Challenge Challenge
	Address   netip.AddrPort // where the challenge is answered, while one is open
	Roots     *x509.CertPool // that verify the authority; nil: the system's
	Folder    string         // of certificates, keys and the account; made with 0700
	Logger    *slog.Logger   // nil discards
	// Obtained, when set, is called after a certificate was obtained or renewed.
	Obtained func(name string)
}

// When a name is looked at again: after a failure that the library does not
// repeat, and at the latest while all is well. Between, certificates are renewed
// when a third of their life is left.
const (
	afterFailure = time.Hour
	atTheLatest  = 6 * time.Hour
	atTheSoonest = time.Second
	renewalShare = 1.0 / 3
)

// errNone says that there is no certificate yet.
var errNone = errors.New("there is no certificate yet: the authority has not given one (the log tells why)")

// Manager holds the certificates of its names. Its methods are safe for
// concurrent use.
type Manager struct {
	opts   Options
	log    *slog.Logger
	cache  *certmagic.Cache
	config *certmagic.Config
	issuer *certmagic.ACMEIssuer
	held   map[string]*atomic.Pointer[tls.Certificate] // by name; the map is never changed
	stop   context.CancelFunc
	names  sync.WaitGroup
}

// New makes a Manager with the certificates that the folder has. Start gets the
// others.
func New(o Options) *Manager {
	m := &Manager{opts: o, log: o.Logger, held: map[string]*atomic.Pointer[tls.Certificate]{}, stop: func() {}}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	zap := newZap(m.log)
	const never = 100 * 365 * 24 * time.Hour // for the library's upkeep, whose goroutines cannot be waited for
	m.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert:   func(certmagic.Certificate) (*certmagic.Config, error) { return m.config, nil },
		RenewCheckInterval: never, OCSPCheckInterval: never, Logger: zap,
	})
	m.config = certmagic.New(m.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: o.Folder}, Logger: zap, OnEvent: m.event,
		RenewalWindowRatio: renewalShare, DisableARI: true, OCSP: certmagic.OCSPConfig{DisableStapling: true},
	})
	m.issuer = certmagic.NewACMEIssuer(m.config, certmagic.ACMEIssuer{
		CA: o.Directory, Email: o.Email, Agreed: true, TrustedRoots: o.Roots, Logger: zap,
		DisableHTTPChallenge: o.Challenge != HTTP, DisableTLSALPNChallenge: o.Challenge != TLSALPN,
		ListenHost: o.Address.Addr().String(), AltHTTPPort: int(o.Address.Port()), AltTLSALPNPort: int(o.Address.Port()),
	})
	m.config.Issuers = []certmagic.Issuer{m.issuer}
	for _, name := range o.Names {
		m.held[name] = &atomic.Pointer[tls.Certificate]{}
		if err := m.load(context.Background(), name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			m.log.Error("a stored certificate cannot be read; a new one is asked for", mta.KeyHost, name, mta.KeyError, err)
		}
	}
	return m
}

// Start begins to get and renew certificates. The end of ctx does not stop it.
func (m *Manager) Start(ctx context.Context) {
	ctx, m.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, name := range m.opts.Names {
		m.names.Go(func() { m.keep(ctx, name) })
	}
}

// Stop ends what Start began, and waits.
func (m *Manager) Stop() {
	m.stop()
	m.names.Wait()
	m.cache.Stop()
}

// Ready reports whether there is a certificate to show.
func (m *Manager) Ready() bool {
	for _, held := range m.held {
		if held.Load() != nil {
			return true
		}
	}
	return false
}

// GetCertificate implements that of tls.Config: the certificate of the name that
// the client asks for, else of the first name that has one. It answers the
// authority's challenge too, where the listener offers the protocol
// acmez.ACMETLS1Protocol ("acme-tls/1").
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if len(hello.SupportedProtos) == 1 && hello.SupportedProtos[0] == acmez.ACMETLS1Protocol {
		return m.config.GetCertificate(hello)
	}
	if held := m.held[strings.TrimSuffix(strings.ToLower(hello.ServerName), ".")]; held != nil {
		if pair := held.Load(); pair != nil {
			return pair, nil
		}
	}
	for _, name := range m.opts.Names {
		if pair := m.held[name].Load(); pair != nil {
			return pair, nil
		}
	}
	return nil, errNone
}

// Certificate gives the certificate of a name; nil when there is none.
func (m *Manager) Certificate(name string) *tls.Certificate {
	if held := m.held[name]; held != nil {
		return held.Load()
	}
	return nil
}

// keep is the goroutine of one name.
func (m *Manager) keep(ctx context.Context, name string) {
	for ctx.Err() == nil {
		timer := time.NewTimer(m.tend(ctx, name))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// tend gets or renews a certificate if that is due, and says when to look again.
// The library repeats what failed, from a minute up to six hours later.
func (m *Manager) tend(ctx context.Context, name string) time.Duration {
	var err error
	switch pair := m.held[name].Load(); {
	case pair == nil:
		err = m.config.ObtainCertAsync(ctx, name)
	case certmagic.Certificate{Certificate: *pair, Names: []string{name}}.NeedsRenewal(m.config):
		err = m.config.RenewCertAsync(ctx, name, false)
	default:
		return next(pair.Leaf, time.Now())
	}
	if err == nil {
		err = m.load(ctx, name)
	}
	if err != nil {
		if ctx.Err() == nil {
			m.log.Error("no certificate; asking again in an hour", mta.KeyHost, name, mta.KeyError, err)
		}
		return afterFailure
	}
	leaf := m.held[name].Load().Leaf
	m.log.Info("certificate obtained", mta.KeyHost, name, "expires", mta.FormatTime(leaf.NotAfter))
	if m.opts.Obtained != nil {
		m.opts.Obtained(name)
	}
	return next(leaf, time.Now())
}

// next is the time until a certificate is due.
func next(leaf *x509.Certificate, now time.Time) time.Duration {
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	due := leaf.NotAfter.Add(-time.Duration(renewalShare * float64(life))).Sub(now)
	return min(max(due, atTheSoonest), atTheLatest)
}

// load takes the certificate that the folder has.
func (m *Manager) load(ctx context.Context, name string) error {
	key := m.issuer.IssuerKey()
	chain, err := m.config.Storage.Load(ctx, certmagic.StorageKeys.SiteCert(key, name))
	if err != nil {
		return fmt.Errorf("reading the certificate of %s: %w", name, err)
	}
	secret, err := m.config.Storage.Load(ctx, certmagic.StorageKeys.SitePrivateKey(key, name))
	if err != nil {
		return fmt.Errorf("reading the private key of %s: %w", name, err)
	}
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		return fmt.Errorf("the stored certificate of %s and its key: %w", name, err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return fmt.Errorf("the stored certificate of %s: %w", name, err)
		}
	}
	m.held[name].Store(&pair)
	return nil
}

// event hears of each attempt that failed.
func (m *Manager) event(_ context.Context, event string, data map[string]any) error {
	if event == "cert_failed" {
		m.log.Warn("the authority gave no certificate; asking again", mta.KeyHost, fmt.Sprint(data["identifier"]), mta.KeyError, fmt.Sprint(data["error"]))
	}
	return nil
}
