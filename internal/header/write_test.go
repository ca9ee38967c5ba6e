package header

import (
	"errors"
	"mime"
	"net/mail"
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Row 22 of the traps: a field over 998 octets is folded only at white space.
func TestTrap22_LongHeaderField(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 1200)
	words := strings.TrimSpace(strings.Repeat("word ", 600))
	for _, tc := range []struct {
		name, in string
		max      int // longest line allowed
	}{
		{"short", "A: b\r\n", 4},
		{"words", "A: " + words + "\r\n", MaxLine},
		{"no white space stays", "A:" + long + "\r\n", len(long) + 2},
		{"long word after short ones", "A: b c " + long + " d\r\n", len(long) + 1},
		{"already folded", "A: " + words + "\r\n " + words + "\r\n", MaxLine},
		{"white space alone", "A: " + strings.Repeat(" ", 1200) + "\r\n", 1203},
		{"white space between", "A: b" + strings.Repeat(" ", 1200) + "c\r\n", 1203},
		{"tabs", "A: " + strings.ReplaceAll(words, " ", "\t") + "\r\n", MaxLine},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, _, err := Parse([]byte(tc.in), Limits{})
			if err != nil {
				t.Fatal(err)
			}
			out := string(AppendMended(nil, h.Field(0)))
			again, at, err := Parse([]byte(out), Limits{})
			if err != nil || again.Len() != 1 || at != len(out) {
				t.Fatalf("folding made %d fields of one, %v", again.Len(), err)
			}
			if again.Field(0).Text() != h.Field(0).Text() {
				t.Error("folding changed the value")
			}
			for line := range strings.SplitSeq(strings.TrimSuffix(out, "\r\n"), "\r\n") {
				if len(line) > tc.max {
					t.Errorf("a line of %d octets", len(line))
				}
				if strings.TrimSpace(line) == "" {
					t.Error("a line of white space alone")
				}
			}
		})
	}
}

// Row 26 of the traps: no control character gives birth to a header field.
func TestTrap26_ControlCharactersAreRefused(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a\rb", "a\nBcc: x", "a\r\n b", "a\x00", "a\u0085b", "a\u2028b", "a\x1bb", "a\x7f", "a\xffb", "a\u009bb"} {
		calls := map[string]func(*Builder){
			"Add":                func(b *Builder) { b.Add("Subject", bad) },
			"AddText":            func(b *Builder) { b.AddText("Subject", bad) },
			"AddMailbox display": func(b *Builder) { b.AddMailbox("From", bad, "a@b") },
			"AddMailbox address": func(b *Builder) { b.AddMailbox("From", "x", bad) },
			"name":               func(b *Builder) { b.Add("X"+bad, "x") },
		}
		for name, call := range calls {
			b := &Builder{}
			call(b)
			b.Add("Later", "x")
			out, err := b.Bytes()
			var unsafe *UnsafeError
			if !errors.As(err, &unsafe) || len(out) > 0 {
				t.Errorf("%s %q: wrote %q, error %v", name, bad, out, err)
			}
		}
	}
	if err := Check("Subject", "tab\tand ünïcödé"); err != nil {
		t.Error(err)
	}
	b := &Builder{}
	b.Add("Bad name", "x")
	b.Add("", "x")
	if out, err := b.Bytes(); err == nil || len(out) > 0 {
		t.Errorf("a bad name was written: %q", out)
	}
}

func TestBuilderEncodes(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"plain", "Grüße aus Köln", strings.Repeat("lang und schön ", 40), "=?utf-8?q?x?=", strings.Repeat("=? ", 100), "日本語の件名"} {
		b := &Builder{}
		b.AddText("Subject", text)
		b.AddMailbox("From", text, "a@example.net")
		out, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(out), "\r\n") {
			if len(line) > 78 || EightBit([]byte(line)) {
				t.Errorf("line %q", line)
			}
		}
		msg, err := mail.ReadMessage(strings.NewReader(string(out) + "\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
		if err != nil || strings.TrimSpace(subject) != strings.TrimSpace(text) {
			t.Errorf("subject %q, want %q (%v)", subject, text, err)
		}
		from, err := mail.ParseAddress(msg.Header.Get("From"))
		if err != nil || from.Address != "a@example.net" || from.Name != strings.TrimSpace(text) && from.Name != text {
			t.Errorf("from %+v, %v", from, err)
		}
	}
}

