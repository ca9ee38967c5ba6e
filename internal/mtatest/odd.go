package mtatest

import (
	"fmt"
	"slices"
	"strings"
)

// OddMessage is a message that is hard to carry unchanged.
type OddMessage struct {
	Name string
	// Text is the message with LF line ends, unless Raw.
	Text string
	// Raw says that Text is to be given to a door octet for octet: its line ends are
	// the oddity. Only a listener that repairs bare LF takes it.
	Raw bool
}

// Wire is the message with CRLF line ends. Of a Raw one it is what a door makes of
// it that repairs line ends.
func (m OddMessage) Wire() string {
	text := m.Text
	if m.Raw {
		text = strings.NewReplacer("\r\r\n", "\n", "\r\n", "\n", "\r", "\n").Replace(text)
	}
	return strings.ReplaceAll(text, "\n", "\r\n")
}

// ID is the message's Message-ID, which says which one it is.
func (m OddMessage) ID() string {
	return "<" + strings.ReplaceAll(m.Name, " ", "-") + "@odd.origin.test>"
}

// odd collects messages from odd@origin.test.
type odd struct{ all []OddMessage }

// OddMessages are more than a hundred messages from addresses in origin.test, each
// odd in its own way. Each has its ID as a Message-ID field, but one.
func OddMessages() []OddMessage {
	var o odd
	o.bodies()
	o.lengths()
	o.octets()
	o.mime()
	o.headers()
	o.repeated()
	o.lineEnds()
	slices.SortFunc(o.all, func(a, b OddMessage) int { return strings.Compare(a.Name, b.Name) })
	return o.all
}

const (
	oddFrom = "From: odd@origin.test\n"
	oddRest = "To: alice@pf.test\nSubject: an odd message\nDate: Mon, 23 Nov 2026 10:00:00 +0000\n"
	oddMIME = "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
)

// add adds a message of whole text, in which @ID@ stands for its Message-ID.
func (o *odd) add(name, text string) {
	m := OddMessage{Name: name}
	m.Text = strings.ReplaceAll(text, "@ID@", m.ID())
	o.all = append(o.all, m)
}

// body adds a message with a plain header.
func (o *odd) body(name, body string) { o.add(name, oddFrom+oddRest+"Message-ID: @ID@\n\n"+body) }

// typed adds one with a MIME header.
func (o *odd) typed(name, body string) {
	o.add(name, oddFrom+oddRest+oddMIME+"Message-ID: @ID@\n\n"+body)
}

// header adds one with fields beside the usual.
func (o *odd) header(name, fields string) {
	o.add(name, oddFrom+oddRest+"Message-ID: @ID@\n"+fields+"\nthe body\n")
}

// subject adds one whose subject is odd.
func (o *odd) subject(name, value string) {
	o.add(name, oddFrom+"To: alice@pf.test\nSubject:"+value+"\nDate: Mon, 23 Nov 2026 10:00:00 +0000\nMessage-ID: @ID@\n\nthe body\n")
}

// from adds one whose author is odd.
func (o *odd) from(name, fields string) { o.add(name, fields+oddRest+"Message-ID: @ID@\n\nthe body\n") }

