package lint

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)

// good is a message that nobody dislikes. Test messages are it with a change;
// lines end with "\n" here and with CRLF in the tests.
const good = `Date: Mon, 02 Mar 2026 11:00:00 +0000
From: Widget <news@widget.com>
To: Someone <someone@example.net>
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= from Widget
Message-ID: <1.2@widget.com>
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary=b

--b
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe,=
 world
--b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: base64

PHA+aGk8L3A+
--b--
`

// plain is the shortest good one.
const plain = `Date: Mon, 02 Mar 2026 11:00:00 +0000
From: news@widget.com
To: someone@example.net
Subject: hello
Message-ID: <1.2@widget.com>

text
`

const oneClick = `List-Unsubscribe: <mailto:u@widget.com>, <https://widget.com/u?1>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
`

const multi = "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n"

// with puts fields before a message.
func with(fields string) string { return fields + plain }

// without takes a message's line away.
func without(message, start string) string {
	var out []string
	for _, line := range strings.SplitAfter(message, "\n") {
		if !strings.HasPrefix(line, start) {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// instead changes one field.
func instead(start, field string) string {
	return field + "\n" + without(plain, start)
}

func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func ids(found []Finding) []string {
	var out []string
	for _, f := range found {
		if !slices.Contains(out, f.ID) {
			out = append(out, f.ID)
		}
	}
	slices.Sort(out)
	return out
}

// disliked are messages by the one rule that each of them breaks; raw ones keep
// their line ends.
var disliked = []struct {
	id, message string
	line        int
	from        string
	raw         bool
}{
	{id: "line.bare", message: crlf(plain) + "more\n", raw: true, line: 8},
	{id: "line.bare", message: plain + "a\rb\n", line: 8},
	{id: "line.long", message: plain + strings.Repeat("x", 999) + "\n", line: 8},
	{id: "line.header-long", message: with("X-Note: " + strings.Repeat("word ", 20) + "\n"), line: 1},
	{id: "line.nul", message: plain + "a\x00b\n", line: 8},

	{id: "header.malformed", message: with("this is no field\n"), line: 1},
	{id: "header.malformed", message: multi + without(plain, "text") + "--b\nno field\n\ntext\n--b--\n", line: 10},
	{id: "header.large", message: with(strings.Repeat("X-Note: "+strings.Repeat("x", 60)+"\n", 8000))},
	{id: "header.8bit", message: instead("Subject", "Subject: Gr\u00fc\u00dfe"), line: 1},
	{id: "header.8bit", message: instead("Subject", "Subject: Gr\xfc\xdfe"), line: 1},
	{id: "header.space", message: instead("Subject", "Subject : hello"), line: 1},
	{id: "header.blank-fold", message: instead("Subject", "Subject: hello\n  \n world"), line: 2},
	{id: "header.encoded-word", message: instead("Subject", "Subject: =?utf-8?q?two words?="), line: 1},
	{id: "header.encoded-word", message: instead("Subject", "Subject: =?utf-8?b?####?="), line: 1},
	{id: "header.encoded-word", message: instead("Subject", "Subject: =?utf-8?q?"+strings.Repeat("x", 64)+"?="), line: 1},

	{id: "field.doubled", message: with("Subject: again\n"), line: 5},
	{id: "date.missing", message: without(plain, "Date")},
	{id: "date.invalid", message: instead("Date", "Date: yesterday"), line: 1},
	{id: "date.off", message: instead("Date", "Date: Mon, 02 Mar 2026 16:00:00 +0000"), line: 1},
	{id: "date.off", message: instead("Date", "Date: Mon, 02 Feb 2026 16:00:00 +0000"), line: 1},
	{id: "from.missing", message: without(plain, "From")},
	{id: "from.missing", message: instead("From", "From:"), line: 1},
	{id: "from.many", message: instead("From", "From: a@widget.com, b@widget.com\nSender: a@widget.com"), line: 1},
	{id: "from.sender", message: instead("From", "From: a@widget.com, b@widget.com"), line: 1},
	{id: "message-id.missing", message: without(plain, "Message-ID")},
	{id: "message-id.invalid", message: instead("Message-ID", "Message-ID: 12345"), line: 1},
	{id: "subject.missing", message: without(plain, "Subject")},
	{id: "subject.missing", message: instead("Subject", "Subject: "), line: 1},
	{id: "to.missing", message: without(plain, "To")},
	{id: "bcc.present", message: with("Bcc: secret@example.org\n"), line: 1},
	{id: "return-path.present", message: with("Return-Path: <a@widget.com>\n"), line: 1},
	{id: "address.invalid", message: instead("To", "To: someone at example.net"), line: 1},
	{id: "address.invalid", message: instead("To", "To: <a..b@example.net>"), line: 1},
	{id: "address.invalid", message: with("Sender: a@widget.com, b@widget.com\n"), line: 1},
	{id: "address.invalid", message: with("Cc:\n"), line: 1},
	{id: "received.many", message: with(strings.Repeat("Received: from a by b; Mon, 02 Mar 2026 11:00:00 +0000\n", 26))},
	{id: "received.loop", message: with(strings.Repeat("Received: from a by b; Mon, 02 Mar 2026 11:00:00 +0000\n", 100))},
	{id: "reply-to.freemail", message: with("Reply-To: widget.news@gmail.com\n"), line: 1},

	{id: "return-path.alignment", message: plain, from: "bounce@other.example", line: 2},
	{id: "dkim.alignment", message: with("DKIM-Signature: v=1; d=mailer.example; s=a; h=from;\n\tb=x\n"), from: "b@widget.com", line: 1},

	{id: "bulk.one-click", message: with("List-Id: news <news.widget.com>\n"), line: 1},
	{id: "bulk.one-click", message: with("Precedence: bulk\n"), line: 1},
	{id: "bulk.one-click", message: with("List-Unsubscribe: <mailto:u@widget.com>\n"), line: 1},
	{id: "bulk.one-click", message: with("List-Unsubscribe: <https://widget.com/u>\n"), line: 1},
	{id: "bulk.one-click", message: with(strings.Replace(oneClick, "=One", "=Two", 1)), line: 2},
	{id: "bulk.signed", message: with(oneClick + "DKIM-Signature: v=1; d=widget.com; h=from:to:list-unsubscribe; b=x\n"), line: 3},

	{id: "size.large", message: plain + strings.Repeat(strings.Repeat("x", 77)+"\n", 26<<20/78)},
	{id: "size.clipped", message: strings.Replace(good, "PHA+", strings.Repeat(strings.Repeat("PHA+", 19)+"\n", 1500)+"PHA+", 1), line: 16},

	{id: "mime.version", message: with("Content-Type: text/plain; charset=utf-8\n"), line: 1},
	{id: "mime.version", message: with("Content-Transfer-Encoding: 7bit\n"), line: 1},
	{id: "mime.type", message: with("MIME-Version: 1.0\nContent-Type: plain text\n"), line: 1},
	{id: "mime.boundary", message: with("MIME-Version: 1.0\nContent-Type: multipart/mixed\n"), line: 1},
	{id: "mime.boundary", message: with(multi), line: 1},
	{id: "mime.unterminated", message: strings.Replace(good, "--b--", "", 1), line: 1},
	{id: "mime.nesting", message: nested(25)},
	{id: "mime.encoding", message: with("MIME-Version: 1.0\nContent-Transfer-Encoding: 9bit\n"), line: 1},
	{id: "mime.encoding", message: with("Content-Transfer-Encoding: base64\n" + multi), line: 1},
	{id: "mime.8bit", message: plain + "Gr\u00fc\u00dfe\n", line: 8},
	{id: "mime.8bit", message: with("MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 7bit\n") + "Gr\u00fc\u00dfe\n", line: 11},
	{id: "mime.charset", message: with("MIME-Version: 1.0\nContent-Type: text/plain\nContent-Transfer-Encoding: 8bit\n") + "Gr\u00fc\u00dfe\n", line: 1},
	{id: "mime.base64", message: strings.Replace(good, "PHA+", "PHA!", 1), line: 19},
	{id: "mime.quoted-printable", message: strings.Replace(good, "=C3=BC=C3=9Fe,", "=C3=BX", 1), line: 13},
	{id: "mime.quoted-printable", message: strings.Replace(good, " world", strings.Repeat("x", 80), 1), line: 14},

	{id: "text.missing", message: with("MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\n"), line: 1},
	{id: "text.empty", message: strings.Replace(strings.Replace(good, "Gr=C3=BC=C3=9Fe,=\n", "", 1), " world", "", 1), line: 10},
	{id: "text.empty", message: without(plain, "text"), line: 1},
	{id: "text.empty", message: with("MIME-Version: 1.0\nContent-Type: application/pdf\n")},
	{id: "attachment.executable", message: multi + without(plain, "text") + "--b\n\ntext\n--b\nContent-Type: application/octet-stream\nContent-Disposition: attachment; filename=\"invoice.pdf.EXE\"\n\nMZ\n--b--\n", line: 13},
	{id: "attachment.executable", message: multi + without(plain, "text") + "--b\n\ntext\n--b\nContent-Type: text/javascript; name=a.js\n\n1\n--b--\n", line: 13},
}

// nested is a message of many multiparts in one another.
func nested(n int) string {
	var b strings.Builder
	b.WriteString("MIME-Version: 1.0\n")
	for i := range n {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=b%d\n", i)
		if i == 0 {
			b.WriteString(without(plain, "text"))
		} else {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "--b%d\n", i)
	}
	b.WriteString("\ntext\n")
	for i := n - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "--b%d--\n", i)
	}
	return b.String()
}

func TestEachRule(t *testing.T) {
	t.Parallel()
	tested := map[string]bool{}
	for i, c := range disliked {
		tested[c.id] = true
		t.Run(fmt.Sprintf("%s/%d", c.id, i), func(t *testing.T) {
			t.Parallel()
			content := c.message
			if !c.raw {
				content = crlf(content)
			}
			found := Check([]byte(content), Options{From: c.from, Now: now})
			want := []string{c.id}
			if c.id == "from.sender" {
				want = []string{"from.many", "from.sender"}
			}
			if got := ids(found); !slices.Equal(got, want) && !(c.id == "header.malformed" && slices.Contains(got, c.id)) {
				t.Fatalf("%v of\n%s", got, clipLong(content))
			}
			f := found[slices.IndexFunc(found, func(f Finding) bool { return f.ID == c.id })]
			if r := ruleOf(c.id); f.Source != r.Source || f.Severity != r.Severity || f.Text == "" || c.line > 0 && f.Line != c.line {
				t.Errorf("%+v", f)
			}
			if _, mark, mended := strings.Cut(ruleOf(c.id).About, "(mailout "); mended && !strings.Contains(f.Text, "(mailout "+mark) {
				t.Errorf("%q does not say that mailout mends it", f.Text)
			}
		})
	}
	for _, r := range Rules() {
		if !tested[r.ID] {
			t.Errorf("no message breaks %s", r.ID)
		}
	}
}

func TestLinesAreCounted(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]string{
		"a\r\nb\nc\r\n":         "1 line ends with LF",
		"a\r\nb\nc\nd\r\n":      "2 lines end with LF",
		"a\r\nb\rb\r\n":         "1 line holds a CR",
		"a\r\nb\rb\r\nc\rc\r\n": "2 lines hold a CR",
	} {
		found := Check([]byte(crlf(plain)+content), Options{Now: now})
		if len(found) != 1 || !strings.HasPrefix(found[0].Text, want) {
			t.Errorf("%q: %+v, want %q", content, found, want)
		}
	}
}

