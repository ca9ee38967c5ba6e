package smtp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"mailout/internal/mta"
)

func enh(class, subject, detail uint16) mta.Enhanced {
	return mta.Enhanced{Class: class, Subject: subject, Detail: detail}
}

func TestReadReply(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		want mta.Reply
	}{
		{"250 2.1.5 Ok\r\n", mta.Reply{Code: 250, Enhanced: enh(2, 1, 5), Text: "Ok"}},
		{"250\r\n", mta.Reply{Code: 250}},
		{"250 \r\n", mta.Reply{Code: 250}},
		{"250 2.0.0\r\n", mta.Reply{Code: 250, Enhanced: enh(2, 0, 0)}},
		{"250 ok\n", mta.Reply{Code: 250, Text: "ok"}},
		{"354 go\r\n", mta.Reply{Code: 354, Text: "go"}},
		{"250-a\r\n250-b\r\n250 c\r\n", mta.Reply{Code: 250, Text: "a\nb\nc"}},
		{"250-a\r\n250\r\n", mta.Reply{Code: 250, Text: "a\n"}},
		{"550-5.7.1 one\r\n550-5.7.1 two\r\n550 three\r\n", mta.Reply{Code: 550, Enhanced: enh(5, 7, 1), Text: "one\ntwo\nthree"}},
		{"550-5.7.1 one\r\n550 5.7.2 two\r\n", mta.Reply{Code: 550, Enhanced: enh(5, 7, 1), Text: "one\n5.7.2 two"}},
		{"550-one\r\n550 5.7.2 two\r\n", mta.Reply{Code: 550, Text: "one\n5.7.2 two"}},
		{"550 5.1.1.2 x\r\n", mta.Reply{Code: 550, Text: "5.1.1.2 x"}},
		{"550 5.1234.1 x\r\n", mta.Reply{Code: 550, Text: "5.1234.1 x"}},
		{"550 5.01.1 x\r\n", mta.Reply{Code: 550, Text: "5.01.1 x"}},
		{"550 5.1.1: x\r\n", mta.Reply{Code: 550, Text: "5.1.1: x"}},
		{"550 5.1. x\r\n", mta.Reply{Code: 550, Text: "5.1. x"}},
		{"550 5\r\n", mta.Reply{Code: 550, Text: "5"}},
		{"354 3.0.0 go\r\n", mta.Reply{Code: 354, Text: "3.0.0 go"}},
	} {
		for _, r := range []io.Reader{strings.NewReader(c.in), iotest.OneByteReader(strings.NewReader(c.in))} {
			got, err := ReadReply(bufio.NewReader(r))
			if err != nil || got != c.want {
				t.Errorf("ReadReply(%q) = %+v, %v; want %+v", c.in, got, err, c.want)
			}
		}
	}
}

func TestTrap03_ContradictingEnhancedCode(t *testing.T) {
	t.Parallel()
	br := bufio.NewReader(strings.NewReader("450 5.1.1 no such user\r\n550 4.2.2 full\r\n250 5.0.0 ok\r\n550 gone\r\n"))
	for _, want := range []string{"450 5.1.1 no such user", "550 4.2.2 full", "250 5.0.0 ok", "550 gone"} {
		r, err := ReadReply(br)
		if err != nil || !r.Enhanced.IsZero() || r.String() != want {
			t.Errorf("%+v, %v; want %q without an enhanced code", r, err, want)
		}
	}
}

func TestTrap01_ReplyBounds(t *testing.T) {
	t.Parallel()
	lines := func(n int) string { return strings.Repeat("250-x\r\n", n-1) + "250 x\r\n" }
	for name, c := range map[string]struct {
		in string
		ok bool
	}{
		"512 lines":        {lines(512), true},
		"513 lines":        {lines(513), false},
		"64 KB line":       {"250 " + strings.Repeat("x", MaxReplyOctets-6) + "\r\n", true},
		"64 KB and one":    {"250 " + strings.Repeat("x", MaxReplyOctets-5) + "\r\n", false},
		"64 KB in lines":   {strings.Repeat("250-"+strings.Repeat("x", 1018)+"\r\n", 63) + "250 " + strings.Repeat("x", 1018) + "\r\n", true},
		"65 KB in lines":   {strings.Repeat("250-"+strings.Repeat("x", 1018)+"\r\n", 64) + "250 x\r\n", false},
		"code 199":         {"199 x\r\n", false},
		"code 600":         {"600 x\r\n", false},
		"no code":          {"hello\r\n", false},
		"empty line":       {"\r\n", false},
		"two digits":       {"25\r\n", false},
		"bad separator":    {"250_x\r\n", false},
		"four digits":      {"2500 x\r\n", false},
		"code changes":     {"250-a\r\n251 b\r\n", false},
		"continuation raw": {"250-a\r\nb\r\n", false},
		"TLS alert":        {"\x15\x03\x01\x00\x02\x02\x46\r\n", false},
	} {
		_, err := ReadReply(bufio.NewReaderSize(strings.NewReader(c.in), 4096))
		var p *ProtocolError
		if c.ok && err != nil || !c.ok && !errors.As(err, &p) {
			t.Errorf("%s: %v", name, err)
		}
		if p != nil && len(p.Error()) > 400 {
			t.Errorf("%s: the error has %d octets", name, len(p.Error()))
		}
	}
	// An endless line and endless lines: no more is read than the bound and a buffer.
	for _, unit := range []string{"x", "250-x\r\n", "250-" + strings.Repeat("x", 500) + "\r\n"} {
		src := &endless{unit: unit}
		if _, err := ReadReply(bufio.NewReaderSize(src, 4096)); err == nil {
			t.Errorf("endless %.8q is a reply", unit)
		}
		if src.read > MaxReplyOctets+2*4096 {
			t.Errorf("endless %.8q: %d octets read", unit, src.read)
		}
	}
}

