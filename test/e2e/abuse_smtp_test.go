package e2e

import (
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	abuseMail = "MAIL FROM:<sender@sender.example>"
	abuseRcpt = "RCPT TO:<victim@abuse.example>"
)

func abusiveCommands() []abuseRow {
	const unknown, malformed, control = "500 5.5.2 Command not known", "501 5.5.4 …", "500 5.5.2 Command lines are printable characters that end with CR LF"
	rows := []abuseRow{
		over("open", "a word that is no command", unknown, "HACK"),
		over("open", "DEBUG, as the worm of 1988", unknown, "DEBUG"),
		over("open", "WIZ", unknown, "WIZ"),
		over("open", "TURN", unknown, "TURN"),
		over("open", "SEND FROM", unknown, "SEND FROM:<a@sender.example>"),
		over("open", "an empty line", unknown, ""),
		over("open", "blanks alone", unknown, "     "),
		over("open", "a Lua script", unknown, "return os.execute('id')"),
		over("open", "EXPN", "502 5.5.1 Command not offered here", "EXPN staff"),
		over("open", "STARTTLS where there is none", "502 5.5.1 Command not offered here", "STARTTLS"),
		raw("open", "an HTTP request", "421 4.7.0 This is an SMTP server", "POST /v1/messages HTTP/1.1\r\nHost: x\r\n\r\nMAIL FROM:<a@sender.example>\r\n"),
		raw("open", "a CONNECT", "421 4.7.0 This is an SMTP server", "CONNECT mx.abuse.example:25 HTTP/1.1\r\n\r\n"),
		raw("open", "a TLS handshake in clear text", control, "\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n"),
		raw("open", "a command that ends with LF", control, "EHLO client.example\n"),
		raw("open", "a CR inside a command", control, "EHLO client\r.example\r\n"),
		raw("open", "a NUL inside a command", control, "EHLO client\x00.example\r\n"),
		raw("open", "an escape sequence", control, "EHLO \x1b[2J\r\n"),
		raw("open", "octets of no character", "500 5.5.2 Characters outside ASCII need SMTPUTF8", "EHLO \xff\xfe\r\n"),
		raw("open", "EHLO without a name", "501 5.5.2 the host name is missing", "EHLO\r\n"),
		raw("open", "MAIL before EHLO", "503 5.5.1 Say EHLO or HELO first", abuseMail+"\r\n"),
		raw("open", "RCPT before MAIL", "503 5.5.1 MAIL comes first", abuseRcpt+"\r\n"),
		raw("open", "a line of 5,000 octets", "500 5.5.6 Command line too long", "EHLO "+strings.Repeat("x", 5000)+"\r\n"),
		raw("open", "a line of a megabyte", "500 5.5.6 Command line too long", strings.Repeat("x", 1<<20)+"\r\n"),
		over("open", "DATA before RCPT", "503 5.5.1 RCPT comes first", abuseMail, "DATA"),
		over("open", "DATA before MAIL", "503 5.5.1 MAIL comes first", "DATA"),
		over("open", "DATA with an argument", "501 5.5.4 DATA has no argument", abuseMail, abuseRcpt, "DATA now"),
		over("open", "MAIL twice", "503 5.5.1 A transaction is open already; RSET ends it", abuseMail, abuseMail),
		over("open", "DATA for refused recipients alone", "554 5.5.1 No valid recipients", abuseMail, "?RCPT TO:<x@localhost>", "DATA"),
		over("open", "REQUIRETLS in clear text", "555 5.5.4 REQUIRETLS is not offered on this connection", abuseMail+" REQUIRETLS"),
		over("open", "a size of 100 MB", "552 5.3.4 Message larger than the limit", abuseMail+" SIZE=100000000"),
		over("open", "a size beyond all numbers", "552 5.3.4 Message larger than the limit", abuseMail+" SIZE=99999999999999999999"),
		over("open", "a recipient in Greek without SMTPUTF8", "553 5.6.7 Characters outside ASCII need SMTPUTF8 with MAIL", abuseMail, "RCPT TO:<χρήστης@abuse.example>"),
	}
	for name, command := range map[string]string{
		"a negative size": abuseMail + " SIZE=-1", "a size that is no number": abuseMail + " SIZE=1e9", "SIZE twice": abuseMail + " SIZE=1 SIZE=2",
		"BODY that is none": abuseMail + " BODY=9BIT", "RET that is none": abuseMail + " RET=ALL", "ENVID with a blank in xtext": abuseMail + " ENVID=a+20b+",
		"ENVID of 500 octets": abuseMail + " ENVID=" + strings.Repeat("x", 500), "AUTH= that is no xtext": abuseMail + " AUTH=+ZZ",
	} {
		rows = append(rows, over("open", name, malformed, command))
	}
	rows = append(rows,
		over("open", "a parameter that nobody offered", "555 5.5.4 …", abuseMail+" XEVIL=1"),
		over("open", "a parameter of RCPT that nobody offered", "555 5.5.4 …", abuseMail, abuseRcpt+" PLEASE"),
		over("open", "NOTIFY of never and always", malformed, abuseMail, abuseRcpt+" NOTIFY=NEVER,SUCCESS"),
		over("open", "NOTIFY that is none", malformed, abuseMail, abuseRcpt+" NOTIFY=MAYBE"),
		over("open", "ORCPT without a type", malformed, abuseMail, abuseRcpt+" ORCPT=victim"),
		over("open", "a release in the far future", "501 5.5.4 The time of release is too far ahead", abuseMail+" HOLDUNTIL=2999-01-01T00:00:00Z"),
	)
	return rows
}

