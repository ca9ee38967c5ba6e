package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// TestABatch: each recipient gets a message of its own, with its own values,
// which are escaped in HTML and never looked through again.
func TestABatch(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	w := d.do(ask{path: "/v1/messages/batch", body: `{
		"from": "Shop <shop@example.com>", "subject": "{{shop}}: for {{ name }}", "text": "Dear {{name}}, {{code}}", "html": "<p>Dear {{name}}</p>",
		"headers": {"X-Code": "{{code}}"}, "metadata": {"a": "all", "b": "all"}, "substitutions": {"shop": "Widget", "code": "none"},
		"recipients": [
			{"to": "Ann <ann@example.net>", "substitutions": {"name": "Ann <b>&", "code": 17}, "metadata": {"b": "ann"}},
			{"to": {"address": "bob@example.net"}, "substitutions": {"name": "{{code}}"}}
		]}`})
	var out acceptedBatch
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != http.StatusAccepted || out.Accepted != 2 || out.Refused != 0 || len(out.Messages) != 2 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for i, want := range []struct {
		to, b string
		parts []string
	}{
		{"ann@example.net", "ann", []string{"Subject: Widget: for Ann <b>&\r\n", "Dear Ann <b>&, 17\r\n", "<p>Dear Ann &lt;b&gt;&amp;</p>", "X-Code: 17\r\n", "To: Ann <ann@example.net>\r\n"}},
		{"bob@example.net", "all", []string{"Subject: Widget: for {{code}}\r\n", "Dear {{code}}, none\r\n", "<p>Dear {{code}}</p>", "To: bob@example.net\r\n"}},
	} {
		id, err := mta.ParseID(out.Messages[i].ID)
		if err != nil {
			t.Fatal(err)
		}
		content, ds := d.message(id)
		if len(ds) != 1 || len(ds[0].Recipients) != 1 || ds[0].Recipients[0].Address != want.to || out.Messages[i].Recipients[0].Address != want.to {
			t.Errorf("%+v", ds)
		}
		if m := ds[0].Message.Metadata; m["a"] != "all" || m["b"] != want.b {
			t.Errorf("%v", m)
		}
		for _, part := range want.parts {
			if !strings.Contains(content, part) {
				t.Errorf("%q is not in\n%s", part, content)
			}
		}
	}
}

// TestABatchOfMessages: complete messages in a list.
func TestABatchOfMessages(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	w := d.do(ask{path: "/v1/messages/batch", body: `{"messages":[` + simple + "," + instead("to", `["b@example.net","c@example.net"]`) + `]}`})
	var out acceptedBatch
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Accepted != 2 || len(out.Messages[1].Recipients) != 2 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
}

