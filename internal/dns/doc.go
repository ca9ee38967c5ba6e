// Package dns asks the configured name servers for MX, A, AAAA, TXT, PTR and
// TLSA records. It keeps a bounded cache, reads the hosts file, follows CNAMEs
// and reports whether an answer is authenticated.
//
// A [Resolver] is a stub resolver (RFC 1034 5.3.1): it never iterates from the
// root. Names are always absolute; no search domain is ever appended. It knows
// nothing of mail: what a missing record means is decided by its callers, which
// are route, tlspolicy and doctor.
//
// Secure is the AD bit of a server that is trusted and passed a self-test, or
// the verdict of package dnssec about the answer of another one; see
// [DNSSECMode] and docs/dnssec.md. What is found bogus is an error of the Kind
// Bogus, which is temporary.
//
// # How a question travels
//
// The cache is looked at first. Callers that ask the same question at the same
// time share one look-up. It makes two rounds over the servers in their order;
// a server that gave no answer within the last ten seconds is asked last. Each
// query has a socket and a random ID of its own, goes over UDP with EDNS0 (1232
// octets, DO and AD set), again over TCP when the answer is truncated or
// broken, and again without EDNS0 when the server does not know it. SERVFAIL,
// REFUSED, a referral and silence lead to the next server. Servers that are to be
// asked over TLS are asked over nothing else.
//
// # Bounds
//
// 10 CNAMEs a chain; 100 records an answer; 512 queries under way; 100,000
// cache entries and 64 MiB of cached data; 100,000 names of a hosts file of at
// most 8 MiB; 16 servers; 8 idle connections to each that is asked over TLS, for
// ten seconds; those of package dnssec, and four time-outs for a chain. Positive answers are kept for their TTL, between a
// second and a day; negative ones as RFC 2308 5 says, at most five minutes,
// because a bounce cannot be taken back; failures for one second.
//
// # Goroutines
//
// The resolver owns one goroutine for each look-up under way, so that a caller
// that gives up does not take the answer away from the others. It ends when the
// look-up ends, when its last caller gives up, or in Close, which waits for all.
// One more repeats the self-test of DNSSEC, from the first question on until
// Reconfigure or Close.
package dns
