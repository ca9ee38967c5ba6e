package compose

import (
	"bytes"
	"net/mail"
	"slices"
	"strings"
	"testing"

	"mailout/internal/lint"
)

// findings that say that a message is broken; others are the caller's wish.
var broken = []string{
	"line.bare", "line.long", "line.nul", "header.malformed", "header.8bit", "header.space", "header.blank-fold", "header.encoded-word", "field.doubled",
	"date.invalid", "message-id.invalid", "bcc.present", "return-path.present", "address.invalid", "mime.version", "mime.type", "mime.boundary",
	"mime.unterminated", "mime.nesting", "mime.encoding", "mime.8bit", "mime.charset", "mime.base64", "mime.quoted-printable", "line.header-long",
}

// FuzzBuild: whatever is given, what is built has the fields that were asked
// for and no other, and nothing in it is broken.
func FuzzBuild(f *testing.F) {
	f.Add("Ann", "ann@example.com", "Hello", "text", "<p>html", "X-A", "b", "a.txt", "text/plain", "cid", []byte("x"), true)
	f.Add("A\r\nBcc: e@x", "ann@example.com>\r\nX: y", "S\r\n\r\nbody", "\x00", "<", "Bcc", "e@x", "../../a", "multipart/mixed; boundary=b", "a> <b", []byte{0}, false)
	f.Add("=?utf-8?q?x?=", `"a b"@example.com`, strings.Repeat("ü", 400), strings.Repeat("a", 5000), "<a href=x><a>", "References", "<a@b> <c@d>", "ü\".pdf", "message/rfc822", "x", []byte("Subject: x\n\n."), true)
	f.Add("\u202e", "grün@example.com", "a  b\tc", "\r", "&#13;&#0;", "List-Id", "ü", "a;b\"", "text/plain; charset=\"x\\\"y\"", "ü", []byte("\xff"), true)
	f.Fuzz(func(t *testing.T, name, address, subject, text, html, field, value, file, kind, cid string, content []byte, inline bool) {
		m := &Message{
			From: Address{name, address}, To: []Address{{name, "bob@example.net"}, {"", "carl@example.net"}}, Subject: subject, Text: text, HTML: html,
			Headers: []Header{{field, value}}, Attachments: []Attachment{{file, kind, cid, inline, content}}, Date: noon, MessageID: "1@example.com",
		}
		out, err := m.Build()
		if err != nil {
			return
		}
		for _, finding := range lint.Check(out, lint.Options{Now: noon}) {
			if slices.Contains(broken, finding.ID) && (finding.ID != "header.8bit" || isASCII(address)) {
				t.Errorf("%s in line %d: %s\n%s", finding.ID, finding.Line, finding.Text, out)
			}
		}
		read, err := mail.ReadMessage(bytes.NewReader(out))
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		allowed := []string{"From", "To", "Subject", "Date", "Message-Id", "Mime-Version", "Content-Type", "Content-Transfer-Encoding"}
		for key, values := range read.Header {
			if !slices.Contains(allowed, key) && !strings.EqualFold(key, field) || len(values) != 1 {
				t.Errorf("%s stands there %d times\n%s", key, len(values), out)
			}
		}
		if _, err := read.Header.AddressList("From"); err != nil && isASCII(address) {
			t.Errorf("From: %v\n%s", err, out)
		}
		_, parts := leaves(t, out)
		last := parts[len(parts)-1]
		if last.name != file || !bytes.Equal(last.content, content) && !strings.HasPrefix(last.kind, "message/") {
			t.Errorf("the file is %q with %q, not %q with %q\n%s", last.name, last.content, file, content, out)
		}
	})
}
