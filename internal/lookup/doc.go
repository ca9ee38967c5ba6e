// Package lookup answers questions from tables that are too large for the
// configuration: [File] from a text file that may change at any time, [HTTP]
// from a service of the operator's.
//
// It knows neither what the keys nor what the values mean: its user, package
// route, gives the functions that read them. It decides nothing, logs nothing,
// and never takes "not known" for "not there": what cannot be read or asked is
// an error.
//
// # Bounds
//
// A file has at most [MaxLines] lines of at most [MaxLine] octets and
// [MaxValues] different values. In memory each line costs its key and about 16
// octets; while a changed file is read, the old and the new table are there. Of
// a service [MaxAnswers] answers with [MaxQuestions] octets of questions are
// kept; it has [AskTime] for each answer, of at most [MaxAnswer] octets.
//
// # Goroutines
//
// The package starts none, but for those with which net/http keeps connections
// open, until [HTTP.Close]. Its user calls [File.Refresh] from time to time.
package lookup
