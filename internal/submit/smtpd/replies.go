package smtpd

import (
	"bytes"
	"strconv"

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
	replyHelp            = "214 2.0.0 Commands: HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT\r\n"
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

// ehloReply names the extensions. STARTTLS and AUTH depend on the session and
// are not offered yet.
func ehloReply(hostname string, size int64) []byte {
	b := append([]byte("250-"), hostname...)
	b = append(b, "\r\n250-PIPELINING\r\n250-SIZE "...)
	b = strconv.AppendInt(b, size, 10)
	return append(b, "\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250-DSN\r\n250 CHUNKING\r\n"...)
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