func abusiveAddresses() []abuseRow {
	var rows []abuseRow
	for name, path := range map[string]string{
		"a path that does not end":     "<victim@abuse.example",
		"CR LF by backslash in a path": "<victim\\r\\n@abuse.example>", "a header in a path": "<victim@abuse.example>\\r\\nBcc: x@abuse.example",
	} {
		rows = append(rows, over("open", "RCPT: "+name, "501 5.…", abuseMail, "RCPT TO:"+path))
	}
	for name, box := range map[string]string{
		"a percent hack": "x%victim.example@abuse.example", "a bang path": "host!victim@abuse.example", "an option for a program": "-oX/tmp/x@abuse.example",
		"no local part": "@abuse.example", "a local part of 65 octets": strings.Repeat("a", 65) + "@abuse.example", "two dots": "a..b@abuse.example",
		"a dot at the start": ".a@abuse.example", "an empty path": "", "a blank": "a b@abuse.example",
		"an open quote": "\"a@abuse.example", "a comment": "a(b)@abuse.example",
	} {
		rows = append(rows, over("open", "RCPT: "+name, "501 5.1.3 …", abuseMail, "RCPT TO:<"+box+">"))
	}
	for name, domain := range map[string]string{
		"localhost": "localhost", "a single label": "intranet", "two addresses": "b.example,victim@abuse.example", "a port": "abuse.example:25", "an underscore": "a_b.example", "an address literal that is none": "[127.0.0.256]", "an empty label": "a..example", "a label of 64 octets": strings.Repeat("a", 64) + ".example",
		"an A-label that is none": "xn--0.example", "a name of 260 octets": strings.Repeat("abcdefghi.", 26) + "example",
	} {
		rows = append(rows, over("open", "RCPT to "+name, "550 5.1.2 …", abuseMail, "RCPT TO:<victim@"+domain+">"))
	}
	for name, path := range map[string]string{
		"no domain": "<root>", "an open quote": "<\"a@sender.example>", "a list": "<a@sender.example,b@sender.example>", "a local part of 65 octets": "<" + strings.Repeat("a", 65) + "@sender.example>",
		"a label of 64 octets": "<a@" + strings.Repeat("a", 64) + ".example>", "two signs": "<a@b@sender.example>",
	} {
		rows = append(rows, over("open", "MAIL: "+name, "501 5.1.7 …", "MAIL FROM:"+path))
	}
	for name, path := range map[string]string{
		"a stranger to a stranger": "victim@abuse.example", "a percent hack to relay": "victim%abuse.example@sender.example", "a source route": "@mailout.sender.example:victim@abuse.example",
		"quoted": "\"victim@abuse.example\"@sender.example", "to the host's own name": "victim@mailout.sender.example", "to its address": "victim@[127.0.0.1]", "to postmaster": "postmaster",
		"a bang path to relay": "abuse.example!victim@sender.example",
	} {
		rows = append(rows, over("never", "relay: "+name, "550 5.7.1 Relaying denied: …", abuseMail, "RCPT TO:<"+path+">"))
	}
	return append(rows,
		over("never", "relay: with the null return path", "550 5.7.1 Relaying denied: …", "MAIL FROM:<>", abuseRcpt),
		over("never", "relay: from a local sender", "550 5.7.1 Relaying denied: …", "MAIL FROM:<postmaster@mailout.sender.example>", abuseRcpt),
		over("clear", "relay: where users could sign in", "530 5.7.0 Authentication required", abuseMail),
		over("implicit", "relay: under TLS, not signed in", "530 5.7.0 Authentication required", abuseMail),
		over("users", "relay: before TLS", "530 5.7.0 Must issue a STARTTLS command first", abuseMail),
		over("required", "relay: from a trusted network without the TLS that is required", "530 5.7.0 Must issue a STARTTLS command first", abuseMail),
		abuseRow{"SMTP", "101 recipients", "452 4.5.3 Too many recipients, send the others in a further transaction", func(a *abuse) string {
			lines := []string{abuseMail}
			for i := range 101 {
				lines = append(lines, fmt.Sprintf("RCPT TO:<victim%d@abuse.example>", i))
			}
			return a.open("open").play(lines...)
		}},
	)
}