type endless struct {
	unit string
	at   int
	read int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.unit[e.at%len(e.unit)]
		e.at++
	}
	e.read += len(p)
	return len(p), nil
}

func TestReadReplyEnds(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]error{"": io.EOF, "25": io.ErrUnexpectedEOF, "250-a\r\n": io.ErrUnexpectedEOF, "250 ok": io.ErrUnexpectedEOF} {
		if _, err := ReadReply(bufio.NewReader(strings.NewReader(in))); err != want {
			t.Errorf("%q: %v, want %v", in, err, want)
		}
	}
}

func TestTrap02_ReplyTextIsHarmless(t *testing.T) {
	t.Parallel()
	r, err := ReadReply(bufio.NewReader(strings.NewReader("550-a\x00b\x1b[2Jc\rd\te\x7f\r\n550 \xff\u0085\u2028\u202eü\r\n")))
	if want := "a?b?[2Jc?d e?\n????ü"; err != nil || r.Text != want {
		t.Errorf("%q, %v; want %q", r.Text, err, want)
	}
}

func TestReadReplyAllocates(t *testing.T) {
	in := []byte("250 2.1.5 Recipient ok\r\n")
	src := bytes.NewReader(in)
	br := bufio.NewReader(src)
	n := testing.AllocsPerRun(100, func() {
		src.Reset(in)
		br.Reset(src)
		if _, err := ReadReply(br); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations a reply, want the text alone", n)
	}
}

func TestAppendReply(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 150)
	for _, c := range []struct {
		r    mta.Reply
		utf8 bool
		want string
	}{
		{r: mta.Reply{Code: 250}, want: "250 \r\n"},
		{r: mta.Reply{Code: 250, Enhanced: enh(2, 0, 0), Text: "ok"}, want: "250 2.0.0 ok\r\n"},
		{r: mta.Reply{Code: 250, Enhanced: enh(5, 0, 0), Text: "ok"}, want: "250 ok\r\n"},
		{r: mta.Reply{Code: 550, Enhanced: enh(5, 7, 1), Text: "a\nb"}, want: "550-5.7.1 a\r\n550 5.7.1 b\r\n"},
		{r: mta.Reply{Code: 250, Text: "a\r\nb\x00"}, want: "250-a?\r\n250 b?\r\n"},
		{r: mta.Reply{Code: 250, Text: "ü"}, want: "250 ?\r\n"},
		{r: mta.Reply{Code: 250, Text: "ü\xff"}, utf8: true, want: "250 ü?\r\n"},
		{r: mta.Reply{Code: 250, Text: long}, want: "250-" + long[:504] + "\r\n250 " + long[505:] + "\r\n"},
	} {
		if got := string(AppendReply(nil, c.r, c.utf8)); got != c.want {
			t.Errorf("%+v: %q, want %q", c.r, got, c.want)
		}
	}
}

func TestParseEnhancedAndReply(t *testing.T) {
	t.Parallel()
	if e, err := ParseEnhanced("5.7.509"); e != enh(5, 7, 509) || err != nil {
		t.Errorf("%v, %v", e, err)
	}
	for _, bad := range []string{"", "5.1", "3.0.0", "5.1.1 ", "5.1.x", "1000.1.1"} {
		if e, err := ParseEnhanced(bad); err == nil {
			t.Errorf("ParseEnhanced(%q) = %v", bad, e)
		}
	}
	for _, in := range []string{"550 5.1.1 no such user", "550 5.1.1 no such user\r\n"} {
		if r, err := ParseReply(in); err != nil || r != (mta.Reply{Code: 550, Enhanced: enh(5, 1, 1), Text: "no such user"}) {
			t.Errorf("%+v, %v", r, err)
		}
	}
}

