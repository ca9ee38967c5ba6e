package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"mailout/internal/submit"
)

var defaultIdentity = Identity{
	Unaligned: submit.UnalignedWarned,
	PublicIP:  []netip.Addr{},
	Reflectors: []string{"dns:o-o.myaddr.l.google.com/TXT@ns1.google.com",
		"dns:myip.opendns.com/A@resolver1.opendns.com", "dns:myip.opendns.com/AAAA@resolver1.opendns.com"},
	Domains:       []string{"mailout.example.com"},
	Probes:        []string{"gmail-smtp-in.l.google.com", "outlook-com.olc.protection.outlook.com", "mx01.mail.icloud.com"},
	BlockLists:    []string{"bl.spamcop.net", "psbl.surriel.com", "dnsbl.dronebl.org"},
	ExternalNames: []string{"example.com", "gmail.com"}, BogusName: "dnssec-failed.org",
	Interval: 15 * time.Minute, ListsInterval: time.Hour,
	DNSUpdate: DNSUpdate{KeyAlgorithm: "hmac-sha256", TTL: 5 * time.Minute, MinInterval: 5 * time.Minute},
}

const aKey = "[[dkim]]\ndomain = \"a.example\"\nselector = \"s\"\nkey = \"k\"\n"

func TestIdentityErrors(t *testing.T) {
	t.Parallel()
	const identity, update = host + "[identity]\n", host + "[identity.dns_update]\n"
	for _, c := range []badFile{
		{"unaligned", identity + "unaligned = \"bounce\"\n", []string{`f:3:13: [identity] unaligned: "bounce" is not "accept", "warn" or "refuse"`}},
		{"guard", identity + "guard = \"block\"\n", []string{`f:3:9: [identity] guard: "block" is not "warn" or "hold"`}},
		{"addresses", identity + "public_ip = [\"0.0.0.0\", \"fe80::1%eth0\", \"me\"]\n", []string{
			`f:3:14: [identity] public_ip: "0.0.0.0" is not an address to send from`,
			`f:3:25: [identity] public_ip: "fe80::1%eth0" has a zone, which other servers do not see`,
			`f:3:41: [identity] public_ip: "me" is not an IP address (write for example "192.0.2.10")`,
		}},
		{"reflectors", identity + "reflectors = [\"ip.example\", \"dns:a.example/MX@b.example\", \"dns:a.example/A\", \"http://\", \"https://u:p@ip.example/\", \"smtp:\"]\n", []string{
			`f:3:15: [identity] reflectors: "ip.example" is not a reflector (write for example "dns:myip.example.net/A@ns.example.net", "https://ip.example.net/" or "smtp:mx.example.net")`,
			`f:3:29: [identity] reflectors: "dns:a.example/MX@b.example" is not a reflector (write for example "dns:myip.example.net/A@ns.example.net", "https://ip.example.net/" or "smtp:mx.example.net")`,
			`f:3:59: [identity] reflectors: "dns:a.example/A" is not a reflector (write for example "dns:myip.example.net/A@ns.example.net", "https://ip.example.net/" or "smtp:mx.example.net")`,
			`f:3:78: [identity] reflectors: "http://" is not a reflector (write for example "dns:myip.example.net/A@ns.example.net", "https://ip.example.net/" or "smtp:mx.example.net")`,
			`f:3:89: [identity] reflectors: "https://u:p@ip.example/" is not a reflector (write for example "dns:myip.example.net/A@ns.example.net", "https://ip.example.net/" or "smtp:mx.example.net")`,
			`f:3:116: [identity] reflectors: "" is not a host (write for example "mx.example.net", "mx.example.net:2525" or "[2001:db8::1]:2525")`,
		}},
		{"domains", identity + "domains = [\"*.a.example\", \"a@b.example\", \"lan\"]\n", []string{
			`f:3:12: [identity] domains: "*.a.example" is not a domain (write for example "example.com")`,
			`f:3:27: [identity] domains: "a@b.example" is an address (routes go by domain: write "b.example")`,
			`f:3:42: [identity] domains: "lan" has only one part, and recipients in such domains are refused (write it in full, such as "lan.example.com")`,
		}},
		{"probes", identity + "probes = [\"mx.example:0\", \"mx.example:smtp\", \"2001:db8::1:\", \"m x\"]\n", []string{
			`f:3:11: [identity] probes: "mx.example:0" is not a host (write for example "mx.example.net", "mx.example.net:2525" or "[2001:db8::1]:2525")`,
			`f:3:27: [identity] probes: "mx.example:smtp" is not a host (write for example "mx.example.net", "mx.example.net:2525" or "[2001:db8::1]:2525")`,
			`f:3:46: [identity] probes: "2001:db8::1:" is not a host (write for example "mx.example.net", "mx.example.net:2525" or "[2001:db8::1]:2525")`,
			`f:3:62: [identity] probes: "m x" is not a host name: it contains " "`,
		}},
		{"block lists", identity + "blocklists = [\"domain:\", \"a..example\"]\n", []string{
			`f:3:15: [identity] blocklists: "domain:" is not a block list (write for example "dnsbl.example.net")`,
			`f:3:26: [identity] blocklists: "a..example" is not a domain: it has nothing between two dots or before the first`,
		}},
		{"times", identity + "interval = \"15\"\nlists_interval = \"0s\"\n", []string{
			`f:3:12: [identity] interval: "15" is not a duration (write "15s", "15m", "15h" or "15d")`,
			`f:4:18: [identity] lists_interval: "0s" is out of range (from "1s" to "7d")`,
		}},
		{"selector", host + "[[dkim]]\ndomain = \"*\"\nselector = \"a b\"\nkey = \"\"\n", []string{
			`f:3:10: [[dkim]] domain: "*" is not a domain (write for example "example.com")`,
			`f:4:12: [[dkim]] selector: "a b" is not a selector: it contains " "`,
			`f:5:7: [[dkim]] key: is empty (write a path)`,
		}},
		{"selector twice", host + aKey + strings.ToUpper(aKey[:8]) + "\n", []string{
			`f:6:1: [[DKIM]]: unknown table (did you mean [[dkim]]?)`,
		}},
		{"same selector", host + aKey + strings.Replace(aKey, "\"s\"", "\"S\"", 1), []string{`f:8:12: [[dkim]] selector: "s" of "a.example" stands twice, first on line 4 (one key a selector)`}},
		{"missing", host + "[[dkim]]\n", []string{
			`f:2:1: [[dkim]] domain: is missing (write domain = "example.com")`,
			`f:2:1: [[dkim]] selector: is missing (write selector = "m2026")`,
			`f:2:1: [[dkim]] key: is missing (write key = "/etc/mailout/dkim/example.com.m2026.pem")`,
		}},
		{"no secret in an error", update + "key_name = \"k\"\nkey_secret = \"hush!\"\n", []string{`f:4:14: [identity.dns_update] key_secret: is not base64 (write it in quotes, as the name server's key file has it)`}},
		{"no number as secret", update + "key_secret = 1234\n", []string{`f:3:14: [identity.dns_update] key_secret: is not base64 (write it in quotes, as the name server's key file has it)`}},
		{"algorithm", update + "key_algorithm = \"hmac-md5\"\n", []string{`f:3:17: [identity.dns_update] key_algorithm: "hmac-md5" is not "hmac-sha256", "hmac-sha512", "hmac-sha384", "hmac-sha224" or "hmac-sha1"`}},
		{"key without secret", update + "server = \"ns.example\"\nkey_name = \"k\"\n", []string{`f:4:12: [identity.dns_update] key_name: has no secret beside it (write key_secret_file = "/etc/mailout/dns.key")`}},
		{"secret without key", update + "server = \"ns.example\"\nkey_secret = \"aGk=\"\n", []string{`f:4:14: [identity.dns_update] key_secret: has no key_name beside it (write key_name = "mailout")`}},
		{"secret file without key", update + "key_secret_file = \"k\"\n", []string{`f:3:19: [identity.dns_update] key_secret_file: has no key_name beside it (write key_name = "mailout")`}},
		{"two secrets", update + "key_name = \"k\"\nkey_secret = \"aGk=\"\nkey_secret_file = \"k\"\n", []string{`f:5:19: [identity.dns_update] key_secret_file: stands beside key_secret (keep one of the two)`}},
		{"nowhere to keep", update + "keep_address = true\n", []string{`f:3:16: [identity.dns_update] keep_address: needs a server to publish at (write server = "ns.example.com")`}},
		{"typo below", update + "keep_adress = true\n", []string{`f:3:1: [identity.dns_update] keep_adress: unknown key (did you mean "keep_address"?)`}},
		{"dotted", identity + "dns_update.server = \"ns.example\"\n", []string{`f:3:1: [identity.dns_update]: has a header of its own (write [identity.dns_update] and its keys below)`}},
		{"inline", host + "identity = { dns_update = { server = \"ns.example\" } }\n", []string{`f:2:14: [identity.dns_update]: has a header of its own (write [identity.dns_update] and its keys below)`}},
		{"quoted", host + "[\"identity.dns_update\"]\n", []string{`f:2:1: ["identity.dns_update"]: unknown table (did you mean [identity.dns_update]?)`}},
		{"twice", update + "[identity.dns_update]\n", []string{`f:3:1: [identity.dns_update]: stands twice, first on line 2 (put its keys together)`}},
		{"another inner table", host + "[identity.updates]\n", []string{`f:2:1: [identity.updates]: unknown table (in [identity] there is [identity.dns_update])`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, c.text, c.want)
		})
	}
}

