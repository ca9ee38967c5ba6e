// Package pebble is the embedded engine of the spool: one machine, no set-up,
// built on the LSM store of the same name. It keeps the contract of package
// spool; docs/spool.md has its keys, its commit protocol and the argument why
// a crash at any point is safe.
//
// It must not order mail, interpret replies or decide anything about a
// delivery. It is called by submit (Draft, Put), queue (Settle, Page, Open),
// admin and journal (reads), and opened and closed by daemon.
//
// Goroutines: pebble's own, and one that removes orphaned body files after
// the start. Close ends them all and waits.
package pebble