func (o *odd) bodies() {
	o.add("header only", oddFrom+oddRest+"Message-ID: @ID@\n")
	for name, body := range map[string]string{
		"empty body":                      "",
		"body of one line end":            "\n",
		"body of five line ends":          "\n\n\n\n\n",
		"body of a space":                 " ",
		"body of white space lines":       "\t\n \n\n \t \n",
		"body without a line end":         "hello",
		"empty lines at the end":          "hello\n\n\n\n",
		"white lines at the end":          "hello\n \n\t\n  \t \n",
		"white space without a line end":  "hello\n \t ",
		"empty lines first":               "\n\n\nhello\n",
		"empty lines between":             "a\n\n\n\nb\n",
		"white lines between":             "a\n \n\t\n\nb\n",
		"first line begins with a space":  " hello\n world\n",
		"first line begins with a tab":    "\thello\n\tworld\n",
		"tabs within":                     "a\tb\t\tc\n",
		"runs of white space":             "a  b \t c\t d   \t   e\n",
		"spaces at line ends":             "a \nb  \nc   \n",
		"tabs at line ends":               "a\t\nb\t\t\nc \t \n",
		"a dot":                           ".\n",
		"a dot without a line end":        "hello\n.",
		"lines of dots":                   ".\n..\n...\n.\n",
		"lines that begin with dots":      ".a\n..b\n...c\n.d.\n",
		"dots and spaces":                 ". \n .\n.\t\n..\n\n.\n\n",
		"a dot last":                      "hello\n\n.\n",
		"From in the body":                "From here\n>From there\nFrom odd@origin.test Mon Nov 23 10:00:00 2026\n",
		"From as the first line":          "From odd@origin.test Mon Nov 23 10:00:00 2026\nSubject: no\n\nx\n",
		"a header in the body":            "Subject: another\nFrom: someone@else.test\n\nbody\n",
		"a signature in the body":         "DKIM-Signature: v=1; a=rsa-sha256; d=x.test; s=y; h=from; bh=; b=\n\nx\n",
		"a signature's dashes":            "hello\n\n-- \nthe sender\n",
		"dashes of PGP":                   "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n- -- \n- dashes\n-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n",
		"uuencoded":                       "begin 644 a\n#0V%T\n`\nend\n",
		"flowed":                          "a line that \nflows on and \non  \n\n > quoted \n",
		"commands":                        "QUIT\nRSET\nDATA\n250 ok\n.\nMAIL FROM:<>\n",
		"only punctuation":                "=\n==\n=3D=\n=20 \n",
		"words with two spaces":           strings.Repeat("two  spaces  between  words\n", 200),
		"white space at the block's edge": strings.Repeat("x\n", 16<<10-500) + strings.Repeat(strings.Repeat(" ", 500)+"y\n"+strings.Repeat("\t", 499)+"\n", 6),
	} {
		o.body(name, body)
	}
}

func (o *odd) lengths() {
	for _, n := range []int{78, 79, 997, 998} {
		o.body(fmt.Sprintf("a line of %d", n), strings.Repeat("x", n)+"\n")
	}
	o.body("998 in words", strings.Repeat("word ", 199)+"end\n")
	o.body("998 spaces", strings.Repeat(" ", 998)+"\nend\n")
	o.body("100 kilobytes", strings.Repeat("The quick brown fox jumps over the lazy dog.\n", 2300))
	o.body("a megabyte of base64", strings.Repeat(strings.Repeat("QUJD", 19)+"\n", 13_600))
	o.body("empty lines by the thousand", "a\n"+strings.Repeat("\n", 20_000)+"b\n")
	o.body("empty lines at the end by the thousand", "a\n"+strings.Repeat("\n", 20_000))
	o.body("white lines at the end by the thousand", "a\n"+strings.Repeat(" \t \n", 20_000))
	o.body("short lines by the thousand", strings.Repeat("a\n", 20_000))
	o.body("dots by the thousand", strings.Repeat(".\n", 5000)+strings.Repeat("..\n", 5000))
}

// OddLong are messages with lines over 998 octets, which SMTP does not carry
// (RFC 5321 4.5.3.1.6): not every server leaves them as they are.
func OddLong() []OddMessage {
	var o odd
	for _, n := range []int{999, 1500, 2047, 2048, 2049, 5000, 70_000} {
		o.body(fmt.Sprintf("a line of %d", n), strings.Repeat("x", n)+"\n")
	}
	o.body("2500 in words", strings.Repeat("word ", 500)+"end\n")
	o.typed("2500 in UTF-8", strings.Repeat("größe ", 350)+"end\n")
	o.subject("a subject of 5000 without a space", " "+strings.Repeat("x", 5000))
	return o.all
}

