package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/mail"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// answer is what the daemon says to one request; status 0 is a connection that
// breaks.
type answer struct {
	status int
	header map[string]string
	body   string
}

// script is a daemon that answers in order, and remembers the requests.
type script struct {
	answers []answer
	got     []*http.Request
	bodies  []string
	at      []time.Time
}

func (s *script) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	s.got, s.bodies, s.at = append(s.got, r), append(s.bodies, string(body)), append(s.at, time.Now())
	if len(s.answers) == 0 {
		return nil, errors.New("no more answers")
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	if a.status == 0 {
		return nil, errors.New("connection reset by peer")
	}
	h := http.Header{}
	for name, value := range a.header {
		h.Set(name, value)
	}
	return &http.Response{StatusCode: a.status, Header: h, Body: io.NopCloser(strings.NewReader(a.body)), Request: r}, nil
}

func scripted(t *testing.T, answers ...answer) (*Client, *script) {
	t.Helper()
	c, err := New("http://mailout.example.com:8025/", "t0ken")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{answers: answers}
	c.HTTP.Transport = s
	return c, s
}

const taken = `{"id":"01ARYZ6S410000000000000000","recipients":[{"address":"ann@example.net","state":"queued"}]}`

func hello() *Message {
	return &Message{From: "shop@example.com", To: []string{"ann@example.net"}, Subject: "Hi", Text: "x"}
}

func TestSendTriesAgainUnderOneKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(t, answer{status: 0}, answer{status: 503, header: map[string]string{"Retry-After": "30"}}, answer{status: 409, header: map[string]string{"Retry-After": "1"}},
			answer{status: 202, body: `{"id":"01AR`}, answer{status: 202, body: taken})
		receipt, err := c.Send(t.Context(), hello())
		if err != nil || receipt.ID != "01ARYZ6S410000000000000000" || receipt.Recipients[0].State != Queued {
			t.Fatalf("%+v, %v", receipt, err)
		}
		key := s.got[0].Header.Get("Idempotency-Key")
		for i, r := range s.got {
			if k := r.Header.Get("Idempotency-Key"); k != key || len(k) < 20 || s.bodies[i] != s.bodies[0] || r.Header.Get("Authorization") != "Bearer t0ken" {
				t.Errorf("request %d has the key %q, not %q", i, k, key)
			}
		}
		if len(s.got) != 5 || s.at[2].Sub(s.at[1]) < 30*time.Second || s.at[1].Sub(s.at[0]) > time.Second {
			t.Errorf("%d requests at %v", len(s.got), s.at)
		}
	})
}

func TestSendGivesUp(t *testing.T) {
	for name, c := range map[string]struct {
		answers []answer
		status  int
		tries   int
	}{
		"never":             {[]answer{{status: 422, body: `{"status":422,"detail":"no such domain","field":"to[0]"}`}}, 422, 1},
		"wrong token":       {[]answer{{status: 401}}, 401, 1},
		"another message":   {[]answer{{status: 409}}, 409, 1},
		"too long a wait":   {[]answer{{status: 429, header: map[string]string{"Retry-After": "3600"}}}, 429, 1},
		"busy all the time": {[]answer{{status: 503}, {status: 503}, {status: 503}, {status: 503}, {status: 503}, {status: 503}, {status: 503}}, 503, DefaultTries},
		"redirected":        {[]answer{{status: 307, header: map[string]string{"Location": "http://elsewhere.example/"}}}, 307, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			cl, s := scripted(t, c.answers...)
			_, err := cl.Send(t.Context(), hello())
			var e *Error
			if !errors.As(err, &e) || e.Status != c.status || len(s.got) != c.tries {
				t.Errorf("%s: %v after %d requests", name, err, len(s.got))
			}
			if c.status == 422 && (e.Field != "to[0]" || !strings.Contains(err.Error(), "to[0]: no such domain")) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

func TestSendEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(t, answer{status: 503, header: map[string]string{"Retry-After": "60"}})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start := time.Now()
		if _, err := c.Send(ctx, hello()); err == nil || time.Since(start) > 10*time.Second || len(s.got) != 1 {
			t.Errorf("%v after %v and %d requests", err, time.Since(start), len(s.got))
		}
	})
}

