package smtp

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

// scanAll feeds in, cut into pieces of n octets, to a scanner.
func scanAll(t testing.TB, in string, n int, repair bool) (content string, used int, done bool) {
	t.Helper()
	s := DotScanner{Repair: repair}
	var out bytes.Buffer
	for used < len(in) && !done {
		piece := in[used:min(len(in), used+n)]
		u, d, err := s.Scan([]byte(piece), &out)
		if err != nil || !d && u != len(piece) {
			t.Fatalf("Scan(%q) used %d, %v", piece, u, err)
		}
		used, done = used+u, d
	}
	return out.String(), used, done
}

func TestTrap20_DotScanner(t *testing.T) {
	t.Parallel()
	const end = "\r\n.\r\n"
	for _, c := range []struct {
		in, want string
		repair   bool
	}{
		{in: ".\r\n", want: ""},
		{in: "\r\n.\r\n", want: "\r\n"},
		{in: "a" + end, want: "a\r\n"},
		{in: "..\r\n.\r\n", want: ".\r\n"},
		{in: "...\r\n.\r\n", want: "..\r\n"},
		{in: ".a\r\n..b\r\nc.\r\n.\r\n", want: "a\r\n.b\r\nc.\r\n"},
		{in: "a\r\n..\r\n..\r\n.\r\n", want: "a\r\n.\r\n.\r\n"},
		{in: "a\r\r\n.\r\n", want: "a\r\r\n"},
		// Smuggling: everything else than CRLF "." CRLF goes on, unchanged.
		{in: "a\n.\nb" + end, want: "a\n.\nb\r\n"},
		{in: "a\n.\r\nb" + end, want: "a\n.\r\nb\r\n"},
		{in: "a\r\n.\nb" + end, want: "a\r\n.\nb\r\n"},
		{in: "a\r\n.\rb" + end, want: "a\r\n.\rb\r\n"},
		{in: "a\r.\rb" + end, want: "a\r.\rb\r\n"},
		{in: "a\r.\r\nb" + end, want: "a\r.\r\nb\r\n"},
		{in: "a\r\n.\r\r\nb" + end, want: "a\r\n.\r\r\nb\r\n"},
		{in: "a\n.b\n..c" + end, want: "a\n.b\n..c\r\n"},
		{in: "\n.\r\n" + end, want: "\n.\r\n\r\n"},
		{in: ".\n.\r\n.\r\n", want: ".\n.\r\n"},
		// Repairing: lines begin after a bare LF too, but never end the data.
		{repair: true, in: "a\n.b\n..c" + end, want: "a\nb\n.c\r\n"},
		{repair: true, in: "a\n.\nb" + end, want: "a\n.\nb\r\n"},
		{repair: true, in: "a\n.\r\nb" + end, want: "a\n.\r\nb\r\n"},
		{repair: true, in: "a\n.\r\n.\r\n", want: "a\n.\r\n"},
		{repair: true, in: "a\r\n.\nb" + end, want: "a\r\n.\nb\r\n"},
		{repair: true, in: "a\r\n.\r.b" + end, want: "a\r\n.\r.b\r\n"},
		{repair: true, in: "a\n.\r.\r\n" + end, want: "a\n.\r.\r\n\r\n"},
		{repair: true, in: "\n..\n.x\n" + end, want: "\n.\nx\n\r\n"},
	} {
		for n := 1; n <= len(c.in); n++ {
			got, used, done := scanAll(t, c.in+"QUIT\r\n", n, c.repair)
			if got != c.want || used != len(c.in) || !done {
				t.Errorf("%q in pieces of %d: %q, used %d of %d, done %v; want %q", c.in, n, got, used, len(c.in), done, c.want)
				break
			}
		}
	}
}

func TestTrap21_SmugglingNeverEnds(t *testing.T) {
	t.Parallel()
	for _, seq := range []string{"\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r\n.\r\r\n", "\r\n\x00.\r\n", "\n\n.\r\n", "\r\r.\r\n"} {
		for _, repair := range []bool{false, true} {
			in := "x" + seq + "MAIL FROM:<>"
			if got, _, done := scanAll(t, in, 3, repair); done {
				t.Errorf("%q ends the data (repair %v) with %q", seq, repair, got)
			}
		}
	}
}

func TestDotScannerGoesOnAfterWriteError(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		in := []byte("a\r\n..b\r\n.\rx\r\n.\r\nQUIT")
		var s DotScanner
		w := &failing{after: n}
		used, done, err := s.Scan(in, w)
		if !errors.Is(err, errFailing) || done {
			t.Fatalf("after %d writes: %v", n, err)
		}
		more, done, err := s.Scan(in[used:], io.Discard)
		if err != nil || !done || string(in[used+more:]) != "QUIT" {
			t.Errorf("after %d writes the scan ends before %q, %v %v", n, in[used+more:], done, err)
		}
	}
}

var errFailing = errors.New("failing writer")

type failing struct{ after int }

func (f *failing) Write(p []byte) (int, error) {
	if f.after == 0 {
		return 0, errFailing
	}
	f.after--
	return len(p), nil
}