// content makes a row of one message.
func content(name, want string, text string) abuseRow {
	return over("open", name, want, abuseMail, abuseRcpt, "DATA", text+"\r\n.")
}

func abusiveContent() []abuseRow {
	const bare = "554 5.6.0 …"
	rows := []abuseRow{
		content("a bare LF", bare, "Subject: x\r\n\r\na\nb"),
		content("a bare CR", bare, "Subject: x\r\n\r\na\rb"),
		content("a bare LF in the header", bare, "Subject: x\nBcc: victim@abuse.example\r\n\r\na"),
		content("NUL in the body", bare, "Subject: x\r\n\r\na\x00b"),
		content("NUL in the header", bare, "Subject: a\x00b\r\n\r\nx"),
		content("a loop", "554 5.4.6 a loop: the message passed …", strings.Repeat("Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n", 40)+"\r\nx"),
		content("a header of 4 MB", "552 5.3.4 the message's header is too large", strings.Repeat("X-Fill: "+strings.Repeat("x", 900)+"\r\n", 4600)+"\r\nx"),
		content("a header field of 4 MB", "552 5.3.4 the message's header is too large", "X-Fill:"+strings.Repeat(" xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n", 84_000)+"\r\nx"),
		content("21 MB", "552 5.3.4 Message larger than the limit", "Subject: x\r\n\r\n"+strings.Repeat(strings.Repeat("x", 998)+"\r\n", 21_000)),
	}
	for name, end := range map[string]string{"LF . LF": "\n.\n", "LF . CR LF": "\n.\r\n", "CR . CR LF": "\r.\r\n", "CR LF . LF": "\r\n.\n", "CR . CR": "\r.\r", "CR LF . CR": "\r\n.\r"} {
		rows = append(rows, content("smuggling behind "+name, bare, "Subject: x\r\n\r\nx"+end+"MAIL FROM:<evil@sender.example>\r\n"+abuseRcpt+"\r\nDATA\r\nSubject: smuggled\r\n\r\nx"))
	}
	for i := range 4 {
		rows = append(rows, abuseRow{"SMTP", fmt.Sprintf("100 MB, connection %d", i+1), "552 5.3.4 Message larger than the limit", func(a *abuse) string {
			t := a.open("open")
			if t.err != nil {
				return t.err.Error()
			}
			defer t.conn.Close()
			for _, line := range []string{abuseMail, abuseRcpt, "DATA"} {
				t.say(line)
			}
			if _, err := io.WriteString(t.conn, hundred()); err != nil {
				return err.Error()
			}
			return t.say(".")
		}})
	}
	return rows
}

