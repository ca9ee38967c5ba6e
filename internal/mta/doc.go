// Package mta holds the nouns of mailout: message, envelope, recipient,
// delivery, attempt, route, host, reply, result, failure and journal record.
//
// It does nothing: no I/O, no goroutine, no clock, no randomness, no log.
// Whatever needs the time or a random number is given it. Every other package
// may import it; it imports the standard library only. The words and their
// meanings are those of docs/design.md, one word for one thing.
package mta