// TestABatchOfAddresses: a recipient may be the address alone.
func TestABatchOfAddresses(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	w := d.do(ask{path: "/v1/messages/batch", body: `{"from":"ann@example.com","text":"x","recipients":["Bob <b@example.net>",{"to":"c@example.net"}]}`})
	var out acceptedBatch
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || out.Accepted != 2 || out.Messages[0].Recipients[0].Address != "b@example.net" || out.Messages[1].Recipients[0].Address != "c@example.net" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestALargeBatch: a thousand messages, each once.
func TestALargeBatch(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	var b strings.Builder
	for i := range MaxBatch {
		fmt.Fprintf(&b, `,{"to":"r%d@example.net","substitutions":{"n":%d}}`, i, i)
	}
	a := ask{path: "/v1/messages/batch", key: "k", body: `{"from":"ann@example.com","text":"{{n}}","recipients":[` + b.String()[1:] + `]}`}
	first, again := d.do(a), d.do(a)
	if first.Code != http.StatusAccepted || again.Body.String() != first.Body.String() || d.count() != MaxBatch {
		t.Errorf("%d, %d messages", first.Code, d.count())
	}
	var out acceptedBatch
	if err := json.Unmarshal(first.Body.Bytes(), &out); err != nil {
		t.Fatal(err)
	}
	for i, m := range out.Messages {
		if want := fmt.Sprintf("r%d@example.net", i); m.Recipients[0].Address != want {
			t.Fatalf("%v, not %s", m.Recipients, want)
		}
	}
	a.body = strings.Replace(a.body, `"recipients":[`, `"recipients":[{"to":"x@example.net","substitutions":{"n":1}},`, 1)
	d.refused(a, 422, "recipients", "more than 1000")
}

// TestAbusiveBatches: one that is wrong anywhere is refused as a whole.
func TestAbusiveBatches(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	rcpt := func(members string) string {
		return `{"from":"ann@example.com","subject":"{{s}}","text":"{{t}}","html":"x","headers":{"X-A":"{{h}}"},"substitutions":{"s":"1","t":"2","h":"3"},
			"recipients":[{"to":"first@example.net"},{` + members + `}]}`
	}
	text := func(text string) string {
		return `{"from":"ann@example.com","text":"` + text + `","recipients":[{"to":"b@example.net","substitutions":{"a":"` + strings.Repeat("x", 2000) + `"}}]}`
	}
	for _, c := range []struct {
		name, body  string
		status      int
		field, text string
	}{
		{"nothing", `{}`, 422, "recipients", "no recipients"},
		{"no recipients", `{"from":"ann@example.com","text":"x","recipients":[]}`, 422, "recipients", "no recipients"},
		{"no messages", `{"messages":[]}`, 422, "messages", "no messages"},
		{"both", `{"messages":[` + simple + `],"subject":"x"}`, 422, "subject", "stands alone"},
		{"to", `{"from":"ann@example.com","to":"b@example.net"}`, 422, "to", "recipients"},
		{"bcc", `{"bcc":"b@example.net"}`, 422, "bcc", "recipients"},
		{"raw", `{"raw":"x"}`, 422, "raw", "/v1/messages"},
		{"raw below", `{"messages":[{"raw":"x"}]}`, 422, "messages[0].raw", "/v1/messages"},
		{"a misspelt member", `{"recipient":[]}`, 422, "recipient", "is recipients meant?"},
		{"a misspelt member below", rcpt(`"to":"b@example.net","substitution":{}`), 422, "recipients[1].substitution", "is substitutions meant?"},
		{"a message that is wrong", `{"messages":[` + simple + `,` + instead("to", `"nobody"`) + `]}`, 422, "messages[1].to[0]", ""},
		{"a message without content", `{"messages":[` + simple + `,` + instead("text", "") + `]}`, 422, "messages[1].text", "empty"},
		{"no to of a recipient", rcpt(`"substitutions":{}`), 422, "recipients[1]", "to is missing"},
		{"a wrong recipient", rcpt(`"to":"nobody"`), 422, "recipients[1].to", ""},
		{"a wrong recipient as text", strings.Replace(rcpt(`"to":"b@example.net"`), `{"to":"first@example.net"}`, `"nobody@"`, 1), 422, "recipients[0].to", ""},
		{"two in one", rcpt(`"to":["b@example.net","c@example.net"]`), 422, "recipients[1].to", "an address is expected"},
		{"no from", `{"text":"x","recipients":[{"to":"b@example.net"}]}`, 422, "from", "missing"},
		{"a line end in a subject", rcpt(`"to":"b@example.net","substitutions":{"s":"x\r\nBcc: eve@example.com"}`), 422, "recipients[1].substitutions.s", "control character"},
		{"a line end in a header", rcpt(`"to":"b@example.net","substitutions":{"h":"x\nBcc: eve@example.com"}`), 422, "recipients[1].substitutions.h", "control character"},
		{"a line end for all", `{"from":"ann@example.com","subject":"{{s}}","text":"x","substitutions":{"s":"x\ny"},"recipients":[{"to":"b@example.net"}]}`, 422, "substitutions.s", "control character"},
		{"a NUL in the text", rcpt(`"to":"b@example.net","substitutions":{"t":"\u0000"}`), 422, "text", "NUL"},
		{"metadata that is wrong", rcpt(`"to":"b@example.net","metadata":{"a":"\n"}`), 422, "recipients[1].metadata", "not printable"},
		{"a name that is none", rcpt(`"to":"b@example.net","substitutions":{"a b":"x"}`), 422, "recipients[1].substitutions", "placeholder"},
		{"an unknown placeholder", text("Dear {{name}}"), 422, "recipients[0].substitutions", "{{name}} has no value"},
		{"a misspelt placeholder", text("Dear {{first name}}"), 422, "text", "octet 6 begins no placeholder"},
		{"braces that stay open", text("Dear {{a"), 422, "text", "octet 6"},
		{"braces around nothing", text("{{a}} {{}}"), 422, "text", "octet 7"},
		{"three braces", text("{{{a}}}"), 422, "text", "octet 1"},
		{"a long name", text("{{" + strings.Repeat("a", 65) + "}}"), 422, "text", "no placeholder"},
		{"many placeholders", text(strings.Repeat("{{a}}", 1001)), 422, "text", "more than 1000"},
		{"a bomb", text(strings.Repeat("{{a}}", 1000)), 422, "recipients[0].substitutions", "larger than 1048576"},
		{"many substitutions", `{"substitutions":{` + manyPairs(101) + `}}`, 422, "substitutions.k100", "more than 100"},
		{"too much together", `{"from":"ann@example.com","text":"` + strings.Repeat("x", 500_000) + `","recipients":[` + strings.Repeat(`{"to":"b@example.net"},`, 60) + `{"to":"c@example.net"}]}`, 413, "", "make more requests"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.t = t
			d.refused(ask{path: "/v1/messages/batch", body: c.body}, c.status, c.field, c.text)
		})
	}
}

// TestASpanToSendAtIsTheSameLater: with a key it is the same request, and what
// expires counts from it.
func TestASpanToSendAtIsTheSameLater(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	begun := d.now()
	ask := func(later, span time.Duration) (Result, error) {
		d.now = func() time.Time { return begun.Add(later) }
		m := &Message{From: Address{Address: "ann@example.com"}, To: []Address{{Address: "bob@example.net"}}, Text: "x", SendAfter: span, ExpireAfter: time.Hour}
		results, err := d.sender.Send(t.Context(), nil, "k", m)
		if err != nil {
			return Result{}, err
		}
		return results[0], nil
	}
	first, err := ask(0, 2*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ask(time.Minute, 2*time.Hour); err != nil || !again.Repeated || again.ID != first.ID {
		t.Errorf("%+v %v", again, err)
	}
	if _, err := ask(time.Minute, 3*time.Hour); err == nil {
		t.Error("another span is the same request")
	}
	_, ds := d.message(first.ID)
	m := ds[0].Message
	if got := m.NotBefore.Sub(begun).Round(time.Second); got != 2*time.Hour || m.Expires.Sub(m.NotBefore).Round(time.Second) != time.Hour {
		t.Errorf("%v %v", m.NotBefore, m.Expires)
	}
}
