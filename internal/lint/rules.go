package lint

// Severity says how much a finding weighs.
type Severity string

// The severities. An Error is refused by receivers, or loses content; a
// Warning costs reputation, or is refused by some.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
)

// Rule is one thing that receivers dislike.
type Rule struct {
	ID       string
	Severity Severity
	Source   string // RFC section, or the receiver's page
	About    string // what it finds, for the documentation
}

// Pages of receivers that several rules rest on.
const (
	gmailRules = "Gmail, Email sender guidelines (support.google.com/mail/answer/81126)"
	gmailFiles = "Gmail, File types blocked in Gmail (support.google.com/mail/answer/6590)"
)

// rules are all there are, in the order of docs/lint.md. The names are fixed.
var rules = []Rule{
	{"line.bare", Error, "RFC 5321 2.3.8", "a CR or an LF alone in content whose lines end with CRLF, or a CR alone"},
	{"line.long", Error, "RFC 5321 4.5.3.1.6, RFC 5322 2.1.1", "a line over 998 octets"},
	{"line.header-long", Warning, "RFC 5322 2.1.1", "a header line over 78 octets that could be folded"},
	{"line.nul", Error, "RFC 5322 3.1, RFC 2045 2.7", "a NUL octet"},

	{"header.malformed", Error, "RFC 5322 2.2", "a line in the header that is no field: everything after it is taken for the text"},
	{"header.large", Error, "Gmail, 552 5.3.4 (support.google.com/a/answer/3726730)", "a header over 500 kB"},
	{"header.8bit", Error, "RFC 5322 2.2, RFC 6532 3.2", "octets above 127 in a header field, which need SMTPUTF8 at every hop"},
	{"header.space", Warning, "RFC 5322 4.5", "white space between a field's name and its colon"},
	{"header.blank-fold", Warning, "RFC 5322 3.2.2, 4.2", "a continuation line of white space only, which some take for the end of the header"},
	{"header.encoded-word", Warning, "RFC 2047 2", "an encoded word that cannot be decoded, or is over 75 characters"},

	{"field.doubled", Error, "RFC 5322 3.6, RFC 2045, " + gmailRules, "a field that may stand once and stands twice"},
	{"date.missing", Error, "RFC 5322 3.6.1", "no Date (mailout adds one)"},
	{"date.invalid", Error, "RFC 5322 3.3", "a Date that is no date"},
	{"date.off", Warning, "SpamAssassin DATE_IN_FUTURE, DATE_IN_PAST", "a Date over 3 hours ahead, or over 4 days ago"},
	{"from.missing", Error, "RFC 5322 3.6.2", "no From (mailout adds one of the return path)"},
	{"from.many", Warning, "RFC 9989, RFC 7489 6.6.1", "several addresses in From: most receivers of DMARC refuse them"},
	{"from.sender", Error, "RFC 5322 3.6.2", "several addresses in From and no Sender"},
	{"message-id.missing", Error, "RFC 5322 3.6.4, " + gmailRules, "no Message-ID (mailout adds one)"},
	{"message-id.invalid", Warning, "RFC 5322 3.6.4, " + gmailRules, "a Message-ID that is not <left@right>"},
	{"subject.missing", Warning, "SpamAssassin MISSING_SUBJECT", "no Subject, or an empty one"},
	{"to.missing", Warning, "SpamAssassin MISSING_HEADERS, RFC 5322 3.6.3", "neither To nor Cc"},
	{"bcc.present", Warning, "RFC 5322 3.6.3", "a Bcc field, which shows whom it was to hide (mailout takes it out)"},
	{"return-path.present", Warning, "RFC 5321 4.4", "a Return-Path field, which only the last server adds (mailout takes it out)"},
	{"address.invalid", Error, "RFC 5322 3.4", "an address in From, Sender, Reply-To, To or Cc that is none"},
	{"received.many", Warning, "sendmail and Exim refuse 25 to 30 hops by default", "over 25 Received fields"},
	{"received.loop", Error, "RFC 5321 6.3", "100 Received fields or more: a loop (limits.hops)"},
	{"reply-to.freemail", Warning, "SpamAssassin FREEMAIL_FORGED_REPLYTO", "replies to a free mail provider for mail of another domain, as fraud does it"},

	{"return-path.alignment", Warning, "RFC 9989, RFC 7489 3.1.2", "a return path (-f) of another domain than From, and no aligned signature"},
	{"dkim.alignment", Warning, "RFC 9989, RFC 7489 3.1.1", "DKIM signatures, none of From's domain"},

	{"bulk.one-click", Warning, "RFC 8058 3.1, " + gmailRules, "bulk mail (List-* fields, Precedence: bulk) without one-click unsubscription"},
	{"bulk.signed", Warning, "RFC 8058 4", "one-click fields that the DKIM signature does not cover"},

	{"size.large", Warning, "25 MB at Gmail (support.google.com/mail/answer/6584) and Yahoo, 20 MB at iCloud", "a message over 25 MB"},
	{"size.clipped", Warning, "Gmail clips messages over 102 kB", "an HTML part over 102 kB: its end, with the unsubscribe link, is hidden"},

	{"mime.version", Warning, "RFC 2045 4", "MIME fields without MIME-Version: 1.0"},
	{"mime.type", Error, "RFC 2045 5.1", "a Content-Type that cannot be read"},
	{"mime.boundary", Error, "RFC 2046 5.1.1", "a multipart without a boundary, or whose boundary never comes"},
	{"mime.unterminated", Error, "RFC 2046 5.1.1", "a multipart without its closing boundary"},
	{"mime.nesting", Error, "RFC 2046 5.1", "over 20 multiparts in one another, or over 1,000 parts"},
	{"mime.encoding", Error, "RFC 2045 6.1, 6.4", "a Content-Transfer-Encoding that does not exist, or that a multipart must not have"},
	{"mime.8bit", Error, "RFC 2045 6.2, RFC 6152", "octets above 127 in a part that is declared as 7bit, or not at all"},
	{"mime.charset", Warning, "RFC 2046 4.1.2", "text with octets above 127 and no charset that has them"},
	{"mime.base64", Error, "RFC 2045 6.8", "base64 that cannot be decoded"},
	{"mime.quoted-printable", Warning, "RFC 2045 6.7", "quoted-printable with broken escapes or lines over 76"},

	{"text.missing", Warning, "RFC 2046 5.1.4, SpamAssassin MIME_HTML_ONLY", "HTML without a plain text beside it"},
	{"text.empty", Warning, "SpamAssassin EMPTY_MESSAGE, MIME_HTML_ONLY", "no text, or an empty one"},
	{"attachment.executable", Error, gmailFiles, "an attachment of a type that can be run, which large receivers refuse"},
}

// Rules gives all rules, in the order of docs/lint.md.
func Rules() []Rule { return append([]Rule(nil), rules...) }

func ruleOf(id string) Rule {
	for _, r := range rules {
		if r.ID == id {
			return r
		}
	}
	panic("lint: no rule " + id) // a slip in this package
}