func abusiveChunks() []abuseRow {
	rows := []abuseRow{
		over("open", "BDAT without MAIL", "503 5.5.1 MAIL comes first", "BDAT 3 LAST\r\na"),
		over("open", "BDAT without RCPT", "503 5.5.1 RCPT comes first", abuseMail, "BDAT 3 LAST\r\na"),
		over("open", "BDAT, then DATA", "503 5.5.1 The message is being sent with BDAT", abuseMail, abuseRcpt, "BDAT 3\r\na", "DATA"),
		over("open", "BDAT, then RCPT", "503 5.5.1 The message is being sent with BDAT", abuseMail, abuseRcpt, "BDAT 3\r\na", abuseRcpt),
		over("open", "BDAT with NUL", "554 5.6.0 …", abuseMail, abuseRcpt, "BDAT 7 LAST\r\n\r\na\x00b"),
		over("open", "BDAT with a bare LF", "554 5.6.0 …", abuseMail, abuseRcpt, "BDAT 7 LAST\r\n\r\na\nb"),
		{"SMTP", "BDAT of 100 MB", "552 5.3.4 Message larger than the limit", func(a *abuse) string {
			t := a.open("open")
			if t.err != nil {
				return t.err.Error()
			}
			defer t.conn.Close()
			io.WriteString(t.conn, abuseMail+"\r\n"+abuseRcpt+"\r\nBDAT 100000000 LAST\r\n")
			go io.WriteString(t.conn, hundred()) // the refusal comes in between
			t.read()
			t.read()
			return t.read()
		}},
	}
	for name, command := range map[string]string{"no size": "BDAT", "a size that is no number": "BDAT x", "a negative size": "BDAT -1", "a size beyond all numbers": "BDAT 99999999999999999999", "a word": "BDAT 3 FIRST"} {
		rows = append(rows, over("open", "BDAT with "+name, "501 5.5.4 …", abuseMail, abuseRcpt, command))
	}
	return rows
}