func clipLong(s string) string { return s[:min(len(s), 1500)] }

func TestGoodMessages(t *testing.T) {
	t.Parallel()
	signed := "DKIM-Signature: v=1; d=mailer.example; h=from; b=x\nDKIM-Signature: v=1; d=widget.com;\n h=from:List-Unsubscribe:\n List-Unsubscribe-Post; b=x\n"
	report := multi + without(plain, "text") + "preamble\n--b\n\ntext\n--b\nContent-Type: message/rfc822\n\n" + without(plain, "Date") + "\n--b--\nepilogue\n"
	for _, m := range []string{
		good, plain, with(oneClick), with(oneClick + signed), report,
		instead("To", "To: undisclosed-recipients:;"),
		instead("To", "To: team: a@example.net, =?iso-8859-15?q?J=F6rg?= <b@example.net>;"),
		instead("To", "Cc: \"Last, First\" <a@example.net>,\n \"odd name\"@example.net"),
		with("X-Url: https://widget.com/" + strings.Repeat("x", 100) + "\n"), // cannot be folded
		with("MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n") + "Gr\u00fc\u00dfe\n",
		multi + without(plain, "text") + "--b\n\ntext\n--b\nContent-Type: text/html\nContent-Disposition: attachment; filename=report.html\n\n<p>\n--b--\n",
	} {
		for _, content := range []string{m, crlf(m)} {
			if found := Check([]byte(content), Options{From: "<bounce@mail.widget.com>", Now: now}); len(found) > 0 {
				t.Errorf("%+v of\n%s", found, m)
			}
		}
	}
}

