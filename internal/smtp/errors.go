package smtp

import "mailout/internal/mta"

// SyntaxError says that an address, command or parameter is not what the
// grammar allows, together with the reply a server gives for it.
type SyntaxError struct {
	Code     int          // 500, 501, 503, 550, 553 or 555
	Enhanced mta.Enhanced // 5.1.2, 5.1.3, 5.1.7, 5.5.2, 5.5.4, 5.6.7, …
	Text     string       // for people: what is wrong, ASCII
}

// Error implements error.
func (e *SyntaxError) Error() string { return e.Text }

// Reply is the answer to give on the wire.
func (e *SyntaxError) Reply() mta.Reply {
	return mta.Reply{Code: e.Code, Enhanced: e.Enhanced, Text: e.Text}
}

// The enhanced codes of this package (RFC 3463, RFC 6531 3.5).
var (
	codeBadDomain    = mta.Enhanced{Class: 5, Subject: 1, Detail: 2}
	codeBadMailbox   = mta.Enhanced{Class: 5, Subject: 1, Detail: 3}
	codeBadSender    = mta.Enhanced{Class: 5, Subject: 1, Detail: 7}
	codeSyntax       = mta.Enhanced{Class: 5, Subject: 5, Detail: 2}
	codeBadParameter = mta.Enhanced{Class: 5, Subject: 5, Detail: 4}
	codeNeedsUTF8    = mta.Enhanced{Class: 5, Subject: 6, Detail: 7}
)

func badMailbox(text string) error   { return &SyntaxError{501, codeBadMailbox, text} }
func badDomain(text string) error    { return &SyntaxError{550, codeBadDomain, text} }
func needsUTF8(text string) error    { return &SyntaxError{553, codeNeedsUTF8, text} }
func badSyntax(text string) error    { return &SyntaxError{501, codeSyntax, text} }
func badParameter(text string) error { return &SyntaxError{501, codeBadParameter, text} }
func unknownParameter(text string) error {
	return &SyntaxError{555, codeBadParameter, text}
}

// forSender gives an address's error the code for senders: 5.1.7 (RFC 3463
// 3.2). A missing SMTPUTF8 keeps its own code.
func forSender(err error) error {
	e, ok := err.(*SyntaxError)
	if !ok || e.Enhanced != codeBadMailbox && e.Enhanced != codeBadDomain {
		return err
	}
	return &SyntaxError{501, codeBadSender, e.Text}
}
