package mtatest

import (
	"bytes"
	"testing"
)

func TestSplitPath(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, address, params string
		ok                  bool
	}{
		{"FROM:<>", "", "", true},
		{"from:<a@b> SIZE=1 X", "a@b", "SIZE=1 X", true},
		{`FROM:<"a>\"b"@c>`, `"a>\"b"@c`, "", true},
		{"FROM:<@x,@y:a@b>", "a@b", "", true},
		{"FROM:<a@b>SIZE=1", "", "", false},
		{"FROM:<a@b", "", "", false},
		{"TO:<a@b>", "", "", false},
		{"", "", "", false},
	} {
		address, params, ok := splitPath(c.in, "FROM:")
		if address != c.address || params != c.params || ok != c.ok {
			t.Errorf("%q: %q %q %v", c.in, address, params, ok)
		}
	}
}

func TestStuff(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": ".\r\n", ".": "..\r\n.\r\n", "a\r\n.b\r\n": "a\r\n..b\r\n.\r\n", "a": "a\r\n.\r\n",
	} {
		var b bytes.Buffer
		if Stuff(&b, []byte(in)); b.String() != want {
			t.Errorf("%q: %q, want %q", in, b.String(), want)
		}
	}
}
