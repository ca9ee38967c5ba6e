package config

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/standing"
)

// host is the least that a file needs.
const host = "hostname = \"mailout.example.com\"\n"

// badFile is the text of a file named f, and the exact lines of its errors.
type badFile struct {
	name, text string
	want       []string
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, c := range slices.Concat(syntaxFiles, nameFiles, valueFiles, laterFiles, contradictions) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			mustRefuse(t, c.text, c.want)
		})
	}
}

// mustRefuse wants exactly these errors of a file "f".
func mustRefuse(t *testing.T, text string, want []string) {
	t.Helper()
	_, err := Parse("f", []byte(text))
	if err == nil {
		t.Fatal("accepted")
	}
	if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

// The first example of docs/configuration.md and of the design.
func TestErrorOfTheDesign(t *testing.T) {
	t.Parallel()
	text := host + strings.Repeat("\n", 9) + "[delivery]\nexpire=\"5 days\"\n"
	_, err := Parse("mailout.toml", []byte(text))
	const want = `mailout.toml:12:8: [delivery] expire: "5 days" is not a duration (write "5d")`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

var syntaxFiles = []badFile{
	{"no equals sign", host + "spool\n", []string{`f:2:6: syntax: expected '=' after key`}},
	{"no quotes", "hostname = mailout.widget.com\n", []string{`f:1:12: syntax: unexpected character U+006D 'm' at start of value (a text stands in quotes)`}},
	{"no quotes, and a keyword's first letter", host + "spool = foo\n", []string{`f:2:9: syntax: expected keyword "false" (a text stands in quotes)`}},
	{"open string", host + "spool = \"/x\n", []string{`f:2:12: syntax: basic strings cannot have new lines`}},
	{"earlier errors too", "hostname = \"localhost\"\n[dns\n", []string{
		`f:1:12: hostname: "localhost" means every machine to itself (write the name that other servers are to see, such as "mailout.example.com")`,
		`f:2:5: syntax: expected ']' to close table name`,
	}},
	{"key twice", host + "[dns]\ntimeout = \"1s\"\ntimeout = \"2s\"\n", []string{`f:4:1: [dns] timeout: is set twice, first on line 3`}},
	{"table twice", host + "[dns]\n[tls]\n[dns]\n", []string{`f:4:1: [dns]: stands twice, first on line 2 (put its keys together)`}},
	{"table dotted and headed", "dns.timeout = \"1s\"\n" + host + "[dns]\n", []string{`f:3:1: [dns]: stands twice, first on line 1 (put its keys together)`}},
	{"table inline and dotted", host + "dns = {}\ndns.timeout = \"1s\"\n", []string{`f:3:1: syntax: key dns is already defined`}},
	{"byte order mark", "\xef\xbb\xbf" + host, []string{`f:1:1: syntax: the file starts with a byte order mark (save it as UTF-8 without one)`}},
	{"empty", "", []string{`f:1:1: hostname: is missing (write hostname = "mailout.example.com")`}},
}

var nameFiles = []badFile{
	{"typo", host + "[delivery]\nexpier = \"5d\"\n", []string{`f:3:1: [delivery] expier: unknown key (did you mean "expire"?)`}},
	{"swapped letters at the top", "hsotname = \"mailout.example.com\"\n", []string{
		`f:1:1: hsotname: unknown key (did you mean "hostname"?)`,
		`f:1:1: hostname: is missing (write hostname = "mailout.example.com")`,
	}},
	{"another table's", host + "[delivery]\nmemory = \"1GB\"\n", []string{`f:3:1: [delivery] memory: unknown key (it belongs in [limits])`}},
	{"two other tables'", host + "[delivery]\nrecipients = 3\n", []string{`f:3:1: [delivery] recipients: unknown key (it belongs in [[listen]] or [limits])`}},
	{"top key below a header", "[dns]\n" + host, []string{
		`f:1:1: hostname: is missing (write hostname = "mailout.example.com")`,
		`f:2:1: [dns] hostname: unknown key (hostname stands at the top of the file, before the first [table])`,
	}},
	{"nothing like it", host + "[dns]\nfrobnicate = 1\n", []string{`f:3:1: [dns] frobnicate: unknown key ([dns] has servers, timeout, hosts_file, dnssec, trusted, trust_anchors, private)`}},
	{"nothing like it at the top", host + "frobnicate = 1\n", []string{`f:2:1: frobnicate: unknown key (at the top of the file stand hostname, spool, postmaster; others belong in a [table])`}},
	{"table typo", host + "[delivry]\nexpire = 3\n", []string{`f:2:1: [delivry]: unknown table (did you mean [delivery]?)`}},
	{"table of a table", host + "[dns.cache]\nsize = 3\n", []string{`f:2:1: [dns.cache]: unknown table ([dns] has no tables of its own)`}},
	{"table of a table typo", host + "[streams.news]\nexpire = 3\n", []string{`f:2:1: [streams.news]: unknown table (did you mean [[stream]]?)`}},
	{"dotted table typo", host + "delivry.expire = \"5d\"\n", []string{`f:2:1: delivry.expire: unknown table (did you mean "delivery.expire"?)`}},
	{"dotted and nothing like it", host + "frob.nicate = 1\n", []string{`f:2:1: frob.nicate: unknown key (at the top of the file stand hostname, spool, postmaster; others belong in a [table])`}},
	{"key as table", host + "[spool]\n", []string{`f:2:1: [spool]: is not a table but a key (write spool = … at the top of the file)`}},
	{"one for several", host + "[listen]\naddress = 3\n", []string{`f:2:1: [listen]: there may be several of them (write [[listen]])`}},
	{"several for one", host + "  [[dns]]\n", []string{`f:2:3: [[dns]]: there is only one of it (write [dns])`}},
	{"text for a table", host + "router = \"none\"\n", []string{`f:2:10: [router]: "none" is not a table (write [router] and its keys below)`}},
	{"table for several", host + "listen = {address = \"127.0.0.1:25\"}\n", []string{`f:2:1: [[listen]]: there may be several of them (write [[listen]] and its keys below)`}},
	{"keys below a key", host + "spool.path = \"/x\"\n", []string{`f:2:1: spool: has no keys of its own`}},
	{"inline key", host + "dns = { timeuot = \"1s\" }\n", []string{`f:2:9: [dns] timeuot: unknown key (did you mean "timeout"?)`}},
	{"invisible names and texts", host + "\"a\\nb\\u009b\" = 1\n[\"\\u202e\"]\n[dns]\nx.\"y z\" = 1\ntimeout = \"\\u001b[2J\\U000E0001\"\n", []string{
		`f:2:1: "a\nb\u009B": unknown key (at the top of the file stand hostname, spool, postmaster; others belong in a [table])`,
		`f:3:1: ["\u202E"]: unknown table (there are [dns], [router], [[route]], [[listen]], [[user]], [http], [sendmail], [[pickup]], [[source]], [[pool]], [[warmup_plan]], [delivery], [[stream]], [tls], [acme], [limits], [journal], [suppress], [returns], [unsubscribe], [tlsrpt], [events], [[webhook]], [[dkim]], [identity], [identity.dns_update], [[classify]], [[automation]], [[shape]])`,
		`f:5:1: [dns] x."y z": unknown key ([dns] has servers, timeout, hosts_file, dnssec, trusted, trust_anchors, private)`,
		`f:6:11: [dns] timeout: "\u001B[2J\U000E0001" is not a duration (write for example "5s")`,
	}},
	{"required", host + "[[listen]]\n[[route]]\nhost = \"direct\"\n[[stream]]\n[[source]]\n", []string{
		`f:2:1: [[listen]] address: is missing (write address = "127.0.0.1:25")`,
		`f:3:1: [[route]] domains: is missing (write domains = ["example.com"], or another condition)`,
		`f:5:1: [[stream]] name: is missing (write name = "alerts")`,
		`f:6:1: [[source]] ip: is missing (write ip = "192.0.2.10")`,
	}},
}

var valueFiles = []badFile{
	{"durations", host + "[delivery]\nexpire = 5\ndelay_notice = true\nconnect_timeout = \"soon\"\nretry = [\"5 minutes\", \"1.5h\", \"90000d\"]\nreply_timeout = [\"5m\"]\n", []string{
		`f:3:10: [delivery] expire: 5 is not a duration (write "5s", "5m", "5h" or "5d")`,
		`f:4:16: [delivery] delay_notice: true is not a duration (write for example "4h")`,
		`f:5:19: [delivery] connect_timeout: "soon" is not a duration (write for example "30s")`,
		`f:6:10: [delivery] retry: "5 minutes" is not a duration (write "5m")`,
		`f:6:23: [delivery] retry: "1.5h" is not a duration (write "1h30m")`,
		`f:6:31: [delivery] retry: "90000d" is out of range (from "1s" to "30d")`,
		`f:7:17: [delivery] reply_timeout: a list is not a duration (write for example "5m")`,
	}},
	{"sizes", host + "[limits]\nmessage_size = \"50 MB\"\nmemory = 1000000000\nspool_free = \"much\"\n", []string{
		`f:3:16: [limits] message_size: "50 MB" is not a size (write "50MB")`,
		`f:4:10: [limits] memory: 1000000000 is not a size (write "1GB")`,
		`f:5:14: [limits] spool_free: "much" is not a size (write "100MB")`,
	}},
	{"size range", host + "[limits]\nmemory = \"1MB\"\n", []string{`f:3:10: [limits] memory: "1MB" is out of range (from "64MB" to "1048576GiB")`}},
	{"numbers", host + "[delivery]\nport = 0\nhosts = \"5\"\naddresses = 1.5\n", []string{
		`f:3:8: [delivery] port: 0 is out of range (from 1 to 65535)`,
		`f:4:9: [delivery] hosts: "5" is not a whole number (write 5 without quotes)`,
		`f:5:13: [delivery] addresses: 1.5 is not a whole number`,
	}},
	{"booleans", host + "[delivery]\nipv6 = \"no\"\nprivate_networks = 1\n", []string{
		`f:3:8: [delivery] ipv6: "no" is not true or false (write false)`,
		`f:4:20: [delivery] private_networks: 1 is not true or false (write true)`,
	}},
	{"words", host + "[router]\nuse = \"allways\"\ntls = 3\n[delivery]\neightbit = \"x\"\n", []string{
		`f:3:7: [router] use: "allways" is not "always", "unresolved" or "fallback" (did you mean "always"?)`,
		`f:4:7: [router] tls: 3 is not "opportunistic", "required", "implicit" or "none"`,
		`f:6:12: [delivery] eightbit: "x" is not "convert" or "send"`,
	}},
	{"servers", host + "[dns]\nservers = \"192.0.2.1\"\n", []string{`f:3:11: [dns] servers: "192.0.2.1" is not a list (write ["192.0.2.1"])`}},
	{"server", host + "[dns]\nservers = [\"ns.example\", \"192.0.2.1:0\", 5, \"2001:db8::1\"]\n", []string{
		`f:3:12: [dns] servers: "ns.example" is not the address of a DNS server (write for example "192.0.2.1" or "192.0.2.1:5353")`,
		`f:3:26: [dns] servers: "192.0.2.1:0" is not the address of a DNS server (write for example "192.0.2.1" or "192.0.2.1:5353")`,
		`f:3:41: [dns] servers: 5 is not the address of a DNS server (write for example "192.0.2.1" or "192.0.2.1:5353")`,
	}},
	{"too many servers", host + "[dns]\nservers = [" + strings.Repeat(`"192.0.2.1", `, 17) + "]\n", []string{`f:3:11: [dns] servers: has 17 values (at most 16 are possible)`}},
	{"networks", host + "[[listen]]\naddress = \"127.0.0.1:25\"\ntrusted = [\"10.1.2.3/8\", \"0.0.0.0/0\", \"lan\"]\n", []string{
		`f:4:12: [[listen]] trusted: "10.1.2.3/8" has bits beyond its mask (write "10.0.0.0/8")`,
		`f:4:26: [[listen]] trusted: "0.0.0.0/0" would let everybody relay (write the networks of your own machines)`,
		`f:4:39: [[listen]] trusted: "lan" is not a network (write for example "192.0.2.0/24")`,
	}},
	{"listen addresses", host + "listen = [{address = \":25\"}, {address = \"localhost:25\"}, {address = \"127.0.0.1\"}, {address = \"25\"}, {address = \"mail.example.com:25\"}]\n", []string{
		`f:2:22: [[listen]] address: ":25" is not an address and port (write "0.0.0.0:25" or "[::]:25" for every address of the machine)`,
		`f:2:41: [[listen]] address: "localhost:25" is not an address and port (write "127.0.0.1:25")`,
		`f:2:69: [[listen]] address: "127.0.0.1" is not an address and port (write "127.0.0.1:25")`,
		`f:2:94: [[listen]] address: "25" is not an address and port (write "127.0.0.1:25")`,
		`f:2:112: [[listen]] address: "mail.example.com:25" is not an address and port (write for example "127.0.0.1:25")`,
	}},
	{"router's two ports", host + "[router]\nhost = \"smtp.example:587\"\nport = 25\n", []string{`f:3:8: [router] host: "smtp.example:587" has another port than port = 25`}},
	{"router and hosts", host + "[router]\nhost = \"a.example\"\nhosts = [\"b.example\"]\n", []string{`f:4:9: [router] hosts: stands beside host (keep one of them)`}},
	{"two routers in host", host + "[router]\nhost = \"a.example|b.example\"\n", []string{`f:3:8: [router] host: "a.example|b.example" is more than one host (write hosts = ["a.example|b.example"])`}},
	{"routers that cannot be", host + "[router]\nhosts = [\"unix:lmtp\", \"mx:192.0.2.1\", \"a b\", \"a:70000\"]\n", []string{
		`f:3:10: [router] hosts: "unix:lmtp" is no path of a socket (write for example "unix:/run/dovecot/lmtp", at most 103 octets)`,
		`f:3:23: [router] hosts: "mx:192.0.2.1": an address has no MX records`,
		`f:3:39: [router] hosts: "a b" is not a host name: it contains " "`,
		`f:3:46: [router] hosts: "a:70000" has no port between 1 and 65535 after its colon`,
	}},
	{"LMTP at port 25", host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"store\"\nprotocol = \"lmtp\"\nport = 25\n", []string{`f:4:8: [[route]] host: "store": LMTP is not spoken at port 25 (RFC 2033 5)`}},
	{"direct LMTP", host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"direct\"\nprotocol = \"lmtp\"\n", []string{`f:4:8: [[route]] host: names no host that protocol or helo could be for`}},
	{"one of the hosts is ours", host + "[[listen]]\naddress = \"0.0.0.0:26\"\n[router]\nhosts = [\"a.example\", \"b.example|localhost:26\"]\n", []string{`f:5:9: [router] hosts: "localhost" port 26 is our own [[listen]] address "0.0.0.0:26": mail would go in a circle (take it out)`}},
	{"the other word", host + "[router]\nhost = \"direct\"\n[[route]]\ndomains = [\"a.example\"]\nhost = \"none\"\n", []string{
		`f:3:8: [router] host: "direct" is not a host (write "none" to deliver directly)`,
		`f:6:8: [[route]] host: "none" is not a host (write "direct" to deliver directly)`,
	}},
	{"domains", host + "[[route]]\nhost = \"direct\"\ndomains = [\".a.example\", \"a.*.example\", \"x@b.example\", \"lan\", \"-x.example\", \"[10.0.0]\"]\n[[route]]\nhost = \"direct\"\ndomains = []\n", []string{
		`f:4:26: [[route]] domains: "a.*.example" has a "*" that is not the whole first part (write "*.example.com" or "*")`,
		`f:4:41: [[route]] domains: "x@b.example" is an address (routes go by domain: write "b.example")`,
		`f:4:56: [[route]] domains: "lan" has only one part, and recipients in such domains are refused (write it in full, such as "lan.example.com")`,
		`f:4:63: [[route]] domains: "-x.example" is not a domain: a part begins or ends with a hyphen`,
		`f:4:77: [[route]] domains: "[10.0.0]" is not an address literal (write for example "[192.0.2.1]" or "[IPv6:2001:db8::1]")`,
		`f:7:11: [[route]] domains: is missing (write domains = ["example.com"], or another condition)`,
	}},
	{"postmaster", host + "postmaster = \"root\"\n", []string{`f:2:14: postmaster: "root" is not a mailbox (write for example "postmaster@example.com")`}},
	{"postmaster with a header in it", host + "postmaster = \"a@b.example\\r\\nBcc: c@d.example\"\n", []string{`f:2:14: postmaster: "a@b.example\u000D\nBcc: c@d.example" is not a mailbox (write for example "postmaster@example.com")`}},
	{"spool", host + "spool = \"\"\n", []string{`f:2:9: spool: is empty (write a path)`}},
	{"stream name", host + "[[stream]]\nname = \"a b\"\n", []string{`f:3:8: [[stream]] name: "a b" is not a stream name: it contains " "`}},
	{"source", host + "[[source]]\nip = \"0.0.0.0\"\nhostname = \"mail\"\n", []string{
		`f:3:6: [[source]] ip: "0.0.0.0" is not an address to send from`,
		`f:4:12: [[source]] hostname: "mail" has no domain (write it in full, such as "mail.example.com")`,
	}},
}

var laterFiles = []badFile{
	{"cluster store", host + "spool = \"postgres://u:secret@db/mail\"\n", []string{`f:2:9: spool: the cluster store is not in this version (write a directory, such as "/var/lib/mailout")`}},
	{"fallback on", host + "[router]\nuse = \"fallback\"\nfallback_on = [\"blocks\", \"stalled:0s\"]\n", []string{
		`f:4:16: [router] fallback_on: "blocks" is not "blocked", "ptr", "port25", "stalled", "stalled:TIME" or "unresolved"`,
		`f:4:26: [router] fallback_on: "stalled:0s" needs a time from 1s to 30d behind the colon (write "stalled:4h")`,
	}},
	{"fallback times", host + "[router]\nfallback_probe = \"2h\"\nfallback_probe_max = \"1h\"\n", []string{`f:4:22: [router] fallback_probe_max: "1h" is shorter than fallback_probe ("2h")`}},
	{"classify", host + "[[classify]]\nclass = 5\n[[classify]]\nclass = \"policy\"\n[[classify]]\nclass = \"other\"\ncode = \"6\"\nenhanced = \"5.7\"\ntext = \"(\"\nmx = [\"*.X\"]\n", []string{
		`f:3:9: [[classify]] class: 5 is not "auth_failure", "content_invalid", "domain_unknown", "expired", "greylisted", "ip_blocked", "mailbox_disabled", "mailbox_full", "message_too_large", "network_error", "other", "policy", "protocol_error", "ptr_missing", "rate_limited", "recipient_filtered", "relay_denied", "sender_rejected", "spam_content", "system_error", "tls_required", "user_moved", "user_unknown" or "virus"`, `f:5:9: [[classify]] class: stands without code, enhanced or text: it would fit every reply (write one of them)`,
		`f:8:8: [[classify]] code: "6" is not a code of a reply or its beginning (write for example "554" or "55")`,
		`f:9:12: [[classify]] enhanced: "5.7" is not an enhanced code (write for example "5.7.1", "5.7.*" or "x.7.1")`,
		`f:10:8: [[classify]] text: "(": text is no regular expression: missing closing )`, `f:11:7: [[classify]] mx: "*.X" is not a pattern of host names in lower case (write for example "mx1.example.net" or "*.example.net")`,
	}},
	{"automation", host + "[[automation]]\naction = \"slow\"\n[[automation]]\naction = \"suspend\"\ncode = \"4\"\nfor = \"2h\"\nmost = \"1h\"\nprovider = [\"gogle\"]\n", []string{
		`f:3:10: [[automation]] action: stands without class, code, enhanced or text: it would follow every refusal (write one of them)`,
		`f:8:8: [[automation]] most: "1h" is shorter than for ("2h")`,
		`f:9:13: [[automation]] provider: "gogle" is no provider that is known (did you mean "google"?)`,
	}},
}

var contradictions = []badFile{
	{"journal shorter than expire", host + "[journal]\nkeep = \"1d\"\n", []string{`f:3:8: [journal] keep: "1d" is shorter than [delivery] expire ("5d"): mail that still waits would lose its history`}},
	{"expire longer than the journal's default", host + "[delivery]\nexpire = \"31d\"\n", []string{`f:3:10: [delivery] expire: "31d" is longer than [journal] keep ("30d", the default): mail that still waits would lose its history (write keep = "31d" or more in [journal] too)`}},
	{"stream longer than the journal", host + "[[stream]]\nname = \"slow\"\nexpire = \"31d\"\n", []string{`f:4:10: [[stream]] expire: "31d" is longer than [journal] keep ("30d", the default): mail that still waits would lose its history (write keep = "31d" or more in [journal] too)`}},
	{"same listener", host + "[[listen]]\naddress = \"127.0.0.1:25\"\n[[listen]]\naddress = \"127.0.0.1:26\"\n[[listen]]\naddress = \"127.0.0.1:25\"\n", []string{`f:7:11: [[listen]] address: "127.0.0.1:25" is taken by the [[listen]] on line 3 ("127.0.0.1:25")`}},
	{"listener beyond the limits", host + "[[listen]]\naddress = \"127.0.0.1:25\"\nmessage_size = \"51MB\"\nrecipients = 1001\n", []string{
		`f:4:16: [[listen]] message_size: "51MB" is more than [limits] message_size ("50MB"), which holds for all mail`,
		`f:5:14: [[listen]] recipients: 1001 is more than [limits] recipients (1000), which holds for all mail`}},
	{"listener inside another", host + "[[listen]]\naddress = \"0.0.0.0:25\"\n[[listen]]\naddress = \"127.0.0.1:25\"\n", []string{`f:5:11: [[listen]] address: "127.0.0.1:25" is taken by the [[listen]] on line 3 ("0.0.0.0:25")`}},
	{"router is ourselves", "hostname = \"mailout.example.com\"\n[router]\nhost = \"MAILOUT.example.com\"\n", []string{`f:3:8: [router] host: "mailout.example.com" is our own hostname: mail would go in a circle (write "none" to deliver directly)`}},
	{"router is a listener", host + "[[listen]]\naddress = \"192.0.2.1:25\"\n[router]\nhost = \"192.0.2.1\"\n", []string{`f:5:8: [router] host: "192.0.2.1" port 25 is our own [[listen]] address "192.0.2.1:25": mail would go in a circle (write "none" to deliver directly)`}},
	{"route is a listener", host + "[[listen]]\naddress = \"0.0.0.0:2525\"\n[[route]]\ndomains = [\"a.example\"]\nhost = \"localhost\"\nport = 2525\n", []string{`f:6:8: [[route]] host: "localhost" port 2525 is our own [[listen]] address "0.0.0.0:2525": mail would go in a circle (write "direct" to deliver directly)`}},
	{"route is a source", host + "[[source]]\nip = \"192.0.2.1\"\nhostname = \"out.example.com\"\n[[route]]\ndomains = [\"a.example\"]\nhost = \"out.example.com\"\n", []string{`f:7:8: [[route]] host: "out.example.com" is the hostname of our own [[source]]: mail would go in a circle (write "direct" to deliver directly)`}},
	{"implicit TLS by MX", host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"direct\"\ntls = \"implicit\"\n", []string{`f:5:7: [[route]] tls: "implicit" needs a host; with host = "direct" servers are reached on port 25 (write "required")`}},
	{"domain twice", host + "[[route]]\ndomains = [\"a.example\", \"B.example\"]\nhost = \"direct\"\n[[route]]\ndomains = [\"b.EXAMPLE\"]\nhost = \"direct\"\n", []string{`f:6:12: [[route]] domains: "b.example" is never used: "b.example" has a route already on line 3; the first match wins`}},
	{"stream twice", host + "[[stream]]\nname = \"a\"\n[[stream]]\nname = \"a\"\n", []string{`f:5:8: [[stream]] name: "a" stands twice, first on line 3 (put its keys together)`}},
	{"long socket", host + "[http]\nsocket = \"/" + strings.Repeat("x", 103) + "\"\n", []string{`f:3:10: [http] socket: "/` + strings.Repeat("x", 103) + `" is longer than the 103 octets of a socket's path`}},
	{"long spool", host + "spool = \"/" + strings.Repeat("x", 100) + "\"\n", []string{`f:2:9: spool: the control socket "/` + strings.Repeat("x", 100) + `/mailout.sock" is longer than the 103 octets of a socket's path (write a shorter one: [http] socket = "/run/mailout.sock")`}},
}

// TestTrap18_Hostname: the EHLO argument is a full name of ASCII letters.
func TestTrap18_Hostname(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 63)
	for name, want := range map[string]string{
		"mailout.ofc.widget.com":                 "",
		"a.b":                                    "",
		"xn--mnchen-3ya.example":                 "",
		long + ".example":                        "",
		strings.Repeat(long[:49]+".", 5) + "com": "", // 253 octets
		"":                                       `is empty (write the fully qualified name that other servers are to see, such as "mailout.example.com")`,
		"mailhost":                               `"mailhost" has no domain (write it in full, such as "mailhost.example.com")`,
		"localhost":                              `"localhost" means every machine to itself (write the name that other servers are to see, such as "mailout.example.com")`,
		"mail.LocalHost":                         `"mail.LocalHost" means every machine to itself (write the name that other servers are to see, such as "mailout.example.com")`,
		"mail_out.example.com":                   `"mail_out.example.com" has an underscore, which no host name may have (write for example "mail-out.example.com")`,
		"192.0.2.1":                              `"192.0.2.1" is an address, not a name (write the name that has this address, such as "mailout.example.com")`,
		"[192.0.2.1]":                            `"[192.0.2.1]" is an address, not a name (write the name that has this address, such as "mailout.example.com")`,
		"2001:db8::1":                            `"2001:db8::1" is an address, not a name (write the name that has this address, such as "mailout.example.com")`,
		"mail.example.com.":                      `"mail.example.com." ends with a dot (write "mail.example.com")`,
		"mail..example.com":                      `"mail..example.com" is not a host name: it has nothing between two dots or before the first`,
		"mail.example.com\r\nX: y":               `"mail.example.com\u000D\nX: y" is not a host name: it contains "\u000D"`,
		"mail.1":                                 `"mail.1" is not a host name: it ends with a number`,
		"münchen.example":                        `"münchen.example" is not ASCII (write "xn--mnchen-3ya.example")`,
		long + "a.example":                       `"` + long + `a.example" has a part longer than the 63 octets of a DNS label`,
		strings.Repeat(long[:49]+".", 5) + "comm": `"` + strings.Repeat(long[:49]+".", 5)[:80] + `…" is longer than the 253 octets of a DNS name`,
	} {
		if got := checkHostname(name); got != want {
			t.Errorf("%q:\n got %s\nwant %s", name, got, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	c := parsed(t, host)
	want := &Config{
		Path: "f", Hostname: "mailout.example.com", Spool: "/var/lib/mailout", Postmaster: "postmaster@mailout.example.com",
		DNS:      DNS{Servers: []dns.Server{}, Timeout: 5 * time.Second, HostsFile: "/etc/hosts", DNSSEC: dns.DNSSECAuto, Trusted: []netip.Addr{}, Private: []string{}},
		Router:   Router{Port: 25, Auth: noCredentials, Fallback: Fallback{On: standing.DefaultTriggers, Probe: standing.DefaultProbe, ProbeMax: standing.DefaultProbeMax}},
		HTTP:     HTTP{Socket: "/var/lib/mailout/mailout.sock", Names: []string{}, Connections: 256},
		Sendmail: Sendmail{Drop: "/var/lib/mailout/drop", Local: "postmaster@mailout.example.com"},
		Delivery: Delivery{
			Port: 25, IPv6: true, Expire: 120 * time.Hour, DelayNotice: 4 * time.Hour,
			Retry:          []time.Duration{5 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour},
			ConnectTimeout: 30 * time.Second, Hosts: 5, Addresses: 10, Connections: 20, MessagesPerConnection: 100, ProviderLimits: true,
		},
		ACME: ACME{Names: []string{"mailout.example.com"}, Directory: letsEncrypt, Address: netip.MustParseAddrPort("0.0.0.0:80")},
		Limits: Limits{
			MessageSize: 50e6, Recipients: 1000, Memory: 1e9, Hops: 100, Stop: 30 * time.Second, Connections: 1000, ConnectionsPerPeer: 1000,
			LineLength: 2048, Commands: 10000, Errors: 20, CommandTimeout: 5 * time.Minute, DataTimeout: 3 * time.Minute, MessageTimeout: time.Hour, SpoolFree: 100 << 20,
		},
		Journal:  Journal{Keep: 720 * time.Hour},
		Suppress: Suppress{Learn: true, Dead: 90 * day, Domain: day, Sure: 2, Unsure: 3, UnsureWithin: 14 * day},
		Returns:  Returns{Forward: true, Streams: []string{}, Users: []string{}, Complaints: []string{}, Valid: 60 * day},
		Events:   Events{RotateSize: 100e6, RotateAge: 24 * time.Hour, Keep: 30, KeepSize: 10e9, Events: []mta.Event{}, Streams: []string{}},
		Identity: defaultIdentity,
		given:    map[string]bool{"hostname": true},

		Unsubscribe: Unsubscribe{Connections: 256},
		TLS:         TLS{MinVersion: tls.VersionTLS12, DANE: true, STS: true, STSPort: 443},
		TLSReports:  TLSReports{Send: true, From: "postmaster@mailout.example.com", Contact: "postmaster@mailout.example.com", Organization: "mailout.example.com"},
	}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

const full = `# everything
hostname = 'out.example.com'
spool = "spool" # beside the file
postmaster = "ops+mail@example.com"
stream = [{ name = "fast", expire = "10m" }, { name = "slow" }]
tls = { outbound = "required" }
dns.servers = [ # two
  "192.0.2.1", # one
  "[2001:db8::1]:5353",
]
dns.hosts_file = ""

[router]
host = "smarthost"
use = "unresolved"
tls = "implicit"

[[route]]
domains = ["Near.example", "*.partner.example", "bücher.example", "[IPv6:2001:DB8::1]", ".d.example"]
host = "10.1.2.3"
port = 2_525
[[route]]
domains = ["d.example"]
host = "direct"

[[listen]]
address = "127.0.0.1:25"
trusted = ["10.1.2.3", "fd00::/8"]
bare_lf = "repair"
recipients = 0x70
[[listen]]
address = "[::]:2525"

[[source]]
ip = "192.0.2.10"
[[source]]
ip = "2001:db8::10"
hostname = "six.example.com"

[delivery]
port = 26
retry = ["1s", "1h30m", "250ms"] # refused
`

func TestEverything(t *testing.T) {
	t.Parallel()
	text := strings.Replace(full, `, "250ms"] # refused`, "]", 1)
	c, err := Parse("/etc/x/f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2]any{
		"spool":   {c.Spool, "/etc/x/spool"},
		"socket":  {c.HTTP.Socket, "/etc/x/spool/mailout.sock"},
		"dns":     {c.DNS, DNS{Servers: []dns.Server{{AddrPort: netip.MustParseAddrPort("192.0.2.1:53")}, {AddrPort: netip.MustParseAddrPort("[2001:db8::1]:5353")}}, Timeout: 5 * time.Second, DNSSEC: dns.DNSSECAuto, Trusted: []netip.Addr{}, Private: []string{}}},
		"router":  {c.Router, Router{Host: "smarthost", Port: 465, Use: UseUnresolved, TLS: mta.TLSImplicit, Line: 14, Auth: noCredentials, Fallback: Fallback{On: standing.DefaultTriggers, Probe: standing.DefaultProbe, ProbeMax: standing.DefaultProbeMax}}},
		"route 1": {c.Routes[0], route(Route{Domains: []string{"near.example", "*.partner.example", "xn--bcher-kva.example", "[IPv6:2001:db8::1]", "*.d.example"}, Host: "10.1.2.3", Port: 2525, Line: 18})},
		"route 2": {c.Routes[1], route(Route{Domains: []string{"d.example"}, Host: "direct", Port: 26, TLS: mta.TLSRequired, Line: 22})},
		"listen 1": {c.Listen[0], Listener{Address: netip.MustParseAddrPort("127.0.0.1:25"), Trusted: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("fd00::/8")},
			RepairBareLF: true, MessageSize: 50e6, Recipients: 112, Connections: 1000, ConnectionsPerPeer: 1000, TLSMin: tls.VersionTLS12, Proxy: []netip.Prefix{}}},
		"listen 2": {c.Listen[1].Address, netip.MustParseAddrPort("[::]:2525")},
		"sources":  {c.Sources, []Source{{Source: mta.Source{IP: netip.MustParseAddr("192.0.2.10"), Hostname: "out.example.com"}, Weight: 1, Line: 35}, {Source: mta.Source{IP: netip.MustParseAddr("2001:db8::10"), Hostname: "six.example.com"}, Weight: 1, Line: 37}}},
		"retry":    {c.Delivery.Retry, []time.Duration{time.Second, 90 * time.Minute}},
		"fast":     {c.Stream("fast").Expire, 10 * time.Minute},
		"slow":     {c.Stream("slow").Retry, c.Delivery.Retry},
		"none":     {c.Stream("none"), Stream{Name: "none", Expire: c.Delivery.Expire, DelayNotice: c.Delivery.DelayNotice, Retry: c.Delivery.Retry}},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, pair[0], pair[1])
		}
	}
	if _, err := Parse("f", []byte(full)); err == nil || !strings.Contains(err.Error(), `"250ms" is out of range (from "1s" to "30d")`) {
		t.Error(err)
	}
}

func TestLoadMissingFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mailout.toml")
	_, err := Load(path)
	want := path + ":1:1: file: does not exist; run \"mailout setup\", or write it with at least " + example
	if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v, want %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Error("not fs.ErrNotExist")
	}
	if _, err := Parse("f", []byte(example)); err != nil {
		t.Error("the example is refused:", err)
	}
}

