package submit

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"mailout/internal/header"
)

// Any octets in any pieces are either refused, or stored with CRLF as the only
// line end, no NUL, a header that reads as the same fields again, and the body
// that was given.
func FuzzDraft(f *testing.F) {
	for _, s := range []string{
		"", "\r\n", ".", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\r\n", "\x00", "From a b\r\nx", ">From ", "From ",
		"Bcc: a\r\n b\r\n\r\nx", "Subject: \xe4\r\n\r\n\xff", "A:\r\n\r\n..\r\n.\r\n", " x\r\n", "a b\nc: d", "Date:\nFrom:\n\nMessage-ID: <x>\n",
		"X: " + strings.Repeat("long ", 300) + "\r\n\r\n",
	} {
		f.Add([]byte(s), 3, false)
		f.Add([]byte(s), 100, true)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int, repair bool) {
		r := request()
		if repair {
			r.LineEnds = RepairBare
		}
		size = 1 + size&0x3ff
		w := newWorld()
		sub, out, err := w.submit(t, r, string(in), size)
		if err != nil {
			var refusal *Refusal
			if !errors.As(err, &refusal) || refusal.Reply.Code/100 != 5 || w.store.live != 0 {
				t.Fatalf("not refused but %v", err)
			}
			if repair && bytes.IndexByte(in, 0) < 0 && refusal.Reply.Enhanced.Subject == 6 {
				t.Fatalf("repair refused %q: %v", in, err)
			}
			return
		}
		checkClean(t, out)
		h, at, err := header.Parse([]byte(out), header.Limits{})
		if err != nil || h.End() != header.EndEmptyLine {
			t.Fatalf("the header of %q ends with %v (%v)", out, h.End(), err)
		}
		for _, name := range []string{"Date", "From", "Message-ID"} {
			if h.Count(name) == 0 {
				t.Fatalf("no %s in %q", name, out)
			}
		}
		for _, name := range []string{"Bcc", "Resent-Bcc", "Return-Path"} {
			if h.Count(name) != 0 {
				t.Fatalf("%s in %q", name, out)
			}
		}
		if sub.Message.EightBit && !header.EightBit(in) || header.EightBit([]byte(out)) && !sub.Message.EightBit {
			t.Fatalf("8-bit is said to be %v", sub.Message.EightBit)
		}
		whole, _, err := newWorld().submit(t, r, string(in), 0)
		if err != nil {
			t.Fatalf("at once: %v", err)
		}
		if got := whole.Content.(*memDraft).buf.String(); len(got) != len(out) || got[len(got)-len(out)+at:] != out[at:] {
			t.Fatalf("in pieces of %d %q, at once %q", size, out, got)
		}
		if !bytes.HasSuffix(mendAll(in), []byte(out[at:])) {
			t.Fatalf("the body %q is not the end of %q", out[at:], in)
		}
	})
}

func checkClean(t *testing.T, out string) {
	t.Helper()
	if !strings.HasSuffix(out, "\r\n") || strings.ContainsRune(out, 0) {
		t.Fatalf("no line end at the end, or NUL: %q", out)
	}
	if n := strings.Count(out, "\r\n"); n != strings.Count(out, "\r") || n != strings.Count(out, "\n") {
		t.Fatalf("a bare CR or LF in %q", out)
	}
}

// mendAll is the plain definition of the repair that intake does in pieces: up
// to eight CRs before an LF are one line end with it.
func mendAll(in []byte) []byte {
	var out []byte
	for i := 0; i < len(in); {
		switch c := in[i]; c {
		case '\n':
			out = append(out, "\r\n"...)
			i++
		case '\r':
			n := 0
			for i+n < len(in) && in[i+n] == '\r' {
				n++
			}
			i += n
			groups := (n - 1) / maxHeldCR * maxHeldCR // flushed before it was known what follows
			if i < len(in) && in[i] == '\n' {
				n = groups + 1
				i++
			}
			out = append(out, bytes.Repeat([]byte("\r\n"), n)...)
		default:
			out = append(out, c)
			i++
		}
	}
	if !bytes.HasSuffix(out, []byte("\r\n")) {
		out = append(out, "\r\n"...)
	}
	return out
}

func BenchmarkIntake4K(b *testing.B) {
	w := newWorld()
	msg := []byte(full + strings.Repeat("X-Field: some value that is not long\r\n", 8) + "\r\n" + strings.Repeat("a line of the body, as long as they usually are, give or take\r\n", 56))
	r := request()
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		d, err := w.Begin(b.Context(), r)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := d.Write(msg); err != nil {
			b.Fatal(err)
		}
		if _, err := d.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
		w.store.put = w.store.put[:0]
		w.queue.added = w.queue.added[:0]
	}
}
