package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"mailout/internal/mta"
)

const threeSources = host + `
[[source]]
ip = "192.0.2.10"
hostname = "a.example.com"
weight = 3
[[source]]
ip = "192.0.2.11"
hostname = "b.example.com"
[[source]]
ip = "2001:db8::11"
hostname = "B.example.com"
`

// TestPoolMembers: a pool names sources by address and by host name, with
// weights of its own or theirs.
func TestPoolMembers(t *testing.T) {
	t.Parallel()
	for pool, want := range map[string]string{
		`sources = ["192.0.2.10"]`:                                     "192.0.2.10*3",
		`sources = ["b.example.com"]`:                                  "192.0.2.11*1 2001:db8::11*1",
		`sources = ["2001:DB8::11", "A.example.com"]`:                  "2001:db8::11*1 192.0.2.10*3",
		"sources = [\"192.0.2.10\", \"b.example.com\"]\nweights=[7,2]": "192.0.2.10*7 192.0.2.11*2 2001:db8::11*2",
	} {
		c, err := Parse("f", []byte(threeSources+"[[pool]]\nname = \"x\"\n"+pool+"\n"))
		if err != nil {
			t.Errorf("%s: %v", pool, err)
			continue
		}
		var got []string
		for _, s := range c.Members(&c.Pools[0]) {
			got = append(got, fmt.Sprintf("%s*%d", s.IP, s.Weight))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", pool, got, want)
		}
	}
}

func TestPoolErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []badFile{
		{"source twice", host + "[[source]]\nip = \"192.0.2.1\"\n[[source]]\nip = \"192.0.2.1\"\nhostname = \"b.example.com\"\n", []string{`f:5:6: [[source]] ip: "192.0.2.1" stands twice, first on line 3 (receivers know an address by one name)`}},
		{"no such source", threeSources + "[[pool]]\nname = \"x\"\nsources = [\"192.0.2.10\", \"192.0.2.12\"]\n", []string{`f:15:26: [[pool]] sources: "192.0.2.12" is neither ip nor hostname of a [[source]]`}},
		{"source of a pool twice", threeSources + "[[pool]]\nname = \"x\"\nsources = [\"192.0.2.11\", \"b.example.com\"]\n", []string{`f:15:26: [[pool]] sources: "b.example.com" names a source that the pool has already`}},
		{"pool twice", threeSources + "[[pool]]\nname = \"x\"\nsources = [\"192.0.2.11\"]\n[[pool]]\nname = \"x\"\nsources = [\"192.0.2.10\"]\n", []string{`f:17:8: [[pool]] name: "x" stands twice, first on line 14`}},
		{"weights", threeSources + "[[pool]]\nname = \"x\"\nsources = [\"192.0.2.11\"]\nweights = [1, 2]\n", []string{`f:16:11: [[pool]] weights: has 2 values for 1 sources (write one for each)`}},
		{"no weight", host + "[[source]]\nip = \"192.0.2.1\"\nweight = 0\n", []string{`f:4:10: [[source]] weight: 0 is out of range (from 1 to 10000)`}},
		{"stream's pool", threeSources + "[[pool]]\nname = \"bulk\"\nsources = [\"192.0.2.11\"]\n[[stream]]\nname = \"s\"\npool = \"bluk\"\n", []string{`f:18:8: [[stream]] pool: "bluk" is no [[pool]] (did you mean "bulk"?)`}},
		{"two proxies", host + "[[source]]\nip = \"192.0.2.1\"\nsocks5 = \"10.0.0.1:1080\"\nproxy_protocol = \"10.0.0.1:1081\"\n", []string{`f:5:18: [[source]] proxy_protocol: stands beside socks5 (keep one of them)`}},
		{"no port", host + "[[source]]\nip = \"192.0.2.1\"\nsocks5 = \"10.0.0.1\"\n", []string{`f:4:10: [[source]] socks5: "10.0.0.1" is not HOST:PORT (write for example "10.0.0.5:1080")`}},
		{"user without proxy", host + "[[source]]\nip = \"192.0.2.1\"\nusername = \"x\"\n", []string{`f:4:12: [[source]] username: is for socks5, which is not there`}},
		{"user without password", host + "[[source]]\nip = \"192.0.2.1\"\nsocks5 = \"p:1080\"\nusername = \"x\"\n", []string{`f:2:1: [[source]] password_file: is missing beside username (write it, or password)`}},
		{"password without user", host + "[[source]]\nip = \"192.0.2.1\"\nsocks5 = \"p:1080\"\npassword = \"x\"\n", []string{`f:2:1: [[source]] username: is missing beside a password`}},
	} {
		t.Run(c.name, func(t *testing.T) { mustRefuse(t, c.text, c.want) })
	}
	if _, err := Parse("f", []byte(threeSources+"[[stream]]\nname = \"s\"\npool = \"default\"\n")); err != nil {
		t.Error("the default pool is always there:", err)
	}
}

// TestSourceEgress: what a source's proxy is told by.
func TestSourceEgress(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, pass := filepath.Join(dir, "f.toml"), filepath.Join(dir, "pass")
	write(t, path, host+"[[source]]\nip = \"192.0.2.1\"\nsocks5 = \"[2001:db8::5]:1080\"\nusername = \"u\"\npassword_file = \"pass\"\n[[source]]\nip = \"192.0.2.2\"\nproxy_protocol = \"proxy.example:25\"\n")
	if err := os.WriteFile(pass, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []*mta.Egress{{Kind: mta.EgressSOCKS5, Address: "[2001:db8::5]:1080", Username: "u", Password: "secret"}, {Kind: mta.EgressProxyProtocol, Address: "proxy.example:25"}}
	for i, w := range want {
		if !reflect.DeepEqual(c.Sources[i].Egress, w) {
			t.Errorf("%+v, want %+v", c.Sources[i].Egress, w)
		}
	}
	if err := os.Chmod(pass, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); permissionsMean && (err == nil || !strings.Contains(err.Error(), "can be read by everybody")) {
		t.Error("a password that everybody reads:", err)
	}
}