// TestSocketSurvivesErrorsElsewhere guards that a bad edit does not keep the
// operator from looking at the running daemon.
func TestSocketSurvivesErrorsElsewhere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f.toml")
	for text, want := range map[string]string{
		host + "spool = \"/a\"\n":                                  "/a/mailout.sock",
		host + "spool = \"/a\"\nbogus = 1\n":                       "/a/mailout.sock",
		"spool = \"/a\"\nhttp.socket = \"/b\"\nbogus = 1\n":        "/b",
		"spool = \"/a\"\n[delivery]\nexpire = \"5 days\"\n":        "/a/mailout.sock",
		host + "[http]\nsocket = \"/c\"\n[delivery]\nport = \"x\"": "/c",
	} {
		write(t, path, text)
		if got, err := Socket(path); got != want || err != nil {
			t.Errorf("%s\ngives %s, %v", text, got, err)
		}
	}
	write(t, path, "spool = \"/a")
	if _, err := Socket(path); err == nil {
		t.Error("a file that is no TOML gives a socket")
	}
}

func TestLoadLooksAtFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "f.toml")
	write(t, filepath.Join(dir, "empty.pem"), "-----BEGIN X-----\n-----END X-----\n")
	write(t, path, host+"dns.hosts_file = \"hosts\"\ntls.ca_file = \"empty.pem\"\n")
	_, err := Load(path)
	want := path + `:2:18: [dns] hosts_file: "` + dir + `/hosts" cannot be read: no such file or directory (write "" for none)` + "\n" +
		path + `:3:15: [tls] ca_file: "` + dir + `/empty.pem" holds no certificate in PEM form`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
	if _, err := Load(dir); err == nil || err.Error() != dir+":1:1: file: cannot be read: is a directory" {
		t.Error(err)
	}
	write(t, path, strings.Repeat("#", maxFile+1))
	if _, err := Load(path); err == nil || err.Error() != path+":1:1: file: is longer than the 1 MiB of a configuration file" {
		t.Error(err)
	}
}

func TestReadSecret(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "secret")
	for content, want := range map[string]string{
		"pass word\n": "pass word", "p": "p", "p\r\n": "p", "\n": "", "a\nb": "", "a\x00": "", strings.Repeat("x", maxSecret+1): "",
	} {
		write(t, path, content)
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := ReadSecret(path)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
	}
	write(t, path, "p")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadSecret(path); err == nil || !strings.HasSuffix(err.Error(), "can be read by everybody (chmod o-r it)") {
		t.Error(err)
	}
}

func TestPath(t *testing.T) {
	t.Setenv(Variable, "")
	if got := Path(""); got != "/etc/mailout/mailout.toml" {
		t.Error(got)
	}
	t.Setenv(Variable, "/env")
	if got := Path(""); got != "/env" {
		t.Error(got)
	}
	if got := Path("/flag"); got != "/flag" {
		t.Error(got)
	}
}

func parsed(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("f", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
