package smtpd

import "sync/atomic"

// Counts are totals since the Server was made, for the metrics.
type Counts struct {
	Active       int64 // sessions open now
	Connections  int64 // accepted
	TurnedAway   int64 // connections answered 421 for a connection limit
	Messages     int64 // accepted: 250 with an ID
	Recipients   int64 // of accepted messages
	Octets       int64 // of accepted content
	Refused      int64 // messages refused after content or at DATA
	RelayDenied  int64 // RCPT from a network that is not trusted
	Errors       int64 // errors as Limits.Errors counts them
	TimedOut     int64 // sessions ended by a time limit
	Internal     int64 // answered 451 4.3.0: our fault, in the log
	TLS          int64 // handshakes that succeeded
	TLSFailed    int64 // and that did not
	SignedIn     int64 // AUTH that succeeded
	SignInFailed int64 // and that was denied or put off
}

// counters is Counts in the making.
type counters struct {
	active, connections, turnedAway, messages, recipients, octets, refused, relayDenied, errors, timedOut, internal,
	tls, tlsFailed, signedIn, signInFailed atomic.Int64
}

func (c *counters) snapshot() Counts {
	return Counts{
		Active:       c.active.Load(),
		Connections:  c.connections.Load(),
		TurnedAway:   c.turnedAway.Load(),
		Messages:     c.messages.Load(),
		Recipients:   c.recipients.Load(),
		Octets:       c.octets.Load(),
		Refused:      c.refused.Load(),
		RelayDenied:  c.relayDenied.Load(),
		Errors:       c.errors.Load(),
		TimedOut:     c.timedOut.Load(),
		Internal:     c.internal.Load(),
		TLS:          c.tls.Load(),
		TLSFailed:    c.tlsFailed.Load(),
		SignedIn:     c.signedIn.Load(),
		SignInFailed: c.signInFailed.Load(),
	}
}
