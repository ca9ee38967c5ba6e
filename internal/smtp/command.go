package smtp

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"mailout/internal/mta"
)

// Verb is the command word of a line.
type Verb uint8

// The verbs. VerbUnknown is every word that is none of the others.
const (
	VerbUnknown Verb = iota
	VerbHelo
	VerbEhlo
	VerbMail
	VerbRcpt
	VerbData
	VerbBdat
	VerbRset
	VerbNoop
	VerbVrfy
	VerbExpn
	VerbHelp
	VerbQuit
	VerbStartTLS
	VerbAuth
)

var verbNames = [...]string{"", "HELO", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "NOOP", "VRFY", "EXPN", "HELP", "QUIT", "STARTTLS", "AUTH"}

// String gives the verb in capitals, "" for VerbUnknown.
func (v Verb) String() string { return verbNames[v] }

// ParseCommand splits a command line, without its line end, into verb and
// argument (RFC 5321 4.1.1). Verbs match in any case; spaces around the
// argument are dropped. arg aliases line.
func ParseCommand(line []byte) (v Verb, arg []byte) {
	n := 0
	for n < len(line) && line[n] != ' ' && line[n] != '\t' {
		n++
	}
	for i := VerbHelo; i <= VerbAuth; i++ {
		if foldEqual(line[:n], verbNames[i]) {
			v = i
			break
		}
	}
	arg = line[n:]
	for len(arg) > 0 && (arg[0] == ' ' || arg[0] == '\t') {
		arg = arg[1:]
	}
	for len(arg) > 0 && (arg[len(arg)-1] == ' ' || arg[len(arg)-1] == '\t') {
		arg = arg[:len(arg)-1]
	}
	return v, arg
}

// foldEqual compares b with an upper-case ASCII word.
func foldEqual(b []byte, word string) bool {
	if len(b) != len(word) {
		return false
	}
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != word[i] {
			return false
		}
	}
	return true
}

// Body is the value of MAIL's BODY parameter (RFC 6152).
type Body uint8

// The values of BODY.
const (
	BodyDefault Body = iota
	Body7Bit
	Body8BitMIME
)

// Mail is a MAIL command: return path and parameters.
type Mail struct {
	Sender     Mailbox // the null path is the zero Mailbox
	Size       int64   // SIZE= (RFC 1870); 0 when absent
	Body       Body
	SMTPUTF8   bool // RFC 6531 3.4
	RequireTLS bool // RFC 8689
	Ret        mta.Ret
	EnvID      string // decoded from xtext, at most 100 octets (RFC 3461 4.4)
	// HoldFor and HoldUntil are when the message may be released (RFC 4865 4): at
	// most one is set, HoldFor in whole seconds.
	HoldFor   time.Duration
	HoldUntil time.Time // UTC
}

// Rcpt is a RCPT command: recipient and parameters.
type Rcpt struct {
	Recipient Mailbox // Domain is empty for <postmaster>
	Notify    mta.Notify
	ORcpt     string // "type;address", decoded (RFC 3461 4.2, RFC 6533); "" when absent
}

// MaxEnvID and MaxORcpt bound ENVID and ORCPT, in octets (RFC 3461 4.4, 4.2).
const (
	MaxEnvID = 100
	MaxORcpt = 500
)

// ParseMail reads the argument of MAIL: "FROM:<path> parameters". Unknown
// parameters are refused with 555, wrong values with 501 5.5.4; addresses as
// ParsePath does, but with 5.1.7. Errors are *SyntaxError.
func ParseMail(arg string) (Mail, error) {
	var m Mail
	in, params, err := cutKeyword(arg, "FROM:")
	if err != nil {
		return m, forSender(err)
	}
	if err := eachParameter(params, m.parameter); err != nil {
		return Mail{}, err
	}
	m.Sender, err = parseInnerPath(in, m.SMTPUTF8)
	if err == nil && m.Sender.Domain == "" && !m.Sender.IsNull() { // "postmaster" may stand alone as a recipient only
		err = badMailbox("the address has no domain; write it in full: <user@example.com>")
	}
	if err != nil {
		return Mail{}, forSender(err)
	}
	return m, nil
}

// ParseRcpt reads the argument of RCPT: "TO:<path> parameters". utf8ok says
// that the transaction's MAIL had SMTPUTF8. It does not apply CheckRecipient.
// Errors are *SyntaxError.
func ParseRcpt(arg string, utf8ok bool) (Rcpt, error) {
	var r Rcpt
	in, params, err := cutKeyword(arg, "TO:")
	if err != nil {
		return r, err
	}
	if r.Recipient, err = parseInnerPath(in, utf8ok); err != nil {
		return Rcpt{}, err
	}
	if r.Recipient.IsNull() {
		return Rcpt{}, badMailbox("the null path <> is no recipient; write <user@example.com>")
	}
	if err := eachParameter(params, r.parameter); err != nil {
		return Rcpt{}, err
	}
	return r, nil
}

