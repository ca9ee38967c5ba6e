package config

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// edits are texts before and after changes; K=V sets, K alone removes.
var edits = []struct {
	name, before string
	changes      []string
	after        string
}{
	{"value in place", host + "[delivery]\n  expire   =  \"5d\"   # agreed\nport = 25\n", []string{"delivery.expire=7d"}, host + "[delivery]\n  expire   =  \"7d\"   # agreed\nport = 25\n"},
	{"value as TOML", host + "[delivery]\nexpire = '5d'\n", []string{`delivery.expire="7d"`}, host + "[delivery]\nexpire = \"7d\"\n"},
	{"behind the last key", host + "[delivery]\n\tport = 25 # smtp\n\n# about dns\n[dns]\n", []string{"delivery.expire=7d"}, host + "[delivery]\n\tport = 25 # smtp\n\texpire = \"7d\"\n\n# about dns\n[dns]\n"},
	{"into an empty table", host + "[delivery] # none yet\n[dns]\n", []string{"delivery.ipv6=false"}, host + "[delivery] # none yet\nipv6 = false\n[dns]\n"},
	{"new table", host, []string{"dns.servers=192.0.2.1, 192.0.2.2:54"}, host + "\n[dns]\nservers = [\"192.0.2.1\", \"192.0.2.2:54\"]\n"},
	{"new table without a last line end", strings.TrimSpace(host), []string{"delivery.port=26"}, host + "\n[delivery]\nport = 26\n"},
	{"list as TOML", host, []string{`dns.servers=["192.0.2.1"]`}, host + "\n[dns]\nservers = [\"192.0.2.1\"]\n"},
	{"empty list", host + "[dns]\nservers = [\"192.0.2.1\"]\n", []string{"dns.servers="}, host + "[dns]\nservers = []\n"},
	{"top key", "# ours\n" + host + "\n[dns]\n", []string{"spool=/x"}, "# ours\n" + host + "spool = \"/x\"\n\n[dns]\n"},
	{"first top key", "# the file\n\n# about dns\n[dns]\n", []string{"hostname=a.example"}, "# the file\n\nhostname = \"a.example\"\n\n# about dns\n[dns]\n"},
	{"top key of an empty file", "", []string{"hostname=a.example"}, "hostname = \"a.example\"\n"},
	{"top key below comments", "# only this", []string{"hostname=a.example"}, "# only this\nhostname = \"a.example\"\n"},
	{"CRLF", "hostname = \"a.example\"\r\n[dns]\r\ntimeout = \"5s\" # x\r\n", []string{"dns.hosts_file=", "delivery.port=26"}, "hostname = \"a.example\"\r\n[dns]\r\ntimeout = \"5s\" # x\r\nhosts_file = \"\"\r\n\r\n[delivery]\r\nport = 26\r\n"},
	{"dotted", host + "dns.timeout = \"5s\"\n[tls]\n", []string{"dns.timeout=6s", "dns.servers=192.0.2.1"}, host + "dns.timeout = \"6s\"\ndns.servers = [\"192.0.2.1\"]\n[tls]\n"},
	{"inline", host + "dns = { timeout = \"5s\" } # x\ntls = {}\n", []string{"dns.timeout=6s", "dns.hosts_file=/h", "tls.outbound=none"}, host + "dns = { timeout = \"6s\", hosts_file = \"/h\" } # x\ntls = { outbound = \"none\" }\n"},
	{"inline list", host + "listen = [{address = \"127.0.0.1:25\"}, {address = \"127.0.0.1:26\"}]\n", []string{"listen.2.address=127.0.0.1:27", "listen.1.bare_lf=repair"}, host + "listen = [{address = \"127.0.0.1:25\", bare_lf = \"repair\"}, {address = \"127.0.0.1:27\"}]\n"},
	{"comments in a list", host + "[dns]\nservers = [ # ours\n  \"192.0.2.1\", # the # first\n  # last\n]  # end\n", []string{"dns.servers=192.0.2.9"}, host + "[dns]\n# ours\n# the # first\n# last\nservers = [\"192.0.2.9\"]  # end\n"},
	{"no comment in a text", host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"h#x\"\n", []string{"route.1.host=direct"}, host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"direct\"\n"},
	{"next element", host + "[[listen]]\naddress = \"127.0.0.1:25\" # 1\n# about dns\n[dns]\n", []string{"listen.2.address=127.0.0.1:26"}, host + "[[listen]]\naddress = \"127.0.0.1:25\" # 1\n\n[[listen]]\naddress = \"127.0.0.1:26\"\n\n# about dns\n[dns]\n"},
	{"first element", host, []string{"route.1.domains=a.example", "route.1.host=direct"}, host + "\n[[route]]\ndomains = [\"a.example\"]\nhost = \"direct\"\n"},
	{"second of two", host + "[[stream]]\nname = \"a\"\n[[stream]]\nname = \"b\"\n", []string{"stream.2.expire=1d"}, host + "[[stream]]\nname = \"a\"\n[[stream]]\nname = \"b\"\nexpire = \"1d\"\n"},
	{"router none", host + "[router] # ours\nhost = \"smarthost\"\nport = 26\n", []string{"router=none"}, host + "[router] # ours\nhost = \"none\"\nport = 26\n"},
	{"router none without one", host, []string{"router=none"}, host},
	{"router host", host + "[router]\nhost = \"none\"\nport = 26\n", []string{"router=smarthost"}, host + "[router]\nhost = \"smarthost\"\nport = 26\n"},
	{"router host and port", host, []string{"router=smart.example:26"}, host + "\n[router]\nhost = \"smart.example\"\nport = 26\n"},
	{"router address", host, []string{"router=[2001:db8::1]:26"}, host + "\n[router]\nhost = \"2001:db8::1\"\nport = 26\n"},
	{"router bare address", host, []string{"router=2001:db8::1"}, host + "\n[router]\nhost = \"2001:db8::1\"\n"},
	{"unset", host + "[dns]\n# time\ntimeout = \"6s\" # gone\nservers = [\n  # kept\n  \"192.0.2.1\"]\n", []string{"dns.timeout", "dns.servers"}, host + "[dns]\n# time\n# kept\n"},
	{"unset what is not there", host, []string{"dns.timeout", "router", "route.3"}, host},
	{"unset inline", host + "dns = { timeout = \"6s\", hosts_file = \"\" , servers = [] }\n", []string{"dns.hosts_file", "dns.servers"}, host + "dns = { timeout = \"6s\" }\n"},
	{"unset the last inline", host + "dns = { timeout = \"6s\" }\n", []string{"dns.timeout"}, host},
	{"unset the last inline with a comment", host + "# ours\ndns = { timeout = \"6s\" }\n", []string{"dns.timeout"}, host + "# ours\ndns = {  }\n"},
	{"unset the last key", host + "\n[dns]\ntimeout = \"6s\" # gone\n\n# about tls\n[tls]\n", []string{"dns.timeout"}, host + "\n# about tls\n[tls]\n"},
	{"unset the last key at the end", host + "\n[dns]\n\n timeout = \"6s\"", []string{"dns.timeout"}, host},
	{"unset the last key between others", host + "[dns]\ntimeout = \"6s\"\n[tls]\n", []string{"dns.timeout"}, host + "[tls]\n"},
	{"unset the last keys", host + "\r\n[dns]\r\ntimeout = \"6s\"\r\nhosts_file = \"\"\r\n", []string{"dns.timeout", "dns.hosts_file"}, host},
	{"unset the last key below a comment", host + "# about dns\n[dns]\ntimeout = \"6s\"\n", []string{"dns.timeout"}, host + "# about dns\n[dns]\n"},
	{"unset the last key above a comment", host + "[dns]\ntimeout = \"6s\"\n# servers are the system's\n", []string{"dns.timeout"}, host + "[dns]\n# servers are the system's\n"},
	{"unset the last key and keep the header's comment", host + "[dns] # ours\ntimeout = \"6s\"\n", []string{"dns.timeout"}, host + "[dns] # ours\n"},
	{"unset the last key and keep the list's comment", host + "[dns]\nservers = [ # ours\n\"192.0.2.1\"]\n", []string{"dns.servers"}, host + "[dns]\n# ours\n"},
	{"unset a dotted key", host + "dns.timeout = \"6s\"\n\n[tls]\n", []string{"dns.timeout"}, host + "\n[tls]\n"},
	{"set and unset", host, []string{"dns.timeout=6s", "delivery.expire=1d", "dns.timeout", "delivery.expire"}, host},
	{"set and unset between", host + "\n[tls]\n", []string{"dns.timeout=6s", "dns.timeout"}, host + "\n[tls]\n"},
	{"unset a table", host + "[dns]\ntimeout = \"6s\"\n\n# about tls\n[tls]\n", []string{"dns"}, host + "\n# about tls\n[tls]\n"},
	{"unset an element", host + "[[stream]]\nname = \"a\"\n[[stream]]\nname = \"b\"\nexpire = \"1d\"\n[[stream]]\nname = \"c\"\n", []string{"stream.2"}, host + "[[stream]]\nname = \"a\"\n[[stream]]\nname = \"c\"\n"},
	{"unset all elements", host + "[[stream]]\nname = \"a\"\n[tls]\n[[stream]]\nname = \"b\"\n", []string{"stream"}, host + "[tls]\n"},
}