func TestParseCapabilities(t *testing.T) {
	t.Parallel()
	read := func(s string) Capabilities {
		r, err := ReadReply(bufio.NewReader(strings.NewReader(s)))
		if err != nil {
			t.Fatal(err)
		}
		return ParseCapabilities(r)
	}
	got := read("250-mx.example.com greets you\r\n250-SIZE 1000\r\n250-pipelining\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-STARTTLS\r\n" +
		"250-DSN\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250-REQUIRETLS\r\n250-AUTH PLAIN login\r\n250-AUTH=LOGIN XOAUTH2\r\n" +
		"250-LIMITS RCPTMAX=100 mailmax=20 RCPTDOMAINMAX=1 X=5\r\n250-XCLIENT NAME\r\n250 HELP\r\n")
	want := Capabilities{Host: "mx.example.com", HasSize: true, Size: 1000, Pipelining: true, EightBitMIME: true, SMTPUTF8: true, StartTLS: true,
		DSN: true, Chunking: true, EnhancedStatusCodes: true, RequireTLS: true, Auth: []string{"PLAIN", "LOGIN", "XOAUTH2"}, MailMax: 20, RcptMax: 100, RcptDomainMax: 1}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v\nwant %+v", got, want)
	}
	if got := read("250 SIZE\r\n"); !reflect.DeepEqual(got, Capabilities{Host: "SIZE"}) {
		t.Errorf("the first line is no keyword: %+v", got)
	}
	for in, size := range map[string]int64{"SIZE": 0, "SIZE 0": 0, "SIZE x": 0, "SIZE 99999999999999999999": 1<<63 - 1} { // TRAPS 17
		if got := read("250-h\r\n250 " + in + "\r\n"); !got.HasSize || got.Size != size {
			t.Errorf("%s: %+v", in, got)
		}
	}
	if got := read("250-h\r\n250 LIMITS RCPTMAX=0 MAILMAX= RCPTDOMAINMAX=9999999\r\n"); got.RcptMax+got.MailMax+got.RcptDomainMax != 0 {
		t.Errorf("malformed limits: %+v", got)
	}
	if h := GreetingHost(mta.Reply{Code: 220}); h != "" {
		t.Errorf("%q", h)
	}
}

// FuzzReadReply holds the bounds of what is read and that what we write of it
// is read back with the same code and enhanced code, in lines within bounds.
func FuzzReadReply(f *testing.F) {
	for _, s := range []string{"250 2.1.5 Ok\r\n", "250-a\r\n250 b\r\n", "450 5.1.1 x\r\n", "550-5.7.1 a\r\n550-5.7.1\r\n550 \xff\x00\r\n", "250\n", "250-\r\n", "999 x\r\n"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, utf8ok bool) {
		r, err := ReadReply(bufio.NewReaderSize(bytes.NewReader(in), 16))
		if err != nil {
			if r != (mta.Reply{}) {
				t.Fatalf("an error and a reply: %+v", r)
			}
			return
		}
		if r.Code < 200 || r.Code > 599 || !r.Enhanced.IsZero() && int(r.Enhanced.Class) != r.Code/100 || len(r.Text) > 3*MaxReplyOctets {
			t.Fatalf("%+v", r)
		}
		for line := range strings.SplitSeq(r.Text, "\n") {
			if Harmless(line) != line {
				t.Fatalf("%q is not harmless", line)
			}
		}
		wire := AppendReply(nil, r, utf8ok)
		for line := range bytes.SplitAfterSeq(wire, []byte("\n")) {
			if len(line) > MaxReplyLine {
				t.Fatalf("a line of %d octets", len(line))
			}
		}
		again, err := ReadReply(bufio.NewReader(bytes.NewReader(wire)))
		if err != nil && bytes.Count(wire, []byte("\n")) <= MaxReplyLines && len(wire) <= MaxReplyOctets {
			t.Fatalf("%q is written as %q: %v", in, wire, err)
		}
		if err == nil && (again.Code != r.Code || !r.Enhanced.IsZero() && again.Enhanced != r.Enhanced) {
			t.Fatalf("%+v comes back as %+v", r, again)
		}
	})
}

// FuzzXtext holds that every printable text survives, and that what decodes is
// printable.
func FuzzXtext(f *testing.F) {
	for _, s := range []string{"", "a+b=c d", "+2B", "+", "ü", "\\x{FC}", "\x7f"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d, err := DecodeXtext(s); err == nil {
			if again, err := DecodeXtext(EncodeXtext(d)); err != nil || again != d {
				t.Fatalf("%q: %q, %v", d, again, err)
			}
		}
		if d, err := decodeUTF8Address(s); err == nil {
			for _, raw := range []bool{true, false} {
				enc := string(AppendUTF8Address(nil, d, raw))
				if again, err := decodeUTF8Address(enc); err != nil || again != d || !raw && !isASCII(enc) {
					t.Fatalf("%q as %q: %q, %v", d, enc, again, err)
				}
			}
		}
	})
}
