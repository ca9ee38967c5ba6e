package config

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"mailout/internal/account"
	"mailout/internal/mta"
)

func topTable() *table {
	return &table{doc: "Keys at the top of the file, before the first table.", keys: []*key{
		newKey("hostname", text("host name", checkHostname), func(c *Config, _ int) *string { return &c.Hostname }).
			needs(`hostname = "mailout.example.com"`, "The fully qualified name of this machine as other servers see it: the EHLO name, and the name in Received and Message-ID fields."),
		newKey("spool", mapped("directory", spoolPath, keep), func(c *Config, _ int) *string { return &c.Spool }).
			is(`"/var/lib/mailout"`, "Directory of the embedded store.").restart(),
		newKey("postmaster", text("mailbox", checkMailbox), func(c *Config, _ int) *string { return &c.Postmaster }).
			derives("postmaster at `hostname`", func(c *Config, _ int) { c.Postmaster = "postmaster@" + c.Hostname }, "Mailbox that gets what cannot be returned to a sender."),
	}}
}

func routerTable() *table {
	return &table{name: "router", doc: "A smart host for the mail that no `[[route]]` names. Without this table, or with `host = \"none\"`, mail is delivered directly.", keys: append(append([]*key{
		hostKey(newKey("host", mapped("host name or address", peerOr("none"), peerWord("none")), func(c *Config, _ int) *string { return &c.Router.Host }), routerPeers, "none").
			is(`"none"`, "The router: a name or an address, with `:PORT` behind it where `port` is not given (an IPv6 address in brackets); `mx:NAME` for the mail servers of a domain; `unix:/PATH` for a socket. `none` delivers directly."),
		newKey("port", integer[uint16](1, 65535), func(c *Config, _ int) *uint16 { return &c.Router.Port }).
			derives("25, or 465 with `tls = \"implicit\"`, or 24 with `protocol = \"lmtp\"`", func(c *Config, _ int) { c.Router.Port = defaultPort(c.Router.TLS, c.Router.Protocol) }, "TCP port of the hosts that name none."),
		newKey("use", word(routerUses), func(c *Config, _ int) *RouterUse { return &c.Router.Use }).
			is(`"always"`, "`always`: for every domain; `unresolved`: only for domains whose mail servers cannot be found in DNS; `fallback`: where direct delivery meets what `fallback_on` names."),
		newKey("tls", word(peerTLS), func(c *Config, _ int) *mta.TLSRequirement { return &c.Router.TLS }).
			derives("`opportunistic`; `required` with `username` or `client_cert`", routerTLS, "`opportunistic`: STARTTLS when offered, any certificate; `required`: STARTTLS with a certificate that fits the name, or the mail waits; `implicit`: the same with TLS from the first octet; `none`: clear text."),
	}, append(peerKeys(routerPeers), fallbackKeys()...)...), credentialKeys(func(c *Config, _ int) *Credentials { return &c.Router.Auth })...)}
}

func routerPeers(c *Config, _ int) *Peers { return &c.Router.Peers }

