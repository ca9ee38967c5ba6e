package smtp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// enhancedOf gives the enhanced code of a SyntaxError as text, "" for nil.
func enhancedOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var e *SyntaxError
	if !errors.As(err, &e) {
		t.Fatalf("error %v (%T) is no *SyntaxError", err, err)
	}
	return e.Enhanced.String()
}

var (
	local64  = strings.Repeat("a", 64)
	label63  = strings.Repeat("b", 63)
	name253  = label63 + "." + label63 + "." + label63 + "." + strings.Repeat("c", 61)
	longPath = strings.Repeat("a", 61) + "@" + label63 + "." + label63 + "." + label63 + ".c"
)

func TestTrap27_ParseMailbox(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, want string
		utf8     bool
		code     string
	}{
		{in: "user@example.com", want: "user@example.com"},
		{in: "User.Name+tag=x@EXAMPLE.Com", want: "User.Name+tag=x@example.com"},
		{in: "user@example.com.", want: "user@example.com"},
		{in: "user@localhost", want: "user@localhost"},
		{in: `"user"@example.com`, want: "user@example.com"},
		{in: `"us\er"@example.com`, want: "user@example.com"},
		{in: `"two words"@example.com`, want: `"two words"@example.com`},
		{in: `"a\"b\\c"@example.com`, want: `"a\"b\\c"@example.com`},
		{in: `"a@b"@example.com`, want: `"a@b"@example.com`},
		{in: `"a>b"@example.com`, want: `"a>b"@example.com`},
		{in: `".dot"@example.com`, want: `".dot"@example.com`},
		{in: `""@example.com`, want: `""@example.com`},
		{in: "!#$%&'*+-/=?^_`{|}~@example.com", want: "!#$%&'*+-/=?^_`{|}~@example.com"},
		{in: local64 + "@example.com", want: local64 + "@example.com"},
		{in: "u@" + name253[:251], want: "u@" + name253[:251]},
		{in: "u@[192.0.2.1]", want: "u@[192.0.2.1]"},
		{in: "u@[IPv6:2001:DB8::1]", want: "u@[IPv6:2001:db8::1]"},
		{in: "u@[ipv6:2001:db8:0:0::1]", want: "u@[IPv6:2001:db8::1]"},
		{in: "u@xn--bcher-kva.example", want: "u@xn--bcher-kva.example"},
		{in: "u@XN--BCHER-KVA.example", want: "u@xn--bcher-kva.example"},
		{in: "u@bücher.example", want: "u@xn--bcher-kva.example", utf8: true},
		{in: "u@BÜCHER.example", want: "u@xn--bcher-kva.example", utf8: true},
		{in: "u@bücher。example", want: "u@xn--bcher-kva.example", utf8: true},
		{in: "jürgen@bücher.example", want: "jürgen@xn--bcher-kva.example", utf8: true},
		{in: `"jürgen"@example.com`, want: "jürgen@example.com", utf8: true},
		{in: `"jür gen"@example.com`, want: `"jür gen"@example.com`, utf8: true},
		{in: "u@r3---sn-4g5e6nez.example.com", want: "u@r3---sn-4g5e6nez.example.com"},
		{in: "u@1.2.3.example", want: "u@1.2.3.example"},

		{in: "", code: "5.1.3"},
		{in: "user", code: "5.1.3"},
		{in: "@example.com", code: "5.1.3"},
		{in: "a b@example.com", code: "5.1.3"},
		{in: ".a@example.com", code: "5.1.3"},
		{in: "a.@example.com", code: "5.1.3"},
		{in: "a..b@example.com", code: "5.1.3"},
		{in: "a@b@example.com", code: "5.1.2"},
		{in: `"a@example.com`, code: "5.1.3"},
		{in: `"a\"@example.com`, code: "5.1.3"},
		{in: `"a"b@example.com`, code: "5.1.3"},
		{in: "\"a\rb\"@example.com", code: "5.1.3"},
		{in: "\"a\x00b\"@example.com", code: "5.1.3"},
		{in: "\"a\tb\"@example.com", code: "5.1.3"},
		{in: "a\x7f@example.com", code: "5.1.3"},
		{in: local64 + "a@example.com", code: "5.1.3"},
		{in: `"` + local64[:62] + `  x"@example.com`, code: "5.1.3"},
		{in: longPath, code: "5.1.3"},
		{in: "jürgen@example.com", code: "5.6.7"},
		{in: "u@bücher.example", code: "5.6.7"},
		{in: "j\xfcrgen@example.com", utf8: true, code: "5.1.3"},
		{in: "a\u0085b@example.com", utf8: true, code: "5.1.3"},
		{in: "a\u2028b@example.com", utf8: true, code: "5.1.3"},
		{in: "u@", code: "5.1.2"},
		{in: "u@.", code: "5.1.2"},
		{in: "u@example.com..", code: "5.1.2"},
		{in: "u@.example.com", code: "5.1.2"},
		{in: "u@a..b", code: "5.1.2"},
		{in: "u@-a.example", code: "5.1.2"},
		{in: "u@a-.example", code: "5.1.2"},
		{in: "u@under_score.example", code: "5.1.2"},
		{in: "u@exa mple.com", code: "5.1.2"},
		{in: "u@" + label63 + "b.example", code: "5.1.2"},
		{in: "u@" + name253 + "c", code: "5.1.2"},
		{in: "u@xn--.example", code: "5.1.2"},
		{in: "u@xn--a-.example", code: "5.1.2"},
		{in: "u@xn--zzzzzzzz999999999.example", code: "5.1.2"},
		{in: "u@xn--0.example", code: "5.1.2"},
		{in: "u@\xff.example", utf8: true, code: "5.1.2"},
		{in: "u@\ufffd.example", utf8: true, code: "5.1.2"},
		{in: "u@" + strings.Repeat("ü", 64) + ".example", utf8: true, code: "5.1.2"},
		{in: "u@" + strings.Repeat("ü.", 4096), utf8: true, code: "5.1.2"},
		{in: "u@[192.0.2.256]", code: "5.1.2"},
		{in: "u@[192.0.2.1", code: "5.1.2"},
		{in: "u@[2001:db8::1]", code: "5.1.2"},
		{in: "u@[IPv6:192.0.2.1]", code: "5.1.2"},
		{in: "u@[IPv6:fe80::1%eth0]", code: "5.1.2"},
		{in: "u@[]", code: "5.1.2"},
		{in: "u@[x400:abc]", code: "5.1.2"},
	} {
		m, err := ParseMailbox(c.in, c.utf8)
		if got := enhancedOf(t, err); got != c.code || m.String() != c.want {
			t.Errorf("ParseMailbox(%q, %v) = %q, %q (%v); want %q, %q", c.in, c.utf8, m, got, err, c.want, c.code)
		}
	}
}

