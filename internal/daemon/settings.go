package daemon

import (
	"crypto/x509"
	"fmt"
	"os"

	"mailout/internal/config"
	"mailout/internal/dns"
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

func dnsOptions(c *config.Config) dns.Options {
	return dns.Options{Servers: c.DNS.Servers, Timeout: c.DNS.Timeout, HostsFile: c.DNS.HostsFile}
}

func routeSettings(c *config.Config) route.Settings {
	s := route.Settings{
		Hostname: c.Hostname, Sources: c.Sources,
		Port: c.Delivery.Port, IPv6: c.Delivery.IPv6, PrivateNetworks: c.Delivery.PrivateNetworks,
		MaxHosts: c.Delivery.Hosts, MaxAddresses: c.Delivery.Addresses,
		TLS:    c.TLS.Outbound,
		Limits: mta.Limits{Connections: c.Delivery.Connections, MessagesPerConnection: c.Delivery.MessagesPerConnection},
	}
	for _, l := range c.Listen {
		s.Listen = append(s.Listen, l.Address)
	}
	for _, r := range c.Routes {
		s.Rules = append(s.Rules, routeRule(r))
	}
	if c.Router.Host != "" {
		s.Router = route.Router{Host: c.Router.Host, Port: c.Router.Port, TLS: c.Router.TLS, Use: route.UseAlways, Line: c.Router.Line}
		if c.Router.Use == config.UseUnresolved {
			s.Router.Use = route.UseUnresolved
		}
	}
	return s
}

func routeRule(r config.Route) route.Rule {
	rule := route.Rule{Domains: r.Domains, Host: r.Host, Port: r.Port, TLS: &r.TLS, Line: r.Line}
	if r.Direct() {
		rule.Host = route.Direct
	}
	return rule
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
	return submit.Settings{
		Hostname: c.Hostname, Postmaster: c.Postmaster,
		MaxSize: c.Limits.MessageSize, MaxRecipients: c.Limits.Recipients, MaxHops: c.Limits.Hops,
		Header: header.Limits{},
	}
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

// roots gives the certificates that verify servers: the system's, and those of
// tls.ca_file. nil means the system's alone.
func roots(c *config.Config) (*x509.CertPool, error) {
	if c.TLS.CAFile == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(c.TLS.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: tls.ca_file: %w", ErrConfig, err)
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%w: tls.ca_file: %s holds no certificate in PEM form", ErrConfig, c.TLS.CAFile)
	}
	return pool, nil
}

func carrierSettings(c *config.Config) (transport.Settings, error) {
	pool, err := roots(c)
	return transport.Settings{
		ConnectTimeout: c.Delivery.ConnectTimeout, ReplyTimeout: c.Delivery.ReplyTimeout,
		RootCAs: pool, SendEightBit: c.Delivery.EightBit == config.SendEightBit,
	}, err
}
