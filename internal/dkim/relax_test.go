package dkim

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/header"
)

// plainRelax is RFC 6376 3.4.4 said as plainly as possible.
func plainRelax(body string) string {
	lines := strings.Split(body, "\r\n")
	for i, line := range lines {
		var b strings.Builder
		space := false
		for _, c := range []byte(strings.TrimRight(line, " \t")) {
			blank := c == ' ' || c == '\t'
			if blank && !space {
				b.WriteByte(' ')
			}
			if !blank {
				b.WriteByte(c)
			}
			space = blank
		}
		lines[i] = b.String()
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}

// kept is a hash that keeps what it is given.
type kept struct {
	hash.Hash
	bytes.Buffer
}

func (k *kept) Write(p []byte) (int, error) { return k.Buffer.Write(p) }
func (k *kept) Sum(b []byte) []byte         { return b }
func (k *kept) Reset()                      { k.Buffer.Reset() }

// relaxed gives what the relaxer hashes of pieces.
func relaxed(pieces ...string) string {
	var r relaxer
	k := &kept{}
	r.reset(k)
	for _, p := range pieces {
		r.write([]byte(p))
	}
	r.sum(nil)
	return k.String()
}

func TestRelaxedBody(t *testing.T) {
	long := strings.Repeat("x", 3*gather)
	for body, want := range map[string]string{
		"":                      "",
		"\r\n":                  "",
		"\r\n\r\n\r\n":          "",
		" \t ":                  "",
		" \r\n\t\r\n":           "",
		"a":                     "a\r\n",
		"a\r\n":                 "a\r\n",
		"a \t \r\n\r\n \r\n":    "a\r\n",
		" C \r\nD \t E\r\n\r\n": " C\r\nD E\r\n", // the example of RFC 6376 3.4.5
		"\r\n\r\na":             "\r\n\r\na\r\n",
		"a\r\n \r\n\t\r\nb":     "a\r\n\r\n\r\nb\r\n",
		"a\tb":                  "a b\r\n",
		"a\t":                   "a\r\n",
		"a \rb\nc\r":            "a \rb\nc\r\r\n", // bare ones are text
		"\n":                    "\n\r\n",
		"a  \r":                 "a \r\r\n",
		"a\r\r\n":               "a\r\r\n",
		"a\f\v b":               "a\f\v b\r\n",
		long + "  " + long:      long + " " + long + "\r\n",
		"é  ü\t\r\n":            "é ü\r\n",
		"12345678 \r\n":         "12345678\r\n",
		"1234567 \r\nx":         "1234567\r\nx\r\n",
		"123456 \r\n8 9":        "123456\r\n8 9\r\n",
	} {
		if got := relaxed(body); got != want {
			t.Errorf("%q: %q, want %q", body, got, want)
		}
		if got := plainRelax(body); got != want {
			t.Errorf("%q: the plain form gives %q, want %q", body, got, want)
		}
	}
}

// TestEmptyBodyHash: the hash of nothing, as RFC 6376 3.4.4 gives it.
func TestEmptyBodyHash(t *testing.T) {
	var r relaxer
	r.reset(sha256.New())
	r.write([]byte(" \r\n"))
	if got := hex.EncodeToString(r.sum(nil)); got != "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" {
		t.Error(got)
	}
}

// TestRelaxedBodyInPieces: however a body comes, it is canonicalised as the plain
// form does.
func TestRelaxedBodyInPieces(t *testing.T) {
	token := rapid.SampledFrom([]string{" ", "  ", "\t", "\r\n", "\r\n\r\n", "a", ".", "word", "longer text without white space", "é", "\r", "\n", "\x00", strings.Repeat("y", small), strings.Repeat("z", gather+1)})
	rapid.Check(t, func(t *rapid.T) {
		body := strings.Join(rapid.SliceOfN(token, 0, 60).Draw(t, "body"), "")
		var pieces []string
		for rest := body; rest != ""; {
			n := min(len(rest), rapid.IntRange(1, 40).Draw(t, "piece"))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		want := plainRelax(body)
		if got := relaxed(pieces...); got != want {
			t.Fatalf("%q: %q, want %q", pieces, got, want)
		}
		if got := relaxed(body); got != want {
			t.Fatalf("%q at once: %q, want %q", body, got, want)
		}
	})
}

func TestRelaxedHeader(t *testing.T) {
	for value, want := range map[string]string{
		"":                       "a:",
		" X\r\n":                 "a:X",
		"\tX \t Y\r\n\r\n":       "a:X Y",
		" Y\t\r\n\tZ  \r\n":      "a:Y Z", // RFC 6376 3.4.5
		"\r\n one":               "a:one",
		" one\r\n \r\n two\r\n":  "a:one two",
		"one\r\n\ttwo\r\n three": "a:one two three",
		" \t \r\n":               "a:",
		"é\x01 \xff":             "a:é\x01 \xff",
	} {
		if got := string(appendRelaxed(nil, "a", []byte(value))); got != want {
			t.Errorf("%q: %q, want %q", value, got, want)
		}
	}
}

// signedOf gives h= of a message with these fields, and what is hashed of them.
func signedOf(t *testing.T, fields string) (h []string, text string) {
	t.Helper()
	m := newMessage(nil, Octets(fields+"\r\n"))
	if err := m.readHeader(); err != nil {
		t.Fatal(err)
	}
	m.chosen.choose(&m.header)
	for n := range signable {
		for range m.chosen.named(n) {
			h = append(h, signable[n].name)
		}
	}
	return h, string(m.chosen.appendRelaxed(nil))
}

// TestWhichFieldsAreSigned: what is there, once more for what nobody may add, and
// never what changes on the way.
func TestWhichFieldsAreSigned(t *testing.T) {
	const always = "From Reply-To To Cc Subject Date Message-ID Content-Type List-Id List-Unsubscribe List-Unsubscribe-Post"
	for fields, want := range map[string]string{
		"": always,
		"Received: x\r\nReturn-Path: <a@b>\r\nBcc: c\r\nResent-Bcc: c\r\nDKIM-Signature: v=1\r\nARC-Seal: i=1\r\nAuthentication-Results: x\r\nX-Spam: no\r\nComments: z\r\nX-Mailer: y\r\nDelivered-To: d\r\n": always,
		"From: a@b\r\nfrom : c@d\r\n":                                              "From From " + always,
		"Sender: a@b\r\nSender: b@c\r\n":                                           strings.Replace(always, "From", "From Sender Sender Sender", 1),
		"MIME-Version: 1.0\r\nCc: a@b\r\n":                                         strings.Replace(strings.Replace(always, "Message-ID", "Message-ID MIME-Version MIME-Version", 1), "Cc", "Cc Cc", 1),
		"Resent-To: a@b\r\nResent-To: c@d\r\nList-Help: <x>\r\nFeedback-ID: y\r\n": strings.Replace(always, "Content-Type", "Content-Type Resent-To Resent-To", 1) + " List-Help List-Help Feedback-ID Feedback-ID",
	} {
		got, _ := signedOf(t, fields)
		if strings.Join(got, " ") != want {
			t.Errorf("%q:\n got %v\nwant %s", fields, got, want)
		}
	}
}

// TestRepeatedFieldsFromTheBottom is RFC 6376 5.4.2.
func TestRepeatedFieldsFromTheBottom(t *testing.T) {
	_, text := signedOf(t, "To: 1\r\nSubject: s\r\nTo: 2\r\nX: y\r\nTO : 3\r\n")
	if want := "to:3\r\nto:2\r\nto:1\r\nsubject:s\r\n"; text != want {
		t.Errorf("%q, want %q", text, want)
	}
}

// TestManyRepeatedFieldsAreBounded: the lowest are signed, and no more named.
func TestManyRepeatedFieldsAreBounded(t *testing.T) {
	h, text := signedOf(t, "Subject: first\r\n"+strings.Repeat("Subject: x\r\n", maxRepeated))
	if n := strings.Count(strings.Join(h, " "), "Subject"); n != maxRepeated || strings.Contains(text, "first") || strings.Count(text, "subject:") != maxRepeated {
		t.Errorf("%d named, %d hashed", n, strings.Count(text, "subject:"))
	}
	h, text = signedOf(t, strings.Repeat("Subject: x\r\n", maxRepeated))
	if n := strings.Count(strings.Join(h, " "), "Subject"); n != maxRepeated+1 || strings.Count(text, "subject:") != maxRepeated {
		t.Errorf("%d named, %d hashed", n, strings.Count(text, "subject:"))
	}
}

var at1 = time.Unix(1764000000, 0)

// TestFolding: lines are at most 78 octets where the names let them, and the
// field is one field.
func TestFolding(t *testing.T) {
	k := newOneKey(t).keys[0]
	for _, domain := range []string{"a.example", "widget.com", strings.Repeat("long.", 10) + "example", strings.Repeat("d", 63) + "." + strings.Repeat("e", 63) + ".example"} {
		for _, selector := range []string{"s", "mailout-2026-11-ed25519", strings.Repeat("s", 63)} {
			k.Domain, k.Selector = domain, selector
			field, err := Sign(nil, Octets(widget), []SigningKey{k}, at1)
			if err != nil {
				t.Fatal(err)
			}
			h, _, err := header.Parse(append(field, "\r\n"...), header.Limits{})
			if err != nil || h.Len() != 1 || !h.Field(0).Is("DKIM-Signature") {
				t.Fatalf("%s: %v", field, err)
			}
			for line := range strings.Lines(string(field)) {
				long := strings.Contains(line, domain) && len(domain) > 60 || strings.Contains(line, selector) && len(selector) > 60
				if len(line) > lineLength+2 && !long || strings.TrimSpace(line) == "" {
					t.Errorf("%q", line)
				}
			}
		}
	}
}

// TestSignature: the tags, in their order. There is no l=, which leaves room for
// the text of others, no x=, which a wrong clock would make a trap, and no i=, whose
// default is d=.
func TestSignature(t *testing.T) {
	ed := newOneKey(t).keys[0]
	k, err := Generate(RSA, 0)
	if err != nil {
		t.Fatal(err)
	}
	fields, err := Sign([]byte("Feedback-ID: f\r\n"), Octets(widget+"hi\r\n"), []SigningKey{{"widget.com", "m0", k}, ed}, at1)
	if err != nil {
		t.Fatal(err)
	}
	h, _, err := header.Parse(append(fields, "\r\n"...), header.Limits{})
	if err != nil || h.Len() != 2 {
		t.Fatalf("%d fields, %v", h.Len(), err)
	}
	for i, want := range []map[string]string{
		{"a": "rsa-sha256", "s": "m0"},
		{"a": "ed25519-sha256", "s": "m1"},
	} {
		tags, order, err := parseTags(h.Field(i).Text())
		if err != nil || strings.Join(order, " ") != "v a c d s t h bh b" {
			t.Errorf("%v, %v", order, err)
		}
		want["v"], want["c"], want["d"], want["t"] = "1", "relaxed/relaxed", "widget.com", "1764000000"
		for tag, value := range want {
			if tags[tag] != value {
				t.Errorf("%s=%s, want %s", tag, tags[tag], value)
			}
		}
		if names := strings.Split(withoutSpace(tags["h"]), ":"); names[0] != "From" || names[1] != "From" || names[len(names)-1] != "Feedback-ID" {
			t.Errorf("h=%v", names)
		}
	}
	if fields, err = Sign(nil, Octets(widget), []SigningKey{ed}, time.Time{}); err != nil || strings.Contains(string(fields), "t=") {
		t.Errorf("%s, %v", fields, err)
	}
}

// TestWeakKeysDoNotSign is RFC 8301 3.2.
func TestWeakKeysDoNotSign(t *testing.T) {
	weak := rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), MinSigningBits-2), E: 65537}}
	if f, err := Sign(nil, Octets(widget), []SigningKey{{"widget.com", "m0", &Key{signer: &weak}}}, time.Time{}); err == nil || !strings.Contains(err.Error(), "too weak") {
		t.Errorf("%s, %v", f, err)
	}
}

// TestBodyAfterWhatIsNoField: a line that is no field begins the body, wherever the
// pieces end that the content is read in.
func TestBodyAfterWhatIsNoField(t *testing.T) {
	const line = "this is no field and the body begins"
	for _, head := range []string{"From: a@widget.com\r\n", "From: a@widget.com\r\nX: " + strings.Repeat("x", block-40) + "\r\n"} {
		for _, end := range []string{"", "\r\n", "\r\nmore\r\n"} {
			m := newMessage(nil, &counted{text: head + line + end})
			if err := m.readHeader(); err != nil {
				t.Fatal(err)
			}
			got, err := m.hashBody()
			if want := sha256.Sum256([]byte(plainRelax(line + end))); err != nil || got != want {
				t.Errorf("%d octets of header, %q: the body begins at %d, %v", len(head), end, m.body, err)
			}
		}
	}
}