func TestTrap27_CheckRecipient(t *testing.T) {
	t.Parallel()
	for in, code := range map[string]string{
		"user@example.com":       "",
		"user@[192.0.2.1]":       "",
		"a-b@example.com":        "",
		`"a@b"@example.com`:      "",
		"user@localhost":         "5.1.2",
		"user@example.":          "5.1.2",
		"user%host@example.com":  "5.1.3",
		`"u%h"@example.com`:      "5.1.3",
		"host!user@example.com":  "5.1.3",
		"-oQ/tmp@example.com":    "5.1.3",
		`"-oQ /tmp"@example.com`: "5.1.3",
	} {
		m, err := ParseMailbox(in, false)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := enhancedOf(t, CheckRecipient(m)); got != code {
			t.Errorf("CheckRecipient(%q) = %q, want %q", in, got, code)
		}
	}
	if got := enhancedOf(t, CheckRecipient(Mailbox{})); got != "5.1.3" {
		t.Errorf("the null path gives %q", got)
	}
}

func TestTrap27_ParsePath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want, rest, code string }{
		{in: "<>", want: ""},
		{in: "<> SIZE=3", rest: "SIZE=3"},
		{in: "<Postmaster>", want: "Postmaster"},
		{in: "<u@example.com>", want: "u@example.com"},
		{in: " <u@example.com>  A=1 B", want: "u@example.com", rest: "A=1 B"},
		{in: "u@example.com A=1", want: "u@example.com", rest: "A=1"},
		{in: `<"a> b"@example.com> X`, want: `"a> b"@example.com`, rest: "X"},
		{in: `<"a\"> b"@example.com> X`, want: `"a\"> b"@example.com`, rest: "X"},
		{in: "<@a.example,@b.example:u@c.example>", want: "u@c.example"},
		{in: "<@[192.0.2.1]:u@c.example>", want: "u@c.example"},

		{in: "", code: "5.1.3"},
		{in: "<u@example.com", code: "5.1.3"},
		{in: "u@example.com>", code: "5.1.3"},
		{in: "<u@example.com>x", code: "5.5.4"},
		{in: "<u>", code: "5.1.3"},
		{in: "<<u@example.com>>", code: "5.5.4"},
		{in: "<@a.example u@c.example>", code: "5.1.3"},
		{in: "<@a.example,b.example:u@c.example>", code: "5.1.3"},
		{in: "<@a_b.example:u@c.example>", code: "5.1.3"},
		{in: "<@a.example:>", code: "5.1.3"},
		{in: "<u@example.com\r\n>", code: "5.1.2"},
	} {
		m, rest, err := ParsePath(c.in, false)
		if got := enhancedOf(t, err); got != c.code || m.String() != c.want || rest != c.rest {
			t.Errorf("ParsePath(%q) = %q, %q, %q (%v); want %q, %q, %q", c.in, m, rest, got, err, c.want, c.rest, c.code)
		}
	}
}