func (o *odd) octets() {
	var high, low strings.Builder
	for c := 0x80; c <= 0xff; c++ {
		high.WriteByte(byte(c))
	}
	for c := 1; c <= 0x7f; c++ {
		if c != '\r' && c != '\n' && (c < ' ' || c == 0x7f) {
			low.WriteByte(byte(c))
		}
	}
	o.typed("UTF-8", "Größe, naïve, 日本語, \U0001F600\n")
	o.typed("UTF-8 white space", "no-break\u00a0space, \u2003em, \u3000ideographic, \u0085next line\n")
	o.typed("Latin-1", "Gr\xf6\xdfe, na\xefve\n")
	o.typed("all high octets", high.String()+"\n")
	o.body("high octets undeclared", "Gr\xf6\xdfe\n")
	o.body("control characters", low.String()+"\n")
	o.body("form feed and vertical tab", "a\f\nb\v\n\f\n \f \n")
	o.typed("half a character", "cut \xc3\nhere \xe2\x82\n")
	o.header("Latin-1 in a header", "Organization: B\xfccher GmbH\n")
	o.subject("Latin-1 in the subject", " Gr\xf6\xdfe")
	o.subject("UTF-8 in the subject", " Größe 日本語")
	o.subject("a control character in the subject", " a\x01b\x7fc")
	o.from("UTF-8 in From", "From: Jürgen <odd@origin.test>\n")
}

func (o *odd) mime() {
	part := "--B\nContent-Type: text/plain\n\nhello \n\n--B\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n<p>größe</p>\n--B--\n"
	multi := func(kind, body string) string {
		return oddFrom + oddRest + "Message-ID: @ID@\nMIME-Version: 1.0\nContent-Type: multipart/" + kind + "; boundary=B\n\n" + body
	}
	o.add("multipart alternative", multi("alternative", part))
	o.add("multipart with preamble", multi("mixed", "preamble\n\n"+part+"epilogue  \n\n\n"))
	o.add("multipart signed", multi("signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256", "--B\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ngröße \n--B\nContent-Type: application/pgp-signature\n\n-----BEGIN PGP SIGNATURE-----\n\niQ==\n-----END PGP SIGNATURE-----\n--B--\n"))
	o.add("a message within", multi("mixed", "--B\nContent-Type: message/rfc822\n\nFrom: a@b.test\nSubject: größe\n\n.\ninner\n\n--B--\n"))
	nested := "deep\n"
	for i := range 12 {
		nested = fmt.Sprintf("--B%d\nContent-Type: multipart/mixed; boundary=B%d\n\n%s\n--B%d--\n", i, i-1, nested, i)
	}
	o.add("nested twelve deep", strings.Replace(multi("mixed", nested), "boundary=B", "boundary=B11", 1))
	o.add("no closing boundary", multi("mixed", "--B\n\nhello\n"))
	o.add("boundary with spaces", strings.Replace(multi("mixed", strings.ReplaceAll(part, "--B", "--a  b")), "boundary=B", "boundary=\"a  b\"", 1))
	quoted := "MIME-Version: 1.0\nContent-Type: text/plain;\n\tcharset=\"utf-8\";\n  format=flowed\nContent-Transfer-Encoding: quoted-printable\n"
	o.add("quoted-printable", oddFrom+oddRest+quoted+"Message-ID: @ID@\n\nGr=C3=B6=\n=DFe=20=20\nend=\n")
	o.add("base64", oddFrom+oddRest+"MIME-Version: 1.0\nContent-Type: application/octet-stream; name=\"a b.bin\"\nContent-Transfer-Encoding: base64\nContent-Disposition: attachment;\n filename=\"a  b.bin\"\nContent-ID: <a@b>\nContent-Description: a  file\nContent-Language: en\nMessage-ID: @ID@\n\nAAECAw==\n\n")
	o.add("a calendar", oddFrom+oddRest+"MIME-Version: 1.0\nContent-Type: text/calendar; method=REQUEST\nMessage-ID: @ID@\n\nBEGIN:VCALENDAR\nDESCRIPTION:a long \n  line that goes on\nEND:VCALENDAR\n")
	o.add("MIME without a version", oddFrom+oddRest+"Content-Type: text/html\nMessage-ID: @ID@\n\n<p>hi\n")
}

