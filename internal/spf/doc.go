// Package spf reads SPF records and changes them: it parses a record of RFC
// 7208 into its terms, says what is wrong or doubtful in it, joins several
// records into the one that may stand there, and merges addresses into a
// record without changing what else it says.
//
// It must not evaluate a record for a message (a library does that), must not
// ask DNS, and must not decide which addresses belong in a record: doctor does.
//
// Everything here is pure: values in, values out, no goroutine.
package spf