func cutKeyword(arg, keyword string) (in, params string, err error) {
	if len(arg) < len(keyword) || !strings.EqualFold(arg[:len(keyword)], keyword) {
		return "", "", badSyntax("write " + keyword + "<address>")
	}
	return cutPath(arg[len(keyword):])
}

// eachParameter calls f for every esmtp-param (RFC 5321 4.1.2) and refuses one
// given twice.
func eachParameter(params string, f func(key, value string, hasValue bool) error) error {
	var seen [10]string
	n := 0
	for word := range strings.FieldsSeq(params) {
		key, value, hasValue := strings.Cut(word, "=")
		for _, k := range seen[:n] {
			if strings.EqualFold(k, key) {
				return badParameter("parameter given twice")
			}
		}
		if err := f(key, value, hasValue); err != nil {
			return err
		}
		if n < len(seen) { // more than are known cannot come: f has refused them
			seen[n] = key
			n++
		}
	}
	return nil
}

// parameter takes one parameter of MAIL.
func (m *Mail) parameter(key, value string, hasValue bool) (err error) {
	switch {
	case strings.EqualFold(key, "SIZE"):
		m.Size, err = parseSize(value)
	case strings.EqualFold(key, "BODY"):
		switch {
		case strings.EqualFold(value, "7BIT"):
			m.Body = Body7Bit
		case strings.EqualFold(value, "8BITMIME"):
			m.Body = Body8BitMIME
		default:
			err = badParameter("BODY is 7BIT or 8BITMIME")
		}
	case strings.EqualFold(key, "SMTPUTF8") && !hasValue:
		m.SMTPUTF8 = true
	case strings.EqualFold(key, "REQUIRETLS") && !hasValue:
		m.RequireTLS = true
	case strings.EqualFold(key, "RET"):
		switch {
		case strings.EqualFold(value, "FULL"):
			m.Ret = mta.RetFull
		case strings.EqualFold(value, "HDRS"):
			m.Ret = mta.RetHeaders
		default:
			err = badParameter("RET is FULL or HDRS")
		}
	case strings.EqualFold(key, "ENVID"):
		m.EnvID, err = parseEnvID(value)
	case strings.EqualFold(key, "HOLDFOR"), strings.EqualFold(key, "HOLDUNTIL"):
		err = m.hold(key, value)
	case strings.EqualFold(key, "AUTH"):
		// RFC 4954 5: who submitted the message at first. Any value may be taken
		// for "<>", which says nothing.
		if _, xerr := DecodeXtext(value); value == "" || xerr != nil {
			err = badParameter("AUTH is an address in xtext, or <>")
		}
	default:
		err = unknownParameter("this MAIL parameter is not known")
	}
	return err
}

// hold takes a time of release (RFC 4865 4, with erratum 2040): an interval of
// up to nine digits, or a time of RFC 3339.
func (m *Mail) hold(key, value string) error {
	if m.HoldFor != 0 || !m.HoldUntil.IsZero() {
		return badParameter("HOLDFOR and HOLDUNTIL do not go together")
	}
	if strings.EqualFold(key, "HOLDFOR") {
		seconds, ok := parseDecimal(value, 9)
		if !ok || seconds == 0 {
			return badParameter("HOLDFOR is a number of seconds")
		}
		m.HoldFor = time.Duration(seconds) * time.Second
		return nil
	}
	t, err := time.Parse(time.RFC3339, strings.ToUpper(value))
	if err != nil || t.UTC().Year() < 1 || t.UTC().Year() > 9999 {
		return badParameter("HOLDUNTIL is a time as 2026-03-01T12:00:00Z")
	}
	m.HoldUntil = t.UTC()
	return nil
}

// Release is when the message of a command given at now may be released; zero
// when it says nothing.
func (m *Mail) Release(now time.Time) time.Time {
	if m.HoldFor > 0 {
		return now.Add(m.HoldFor)
	}
	return m.HoldUntil
}

// parameter takes one parameter of RCPT.
func (r *Rcpt) parameter(key, value string, _ bool) (err error) {
	switch {
	case strings.EqualFold(key, "NOTIFY"):
		r.Notify, err = parseNotify(value)
	case strings.EqualFold(key, "ORCPT"):
		r.ORcpt, err = ParseORcpt(value)
	default:
		err = unknownParameter("this RCPT parameter is not known")
	}
	return err
}

// parseSize reads size-value: 1 to 20 digits (RFC 1870 5). What no 64-bit
// count holds is the largest count: too large for every limit.
func parseSize(s string) (int64, error) {
	n, ok := parseDecimal(s, 20)
	if !ok {
		return 0, badParameter("SIZE is a number of octets")
	}
	return n, nil
}

// parseDecimal reads up to max digits, saturating at the largest int64.
func parseDecimal(s string, max int) (int64, bool) {
	if s == "" || len(s) > max {
		return 0, false
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		n = 1<<63 - 1
	}
	return n, true
}

