// Package warmup keeps new sources within what receivers take from an address
// they do not know: a ceiling a day for each provider, which grows by a plan.
//
// A [Ledger] counts the recipients that each warming source writes to, by
// provider ([mta.Route].Provider; hosts of nobody known share one account, so
// that the memory and the sum stay bounded). The queue takes from it before it
// hands a delivery out ([Ledger.Take]); what is refused goes by another source,
// or waits. The ledger learns from replies and complaints, and on bad signs it
// stops the source there for the rest of the day and steps its plan back.
//
// It never sends, chooses no source, bounces nothing, and says nothing to the
// queue of its own accord. daemon joins it to route (which marks routes), queue,
// and the parts that learn.
//
// # Ceilings are never passed, also over kill -9
//
// Take never blocks: it takes from what was reserved. A reservation is a count
// in the spool's notes ([spool.Notes], "warmup/SOURCE/PROVIDER") that is durable
// before any of it is used; its size is a sixteenth of what the day has left,
// from 1 to 256, so that little is at stake near the ceiling. After a crash the
// whole reservation counts as used: what was not is lost for that day, and never
// more. A stop in order writes what was used, and loses nothing.
//
// Days are UTC. An account remembers the last eight. A clock that is set back to
// one of them goes on with its count; on a day that is not remembered nothing
// is sent until the next begins. So no day's allowance is given twice.
//
// # Bounds
//
// At most 4096 accounts, of 8 days each; more providers of a source share the
// account of those nobody knows. At most 10,000 deliveries under way are
// remembered, to give back what was taken and not delivered; beyond, nothing is
// given back.
//
// # Goroutines
//
// Start begins one, which writes; Stop waits for it. The methods may be called
// from any goroutine, and hold a lock for short computations only.
package warmup
