// Package dsn builds and parses delivery status notifications: the messages
// that tell a sender what became of a message (RFC 3461 6, RFC 3464, RFC 6522,
// and RFC 6533 where an address is not ASCII).
//
// It decides nothing: whether a report is owed, to whom it goes and what a
// reply means is settled before it is asked to write. It does no I/O of its
// own (it writes to a writer and reads the original through a reader it is
// given), starts no goroutine, reads no clock and draws no random numbers. Its
// callers are the reporter in submit and, for parsing, whoever takes in what
// comes back.
package dsn