func parseEnvID(s string) (string, error) {
	id, err := DecodeXtext(s)
	if err != nil || len(id) > MaxEnvID || id == "" {
		return "", badParameter("ENVID is xtext of 1 to 100 octets")
	}
	return id, nil
}

// parseNotify reads RFC 3461 4.1: NEVER alone, or a list of the others.
func parseNotify(s string) (mta.Notify, error) {
	if strings.EqualFold(s, "NEVER") {
		return mta.NotifyNever, nil
	}
	var n mta.Notify
	for word := range strings.SplitSeq(s, ",") {
		switch {
		case strings.EqualFold(word, "SUCCESS"):
			n |= mta.NotifySuccess
		case strings.EqualFold(word, "FAILURE"):
			n |= mta.NotifyFailure
		case strings.EqualFold(word, "DELAY"):
			n |= mta.NotifyDelay
		default:
			return 0, badParameter("NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY")
		}
	}
	return n, nil
}

// ParseBdat reads the argument of BDAT: "octets [LAST]" (RFC 3030 2).
func ParseBdat(arg string) (size int64, last bool, err error) {
	number, word, _ := strings.Cut(arg, " ")
	word = strings.TrimLeft(word, " ")
	size, ok := parseDecimal(number, 20)
	if !ok || size == 1<<63-1 || word != "" && !strings.EqualFold(word, "LAST") {
		return 0, false, badParameter("write BDAT octets, or BDAT octets LAST")
	}
	return size, word != "", nil
}

// ParseHelo checks the argument of HELO or EHLO as a server takes it: one
// word of at most 255 printable octets, whatever its form, since old devices
// send short names, underscores and bare addresses.
func ParseHelo(arg string) (string, error) {
	if arg == "" {
		return "", badSyntax("the host name is missing")
	}
	if len(arg) > 255 || !utf8.ValidString(arg) {
		return "", badSyntax("the host name is not usable")
	}
	for i, r := range arg {
		if r == ' ' || isHarmful(r, arg[i:]) {
			return "", badSyntax("the host name is not usable")
		}
	}
	return arg, nil
}

// Append appends the command line with its CRLF: the parameters are those that
// are set. The caller has cleared what the server does not offer.
func (m *Mail) Append(b []byte) []byte {
	b = appendPath(append(b, "MAIL FROM:"...), m.Sender)
	if m.Size > 0 {
		b = strconv.AppendInt(append(b, " SIZE="...), m.Size, 10)
	}
	switch m.Body {
	case Body7Bit:
		b = append(b, " BODY=7BIT"...)
	case Body8BitMIME:
		b = append(b, " BODY=8BITMIME"...)
	}
	if m.SMTPUTF8 {
		b = append(b, " SMTPUTF8"...)
	}
	if m.RequireTLS {
		b = append(b, " REQUIRETLS"...)
	}
	switch m.Ret {
	case mta.RetFull:
		b = append(b, " RET=FULL"...)
	case mta.RetHeaders:
		b = append(b, " RET=HDRS"...)
	}
	if m.EnvID != "" {
		b = AppendXtext(append(b, " ENVID="...), m.EnvID)
	}
	switch {
	case m.HoldFor > 0:
		b = strconv.AppendInt(append(b, " HOLDFOR="...), int64(m.HoldFor/time.Second), 10)
	case !m.HoldUntil.IsZero():
		b = m.HoldUntil.AppendFormat(append(b, " HOLDUNTIL="...), time.RFC3339Nano)
	}
	return append(b, "\r\n"...)
}

// Append appends the command line with its CRLF. utf8ok says that MAIL had
// SMTPUTF8; it chooses the form of a UTF-8 ORCPT (RFC 6533 3).
func (r *Rcpt) Append(b []byte, utf8ok bool) []byte {
	b = appendPath(append(b, "RCPT TO:"...), r.Recipient)
	if r.Notify != mta.NotifyDefault {
		b = appendNotify(append(b, " NOTIFY="...), r.Notify)
	}
	if r.ORcpt != "" {
		b = AppendORcpt(append(b, " ORCPT="...), r.ORcpt, utf8ok)
	}
	return append(b, "\r\n"...)
}

func appendPath(b []byte, m Mailbox) []byte {
	b = append(append(b, '<'), m.Local...)
	if m.Domain != "" {
		b = append(append(b, '@'), m.Domain...)
	}
	return append(b, '>')
}

func appendNotify(b []byte, n mta.Notify) []byte {
	if n&mta.NotifyNever != 0 {
		return append(b, "NEVER"...)
	}
	comma := false
	for _, e := range [...]struct {
		bit  mta.Notify
		word string
	}{{mta.NotifySuccess, "SUCCESS"}, {mta.NotifyFailure, "FAILURE"}, {mta.NotifyDelay, "DELAY"}} {
		if n&e.bit == 0 {
			continue
		}
		if comma {
			b = append(b, ',')
		}
		b, comma = append(b, e.word...), true
	}
	return b
}
