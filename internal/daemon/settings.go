package daemon

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"mailout/internal/account"
	"mailout/internal/config"
	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/retry"
	"mailout/internal/route"
	"mailout/internal/spool/pebble"
	"mailout/internal/submit"
	"mailout/internal/submit/smtpd"
	"mailout/internal/transport"
)

// What each part is told, made from the configuration: one function a part,
// used at the start and again at a reload.

func routeSettings(c *config.Config) route.Settings {
	s := route.Settings{
		Hostname: c.Hostname,
		Port:     c.Delivery.Port, IPv6: c.Delivery.IPv6, PrivateNetworks: c.Delivery.PrivateNetworks,
		MaxHosts: c.Delivery.Hosts, MaxAddresses: c.Delivery.Addresses,
		TLS: c.TLS.Outbound, DANE: c.TLS.DANE,
		Limits: mta.Limits{Connections: c.Delivery.Connections, MessagesPerConnection: c.Delivery.MessagesPerConnection},
		Shape:  c.ShapeRules(), NoProviderLimits: !c.Delivery.ProviderLimits,
	}
	for _, l := range c.Listen {
		s.Listen = append(s.Listen, l.Address)
	}
	for i := range c.Routes {
		s.Rules = append(s.Rules, routeRule(c, i+1))
	}
	s.Roots, _ = roots(c) // carrierSettings tells what is wrong with them
	if c.Router.Host != "" {
		s.Router = route.Router{Peers: peers(&c.Router.Peers, c.Router.Host), Port: c.Router.Port, TLS: c.Router.TLS, Use: route.UseAlways, Line: c.Router.Line}
		if c.Router.Use == config.UseUnresolved {
			s.Router.Use = route.UseUnresolved
		}
		if c.Router.Use == config.UseFallback {
			s.Router.Use, s.Router.Unresolved = route.UseFallback, c.Router.Fallback.Triggers().Unresolved
		}
	}
	return withPools(s, c)
}

func schedules(c *config.Config) retry.Schedules {
	out := retry.Schedules{
		Default: retry.Schedule{Intervals: c.Delivery.Retry, Expire: c.Delivery.Expire, DelayNotice: c.Delivery.DelayNotice},
		Streams: map[string]retry.Schedule{},
	}
	for _, s := range c.Streams {
		out.Streams[s.Name] = retry.Schedule{Intervals: s.Retry, Expire: s.Expire, DelayNotice: s.DelayNotice}
	}
	return out
}

func spoolOptions(c *config.Config) pebble.Options {
	o := pebble.Options{
		Dir: c.Spool, MinFree: c.Limits.SpoolFree,
		FreshBytes: c.Limits.Memory / 16, CacheBytes: c.Limits.Memory / 64,
	}
	if o.MinFree == 0 {
		o.MinFree = -1 // "0B": no watermark
	}
	return o
}

// octetsADelivery is what one delivery in the scheduler's memory costs, about;
// a tenth of limits.memory is theirs.
const octetsADelivery = 1000

func queueLimits(c *config.Config) queue.Limits {
	return queue.Limits{InMemory: int(min(c.Limits.Memory/10/octetsADelivery, 200_000))}
}

func intakeSettings(c *config.Config) submit.Settings {
	s := submit.Settings{
		Hostname: c.Hostname, Postmaster: c.Postmaster,
		MaxSize: c.Limits.MessageSize, MaxRecipients: c.Limits.Recipients, MaxHops: c.Limits.Hops,
		Header: header.Limits{},
	}
	if len(c.DKIM) > 0 { // without a key nobody expects signatures
		s.Unaligned = c.Identity.Unaligned
	}
	return s
}

