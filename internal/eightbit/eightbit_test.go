package eightbit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"net/textproto"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"mailout/internal/header"
)

func convert(t testing.TB, in string) string {
	t.Helper()
	var b bytes.Buffer
	if err := Convert(&b, strings.NewReader(in), int64(len(in))); err != nil {
		t.Fatal(err)
	}
	needed, err := Needed(strings.NewReader(in), int64(len(in)))
	if err != nil || needed != (b.String() != in) {
		t.Fatalf("needed %v (%v), but %q became %q", needed, err, in, b.String())
	}
	return b.String()
}

// crlf makes a message of a readable literal.
func crlf(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") }

func TestConvert(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, in, want string }{
		{"ASCII stays", "Subject: x\n\nhello\n", ""},
		{"headers only", "Subject: x\n", ""},
		{"undeclared", "Subject: x\n\nGr\xfc\xdfe =\n", "Subject: x\nMIME-Version: 1.0\nContent-Type: text/plain; charset=unknown-8bit\nContent-Transfer-Encoding: quoted-printable\n\nGr=FC=DFe =3D\n"},
		{"declared text", "MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: 8bit\nTo: x\n\nä \n", "MIME-Version: 1.0\nContent-Type: text/html; charset=utf-8\nContent-Transfer-Encoding: quoted-printable\nTo: x\n\n=C3=A4=20\n"},
		{"encoding folded, in another case", "Content-Type: text/plain\nMIME-Version: 1.0\ncontent-transfer-ENCODING:\n 8BIT (of course)\n\nä\n", "Content-Type: text/plain\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n"},
		{"not text", "MIME-Version: 1.0\nContent-Type: image/png\n\n\x89PNG\n", "MIME-Version: 1.0\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\niVBORw0K\n"},
		{"no MIME-Version", "Content-Type: text/plain; charset=utf-8\n\nä\n", "Content-Type: text/plain; charset=utf-8\nMIME-Version: 1.0\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n"},
		{"header field stays", "Subject: ä\n\nx\n", ""},
		{"8bit over ASCII stays", "MIME-Version: 1.0\nContent-Transfer-Encoding: 8bit\n\nx\n", ""},
		{"binary over ASCII is 7bit", "MIME-Version: 1.0\nContent-Transfer-Encoding: binary\n\nx\n", "MIME-Version: 1.0\nContent-Transfer-Encoding: 7bit\n\nx\n"},
		{"multipart", "Content-Type: multipart/mixed; boundary=\"b c\"\nContent-Transfer-Encoding: 8bit\nMIME-Version: 1.0\n\npreämble\n--b c\n\nä\n--b c\nContent-Type: application/x\n\nö\n\n--b c  \nContent-Type: text/plain\n\nASCII\n--b c--\nepilögue\n",
			"Content-Type: multipart/mixed; boundary=\"b c\"\nContent-Transfer-Encoding: 7bit\nMIME-Version: 1.0\n\npre??mble\n--b c\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n--b c\nContent-Type: application/x\nContent-Transfer-Encoding: base64\n\nw7YNCg==\n--b c  \nContent-Type: text/plain\n\nASCII\n--b c--\nepil??gue\n"},
		{"nested", "Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\nContent-Type: multipart/alternative; boundary=b\nContent-Transfer-Encoding: 8bit\n\n--b\n\nä\n--b--\n--a\nContent-Type: image/x\n\nx\n--a--\n",
			"Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\nContent-Type: multipart/alternative; boundary=b\nContent-Transfer-Encoding: 7bit\n\n--b\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n--b--\n--a\nContent-Type: image/x\n\nx\n--a--\n"},
		{"boundary with a prefix in common", "Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\n\nä\n--ab\n--a--\n", "Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n--ab\n--a--\n"},
		{"part without a body", "Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\nContent-Type: text/plain\n--a\n\nä\n--a--\n", "Content-Type: multipart/mixed; boundary=a\nMIME-Version: 1.0\n\n--a\nContent-Type: text/plain\n--a\nContent-Transfer-Encoding: quoted-printable\n\n=C3=A4\n--a--\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.want == "" {
				tc.want = tc.in
			}
			if got := convert(t, crlf(tc.in)); got != crlf(tc.want) {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

// Row 23 of the traps: what is signed, encrypted or a message stays octet for
// octet, and so does what is broken.
func TestTrap23_NeverAltered(t *testing.T) {
	t.Parallel()
	const signed = "Content-Type: multipart/signed; boundary=s; protocol=\"application/pgp-signature\"; micalg=pgp-sha256\n\n--s\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nGrüße\n--s\nContent-Type: application/pgp-signature\n\nxxx\n--s--\n"
	const top = "MIME-Version: 1.0\n"
	deep := strings.Builder{}
	for i := range maxNesting + 1 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
	}
	deep.WriteString("\nä\n")
	for i := maxNesting; i >= 0; i-- {
		fmt.Fprintf(&deep, "--b%d--\n", i)
	}
	for name, in := range map[string]string{
		"signed":           top + signed,
		"signed in mixed":  top + "Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: 8bit\n\n--a\n" + signed + "--a--\n",
		"encrypted":        top + "Content-Type: multipart/encrypted; boundary=a; protocol=\"application/pgp-encrypted\"\n\n--a\nContent-Type: application/octet-stream\n\nä\n--a--\n",
		"pkcs7":            top + "Content-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: binary\n\nä\n",
		"x-pkcs7":          top + "Content-Type: application/x-pkcs7-mime\n\nä\n",
		"message":          top + "Content-Type: message/rfc822\nContent-Transfer-Encoding: 8bit\n\nSubject: x\n\nä\n",
		"delivery status":  top + "Content-Type: multipart/report; boundary=a\n\n--a\nContent-Type: message/global-delivery-status\nContent-Transfer-Encoding: 8bit\n\nFinal-Recipient: utf-8; ä@b\n--a--\n",
		"digest":           top + "Content-Type: multipart/digest; boundary=a\n\n--a\n\nSubject: x\n\nä\n--a--\n",
		"quoted already":   top + "Content-Transfer-Encoding: quoted-printable\n\nä=20\n",
		"unknown encoding": top + "Content-Transfer-Encoding: x-uuencode\n\nä\n",
		"no boundary":      top + "Content-Type: multipart/mixed\n\n--a\n\nä\n--a--\n",
		"never closed":     top + "Content-Type: multipart/mixed; boundary=a\n\n--a\n\nä\n",
		"inner not closed": top + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nä\n--a--\n",
		"encoded multi":    top + "Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: base64\n\n--a\n\nä\n--a--\n",
		"broken type":      top + "Content-Type: text/plain; charset=\"\n\nä\n",
		"two types":        top + "Content-Type: text/plain\nContent-Type: image/png\n\nä\n",
		"two encodings":    top + "Content-Transfer-Encoding: 8bit\nContent-Transfer-Encoding: 7bit\n\nä\n",
		"no part header":   top + "Content-Type: multipart/mixed; boundary=a\n\n--a\nä is no field\n\nä\n--a--\n",
		"too deep":         top + deep.String(),
		"too many parts":   top + "Content-Type: multipart/mixed; boundary=a\n\n" + strings.Repeat("--a\n\nä\n", maxParts) + "--a--\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := convert(t, crlf(in)); got != crlf(in) {
				t.Errorf("got\n%.2000s", got)
			}
		})
	}
	// Beside a signed part the others are converted, and the signed one stays.
	mixed := crlf(top + "Content-Type: multipart/mixed; boundary=a\nContent-Transfer-Encoding: 8bit\n\n--a\n\nä\n--a\n" + signed + "--a--\n")
	got := convert(t, mixed)
	if !strings.Contains(got, crlf(signed)) || !strings.Contains(got, "\r\n=C3=A4\r\n") || !strings.Contains(got, "boundary=a\r\nContent-Transfer-Encoding: 8bit\r\n") {
		t.Errorf("got\n%s", got)
	}
}