// TestWhatDomainsExcuse: a signature of From's domain excuses another return
// path, and a free mailbox may answer to itself.
func TestWhatDomainsExcuse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ message, from string }{
		{with("DKIM-Signature: v=1; d=mail.widget.com; h=from; b=x\n"), "bounce@mailer.example"},
		{instead("From", "From: Me <me@gmail.com>\nReply-To: you@gmail.com"), "me@gmail.com"},
		{plain, ""},
		{plain, "<>"},
	} {
		if found := Check([]byte(c.message), Options{From: c.from, Now: now}); len(found) > 0 {
			t.Errorf("%+v of %q and\n%s", found, c.from, c.message)
		}
	}
}

// TestFindingsAreBounded: a rule broken ten thousand times is told ten times.
func TestFindingsAreBounded(t *testing.T) {
	t.Parallel()
	found := Check([]byte(crlf(plain+strings.Repeat(strings.Repeat("x", 1000)+"\n", 10_000))), Options{Now: now})
	if len(found) != MaxPerRule || !strings.Contains(found[MaxPerRule-1].Text, "9990 more") {
		t.Errorf("%d findings, the last %+v", len(found), found[len(found)-1])
	}
}

func TestWorst(t *testing.T) {
	t.Parallel()
	for want, found := range [][]Finding{nil, {{Severity: Warning}}, {{Severity: Warning}, {Severity: Error}}} {
		if got := Worst(found); got != want {
			t.Errorf("%d, want %d", got, want)
		}
	}
}