func changesOf(args []string) []Change {
	out := make([]Change, len(args))
	for i, a := range args {
		key, value, set := strings.Cut(a, "=")
		out[i] = Change{Key: key, Value: value, Unset: !set}
	}
	return out
}

func TestApply(t *testing.T) {
	t.Parallel()
	for _, c := range edits {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := Apply("f", []byte(c.before), changesOf(c.changes)...)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != c.after {
				t.Errorf("got\n%s\nwant\n%s", got, c.after)
			}
			if _, err := Parse("f", got); err != nil && !strings.Contains(c.before, "h#x") {
				t.Error(err)
			}
		})
	}
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	inline := host + "listen = [{address = \"127.0.0.1:25\"}]\n"
	for _, c := range []struct{ before, change, want string }{
		{host, "delivery.expier=5d", `delivery.expier: unknown key (did you mean "delivery.expire"?)`},
		{host, "expires=5d", `expires: unknown key (did you mean delivery.expire or stream.1.expire?)`},
		{host, "nonsense=5d", `nonsense: unknown key ("mailout config show" lists them)`},
		{host, "outbound=none", `outbound: unknown key (did you mean tls.outbound?)`},
		{host, "expire=5d", `expire: unknown key (did you mean delivery.expire or stream.1.expire?)`},
		{host, "delivery.expire=5 days", `delivery.expire: "5 days" is not a duration (write "5d")`},
		{host, "delivery.port=smtp", `delivery.port: "smtp" is not a whole number`},
		{host, "delivery.port=", `delivery.port: "" is not a whole number`},
		{host, "delivery.ipv6=yes", `delivery.ipv6: "yes" is not true or false (write true)`},
		{host, "delivery.port=25\nspool = \"/x\"", `delivery.port: "25\nspool = \"/x\"" is not a whole number`},
		{host, "dns.servers=192.0.2.1,ns", `dns.servers: "ns" is not the address of a DNS server (write for example "192.0.2.1" or "192.0.2.1:5353")`},
		{host, "dns.servers=[1", `dns.servers: "[1" is not the address of a DNS server (write for example "192.0.2.1" or "192.0.2.1:5353")`},
		{host, "dns=x", `dns: is a table (name one of its keys, such as dns.servers)`},
		{host, "route.host=x", `route.host: which of the [[route]]? (they count from 1: write for example route.1.domains)`},
		{host, "route.0.host=x", `route.0.host: which of the [[route]]? (they count from 1: write for example route.1.domains)`},
		{host, "route.2.host=x", `route.2.host: there are 0 [[route]] (the next one is route.1)`},
		{inline, "listen.2.address=127.0.0.1:26", `listen.2.address: listen is written as a list of inline tables (add to it with an editor)`},
		{inline, "listen.1", `listen.1: listen is written as a list of inline tables (remove it with an editor)`},
		{"x", "spool=/x", `f:1:1: syntax: expected '=' after key`},
	} {
		got, err := Apply("f", []byte(c.before), changesOf([]string{c.change})...)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s:\n got %v\nwant %s\n%s", c.change, err, c.want, got)
		}
	}
}

func TestEditChecksTheWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.toml")
	write(t, path, host)
	err := Set(path, "delivery.expire", "60d")
	if err == nil || !strings.HasPrefix(err.Error(), path+`:4:10: [delivery] expire: "60d" is longer than [journal] keep`) {
		t.Error(err)
	}
	unchanged(t, path, host)
	if err := Edit(path, Change{Key: "delivery.expire", Value: "60d"}, Change{Key: "journal.keep", Value: "90d"}); err != nil {
		t.Error(err)
	}
	unchanged(t, path, host+"\n[delivery]\nexpire = \"60d\"\n\n[journal]\nkeep = \"90d\"\n")
	if err := Unset(path, "hostname"); err == nil {
		t.Error("the host name was removed")
	}
}

func TestEditKeepsTheFileItself(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, link := filepath.Join(dir, "real.toml"), filepath.Join(dir, "link.toml")
	write(t, path, host)
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real.toml", link); err != nil {
		t.Fatal(err)
	}
	if os.Getuid() == 0 {
		if err := os.Chown(path, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	if err := Set(link, "spool", "/x"); err != nil {
		t.Fatal(err)
	}
	unchanged(t, path, host+"spool = \"/x\"\n")
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Error("the link was replaced", err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Error(info.Mode(), err)
	}
	if uid, gid := ownerOf(info); os.Getuid() == 0 && (uid != 12 || gid != 34) {
		t.Error("owner", uid, gid)
	}
	onlyFiles(t, dir, 2)
}

func TestEditCreatesTheFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f.toml")
	if err := Set(path, "spool", "/x"); err == nil || !strings.Contains(err.Error(), ": hostname: is missing") {
		t.Error(err)
	}
	onlyFiles(t, dir, 0)
	if err := Edit(path, Change{Key: "hostname", Value: "a.example"}, Change{Key: "router", Value: "none"}); err != nil {
		t.Error(err)
	}
	unchanged(t, path, "hostname = \"a.example\"\n")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Error(info, err)
	}
	onlyFiles(t, dir, 1)
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := Set(filepath.Join(dir, "dangling"), "hostname", "a.example"); err == nil || !strings.HasSuffix(err.Error(), "cannot be changed: it is a symbolic link to nothing") {
		t.Error(err)
	}
}