func listenTable() *table {
	at := func(c *Config, i int) *Listener { return &c.Listen[i] }
	return &table{name: "listen", array: true,
		count: func(c *Config) int { return len(c.Listen) },
		grow:  func(c *Config) { c.Listen = append(c.Listen, Listener{}) },
		doc:   "Addresses that take mail by SMTP. Without any, mail comes in over the control socket only.", keys: []*key{
			newKey("address", endpoint(), func(c *Config, i int) *netip.AddrPort { return &at(c, i).Address }).
				needs(`address = "127.0.0.1:25"`, "IP address and TCP port.").restart(),
			newKey("trusted", list(network(), 0, maxList, `["127.0.0.0/8"]`), func(c *Config, i int) *[]netip.Prefix { return &at(c, i).Trusted }).
				is(`["127.0.0.0/8", "::1/128"]`, "Networks whose machines may send mail to anybody without AUTH. Others have to sign in as a `[[user]]`."),
			newKey("tls", word(listenTLS), func(c *Config, i int) *ListenTLS { return &at(c, i).TLS }).
				derives("`offered` with `cert` or `acme`, else `none`", listenerTLS, "`none`: clear text; `offered`: STARTTLS for clients that like; `required`: STARTTLS, and no mail without it; `implicit`: TLS from the first octet, as on port 465."),
			newKey("tls_min", word(listenMin), func(c *Config, i int) *uint16 { return &at(c, i).TLSMin }).
				is(`"1.2"`, "Oldest version of TLS. Below `1.2` only the networks in `trusted` are served, and old ciphers are taken too: for devices that know nothing better."),
			newKey("cert", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).Cert }).
				is(`""`, "PEM file of the certificate, followed by those that lead to its root. A changed file is taken within a minute."),
			newKey("key", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).Key }).
				is(`""`, "PEM file of the certificate's private key; not readable by everybody."),
			newKey("acme", boolean(), func(c *Config, i int) *bool { return &at(c, i).ACME }).
				is(`false`, "Whether the certificate comes from an authority as `[acme]` says, instead of `cert` and `key`."),
			newKey("auth", word(listenAuth), func(c *Config, i int) *ListenAuth { return &at(c, i).Auth }).
				is(`"tls"`, "Where the users of `[[user]]` may sign in: under `tls`, `always` (passwords cross the network in clear text), or `never`."),
			newKey("proxy", list(network(), 0, maxList, `["10.0.0.0/8"]`), func(c *Config, i int) *[]netip.Prefix { return &at(c, i).Proxy }).
				is(`[]`, "Networks of load balancers. Their connections must begin with a PROXY protocol header, version 1 or 2, and count as their client's; others' must not."),
			newKey("bare_lf", word(bareLFs), func(c *Config, i int) *bool { return &at(c, i).RepairBareLF }).
				is(`"refuse"`, "A line end in a message that is not CRLF: `refuse` the message, or `repair` it to CRLF."),
			newKey("message_size", size(1e3, 10e9, "50MB"), func(c *Config, i int) *int64 { return &at(c, i).MessageSize }).
				derives("`[limits] message_size`", func(c *Config, i int) { at(c, i).MessageSize = c.Limits.MessageSize }, "Largest message taken here."),
			newKey("recipients", integer[int](100, 100000), func(c *Config, i int) *int { return &at(c, i).Recipients }).
				derives("`[limits] recipients`", func(c *Config, i int) { at(c, i).Recipients = c.Limits.Recipients }, "Most recipients of one message taken here."),
			newKey("connections", integer[int](1, 100000), func(c *Config, i int) *int { return &at(c, i).Connections }).
				derives("`[limits] connections`", func(c *Config, i int) { at(c, i).Connections = c.Limits.Connections }, "Most connections here at once."),
			newKey("connections_per_peer", integer[int](1, 100000), func(c *Config, i int) *int { return &at(c, i).ConnectionsPerPeer }).
				derives("`[limits] connections_per_peer`", func(c *Config, i int) { at(c, i).ConnectionsPerPeer = c.Limits.ConnectionsPerPeer }, "Most connections here at once from one address."),
			listenReturns(),
		}}
}

func listenerTLS(c *Config, i int) {
	if l := &c.Listen[i]; l.Cert != "" || l.ACME {
		l.TLS = ListenOffered
	}
}

