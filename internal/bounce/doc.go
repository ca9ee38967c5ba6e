// Package bounce says what the reply of a receiving server means: one of a
// closed set of classes, each with the action that it calls for. It goes by
// the reply's code, its enhanced code and, before these, its words, since
// servers are freer with codes than with words.
//
// The rules are data (rules.tsv); an operator's own come before them. The
// package knows nothing of retries and changes nothing: transport/trouble.go
// decides what happens to a message. It does no I/O and starts no goroutine.
package bounce
