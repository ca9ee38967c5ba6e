package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// ask sends a request as a user and gives the answer in one line: the status,
// the field at fault, and what is wrong.
func (a *abuse) ask(method, path, kind string, body io.Reader, change func(*http.Request)) string {
	q, err := http.NewRequest(method, "http://"+a.ports["http"]+path, body)
	if err != nil {
		return err.Error()
	}
	q.SetBasicAuth("erp", "s3cret")
	if kind != "" {
		q.Header.Set("Content-Type", kind)
	}
	if change != nil {
		change(q)
	}
	return a.askAs(a.own(), q)
}

func (a *abuse) askAs(from netip.Addr, q *http.Request) string {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
	client := &http.Client{Timeout: rowTime, Transport: &http.Transport{DialContext: d.DialContext, DisableKeepAlives: true}}
	r, err := client.Do(q)
	if err != nil {
		return err.Error()
	}
	defer r.Body.Close()
	return answerOf(r)
}

// answerOf is a response in one line.
func answerOf(r *http.Response) string {
	text, _ := io.ReadAll(io.LimitReader(r.Body, 1<<20)) // the status may be all that comes through
	out := fmt.Sprint(r.StatusCode)
	var p struct {
		Field, Detail, Message string
		Errors                 []json.RawMessage // SendGrid's are objects, and all that is told
	}
	if json.Unmarshal(text, &p) != nil {
		return out + " " + strings.TrimSpace(string(text[:min(80, len(text))]))
	}
	if p.Detail+p.Message == "" && len(p.Errors) > 0 {
		_ = json.Unmarshal(p.Errors[0], &p) // what is no object tells nothing
	}
	if p.Field != "" {
		out += " " + p.Field + ":"
	}
	return out + " " + p.Detail + p.Message
}

// posted makes a row of a JSON message; {…} is put into one that is good
// otherwise.
func posted(name, want, members string) abuseRow {
	body := `{"from":"erp@sender.example","to":"victim@abuse.example","subject":"x","text":"x"`
	if members != "" {
		body += "," + members
	}
	return postedJSON(name, want, body+"}")
}

func postedJSON(name, want, body string) abuseRow { return postedTo("/v1/messages", name, want, body) }

func postedTo(path, name, want, body string) abuseRow {
	return abuseRow{"HTTP", name, want, func(a *abuse) string {
		return a.ask("POST", path, "application/json", strings.NewReader(body), nil)
	}}
}

// requested makes a row of octets sent to the HTTP port.
func requested(name, want string, octets ...string) abuseRow {
	return abuseRow{"HTTP", name, want, func(a *abuse) string {
		t := a.dial("http")
		if t.err != nil {
			return t.err.Error()
		}
		defer t.conn.Close()
		go func() {
			for _, piece := range octets {
				if _, err := io.WriteString(t.conn, piece); err != nil {
					return // the daemon has heard enough
				}
			}
		}()
		r, err := http.ReadResponse(bufio.NewReader(t.conn), nil)
		if err != nil {
			return "closed"
		}
		defer r.Body.Close()
		return answerOf(r)
	}}
}