func abusiveSessions() []abuseRow {
	rows := []abuseRow{
		{"SMTP", "ten wrong commands", "421 4.7.0 Too many errors", func(a *abuse) string {
			return a.open("open").play(append(oneByOne(10, "HACK"), "<")...)
		}},
		{"SMTP", "a thousand commands without a message", "421 4.7.0 Too many commands without a message", func(a *abuse) string {
			lines := make([]string, 200)
			for i := range lines {
				lines[i] = "NOOP"
			}
			return a.open("open").play(lines...)
		}},
		{"SMTP", "a flood of commands whose answers nobody reads", "421 4.7.0 Too many commands without a message", func(a *abuse) string {
			t := a.open("open")
			if t.err != nil {
				return t.err.Error()
			}
			defer t.conn.Close()
			go io.WriteString(t.conn, strings.Repeat("NOOP\r\n", 100_000))
			last := ""
			for {
				r := t.read()
				if r == "closed" || r == "no answer" {
					return last
				}
				last = r
			}
		}},
		{"SMTP", "a third connection of an address that may have two", "421 4.7.0 too many connections from your address, try again later", func(a *abuse) string {
			from := a.own()
			for range 2 {
				t := a.dialFrom(from, "peer")
				if t.err != nil {
					return t.err.Error()
				}
				defer t.conn.Close()
				t.read()
			}
			return a.dialFrom(from, "peer").read()
		}},
		{"SMTP", "a third connection of a listener that takes two", "421 4.7.0 too many connections, try again later", func(a *abuse) string {
			for range 2 {
				t := a.dial("few")
				if t.err != nil {
					return t.err.Error()
				}
				defer t.conn.Close()
				t.read()
			}
			return a.dial("few").read()
		}},
		{"SMTP", "300 connections that say nothing", "421 4.4.2 Time limit exceeded", func(a *abuse) string { return a.silent("open", 300) }},
		{"SMTP", "a command an octet at a time", "421 4.4.2 Time limit exceeded", func(a *abuse) string { return a.drip("open") }},
		{"SMTP", "a message an octet at a time", "421 4.4.2 Time limit exceeded", func(a *abuse) string { return a.drip("open", abuseMail, abuseRcpt, "DATA") }},
		over("open", "a message that stops in the middle", "421 4.4.2 Time limit exceeded", abuseMail, abuseRcpt, "DATA", "Subject: x\r\n\r\nhalf"),
		over("open", "a chunk that stops in the middle", "421 4.4.2 Time limit exceeded", abuseMail, abuseRcpt, "BDAT 1000 LAST\r\nhalf"),
	}
	for _, how := range []string{"DATA", "BDAT 1000 LAST"} {
		rows = append(rows, abuseRow{"SMTP", "a connection that breaks in the middle of " + how[:4], "closed", func(a *abuse) string {
			t := a.open("open")
			if t.err != nil {
				return t.err.Error()
			}
			defer t.conn.Close()
			t.say(abuseMail)
			t.say(abuseRcpt)
			io.WriteString(t.conn, how+"\r\nSubject: x\r\n\r\nhalf")
			t.conn.(*net.TCPConn).CloseWrite()
			for {
				if r := t.read(); !strings.HasPrefix(r, "354 ") {
					return r
				}
			}
		}})
	}
	return rows
}

// oneByOne are n lines, each of whose answers is read although it is a refusal.
func oneByOne(n int, line string) []string {
	return []string{strings.TrimSuffix(strings.Repeat(line+"\r\n", n), "\r\n"), "<", "<", "<", "<", "<", "<", "<", "<", "<"}[:n]
}

// silent opens connections that say nothing; all get the same answer.
func (a *abuse) silent(door string, n int) string {
	answers := make([]string, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			t := a.dial(door)
			if t.err != nil {
				answers[i] = t.err.Error()
				return
			}
			defer t.conn.Close()
			if answers[i] = t.read(); strings.HasPrefix(answers[i], "220 ") {
				answers[i] = t.read()
			}
		})
	}
	all.Wait()
	for _, r := range answers {
		if r != answers[0] {
			return r + " beside " + answers[0]
		}
	}
	return answers[0]
}

// drip says the lines, and then an octet every tenth of a second: no wait is too
// long for itself, and yet they are together.
func (a *abuse) drip(door string, lines ...string) string {
	t := a.open(door)
	if t.err != nil {
		return t.err.Error()
	}
	defer t.conn.Close()
	for _, line := range lines {
		t.say(line)
	}
	answer := make(chan string, 1)
	go func() { answer <- t.read() }()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case r := <-answer:
			return r
		case <-tick.C:
			t.conn.Write([]byte("x"))
		}
	}
}

