// Package compose builds a message from its parts: addresses, subject, text,
// HTML, header fields and files. What it gives has CRLF line ends, lines of at
// most 998 octets and octets below 128 only, and internal/lint finds nothing in
// it that the caller did not ask for; docs/compose.md says what it makes of
// what. The one exception to 7 bits is an address whose local part is not
// ASCII: it cannot be written otherwise (RFC 6532).
//
// Whatever a caller gives is taken for hostile: a value that might end a line,
// a file name with a path, a field that only a server writes, and what passes
// a bound is refused with a *FieldError that names the field as the JSON API
// does. Nothing is dropped or shortened.
//
// The MIME structure is made by github.com/wneessen/go-mail, the header fields
// by internal/header. The package sends nothing, reads no file, starts no
// goroutines, and takes only the time and randomness of a message without Date
// and Message-ID from its surroundings. Its callers are the HTTP doors and
// `mailout compose`.
package compose
