package httpapi

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mailout/internal/account"
)

// with is simple with further members.
func with(members string) string { return strings.TrimSuffix(simple, "}") + "," + members + "}" }

// instead is simple with one member replaced.
func instead(name, value string) string {
	parts := map[string]string{"from": `"ann@example.com"`, "to": `"bob@example.net"`, "subject": `"Hello"`, "text": `"Hi"`}
	parts[name] = value
	var b strings.Builder
	for _, n := range []string{"from", "to", "subject", "text"} {
		if parts[n] != "" {
			fmt.Fprintf(&b, "%c%q:%s", map[bool]byte{true: '{', false: ','}[b.Len() == 0], n, parts[n])
		}
	}
	return b.String() + "}"
}

// TestAbusiveRequests: each has its documented refusal, and nothing is stored.
func TestAbusiveRequests(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	many := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	file := func(members string) string { return with(`"attachments":[{` + members + `}]`) }
	for _, c := range []struct {
		name, body  string
		status      int
		field, text string
	}{
		{"nothing", "", 400, "", "it ends too early"},
		{"spaces", " \n ", 400, "", "it ends too early"},
		{"no JSON", "from=ann@example.com", 400, "", "not JSON at octet 1 (line 1)"},
		{"a list", "[" + simple + "]", 422, "", "an object is expected here, not a list"},
		{"a text", `"` + "x" + `"`, 422, "", "not text"},
		{"null", "null", 422, "", "not null"},
		{"cut off", simple[:len(simple)-1], 400, "", "a comma or } is expected"},
		{"cut off in a text", simple[:len(simple)-2], 400, "text", "text does not end"},
		{"cut off in an escape", `{"text":"\`, 400, "text", "text does not end"},
		{"an escape that is none", instead("text", `"\u12_4"`), 400, "text", "hexadecimal"},
		{"cut off in a unicode escape", `{"text":"\u12`, 400, "text", "text does not end"},
		{"two values", simple + simple, 400, "", "something behind"},
		{"a comma behind", simple + ",", 400, "", "something behind"},
		{"NUL behind", simple + "\x00", 400, "", "something behind"},
		{"a comma too many", `{"from":"ann@example.com",}`, 400, "", "the name of a member"},
		{"no colon", `{"from" "ann@example.com"}`, 400, "", "a colon"},
		{"a comment", `{/* x */"from":"ann@example.com"}`, 400, "", "the name of a member"},
		{"a name without quotes", `{from:"ann@example.com"}`, 400, "", "the name of a member"},
		{"single quotes", `{'from':'ann@example.com'}`, 400, "", "the name of a member"},
		{"NaN", instead("text", "NaN"), 400, "text", "text is expected"},
		{"nul", instead("text", "nul"), 400, "text", "null is expected"},
		{"tru", file(`"inline":tru`), 400, "attachments[0].inline", "true or false is expected"},
		{"no UTF-8", instead("text", "\"\xff\xfe\""), 400, "text", "not UTF-8"},
		{"no UTF-8 in a name", "{\"\xc3\x28\":1}", 400, "", "not UTF-8"},
		{"half a surrogate pair", instead("text", `"\ud83d"`), 400, "text", "surrogate"},
		{"half a pair, and text", instead("text", `"\ud83dxxxxxx"`), 400, "text", "surrogate"},
		{"the wrong half", instead("text", `"\ude00\ud83d"`), 400, "text", "surrogate"},
		{"an unknown escape", instead("text", `"\x41"`), 400, "text", "no such escape"},
		{"a line end in text", instead("text", "\"a\nb\""), 400, "text", "control character"},
		{"deep nesting", strings.Repeat("[", 100_000), 422, "", "not a list"},
		{"deep nesting below", instead("to", strings.Repeat("[", 100_000)), 422, "to[0]", "an address is expected"},
		{"deep objects", with(`"metadata":` + strings.Repeat(`{"a":`, 50_000)), 422, "metadata.a", "text is expected here, not an object"},
		{"a member twice", with(`"from":"eve@example.com"`), 422, "from", "twice"},
		{"a member twice, escaped", with(`"\u0066rom":"eve@example.com"`), 422, "from", "twice"},
		{"a member twice below", with(`"metadata":{"a":"1","a":"2"}`), 422, "metadata.a", "twice"},
		{"a misspelt member", with(`"subjet":"x"`), 422, "subjet", "is subject meant?"},
		{"another case", with(`"Subject":"x"`), 422, "Subject", "is subject meant?"},
		{"another style", with(`"replyTo":"x@example.com"`), 422, "replyTo", "is reply_to meant?"},
		{"an unknown member", with(`"__proto__":{}`), 422, "__proto__", "no such member"},
		{"a nameless member", with(`"":1`), 422, `""`, "no such member"},
		{"a member with a line end", with(`"a\r\nb":1`), 422, "a??b", "no such member"},
		{"a member of a megabyte", with(`"` + strings.Repeat("x", 1<<20) + `":1`), 422, strings.Repeat("x", 64) + "…", "no such member"},
		{"many members", with(`"metadata":{` + manyPairs(5000) + `}`), 422, "metadata.k32", "more than 32"},
		{"a number for text", instead("subject", "1"), 422, "subject", "text is expected here, not a number"},
		{"an object for text", instead("text", `{"$ne":null}`), 422, "text", "not an object"},
		{"a text for truth", file(`"inline":"yes"`), 422, "attachments[0].inline", "not text"},
		{"a text for a list", with(`"attachments":"x"`), 422, "attachments", "a list is expected"},

		{"no from", instead("from", ""), 422, "from", "missing"},
		{"empty from", instead("from", `""`), 422, "from", "missing"},
		{"two authors", instead("from", `["a@example.com","b@example.com"]`), 422, "from", "an address is expected"},
		{"from without a domain", instead("from", `"ann"`), 422, "from", "ann"},
		{"from with a line end", instead("from", `"ann@example.com\r\nBcc: eve@example.com"`), 422, "from", ""},
		{"a name with a line end", instead("from", `{"name":"Ann\r\nBcc: eve@example.com","address":"ann@example.com"}`), 422, "from", "a carriage return"},
		{"a name with a NUL", instead("to", `[{"name":"a\u0000b","address":"bob@example.net"}]`), 422, "to[0]", "a NUL"},
		{"a name with NEL", instead("to", `[{"name":"a\u0085b","address":"bob@example.net"}]`), 422, "to[0]", ""},
		{"an address without its member", instead("to", `[{"name":"Bob"}]`), 422, "to[0]", "the address is missing"},
		{"an address by two names", instead("to", `{"address":"a@example.net","email":"b@example.net"}`), 422, "to.email", "twice"},
		{"an unknown member of an address", instead("to", `{"adress":"a@example.net"}`), 422, "to.adress", "is address meant?"},
		{"no recipients", instead("to", "[]"), 422, "to", "no recipients"},
		{"no to", instead("to", ""), 422, "to", "no recipients"},
		{"several addresses in a text", instead("to", `"a@example.net, b@example.net"`), 422, "to[0]", ""},
		{"several with names", instead("to", `"a@example.net, Bob <b@example.net>"`), 422, "to", "make a list"},
		{"a recipient with a route", instead("to", `"bob%other.example@example.net"`), 422, "to[0]", ""},
		{"a recipient like an option", instead("to", `"-oQ/tmp@example.net"`), 422, "to[0]", ""},
		{"a recipient of one label", instead("to", `"root@localhost"`), 422, "to[0]", ""},
		{"a recipient with a line end", instead("to", `"bob@example.net\nRCPT TO:<eve@example.net>"`), 422, "to", "cannot be read"},
		{"a recipient with an angle bracket", instead("to", `"bob@example.net> NOTIFY=SUCCESS"`), 422, "to[0]", ""},
		{"a long local part", instead("to", `"`+strings.Repeat("a", 65)+`@example.net"`), 422, "to[0]", ""},
		{"a wrong cc", with(`"cc":["bob@example.net","@"]`), 422, "cc[1]", ""},
		{"a wrong bcc", with(`"bcc":"eve"`), 422, "bcc[0]", ""},
		{"too many recipients", instead("to", many(51, `"bob@example.net"`)), 422, "to", "more than 50"},
		{"too many of all kinds", with(`"cc":` + many(30, `"c@example.net"`) + `,"bcc":` + many(30, `"d@example.net"`)), 422, "to", "at most 50"},
		{"a wrong return path", with(`"return_path":"nobody"`), 422, "return_path", ""},
		{"a return path with a line end", with(`"return_path":"a@example.com\r\nX: y"`), 422, "return_path", ""},
		{"a wrong reply_to", with(`"reply_to":"nobody"`), 422, "reply_to[0]", ""},

		{"an empty message", instead("text", ""), 422, "text", "empty"},
		{"a subject with a line end", instead("subject", `"Hi\r\nBcc: eve@example.com"`), 422, "subject", "a carriage return"},
		{"a subject with a NUL", instead("subject", `"a\u0000"`), 422, "subject", "a NUL"},
		{"a long subject", instead("subject", `"`+strings.Repeat("x", 2001)+`"`), 422, "subject", "at most 2000"},
		{"a text with a NUL", instead("text", `"a\u0000"`), 422, "text", "a NUL"},
		{"a header with a line end", with(`"headers":{"X-A":"1\r\nBcc: eve@example.com"}`), 422, "headers[0].value", "a carriage return"},
		{"a header's name with a line end", with(`"headers":{"X-A: 1\r\nBcc":"eve@example.com"}`), 422, "headers[0].name", "printable"},
		{"a header's name with a colon", with(`"headers":{"X-A:":"1"}`), 422, "headers[0].name", "printable"},
		{"a header without a name", with(`"headers":{"":"1"}`), 422, "headers[0].name", "printable"},
		{"Bcc as a header", with(`"headers":{"bCC":"eve@example.com"}`), 422, "headers[0].name", "bcc"},
		{"From as a header", with(`"headers":[{"name":"From","value":"eve@example.com"}]`), 422, "headers[0].name", "place of its own"},
		{"Received as a header", with(`"headers":{"Received":"from x by y"}`), 422, "headers[0].name", "servers"},
		{"a signature as a header", with(`"headers":{"DKIM-Signature":"v=1"}`), 422, "headers[0].name", "servers"},
		{"Content-Type as a header", with(`"headers":{"Content-Type":"text/html"}`), 422, "headers[0].name", "parts"},
		{"too many headers", with(`"headers":` + many(101, `{"name":"X-A","value":"1"}`)), 422, "headers", "more than 100"},
		{"too many headers of a name", with(`"headers":{"X-A":` + many(101, `"1"`) + `}`), 422, "headers.X-A", "more than 100"},
		{"too many headers in all", with(`"headers":{"X-A":` + many(60, `"1"`) + `,"X-B":` + many(60, `"1"`) + `}`), 422, "headers.X-B[40]", "more than 100"},
		{"a header that is an object", with(`"headers":{"X-A":{}}`), 422, "headers.X-A", "not an object"},
		{"a long header", with(`"headers":{"X-A":"` + strings.Repeat("x ", 5000) + `"}`), 422, "headers[0].value", "at most 8000"},

		{"wrong base64", file(`"name":"a","content":"a$$="`), 422, "attachments[0].content", "not base64"},
		{"base64 of the other alphabet", file(`"name":"a","content":"_-_-"`), 422, "attachments[0].content", "standard alphabet"},
		{"base64 cut off", file(`"name":"a","content":"aGVsb"`), 422, "attachments[0].content", "cut off"},
		{"base64 behind its padding", file(`"name":"a","content":"aGU=aGU="`), 422, "attachments[0].content", "behind its padding"},
		{"base64 of padding", file(`"name":"a","content":"===="`), 422, "attachments[0].content", "impossible"},
		{"base64 with loose bits", file(`"name":"a","content":"aGV="`), 422, "attachments[0].content", "not base64"},
		{"a data URL", file(`"name":"a","content":"data:text/plain;base64,aGVsbG8="`), 422, "attachments[0].content", "comma"},
		{"no content", file(`"name":"a"`), 422, "attachments[0]", "the content is missing"},
		{"no name", file(`"content":""`), 422, "attachments[0].name", "no name"},
		{"a path", file(`"name":"../../etc/passwd","content":""`), 422, "attachments[0].name", "path"},
		{"a path of Windows", file(`"name":"..\\..\\autoexec.bat","content":""`), 422, "attachments[0].name", "path"},
		{"a name of dots", file(`"name":"..","content":""`), 422, "attachments[0].name", "no name"},
		{"a name with a NUL", file(`"name":"a.exe\u0000.txt","content":""`), 422, "attachments[0].name", "NUL"},
		{"a name with a line end", file(`"name":"a\r\nX: y","content":""`), 422, "attachments[0].name", "a carriage return"},
		{"a name that turns round", file(`"name":"a\u202egnp.exe","content":""`), 422, "attachments[0].name", "direction"},
		{"a type that is none", file(`"name":"a","type":"nothing","content":""`), 422, "attachments[0].type", "media type"},
		{"a type with a line end", file(`"name":"a","type":"text/plain\r\nX: y","content":""`), 422, "attachments[0].type", ""},
		{"a multipart type", file(`"name":"a","type":"multipart/mixed","content":""`), 422, "attachments[0].type", "cannot be"},
		{"a content ID with a line end", file(`"name":"a","cid":"a>\r\nX: y","content":""`), 422, "attachments[0].cid", ""},
		{"two names of a file", file(`"name":"a","filename":"b","content":""`), 422, "attachments[0].filename", "by two names"},
		{"two contents", file(`"name":"a","content":"","content":""`), 422, "attachments[0].content", "twice"},
		{"an unknown member of a file", file(`"name":"a","path":"/etc/passwd"`), 422, "attachments[0].path", "no such member"},
		{"a file by its address", file(`"name":"a","url":"http://169.254.169.254/"`), 422, "attachments[0].url", "no such member"},
		{"too many files", with(`"attachments":` + many(201, `{"name":"a","content":""}`)), 422, "attachments", "more than 200"},

		{"raw and text", with(`"raw":"Subject: x\n\nx"`), 422, "subject", "beside raw"},
		{"raw that is none", `{"from":"ann@example.com","to":"bob@example.net","raw":"hello there"}`, 422, "raw", "neither"},
		{"empty raw", `{"from":"ann@example.com","to":"bob@example.net","raw":""}`, 422, "raw", "empty"},
		{"raw with a NUL", `{"from":"ann@example.com","to":"bob@example.net","raw":"Subject: x\n\n\u0000"}`, 422, "", "NUL"},
		{"raw without from", `{"to":"bob@example.net","raw":"Subject: x\n\nx"}`, 422, "from", "missing"},
		{"raw in a loop", `{"from":"ann@example.com","to":"bob@example.net","raw":"` + strings.Repeat(`Received: x\n`, 101) + `\nx"}`, 422, "", "loop"},

		{"a stream with a path", with(`"stream":"../x"`), 422, "stream", "letters"},
		{"a stream with a NUL", with(`"stream":"a\u0000"`), 422, "stream", "letters"},
		{"a time that is none", with(`"send_at":"tomorrow"`), 422, "send_at", "RFC 3339"},
		{"a time as a number", with(`"send_at":1772000000`), 422, "send_at", "text is expected"},
		{"a time far ahead", with(`"send_at":"2990-01-01T00:00:00Z"`), 422, "send_at", "30 days"},
		{"expired already", with(`"expire":"2020-01-01T00:00:00Z"`), 422, "expire", "already"},
		{"an impossible span", with(`"expire":"-5m"`), 422, "expire", "neither"},
		{"a span of no unit", with(`"expire":"5"`), 422, "expire", "neither"},
		{"a span of ages", with(`"expire":"99999999d"`), 422, "expire", "at most a year"},
		{"too many tags", with(`"tags":` + many(17, `"x"`)), 422, "tags", "more than 16"},
		{"a tag with a line end", with(`"tags":["a\nb"]`), 422, "tags", "printable"},
		{"a tag twice", with(`"tags":["a","a"]`), 422, "tags", "twice"},
		{"a long tag", with(`"tags":["` + strings.Repeat("x", 65) + `"]`), 422, "tags", "64"},
		{"metadata with a line end", with(`"metadata":{"a":"b\nc"}`), 422, "metadata", "not printable"},
		{"metadata of a list", with(`"metadata":{"a":[1]}`), 422, "metadata.a", "not a list"},
		{"large metadata", with(`"metadata":{"a":"` + strings.Repeat("x", 4096) + `"}`), 422, "metadata", "4096"},
		{"a number that is none", with(`"metadata":{"a":1e}`), 400, "metadata.a", "not a number"},

		{"too large a message", instead("text", `"`+strings.Repeat("x", 1<<20)+`"`), 413, "", "larger than 1048576 octets"},
		{"too large a file", file(`"name":"a","content":"` + base64.StdEncoding.EncodeToString(make([]byte, 800_000)) + `"`), 413, "", "larger than"},
		{"too large a body", instead("text", `"`+strings.Repeat("x", 3<<20)+`"`), 413, "", "the request has more than"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.t = t
			d.refused(ask{body: c.body}, c.status, c.field, c.text)
		})
	}
}

func manyPairs(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `,"k%d":"v"`, i)
	}
	return b.String()[1:]
}