func (o *odd) headers() {
	o.subject("a subject folded with a tab", " one\n\ttwo\n\tthree")
	o.subject("a subject folded with spaces", "  one  \n    two\t \n \t three  ")
	o.subject("a subject on the second line", "\n one")
	o.subject("a subject with a white line", " one\n \n two")
	o.subject("an empty subject", "")
	o.subject("a subject of spaces", "   ")
	o.subject("a subject without a space", "one")
	o.subject("a subject after tabs", "\t\tone")
	o.subject("a subject before spaces", " one   ")
	o.subject("a subject with runs", " one  two\t\tthree \t four")
	o.subject("a subject of 900", " "+strings.Repeat("x", 900))
	o.subject("a subject of 990 in words", strings.Repeat(" word", 196))
	o.subject("a huge folded subject", strings.Repeat(" "+strings.Repeat("subject ", 9)+"\n", 130)+" end")
	o.subject("encoded words", " =?utf-8?Q?Gr=C3=B6=C3=9Fe?= =?iso-8859-1?B?R3L232U=?=")
	o.subject("encoded words folded", " =?utf-8?Q?Gr=C3=B6=C3=9Fe?=\n =?utf-8?Q?_und_mehr?=\n\t=?utf-8?Q?_und_=E2=82=AC?=")
	o.subject("a colon subject", " : a: b; c=d; \"e\" (f) <g@h>")
	o.from("a quoted name", "From: \"Odd, O. \\\"the\\\" One\" <odd@origin.test>\n")
	o.from("comments in From", "From: (one) odd (two) @ (three) origin.test (four)\n")
	o.from("a folded From", "From:\n Odd One\n\t<odd@origin.test>\n")
	o.from("a quoted local part", "From: \"odd one\"@origin.test\n")
	o.from("a From below the domain", "From: odd@news.eu.origin.test\n")
	o.from("a From in capitals", "FROM: ODD@ORIGIN.TEST\n")
	o.from("several authors", "From: odd@origin.test, other@origin.test\nSender: odd@origin.test\n")
	o.from("a group of recipients", "From: odd@origin.test\nCc: friends: a@pf.test,\n b@pf.test;, undisclosed-recipients:;\n")
	o.add("names in lower case", strings.ToLower("FROM: odd@origin.test\nTO: alice@pf.test\nSUBJECT: x\n")+"date: Mon, 23 Nov 2026 10:00:00 +0000\nmessage-id: @ID@\n\nthe body\n")
	o.add("names in mixed case", "fRoM: odd@origin.test\ntO: alice@pf.test\nsUbJeCt: x\ndAtE: Mon, 23 Nov 2026 10:00:00 +0000\nmEsSaGe-iD: @ID@\n\nthe body\n")
	o.add("no subject and no recipient", oddFrom+"Message-ID: @ID@\n\nthe body\n")
	o.add("no date", oddFrom+"To: alice@pf.test\nSubject: x\nMessage-ID: @ID@\n\nthe body\n")
	o.add("the bottom is the top", "Message-ID: @ID@\nDate: Mon, 23 Nov 2026 10:00:00 +0000\nSubject: x\nTo: alice@pf.test\n"+oddFrom+"\nthe body\n")
	o.header("all list fields", "List-Id: A list <list.origin.test>\nList-Unsubscribe: <mailto:u@origin.test?subject=off>,\n <https://origin.test/u?a=b&c=d>\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\nList-Help: <mailto:h@origin.test>\nList-Subscribe: <mailto:s@origin.test>\nList-Post: NO\nList-Owner: <mailto:o@origin.test>\nList-Archive: <https://origin.test/a>\n")
	o.header("long references", "In-Reply-To: <a@origin.test>\nReferences:"+strings.Repeat(" <0123456789.0123456789.0123456789@origin.test>\n", 100))
	o.header("a hundred recipients", "Cc: "+strings.Repeat("Someone Somewhere <someone@pf.test>,\n ", 99)+"last@pf.test\n")
	o.header("other machine fields", "Reply-To: other@origin.test\nAuto-Submitted: auto-generated\nFeedback-ID: a:b:c:origin\nX-Priority: 1\nX-Mailer: x\nPrecedence: bulk\n")
	o.header("a field of 998", "X-Long: "+strings.Repeat("x", 990)+"\n")
	o.header("a long name", "X-"+strings.Repeat("long-", 20)+"name: x\n")
	o.header("an empty field", "X-Empty:\nComments: \n")
	o.header("resent", "Resent-From: odd@origin.test\nResent-To: bob@pf.test\nResent-Date: Mon, 23 Nov 2026 11:00:00 +0000\nResent-Message-ID: <r@origin.test>\n")
	o.header("trace fields", strings.Repeat("Received: from a.test by b.test; Mon, 23 Nov 2026 09:00:00 +0000\n", 10)+"Return-Path: <x@y.test>\nX-Received: z\n")
	o.header("a signature of the application", "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=x.test; s=y;\n\th=from; bh=AAAA; b=AAAA\n")
	o.header("hidden recipients", "Bcc: secret@pf.test,\n more@pf.test\n")
}

