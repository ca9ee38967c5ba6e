// Package dkim signs mail on its way (RFC 6376, 8301, 8463), and holds the keys
// for it: it loads and makes private keys, gives the TXT record that publishes
// one, reads a published record and says what damaged it.
//
// Sign makes the DKIM-Signature fields of one message; a Signer does that for the
// messages that go out, and shares what it made among a message's destinations.
// Which keys sign is said by a Keys.
//
// It must not ask DNS, and must not decide when a message is signed or what a
// failure means. transport's workers sign, through daemon; doctor signs samples.
//
// It reads key files and draws random numbers for new keys; it owns no
// goroutines.
package dkim
