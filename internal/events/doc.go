// Package events carries the journal to those who want to know: webhooks, a
// file of lines, syslog. Each of them is a follower of the spool's feed with a
// durable cursor of its own, so each gets every event at least once, across
// crashes, and none of them can hold up another one or a delivery.
//
// A cursor moves only when the receiver has acknowledged (2xx), or the disk
// has (fsync). Nothing is queued in memory: what waits, waits in the journal.
// docs/events.md is the page for those who receive.
//
// It must not write to the journal (its owner hands it a function for the rare
// note), nor know of HTTP routes: the event stream of the API reads the feed
// itself, with the Filter and the Event of this package.
//
// The daemon makes one Hub. Start, Stop and Reconfigure of the Hub own one
// goroutine for each follower, which owns those of its requests; Stop waits
// for all of them.
package events