// Row 22 of the traps, the body's half: what SMTP does not carry is encoded.
func TestTrap22_LongLines(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, head, body, encoding string }{
		{"998 octets", "", strings.Repeat("x", 998) + "\r\n", ""},
		{"999 octets", "", strings.Repeat("x", 999) + "\r\n", "quoted-printable"},
		{"a long line of 200 KB", "", strings.Repeat("x", 200_000) + "\r\n", "quoted-printable"},
		{"bare LF", "", "a\nb\r\n", "base64"},
		{"bare CR", "", "a\rb\r\n", "base64"},
		{"bare CR before a window's end", "", strings.Repeat("x", window-len("Subject: x\r\n\r\n")-1) + "\rb\r\n", "base64"},
		{"CRLF cut by a window", "", strings.Repeat(strings.Repeat("x", 62)+"\r\n", 3000) + "\xff\r\n", "quoted-printable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := convert(t, "Subject: x\r\n\r\n"+tc.body)
			m, err := mail.ReadMessage(strings.NewReader(got))
			if err != nil {
				t.Fatal(err)
			}
			if e := m.Header.Get("Content-Transfer-Encoding"); e != tc.encoding {
				t.Fatalf("encoded as %q", e)
			}
			if b := decoded(t, textproto.MIMEHeader(m.Header), m.Body); b != tc.body {
				t.Errorf("%d octets became %d", len(tc.body), len(b))
			}
			for line := range strings.SplitSeq(got, "\r\n") {
				if len(line) > 76 && tc.encoding != "" {
					t.Fatalf("a line of %d octets", len(line))
				}
			}
		})
	}
}