func userTable() *table {
	at := func(c *Config, i int) *User { return &c.Users[i] }
	return &table{name: "user", array: true, live: true,
		count: func(c *Config) int { return len(c.Users) },
		grow:  func(c *Config) { c.Users = append(c.Users, User{}) },
		doc:   "Who may send mail to anybody after signing in with AUTH, from wherever.", keys: []*key{
			newKey("name", text("user name", checkUser), func(c *Config, i int) *string { return &at(c, i).Name }).
				needs(`name = "erp"`, "Name to sign in with: letters, digits and . _ - + @, at most 128."),
			secretKey(newKey("password", passwordHash(), func(c *Config, i int) *account.Verifier { return &at(c, i).Password })).
				is(`""`, "Hash of the password, from `mailout config password`."),
			newKey("password_file", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).PasswordFile }).
				is(`""`, "File whose only line is the hash, instead of `password`; not readable by everybody."),
			newKey("from", list(sender(), 1, maxList, `["*@example.com"]`), func(c *Config, i int) *[]string { return (*[]string)(&at(c, i).From) }).
				needs(`from = ["*@example.com"]`, "Addresses that the user may send from, in the envelope and in the From field: `erp@example.com`, `*@example.com`, `*@*.example.com` (domains under it), or `*` for any."),
			newKey("stream", text("stream name", optionalStream), func(c *Config, i int) *string { return &at(c, i).Stream }).
				is(`""`, "Stream of the user's messages; empty: `default`."),
			newKey("rate", messageRate(), func(c *Config, i int) *account.Rate { return &at(c, i).Rate }).
				is(`""`, "Most messages in a time, such as `1000/h` (`/s`, `/m`, `/h`, `/d`); more are answered 450. Empty: no bound."),
			newKey("key", keyHash(), func(c *Config, i int) *account.Key { return &at(c, i).Key }).
				is(`""`, "Hash of the user's HTTP key, from `mailout config key`."),
			newKey("scopes", list(word(scopeWords), 1, len(scopeWords), `["send"]`), func(c *Config, i int) *[]account.Scope { return &at(c, i).Scopes }).
				is(`["send"]`, "What the user may do: `send` mail and see what became of it, `read` queues and metrics, `control` its own mail in the queue, `suppress` addresses, or `admin`: everything, with everybody's mail."),
		}}
}

// secretKey says that show hides the key.
func secretKey(k *key) *key {
	k.secret = true
	return k
}

func passwordHash() kind[account.Verifier] {
	return scalar("password hash", func(v *value) (account.Verifier, string) {
		if v.kind == unstable.String && v.text == "" {
			return account.Verifier{}, ""
		}
		h, err := account.ParseVerifier(v.text)
		if v.kind != unstable.String || err != nil { // without the text: it may be a password
			if err == nil {
				return h, "is not a text"
			}
			return h, err.Error()
		}
		return h, ""
	}, account.Verifier.String)
}

func sender() kind[string] {
	return mapped("address or pattern", func(s string) (string, string) {
		p, err := account.ParseSender(s)
		if err != nil {
			return "", shown(s) + " " + err.Error()
		}
		return p, ""
	}, keep)
}

func messageRate() kind[account.Rate] {
	return scalar("rate", func(v *value) (account.Rate, string) {
		r, err := account.ParseRate(v.text)
		if v.kind != unstable.String {
			err = errRate
		}
		if err != nil {
			return r, v.shown() + " " + err.Error()
		}
		return r, ""
	}, account.Rate.String)
}

var errRate = errors.New(`is not a rate (write for example "1000/h")`)

// checkUser says why s is not a user's name; empty when it is one.
func checkUser(s string) string {
	const most = 128
	if s == "" || len(s) > most {
		return shown(s) + " is not a user name (1 to 128 letters, digits, and . _ - + @)"
	}
	for i := range len(s) {
		if c := s[i]; !isLetterDigit(c) && strings.IndexByte("._-+@", c) < 0 {
			return shown(s) + " is not a user name: it contains " + shown(string(rune(c)))
		}
	}
	return ""
}

func optionalStream(s string) string {
	if s == "" {
		return ""
	}
	return checkStream(s)
}