func TestEncodePhrase(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringOfN(rapid.RuneFrom([]rune(`ab ".,<>()@\=?_ü日`)), 1, 60, -1).Draw(t, "name")
		got, err := mail.ParseAddress(EncodePhrase(name) + " <a@b.example>")
		if err != nil {
			t.Fatalf("%q: %v", EncodePhrase(name), err)
		}
		if squeeze(got.Name) != squeeze(name) {
			t.Fatalf("%q came back as %q", name, got.Name)
		}
	})
}

func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestReceived(t *testing.T) {
	t.Parallel()
	when := time.Date(2026, 3, 4, 5, 6, 7, 8, time.FixedZone("x", 3600))
	base := Trace{By: "out.example.com", With: "ESMTP", ID: "01ARZ", Time: when}
	with := func(change func(*Trace)) Trace {
		tr := base
		change(&tr)
		return tr
	}
	const tail = ";\r\n\tWed, 4 Mar 2026 04:06:07 +0000\r\n"
	for _, tc := range []struct {
		name string
		in   Trace
		want string
	}{
		{"local", base, "Received: by out.example.com with ESMTP id 01ARZ" + tail},
		{"peer", with(func(t *Trace) { t.Helo, t.Peer = "pc.example", netip.MustParseAddr("192.0.2.1") }), "Received: from pc.example ([192.0.2.1])\r\n\tby out.example.com with ESMTP id 01ARZ" + tail},
		{"mapped", with(func(t *Trace) { t.Helo, t.Peer = "pc", netip.MustParseAddr("::ffff:192.0.2.1") }), "Received: from pc ([192.0.2.1])\r\n\tby out.example.com with ESMTP id 01ARZ" + tail},
		{"IPv6", with(func(t *Trace) { t.Helo, t.Peer = "[IPv6:::1]", netip.MustParseAddr("fe80::1%eth0") }), "Received: from [IPv6:::1] ([IPv6:fe80::1])\r\n\tby out.example.com with ESMTP id 01ARZ" + tail},
		{"forger", with(func(t *Trace) { t.Helo, t.Peer = "a)\r\nBcc: x\x00\xff", netip.MustParseAddr("192.0.2.1") }), "Received: from a???Bcc:?x?? ([192.0.2.1])\r\n\tby out.example.com with ESMTP id 01ARZ" + tail},
		{"nameless", with(func(t *Trace) { t.Peer = netip.MustParseAddr("192.0.2.1") }), "Received: from unknown ([192.0.2.1])\r\n\tby out.example.com with ESMTP id 01ARZ" + tail},
		{"one recipient", with(func(t *Trace) { t.For = "a@b.example" }), "Received: by out.example.com with ESMTP id 01ARZ\r\n\tfor <a@b.example>" + tail},
		{"recipient not ASCII", with(func(t *Trace) { t.For = "ä@b.example" }), "Received: by out.example.com with ESMTP id 01ARZ" + tail},
		{"UTF8", with(func(t *Trace) { t.UTF8, t.With = true, "ESMTPSA" }), "Received: by out.example.com with UTF8SMTPSA id 01ARZ" + tail},
		{"bad protocol", with(func(t *Trace) { t.With = "HT\r\nTP" }), "Received: by out.example.com with HTTP id 01ARZ" + tail},
	} {
		if got := string(AppendReceived(nil, tc.in)); got != tc.want {
			t.Errorf("%s:\n got %q\nwant %q", tc.name, got, tc.want)
		}
	}
	if got := traceName(strings.Repeat("a", 300)); len(got) != maxHelo {
		t.Errorf("a name of %d octets", len(got))
	}
}

func TestHarmless(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{"plain": "plain", "a\tb": "a b", "a\r\nb\x00\x1b\xff": "a??b???", "ü": "??", "0123456789x": "0123456789"} {
		if got := Harmless(in, 10); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}