func decoded(t fataler, h textproto.MIMEHeader, r io.Reader) string {
	t.Helper()
	switch h.Get("Content-Transfer-Encoding") {
	case "quoted-printable":
		r = quotedprintable.NewReader(r)
	case "base64":
		r = base64.NewDecoder(base64.StdEncoding, r)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("decode: %v", err)
	}
	return string(b)
}

type fataler interface {
	Helper()
	Fatalf(string, ...any)
}

// leaves gives the decoded content of every part, with its type.
func leaves(t fataler, h textproto.MIMEHeader, body io.Reader) []string {
	t.Helper()
	kind, params, _ := mime.ParseMediaType(h.Get("Content-Type"))
	if !strings.HasPrefix(kind, "multipart/") {
		return []string{kind + ":" + decoded(t, h, body)}
	}
	var out []string
	r := multipart.NewReader(body, params["boundary"])
	for {
		p, err := r.NextRawPart()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatalf("part: %v", err)
		}
		out = append(out, leaves(t, p.Header, p)...)
	}
}

func leavesOf(t fataler, msg string) []string {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(msg))
	if err != nil {
		t.Fatalf("%v in %q", err, msg)
	}
	return leaves(t, textproto.MIMEHeader(m.Header), m.Body)
}

// Whatever the structure, decoding the conversion gives the original, no octet
// above 127 is left outside what must not be touched, and encoded lines are
// short.
func TestDecodeOfConvertIsOriginal(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := 0
		in := "MIME-Version: 1.0\r\n" + drawPart(t, 3, &n)
		var b bytes.Buffer
		if err := Convert(&b, iotestReaderAt(in), int64(len(in))); err != nil {
			t.Fatal(err)
		}
		out := b.String()
		want, got := leavesOf(t, in), leavesOf(t, out)
		if strings.Join(want, "|") != strings.Join(got, "|") {
			t.Fatalf("\n%q\nbecame\n%q", in, out)
		}
		if !strings.Contains(in, "message/rfc822") && header.EightBit(b.Bytes()) {
			t.Fatalf("octets above 127 in %q", out)
		}
		again := &bytes.Buffer{}
		if err := Convert(again, bytes.NewReader(b.Bytes()), int64(b.Len())); err != nil || again.String() != out {
			t.Fatalf("a second conversion changed it: %q", again)
		}
	})
}

func iotestReaderAt(s string) io.ReaderAt { return strings.NewReader(s) }

// drawPart makes a part: header, empty line, body that ends in CRLF.
func drawPart(t *rapid.T, depth int, n *int) string {
	if depth > 0 && rapid.Bool().Draw(t, "multipart") {
		*n++
		b := fmt.Sprintf("b%d", *n)
		s := "Content-Type: multipart/mixed; boundary=" + b + "\r\n"
		s += rapid.SampledFrom([]string{"", "Content-Transfer-Encoding: 8bit\r\n"}).Draw(t, "label") + "\r\n"
		s += rapid.SampledFrom([]string{"", "preamble\r\n", "\xff\r\n"}).Draw(t, "preamble")
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			s += "--" + b + "\r\n" + drawPart(t, depth-1, n)
		}
		return s + "--" + b + "--\r\n" + rapid.SampledFrom([]string{"", "\xe4 epilogue\r\n"}).Draw(t, "epilogue")
	}
	kind := rapid.SampledFrom([]string{"text/plain", "text/html; charset=utf-8", "image/png", "message/rfc822"}).Draw(t, "kind")
	lines := rapid.SliceOfN(rapid.OneOf(
		rapid.SampledFrom([]string{"", ".", "..", "--", "-- ", "=", "trailing ", "tab\t", "From x", "Grüße", "\xff\xfe", strings.Repeat("ä", 200), strings.Repeat("y", 1200)}),
		rapid.StringOfN(rapid.RuneFrom([]rune("ab=. \tü日")), 0, 100, -1),
	), 0, 5).Draw(t, "lines")
	body := strings.Join(lines, "\r\n") + "\r\n"
	return "Content-Type: " + kind + "\r\n" + rapid.SampledFrom([]string{"", "Content-Transfer-Encoding: 8bit\r\n", "X-Other: x\r\n"}).Draw(t, "encoding") + "\r\n" + body
}

