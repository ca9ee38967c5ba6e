// Package smtpclient speaks SMTP as a client over one given connection: Open
// greets, negotiates EHLO and TLS; Send carries one mail transaction; Quit or
// Close ends it. Commands are pipelined when the server allows it (RFC 2920),
// and a small message goes in the same flight as its envelope by BDAT
// (RFC 3030), so that it costs one round trip.
//
// It does not dial, does not retry and does not judge: every failure comes out
// as the facts in an mta.Failure, and transport/trouble.go says what it means.
// Transport is the caller; a probe of the doctor may be.
//
// It starts no goroutine. A Session belongs to one goroutine; only Abort may be
// called from another.
package smtpclient