func abusiveTLS() []abuseRow {
	handshake := func(name, door string, rules func(*tls.Config), starttls bool) abuseRow {
		return abuseRow{"SMTP", name, "closed", func(a *abuse) string {
			t := a.dial(door)
			if t.err != nil {
				return t.err.Error()
			}
			defer t.conn.Close()
			if starttls {
				t.read()
				t.say("EHLO x")
				t.say("STARTTLS")
			}
			r := a.rules()
			rules(r)
			if err := t.secure(r); err == nil {
				return "the handshake succeeds"
			}
			return "closed"
		}}
	}
	garbage := func(name, octets string) abuseRow {
		return abuseRow{"SMTP", name, "closed", func(a *abuse) string {
			t := a.dial("implicit")
			if t.err != nil {
				return t.err.Error()
			}
			defer t.conn.Close()
			io.WriteString(t.conn, octets)
			t.conn.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, t.conn) // an alert may come first
			return t.read()
		}}
	}
	return []abuseRow{
		over("users", "STARTTLS with an argument", "501 5.5.4 STARTTLS has no argument", "STARTTLS now"),
		over("users", "STARTTLS under TLS", "503 5.5.1 TLS is on already", "STARTTLS", "EHLO x", "STARTTLS"),
		over("users", "a command behind STARTTLS", "421 4.7.0 Commands came behind STARTTLS in clear text; closing", "STARTTLS\r\nMAIL FROM:<evil@sender.example>"),
		over("users", "EHLO is forgotten by STARTTLS", "503 5.5.1 Say EHLO or HELO first", "STARTTLS", abuseMail),
		over("implicit", "STARTTLS at an implicit door", "502 5.5.1 Command not offered here", "STARTTLS"),
		over("users", "under TLS, not signed in", "530 5.7.0 Authentication required", "STARTTLS", "EHLO x", abuseMail),
		handshake("TLS 1.1 at an implicit door", "implicit", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false),
		handshake("TLS 1.0 by STARTTLS", "users", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }, true),
		garbage("SMTP at an implicit door", "EHLO x\r\nMAIL FROM:<a@sender.example>\r\n"),
		garbage("HTTP at an implicit door", "GET / HTTP/1.1\r\n\r\n"),
		garbage("a record of 64 KB", "\x16\x03\x01\xff\xff"+strings.Repeat("x", 65535)),
		garbage("half a handshake", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		garbage("SSL 2", "\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10"),
		{"SMTP", "a stranger at a listener with old TLS", "554 5.7.1 Only the trusted networks of this listener are served here", func(a *abuse) string {
			t := a.dial("legacy")
			if t.err != nil {
				return t.err.Error()
			}
			defer t.conn.Close()
			return t.read()
		}},
	}
}

