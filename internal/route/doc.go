// Package route decides where mail for a recipient domain goes: to which hosts
// in which order, over which port, from which source, with how much TLS, and
// which other destinations share their limits (the site).
//
// A [Planner] takes the first [[route]] whose pattern matches the domain, else
// the router, else the domain's mail exchangers by RFC 5321 5.1. It decides
// nothing about failures: it says what is known ([mta.Failure] with StageRoute
// and a cause), and transport/trouble.go says what that means for mail. It
// never dials, sends nothing, and keeps no routes: the queue asks again when
// one has expired; answers of DNS are cached in dns.
//
// It is called by the queue's planner and by `mailout explain`.
//
// # Ourselves, and addresses that are refused
//
// We are found in an MX set by our hostname or a source's, or by an address and
// port that we listen on. Everything at that preference and beyond is cut, so
// that mail never goes back towards where it came from; nothing left is a loop.
// localhost and addresses that nobody can have (0.0.0.0/8, ::, multicast,
// reserved) are skipped always; loopback, private, shared and link-local ones
// unless the settings allow them, IPv4 addresses inside IPv6 ones (NAT64, 6to4)
// included. Hosts that the operator configured may have any but the impossible
// addresses.
//
// # Bounds
//
// Of an MX set 100 hosts are kept (dns.MaxRecords). Addresses are looked up
// eight hosts at a time until MaxHosts have some and the preference begun is
// complete, of at most 20 hosts. A route is good for the shortest TTL of its
// answers, between a second and an hour, five minutes at most when part of them
// failed.
//
// # Goroutines
//
// The planner owns none. Route starts at most eight for its look-ups and has
// waited for them when it returns.
package route