// TestMessageIsWrittenAsTheDoorReadsIt holds the names of docs/http-messages.md.
func TestMessageIsWrittenAsTheDoorReadsIt(t *testing.T) {
	none := ""
	m := &Message{
		From: "a@example.com", ReturnPath: &none, To: []string{"b@example.net"}, Cc: []string{"c@example.net"}, Bcc: []string{"d@example.net"},
		ReplyTo: []string{"r@example.com"}, Subject: "S", Text: "T", HTML: "H", Headers: []Header{{"X-A", "1"}},
		Attachments: []Attachment{{Name: "n", ContentType: "t/t", Content: []byte{0xff}, ContentID: "c", Inline: true}},
		Stream:      "s", SendAt: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Expire: 90*time.Minute + 1, RequireTLS: true, Tags: []string{"x"}, Metadata: map[string]string{"k": "v"}, Key: "secret",
	}
	got, err := json.Marshal(m)
	const want = `{"from":"a@example.com","return_path":"","to":["b@example.net"],"cc":["c@example.net"],"bcc":["d@example.net"],"reply_to":["r@example.com"],` +
		`"subject":"S","text":"T","html":"H","headers":[{"name":"X-A","value":"1"}],"attachments":[{"name":"n","type":"t/t","content":"/w==","cid":"c","inline":true}],` +
		`"stream":"s","send_at":"2026-03-01T12:00:00Z","require_tls":true,"tags":["x"],"metadata":{"k":"v"},"expire":"5401s"}`
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
	if got, err := json.Marshal(Message{From: "a", Raw: []byte("x: y\n")}); err != nil || string(got) != `{"from":"a","raw":"eDogeQo="}` {
		t.Errorf("%s %v", got, err)
	}
}

// TestABatchIsRepeatedForThoseThatCouldNotBeTaken, under one key.
func TestABatchIsRepeatedForThoseThatCouldNotBeTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const half = `{"messages":[{"id":"A","recipients":[]},{"problem":{"status":507,"detail":"full"}},{"problem":{"status":422,"detail":"no"}}]}`
		const most = `{"messages":[{"id":"A","recipients":[]},{"id":"B"},{"problem":{"status":422,"detail":"no"}}]}`
		c, s := scripted(t, answer{status: 202, body: half}, answer{status: 0}, answer{status: 202, body: most})
		out, err := c.SendAll(t.Context(), "", hello(), hello(), hello())
		if err != nil || len(out) != 3 || out[0].ID != "A" || out[1].ID != "B" || out[1].Err != nil || out[2].Err == nil || out[2].Err.Status != 422 {
			t.Errorf("%+v %v", out, err)
		}
		if len(s.got) != 3 || s.got[0].Header.Get("Idempotency-Key") != s.got[2].Header.Get("Idempotency-Key") || s.got[0].URL.Path != "/v1/messages/batch" {
			t.Errorf("%d requests", len(s.got))
		}
		// What is known is told, when there are no tries left.
		c, _ = scripted(t, answer{status: 202, body: half}, answer{status: 400})
		if out, err := c.SendAll(t.Context(), "k", hello(), hello(), hello()); err != nil || len(out) != 3 || out[1].Err.Status != 507 {
			t.Errorf("%+v %v", out, err)
		}
		c, _ = scripted(t, answer{status: 422, body: `{"detail":"no","field":"messages[1].to"}`})
		var e *Error
		if out, err := c.SendAll(t.Context(), "k", hello(), hello()); out != nil || !errors.As(err, &e) || e.Field != "messages[1].to" {
			t.Errorf("%+v %v", out, err)
		}
	})
}

func TestMailingIsWrittenAsTheDoorReadsIt(t *testing.T) {
	got, err := json.Marshal(&Mailing{
		Message: Message{From: "a@example.com", Subject: "Hi {{name}}", Text: "T", Expire: time.Hour}, Substitutions: map[string]string{"shop": "S"},
		Recipients: []MailingRecipient{{To: "b@example.net", Substitutions: map[string]string{"name": "B"}, Metadata: map[string]string{"k": "v"}}},
	})
	const want = `{"from":"a@example.com","subject":"Hi {{name}}","text":"T","expire":"3600s","substitutions":{"shop":"S"},` +
		`"recipients":[{"to":"b@example.net","substitutions":{"name":"B"},"metadata":{"k":"v"}}]}`
	if err != nil || string(got) != want {
		t.Errorf("%v\n%s\nwant\n%s", err, got, want)
	}
}

func TestMailboxReadsBack(t *testing.T) {
	for _, name := range []string{"Ann", `A "B" \ C`, "Doe, John", "Jürgen Ü", "日本 太郎", "x@y <z>"} {
		a, err := mail.ParseAddress(Mailbox(name, "a@example.com"))
		if err != nil || a.Name != name || a.Address != "a@example.com" {
			t.Errorf("%q: %v, %v", name, a, err)
		}
	}
}

func TestNewRefusesWhatIsNoDaemon(t *testing.T) {
	for _, base := range []string{"", "mailout.example.com", "ftp://x", "http://", "unix:", "http://u:p@x", "http://x?y=z", "http://x#y", ":"} {
		if _, err := New(base, ""); err == nil {
			t.Errorf("%q was taken", base)
		}
	}
}

