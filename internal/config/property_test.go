package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// samples are two possible values of keys of every type, as typed, with what
// Get gives.
var samples = map[string][2][2]string{
	"hostname":                    {{"a.example.com", "a.example.com"}, {`"b.example.com"`, "b.example.com"}},
	"spool":                       {{"/a", "/a"}, {"'/b'", "/b"}},
	"dns.servers":                 {{"192.0.2.1,192.0.2.2:53", `["192.0.2.1", "192.0.2.2"]`}, {"tls://[2001:db8::1]:853#Dns.Example,tls://192.0.2.1:8853", `["tls://[2001:db8::1]#dns.example", "tls://192.0.2.1:8853"]`}},
	"dns.timeout":                 {{"6s", "6s"}, {"6000ms", "6s"}},
	"router.use":                  {{"unresolved", "unresolved"}, {"always", "always"}},
	"router.host":                 {{"smart.example", "smart.example"}, {"none", "none"}},
	"delivery.ipv6":               {{"false", "false"}, {"true", "true"}},
	"delivery.port":               {{"2525", "2525"}, {"0x19", "25"}},
	"delivery.retry":              {{`["1m"]`, `["1m"]`}, {"1m,2m", `["1m", "2m"]`}},
	"limits.message_size":         {{"10MB", "10MB"}, {"1024KiB", "1MiB"}},
	"stream.1.expire":             {{"1d", "1d"}, {"2d", "2d"}},
	"listen.1.trusted":            {{"10.0.0.0/8", `["10.0.0.0/8"]`}, {"", "[]"}},
	"listen.2.address":            {{"127.0.0.1:2600", "127.0.0.1:2600"}, {"[::1]:2600", "[::1]:2600"}},
	"tls.outbound":                {{"none", "none"}, {"required", "required"}},
	"limits.connections_per_peer": {{"7", "7"}, {"8", "8"}},
	"identity.guard":              {{"hold", "hold"}, {"warn", "warn"}},
	"identity.dns_update.server":  {{"ns.example", "ns.example"}, {"192.0.2.1:5353", "192.0.2.1:5353"}},
}

// genFile draws a right file in many spellings, with comments everywhere.
func genFile(t *rapid.T) string {
	nl := rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "line end")
	var b strings.Builder
	serial := 0
	filler := func() {
		for range rapid.IntRange(0, 2).Draw(t, "filler") {
			serial++
			b.WriteString(rapid.SampledFrom([]string{"", "  ", fmt.Sprintf("# note %d", serial), fmt.Sprintf("\t# note %d \"'[x] = #", serial)}).Draw(t, "line") + nl)
		}
	}
	line := func(s string) {
		b.WriteString(s)
		if rapid.Bool().Draw(t, "tail") {
			serial++
			fmt.Fprintf(&b, "  # tail %d", serial)
		}
		b.WriteString(nl)
	}
	filler()
	line(`hostname = "mailout.example.com"`)
	filler()
	if rapid.Bool().Draw(t, "spool") {
		line(`  spool = '/var/spool/x # no comment'`)
	}
	form := rapid.IntRange(0, 3).Draw(t, "dns")
	if form == 1 {
		line(`dns.timeout = "4s"`)
	} else if form == 2 {
		line(`dns = { timeout = "4s" , servers = [] }`)
	}
	line(`stream = [ { name = "a" }, {name="b", expire="1h"} ]`)
	filler()
	tables := [][]string{
		{"[delivery]", `expire = "6d"`, `retry = [ # why`, `  "5m", # first`, `  # last`, `  "1h" ]`, `ipv6=true`},
		{"[limits]"},
		{"[router]", `host = "h.example"`},
		{"[[listen]]", `address = "127.0.0.1:2525"`, `trusted = [ '127.0.0.1' ]`},
	}
	if form == 3 {
		tables = append(tables, []string{"[ dns ]", `servers = ["192.0.2.9"]`})
	}
	for _, i := range rapid.Permutation([]int{0, 1, 2, 3, 4}[:len(tables)]).Draw(t, "order") {
		for n, s := range tables[i] {
			if strings.HasPrefix(s, "retry") || strings.HasPrefix(s, "  ") {
				b.WriteString(s + nl)
				continue
			}
			line(s)
			if n > 0 {
				filler()
			}
		}
	}
	text := b.String()
	if rapid.Bool().Draw(t, "no last line end") {
		text = strings.TrimRight(text, "\r\n")
	}
	return text
}

// Setting a key and reading it gives the value; every comment stays, octet by
// octet and in order; and so does every line that the change is not about.
func TestSetThenGet(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.toml")
	var keys []string
	for _, tbl := range schema { // sorted, so that rapid can replay
		for i := range 2 {
			for _, k := range tbl.keys {
				if _, ok := samples[k.full(i)]; ok && (tbl.array || i == 0) {
					keys = append(keys, k.full(i))
				}
			}
		}
	}
	if len(keys) != len(samples) {
		t.Fatal("a sample names no key:", keys)
	}
	rapid.Check(t, func(t *rapid.T) {
		before := genFile(t)
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			key := rapid.SampledFrom(keys).Draw(t, "key")
			sample := samples[key][rapid.IntRange(0, 1).Draw(t, "value")]
			if err := Set(path, key, sample[0]); err != nil {
				t.Fatalf("%s\n%s = %s: %v", before, key, sample[0], err)
			}
			after, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			checkSet(t, before, string(after), key, sample[1])
			before = string(after)
		}
	})
}

