// Package suppress keeps the list of addresses that get no mail: those that are
// dead, whose owners complained or unsubscribed, and those that an operator put
// there. It says whether an address is on it (Find), learns from what receivers
// answer and from what comes back (Learn, Report), and serves the list to
// operators and programs (Register).
//
// It must not decide what becomes of mail: intake and the carrier ask it and act.
// A question never fails and never waits for more than a look into the store:
// trouble of ours is logged, and the address counts as not listed. Entries are
// notes of the spool (spool.Notes) under "suppress/". It is called by daemon,
// intake, the carrier and the returns.
//
// A List owns one goroutine between Start and Stop: it reads the list once for
// the filter in memory, writes what was learned, and removes what has expired.
package suppress
