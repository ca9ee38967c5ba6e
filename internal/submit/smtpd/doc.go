// Package smtpd is the SMTP door: it takes messages from applications over RFC
// 5321 with PIPELINING (2920), SIZE (1870), 8BITMIME (6152), SMTPUTF8 (6531),
// ENHANCEDSTATUSCODES (2034), DSN (3461), FUTURERELEASE
// (4865) and CHUNKING (3030), and hands each to
// intake (submit.Acceptor). It answers "250 2.0.0 queued as ID" only with the
// ID that intake gave, that is, after the message is on stable storage.
//
// It relays for trusted networks only, keeps the session in step whatever
// comes, and decides nothing about content or delivery: bare line ends and NUL
// pass through to intake, and everything after acceptance is the queue's.
//
// The daemon makes one Server for each [[listen]]. A Server owns one goroutine
// that accepts and one for each session; Stop ends them all and waits.
package smtpd