func checkSet(t *rapid.T, before, after, key, want string) {
	c, err := Parse("f", []byte(after))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := Get(c, key); err != nil || got != want {
		t.Fatalf("%s is %q, %v, want %q\n%s", key, got, err, want, after)
	}
	if a, b := allComments(before), allComments(after); a != b {
		t.Fatalf("comments\n%s\nbecame\n%s", a, b)
	}
	// What stands before the change and behind it is the same.
	head := commonPrefix(before, after)
	tail := commonPrefix(reverse(before[head:]), reverse(after[head:]))
	if changed := before[head : len(before)-tail]; strings.Count(changed, "\n") > 4 {
		t.Fatalf("%s: too much has changed:\n%s", key, changed)
	}
	if strings.Contains(before, "\r\n") && strings.Count(after, "\n") != strings.Count(after, "\r\n") {
		t.Fatalf("mixed line ends:\n%q", after)
	}
}

func allComments(text string) string { return strings.Join(comments([]byte(text)), "\n") }

func commonPrefix(a, b string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func reverse(s string) string {
	b := []byte(s)
	for i, j := 0, len(b)-1; i < j; i, j = i+1, j-1 {
		b[i], b[j] = b[j], b[i]
	}
	return string(b)
}

var fuzzSeeds = []string{
	full, example, "", "x", "[", "[[listen]]\n", "a.b.c = 1", "hostname = '''\nx'''", "listen = [[{address=3}]]\n", "dns = { servers = [ # x\n] , }",
	"route = [[], {}, 3]", "hostname = 2026-01-01\nspool = 07:00:00", "[delivery]\nport = 0o31\nhosts = 1e3\nipv6 = +inf", "\"\".\"\" = 1\n[\"\"]\n[['']]",
	"[identity.dns_update]\nserver = 'ns.example'\nkey_name = 'k'\nkey_secret = 'aGk='\n[[dkim]]\nselector = '1'\n[identity]\nguard = 'hold'",
	"hostname = 'a.example'\nidentity = { reflectors = ['smtp:a.example:1', 'dns:a/TXT@[::1]:5'], dns_update = {} }", "[identity]\ndns_update.server = ''",
	"hostname = \"\\u0000\"", "\xff", "hostname = \"a.example\"\r\n[dns]\r\ntimeout = \"5s\"",
}

// FuzzParse: any text is either refused with places inside it, or gives a
// configuration that show writes and Parse reads the same.
func FuzzParse(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s))
	}
	for _, c := range append(append(append([]badFile{}, valueFiles...), nameFiles...), contradictions...) {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := Parse("/d/f", data)
		if err != nil {
			checkErrors(t, err, data)
			return
		}
		if c.Identity.DNSUpdate.KeySecret != "" {
			return // which show hides
		}
		again, err := Parse("/d/f", []byte(Show(c)))
		if err != nil {
			t.Fatalf("show is refused: %v\n%s", err, Show(c))
		}
		if applied, restart := Diff(c, again); applied != nil || restart != nil {
			t.Fatalf("show differs: %v %v", applied, restart)
		}
	})
}

func checkErrors(t *testing.T, err error, data []byte) {
	errs := err.(Errors)
	lines := bytes.Split(data, []byte("\n"))
	for i, e := range errs {
		if e.Line < 1 || e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1 {
			t.Fatalf("%v: outside of the file", e)
		}
		if strings.ContainsAny(e.Error(), "\n\r\x00\x1b") {
			t.Fatalf("%q: not one clean line", e.Error())
		}
		if i > 0 && (errs[i-1].Line > e.Line || errs[i-1].Line == e.Line && errs[i-1].Column > e.Column) {
			t.Fatalf("not in order: %v, %v", errs[i-1], e)
		}
	}
}

// FuzzApply: a change never breaks what was right, and keeps the comments.
func FuzzApply(f *testing.F) {
	for _, s := range fuzzSeeds {
		f.Add([]byte(s), "delivery.expire", "6d", false)
	}
	for _, e := range edits {
		for _, c := range changesOf(e.changes) {
			f.Add([]byte(e.before), c.Key, c.Value, c.Unset)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, key, value string, unset bool) {
		out, err := Apply("/d/f", data, Change{Key: key, Value: value, Unset: unset})
		if err != nil {
			return
		}
		before, after := parse("/d/f", data), parse("/d/f", out)
		if after.doc.broken != nil {
			t.Fatalf("%q with %q = %q (%v) became %q: %v", data, key, value, unset, out, after.errs)
		}
		if len(before.errs) > 0 || len(after.errs) > 0 || unset {
			return // what contradicts is refused later; a removed line takes its comment along
		}
		if a, b := allComments(string(data)), allComments(string(out)); a != b && len(comments([]byte(value))) == 0 {
			t.Fatalf("comments\n%s\nbecame\n%s", a, b)
		}
	})
}
