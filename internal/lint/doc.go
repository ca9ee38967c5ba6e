// Package lint says what receivers will dislike in a message: broken rules of
// RFC 5322, MIME and RFC 8058, and habits that the large receivers and the
// common filters publish that they refuse. Each finding has an id, a severity,
// the line, a sentence, and the source of its rule; docs/lint.md lists them.
//
// It changes nothing and mends nothing: what mailout itself completes or takes
// out on acceptance is said to be so. It asks no network, so that whether a
// signature verifies or a domain exists is not its business. The package is
// pure: no I/O, no clock, no log and no goroutines. Its caller is `mailout
// lint`.
package lint
