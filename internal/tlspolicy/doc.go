// Package tlspolicy says how much TLS a host must do before it gets mail, and who
// demands it. It looks up what a recipient domain publishes (TLSA records, RFC
// 7672; MTA-STS, RFC 8461), joins that with what the operator and the message
// demand (RFC 8689) into one [mta.TLSDemand] a host, and matches certificates
// with TLSA records.
//
// It never sends mail and judges no failure: route makes plans with what [Join]
// says, smtpclient and transport obey the demand, transport/trouble.go says what
// a failure means. A policy that cannot be read is never "no policy" (TRAPS 36):
// it keeps the host, or the domain's mail, waiting.
//
// It is called by route (plans), smtpclient and transport (certificates) and
// daemon (settings, start and stop of [STS]).
//
// # Strength
//
// An operator's rule comes first, then REQUIRETLS, DANE, MTA-STS and last [tls]
// outbound. What is joined is never less than what one of them demands alone,
// with two exceptions that their owners make: an operator's rule that names a
// domain and says "none" or "opportunistic" sets aside what the domain publishes,
// and so does a message's "TLS-Required: No"; neither sets aside REQUIRETLS. DANE
// wins over MTA-STS (RFC 8461 2): a host with usable TLSA records is judged by
// them alone.
//
// # Goroutines
//
// [STS] owns those of its fetches, at most [MaxFetches] of which are on the wire
// at once, and one that refreshes policies before they expire. Start begins them,
// Stop ends them and waits. Everything else runs in its caller's.
package tlspolicy