func abusiveRequests() []abuseRow {
	signIn := func(name, want string, change func(*http.Request)) abuseRow {
		return abuseRow{"HTTP", name, want, func(a *abuse) string {
			return a.ask("POST", "/v1/messages", "application/json", strings.NewReader(`{"from":"erp@sender.example","to":"victim@abuse.example","subject":"x","text":"x"}`), change)
		}}
	}
	header := func(name, value string) func(*http.Request) {
		return func(q *http.Request) { q.Header.Set(name, value) }
	}
	path := func(name, want, method, path string) abuseRow {
		return abuseRow{"HTTP", name, want, func(a *abuse) string { return a.ask(method, path, "", nil, nil) }}
	}
	const none, wrong = "401 sign in with …", "401 the token is wrong"
	rows := []abuseRow{
		signIn("no token", none, func(q *http.Request) { q.Header.Del("Authorization") }),
		signIn("a scheme that is none", none, header("Authorization", "Digest username=erp")),
		signIn("an empty token", wrong, header("Authorization", "Bearer ")),
		signIn("a wrong token", wrong, header("Authorization", "Bearer mo_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")),
		signIn("a wrong password", wrong, func(q *http.Request) { q.SetBasicAuth("erp", "wrong") }),
		signIn("an unknown user", wrong, func(q *http.Request) { q.SetBasicAuth("root", "s3cret") }),
		signIn("a token of 60 KB", wrong, header("Authorization", "Bearer "+strings.Repeat("x", 60_000))),
		signIn("the wrong token of another service", wrong, func(q *http.Request) {
			q.Header.Del("Authorization")
			q.Header.Set("X-Postmark-Server-Token", "x")
		}),
		signIn("Basic that is no base64", none, header("Authorization", "Basic !!!")),
		signIn("a user without the scope", "403 …", func(q *http.Request) { q.SetBasicAuth("ops", "s3cret") }),
		signIn("a page from elsewhere", "403 requests of pages from elsewhere are not taken", header("Sec-Fetch-Site", "cross-site")),
		signIn("a form from elsewhere", "403 requests of pages from elsewhere are not taken", header("Origin", "https://evil.example")),
		signIn("a name pointed to loopback", "421 Host: evil.example is not a name of this listener ([http] names)", func(q *http.Request) { q.Host = "evil.example" }),
		signIn("compressed content", "415 Content-Encoding: the content must not be compressed", header("Content-Encoding", "gzip")),
		signIn("a form", "415 Content-Type: the content must be …", header("Content-Type", "application/x-www-form-urlencoded")),
		signIn("a form with files", "415 Content-Type: the content must be …", header("Content-Type", "multipart/form-data; boundary=x")),
		signIn("no content type", "415 Content-Type: the content must be …", header("Content-Type", "")),
		signIn("JSON in Latin 1", "415 Content-Type: the content must be …", header("Content-Type", "application/json; charset=iso-8859-1")),
		signIn("an empty Idempotency-Key", "400 Idempotency-Key: …", header("Idempotency-Key", "")),
		signIn("an Idempotency-Key of 256 octets", "400 Idempotency-Key: …", header("Idempotency-Key", strings.Repeat("k", 256))),
		signIn("an Idempotency-Key in Greek", "400 Idempotency-Key: …", header("Idempotency-Key", "κλειδί")),
		signIn("two Idempotency-Keys", "400 Idempotency-Key: …", func(q *http.Request) { q.Header["Idempotency-Key"] = []string{"a", "b"} }),
		path("a path that is none", "404 …", "GET", "/admin"), path("a path out of the API", "404 …", "GET", "/v1/%2e%2e/%2e%2e/etc/passwd"), path("PHP", "404 …", "GET", "/wp-login.php"), path("a deletion of all", "405 …", "DELETE", "/v1/messages"),
		path("the queues, without the scope", "403 …", "GET", "/v1/queues"), path("the metrics, without the scope", "403 …", "GET", "/metrics"), path("a reload, without the scope", "403 …", "POST", "/v1/config/reload"),
		path("the command line's own way in", "403 …", "POST", "/v1/handover"), path("the identity, without the scope", "403 …", "GET", "/v1/doctor"), path("the message of another", "404 …", "GET", "/v1/messages/01J00000000000000000000000"),
		{"HTTP", "the sixth wrong password", "429 too many failed sign-ins, try again in …", func(a *abuse) string {
			from, last := a.own(), ""
			for range 6 {
				q, err := http.NewRequest("POST", "http://"+a.ports["http"]+"/v1/messages", strings.NewReader("{}"))
				if err != nil {
					return err.Error()
				}
				q.SetBasicAuth("erp", "wrong")
				last = a.askAs(from, q)
			}
			return last
		}},
		a100("JSON of 100 MB", "413 the request has more than …", "application/json", "/v1/messages", "Transfer-Encoding: chunked\r\n\r\n5f5e100\r\n"),
		a100("a message of 100 MB", "413 …", "message/rfc822", "/v1/messages?from=erp@sender.example&to=victim@abuse.example", "Transfer-Encoding: chunked\r\n\r\n5f5e100\r\n"),
		a100("100 MB, announced", "413 the request has more than …", "application/json", "/v1/messages", "Content-Length: 100000000\r\n\r\n"),
		requested("SMTP", "400 …", "EHLO client.example\r\nMAIL FROM:<a@sender.example>\r\n\r\n"),
		requested("a TLS handshake", "400 …", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
		requested("HTTP/9.9", "505 …", "GET /v1/messages HTTP/9.9\r\nHost: localhost\r\n\r\n"),
		requested("no Host", "400 …", "GET /v1/messages HTTP/1.1\r\n\r\n"),
		requested("a header of 2 MB", "431 …", "GET /v1/messages HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 2<<20)+"\r\n\r\n"),
		requested("ten thousand header fields", "431 …", "GET /v1/messages HTTP/1.1\r\nHost: localhost\r\n"+strings.Repeat("X: y12345\r\n", 10_000)+"\r\n"),
		requested("two lengths", "400 …", "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n"+signedIn+"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}   "),
		requested("a length that is none", "400 …", "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n"+signedIn+"Content-Length: -1\r\n\r\n"),
		requested("a transfer coding that is none", "501 …", "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n"+signedIn+"Transfer-Encoding: x\r\n\r\n"),
		requested("a chunk that is none", "400 the request ended before its end", "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\n"+signedIn+"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n"),
		requested("NUL in a header", "400 …", "GET /v1/messages HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n"),
		requested("a blank before the colon", "400 …", "GET /v1/messages HTTP/1.1\r\nHost: localhost\r\nX : b\r\n\r\n"),
		requested("half a header, and silence", "closed", "POST /v1/messages HTTP/1.1\r\nHost: loc"),
		{"HTTP", "100 connections that say nothing", "closed", func(a *abuse) string { return a.silent("http", 100) }},
	}
	return append(append(rows, abusiveJSON()...), abusiveForeign()...)
}

// signedIn is what erp says in a request of octets.
const signedIn = "Authorization: Basic ZXJwOnMzY3JldA==\r\n"

// a100 makes a row of a body of 100 MB; head ends in its first octets.
func a100(name, want, kind, path, head string) abuseRow {
	return abuseRow{"HTTP", name, want, func(a *abuse) string {
		return requested("", "", "POST "+path+" HTTP/1.1\r\nHost: localhost\r\n"+signedIn+"Content-Type: "+kind+"\r\n"+head, hundred()).run(a)
	}}
}

func abusiveJSON() []abuseRow {
	var rows []abuseRow
	for name, body := range map[string]string{
		"nothing": "", "no JSON": "hello", "half JSON": `{"from":"erp@sender.example"`, "something behind it": `{"from":"erp@sender.example","to":"victim@abuse.example","text":"x"} {}`, "a comma too many": `{"from":"erp@sender.example",}`, "names without quotes": `{from:"x"}`,
		"XML": "<message/>",
	} {
		rows = append(rows, postedJSON("JSON: "+name, "400 not JSON at octet …", body))
	}
	rows = append(rows,
		postedJSON("JSON: a list", "422 an object is expected here, not a list", "[]"),
		postedJSON("JSON: a hundred thousand deep", "422 …", strings.Repeat("[", 100_000)),
		postedJSON("JSON: deep inside", "422 …", `{"metadata":`+strings.Repeat(`{"a":`, 100_000)),
		posted("JSON: a member twice", "422 to: it is there twice", `"to":"x@abuse.example"`),
		posted("JSON: an unknown member", "422 exec: …", `"exec":"id"`),
		posted("JSON: no UTF-8", "400 reply_to: the text is not UTF-8", "\"reply_to\":\"a\xff@b.example\""),
		posted("JSON: half of a surrogate pair", "400 html: …", `"html":"\ud800"`),
		posted("JSON: a control character", "400 html: not JSON at octet …", "\"html\":\"a\x01b\""),
		posted("JSON: an object for text", "422 html: text is expected here, not an object", `"html":{"$gt":""}`),
		posted("JSON: a number for a list", "422 attachments: a list is expected here, not a number", `"attachments":7`),
		postedJSON("no sender", "422 from: from is missing", `{"to":"victim@abuse.example","text":"x"}`),
		postedJSON("no recipients", "422 to: no recipients", `{"from":"erp@sender.example","text":"x"}`),
		postedJSON("no content", "422 text: the message is empty: …", `{"from":"erp@sender.example","to":"victim@abuse.example"}`),
		postedJSON("another's address as sender", "403 from: erp may not send from boss@other.example (allowed: *@sender.example)", `{"from":"Boss <boss@other.example>","to":"victim@abuse.example","text":"x"}`),
		posted("another's return path", "403 return_path: erp may not send from boss@other.example (allowed: *@sender.example)", `"return_path":"boss@other.example"`),
		postedJSON("another's address in a raw message", "403 from: erp may not send from the From field boss@other.example (allowed: *@sender.example)", `{"return_path":"erp@sender.example","to":"victim@abuse.example","raw":"RnJvbTogYm9zc0BvdGhlci5leGFtcGxlDQoNCng="}`),
		postedJSON("101 recipients", "422 to: …", `{"from":"erp@sender.example","text":"x","to":[`+manyTexts(101)+`]}`),
		posted("a raw message beside fields", "422 subject: it has no place beside raw, which is the whole message", `"raw":"eA=="`),
		postedJSON("a raw message that is no base64", "422 raw: …", `{"from":"erp@sender.example","to":"victim@abuse.example","raw":"!!!"}`),
		postedJSON("a raw message with NUL", "422 a NUL on line 3", `{"from":"erp@sender.example","to":"victim@abuse.example","raw":"U3ViamVjdDogeA0KDQphAGI="}`),
		posted("a stream that is none", "422 stream: …", `"stream":"../../x"`),
		posted("text with NUL", "422 html: …", `"html":"a\u0000b"`),
	)
	for name, address := range map[string]string{
		"a line end": `victim@abuse.example\r\nBcc: x@abuse.example`, "CR LF RCPT": `victim@abuse.example>\r\nRCPT TO:<x@abuse.example`, "localhost": "victim@localhost", "a percent hack": "x%y.example@abuse.example", "no domain": "root", "an option": "-oQ@abuse.example", "two addresses": "a@b.example,victim@abuse.example", "an empty text": "",
	} {
		rows = append(rows, postedJSON("recipient: "+name, "422 to[0]: …", `{"from":"erp@sender.example","text":"x","to":["`+address+`"]}`))
	}
	for name, members := range map[string]string{
		"a line end in the subject": `"headers":{"X-A":"b\r\nBcc: x@abuse.example"}`, "a line end in a name": `"headers":{"X-A\r\nBcc":"x@abuse.example"}`, "a colon in a name": `"headers":{"X:A":"b"}`, "Bcc": `"headers":{"Bcc":"x@abuse.example"}`, "a second From": `"headers":{"From":"boss@other.example"}`,
		"a Received": `"headers":{"Received":"from evil"}`, "a Return-Path": `"headers":{"Return-Path":"<x@abuse.example>"}`, "NUL": `"headers":{"X-A":"a\u0000b"}`, "an empty name": `"headers":{"":"b"}`, "a name in Greek": `"headers":{"Χ":"b"}`, "Content-Type": `"headers":{"Content-Type":"text/html"}`,
	} {
		rows = append(rows, posted("header: "+name, "422 headers…", members))
	}
	for name, members := range map[string]string{
		"a path up": `"name":"../../etc/passwd"`, "an absolute path": `"name":"/etc/passwd"`, "a path of Windows": `"name":"..\\..\\x.exe"`, "a line end": `"name":"a\r\nBcc: x@abuse.example"`, "NUL": `"name":"a.pdf\u0000.exe"`, "a name of 10 KB": `"name":"` + strings.Repeat("x", 10_000) + `"`,
		"a type with a line end": `"name":"a","type":"text/plain\r\nX: y"`, "a type that is none": `"name":"a","type":"evil"`, "a cid with a line end": `"name":"a","inline":true,"cid":"x>\r\nX: y"`, "text that turns round": `"name":"a\u202egpj.exe"`,
	} {
		rows = append(rows, posted("attachment: "+name, "422 attachments[0]…", `"attachments":[{`+members+`,"content":"eA=="}]`))
	}
	rows = append(rows,
		posted("attachment: no base64", "422 attachments[0].content: …", `"attachments":[{"name":"a","content":"!!!"}]`),
		posted("attachment: base64 with one octet too many", "422 attachments[0].content: …", `"attachments":[{"name":"a","content":"eA==A"}]`),
		posted("attachment: a file of this machine", "422 attachments[0].path: …", `"attachments":[{"name":"a","path":"/etc/passwd"}]`),
		posted("attachment: without content", "422 attachments[0]…", `"attachments":[{"name":"a"}]`),
		posted("attachments: a thousand", "422 attachments: …", `"attachments":[`+strings.TrimSuffix(strings.Repeat(`{"name":"a","content":"eA=="},`, 1001), ",")+`]`),
		posted("tags: a thousand", "422 tags: …", `"tags":[`+strings.TrimSuffix(strings.Repeat(`"a",`, 1000), ",")+`]`),
		posted("tags: a line end", "422 tags…", `"tags":["a\nb"]`),
		posted("metadata: a list inside", "422 metadata.a: …", `"metadata":{"a":[1]}`),
		posted("metadata: 100 KB", "422 metadata…", `"metadata":{"a":"`+strings.Repeat("x", 100_000)+`"}`),
		posted("send_at: no time", "422 send_at: …", `"send_at":"tomorrow"`),
		posted("send_at: the year 9999", "422 send_at: …", `"send_at":"9999-01-01T00:00:00Z"`),
		posted("expire: in the past", "422 expire: …", `"expire":"2001-01-01T00:00:00Z"`),
		posted("expire: a span that is none", "422 expire: …", `"expire":"-5h"`),
		postedTo("/v1/messages?to=x@abuse.example", "a query beside JSON", "400 to: with JSON everything stands in the body, not in the query", "{}"),
		postedTo("/v1/messages/batch", "batch: no recipients", "422 …", `{"from":"erp@sender.example","subject":"x","text":"x","recipients":[]}`),
		postedTo("/v1/messages/batch", "batch: one that is none", "422 …", `{"from":"erp@sender.example","subject":"x","text":"x","recipients":[{"to":"victim@abuse.example"},{"to":"a..b@abuse.example"}]}`),
	)
	whole := func(name, want, query, content string) abuseRow {
		return abuseRow{"HTTP", name, want, func(a *abuse) string {
			return a.ask("POST", "/v1/messages"+query, "message/rfc822", bytes.NewReader([]byte(content)), nil)
		}}
	}
	const env = "?from=erp@sender.example&to=victim@abuse.example"
	return append(rows,
		whole("raw: no sender", "400 from: from is missing (empty means no return path)", "?to=victim@abuse.example", "Subject: x\r\n\r\nx"),
		whole("raw: no recipients", "400 to: at least one recipient is needed", "?from=erp@sender.example", "Subject: x\r\n\r\nx"),
		whole("raw: an unknown parameter", "400 bcc: …", env+"&bcc=x@abuse.example", "Subject: x\r\n\r\nx"),
		whole("raw: two senders", "422 from: it is there twice", env+"&from=boss@other.example", "Subject: x\r\n\r\nx"),
		whole("raw: a recipient with a line end", "422 to[0]: …", "?from=erp@sender.example&to=victim@abuse.example%0d%0aRCPT", "Subject: x\r\n\r\nx"),
		whole("raw: another's address as author", "403 from: erp may not send from the From field boss@other.example (allowed: *@sender.example)", env, "From: boss@other.example\r\n\r\nx"),
		whole("raw: NUL", "422 …", env, "Subject: x\r\n\r\na\x00b"),
		whole("raw: a loop", "422 …", env, strings.Repeat("Received: from a by b; Mon, 1 Jan 2024 00:00:00 +0000\r\n", 40)+"\r\nx"),
		whole("raw: nothing", "422 the message is empty", env, ""),
		requested("raw: a header of 4 MB", "413 …", "POST /v1/messages"+env+" HTTP/1.1\r\nHost: localhost\r\n"+signedIn+"Content-Type: message/rfc822\r\nContent-Length: 5000000\r\n\r\n", strings.Repeat("X-Fill: "+strings.Repeat("x", 900)+"\r\n", 4600)),
	)
}

func manyTexts(n int) string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf(`"victim%d@abuse.example"`, i))
	}
	return strings.Join(all, ",")
}

