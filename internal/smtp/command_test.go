package smtp

import (
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

func TestParseCommand(t *testing.T) {
	for _, c := range []struct {
		in   string
		verb Verb
		arg  string
	}{
		{"EHLO a.example", VerbEhlo, "a.example"},
		{"ehLo  a.example \t ", VerbEhlo, "a.example"},
		{"QUIT", VerbQuit, ""},
		{"quit ", VerbQuit, ""},
		{"MAIL FROM:<>", VerbMail, "FROM:<>"},
		{"STARTTLS", VerbStartTLS, ""},
		{"", VerbUnknown, ""},
		{" NOOP", VerbUnknown, "NOOP"},
		{"DATAX", VerbUnknown, ""},
		{"DAT", VerbUnknown, ""},
		{"\x00\xff", VerbUnknown, ""},
		{"BDAT\t5 LAST", VerbBdat, "5 LAST"},
	} {
		v, arg := ParseCommand([]byte(c.in))
		if v != c.verb || string(arg) != c.arg {
			t.Errorf("ParseCommand(%q) = %v, %q", c.in, v, arg)
		}
	}
	line := []byte("RCPT TO:<a@example.com>")
	if n := testing.AllocsPerRun(100, func() { ParseCommand(line) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestParseMail(t *testing.T) {
	t.Parallel()
	u := Mailbox{"u", "example.com"}
	for _, c := range []struct {
		in   string
		want Mail
		code string
		num  int
	}{
		{in: "FROM:<>"},
		{in: "from: <u@example.com>", want: Mail{Sender: u}},
		{in: "FROM:u@example.com SIZE=7", want: Mail{Sender: u, Size: 7}},
		{in: "FROM:<u@example.com> size=1000 body=8bitmime smtputf8 REQUIRETLS ret=HDRS envid=a+20b",
			want: Mail{Sender: u, Size: 1000, Body: Body8BitMIME, SMTPUTF8: true, RequireTLS: true, Ret: mta.RetHeaders, EnvID: "a b"}},
		{in: "FROM:<u@example.com> BODY=7BIT RET=FULL", want: Mail{Sender: u, Body: Body7Bit, Ret: mta.RetFull}},
		{in: "FROM:<> SIZE=99999999999999999999", want: Mail{Size: 1<<63 - 1}},
		{in: "FROM:<ü@example.com> SMTPUTF8", want: Mail{Sender: Mailbox{"ü", "example.com"}, SMTPUTF8: true}},
		{in: "FROM:<> ENVID=" + strings.Repeat("a", 100), want: Mail{EnvID: strings.Repeat("a", 100)}},

		{in: "", code: "5.5.2", num: 501},
		{in: "TO:<u@example.com>", code: "5.5.2", num: 501},
		{in: "FROM:", code: "5.1.7", num: 501},
		{in: "FROM:<u>", code: "5.1.7", num: 501},
		{in: "FROM:<postmaster>", code: "5.1.7", num: 501},
		{in: "FROM:<u@a..b>", code: "5.1.7", num: 501},
		{in: "FROM:<ü@example.com>", code: "5.6.7", num: 553},
		{in: "FROM:<u@example.com>SIZE=1", code: "5.5.4", num: 501},
		{in: "FROM:<> SIZE", code: "5.5.4", num: 501},
		{in: "FROM:<> SIZE=-1", code: "5.5.4", num: 501},
		{in: "FROM:<> SIZE=1 size=2", code: "5.5.4", num: 501},
		{in: "FROM:<> BODY=BINARYMIME", code: "5.5.4", num: 501},
		{in: "FROM:<> RET=ALL", code: "5.5.4", num: 501},
		{in: "FROM:<> ENVID=+0A", code: "5.5.4", num: 501},
		{in: "FROM:<> ENVID=", code: "5.5.4", num: 501},
		{in: "FROM:<> ENVID=" + strings.Repeat("a", 101), code: "5.5.4", num: 501},
		{in: "FROM:<> SMTPUTF8=1", code: "5.5.4", num: 555},
		{in: "FROM:<> XYZ=1", code: "5.5.4", num: 555},
		{in: "FROM:<> AUTH=<>"},
		{in: "FROM:<> HOLDFOR=86400", want: Mail{HoldFor: 24 * time.Hour}},
		{in: "FROM:<> holduntil=2026-03-01t13:00:00.5+01:00", want: Mail{HoldUntil: time.Date(2026, 3, 1, 12, 0, 0, 5e8, time.UTC)}},
		{in: "FROM:<> HOLDFOR=0", code: "5.5.4", num: 501},
		{in: "FROM:<> HOLDFOR=", code: "5.5.4", num: 501},
		{in: "FROM:<> HOLDFOR=1e3", code: "5.5.4", num: 501},
		{in: "FROM:<> HOLDFOR=1000000000", code: "5.5.4", num: 501},
		{in: "FROM:<> HOLDUNTIL=tomorrow", code: "5.5.4", num: 501},
		{in: "FROM:<> HOLDUNTIL=0000-01-01T00:00:00+23:00", code: "5.5.4", num: 501},
		{in: "FROM:<> HOLDFOR=1 HOLDUNTIL=2026-03-01T12:00:00Z", code: "5.5.4", num: 501},
		{in: "FROM:<> HOLDFOR=1 HOLDFOR=2", code: "5.5.4", num: 501},
		{in: "FROM:<> AUTH=a+40b.example"},
		{in: "FROM:<> AUTH=", code: "5.5.4", num: 501},
		{in: "FROM:<> NOTIFY=NEVER", code: "5.5.4", num: 555},
	} {
		got, err := ParseMail(c.in)
		code := enhancedOf(t, err)
		if got != c.want || code != c.code || err != nil && err.(*SyntaxError).Code != c.num {
			t.Errorf("ParseMail(%q) = %+v, %v; want %+v, %d %s", c.in, got, err, c.want, c.num, c.code)
		}
	}
}

func TestTrap42_ParseRcpt(t *testing.T) {
	t.Parallel()
	u := Mailbox{"u", "example.com"}
	for _, c := range []struct {
		in   string
		utf8 bool
		want Rcpt
		code string
		num  int
	}{
		{in: "TO:<u@example.com>", want: Rcpt{Recipient: u}},
		{in: "to:<PostMaster>", want: Rcpt{Recipient: Mailbox{Local: "PostMaster"}}},
		{in: "TO:<u@example.com> NOTIFY=NEVER", want: Rcpt{Recipient: u, Notify: mta.NotifyNever}},
		{in: "TO:<u@example.com> notify=success,DELAY,Failure ORCPT=rfc822;a+2Bb@x", want: Rcpt{Recipient: u,
			Notify: mta.NotifySuccess | mta.NotifyDelay | mta.NotifyFailure, ORcpt: "rfc822;a+b@x"}},
		{in: `TO:<u@example.com> ORCPT=utf-8;j\x{FC}rgen@x\x{1F600}`, want: Rcpt{Recipient: u, ORcpt: "utf-8;jürgen@x😀"}},
		{in: "TO:<ü@example.com> ORCPT=utf-8;ü@x", utf8: true, want: Rcpt{Recipient: Mailbox{"ü", "example.com"}, ORcpt: "utf-8;ü@x"}},

		{in: "TO:<>", code: "5.1.3", num: 501},
		{in: "TO:<u@example.com> NOTIFY=NEVER,DELAY", code: "5.5.4", num: 501},
		{in: "TO:<u@example.com> NOTIFY=", code: "5.5.4", num: 501},
		{in: "TO:<u@example.com> ORCPT=u@example.com", code: "5.5.4", num: 501},
		{in: "TO:<u@example.com> ORCPT=rfc822;", code: "5.5.4", num: 501},
		{in: "TO:<u@example.com> ORCPT=rf(822;u", code: "5.5.4", num: 501},
		{in: "TO:<u@example.com> ORCPT=rfc822;a+0D+0Ab", code: "5.5.4", num: 501},
		{in: "TO:<u@example.com> ORCPT=rfc822;a+2", code: "5.5.4", num: 501},
		{in: `TO:<u@example.com> ORCPT=utf-8;a\x{0A}b`, code: "5.5.4", num: 501},
		{in: `TO:<u@example.com> ORCPT=utf-8;a\x{85}b`, code: "5.5.4", num: 501},
		{in: `TO:<u@example.com> ORCPT=utf-8;a\x{D800}b`, code: "5.5.4", num: 501},
		{in: `TO:<u@example.com> ORCPT=utf-8;a\x{`, code: "5.5.4", num: 501},
		{in: `TO:<u@example.com> ORCPT=utf-8;a\`, code: "5.5.4", num: 501},
		{in: "TO:<u@example.com> ORCPT=rfc822;" + strings.Repeat("a", 494), code: "5.5.4", num: 501},
		{in: "TO:<u@example.com> SIZE=1", code: "5.5.4", num: 555},
		{in: "TO:<ü@example.com>", code: "5.6.7", num: 553},
	} {
		got, err := ParseRcpt(c.in, c.utf8)
		code := enhancedOf(t, err)
		if got != c.want || code != c.code || err != nil && err.(*SyntaxError).Code != c.num {
			t.Errorf("ParseRcpt(%q) = %+v, %v; want %+v, %d %s", c.in, got, err, c.want, c.num, c.code)
		}
	}
}

func TestParseBdat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in   string
		size int64
		last bool
		ok   bool
	}{
		{"0", 0, false, true}, {"12", 12, false, true}, {"0 LAST", 0, true, true}, {"5  last", 5, true, true},
		{"", 0, false, false}, {"-1", 0, false, false}, {"5 LASTS", 0, false, false}, {"LAST", 0, false, false},
		{"9223372036854775807", 0, false, false}, {"99999999999999999999", 0, false, false}, {"5 LAST 6", 0, false, false}, {"0x5", 0, false, false},
	} {
		size, last, err := ParseBdat(c.in)
		if size != c.size || last != c.last || (err == nil) != c.ok {
			t.Errorf("ParseBdat(%q) = %d, %v, %v", c.in, size, last, err)
		}
	}
}

func TestParseHelo(t *testing.T) {
	t.Parallel()
	for in, ok := range map[string]bool{
		"mail.example.com": true, "PRINTER_3": true, "[192.0.2.1]": true, "192.0.2.1": true, "bücher": true,
		"": false, "a b": false, "a\x1bb": false, "a\xffb": false, strings.Repeat("a", 256): false,
	} {
		if _, err := ParseHelo(in); (err == nil) != ok {
			t.Errorf("ParseHelo(%q): %v", in, err)
		}
	}
}

func TestXtext(t *testing.T) {
	t.Parallel()
	for plain, enc := range map[string]string{"": "", "a+b=c d": "a+2Bb+3Dc+20d", "abc": "abc", "~!": "~!"} {
		if got := EncodeXtext(plain); got != enc {
			t.Errorf("EncodeXtext(%q) = %q", plain, got)
		}
		if got, err := DecodeXtext(enc); got != plain || err != nil {
			t.Errorf("DecodeXtext(%q) = %q, %v", enc, got, err)
		}
	}
	if got, err := DecodeXtext("a+2bb"); got != "a+b" || err != nil {
		t.Errorf("lower-case hex: %q, %v", got, err)
	}
	for _, bad := range []string{"+", "+2", "+G0", "a b", "a=b", "+00", "+7F", "+C3+BC", "ü", "\n"} {
		if got, err := DecodeXtext(bad); err == nil {
			t.Errorf("DecodeXtext(%q) = %q", bad, got)
		}
	}
	if got := string(AppendORcpt(nil, `utf-8;j\ü+@x`, false)); got != `utf-8;j\x{5C}\x{FC}\x{2B}@x` {
		t.Errorf("utf-8-addr-xtext: %s", got)
	}
	if got := string(AppendORcpt(nil, `utf-8;j\ü+@x`, true)); got != `utf-8;j\x{5C}ü\x{2B}@x` {
		t.Errorf("utf-8-addr-unitext: %s", got)
	}
	if got := string(AppendUTF8Address(nil, "a\tb\xff", false)); got != `a\x{09}b?` {
		t.Errorf("controls: %s", got)
	}
}

// FuzzCommand holds that MAIL and RCPT print as lines that parse to the same.
func FuzzCommand(f *testing.F) {
	for _, s := range []string{
		"MAIL FROM:<u@example.com> SIZE=5 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=a+20b REQUIRETLS", "MAIL FROM:<> HOLDFOR=60", "MAIL FROM:<> HOLDUNTIL=2026-03-01T12:00:00.25Z", "MAIL FROM:<>",
		"RCPT TO:<u@example.com> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+2Bb", `RCPT TO:<"a b"@[IPv6:::1]> ORCPT=utf-8;\x{FC}@b`,
		"RCPT TO:<postmaster>", "BDAT 5 LAST", "RCPT TO:<@a.b:u@c.d> NOTIFY=NEVER", "EHLO a", "MAIL FROM:<ü@ü.example> SMTPUTF8",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, line []byte, utf8ok bool) {
		v, arg := ParseCommand(line)
		switch v {
		case VerbMail:
			m, err := ParseMail(string(arg))
			if err != nil {
				enhancedOf(t, err)
				return
			}
			again, err := ParseMail(printed(t, m.Append(nil), "MAIL "))
			if err != nil || again != m {
				t.Fatalf("%q: %+v prints as %q, which is %+v, %v", line, m, m.Append(nil), again, err)
			}
		case VerbRcpt:
			r, err := ParseRcpt(string(arg), utf8ok)
			if err != nil {
				enhancedOf(t, err)
				return
			}
			again, err := ParseRcpt(printed(t, r.Append(nil, utf8ok), "RCPT "), utf8ok)
			if err != nil && len(r.ORcpt) > MaxORcpt/6 {
				return // its encoded form may be longer than it came
			}
			if err != nil || again != r {
				t.Fatalf("%q: %+v prints as %q, which is %+v, %v", line, r, r.Append(nil, utf8ok), again, err)
			}
		case VerbBdat:
			if size, _, err := ParseBdat(string(arg)); err == nil && size < 0 {
				t.Fatalf("%q: %d", line, size)
			}
		case VerbEhlo, VerbHelo:
			if s, err := ParseHelo(string(arg)); err == nil && Harmless(s) != s {
				t.Fatalf("%q", s)
			}
		}
	})
}

// printed takes the argument out of a command line that we made.
func printed(t *testing.T, line []byte, verb string) string {
	t.Helper()
	s, ok := strings.CutPrefix(string(line), verb)
	s, ok2 := strings.CutSuffix(s, "\r\n")
	if !ok || !ok2 || strings.ContainsAny(s, "\r\n\x00") {
		t.Fatalf("not a command line: %q", line)
	}
	return s
}