func abusiveAuth() []abuseRow {
	const denied, base, form = "535 5.7.8 Authentication credentials invalid", "501 5.5.2 This is not base64", "501 5.5.2 This is not a response of the mechanism"
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	good := "AUTH PLAIN " + b64("\x00erp\x00s3cret")
	rows := []abuseRow{
		over("never", "AUTH where it is not offered", "502 5.5.1 Command not offered here", good),
		over("users", "AUTH in clear text", "538 5.7.11 Encryption required for authentication", good),
		over("required", "AUTH in clear text where TLS is required", "530 5.7.0 Must issue a STARTTLS command first", good),
		raw("clear", "AUTH before EHLO", "503 5.5.1 Say EHLO before AUTH", good+"\r\n"),
		over("clear", "AUTH twice", "503 5.5.1 Signed in already", good, good),
		over("required", "AUTH in a transaction", "503 5.5.1 AUTH is not permitted in a transaction", "STARTTLS", "EHLO x", abuseMail, good),
		over("clear", "AUTH cancelled", "501 5.7.0 Authentication cancelled", "AUTH LOGIN", "*"),
		over("clear", "an answer of 10 KB", "500 5.5.6 Command line too long", "AUTH PLAIN", strings.Repeat("A", 10_000)),
		over("clear", "three wrong passwords", "421 4.7.0 Too many failed sign-ins", "AUTH PLAIN "+b64("\x00erp\x00a")+"\r\nAUTH PLAIN "+b64("\x00erp\x00b")+"\r\nAUTH PLAIN "+b64("\x00erp\x00c"), "<", "<", "<"),
		over("clear", "a foreign return path", "550 5.7.1 erp may not send from boss@other.example (allowed: *@sender.example)", good, "MAIL FROM:<boss@other.example>"),
		over("clear", "a foreign From field", "550 5.7.1 erp may not send from the From field boss@other.example (allowed: *@sender.example)", good, abuseMail, abuseRcpt, "DATA", "From: boss@other.example\r\n\r\nx\r\n."),
		over("clear", "a second From field", "550 5.7.1 erp may not send from the From field boss@other.example (allowed: *@sender.example)", good, abuseMail, abuseRcpt, "DATA", "From: erp@sender.example\r\nFrom: boss@other.example\r\n\r\nx\r\n."),
		over("clear", "a second author", "550 5.7.1 erp may not send from the From field boss@other.example (allowed: *@sender.example)", good, abuseMail, abuseRcpt, "DATA", "From: erp@sender.example, boss@other.example\r\n\r\nx\r\n."),
		over("clear", "a From field that cannot be read", "550 5.7.1 the From field cannot be read, and erp may not send from every address (allowed: *@sender.example)", good, abuseMail, abuseRcpt, "DATA", "From: <<<boss@other.example\r\n\r\nx\r\n."),
		{"SMTP", "more messages than the rate", "450 4.7.1 shop has sent its 1/d, try again in …", func(a *abuse) string {
			shop := "AUTH PLAIN " + b64("\x00shop\x00s3cret")
			a.open("clear").play(shop, "MAIL FROM:<a@shop.example>", abuseRcpt, "DATA", "Subject: \x00\r\n.") // refused, and counted
			return a.open("clear").play(shop, "MAIL FROM:<a@shop.example>")
		}},
		{"SMTP", "the right password after five wrong ones", "454 4.7.0 Too many failed sign-ins from your address, try again in …", func(a *abuse) string {
			from := a.own()
			for range 5 {
				t := a.dialFrom(from, "clear")
				if t.err != nil {
					return t.err.Error()
				}
				t.read()
				t.say("EHLO x")
				t.say("AUTH PLAIN " + b64("\x00erp\x00wrong"))
				t.conn.Close()
			}
			t := a.dialFrom(from, "clear")
			t.read()
			return t.play("EHLO x", good)
		}},
	}
	for name, mechanism := range map[string]string{"ANONYMOUS": "ANONYMOUS", "EXTERNAL": "EXTERNAL =", "NTLM": "NTLM TlRMTVNTUAA=", "CRAM-MD5": "CRAM-MD5", "XOAUTH2": "XOAUTH2 eA==", "no word": "", "PLUS in clear text": "SCRAM-SHA-256-PLUS"} {
		rows = append(rows, over("clear", "mechanism: "+name, "504 5.5.4 This mechanism is not offered", "AUTH "+mechanism))
	}
	for name, text := range map[string]string{"signs": "!!!!", "no padding": "AGVycABzM2NyZXQ", "padding inside": "AG=ycABz", "URL alphabet": "AGV-cABz_2Ny", "one octet": "A", "a blank inside": "AGVy cABz"} {
		rows = append(rows, over("clear", "base64: "+name, base, "AUTH PLAIN "+text))
	}
	rows = append(rows, over("clear", "base64: wrong in the second answer", base, "AUTH LOGIN", b64("erp"), "s3cret!"))
	for name, text := range map[string]string{"no NUL": "erp", "one NUL": "\x00erp", "three NULs": "\x00erp\x00s3\x00cret", "no name": "\x00\x00s3cret", "no UTF-8": "\x00erp\x00\xff\xfe"} {
		rows = append(rows, over("clear", "PLAIN: "+name, form, "AUTH PLAIN "+b64(text)))
	}
	for name, text := range map[string]string{
		"a wrong password": "\x00erp\x00wrong", "an unknown user": "\x00root\x00s3cret", "an empty password": "\x00erp\x00", "in the name of another": "boss\x00erp\x00s3cret",
		"a password of 1,000 octets": "\x00erp\x00" + strings.Repeat("x", 1000), "SQL": "\x00' OR '1'='1\x00x", "a name of 1,000 octets": "\x00" + strings.Repeat("x", 1000) + "\x00x", "the hash as password": "\x00erp\x00$scram-sha-256$",
	} {
		rows = append(rows, over("clear", "PLAIN: "+name, denied, "AUTH PLAIN "+b64(text)))
	}
	rows = append(rows, over("clear", "LOGIN: a wrong password", denied, "AUTH LOGIN", b64("erp"), b64("wrong")))
	for name, text := range map[string]string{
		"no message": "x", "a binding in clear text": "p=tls-exporter,,n=erp,r=abc", "an extension": "n,,m=x,n=erp,r=abc", "no nonce": "n,,n=erp", "a name that is none": "n,,n=a=b,r=abc",
	} {
		rows = append(rows, over("clear", "SCRAM: "+name, denied, "AUTH SCRAM-SHA-256 "+b64(text)))
	}
	rows = append(rows,
		over("clear", "SCRAM: no proof", denied, "AUTH SCRAM-SHA-256 "+b64("n,,n=erp,r=abc"), b64("c=biws,r=abc,p=AAAA")),
		over("implicit", "SCRAM: hidden PLUS", denied, "AUTH SCRAM-SHA-256 "+b64("y,,n=erp,r=abc")),
		over("implicit", "SCRAM: PLUS without a binding", denied, "AUTH SCRAM-SHA-256-PLUS "+b64("n,,n=erp,r=abc")),
		over("implicit", "SCRAM: PLUS with a broken binding", denied, "AUTH SCRAM-SHA-256-PLUS "+b64("p=tls-unique,,n=erp,r=abc")),
	)
	return rows
}

