package daemon

import (
	"mailout/internal/config"
	"mailout/internal/dns"
)

// dnsOptions are a resolver's, of a configuration. A file of root certificates
// that cannot be read is carrierSettings' to report.
func dnsOptions(c *config.Config) dns.Options {
	o := dns.Options{
		Timeout: c.DNS.Timeout, HostsFile: c.DNS.HostsFile,
		DNSSEC: c.DNS.DNSSEC, Trusted: c.DNS.Trusted, TrustAnchors: c.DNS.Anchors, Private: c.DNS.Private, BogusName: c.Identity.BogusName,
	}
	o.Use(c.DNS.Servers)
	o.RootCAs, _ = roots(c)
	return o
}

// dnssecWords say who authenticates the answers of DNS, or why nobody does.
func dnssecWords(st dns.DNSSECState) string {
	switch {
	case st.On():
		return "on: " + st.Why
	case st.Status == dns.Untested:
		return "unknown: " + st.Why
	}
	return "off: " + st.Why
}
