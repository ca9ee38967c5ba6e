package compose

import (
	"bytes"
	"mime"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"mailout/internal/lint"
)

func TestTextOfHTML(t *testing.T) {
	for _, c := range []struct{ html, want string }{
		{"<p>One\n  two</p><p>three</p>", "One two\n\nthree\n"},
		{"a<br>b<br><br>c", "a\nb\n\nc\n"},
		{"<h1>T</h1><ul><li>one</li><li>two</li></ul>end", "T\n\n- one\n- two\n\nend\n"},
		{"<a href=\"https://x.example/\">there</a>", "there <https://x.example/>\n"},
		{"<a href=\"https://x.example/\">https://x.example/</a>", "https://x.example/\n"},
		{"<a href=\"mailto:a@x.example\">a@x.example</a>, <a href=\"mailto:a@x.example\">mail</a>", "a@x.example, mail <a@x.example>\n"},
		{"<a href=\"javascript:alert(1)\">x</a><a href=\"#top\">y</a>", "xy\n"},
		{"<head><title>T</title><style>p{}</style></head><script>if (a < b) {}</script>text", "text\n"},
		{"<img alt=\"Logo\" src=x> &amp; &lt;b&gt; &uuml;", "Logo & <b> ü\n"},
		{"<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", "a b\nc\n"},
		{"<div>a</div><div>b</div>", "a\nb\n"},
		{"<img src=cid:x>", noText},
		{"<style>only", noText},
		{"broken <p <b>text</", "broken\n\ntext</\n"},
	} {
		if got := textOf(c.html); got != c.want {
			t.Errorf("%s\nis %q, want %q", c.html, got, c.want)
		}
	}
}

// TestTextOfHostileHTMLIsQuick: every step is bounded by what it reads.
func TestTextOfHostileHTMLIsQuick(t *testing.T) {
	for _, piece := range []string{"<a href=http://x>", "</a>", "<div>", "<a>x</a>", " ", "<b ", "&", "<!--", "<a href=http://" + strings.Repeat("y", 1000) + ">z</a>"} {
		document := strings.Repeat(piece, 1<<17/len(piece))
		if got := textOf(document); len(got) > 4*len(document)+100 {
			t.Errorf("%q: %d octets became %d", piece, len(document), len(got))
		}
	}
}

func TestHTMLAloneGetsAText(t *testing.T) {
	m := plain()
	m.Text, m.HTML = "", "<p>Grüße an <a href=https://x.example/>alle</a></p>"
	_, parts := leaves(t, build(t, m))
	if len(parts) != 2 || string(parts[0].content) != "Grüße an alle <https://x.example/>\r\n" {
		t.Errorf("%+v", parts)
	}
}

// TestAMessageWithinIsNotEncoded, as RFC 2046 5.2.1 demands.
func TestAMessageWithinIsNotEncoded(t *testing.T) {
	inner := "Subject: inner\nFrom: a@example.com\n\n.text\n"
	m := plain()
	m.Attachments = []Attachment{{Name: "a.eml", ContentType: "message/rfc822", Content: []byte(inner)}}
	out := build(t, m)
	if !bytes.Contains(out, []byte(strings.ReplaceAll(inner, "\n", "\r\n"))) {
		t.Errorf("%s", out)
	}
	// One that would need encoding goes as octets, when the type is only a guess.
	m.Attachments = []Attachment{{Name: "a.eml", Content: []byte("Subject: ü\n\n")}}
	if out := build(t, m); !bytes.Contains(out, []byte("Content-Type: application/octet-stream; name=a.eml")) {
		t.Errorf("%s", out)
	}
}

// TestAnAddressOutsideASCII needs SMTPUTF8; nothing else does.
func TestAnAddressOutsideASCII(t *testing.T) {
	m := plain()
	m.To = []Address{{"Grün", "grün@bücher.example"}}
	out, err := m.Build()
	if err != nil || !bytes.Contains(out, []byte(" <grün@xn--bcher-kva.example>\r\n")) {
		t.Errorf("%v\n%s", err, out)
	}
	m.To = []Address{{"", "gruen@bücher.example"}}
	if out := build(t, m); !bytes.Contains(out, []byte("To: gruen@xn--bcher-kva.example\r\n")) {
		t.Errorf("%s", out)
	}
}

func TestDateAndMessageIDAreMade(t *testing.T) {
	m := plain()
	m.Date, m.MessageID = time.Time{}, ""
	var ids []string
	for range 2 {
		out, err := m.Build()
		if err != nil {
			t.Fatal(err)
		}
		if found := lint.Check(out, lint.Options{Now: time.Now()}); len(found) > 0 {
			t.Errorf("%v", found)
		}
		id := regexp.MustCompile(`Message-ID: <[0-9a-v]{26}@example\.com>\r\n`).FindString(string(out))
		ids = append(ids, id)
	}
	if ids[0] == "" || ids[0] == ids[1] {
		t.Errorf("%q", ids)
	}
	m.Headers = []Header{{"Message-Id", "<own@id.example>"}}
	if out := build(t, m.withDate()); bytes.Count(out, []byte("own@id.example")) != 1 || bytes.Count(bytes.ToLower(out), []byte("message-id:")) != 1 {
		t.Errorf("%s", out)
	}
}

func (m *Message) withDate() *Message { m.Date = noon; return m }

// TestEncodedWordsNeverCutACharacter: each is decoded by itself (RFC 2047 5).
func TestEncodedWordsNeverCutACharacter(t *testing.T) {
	for n := range 5 {
		text := strings.Repeat("x", n) + strings.Repeat("ü日👩", 30)
		whole := ""
		for word := range strings.SplitSeq(encodedWords(text), " ") {
			part, err := new(mime.WordDecoder).Decode(word)
			if err != nil || !utf8.ValidString(part) || strings.Contains(part, "\ufffd") || len(word) > 75 {
				t.Errorf("%s is %q, %v", word, part, err)
			}
			whole += part
		}
		if whole != text {
			t.Errorf("%q, want %q", whole, text)
		}
	}
}

func TestNobodyInToIsSaid(t *testing.T) {
	m := plain()
	m.To = nil
	if out := build(t, m); !bytes.Contains(out, []byte("To: undisclosed-recipients:;\r\n")) {
		t.Errorf("%s", out)
	}
}

// TestTheBoundsThemselvesAreTaken.
func TestTheBoundsThemselvesAreTaken(t *testing.T) {
	m := plain()
	m.Subject = strings.Repeat("ü", MaxSubject/2)
	m.From.Name = strings.Repeat("n", MaxName)
	m.To = nil
	for range MaxAddresses {
		m.To = append(m.To, Address{"Somebody Else", "somebody@example.net"})
	}
	for range MaxHeaders {
		m.Headers = append(m.Headers, Header{"X-" + strings.Repeat("y", MaxHeaderName-2), strings.Repeat("x", maxWord)})
	}
	m.Headers[0].Value = strings.Repeat("a ", MaxHeaderValue/2)
	for range MaxAttachments {
		m.Attachments = append(m.Attachments, Attachment{Name: strings.Repeat("ä", MaxFileName/2), Content: []byte("x")})
	}
	_, parts := leaves(t, build(t, m))
	if len(parts) != MaxAttachments+1 {
		t.Errorf("%d parts", len(parts))
	}
}
