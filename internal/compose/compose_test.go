package compose

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/lint"
)

var noon = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

// plain is a message that says all it has to.
func plain() *Message {
	return &Message{
		From: Address{"Ann", "ann@example.com"}, To: []Address{{"", "bob@example.net"}},
		Subject: "Hello", Text: "Good day.\n", Date: noon, MessageID: "1@example.com",
	}
}

func build(t rapid.TB, m *Message) []byte {
	t.Helper()
	out, err := m.Build()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range lint.Check(out, lint.Options{From: m.From.Address, Now: noon}) {
		t.Errorf("lint: line %d: %s: %s", f.Line, f.ID, f.Text)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	return out
}

// leaf is a part that was read back.
type leaf struct {
	path, kind, name, cid, disposition string
	content                            []byte
}

// leaves reads a message back with the standard library.
func leaves(t rapid.TB, content []byte) (mail.Header, []leaf) {
	t.Helper()
	m, err := mail.ReadMessage(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	var out []leaf
	collect(t, "", map[string][]string(m.Header), m.Body, &out)
	return m.Header, out
}

func collect(t rapid.TB, path string, h map[string][]string, body io.Reader, out *[]leaf) {
	t.Helper()
	get := mail.Header(h).Get
	kind, params, err := mime.ParseMediaType(get("Content-Type"))
	if err != nil {
		t.Fatalf("%q: %v", get("Content-Type"), err)
	}
	if sub, ok := strings.CutPrefix(kind, "multipart/"); ok {
		r := multipart.NewReader(body, params["boundary"])
		for {
			p, err := r.NextRawPart()
			if err == io.EOF {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			collect(t, path+sub+"/", p.Header, p, out)
		}
	}
	switch get("Content-Transfer-Encoding") {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	content, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	disposition, dp, _ := mime.ParseMediaType(get("Content-Disposition")) //nolint:errcheck // texts have none
	*out = append(*out, leaf{path, kind, dp["filename"], strings.Trim(get("Content-Id"), "<>"), disposition, content})
}

func TestStructureOfEachKindOfMessage(t *testing.T) {
	file := Attachment{Name: "a.pdf", Content: []byte("%PDF")}
	picture := Attachment{Name: "logo.png", ContentID: "logo", Inline: true, Content: []byte{0x89, 'P'}}
	for _, c := range []struct {
		name  string
		html  string
		files []Attachment
		want  string
	}{
		{"text", "", nil, "text/plain"},
		{"html", "<p>Hi</p>", nil, "alternative/text/plain alternative/text/html"},
		{"text and file", "", []Attachment{file}, "mixed/text/plain mixed/application/pdf"},
		{"html and file", "<p>Hi</p>", []Attachment{file}, "mixed/alternative/text/plain mixed/alternative/text/html mixed/application/pdf"},
		{"html and picture", "<img src=cid:logo>", []Attachment{picture}, "related/alternative/text/plain related/alternative/text/html related/image/png"},
		{"all", "<img src=cid:logo>", []Attachment{file, picture},
			"mixed/related/alternative/text/plain mixed/related/alternative/text/html mixed/related/image/png mixed/application/pdf"},
		{"text and picture", "", []Attachment{picture}, "mixed/text/plain mixed/image/png"},
	} {
		m := plain()
		m.HTML, m.Attachments = c.html, c.files
		out := build(t, m)
		_, got := leaves(t, out)
		if related := bytes.Contains(out, []byte("multipart/related; type=\"multipart/alternative\";\r\n boundary=")); related != strings.Contains(c.want, "related/") {
			t.Errorf("%s: multipart/related does not say what it begins with (RFC 2387)", c.name) // it must
		}
		var paths []string
		for _, l := range got {
			paths = append(paths, l.path+l.kind)
		}
		if s := strings.Join(paths, " "); s != c.want {
			t.Errorf("%s: %s, want %s", c.name, s, c.want)
		}
	}
}

func TestRefusalsNameTheField(t *testing.T) {
	for _, c := range []struct {
		field string
		spoil func(m *Message)
	}{
		{"from", func(m *Message) { m.From.Address = "" }},
		{"from", func(m *Message) { m.From.Name = "Ann\r\nBcc: eve@example.org" }},
		{"from", func(m *Message) { m.From.Address = "ann@example.com>\nX: y" }},
		{"from", func(m *Message) { m.From.Name = strings.Repeat("n", MaxName+1) }},
		{"sender", func(m *Message) { m.Sender = &Address{"", "nobody"} }},
		{"to[1]", func(m *Message) { m.To = append(m.To, Address{"", "bob@example.net, eve@example.org"}) }},
		{"cc[0]", func(m *Message) { m.Cc = []Address{{"\x00", "bob@example.net"}} }},
		{"reply_to[0]", func(m *Message) { m.ReplyTo = []Address{{"\u0085", "bob@example.net"}} }},
		{"to", func(m *Message) { m.To = make([]Address, MaxAddresses+1) }},
		{"subject", func(m *Message) { m.Subject = "a\nBcc: eve@example.org" }},
		{"subject", func(m *Message) { m.Subject = "a\rb" }},
		{"subject", func(m *Message) { m.Subject = "\xff" }},
		{"subject", func(m *Message) { m.Subject = strings.Repeat("s", MaxSubject+1) }},
		{"text", func(m *Message) { m.Text = "a\x00b" }},
		{"text", func(m *Message) { m.Text = "\xe4" }},
		{"html", func(m *Message) { m.HTML = "<p>\x00" }},
		{"headers", func(m *Message) { m.Headers = make([]Header, MaxHeaders+1) }},
		{"headers[0].name", head("", "x")},
		{"headers[0].name", head("X Y", "x")},
		{"headers[0].name", head("X:", "x")},
		{"headers[0].name", head("X\r\nBcc", "x")},
		{"headers[0].name", head("Ü", "x")},
		{"headers[0].name", head(strings.Repeat("X", MaxHeaderName+1), "x")},
		{"headers[0].value", head("X-Y", "")},
		{"headers[0].value", head("X-Y", " \t")},
		{"headers[0].value", head("X-Y", "a\r\n b")},
		{"headers[0].value", head("X-Y", "a\u2028b")},
		{"headers[0].value", head("X-Y", strings.Repeat("x ", MaxHeaderValue))},
		{"headers[0].value", head("X-Y", strings.Repeat("x", maxWord+1))},
		{"headers[0].value", head("References", "<ü@example.com>")},
		{"headers[0].value", head("Message-ID", "no id")},
		{"headers[1].name", func(m *Message) { m.Headers = []Header{{"List-Id", "<a.b>"}, {"list-ID", "<a.b>"}} }},
		{"headers[0].name", func(m *Message) { m.MessageID = "1@b"; head("Message-ID", "<2@b>")(m) }},
		{"message_id", func(m *Message) { m.MessageID = "<a@b>\r\nX: y" }},
		{"date", func(m *Message) { m.Date = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"attachments", func(m *Message) { m.Attachments = make([]Attachment, MaxAttachments+1) }},
		{"attachments[0].name", named("")},
		{"attachments[0].name", named("..")},
		{"attachments[0].name", named("../../etc/passwd")},
		{"attachments[0].name", named("/etc/passwd")},
		{"attachments[0].name", named(`..\autoexec.bat`)},
		{"attachments[0].name", named("a\r\nContent-Type: text/html")},
		{"attachments[0].name", named("a\tb")},
		{"attachments[0].name", named("a\x00.pdf")},
		{"attachments[0].name", named("invoice\u202efdp.exe")},
		{"attachments[0].name", named(strings.Repeat("n", MaxFileName+1))},
		{"attachments[0].type", attach(Attachment{Name: "a", ContentType: "text"})},
		{"attachments[0].type", attach(Attachment{Name: "a", ContentType: "multipart/mixed; boundary=x"})},
		{"attachments[0].type", attach(Attachment{Name: "a", ContentType: "text/plain\r\nX: y"})},
		{"attachments[0].type", attach(Attachment{Name: "a", ContentType: "text/plain; x=\"ü\""})},
		{"attachments[0].cid", attach(Attachment{Name: "a", ContentID: "a>\r\nX: y"})},
		{"attachments[0].cid", attach(Attachment{Name: "a", ContentID: "a b"})},
		{"attachments[1].cid", func(m *Message) {
			m.Attachments = []Attachment{{Name: "a", ContentID: "x"}, {Name: "b", ContentID: "x"}}
		}},
		{"attachments[0].cid", func(m *Message) { m.HTML = "<p>"; attach(Attachment{Name: "ä b", Inline: true})(m) }},
		{"attachments[0].content", attach(Attachment{Name: "a", ContentType: "message/rfc822", Content: []byte("Subject: ä\n\n")})},
	} {
		m := plain()
		m.MessageID = ""
		c.spoil(m)
		out, err := m.Build()
		var bad *FieldError
		if !errors.As(err, &bad) || bad.Field != c.field || bad.Problem == "" {
			t.Errorf("want a refusal of %s, got %v\n%s", c.field, err, out)
		}
	}
}

func head(name, value string) func(*Message) {
	return func(m *Message) { m.Headers = []Header{{name, value}} }
}

func named(name string) func(*Message) { return attach(Attachment{Name: name}) }

func attach(a Attachment) func(*Message) {
	return func(m *Message) { m.Attachments = []Attachment{a} }
}

func TestFieldsOfServersAreRefused(t *testing.T) {
	for _, name := range []string{
		"Received", "return-path", "DKIM-Signature", "ARC-Seal", "Authentication-Results", "Content-Type", "content-transfer-encoding",
		"Content-X", "MIME-Version", "Bcc", "BCC", "Resent-Bcc", "Resent-To", "From", "Sender", "To", "Cc", "Reply-To", "Subject", "Date", "Delivered-To",
	} {
		m := plain()
		m.Headers = []Header{{name, "x"}}
		var bad *FieldError
		if _, err := m.Build(); !errors.As(err, &bad) || bad.Field != "headers[0].name" {
			t.Errorf("%s: %v", name, err)
		}
	}
}
