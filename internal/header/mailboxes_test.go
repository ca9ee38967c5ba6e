package header

import (
	"net/mail"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestMailboxes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, want string }{
		{"", ""}, {" \r\n\t", ""}, {",, ,", ""},
		{"a@b.example", "a@b.example"},
		{"a@b.example,\r\n\tc@d.example", "a@b.example|c@d.example"},
		{"Ann <a@b.example>, <c@d.example>", "a@b.example|c@d.example"},
		{`"Last, First (x) <no@where>" <a@b.example>`, "a@b.example"},
		{`"a b"@c.example`, `"a b"@c.example`}, {`"a\"b, c"@d.example, e`, `"a\"b, c"@d.example|e`},
		{"(one (two \\) ) x@y, ) a@b.example (three)", "a@b.example"},
		{"a (c) @ (c) b . example", "a@b.example"},
		{"a@[192.0.2.1], b@[IPv6:2001:db8::1]", "a@[192.0.2.1]|b@[IPv6:2001:db8::1]"},
		{"Team: a@b, Bob <b@c>;, d@e", "a@b|b@c|d@e"}, {"undisclosed-recipients:;", ""}, {"undisclosed-recipients:", ""},
		{`"a@b": c@d;`, "c@d"}, {"one: a@b; two: c@d;", "a@b|c@d"}, {"a@b; c@d", "a@b|c@d"},
		{"<@r1,@r2:a@b>", "a@b"}, {"root", "root"}, {"ops, root", "ops|root"}, {"Charlie Root <root>", "root"},
		{"a@b <c@d>", "c@d"}, {"=?utf-8?q?J=C3=B6rg?= <j@x>", "j@x"}, {"jörg@bücher.example", "jörg@bücher.example"},
		{"-oQ/tmp@x", "-oQ/tmp@x"}, {"a@b\x00", "a@b\x00"},
	} {
		got, err := Mailboxes(c.in)
		if err != nil || strings.Join(got, "|") != c.want {
			t.Errorf("%q: %q, %v", c.in, got, err)
		}
	}
}

func TestMailboxesRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{
		"a b", "a@b c@d", `"x`, `"x\"`, "(x", "((x)", "a@[1", "<a@b", "a@b>", "<<a>", "<a> b", "<a> <b>", "<>", "Ann <>",
		")", "a) b", "a)@b", "g: h: a;", ":a", "a@b: c@d", "a@b\nBcc: c@d", "<a>:b", `a@b "c"`, "a@b\n c@d",
	} {
		if got, err := Mailboxes(in); err == nil {
			t.Errorf("%q: %q", in, got)
		}
	}
}

// What net/mail prints is read back as the same addresses.
func TestMailboxesReadsWhatOthersWrite(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var fields, want []string
		for range rapid.IntRange(1, 5).Draw(t, "n") {
			a := mail.Address{
				Name:    rapid.String().Draw(t, "name"),
				Address: rapid.StringMatching(`[a-z0-9.+ "\\(,]{1,10}@[a-z]{1,8}\.example`).Draw(t, "address"),
			}
			fields = append(fields, a.String())
			bare := mail.Address{Address: a.Address}
			want = append(want, strings.Trim(bare.String(), "<>"))
		}
		got, err := Mailboxes(strings.Join(fields, ",\r\n "))
		if err != nil || !slices.Equal(got, want) {
			t.Fatalf("%q: %q, %v, want %q", fields, got, err, want)
		}
	})
}

// Nothing but pieces of the value comes out, and nothing makes it hang.
func FuzzMailboxes(f *testing.F) {
	for _, s := range []string{"", "a@b, c", "G: a, <b@c>;", `"x\"y"@z (c (d)) <@r:q@w>`, "(", "<", "[", "\\", ")", "a)@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Mailboxes(in)
		if err != nil && got != nil {
			t.Fatalf("%q with an error", got)
		}
		total := 0
		for _, a := range got {
			total += len(a)
			if a == "" {
				t.Fatal("an empty address")
			}
		}
		if total > len(in) {
			t.Fatalf("%q out of %q", got, in)
		}
	})
}