func doorSettings(c *config.Config, l config.Listener) smtpd.Settings {
	s := smtpd.Settings{
		Hostname: c.Hostname, Postmaster: c.Postmaster, Trusted: l.Trusted, LineEnds: submit.RefuseBare,
		Limits: smtpd.Limits{
			Line: c.Limits.LineLength,
			// A listener that is gone from the file lives on until the restart,
			// with its old limits; intake holds the new ones.
			MessageSize: min(l.MessageSize, c.Limits.MessageSize), Recipients: min(l.Recipients, c.Limits.Recipients),
			Connections: l.Connections, PeerConnections: l.ConnectionsPerPeer,
			Commands: c.Limits.Commands, Errors: c.Limits.Errors,
			CommandTime: c.Limits.CommandTimeout, DataTime: c.Limits.DataTimeout, MessageTime: c.Limits.MessageTimeout,
		},
	}
	if l.RepairBareLF {
		s.LineEnds = submit.RepairBare
	}
	return s
}

// secureDoor adds what a door knows of TLS, users and balancers; certificate is
// nil for a listener without one.
func secureDoor(s smtpd.Settings, l config.Listener, certificate *certificate, users *account.Book) smtpd.Settings {
	s.Users, s.Proxies = users, l.Proxy
	switch l.Auth {
	case config.ListenAuthAlways:
		s.Auth = smtpd.AuthAlways
	case config.ListenAuthNever:
		s.Auth = smtpd.AuthNever
	}
	if certificate == nil || l.TLS == config.ListenClear {
		return s
	}
	switch l.TLS {
	case config.ListenRequired:
		s.TLSMode = smtpd.TLSRequired
	case config.ListenImplicit:
		s.TLSMode = smtpd.TLSImplicit
	}
	s.TLS, s.TLSReady = doorTLS(l.TLSMin, certificate), certificate.ready
	s.TrustedOnly = l.TLSMin < tls.VersionTLS12
	return s
}

// doorTLS makes the rules of a listener. Devices that know nothing newer than
// TLS 1.1 have no newer ciphers either: for them the ones without forward
// secrecy are taken too, but not RC4.
func doorTLS(oldest uint16, c *certificate) *tls.Config {
	t := &tls.Config{MinVersion: oldest, GetCertificate: c.get}
	if oldest >= tls.VersionTLS12 {
		return t
	}
	for _, suites := range [][]*tls.CipherSuite{tls.CipherSuites(), tls.InsecureCipherSuites()} {
		for _, suite := range suites {
			if !strings.Contains(suite.Name, "_RC4_") {
				t.CipherSuites = append(t.CipherSuites, suite.ID)
			}
		}
	}
	return t
}

// users makes the Book's users.
func users(c *config.Config) []account.User {
	out := make([]account.User, 0, len(c.Users))
	for _, u := range c.Users {
		out = append(out, account.User{Name: u.Name, Password: u.Password, From: u.From, Stream: u.Stream, Rate: u.Rate, Key: u.Key, Scopes: u.Scopes})
	}
	return out
}

// roots gives the certificates that verify servers: the system's, and those of
// tls.ca_file. nil means the system's alone.
func roots(c *config.Config) (*x509.CertPool, error) { return rootsOf("tls.ca_file", c.TLS.CAFile) }

// rootsOf gives the system's certificates and those of a file, which a key names.
func rootsOf(key, file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrConfig, key, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: %s: %s holds no certificate in PEM form", ErrConfig, key, file)
	}
	return pool, nil
}

func carrierSettings(c *config.Config) (transport.Settings, error) {
	pool, err := roots(c)
	classifier, wrong := c.Classifier()
	if wrong != nil {
		err = fmt.Errorf("%w: [[classify]]: %w", ErrConfig, wrong)
	}
	return transport.Settings{
		ConnectTimeout: c.Delivery.ConnectTimeout, ReplyTimeout: c.Delivery.ReplyTimeout,
		RootCAs: pool, MinTLS: c.TLS.MinVersion, SendEightBit: c.Delivery.EightBit == config.SendEightBit, Classifier: classifier,
	}, err
}
