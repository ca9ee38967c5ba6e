package compose

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/mail"
	"os/exec"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// texts are what names and subjects are made of: scripts, quotes, what looks
// like an encoded word, and white space in a row.
var wordsOf = rapid.SampledFrom([]string{
	"Hello", "Grüße", "日本語のとても長い件名です", "=?utf-8?q?no?=", `"quoted"`, `back\slash`, "a,b;c:d", "<angle@example.com>", "(comment)",
	"👩‍🚀", "  ", "é", "x=3D", "Zażółć", "שלום", strings.Repeat("long", 40), "@", ".",
})

func lineOf(most int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		return strings.TrimSpace(strings.Join(rapid.SliceOfN(wordsOf, 0, most).Draw(t, "words"), " "))
	})
}

func addressOf() *rapid.Generator[Address] {
	return rapid.Custom(func(t *rapid.T) Address {
		name := lineOf(4).Draw(t, "name")
		for len(name) > MaxName {
			name = ""
		}
		return Address{name, rapid.SampledFrom([]string{
			"ann@example.com", "bob.o'brien+tag@example.net", `"two words"@example.org`, "x@xn--bcher-kva.example", "y@sub.domain.example",
		}).Draw(t, "address")}
	})
}

func bodyOf() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		parts := rapid.SliceOfN(rapid.SampledFrom([]string{
			"From here\n", ".\n", "..dots\n", "trailing space \n", "tab\t\n", "Grüße\n", "日本語のテキスト\n", "\n", "--x--\n", "=\n", strings.Repeat("no end ", 300), "a\r\nb\r\n",
		}), 1, 12).Draw(t, "lines")
		return "x" + strings.Join(parts, "")
	})
}

func fileOf(i int) *rapid.Generator[Attachment] {
	return rapid.Custom(func(t *rapid.T) Attachment {
		a := Attachment{
			Name:        rapid.SampledFrom([]string{"report.pdf", "Übersicht 2026.txt", "日本語.csv", `a"b;c=d.bin`, strings.Repeat("länge", 40) + ".dat", "no ending", "100%.txt", "'x'.txt"}).Draw(t, "file"),
			Content:     rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "content"),
			ContentType: rapid.SampledFrom([]string{"", "application/pdf", "text/calendar; method=REQUEST; charset=utf-8", "application/octet-stream"}).Draw(t, "type"),
		}
		if rapid.Bool().Draw(t, "inline") {
			a.Inline, a.ContentID = true, "id"+strings.Repeat("x", i)+"@example.com"
		}
		return a
	})
}

func messageOf() *rapid.Generator[*Message] {
	return rapid.Custom(func(t *rapid.T) *Message {
		m := &Message{
			From: addressOf().Draw(t, "from"), To: rapid.SliceOfN(addressOf(), 0, 4).Draw(t, "to"), Cc: rapid.SliceOfN(addressOf(), 0, 3).Draw(t, "cc"),
			ReplyTo: rapid.SliceOfN(addressOf(), 0, 2).Draw(t, "reply"), Subject: "S " + lineOf(12).Draw(t, "subject"), Text: bodyOf().Draw(t, "text"), Date: noon,
		}
		if rapid.Bool().Draw(t, "html") {
			m.HTML = "<p>" + bodyOf().Draw(t, "htmltext") + "</p>"
		}
		for range rapid.IntRange(0, 3).Draw(t, "headers") {
			m.Headers = append(m.Headers, Header{"X-Note", "n " + lineOf(6).Draw(t, "note")})
		}
		for i := range rapid.IntRange(0, 3).Draw(t, "files") {
			m.Attachments = append(m.Attachments, fileOf(i).Draw(t, "attachment"))
		}
		return m
	})
}

// TestWhatIsBuiltReadsBack holds that a reader gets what the caller gave, for
// any message, and that lint finds nothing.
func TestWhatIsBuiltReadsBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := messageOf().Draw(t, "message")
		content := build(t, m)
		h, parts := leaves(t, content)
		sameList(t, h, "From", []Address{m.From})
		sameList(t, h, "To", m.To)
		sameList(t, h, "Cc", m.Cc)
		sameList(t, h, "Reply-To", m.ReplyTo)
		if got := decoded(h.Get("Subject")); got != strings.TrimSpace(m.Subject) {
			t.Errorf("Subject is %q, want %q", got, m.Subject)
		}
		for i, v := range h["X-Note"] {
			want := strings.TrimSpace(m.Headers[i].Value)
			if isASCII(want) && strings.Contains(want, "  ") { // goes as it is; Go's reader makes a fold one space
				continue
			}
			if decoded(v) != want {
				t.Errorf("X-Note is %q, want %q", decoded(v), want)
			}
		}
		sameParts(t, m, parts)
	})
}

