// Package eightbit makes a message fit for a host that takes 7-bit content
// only (RFC 6152 3): it gives the parts of a MIME message that have octets
// above 127, or lines that SMTP does not carry, a transfer encoding.
//
// What it never alters: multipart/signed and multipart/encrypted with all
// inside, application/pkcs7-mime and pkcs7-signature, message/* parts, parts
// that are encoded already, and header fields (whose octets above 127 are a
// matter of SMTPUTF8). A message whose MIME structure is broken stays as it
// is, octet for octet.
//
// It does no I/O of its own (content comes through a reader it is given),
// starts no goroutine, reads no clock and writes no log. Its caller is the
// transport, at the attempt, before signing.
package eightbit