// foreign are the services whose clients are answered, with a message in the
// shape of each: the sender, the recipient and further members are put in.
var foreign = map[string]struct{ path, message, header, file string }{
	"Resend": {"/emails", `{"from":"FROM","to":["TO"],"subject":"x","text":"x"MORE}`, `,"headers":{"X":"VALUE"}`, `,"attachments":[{"filename":"NAME","content":"eA=="}]`},
	"SendGrid": {"/v3/mail/send", `{"from":{"email":"FROM"},"personalizations":[{"to":[{"email":"TO"}]}],"subject":"x","content":[{"type":"text/plain","value":"x"}]MORE}`,
		`,"headers":{"X":"VALUE"}`, `,"attachments":[{"filename":"NAME","content":"eA=="}]`},
	"Postmark": {"/email", `{"From":"FROM","To":"TO","Subject":"x","TextBody":"x"MORE}`, `,"Headers":[{"Name":"X","Value":"VALUE"}]`, `,"Attachments":[{"Name":"NAME","Content":"eA==","ContentType":"text/plain"}]`},
}

func abusiveForeign() []abuseRow {
	var rows []abuseRow
	for door, of := range foreign {
		message := func(from, to, more string) string {
			return strings.NewReplacer("FROM", from, "TO", to, "MORE", more).Replace(of.message)
		}
		post := func(name, body string, change func(*http.Request)) {
			rows = append(rows, abuseRow{"HTTP", door + ": " + name, "4…", func(a *abuse) string {
				return a.ask("POST", of.path, "application/json", strings.NewReader(body), change)
			}})
		}
		const me, victim = "erp@sender.example", "victim@abuse.example"
		post("no token", message(me, victim, ""), func(q *http.Request) { q.Header.Del("Authorization") })
		post("a wrong token", message(me, victim, ""), func(q *http.Request) { q.Header.Set("Authorization", "Bearer x") })
		post("another's address", message("boss@other.example", victim, ""), nil)
		post("a recipient with a line end", message(me, victim+`\r\nRCPT TO:<x>`, ""), nil)
		post("a header with a line end", message(me, victim, strings.Replace(of.header, "VALUE", `a\r\nBcc: x@abuse.example`, 1)), nil)
		post("an attachment with NUL in its name", message(me, victim, strings.Replace(of.file, "NAME", `a.pdf\u0000.exe`, 1)), nil)
		post("no JSON", "hello", nil)
	}
	return rows
}