func TestTrap18_ValidHelo(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]bool{
		"mail.example.com": true, "a.b": true, "[192.0.2.1]": true, "[IPv6:2001:db8::1]": true, "1.example": true,
		"": false, "localhost": false, "mail.example.com.": false, "my_host.example.com": false,
		"192.0.2.1": false, "[IPv6:2001:DB8::1]": false, "[]": false, "bücher.example": false, "a b.example": false,
		"-a.example": false, label63 + "b.example": false, name253 + "c": false, "2001:db8::1": false,
	} {
		if got := ValidHelo(s); got != want {
			t.Errorf("ValidHelo(%q) = %v", s, got)
		}
	}
}

func TestAddressLiteral(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"192.0.2.1": "[192.0.2.1]", "2001:db8::1": "[IPv6:2001:db8::1]", "::ffff:192.0.2.1": "[192.0.2.1]", "fe80::1%eth0": "[IPv6:fe80::1]",
	} {
		if got := AddressLiteral(netip.MustParseAddr(in)); got != want {
			t.Errorf("AddressLiteral(%s) = %s, want %s", in, got, want)
		}
	}
}

func TestMailboxParts(t *testing.T) {
	t.Parallel()
	m, err := ParseMailbox(`"jür \"gen"@[192.0.2.1]`, true)
	if err != nil || m.Unquoted() != `jür "gen` || !m.NeedsUTF8() || !m.IsLiteral() || m.IsNull() {
		t.Errorf("%q: %v", m, err)
	}
	if got := SplitAddress(`"a@b"@example.com`); got != (Mailbox{`"a@b"`, "example.com"}) {
		t.Errorf("SplitAddress: %q", got)
	}
	if !SplitAddress("").IsNull() {
		t.Error("the empty address is the null path")
	}
}

// FuzzParseMailbox holds that what was parsed prints as something that parses
// to the same, inside every bound and free of controls.
func FuzzParseMailbox(f *testing.F) {
	for _, s := range []string{"user@example.com", `"a b"@example.com`, `"a\"\\"@[IPv6:::1]`, "jürgen@bücher.example", "u@xn--bcher-kva.", "\"\x7f\"@a", "a%b@c.d", "\"\u0085\"@x.y", "u@ａ。b"} {
		f.Add(s, true)
		f.Add(s, false)
	}
	f.Fuzz(func(t *testing.T, s string, utf8ok bool) {
		m, err := ParseMailbox(s, utf8ok)
		if err != nil {
			enhancedOf(t, err)
			return
		}
		again, err := ParseMailbox(m.String(), utf8ok)
		if err != nil || again != m {
			t.Fatalf("%q prints as %q, which parses as %q, %v", s, m, again, err)
		}
		path, rest, err := ParsePath("<"+m.String()+"> X", utf8ok)
		if err != nil || path != m || rest != "X" {
			t.Fatalf("%q as a path: %q, %q, %v", m, path, rest, err)
		}
		if SplitAddress(m.String()) != m {
			t.Fatalf("%q splits as %q", m, SplitAddress(m.String()))
		}
		if len(m.Local) > MaxLocal || len(m.Domain) > MaxDomain || len(m.String()) > MaxPath-2 || Harmless(m.String()) != m.String() {
			t.Fatalf("%q is beyond a bound", m)
		}
		if !utf8ok && !isASCII(m.String()) {
			t.Fatalf("%q needs UTF-8", m)
		}
	})
}

// What a newcomer gets wrong in an address is told with what to write instead,
// in one line of ASCII.
func TestRefusalsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]string{
		"TO:<anna>":                   "the address has no domain; write it in full: <user@example.com>",
		"TO:<>":                       "the null path <> is no recipient; write <user@example.com>",
		"TO:<@example.com>":           "the address begins with @ and is no source route; write <user@example.com>",
		"TO:<anna smith@example.com>": "the local part has a character that must be quoted; write <\"local part\"@example.com>",
		"TO:<anna..smith@example.com>": "the local part begins or ends with a dot, or has two in a row; take the dot away, or quote: " +
			"<\"a..b\"@example.com>",
		"TO:<\"anna@example.com>": "the path's closing bracket is missing; write <user@example.com>, and close a quote before the @",
		"TO:<anna%b@example.com>": "routes in the local part (% and !) are not taken; write the address that is meant",
		"TO:<-anna@example.com>":  "local parts that begin with a hyphen are not taken, since programs take them for options; use another address of the recipient",
		"TO:<anna@mail>":          "the domain has one label only; write it in full, with its top-level domain",
		"FROM:<postmaster>":       "the address has no domain; write it in full: <user@example.com>",
		"FROM:<anna>":             "the address has no domain; write it in full: <user@example.com>",
	} {
		var err error
		if strings.HasPrefix(arg, "FROM:") {
			_, err = ParseMail(arg)
		} else {
			var r Rcpt
			if r, err = ParseRcpt(arg, false); err == nil {
				err = CheckRecipient(r.Recipient)
			}
		}
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", arg, err, want)
		}
		if len("501 5.1.3 "+want+"\r\n") > 512 || !isASCII(want) {
			t.Errorf("%s: no reply line of RFC 5321 4.5.3.1.5: %s", arg, want)
		}
	}
}
