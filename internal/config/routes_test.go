package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// route is a route with the defaults of what is not given.
func route(r Route) Route {
	for _, list := range []*[]string{&r.Domains, &r.Senders, &r.Streams, &r.Users, &r.Tags} {
		if *list == nil {
			*list = []string{}
		}
	}
	if r.TableBy == nil {
		r.TableBy = []RouteFact{RouteByDomain}
	}
	r.Auth = noCredentials
	return r
}

// on makes a route of lines.
func on(lines ...string) string { return "[[route]]\n" + strings.Join(lines, "\n") + "\n" }

const (
	forA   = `domains = ["a.example"]`
	direct = `host = "direct"`
)

func TestRoutesRefused(t *testing.T) {
	t.Parallel()
	const router = "[router]\nhost = \"r.example\"\n"
	for _, c := range []badFile{
		{"no condition", host + on(direct), []string{`f:2:1: [[route]] domains: is missing (write domains = ["example.com"], or another condition)`}},
		{"no target", host + on(forA), []string{`f:2:1: [[route]] host: is missing (write host = "direct", a pool, an action or a table)`}},
		{"action and host", host + on(forA, direct, `action = "hold"`), []string{`f:5:10: [[route]] action: sends the mail nowhere, and host or pool sends it somewhere (keep one)`}},
		{"table and host", host + on(forA, direct, `table = "/t"`), []string{`f:5:9: [[route]] table: says where mail goes, and so do host, pool and action (keep one)`}},
		{"table and action", host + on(`table = "/t"`, `action = "fail"`), []string{`f:3:9: [[route]] table: says where mail goes, and so do host, pool and action (keep one)`}},
		{"text without fail", host + on(forA, `action = "hold"`, `text = "x"`), []string{`f:5:8: [[route]] text: goes with action = "fail"`}},
		{"long text", host + on(forA, `action = "fail"`, `text = "`+strings.Repeat("x", 501)+`"`), []string{`f:5:8: [[route]] text: "` + strings.Repeat("x", 80) + `…" is not a sentence of at most 500 printable octets`}},
		{"port without host", host + on(forA, `action = "hold"`, "port = 26"), []string{`f:5:8: [[route]] port: goes with a host (or with the hosts of a table)`}},
		{"tls of the router", host + router + on(forA, `host = "router"`, `tls = "none"`), []string{`f:7:7: [[route]] tls: goes with a host (or with the hosts of a table)`}},
		{"no router", host + on(forA, `host = "router"`), []string{`f:4:8: [[route]] host: "router" is named, and there is no [router] (write its host there)`}},
		{"no such pool", host + on(forA, `pool = "bulk"`), []string{`f:4:8: [[route]] pool: "bulk" is no [[pool]]`}},
		{"no such user", host + on(`users = ["unix:root", "erp"]`, direct), []string{`f:3:23: [[route]] users: there is no [[user]] with the name "erp"`}},
		{"senders", host + on(`senders = ["<>", "a.example", "*@A.example"]`, direct), []string{`f:3:18: [[route]] senders: "a.example" has no @ (write "*@a.example" for every address of the domain)`}},
		{"tags", host + on(`tags = ["fine tag", ""]`, direct), []string{`f:3:21: [[route]] tags: "" is not a tag (1 to 64 printable octets)`}},
		{"an action", host + on(forA, `action = "drop"`), []string{`f:4:10: [[route]] action: "drop" is not "none", "hold", "discard" or "fail"`}},
		{"table by two", host + on(`table = "/t"`, `table_by = ["domain", "sender"]`), []string{`f:4:12: [[route]] table_by: a file is asked by one of "domain" and "sender"`}},
		{"table by a tag", host + on(`table = "/t"`, `table_by = ["tags"]`), []string{`f:4:12: [[route]] table_by: a file is asked by one of "domain" and "sender"`}},
		{"table by nothing", host + on(`table = "https://t.example"`, `table_by = []`), []string{`f:4:12: [[route]] table_by: is empty (write ["domain"])`}},
		{"by without a table", host + on(forA, direct, `table_by = ["sender"]`, `table_token_file = "/x"`), []string{`f:5:12: [[route]] table_by: goes with a table`, `f:6:20: [[route]] table_token_file: goes with a table`}},
		{"token of a file", host + on(`table = "/t"`, `table_token_file = "/x"`), []string{`f:4:20: [[route]] table_token_file: goes with a table that is a service (https://…)`}},
		{"token in the clear", host + on(`table = "http://t.example/"`, `table_token_file = "/x"`), []string{`f:4:20: [[route]] table_token_file: the token would cross the network in clear text (write https:// in table)`}},
		{"password in a URL", host + on(`table = "https://u:secret@t.example/"`), []string{`f:3:9: [[route]] table: has a password in it, which show would print (write table_token_file)`}},
		{"no URL", host + on(`table = "https://"`), []string{`f:3:9: [[route]] table: is not a URL`}},
		{"another scheme", host + on(`table = "ftp://t.example"`), []string{`f:3:9: [[route]] table: "ftp://t.example" is not a path`}},
		{"credentials of no host", host + on(forA, direct, `username = "u"`, `password = "p"`), []string{`f:5:12: [[route]] username: is for a host that relays, and this mail does not go to one (write host)`}},
		{"never used: under a domain", host + on(`domains = ["*.a.example"]`, direct) + on(`domains = ["x.y.a.example", "a.example", "*.x.a.example"]`, direct), []string{
			`f:6:12: [[route]] domains: "x.y.a.example" is never used: "*.a.example" has a route already on line 3; the first match wins`,
			`f:6:42: [[route]] domains: "*.x.a.example" is never used: "*.a.example" has a route already on line 3; the first match wins`,
		}},
		{"never used: all", host + on(`domains = ["*"]`, direct) + on(forA, direct) + on(`tags = ["x"]`, direct) + on(`domains = ["[192.0.2.1]"]`, direct), []string{
			`f:6:12: [[route]] domains: "a.example" is never used: "*" has a route already on line 3; the first match wins`,
			`f:8:1: [[route]]: is never used: "*" has a route already on line 3; the first match wins`,
			`f:12:12: [[route]] domains: "[192.0.2.1]" is never used: "*" has a route already on line 3; the first match wins`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) { mustRefuse(t, c.text, c.want) })
	}
}

