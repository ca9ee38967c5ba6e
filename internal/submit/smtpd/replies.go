package smtpd

import (
	"bytes"
	"strconv"
	"time"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

// The replies that are always the same.
const (
	replyOK              = "250 2.0.0 Ok\r\n"
	replySenderOK        = "250 2.1.0 Ok\r\n"
	replyRecipientOK     = "250 2.1.5 Ok\r\n"
	replyGoAhead         = "354 End data with <CR><LF>.<CR><LF>\r\n"
	replyBye             = "221 2.0.0 Bye\r\n"
	replyVrfy            = "252 2.0.0 Addresses are not verified here; send the message and it is tried\r\n"
	replyHelp            = "214 2.0.0 Commands: HELO EHLO STARTTLS AUTH MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n"
	replyQueued          = "250 2.0.0 queued as "
	replyUnknown         = "500 5.5.2 Command not known\r\n"
	replyNotOffered      = "502 5.5.1 Command not offered here\r\n"
	replyNotSMTP         = "421 4.7.0 This is an SMTP server\r\n"
	replyBadLine         = "500 5.5.2 Command lines are printable characters that end with CR LF\r\n"
	replyEightBit        = "500 5.5.2 Characters outside ASCII need SMTPUTF8\r\n"
	replyNeedsUTF8       = "553 5.6.7 Characters outside ASCII need SMTPUTF8 with MAIL\r\n" // RFC 6531 3.5
	replyLineTooLong     = "500 5.5.6 Command line too long\r\n"
	replyTooManyErrors   = "421 4.7.0 Too many errors\r\n"
	replyTooManyCommands = "421 4.7.0 Too many commands without a message\r\n"
	replyStopping        = "421 4.3.2 Shutting down, try again later\r\n"
	replyTimeout         = "421 4.4.2 Time limit exceeded\r\n"
	replyInternal        = "451 4.3.0 Local trouble, try again later\r\n"
	replyNoHello         = "503 5.5.1 Say EHLO or HELO first\r\n"
	replyNested          = "503 5.5.1 A transaction is open already; RSET ends it\r\n"
	replyNoMail          = "503 5.5.1 MAIL comes first\r\n"
	replyNoRecipient     = "503 5.5.1 RCPT comes first\r\n"
	replyNoneValid       = "554 5.5.1 No valid recipients\r\n"
	replyInChunks        = "503 5.5.1 The message is being sent with BDAT\r\n"
	replyDataArgument    = "501 5.5.4 DATA has no argument\r\n"
	replyRequireTLS      = "555 5.5.4 REQUIRETLS is not offered on this connection\r\n"
	replyTooLarge        = "552 5.3.4 Message larger than the limit\r\n"
	replyTooMany         = "452 4.5.3 Too many recipients, send the others in a further transaction\r\n"
	replyNoPostmaster    = "550 5.1.1 No postmaster is configured here\r\n"
)

// The replies of TLS and AUTH, and before them.
const (
	replyTooManyFromPeer = "421 4.7.0 too many connections from your address, try again later\r\n"

	replyReadyTLS      = "220 2.0.0 Ready to start TLS\r\n"
	replyHaveTLS       = "503 5.5.1 TLS is on already\r\n"
	replyTLSArgument   = "501 5.5.4 STARTTLS has no argument\r\n"
	replyTLSPipelined  = "421 4.7.0 Commands came behind STARTTLS in clear text; closing\r\n"
	replyTLSLater      = "454 4.7.0 TLS is not available yet, try again later\r\n"         // RFC 3207 4
	replyTLSFirst      = "530 5.7.0 Must issue a STARTTLS command first\r\n"               // RFC 3207 4
	replyAuthFirst     = "530 5.7.0 Authentication required\r\n"                           // RFC 4954 6
	replyAuthNeedsTLS  = "538 5.7.11 Encryption required for authentication\r\n"           // RFC 4954 6
	replyAuthEhlo      = "503 5.5.1 Say EHLO before AUTH\r\n"                              // RFC 4954 4
	replyAuthNested    = "503 5.5.1 AUTH is not permitted in a transaction\r\n"            // RFC 4954 4
	replyAuthTwice     = "503 5.5.1 Signed in already\r\n"                                 // RFC 4954 4
	replyAuthMechanism = "504 5.5.4 This mechanism is not offered\r\n"                     // RFC 4954 4
	replyAuthCancelled = "501 5.7.0 Authentication cancelled\r\n"                          // RFC 4954 4
	replyAuthBase64    = "501 5.5.2 This is not base64\r\n"                                // RFC 4954 4
	replyAuthForm      = "501 5.5.2 This is not a response of the mechanism\r\n"           // RFC 4954 6
	replyTooFar        = "501 5.5.4 The time of release is too far ahead\r\n"              // RFC 4865 4
	replyAuthDenied    = "535 5.7.8 Authentication credentials invalid\r\n"                // RFC 4954 6
	replyAuthBusy      = "454 4.7.0 Temporary authentication failure, try again later\r\n" // RFC 4954 6
	replyAuthOK        = "235 2.7.0 Authentication successful\r\n"                         // RFC 4954 6
	replyAuthTooMany   = "421 4.7.0 Too many failed sign-ins\r\n"
	replyTrustedOnly   = "554 5.7.1 Only the trusted networks of this listener are served here\r\n" // RFC 5321 3.1
)

// ehloReply names the extensions that are offered, under TLS or not; bound says
// that SCRAM can be bound to it. endOfEhlo follows.
func (s *settings) ehloReply(secure, bound bool) []byte {
	b := append([]byte("250-"), s.Hostname...)
	b = append(b, "\r\n250-PIPELINING\r\n250-SIZE "...)
	b = strconv.AppendInt(b, s.Limits.MessageSize, 10)
	if s.startTLS() && !secure {
		b = append(b, "\r\n250-STARTTLS"...)
	}
	if s.auth(secure) {
		b = append(b, "\r\n250-AUTH "...)
		if s.Users.SCRAM() {
			if bound {
				b = append(b, "SCRAM-SHA-256-PLUS "...)
			}
			b = append(b, "SCRAM-SHA-256 "...)
		}
		b = append(b, "PLAIN LOGIN"...)
	}
	if secure { // RFC 8689 2: under TLS alone
		b = append(b, "\r\n250-REQUIRETLS"...)
	}
	return append(b, "\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n"...)
}

// endOfEhlo appends the extensions whose offer depends on the time (RFC 4865 4:
// the longest interval, and the latest time), and the last line.
func endOfEhlo(b []byte, now time.Time) []byte {
	b = append(b, "250-FUTURERELEASE "...)
	b = strconv.AppendInt(b, int64(mta.MaxNotBefore/time.Second), 10)
	b = now.Add(mta.MaxNotBefore).UTC().AppendFormat(append(b, ' '), time.RFC3339)
	return append(b, "\r\n250 CHUNKING\r\n"...)
}

// cleanLine takes the line end off a command line and reports whether all of
// it is ASCII, and whether it may be obeyed: it ends with CRLF (or, where bare
// line ends are repaired, with LF), and has no control character but tab.
func cleanLine(line []byte, ends submit.LineEnds) (text []byte, ascii, ok bool) {
	line = line[:len(line)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	} else if ends != submit.RepairBare {
		return nil, false, false
	}
	ascii = true
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f {
			return nil, false, false
		}
		ascii = ascii && c < 0x80
	}
	return line, ascii, true
}

// isHTTP reports whether an unknown command is the start of an HTTP request.
func isHTTP(line []byte) bool {
	for _, method := range []string{"GET ", "POST ", "PUT ", "HEAD ", "CONNECT ", "OPTIONS "} {
		if bytes.HasPrefix(line, []byte(method)) {
			return true
		}
	}
	return false
}