func TestTrap20_DotWriter(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                   ".\r\n",
		"\r\n":               "\r\n.\r\n",
		"a":                  "a\r\n.\r\n",
		"a\r":                "a\r\n.\r\n",
		"a\r\n":              "a\r\n.\r\n",
		".":                  "..\r\n.\r\n",
		".\r\n":              "..\r\n.\r\n",
		"..\r\n":             "...\r\n.\r\n",
		"a\r\n.b\r\n.\r\nc.": "a\r\n..b\r\n..\r\nc.\r\n.\r\n",
		"a\n.\r\n":           "a\n..\r\n.\r\n",
		"a\n":                "a\n\r\n.\r\n",
		"\n":                 "\n\r\n.\r\n",
	} {
		for n := 1; n <= max(1, len(in)); n++ {
			if got := stuff(t, in, n); got != want {
				t.Errorf("%q in pieces of %d: %q, want %q", in, n, got, want)
				break
			}
		}
	}
}

func stuff(t testing.TB, in string, n int) string {
	t.Helper()
	var out bytes.Buffer
	w := NewDotWriter(&out)
	for i := 0; i < len(in); i += n {
		piece := in[i:min(len(in), i+n)]
		if m, err := w.Write([]byte(piece)); m != len(piece) || err != nil {
			t.Fatalf("Write(%q) = %d, %v", piece, m, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestDotWriterPassesErrorsOn(t *testing.T) {
	t.Parallel()
	for n := range 4 {
		w := NewDotWriter(&failing{after: n})
		_, err := w.Write([]byte(".a\r\n.b\r\n.c"))
		if !errors.Is(err, errFailing) {
			t.Errorf("after %d writes: %v", n, err)
		}
	}
	w := NewDotWriter(&failing{})
	if err := w.Close(); !errors.Is(err, errFailing) {
		t.Errorf("Close: %v", err)
	}
}

// FuzzDot holds that stuffing and scanning give the content back, whatever it
// is and however it is cut, and that nothing in it ends the data early.
func FuzzDot(f *testing.F) {
	for _, s := range []string{"", ".", "a\r\n.\r\nb", "\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", ".\r", "..\r\n..", "\r\n\r\n.", "a\r"} {
		f.Add(s, uint8(1), uint8(2))
		f.Add(s, uint8(200), uint8(3))
	}
	f.Fuzz(func(t *testing.T, in string, a, b uint8) {
		wire := stuff(t, in, int(a)+1)
		if !strings.HasSuffix(wire, ".\r\n") || strings.Contains(wire[:len(wire)-3], "\n.\r\n") {
			t.Fatalf("%q is stuffed as %q", in, wire)
		}
		content := wire[:len(wire)-3]
		want := strings.ReplaceAll("\n"+content, "\n..", "\n.")[1:]
		if !strings.HasPrefix(want, in) || len(want) > len(in)+2 {
			t.Fatalf("%q comes back as %q", in, want)
		}
		for _, repair := range []bool{true, false} {
			if !repair && strings.Contains(strings.ReplaceAll(in, "\r\n", ""), "\n") {
				continue // a dot after a bare LF is undoubled only where that LF ends a line
			}
			got, used, done := scanAll(t, wire+"X", int(b)+1, repair)
			if !done || used != len(wire) || got != want {
				t.Fatalf("%q is scanned as %q (used %d of %d, done %v), want %q", wire, got, used, len(wire), done, want)
			}
		}
	})
}

// FuzzDotScanner compares the scanner with the plainest one, octet by octet.
func FuzzDotScanner(f *testing.F) {
	for _, s := range []string{".\r\n", "\r\n.\r\n", "a\r\n.\nb\n.\r\nc\r.\r\n.\r\n", "\r\n.\r\r\n.\r\n", "\n.x\n..y\n.\n\r\n.\r\n", ".\r.\r\n.\r\n", "\r\n..\r\n.\r\n"} {
		f.Add(s, uint8(0), true)
		f.Add(s, uint8(4), false)
	}
	f.Fuzz(func(t *testing.T, in string, n uint8, repair bool) {
		got, used, done := scanAll(t, in, int(n)+1, repair)
		want, end := plainScan(in, repair)
		if end < 0 {
			if done {
				t.Fatalf("%q ends at %d, but has no end", in, used)
			}
			return
		}
		if !done || used != end || got != want {
			t.Fatalf("%q: %q to %d (%v), want %q to %d", in, got, used, done, want, end)
		}
	})
}

// plainScan is DotScanner by its definition, on the whole input at once.
func plainScan(in string, repair bool) (content string, end int) {
	if strings.HasPrefix(in, ".\r\n") {
		return "", 3
	}
	i := strings.Index(in, "\r\n.\r\n")
	if i < 0 {
		return "", -1
	}
	data := in[:i+2]
	var b strings.Builder
	for j := range len(data) {
		begins := j == 0 || strings.HasSuffix(data[:j], "\r\n") || repair && strings.HasSuffix(data[:j], "\n")
		if begins && data[j] == '.' && data[j+1] != '\r' && data[j+1] != '\n' {
			continue
		}
		b.WriteByte(data[j])
	}
	return b.String(), i + 5
}

func BenchmarkDotScanner(b *testing.B) {
	in := []byte(strings.Repeat(strings.Repeat("x", 70)+"\r\n", 57) + ".\r\n")
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		var s DotScanner
		if _, done, _ := s.Scan(in, io.Discard); !done {
			b.Fatal("no end")
		}
	}
}
