// Package dkim holds DKIM keys (RFC 6376, 8301, 8463): it loads and makes
// private keys, gives the TXT record that publishes one, reads a published
// record and says what damaged it, signs mail, and knows which keys may sign
// ([Ring]): those whose record every server of the zone shows.
//
// It must not decide what becomes of a message, and never shows what a private
// key holds. daemon owns the Ring, transport asks it for each message, doctor and
// the command line look at keys and records.
//
// It reads key files, draws random numbers for new keys and asks DNS servers. A
// Ring owns one goroutine and those of the looks under way, at most 16; Stop
// ends them. Nothing else here outlives its call.
package dkim