func TestInspect(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]Facts{
		"": {}, "a\r\n": {}, "ä\r\n": {EightBit: true}, strings.Repeat("x", 998) + "\r\n": {}, strings.Repeat("x", 999) + "\r\n": {LongLines: true},
		strings.Repeat("x", 70_000) + "\xff": {EightBit: true, LongLines: true},
	} {
		if got, err := Inspect(strings.NewReader(in), int64(len(in))); err != nil || got != want {
			t.Errorf("%.20q: %+v %v", in, got, err)
		}
	}
}

func TestTroubleIsReported(t *testing.T) {
	t.Parallel()
	in := strings.Repeat("Subject: x\r\n\r\nä\r\n", 10)
	if err := Convert(io.Discard, strings.NewReader(in), int64(len(in))+1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("content shorter than it should be: %v", err)
	}
	if _, err := Needed(strings.NewReader(in), int64(len(in))+1); err == nil {
		t.Error("Needed")
	}
	if _, err := Inspect(strings.NewReader(in), int64(len(in))+1); err == nil {
		t.Error("Inspect")
	}
	for n := range int64(60) {
		w := &limited{left: n}
		if err := Convert(w, strings.NewReader(in), int64(len(in))); !errors.Is(err, iotest.ErrTimeout) {
			t.Errorf("a writer that fails after %d octets: %v", n, err)
		}
	}
}

type limited struct{ left int64 }

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, iotest.ErrTimeout
	}
	return len(p), nil
}

func FuzzConvert(f *testing.F) {
	for _, s := range []string{
		"", "\xff", "A: b\r\n\r\n\xff\r\n", "Content-Type: multipart/mixed; boundary=a\r\n\r\n\xff\r\n--a\r\n\r\n\xff\r\n--a--\r\n\xff",
		"Content-Type: multipart/signed; boundary=a\r\n\r\n--a\r\n\r\n\xff\r\n--a--\r\n", "Content-Type: image/x\n\n\xff\n\r\r\n", "Content-Transfer-Encoding: binary\r\n\r\nx",
		"Content-Type: multipart/digest; boundary=a\r\n\r\n--a\r\n\r\nx: \xff\r\n--a--", "--a\r\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		out := convert(t, string(in))
		if out == string(in) {
			return
		}
		h, at, err := header.Parse(in, header.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		g, to, err := header.Parse([]byte(out), header.Limits{})
		if err != nil || g.Len() < h.Len() {
			t.Fatalf("the header %q became %q", in[:at], out)
		}
		kind := ""
		if f, ok := g.Get("Content-Type"); ok {
			kind, _, _ = mime.ParseMediaType(f.Text())
		}
		if strings.HasPrefix(kind, "multipart/") {
			return
		}
		e, _ := g.Get("Content-Transfer-Encoding")
		got := decoded(t, textproto.MIMEHeader{"Content-Transfer-Encoding": {e.Text()}}, strings.NewReader(out[to:]))
		// Line ends inside quoted-printable are line ends, whatever they were.
		if want := string(in[at:]); got != want {
			t.Fatalf("%q came back as %q", want, got)
		}
	})
}

func BenchmarkInspect4K(b *testing.B) {
	msg := []byte("Subject: x\r\n\r\n" + strings.Repeat("a line of the body, as long as they usually are, give or take\r\n", 64))
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Inspect(bytes.NewReader(msg), int64(len(msg))); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPythonReadsIt asks Python's email package, where there is one.
func TestPythonReadsIt(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here")
	}
	out := convert(t, crlf("MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/plain; charset=utf-8\n\nGrüße \n--a\nContent-Type: application/x\n\n\xff\xfe\n--a--\n"))
	cmd := exec.CommandContext(t.Context(), python, "-c", `
import email, email.policy, sys
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.SMTP)
a, b = m.iter_parts()
assert not (m.defects or a.defects or b.defects)
print(a.get_payload(decode=True), b.get_payload(decode=True))
`)
	cmd.Stdin = strings.NewReader(out)
	got, err := cmd.CombinedOutput()
	if want := `b'Gr\xc3\xbc\xc3\x9fe ' b'\xff\xfe'` + "\n"; err != nil || string(got) != want {
		t.Errorf("%v: %s", err, got)
	}
}