// TestRoutesTaken: what looks like a contradiction and is none.
func TestRoutesTaken(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		on(`domains = ["*"]`, `tags = ["x"]`, direct) + on(forA, direct),
		on(`domains = ["*"]`, `senders = ["<>"]`, direct) + on(`streams = ["s"]`, direct),
		on(`table = "/t"`) + on(`domains = ["*"]`, direct),
		on(`domains = ["a.example"]`, direct) + on(`domains = ["*.a.example"]`, direct),
		on(`domains = ["*.a.example"]`, direct) + on(`domains = ["[192.0.2.1]", "b.example"]`, direct),
		on(`table = "http://127.0.0.1:1/x?y"`, `table_by = ["domain", "sender", "stream", "user", "tags"]`, `table_token_file = "/x"`, `tls = "implicit"`, "port = 465"),
		on(forA, `pool = "default"`),
		on(`domains = []`, `users = ["unix:a b"]`, `host = "r.example"`, `action = "none"`, `table = ""`, `text = ""`),
	} {
		if _, err := Parse("f", []byte(host+text)); err != nil {
			t.Errorf("%s%v", text, err)
		}
	}
	c, err := Parse("/etc/x/f", []byte(host+on(`table = "t"`)+on(`table = "https://t.example/?key=secret"`, `table_token_file = "token"`)))
	if err != nil {
		t.Fatal(err)
	}
	if r := c.Routes; r[0].Table != "/etc/x/t" || r[1].Table != "https://t.example/?key=secret" || r[1].TableTokenFile != "/etc/x/token" || TableName(r[1].Table) != "https://t.example/" {
		t.Errorf("%+v", r)
	}
}

// TestManyRoutes: ten thousand fit in a file, and one more is refused.
func TestManyRoutes(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(host)
	for i := range maxRoutes {
		fmt.Fprintf(&b, "[[route]]\ndomains=[\"d%d.example\"]\nhost=\"direct\"\n", i)
	}
	if b.Len() > maxFile {
		t.Fatal(b.Len(), "octets")
	}
	c, err := Parse("f", []byte(b.String()))
	if err != nil || len(c.Routes) != maxRoutes {
		t.Fatal(err)
	}
	b.WriteString(on(forA, direct))
	if _, err := Parse("f", []byte(b.String())); err == nil || !strings.Contains(err.Error(), "there are 10001 [[route]]") {
		t.Error(err)
	}
}

// TestRouteTokenFile: a token that cannot be read, or that everybody can, is told
// when the file is loaded; the table itself is not looked at.
func TestRouteTokenFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	if err := os.WriteFile(file, []byte(host+on(`table = "https://t.example/"`, `table_token_file = "token"`)+on(`table = "missing"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err == nil || !strings.Contains(err.Error(), ":4:20: [[route]] table_token_file: ") {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte("x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(file); err != nil {
		t.Error(err)
	}
}
