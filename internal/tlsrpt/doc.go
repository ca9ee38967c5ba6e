// Package tlsrpt tells receivers daily how TLS with their mail servers went
// (SMTP TLS reporting, RFC 8460), as the sender of the reports.
//
// It takes one result a session (Count), adds it up by UTC day, recipient domain
// and policy, and after the day makes a report for each domain that asks for one
// by a record at _smtp._tls. It goes to the places that the record names: as
// mail, which it hands to intake like an application, or by HTTPS.
//
// It decides nothing about mail or about TLS. It is called by the daemon: Count
// by the carrier's many workers, who must not wait, so there is neither DNS nor
// disk in it.
//
// # Bounds
//
// At most MaxDomains domains are counted at a time, and all counts together take
// about MaxCounted octets. Whether a domain asks for reports is found out in the
// background when its first session ends: of one that does not ask, only a fixed
// table of hashes remembers it, so that a million of them cost what one costs. At
// most MaxUnknown domains wait for that answer; sessions of others are not
// counted meanwhile. Of a domain, MaxPolicies policies stand apart, and of each
// MaxDetails kinds of failure; what is beyond is added to one that names less.
//
// # Durability
//
// Counts are notes of the spool ("tlsrpt/day/"), written every KeepPace and at
// Stop: a crash loses at most what was counted since. What is under way to a
// receiver is a note too ("tlsrpt/job/"). A mail has an ID that follows from
// report and receiver, by which intake takes it once, whatever happens; a report
// by HTTPS may arrive a second time, with the same report-id, when the machine
// dies between the answer and its note.
//
// # Goroutines
//
// Start makes one that keeps the time, lookups of them that ask DNS, and it makes
// at most workers of them that send; Stop ends them all and waits.
package tlsrpt