func TestEditLeavesAnEqualFileAlone(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.toml")
	write(t, path, host)
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := Set(path, "hostname", "mailout.example.com"); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Error("replaced", err)
	}
}

// Many at once, on a file that does not even exist at first: no change is lost.
func TestEditAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f.toml")
	keys := []string{
		"limits.recipients", "limits.connections", "limits.connections_per_peer", "limits.commands", "limits.errors", "limits.hops",
		"delivery.port", "delivery.connections", "delivery.messages_per_connection", "router.port",
	}
	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i, key := range keys {
		wg.Go(func() {
			errs[i] = Edit(path, Change{Key: "hostname", Value: "a.example"}, Change{Key: key, Value: strconv.Itoa(100 + i)})
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		if got, err := Get(c, key); err != nil || got != strconv.Itoa(100+i) {
			t.Errorf("%s = %q, %v", key, got, err)
		}
	}
	onlyFiles(t, dir, 1)
}

// TestEditByAtOnce: of several that add an element at once none overwrites
// another's.
func TestEditByAtOnce(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.toml")
	if err := Set(path, "hostname", "a.example"); err != nil {
		t.Fatal(err)
	}
	const many = 8
	var errs [many]error
	var wg sync.WaitGroup
	for i := range many {
		wg.Go(func() {
			errs[i] = EditBy(path, func(c *Config) []Change {
				return []Change{{Key: "stream." + strconv.Itoa(len(c.Streams)+1) + ".name", Value: "s" + strconv.Itoa(i)}}
			})
		})
	}
	wg.Wait()
	c, err := Load(path)
	if err := errors.Join(append(errs[:], err)...); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, s := range c.Streams {
		names[s.Name] = true
	}
	if len(names) != many {
		t.Error(names)
	}
	if err := os.WriteFile(path, []byte("hostname = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := EditBy(path, func(*Config) []Change { t.Error("asked about a broken file"); return nil }); err == nil {
		t.Error("a broken file was changed")
	}
}

func TestEditFailsCleanly(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Set(filepath.Join(dir, "no", "f.toml"), "hostname", "a.example"); err == nil || !strings.HasSuffix(err.Error(), "cannot be changed: no such file or directory") {
		t.Error(err)
	}
	if err := Set(dir, "hostname", "a.example"); err == nil {
		t.Error("a directory was changed")
	}
}

func TestGetAndShow(t *testing.T) {
	t.Parallel()
	c := parsed(t, host+"[[route]]\ndomains = [\"a.example\"]\nhost = \"direct\"\n[[route]]\ndomains = [\"b.example\"]\nhost = \"h\"\ntls = \"required\"\n")
	for key, want := range map[string]string{
		"hostname":        "mailout.example.com",
		"delivery.expire": "5d",
		"delivery.retry":  `["5m", "15m", "30m", "1h", "2h", "4h"]`,
		"delivery.ipv6":   "true",
		"delivery.port":   "25",
		"router.host":     "none",
		"route.1.host":    "direct",
		"route.2.host":    "h",
		"dns.hosts_file":  "/etc/hosts",
		"tls":             "[tls]\noutbound = \"opportunistic\"  # default\nca_file = \"\"  # default\nmin_version = \"1.2\"  # default\ndane = true  # default\nmta_sts = true  # default\nsts_port = 443  # default",
		"route.2":         "[[route]]\ndomains = [\"b.example\"]\nsenders = []  # default\nstreams = []  # default\nusers = []  # default\ntags = []  # default\nhost = \"h\"\nport = 25  # default\ntls = \"required\"\npool = \"\"  # default\naction = \"none\"  # default\ntext = \"\"  # default\ntable = \"\"  # default\ntable_by = [\"domain\"]  # default\ntable_token_file = \"\"  # default\nhosts = []  # default\nprotocol = \"smtp\"  # default\nhelo = \"\"  # default\nconnections = 0  # default\nmessages_per_connection = 0  # default\nrate = \"\"  # default" + noCredentialKeys,
		"listen":          "",
	} {
		if got, err := Get(c, key); err != nil || got != want {
			t.Errorf("%s: got %q, %v", key, got, err)
		}
	}
	for key, want := range map[string]string{
		"route.3.host":   "route.3.host: there are 2 [[route]]",
		"delivery.x":     "delivery.x: unknown key (\"mailout config show\" lists them)",
		"hostname.x":     "hostname.x: unknown key (did you mean \"hostname\"?)",
		"":               ": unknown key (\"mailout config show\" lists them)",
		"route.x":        "route.x: which of the [[route]]? (they count from 1: write for example route.1.domains)",
		"dns.servers.1":  "dns.servers.1: unknown key (did you mean \"dns.servers\"?)",
		"route.2.domain": "route.2.domain: unknown key (did you mean \"route.2.domains\"?)",
	} {
		_, err := Get(c, key)
		if !errors.Is(err, ErrUnknownKey) || strings.TrimPrefix(err.Error(), ": ") != strings.TrimPrefix(want, ": ") {
			t.Errorf("%q: got %v, want %s", key, err, want)
		}
	}
	text := Show(c)
	if !strings.HasPrefix(text, "hostname = \"mailout.example.com\"\nspool = \"/var/lib/mailout\"  # default\n") {
		t.Error(text)
	}
	again := parsed(t, text)
	if applied, restart := Diff(c, again); applied != nil || restart != nil {
		t.Error("show does not read back:", applied, restart)
	}
}

func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	secret := newKey("secret", text("text", func(string) string { return "" }), func(c *Config, _ int) *string { return &c.Spool })
	secret.secret, secret.table = true, &table{name: "x"}
	secret.table.keys = []*key{secret}
	var b strings.Builder
	showTable(&b, &Config{Spool: "password"}, secret.table, 0)
	if got := b.String(); got != "[x]\nsecret = \"(hidden)\"  # default\n" {
		t.Error(got)
	}
}

func unchanged(t *testing.T, path, want string) {
	t.Helper()
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, []byte(want)) {
		t.Errorf("got %v\n%s\nwant\n%s", err, got, want)
	}
}

// onlyFiles checks that no temporary file stays behind.
func onlyFiles(t *testing.T, dir string, n int) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != n {
		t.Errorf("%v, %v", entries, err)
	}
}