func TestIdentityValues(t *testing.T) {
	t.Parallel()
	c, err := Parse("/etc/x/f", []byte(host+`postmaster = "p@Widget.com"
[identity.dns_update]
server = "[2001:db8::1]:5353"
zone = "Widget.com."
key_name = "K.mailout."
key_secret = "aGk="
[[dkim]]
domain = "news.Widget.com"
selector = "M.2026"
key = "k.pem"
[identity]
guard = "hold"
unaligned = "refuse"
public_ip = ["::ffff:203.0.113.5"]
reflectors = ["dns:Me.example./TXT@192.0.2.1:5353", "http://[2001:db8::2]:8080/ip", "smtp:mx.example:2525"]
probes = ["192.0.2.1", "2001:db8::1", "mx.example:2525"]
blocklists = ["BL.example.", "domain:dbl.example"]
external_names = ["A.example"]
bogus_name = ""
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Identity{
		Guard: GuardHold, Unaligned: submit.UnalignedRefused, PublicIP: []netip.Addr{netip.MustParseAddr("203.0.113.5")},
		Reflectors: []string{"dns:Me.example./TXT@192.0.2.1:5353", "http://[2001:db8::2]:8080/ip", "smtp:mx.example:2525"},
		Domains:    []string{"widget.com", "news.widget.com"},
		Probes:     []string{"192.0.2.1", "2001:db8::1", "mx.example:2525"},
		BlockLists: []string{"bl.example", "domain:dbl.example"}, ExternalNames: []string{"a.example"},
		Interval: 15 * time.Minute, ListsInterval: time.Hour,
		DNSUpdate: DNSUpdate{Server: "[2001:db8::1]:5353", Zone: "widget.com", KeyName: "k.mailout", KeyAlgorithm: "hmac-sha256",
			KeySecret: "aGk=", TTL: 5 * time.Minute, MinInterval: 5 * time.Minute},
	}
	if !reflect.DeepEqual(c.Identity, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c.Identity, want)
	}
	if k := c.DKIM[0]; k != (DKIMKey{"news.widget.com", "m.2026", "/etc/x/k.pem", 8}) {
		t.Errorf("%+v", k)
	}
	if text := Show(c); strings.Contains(text, "aGk=") || !strings.Contains(text, `key_secret = "(hidden)"`) {
		t.Error(text)
	}
	if got, err := Get(c, "identity.dns_update.key_secret"); got != "(hidden)" || err != nil {
		t.Error(got, err)
	}
	if got, err := Get(c, "identity.dns_update.zone"); got != "widget.com" || err != nil {
		t.Error(got, err)
	}
}

// TestIdentityMayBeEmpty: no service of others is needed.
func TestIdentityMayBeEmpty(t *testing.T) {
	t.Parallel()
	c := parsed(t, host+"identity = { reflectors = [], probes = [], blocklists = [], domains = [] }\n")
	if i := c.Identity; len(i.Reflectors)+len(i.Probes)+len(i.BlockLists)+len(i.Domains) > 0 {
		t.Errorf("%+v", i)
	}
}

func TestUpdateSecretFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, secret := filepath.Join(dir, "f.toml"), filepath.Join(dir, "secret")
	write(t, path, host+"[identity.dns_update]\nkey_name = \"k\"\nkey_secret_file = \"secret\"\n")
	for text, want := range map[string]string{
		"aGk=\n":   "",
		"hush!":    path + `:4:19: [identity.dns_update] key_secret_file: "` + secret + `" is not base64`,
		"a\nb\n":   path + `:4:19: [identity.dns_update] key_secret_file: "` + secret + `" holds more than one line`,
		"aGk= aGk": path + `:4:19: [identity.dns_update] key_secret_file: "` + secret + `" is not base64`,
	} {
		if err := os.WriteFile(secret, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Load(path)
		if (err == nil) != (want == "") || err != nil && err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
		if err != nil {
			continue
		}
		if got, err := c.Identity.DNSUpdate.Secret(); got != "aGk=" || err != nil {
			t.Error(got, err)
		}
	}
}