func (o *odd) repeated() {
	o.header("Cc three times", "Cc: a@pf.test\nCc: b@pf.test\nCc: c@pf.test\n")
	o.header("To twice", "To: bob@pf.test\n")
	o.header("Subject twice", "Subject: another\n")
	o.header("list fields twice", "List-Unsubscribe: <mailto:a@origin.test>\nList-Unsubscribe: <mailto:b@origin.test>\nList-Id: <a>\nList-Id: <b>\n")
	o.header("References four times", strings.Repeat("References: <a@origin.test>\n", 2)+strings.Repeat("References: <b@origin.test>\n", 2))
	o.header("Comments fifty times", strings.Repeat("Comments: again\n", 50))
	o.header("2,000 fields below", many(2000))
	o.add("2,000 fields above", many(2000)+oddFrom+oddRest+"Message-ID: @ID@\n\nthe body\n")
	o.header("2,000 comments", strings.Repeat("Comments: x\n", 2000))
	o.header("2,000 folded fields", strings.Repeat("X-F: a\n b\n", 2000))
	o.header("400 recipients in fields of their own", strings.Repeat("X-To: a@pf.test\n", 300)+strings.Repeat("Cc: a@pf.test\n", 99))
}

func many(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-N%d: %d\n", i, i)
	}
	return b.String()
}

func (o *odd) lineEnds() {
	raw := func(name, text string) {
		o.add(name, text)
		o.all[len(o.all)-1].Raw = true
	}
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }
	head := oddFrom + oddRest + "Message-ID: @ID@\n\n"
	raw("only LF", head+"one\n\n  two \nthree\n")
	raw("only LF and dots", head+"one\n.\ntwo\n..\n.three\n.\n\n")
	raw("only LF without a line end", head+"one\n\ttwo ")
	raw("LF in the body", crlf(head)+"one\ntwo\r\nthree\n\n\n")
	raw("LF in the header", oddFrom+crlf(oddRest)+"Message-ID: @ID@\n\r\none\r\n")
	raw("bare CR", crlf(head)+"one\rtwo\r\n\rthree \r\r\n")
	raw("CR CR LF", strings.ReplaceAll(head+"one\ntwo\n\nthree\n", "\n", "\r\r\n"))
	raw("CR last", crlf(head)+"one\r\n\r")
}