// TestAbusiveHeaders: what is refused for what stands around the body.
func TestAbusiveHeaders(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	whole := "Subject: x\r\n\r\nx\r\n"
	for _, c := range []struct {
		name        string
		ask         ask
		status      int
		field, text string
	}{
		{"no type", ask{kind: " ", body: simple}, 415, "Content-Type", "application/json or message/rfc822"},
		{"a form", ask{kind: "application/x-www-form-urlencoded", body: "a=b"}, 415, "Content-Type", ""},
		{"a form with files", ask{kind: "multipart/form-data; boundary=x", body: simple}, 415, "Content-Type", ""},
		{"text", ask{kind: "text/plain", body: simple}, 415, "Content-Type", ""},
		{"XML", ask{kind: "application/xml", body: "<x/>"}, 415, "Content-Type", ""},
		{"a type that is none", ask{kind: ";;;", body: simple}, 415, "Content-Type", ""},
		{"JSON in Latin-1", ask{kind: "application/json; charset=iso-8859-1", body: simple}, 415, "Content-Type", ""},
		{"compressed", ask{body: simple, header: map[string]string{"Content-Encoding": "gzip"}}, 415, "Content-Encoding", "compressed"},
		{"a message to the batch", ask{path: "/v1/messages/batch", kind: typeMessage, body: whole}, 415, "Content-Type", ""},
		{"JSON with a query", ask{path: "/v1/messages?from=eve@example.com", body: simple}, 400, "from", "body"},
		{"a long key", ask{key: strings.Repeat("x", 256), body: simple}, 400, "Idempotency-Key", "1 to 255"},
		{"a key of other letters", ask{key: "\xc3\xa9", body: simple}, 400, "Idempotency-Key", "ASCII"},
		{"an empty key", ask{header: map[string]string{"Idempotency-Key": ""}, body: simple}, 400, "Idempotency-Key", "empty"},

		{"whole: no from", ask{kind: typeMessage, path: "/v1/messages?to=bob@example.net", body: whole}, 400, "from", "missing"},
		{"whole: no to", ask{kind: typeMessage, path: "/v1/messages?from=", body: whole}, 400, "to", "at least one"},
		{"whole: two froms", ask{kind: typeMessage, path: "/v1/messages?from=a@example.com&from=b@example.com&to=bob@example.net", body: whole}, 422, "from", "twice"},
		{"whole: an unknown parameter", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net&steam=x", body: whole}, 400, "steam", "no such parameter; is stream meant?"},
		{"whole: a wrong recipient", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob", body: whole}, 422, "to[0]", ""},
		{"whole: a wrong sender", ask{kind: typeMessage, path: "/v1/messages?from=x&to=bob@example.net", body: whole}, 422, "from", ""},
		{"whole: too many recipients", ask{kind: typeMessage, path: "/v1/messages?from=" + strings.Repeat("&to=bob@example.net", 51), body: whole}, 422, "to", "at most 50"},
		{"whole: a wrong time", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net&send_at=x", body: whole}, 422, "send_at", ""},
		{"whole: a wrong expiry", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net&expire=x", body: whole}, 422, "expire", ""},
		{"whole: a wrong truth value", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net&require_tls=maybe", body: whole}, 422, "require_tls", ""},
		{"whole: empty", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net"}, 422, "", "empty"},
		{"whole: NUL", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net", body: whole + "\x00"}, 422, "", "NUL"},
		{"whole: too large", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net", body: whole + strings.Repeat("x\n", 1<<20)}, 413, "", "more than"},
		{"whole: a loop", ask{kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net", body: strings.Repeat("Received: x\n", 101) + whole}, 422, "", "loop"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.t = t
			d.refused(c.ask, c.status, c.field, c.text)
		})
	}
}

// TestWhoMaySendWhat: a user's patterns hold for the return path and for the
// From field, in fields and in a message that is whole; so the door is no relay.
func TestWhoMaySendWhat(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	u := &account.User{Name: "erp", From: account.Senders{"*@example.com"}, Stream: "invoices"}
	for _, c := range []struct{ body, field string }{
		{instead("from", `"boss@other.example"`), "from"},
		{instead("from", `"boss@example.com.evil.example"`), "from"},
		{instead("from", `"\"ann@example.com\" <boss@other.example>"`), "from"},
		{with(`"return_path":"boss@other.example"`), "return_path"},
		{with(`"stream":"other"`), "stream"},
		{`{"from":"ann@example.com","to":"b@example.net","raw":"From: boss@other.example\n\nx"}`, "from"},
		{`{"from":"ann@example.com","to":"b@example.net","raw":"From: ann@example.com, boss@other.example\n\nx"}`, "from"},
		{`{"return_path":"","to":"b@example.net","raw":"From: ann@example.com\nFrom: boss@other.example\n\nx"}`, "from"},
	} {
		d.refused(ask{user: u, body: c.body}, http.StatusForbidden, c.field, "erp ")
	}
	whole := ask{user: u, kind: typeMessage, path: "/v1/messages?from=boss@other.example&to=b@example.net", body: "From: ann@example.com\n\nx"}
	d.refused(whole, http.StatusForbidden, "from", "boss@other.example")
	whole = ask{user: u, kind: typeMessage, path: "/v1/messages?from=&to=b@example.net", body: "From: boss@other.example\n\nx"}
	d.refused(whole, http.StatusForbidden, "from", "(allowed: *@example.com)")
	d.refused(ask{user: u, path: "/v1/messages/batch", body: `{"from":"boss@other.example","text":"x","recipients":[{"to":"b@example.net"}]}`}, http.StatusForbidden, "from", "erp ")

	whole.body = "From: ann@example.com\n\nx"
	for _, a := range []ask{{user: u, body: simple}, {user: u, body: with(`"return_path":"","stream":"invoices"`)}, whole} {
		_, ds := d.message(d.accepted(a).ID)
		if m := ds[0].Message; m.Stream != "invoices" || m.Origin.User != "erp" || m.Origin.Door != "http" || m.Origin.Peer.String() != "192.0.2.1" {
			t.Errorf("%+v", m)
		}
	}
}

// TestRate: over the rate is 429 with the time to wait; what is refused before
// costs nothing, and a repeated request neither.
func TestRate(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	book := account.NewBook(nil)
	book.Configure([]account.User{{Name: "erp", From: account.Senders{"*"}, Rate: account.Rate{Messages: 2, Per: time.Hour}}, {Name: "web", From: account.Senders{"*@example.com"}, Rate: account.Rate{Messages: 1, Per: time.Hour}}})
	u := book.User("erp")
	d.refused(ask{user: u, body: instead("subject", "1")}, 422, "subject", "")
	d.accepted(ask{user: u, body: simple, key: "a"})
	d.accepted(ask{user: u, body: simple})
	p := d.refused(ask{user: u, body: simple}, 429, "", "erp has sent its 2/h")
	if p.Title != "Too Many Requests" {
		t.Error(p.Title)
	}
	d.refused(ask{user: u, kind: typeMessage, path: "/v1/messages?from=a@example.com&to=b@example.net", body: "From: a@example.com\n\nx"}, 429, "", "erp has sent")
	d.accepted(ask{user: u, body: simple, key: "a"})
	d.refused(ask{user: u, path: "/v1/messages/batch", body: `{"from":"a@example.com","text":"x","recipients":[{"to":"b@example.net"},{"to":"c@example.net"},{"to":"d@example.net"}]}`}, 422, "", "too many at once")
	web := book.User("web")
	d.refused(ask{user: web, body: instead("from", `"boss@other.example"`)}, 403, "from", "web may not")
	d.accepted(ask{user: web, body: simple})
}

// TestNoRoom: while memory or disk is short, nothing is even read.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	for _, short := range []func(bool){d.busy.Store, d.full.Store} {
		short(true)
		for _, a := range []ask{
			{body: simple}, {body: "no JSON"}, {kind: typeMessage, path: "/v1/messages?from=&to=bob@example.net", body: "x"},
			{path: "/v1/messages/batch", body: `{"from":"a@example.com","text":"x","recipients":[{"to":"b@example.net"}]}`},
		} {
			d.refused(a, 503, "", "try again later")
		}
		short(false)
	}
	d.accepted(ask{body: simple})
}
