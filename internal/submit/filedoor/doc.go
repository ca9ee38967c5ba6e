// Package filedoor is what the doors that take files share: the drop folder
// (submit/drop) and the pickup directories (submit/pickup). It tells of files
// that come, says whose they are, hands one to intake, does so for several side
// by side, and says each complaint once.
//
// It decides neither which files are mail nor what becomes of them. The
// goroutine of a watch belongs to whoever started it and ends with its stop;
// those of Each end before it returns.
package filedoor
