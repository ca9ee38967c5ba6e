package config

import "crypto/tls"

// tlsVersions are those that mail may go out with. What is older is no
// protection worth the name, and the receivers who want it get clear text
// instead, where that is allowed.
var tlsVersions = words[uint16]{{"1.2", tls.VersionTLS12}, {"1.3", tls.VersionTLS13}}

// minTLSKey is the least version of TLS with the mail servers of others.
func minTLSKey() *key {
	return newKey("min_version", word(tlsVersions), func(c *Config, _ int) *uint16 { return &c.TLS.MinVersion }).
		is(`"1.2"`, "The lowest version of TLS that is spoken with mail servers and routers, also when TLS is opportunistic: to a server that has only a lower one such mail goes in clear text.")
}