func deliveryTable() *table {
	at := func(c *Config) *Delivery { return &c.Delivery }
	return &table{name: "delivery", doc: "How mail goes out.", keys: []*key{
		newKey("port", integer[uint16](1, 65535), func(c *Config, _ int) *uint16 { return &at(c).Port }).
			is(`25`, "TCP port of mail servers found by MX look-up."),
		newKey("ipv6", boolean(), func(c *Config, _ int) *bool { return &at(c).IPv6 }).
			is(`true`, "Whether IPv6 addresses of mail servers are used."),
		newKey("private_networks", boolean(), func(c *Config, _ int) *bool { return &at(c).PrivateNetworks }).
			is(`false`, "Whether mail servers found by MX look-up may have loopback or private addresses; they are skipped otherwise."),
		newKey("expire", duration(time.Second, year, "5d"), func(c *Config, _ int) *time.Duration { return &at(c).Expire }).
			is(`"5d"`, "Age at which mail that could not be delivered is given up and returned."),
		newKey("delay_notice", duration(time.Second, year, "4h"), func(c *Config, _ int) *time.Duration { return &at(c).DelayNotice }).
			is(`"4h"`, "Age at which the sender is told once that mail still waits; at or beyond `expire` means never."),
		newKey("retry", retryKind(), func(c *Config, _ int) *[]time.Duration { return &at(c).Retry }).
			is(`["5m", "15m", "30m", "1h", "2h", "4h"]`, "Waits between attempts, each taken with 10 % of jitter; the last one repeats."),
		newKey("connect_timeout", duration(briefly, 10*time.Minute, "30s"), func(c *Config, _ int) *time.Duration { return &at(c).ConnectTimeout }).
			is(`"30s"`, "Time to connect to one address."),
		newKey("reply_timeout", duration(0, time.Hour, "5m"), func(c *Config, _ int) *time.Duration { return &at(c).ReplyTimeout }).
			is(`"0s"`, "Most time for each reply, the greeting and the TLS handshake; `0s` means the time that RFC 5321 gives each command."),
		newKey("hosts", integer[int](1, 100), func(c *Config, _ int) *int { return &at(c).Hosts }).
			is(`5`, "Most mail servers tried in one attempt."),
		newKey("addresses", integer[int](1, 100), func(c *Config, _ int) *int { return &at(c).Addresses }).
			is(`10`, "Most addresses tried in one attempt."),
		newKey("eightbit", word(eightBits), func(c *Config, _ int) *EightBit { return &at(c).EightBit }).
			is(`"convert"`, "8-bit content for a server without 8BITMIME: `convert` it to quoted-printable or base64, or `send` it as it is."),
		newKey("connections", integer[int](1, 10000), func(c *Config, _ int) *int { return &at(c).Connections }).
			is(`20`, "Most connections to one site at once."),
		newKey("messages_per_connection", integer[int](1, 100000), func(c *Config, _ int) *int { return &at(c).MessagesPerConnection }).
			is(`100`, "Most messages over one connection."),
		providerLimits(),
	}}
}

func retryKind() kind[[]time.Duration] {
	return list(duration(time.Second, 30*day, "15m"), 1, 100, `["5m", "15m", "1h"]`)
}

func streamTable() *table {
	at := func(c *Config, i int) *Stream { return &c.Streams[i] }
	return &table{name: "stream", array: true, live: true,
		count: func(c *Config) int { return len(c.Streams) },
		grow:  func(c *Config) { c.Streams = append(c.Streams, Stream{}) },
		doc:   "What one stream has of its own: times where they differ from `[delivery]`, the sources that it goes out from, and fields that its mail gets.", keys: append([]*key{
			newKey("name", text("stream name", checkStream), func(c *Config, i int) *string { return &at(c, i).Name }).
				needs(`name = "alerts"`, "Name of the stream; `default` is the stream of mail that names none."),
			newKey("expire", duration(time.Second, year, "5d"), func(c *Config, i int) *time.Duration { return &at(c, i).Expire }).
				derives("`[delivery] expire`", func(c *Config, i int) { at(c, i).Expire = c.Delivery.Expire }, "As in `[delivery]`."),
			newKey("delay_notice", duration(time.Second, year, "4h"), func(c *Config, i int) *time.Duration { return &at(c, i).DelayNotice }).
				derives("`[delivery] delay_notice`", func(c *Config, i int) { at(c, i).DelayNotice = c.Delivery.DelayNotice }, "As in `[delivery]`."),
			newKey("retry", retryKind(), func(c *Config, i int) *[]time.Duration { return &at(c, i).Retry }).
				derives("`[delivery] retry`", func(c *Config, i int) { at(c, i).Retry = slices.Clone(c.Delivery.Retry) }, "As in `[delivery]`."),
			streamPool(),
			streamSuppress(),
			streamWarmup(),
		}, streamUnsubscribe()...)}
}

