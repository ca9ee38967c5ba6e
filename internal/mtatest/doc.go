// Package mtatest is the world around mailout in small: a DNS server whose
// answers are scripted, receiving mail servers that behave well or badly as
// told, an in-memory network, a client that hands mail over, and the daemon
// itself as a process of its own.
//
// It serves tests, `mailout demo` and `mailout sink`; nothing else may import
// it. It shares no code with internal/smtp, internal/submit/smtpd,
// internal/smtpclient or internal/dns, so that it can disagree with them: the
// receiving server notes every breach of the protocol that it sees
// (MX.Violations).
//
// It decides nothing by the clock; the only timers are delays that a script
// asks for, and the limits of those who wait for a process. Servers and client
// also work over connections of Pipe and Net, which are usable inside a
// testing/synctest bubble.
//
// Goroutines: DNS and MX own one for each listener and connection and end
// them in Stop; Net owns those of the handlers it calls and ends them in
// Close; Load owns its sessions and ends them before Run returns; Daemon owns
// one that reads its log until the process is gone.
package mtatest
