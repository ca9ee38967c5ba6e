package header

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHeaderEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, in, fields, body string
		end                    End
	}{
		{"plain", "A: 1\r\nB: 2\r\n\r\nbody\r\n", "A: 1\r\n|B: 2\r\n", "body\r\n", EndEmptyLine},
		{"folded", "A: 1\r\n 2\r\n\t3\r\n\r\nx", "A: 1\r\n 2\r\n\t3\r\n", "x", EndEmptyLine},
		{"bare LF", "A: 1\nB: 2\n\nx", "A: 1\n|B: 2\n", "x", EndEmptyLine},
		{"no header", "\r\nbody", "", "body", EndEmptyLine},
		{"empty", "", "", "", EndContent},
		{"headers only", "A: 1\r\n", "A: 1\r\n", "", EndContent},
		{"cut off", "A: 1", "A: 1", "", EndContent},
		{"name only", "A: 1\r\nB", "A: 1\r\n", "B", EndMalformed},
		{"no field", "A: 1\r\nhello world\r\nB: 2\r\n", "A: 1\r\n", "hello world\r\nB: 2\r\n", EndMalformed},
		{"first line continues nothing", " A: 1\r\n\r\n", "", " A: 1\r\n\r\n", EndMalformed},
		{"empty name", ": 1\r\n\r\n", "", ": 1\r\n\r\n", EndMalformed},
		{"space before the colon", "A : 1\r\n\r\nx", "A : 1\r\n", "x", EndEmptyLine},
		{"eight bits in the name", "\xc3\xa4: 1\r\n\r\nx", "", "\xc3\xa4: 1\r\n\r\nx", EndMalformed},
		{"blank continuation", "A: 1\r\n \r\nB: 2\r\n\r\nx", "A: 1\r\n \r\n|B: 2\r\n", "x", EndEmptyLine},
		{"long name", strings.Repeat("a", MaxName+1) + ": 1\r\n", "", strings.Repeat("a", MaxName+1) + ": 1\r\n", EndMalformed},
		{"body of one dot", "A: 1\r\n\r\n.\r\n", "A: 1\r\n", ".\r\n", EndEmptyLine},
		{"carriage return alone", "\r", "", "\r", EndMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for size := range len(tc.in) + 1 {
				h := &Header{}
				body := feed(t, h, []byte(tc.in), size+1)
				if got := list(h); got != tc.fields || string(body) != tc.body || h.End() != tc.end {
					t.Fatalf("pieces of %d: fields %q body %q end %d", size+1, got, body, h.End())
				}
			}
			h, at, err := Parse([]byte(tc.in), Limits{})
			if err != nil || list(h) != tc.fields || tc.in[at:] != tc.body {
				t.Errorf("Parse: %q, body at %d, %v", list(h), at, err)
			}
			r, off, err := Read(strings.NewReader(tc.in), int64(len(tc.in)), Limits{})
			if err != nil || list(r) != tc.fields || int(off) != at {
				t.Errorf("Read: %q, body at %d, %v", list(r), off, err)
			}
		})
	}
}

// feed gives content in pieces of at most size octets and returns the body.
func feed(t testing.TB, h *Header, content []byte, size int) []byte {
	t.Helper()
	for at := 0; at < len(content); {
		piece := content[at:min(at+size, len(content))]
		n, err := h.Feed(piece)
		if err != nil {
			t.Fatal(err)
		}
		at += n
		if h.End() != EndOpen {
			return append(bytes.Clone(h.Rest()), content[at:]...)
		}
		if n != len(piece) {
			t.Fatalf("open, but used %d of %d", n, len(piece))
		}
	}
	if err := h.Finish(); err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(h.Rest())
}

func list(h *Header) string {
	var all []string
	for f := range h.All() {
		all = append(all, string(f.Raw()))
	}
	return strings.Join(all, "|")
}

