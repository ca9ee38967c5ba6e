package config

import (
	"strings"
	"testing"

	"mailout/internal/account"
)

const webKey = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

var httpFiles = []badFile{
	{"not loopback", host + "[http]\naddress = \"192.0.2.1:8025\"\n", []string{`f:3:11: [http] address: "192.0.2.1:8025" is not loopback, and without TLS tokens would cross the network in clear text (write cert and key, acme = true, or plain = true if a proxy before it has TLS)`}},
	{"everywhere", host + "[http]\naddress = \"[::]:8025\"\n", []string{`f:3:11: [http] address: "[::]:8025" is not loopback, and without TLS tokens would cross the network in clear text (write cert and key, acme = true, or plain = true if a proxy before it has TLS)`}},
	{"no key", host + "[http]\naddress = \"127.0.0.1:8025\"\ncert = \"c.pem\"\n", []string{`f:4:8: [http] cert: needs its private key (write key)`}},
	{"no certificate", host + "[http]\nkey = \"k.pem\"\n", []string{`f:3:7: [http] key: needs its certificate (write cert)`}},
	{"no port", host + "[http]\naddress = \"127.0.0.1\"\nconnections = 0\nnames = [\"a b\"]\n", []string{
		`f:3:11: [http] address: "127.0.0.1" is not an address and port (write "127.0.0.1:25")`,
		`f:4:15: [http] connections: 0 is out of range (from 1 to 100000)`,
		`f:5:10: [http] names: "a b" is not a host name: it contains " "`}},
	{"an SMTP door's", host + "[[listen]]\naddress = \"127.0.0.1:25\"\n[http]\naddress = \"127.0.0.1:25\"\n", []string{`f:5:11: [http] address: "127.0.0.1:25" is taken by the [[listen]] on line 3 ("127.0.0.1:25")`}},
	{"the key itself", host + "[[user]]\nname = \"a\"\nfrom = [\"*\"]\nkey = \"mo_secret\"\n", []string{`f:5:7: [[user]] key: is not the hash of a key (` + "`mailout config key`" + ` makes one)`}},
	{"one key twice", host + "[[user]]\nname = \"a\"\nfrom = [\"*\"]\nkey = \"" + webKey + "\"\n[[user]]\nname = \"b\"\nfrom = [\"*\"]\nkey = \"" + webKey + "\"\n", []string{`f:9:7: [[user]] key: is that of the user on line 5 too (make one for each)`}},
	{"scopes", host + "[[user]]\nname = \"a\"\nfrom = [\"*\"]\nkey = \"" + webKey + "\"\nscopes = [\"sent\", \"root\"]\n[[user]]\nname = \"b\"\nfrom = [\"*\"]\nkey = \"\"\nscopes = []\n", []string{
		`f:6:11: [[user]] scopes: "sent" is not "send", "read", "control", "suppress" or "admin" (did you mean "send"?)`,
		`f:6:19: [[user]] scopes: "root" is not "send", "read", "control", "suppress" or "admin"`,
		`f:7:1: [[user]] password: is missing, and so is key (` + "`mailout config password` or `mailout config key` makes one)",
		`f:11:10: [[user]] scopes: is empty (write ["send"])`}},
}

func TestHTTPErrors(t *testing.T) {
	t.Parallel()
	for _, c := range httpFiles {
		_, err := Parse("f", []byte(c.text))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if want := strings.Join(c.want, "\n"); got != want {
			t.Errorf("%s: got\n%s\nwant\n%s", c.name, got, want)
		}
	}
}

func TestHTTPSettings(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte(host+"[http]\naddress = \"[::1]:8025\"\n[[user]]\nname = \"a\"\nfrom = [\"*\"]\nkey = \""+webKey+"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.Address.String() != "[::1]:8025" || c.HTTP.Connections != 256 || c.Users[0].Key.String() != webKey {
		t.Errorf("%+v %+v", c.HTTP, c.Users)
	}
	if s := c.Users[0].Scopes; len(s) != 1 || s[0] != account.ScopeSend {
		t.Error(s)
	}
	for _, text := range []string{"[http]\naddress = \"\"\n", "[http]\naddress = \"0.0.0.0:80\"\nplain = true\n", ""} {
		if _, err := Parse("f", []byte(host+text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}