func abusiveProxy() []abuseRow {
	const magic = "\r\n\r\n\x00\r\nQUIT\n"
	play := func(name, want, header string) abuseRow {
		return abuseRow{"PROXY", name, want, func(a *abuse) string {
			t := a.dial("proxy")
			if t.err != nil {
				return t.err.Error()
			}
			defer t.conn.Close()
			io.WriteString(t.conn, header)
			for { // up to the first refusal
				if r := t.read(); r[0] != '2' {
					return r
				}
			}
		}}
	}
	const relay = "EHLO x\r\n" + abuseMail + "\r\n" + abuseRcpt + "\r\n"
	rows := []abuseRow{
		play("a client that is not trusted", "550 5.7.1 Relaying denied: …", "PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\n"+relay),
		play("UNKNOWN", "550 5.7.1 Relaying denied: …", "PROXY UNKNOWN\r\n"+relay),
		play("LOCAL with a trusted address", "550 5.7.1 Relaying denied: …", magic+"\x20\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19"+relay),
		play("a trusted address by UDP", "550 5.7.1 Relaying denied: …", magic+"\x21\x12\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19"+relay),
		play("two headers", "500 5.5.2 Command not known", "PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\nPROXY TCP4 198.51.100.7 192.0.2.1 5000 25\r\n"),
	}
	for name, header := range map[string]string{
		"nothing": "", "SMTP": "EHLO client.example\r\n", "too few fields": "PROXY TCP4 198.51.100.7\r\n", "no address": "PROXY TCP4 999.51.100.7 192.0.2.1 5000 25\r\n", "a family that lies": "PROXY TCP4 2001:db8::7 2001:db8::1 5000 25\r\n",
		"a port beyond all": "PROXY TCP4 198.51.100.7 192.0.2.1 99999 25\r\n", "no end": "PROXY TCP4 198.51.100.7 192.0.2.1 5000 25 " + strings.Repeat("x", 200), "LF alone": "PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\n" + relay,
		"version 3": magic + "\x31\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19", "a length of 64 KB": magic + "\x21\x11\xff\xff" + strings.Repeat("x", 65535), "a length too short": magic + "\x21\x11\x00\x04\xc6\x33\x64\x07",
		"a family that is none": magic + "\x21\x5f\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19", "a TLS handshake": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "half a header": magic[:7], "HTTP": "GET / HTTP/1.1\r\n\r\n",
	} {
		rows = append(rows, play("a header with "+name, "closed", header))
	}
	return rows
}