// TestThePageListsEveryRule holds docs/lint.md and the rules together.
func TestThePageListsEveryRule(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/lint.md")
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	for line := range strings.Lines(string(page)) {
		if strings.HasPrefix(line, "| `") {
			rows = append(rows, strings.TrimSpace(line))
		}
	}
	var want []string
	for _, r := range Rules() {
		want = append(want, fmt.Sprintf("| `%s` | %s | %s | %s |", r.ID, r.Severity, r.About, r.Source))
	}
	if !slices.Equal(rows, want) {
		t.Errorf("docs/lint.md has to hold these rows:\n%s", strings.Join(want, "\n"))
	}
}

func FuzzCheck(f *testing.F) {
	for _, c := range disliked {
		if len(c.message) < 10_000 {
			f.Add([]byte(crlf(c.message)), c.from)
		}
	}
	f.Add([]byte(good), "")
	f.Add([]byte(base64.StdEncoding.EncodeToString([]byte(good))), "<>")
	f.Add([]byte{}, "a@b")
	f.Fuzz(func(t *testing.T, content []byte, from string) {
		found := Check(content, Options{From: from, Now: now})
		last := 0
		for _, x := range found {
			if x.Line < last || x.Line > len(content)+1 || x.Text == "" || ruleOf(x.ID).Source != x.Source {
				t.Fatalf("%+v", x)
			}
			last = x.Line
		}
		if len(found) > MaxPerRule*len(rules) {
			t.Fatalf("%d findings", len(found))
		}
	})
}
