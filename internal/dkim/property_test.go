package dkim_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/dkim"
	"mailout/internal/header"
	"mailout/internal/mtatest"
)

// signedNames are fields that every signature covers when they are there.
var signedNames = []string{"From", "To", "Cc", "Subject", "Date", "Message-ID", "Reply-To", "Sender", "MIME-Version", "Content-Type", "List-Id", "List-Unsubscribe", "List-Unsubscribe-Post", "References"}

// drawMessage gives a header's fields and a body.
func drawMessage(t *rapid.T) (fields []string, body string) {
	value := rapid.StringMatching(`( |\t)?[!-9;-~é]{1,20}((\r\n)?[ \t]{1,3}[!-~]{1,12}){0,4} {0,2}`)
	name := rapid.SampledFrom(append([]string{"X-Other", "Received", "Comments", "resent-to", "subject", "FROM"}, signedNames...))
	fields = []string{"From: a@origin.test\r\n"}
	for range rapid.IntRange(0, 12).Draw(t, "fields") {
		fields = append(fields, name.Draw(t, "name")+":"+value.Draw(t, "value")+"\r\n")
	}
	line := rapid.StringMatching(`[ \t]{0,2}([!-~é.]{1,12}[ \t]{0,3}){0,6}`)
	return fields, strings.Join(rapid.SliceOfN(line, 0, 8).Draw(t, "lines"), "\r\n")
}

// TestRandomMessagesVerify: what is signed verifies, and not when a field that is
// signed or the body is changed, or another such field is added.
func TestRandomMessagesVerify(t *testing.T) {
	keys, lookUp := pair(t)
	keys = keys[1:] // Ed25519: many
	rapid.Check(t, func(t *rapid.T) {
		fields, body := drawMessage(t)
		text := strings.Join(fields, "") + "\r\n" + body
		signature, err := dkim.Sign(nil, dkim.Octets(text), keys, time.Unix(rapid.Int64Range(1, 1e9).Draw(t, "at"), 0))
		if err != nil {
			t.Fatal(err)
		}
		verifies := func(text string) bool { return good(verifyAll(string(signature)+text, lookUp), 1) }
		if !verifies(text) {
			t.Fatalf("it does not verify:\n%s%s", signature, text)
		}
		// White space is no change.
		if spaced := strings.Join(fields, "") + "\r\n" + strings.ReplaceAll(body, " ", " \t ") + " \r\n\r\n"; !verifies(spaced) {
			t.Fatalf("white space breaks it:\n%s%s", signature, spaced)
		}
		for _, name := range signedNames {
			if name == "Sender" || name == "References" || name == "MIME-Version" {
				continue // added by others to mail without it
			}
			if verifies(name + ": added\r\n" + text) {
				t.Fatalf("another %s goes unseen:\n%s%s", name, signature, text)
			}
		}
		i := rapid.IntRange(0, len(text)-1).Draw(t, "octet")
		if c := text[i]; strings.IndexByte(" \t\r\n:", c) >= 0 || !covers(fields, i) {
			return
		}
		changed := []byte(text)
		changed[i] ^= byte(rapid.SampledFrom([]int{1, 2, 4, 8, 16}).Draw(t, "bit"))
		if bytes.IndexByte([]byte(" \t\r\n:"), changed[i]) >= 0 || sameName(text, string(changed)) {
			return
		}
		if verifies(string(changed)) {
			t.Fatalf("octet %d, %q to %q, goes unseen:\n%s%s", i, text[i], changed[i], signature, text)
		}
	})
}

// covers reports whether an octet is in a field that is signed, or in the body.
func covers(fields []string, i int) bool {
	for _, f := range fields {
		if i < len(f) {
			name, _, _ := strings.Cut(f, ":")
			for _, s := range append(signedNames, "resent-to") {
				if strings.EqualFold(s, name) {
					return true
				}
			}
			return false
		}
		i -= len(f)
	}
	return true
}

// sameName reports whether a change only made a letter of a field's name another
// case, which is no change.
func sameName(a, b string) bool {
	h, _, err := header.Parse([]byte(a), header.Limits{})
	g, _, err2 := header.Parse([]byte(b), header.Limits{})
	if err != nil || err2 != nil || h.Len() != g.Len() {
		return false
	}
	for i := range h.Len() {
		if !strings.EqualFold(h.Field(i).Name(), g.Field(i).Name()) || !bytes.Equal(h.Field(i).Value(), g.Field(i).Value()) {
			return false
		}
	}
	_, x, _ := strings.Cut(a, "\r\n\r\n")
	_, y, _ := strings.Cut(b, "\r\n\r\n")
	return x == y
}

// FuzzSign: whatever is stored can be signed and verifies, from memory and from
// disk alike.
func FuzzSign(f *testing.F) {
	for _, m := range mtatest.OddMessages() {
		if len(m.Text) < 2000 {
			f.Add(m.Text)
		}
	}
	keys, lookUp := pair(f)
	keys = keys[1:]
	f.Fuzz(func(t *testing.T, text string) {
		text = mtatest.OddMessage{Text: "From: a@origin.test\n" + text, Raw: true}.Wire()
		fields, err := dkim.Sign(nil, dkim.Octets(text), keys, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		again, err := dkim.Sign(nil, disk(text), keys, time.Time{})
		if err != nil || !bytes.Equal(fields, again) {
			t.Fatalf("%s\n%s, %v", fields, again, err)
		}
		h, body, err := header.Parse([]byte(text), header.Limits{})
		if err != nil || h.End() != header.EndEmptyLine || strings.Contains(text, "\x00") {
			return // nothing like that is stored
		}
		for i := range h.Len() {
			if len(h.Field(i).Name()) != bytes.IndexByte(h.Field(i).Raw(), ':') {
				return // white space before the colon, which the verifier does not take
			}
		}
		if n := bytes.IndexByte([]byte(text), '\n'); n < 0 || body == 0 {
			return
		}
		if got := verifyAll(string(fields)+text, lookUp); !good(got, 1) {
			t.Fatalf("%v\n%s%s", got, fields, text)
		}
	})
}
