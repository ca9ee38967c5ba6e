package daemon

import (
	"context"
	"fmt"
	"net/netip"

	"mailout/internal/config"
	"mailout/internal/dns"
	"mailout/internal/dnsupdate"
)

// Updater makes what publishes records, by [identity.dns_update]. The error
// says that the key's secret cannot be read.
func Updater(c *config.Config, resolver *dns.Resolver) (*dnsupdate.Updater, error) {
	u := c.Identity.DNSUpdate
	secret, err := u.Secret()
	if err != nil {
		return nil, fmt.Errorf("[identity.dns_update] key_secret_file: %w", err)
	}
	return dnsupdate.New(dnsupdate.Options{
		Server: u.Server, Zone: u.Zone, TTL: u.TTL,
		Key: dnsupdate.Key{Name: u.KeyName, Algorithm: u.KeyAlgorithm, Secret: secret},
		Resolve: func(ctx context.Context, host string) ([]netip.Addr, error) {
			a, err := resolver.Addresses(ctx, host)
			return a.Records, err
		},
	}), nil
}

// Resolver makes a resolver as a configuration says; the caller closes it.
func Resolver(c *config.Config) *dns.Resolver { return dns.New(dnsOptions(c)) }