func TestStatusTellsEachRecipientsState(t *testing.T) {
	lines := strings.Join([]string{
		`{"time":"2026-03-01T12:00:00.000Z","event":"accepted","id":"I","recipient":"a@x"}`, `{"time":"2026-03-01T12:00:00.000Z","event":"accepted","id":"I","recipient":"b@x"}`,
		`{"time":"2026-03-01T12:00:01.000Z","event":"deferred","id":"I","recipient":"b@x","code":450,"next":"2026-03-01T12:05:01.000Z"}`,
		`{"time":"2026-03-01T12:00:02.000Z","event":"delivered","id":"I","recipient":"a@x","code":250,"tags":["t"]}`, `{"event":"complained","id":"I","recipient":"a@x"}`,
	}, "\n")
	synctest.Test(t, func(t *testing.T) {
		// An answer that breaks off is asked for again, and counts once.
		c, _ := scripted(t, answer{status: 200, body: lines[:150]}, answer{status: 200, body: lines})
		s, err := c.Status(t.Context(), "I")
		if err != nil || len(s.Records) != 5 || s.Final() || s.Accepted.Year() != 2026 {
			t.Fatalf("%+v %v", s, err)
		}
		if a, b := s.Recipients[0], s.Recipients[1]; a.State != Delivered || b.State != Deferred || b.Last.Code != 450 || b.Last.Next.Minute() != 5 || len(s.Recipients) != 2 {
			t.Errorf("%+v", s.Recipients)
		}
		c, _ = scripted(t, answer{status: 200})
		var e *Error
		if _, err := c.Status(t.Context(), "J"); !errors.As(err, &e) || e.Status != 404 {
			t.Errorf("%v", err)
		}
	})
}

func event(id, kind string) string {
	return "id: " + id + "\nevent: " + kind + "\ndata: {\"id\":\"" + id + "\",\"type\":\"" + kind + "\",\ndata: \"data\":{\"recipient\":\"a@x\"}}\n\n"
}

func TestEventsGoOnBehindTheLastOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := scripted(t,
			answer{status: 200, body: ": hello\n\nretry: 5000\n\n" + event("1", "message.accepted") + event("2", "message.delivered") + "id: 3\ndata: {\"half"},
			answer{status: 503}, answer{status: 200, body: event("3", "message.failed")})
		var seen []string
		for e, err := range c.Events(t.Context(), EventsOptions{After: "0"}) {
			if err != nil {
				t.Fatal(err)
			}
			seen = append(seen, e.Cursor+" "+e.Type+" "+e.Data.Recipient)
			if e.Cursor == "3" {
				break
			}
		}
		if got := strings.Join(seen, ", "); got != "1 message.accepted a@x, 2 message.delivered a@x, 3 message.failed a@x" {
			t.Errorf("%s", got)
		}
		for i, want := range []string{"0", "2", "2"} {
			if got := s.got[i].Header.Get("Last-Event-ID"); got != want {
				t.Errorf("connection %d begins behind %q, want %q", i, got, want)
			}
		}
		if s.at[1].Sub(s.at[0]) < 5*time.Second {
			t.Errorf("connected again after %v, though asked to wait", s.at[1].Sub(s.at[0]))
		}
	})
}

// TestEventsOutliveQuietConnections: breaks without an event between them do not
// add up.
func TestEventsOutliveQuietConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var script []answer
		for range 3 * DefaultTries {
			script = append(script, answer{status: 200, body: "retry: 3000\n\nid: 5\n\n"})
		}
		c, _ := scripted(t, append(script, answer{status: 200, body: event("6", "message.failed")})...)
		for e, err := range c.Events(t.Context(), EventsOptions{}) {
			if err != nil || e.Cursor != "6" {
				t.Fatal(e, err)
			}
			break
		}
		c, s := scripted(t, answer{status: 200}, answer{status: 503}, answer{status: 503}, answer{status: 503}, answer{status: 503}, answer{status: 503}, answer{status: 503})
		for e, err := range c.Events(t.Context(), EventsOptions{After: "5"}) {
			if err == nil {
				t.Error(e)
			}
		}
		if len(s.got) != DefaultTries {
			t.Errorf("%d tries", len(s.got))
		}
	})
}

func TestEventsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := scripted(t, answer{status: 403, body: `{"detail":"no"}`})
		var e *Error
		for ev, err := range c.Events(t.Context(), EventsOptions{}) {
			if ev != nil || !errors.As(err, &e) || e.Status != 403 {
				t.Errorf("%v %v", ev, err)
			}
		}
		if e == nil {
			t.Error("no error was given")
		}
		c, _ = scripted(t, answer{status: 200, body: "data: " + string(bytes.Repeat([]byte("x"), maxEvent+1)) + "\n\n"})
		c.Tries = 1
		for _, err := range c.Events(t.Context(), EventsOptions{}) {
			if err == nil {
				t.Error("an endless line was taken")
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		c, _ = scripted(t, answer{status: 200, body: event("1", "message.accepted")})
		for _, err := range c.Events(ctx, EventsOptions{}) {
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
			cancel()
		}
	})
}
