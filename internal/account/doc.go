// Package account knows the users who may send: how their passwords are kept
// and checked, which addresses each may send from, its stream and its rate. A
// Book holds them all for every door, a Guard slows down those who guess.
//
// It reads no file and opens no connection: the configuration makes the users,
// the doors (submit/smtpd) ask. It never keeps or logs a password. It starts no
// goroutine; its types are safe for concurrent use.
package account