func tlsTable() *table {
	return &table{name: "tls", doc: "Protection of direct delivery.", keys: []*key{
		newKey("outbound", word(directTLS), func(c *Config, _ int) *mta.TLSRequirement { return &c.TLS.Outbound }).
			is(`"opportunistic"`, "`opportunistic`: STARTTLS when offered, any certificate; `required`: STARTTLS with a certificate that fits the name, or the mail waits; `none`: clear text."),
		newKey("ca_file", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &c.TLS.CAFile }).
			is(`""`, "PEM file of roots that are trusted besides the system's."),
		minTLSKey(),
		newKey("dane", boolean(), func(c *Config, _ int) *bool { return &c.TLS.DANE }).
			is(`true`, "Whether a mail server has to be the one that its domain's signed TLSA records name (RFC 7672). It needs DNS answers that are validated; see docs/tls.md."),
		newKey("mta_sts", boolean(), func(c *Config, _ int) *bool { return &c.TLS.STS }).
			is(`true`, "Whether the MTA-STS policies of recipient domains are fetched and obeyed (RFC 8461)."),
		newKey("sts_port", integer[uint16](1, 65535), func(c *Config, _ int) *uint16 { return &c.TLS.STSPort }).
			is(`443`, "TCP port that MTA-STS policies are fetched from: another one is for tests."),
	}}
}

func limitsTable() *table {
	at := func(c *Config) *Limits { return &c.Limits }
	return &table{name: "limits", doc: "What the process takes on.", keys: []*key{
		newKey("message_size", size(1e3, 10e9, "50MB"), func(c *Config, _ int) *int64 { return &at(c).MessageSize }).
			is(`"50MB"`, "Largest message taken."),
		newKey("recipients", integer[int](100, 100000), func(c *Config, _ int) *int { return &at(c).Recipients }).
			is(`1000`, "Most recipients of one message."),
		newKey("memory", size(64e6, 1<<50, "1GB"), func(c *Config, _ int) *int64 { return &at(c).Memory }).
			is(`"1GB"`, "Memory the process aims to stay within; near it, new mail is put off.").restart(),
		newKey("hops", integer[int](1, 1000), func(c *Config, _ int) *int { return &at(c).Hops }).
			is(`100`, "Most Received fields of a message; more is a mail loop."),
		newKey("stop", duration(0, time.Hour, "30s"), func(c *Config, _ int) *time.Duration { return &at(c).Stop }).
			is(`"30s"`, "Time for open transactions to end when the daemon is told to stop."),
		newKey("connections", integer[int](1, 100000), func(c *Config, _ int) *int { return &at(c).Connections }).
			is(`1000`, "Most connections of one listener at once."),
		newKey("connections_per_peer", integer[int](1, 100000), func(c *Config, _ int) *int { return &at(c).ConnectionsPerPeer }).
			derives("`connections`", func(c *Config, _ int) { at(c).ConnectionsPerPeer = at(c).Connections }, "Most connections of one listener at once from one address."),
		newKey("line_length", integer[int](512, 4096), func(c *Config, _ int) *int { return &at(c).LineLength }).
			is(`2048`, "Longest SMTP command line taken, in octets with its CRLF."),
		newKey("commands", integer[int](100, 10000000), func(c *Config, _ int) *int { return &at(c).Commands }).
			is(`10000`, "Most SMTP commands since the last accepted message, accepted recipients not counted; then the session is closed."),
		newKey("errors", integer[int](1, 10000), func(c *Config, _ int) *int { return &at(c).Errors }).
			is(`20`, "Most wrong SMTP commands (unknown, malformed, out of order) since the last accepted message; then the session is closed."),
		newKey("command_timeout", duration(briefly, time.Hour, "5m"), func(c *Config, _ int) *time.Duration { return &at(c).CommandTimeout }).
			is(`"5m"`, "Most time to wait for a client's next command."),
		newKey("data_timeout", duration(briefly, time.Hour, "3m"), func(c *Config, _ int) *time.Duration { return &at(c).DataTimeout }).
			is(`"3m"`, "Most time to wait for more of a message that is coming in."),
		newKey("message_timeout", duration(briefly, day, "1h"), func(c *Config, _ int) *time.Duration { return &at(c).MessageTimeout }).
			is(`"1h"`, "Most time for one message, from MAIL to its last octet."),
		newKey("spool_free", size(0, 1<<50, "100MB"), func(c *Config, _ int) *int64 { return &at(c).SpoolFree }).
			is(`"100MiB"`, "Free space on the spool's disk below which new mail is put off; `0B` means no such bound. An empty spool keeps up to 200 MB of logs and reserve, and what messages of 64 KiB to 1 MiB once took, up to a sixteenth of the disk or 1 GiB; so a disk of its own needs 350 MB or more.").restart(),
	}}
}

