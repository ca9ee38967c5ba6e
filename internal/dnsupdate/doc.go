// Package dnsupdate publishes records by DNS update (RFC 2136), signed with a
// shared key (TSIG, RFC 8945). It finds out what stands in the zone and what
// would change ([Updater.Plan]), makes the changes under the condition that
// nobody changed the same records meanwhile ([Updater.Apply]), and reads back
// from the zone's servers until they agree ([Updater.ReadBack]).
//
// It must not decide which records are right: its callers do, which are
// `mailout records --apply` and the daemon's keeping of the address. It logs
// nothing, changes no zone but those of the one server it was told of, and
// retries no update: a lost reply leaves open whether it was made, and the
// next Plan shows it.
//
// # How a change is kept from being a wrong one
//
// Everything goes over TCP. What stands in the zone is asked of the server
// that takes the update, past every cache, and must carry its authority (AA).
// Each set of records goes in whole: the old set is a prerequisite (RFC 2136
// 2.4.2), or its absence is (2.4.3), and so is the absence of a CNAME, which
// the server would otherwise leave in place without an error (3.4.2.2). All
// changes of a zone are one message, made whole or not at all (3.4.2). A reply
// that is not signed by the key is not believed.
//
// # Bounds
//
// 100 changes a plan; 64 KiB an update; 10 s for each update and 5 s for each
// question; 8 servers of a zone, 30 s to agree.
//
// # Goroutines
//
// ReadBack owns one for each server, and ends when all have ended.
package dnsupdate