func decoded(value string) string {
	text, err := new(mime.WordDecoder).DecodeHeader(value)
	if err != nil {
		return err.Error()
	}
	return text
}

func sameList(t rapid.TB, h mail.Header, field string, want []Address) {
	t.Helper()
	if len(want) == 0 {
		return
	}
	got, err := h.AddressList(field)
	if err != nil || len(got) != len(want) {
		t.Errorf("%s is %q: %v", field, h.Get(field), err)
		return
	}
	for i, a := range got {
		plain := strings.ReplaceAll(want[i].Address, `"`, "")
		if a.Name != want[i].Name || a.Address != plain {
			t.Errorf("%s[%d] is %q %q, want %q", field, i, a.Name, a.Address, want[i])
		}
	}
}

func sameParts(t rapid.TB, m *Message, parts []leaf) {
	t.Helper()
	texts := 1
	if string(parts[0].content) != string(crlf([]byte(m.Text))) {
		t.Errorf("the text is %q, want %q", parts[0].content, m.Text)
	}
	if m.HTML != "" {
		texts = 2
		if string(parts[1].content) != string(crlf([]byte(m.HTML))) {
			t.Errorf("the HTML is %q, want %q", parts[1].content, m.HTML)
		}
	}
	if len(parts)-texts != len(m.Attachments) {
		t.Errorf("%d files, want %d", len(parts)-texts, len(m.Attachments))
		return
	}
	for _, a := range m.Attachments {
		found := false
		for _, p := range parts[texts:] {
			found = found || p.name == a.Name && bytes.Equal(p.content, a.Content) && p.cid == a.ContentID && (p.disposition == "inline") == a.Inline
		}
		if !found {
			t.Errorf("the file %q is not there as it was given", a.Name)
		}
	}
}

// pythonReads prints what Python's email package understands.
const pythonReads = `
import email, email.policy, json, sys
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.default)
def boxes(n):
    f = m[n]
    return [] if f is None else [[a.display_name, a.addr_spec] for a in f.addresses]
out = {"subject": str(m["subject"]), "from": boxes("from"), "to": boxes("to"), "note": str(m["x-note"]), "defects": [], "parts": []}
for p in m.walk():
    out["defects"] += [repr(d) for d in p.defects]
    if not p.is_multipart():
        c = p.get_payload(decode=True)
        out["parts"].append([p.get_content_type(), p.get_filename() or "", (p["content-id"] or "").strip("<>"), c.hex()])
json.dump(out, sys.stdout)
`

// TestPythonReadsTheSame is the second witness.
func TestPythonReadsTheSame(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed")
	}
	m := plain()
	m.From.Name = "Jürgen \"der Große\" Müller, GmbH" // one encoded word: Python 3.11 leaves a space between two of a name
	m.To = []Address{{"日本 太郎", "taro@example.com"}, {"O'Brien, Pat", "pat@example.net"}, {"", "bare@example.org"}}
	m.Subject = "Grüße  aus =?utf-8?q?dem?= Süden: " + strings.Repeat("日本語 ", 30) + "Ende"
	m.Text, m.HTML = "Guten Tag\n.\nFrom here\n", "<p>Grüße 👩‍🚀</p>"
	m.Headers = []Header{{"X-Note", "für   alle"}}
	m.Attachments = []Attachment{
		{Name: "Übersicht; \"neu\".pdf", Content: []byte{0, 1, 255}}, {Name: strings.Repeat("ä", 100) + ".txt", Content: []byte("ä")},
		{Name: "logo.png", Inline: true, ContentID: "logo@example.com", Content: []byte{9}},
	}
	cmd := exec.Command(python, "-c", pythonReads)
	cmd.Stdin = bytes.NewReader(build(t, m))
	raw, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Subject, Note string
		From, To      [][2]string
		Defects       []string
		Parts         [][4]string
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if got.Subject != m.Subject || got.Note != m.Headers[0].Value || len(got.Defects) > 0 {
		t.Errorf("Python reads %q, %q, defects %v", got.Subject, got.Note, got.Defects)
	}
	for i, a := range append([]Address{m.From}, m.To...) {
		if g := append(got.From, got.To...)[i]; g != [2]string{a.Name, a.Address} {
			t.Errorf("Python reads %q, want %q", g, a)
		}
	}
	want := []string{"text/plain ", "text/html ", "image/png logo.png", "application/pdf " + m.Attachments[0].Name, "text/plain " + m.Attachments[1].Name}
	for i, w := range want {
		if g := got.Parts[i][0] + " " + got.Parts[i][1]; g != w {
			t.Errorf("Python reads part %d as %q, want %q", i, g, w)
		}
	}
}
