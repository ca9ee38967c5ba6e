// Package dkim holds DKIM keys (RFC 6376, 8301, 8463): it loads and makes
// private keys, gives the TXT record that publishes one, reads a published
// record and says what damaged it, and signs a sample, so that others can tell
// whether key and record fit.
//
// It does not sign mail on its way: that needs rotation and the message as it
// is stored, and is not part of this version. It must not ask DNS and must not
// decide which key a message gets. doctor calls it.
//
// It reads key files and draws random numbers for new keys; it owns no
// goroutines.
package dkim
