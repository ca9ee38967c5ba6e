// Package smtp is the grammar of SMTP: mailboxes and paths, commands and their
// parameters, replies with enhanced codes, the extensions named by EHLO,
// dot-stuffing and xtext (RFC 5321, 1870, 2034, 3030, 3461, 6152, 6531, 6533,
// 8689, 9422). Doors and client, the command line and the test servers all
// read and write SMTP through it, so one octet means the same everywhere.
//
// It is pure: it dials nothing, starts no goroutine, knows no clock, logs
// nothing. Where it reads or writes a stream the caller hands it the
// interface, and the caller's deadlines hold. What a reply means for mail is
// not decided here (transport/trouble.go does), nor whether a domain exists.
//
// Functions are safe for concurrent use; DotWriter and DotScanner belong to
// one goroutine at a time.
package smtp
