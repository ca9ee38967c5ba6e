// Package returns takes what comes back: bounces and complaints. It gives
// outgoing mail return paths of its own domain, each with a tag that only the key
// in the spool makes; it is the door for them (an Acceptor of submit, behind an
// SMTP listener), reads what comes, finds the message and the recipient that the
// tag names, writes into the journal what became of them, tells the sender, and
// lets the suppression list know.
//
// It must not relay, nor answer anything that comes with mail to its sender. What
// carries no tag is refused, and a tag says which recipients a report may speak
// of, whatever the report claims. It is called by daemon and by the carrier.
//
// An Office owns one goroutine between Start and Stop, which renews the key.
package returns