func TestHeaderLimits(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, in string
		limits   Limits
		bad      bool
	}{
		{"size met", "A: 1\r\n\r\n", Limits{Size: 6}, false},
		{"size passed", "A: 12\r\n\r\n", Limits{Size: 6}, true},
		{"one endless line", "A: " + strings.Repeat("x", 100), Limits{Size: 50}, true},
		{"fields met", "A: 1\r\nB: 2\r\n\r\n", Limits{Fields: 2}, false},
		{"fields passed", "A: 1\r\nB: 2\r\nC: 3\r\n\r\n", Limits{Fields: 2}, true},
		{"default size", "A: " + strings.Repeat("x", MaxSize) + "\r\n\r\n", Limits{}, true},
		{"default fields", strings.Repeat("A:\r\n", MaxFields+1), Limits{}, true},
		{"default fields met", strings.Repeat("A:\r\n", MaxFields), Limits{}, false},
		{"the body has no part in it", "A: 1\r\n\r\n" + strings.Repeat("x", 1000), Limits{Size: 20}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := Parse([]byte(tc.in), tc.limits)
			if got := errors.Is(err, ErrTooLarge); got != tc.bad || err != nil && !got {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestFieldText(t *testing.T) {
	t.Parallel()
	h, _, err := Parse([]byte("Subject:  a\r\n b\r\n\tc \r\nbCC: x\r\nResent-BCC: y\r\nDate:\r\n \r\nMESSAGE-id: <1@x>\r\nX-Date: 1\r\n\r\n"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	want := []struct {
		known Known
		text  string
		blank bool
	}{{Subject, "a b\tc", false}, {Bcc, "x", false}, {ResentBcc, "y", false}, {Date, "", true}, {MessageID, "<1@x>", false}, {Other, "1", false}}
	for i, w := range want {
		f := h.Field(i)
		if f.Known() != w.known || f.Text() != w.text || f.Blank() != w.blank {
			t.Errorf("%q: known %d text %q blank %v", f.Raw(), f.Known(), f.Text(), f.Blank())
		}
	}
	if f, ok := h.Get("message-ID"); !ok || f.Name() != "MESSAGE-id" {
		t.Error("Get does not find a field in another case")
	}
	if h.Count("date") != 1 || h.Count("dat") != 0 {
		t.Error("Count")
	}
}

func TestKnownNamesAreFound(t *testing.T) {
	t.Parallel()
	for k := Date; k <= ContentTransferEncoding; k++ {
		h, _, err := Parse([]byte(strings.ToUpper(k.String())+": x\r\n"), Limits{})
		if err != nil || h.Field(0).Known() != k {
			t.Errorf("%s is not known: %v", k, err)
		}
	}
}

func TestEightBit(t *testing.T) {
	t.Parallel()
	for n := range 100 {
		b := bytes.Repeat([]byte{127}, n)
		if EightBit(b) {
			t.Fatalf("%d octets of 127", n)
		}
		for i := range n {
			b[i] = 128
			if !EightBit(b) {
				t.Fatalf("octet %d of %d missed", i, n)
			}
			b[i] = 0
		}
	}
}

// What comes out of the reader in any pieces is what went in.
func TestPiecesMakeNoDifference(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		lines := rapid.SliceOfN(rapid.SampledFrom([]string{"A: b", " c", "", "\r", "no field", "Bcc : x", "\xff: y", "Subject: \xff", "\r\r", "x"}), 0, 8).Draw(t, "lines")
		eol := rapid.SampledFrom([]string{"\r\n", "\n"}).Draw(t, "eol")
		in := []byte(strings.Join(lines, eol))
		whole := &Header{}
		n, err := whole.Feed(in)
		if err != nil {
			t.Fatal(err)
		}
		_ = whole.Finish()
		body := append(bytes.Clone(whole.Rest()), in[n:]...)
		parts := &Header{}
		at := 0
		for at < len(in) && parts.End() == EndOpen {
			n, err := parts.Feed(in[at:min(len(in), at+rapid.IntRange(1, 5).Draw(t, "size"))])
			if err != nil {
				t.Fatal(err)
			}
			at += n
		}
		_ = parts.Finish()
		if list(parts) != list(whole) || !bytes.Equal(append(bytes.Clone(parts.Rest()), in[at:]...), body) || parts.End() != whole.End() {
			t.Fatalf("%q: in pieces %q, at once %q", in, list(parts), list(whole))
		}
	})
}

func FuzzHeader(f *testing.F) {
	for _, s := range []string{"", "\r\n", "A: b\r\n c\r\n\r\nbody", "A: b\nC\n", "\r\r\n", " x", "A", "A:", "Bcc: x\r\n\t\r\n", "a :b\n\n"} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, in []byte, size int) {
		limits := Limits{Size: 1000, Fields: 10}
		h, at, err := Parse(in, limits)
		if err != nil {
			return
		}
		if h.Len() > 10 || h.Size() > 1000 {
			t.Fatal("limits passed")
		}
		if list := strings.ReplaceAll(list(h), "|", ""); h.Len() > 0 && !strings.Contains(string(in), "|") && list != string(h.Bytes()) {
			t.Fatalf("the fields %q are not the header %q", list, h.Bytes())
		}
		if !bytes.HasPrefix(in, h.Bytes()) || at < h.Size() {
			t.Fatal("the header is not the beginning of the content")
		}
		parts := &Header{limits: limits}
		body := feed(t, parts, in, 1+(size&0xff))
		if !bytes.Equal(body, in[at:]) || parts.End() != h.End() {
			t.Fatalf("body %q in pieces, %q at once", body, in[at:])
		}
		for f := range h.All() {
			again, _, err := Parse(AppendMended(nil, f), limits)
			if err == nil && (again.Len() != 1 || again.Field(0).Name() != f.Name()) {
				t.Fatalf("%q mended is %q", f.Raw(), again.Bytes())
			}
		}
	})
}

func BenchmarkFeed(b *testing.B) {
	msg := []byte(strings.Repeat("X-Field: some value that is not long\r\n", 12) + "\r\n" + strings.Repeat("x", 3500))
	h := &Header{}
	b.ReportAllocs()
	for b.Loop() {
		h.Reset(Limits{})
		if _, err := h.Feed(msg); err != nil {
			b.Fatal(err)
		}
	}
}