func journalTable() *table {
	return &table{name: "journal", doc: "The record of what happened to mail.", keys: []*key{
		newKey("keep", duration(time.Second, 10*year, "30d"), func(c *Config, _ int) *time.Duration { return &c.Journal.Keep }).
			is(`"30d"`, "Age at which journal records are dropped; not shorter than any `expire`."),
		newKey("size", size(0, 1<<50, "10GB"), func(c *Config, _ int) *int64 { return &c.Journal.Size }).
			is(`"0B"`, "Disk space of the journal at which the oldest records are dropped before `keep` is over; `0B` means no bound. It is looked at once an hour."),
	}}
}

// maxList bounds lists that have no narrower bound.
const maxList = 10000

func keep(s string) string { return s }

// spoolPath reads the place of the store. The value is not repeated in the
// error: a database address may hold a password.
func spoolPath(s string) (string, string) {
	if strings.HasPrefix(s, "postgres://") || strings.HasPrefix(s, "postgresql://") {
		return "", `the cluster store is not in this version (write a directory, such as "/var/lib/mailout")`
	}
	return requiredPath(s)
}

func requiredPath(s string) (string, string) {
	if s == "" {
		return "", "is empty (write a path)"
	}
	return optionalPath(s)
}

func optionalPath(s string) (string, string) {
	if strings.Contains(s, "://") {
		return "", shown(s) + " is not a path"
	}
	if strings.ContainsRune(s, 0) {
		return "", shown(s) + " is not a path: it has a NUL"
	}
	return s, ""
}

// peerOr reads a host, or the word that stands for none.
func peerOr(none string) func(string) (string, string) {
	return func(s string) (string, string) {
		if s == none {
			return "", ""
		}
		if s == "none" || s == "direct" {
			return "", shown(s) + ` is not a host (write "` + none + `" to deliver directly)`
		}
		return s, checkPeer(s)
	}
}

func peerWord(none string) func(string) string {
	return func(s string) string {
		if s == "" {
			return none
		}
		return s
	}
}

func smtpPort(tls mta.TLSRequirement) uint16 {
	if tls == mta.TLSImplicit {
		return 465 // RFC 8314 7.3
	}
	return 25
}

// checkStream says why s is not a stream's name; empty when it is one.
func checkStream(s string) string {
	const most = 64
	if s == "" || len(s) > most {
		return shown(s) + " is not a stream name (1 to 64 letters, digits, and . _ -)"
	}
	for i := range len(s) {
		if c := s[i]; !isLetterDigit(c) && c != '.' && c != '_' && c != '-' {
			return shown(s) + " is not a stream name: it contains " + shown(string(rune(c)))
		}
	}
	return ""
}
