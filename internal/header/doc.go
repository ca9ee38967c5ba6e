// Package header reads, checks, completes and writes message header fields
// (RFC 5322 2.2, RFC 6532), keeping the octets and the order of what it was
// given.
//
// What is no header is defined here, once, for every part that looks at
// content: a header is a row of fields, ended by an empty line, by the end of
// the content, or by the first line that is neither a field nor the
// continuation of one. In the last case that line belongs to the body, and
// whoever stores the message writes an empty line before it, so that body is
// never taken for header nor header for body.
//
// The package does no I/O of its own, starts no goroutine, reads no clock and
// writes no log. Its callers are intake, dsn, eightbit, transport and the doors
// that make messages; a Header belongs to the goroutine that feeds it.
package header
