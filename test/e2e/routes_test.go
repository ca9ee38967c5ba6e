package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// thereIP is where the second server of a world listens.
const thereIP = "127.0.2.3"

// routed is a world with a domain whose own server is direct, and another host,
// there, that routes name.
func routed(t *testing.T, routes string) (w *world, d *daemon, direct, there *mtatest.MX) {
	t.Helper()
	w = newWorld(t)
	direct = w.mx(mtatest.MXConfig{}, "one.example", "two.example", "three.example", "sender.example")
	there = w.mx(mtatest.MXConfig{})
	routes = strings.NewReplacer("HOST", thereIP, "PORT", fmt.Sprint(w.port)).Replace(routes)
	return w, w.daemon("\n" + routes), direct, there
}

// tagged makes a message with a tag, or without.
func tagged(tag string) string {
	if tag == "" {
		return letter
	}
	return "X-Mailout-Tag: " + tag + "\r\n" + letter
}

// TestRoutesByMessage: mail of one domain goes by its sender, stream, user and
// tag; what waits follows a changed file without a requeue.
func TestRoutesByMessage(t *testing.T) {
	t.Parallel()
	_, d, direct, there := routed(t, `[[route]]
senders = ["*@moved.example"]
host = "HOST"
port = PORT

[[route]]
tags = ["urgent"]
domains = [".example"]
host = "HOST"
port = PORT

[[route]]
users = ["app"]
streams = ["news"]
host = "HOST"
port = PORT

[[user]]
name = "app"
password = "PASSWORD"
from = ["*"]
stream = "news"
`)
	d.replace("PASSWORD", d.hashOf("correct horse"))
	d.replace(`trusted = ["127.0.0.0/8"]`, "trusted = [\"127.0.0.0/8\"]\nauth = \"always\"")
	d.start()
	want := map[bool]int{}
	for _, c := range []struct {
		sender, tag, user string
		there             bool
	}{
		{"a@plain.example", "", "", false},
		{"a@moved.example", "", "", true},
		{"a@plain.example", "urgent", "", true},
		{"a@plain.example", "other", "", false},
		{"a@plain.example", "", "app", true},
	} {
		client := d.client()
		if c.user != "" {
			if reply, err := client.Cmd("AUTH PLAIN %s", base64.StdEncoding.EncodeToString([]byte("\x00"+c.user+"\x00correct horse"))); err != nil || reply.Code != 235 {
				t.Fatal(reply, err)
			}
		}
		sent, err := client.Send(c.sender, []string{"x@one.example"}, []byte(tagged(c.tag)))
		if err != nil || sent.Final.Code != 250 {
			t.Fatal(sent, err)
		}
		d.waitEvent(sent.ID(), map[bool]string{true: "relayed", false: "delivered"}[c.there])
		want[c.there]++
	}
	if n, m := len(direct.Messages()), len(there.Messages()); n != want[false] || m != want[true] {
		t.Errorf("%d went directly and %d there", n, m)
	}
	for _, m := range there.Messages() {
		if strings.Contains(string(m.Data), "X-Mailout-Tag") {
			t.Error("the tag went out")
		}
	}
	e := d.explained("x@one.example", "--sender", "a@plain.example", "--tag", "urgent")
	if !strings.HasPrefix(e.Matched, "[[route]] 2 (line ") || len(e.PassedOver) != 1 || !strings.HasPrefix(e.PassedOver[0], "[[route]] 1 (line ") {
		t.Errorf("%+v", e)
	}
	if e = d.explained("x@one.example", "--user", "app", "--stream", "news"); !strings.HasPrefix(e.Matched, "[[route]] 3 ") {
		t.Errorf("%+v", e)
	}
	if e = d.explained("x@one.example"); e.Matched != "direct (default)" || len(e.PassedOver) != 3 {
		t.Errorf("%+v", e)
	}
	d.stop()
}

type explained struct {
	Route, Matched, Failure string
	PassedOver              []string `json:"passed_over"`
}

func (d *daemon) explained(args ...string) (e explained) {
	d.t.Helper()
	out, errs, status := d.run(append([]string{"explain", "--json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &e); err != nil || status > 1 {
		d.t.Fatal(out, errs, status, err)
	}
	return e
}

// TestRouteActions: mail is held and released, discarded, or returned with the
// route's sentence; what waits at a dead host follows a changed file.
func TestRouteActions(t *testing.T) {
	t.Parallel()
	_, d, direct, there := routed(t, `[[route]]
senders = ["keep@sender.example"]
action = "hold"

[[route]]
senders = ["drop@sender.example"]
action = "discard"

[[route]]
senders = ["back@sender.example"]
action = "fail"
text = "Gone."

[[route]]
senders = ["wait@sender.example"]
host = "127.0.2.77"
port = PORT
`)
	d.start()
	send := func(who string) string { return d.submit(who+"@sender.example", []string{"x@one.example"}, letter) }
	kept, dropped, failed, waits := send("keep"), send("drop"), send("back"), send("wait")
	d.waitEvent(kept, "held")
	if reason := d.shown(kept).text("reason"); !strings.Contains(reason, "[[route]] 1 (line ") {
		t.Errorf("held: %q", reason)
	}
	if e := d.explained("x@one.example", "--sender", "keep@sender.example"); !strings.HasPrefix(e.Matched, "[[route]] 1 ") || !strings.Contains(e.Failure, "until somebody releases it") {
		t.Errorf("%+v", e)
	}
	d.waitEvent(dropped, "cancelled")
	records := d.waitEvent(failed, "failed")
	if last := records[len(records)-1]; last.text("enhanced") != "5.7.1" && !strings.Contains(fmt.Sprint(records), "5.7.1") {
		t.Errorf("%v", records)
	}
	mtatest.Eventually(t, 30*time.Second, "the bounce", func() bool { return len(direct.Messages()) == 1 }, d.log)
	if bounce := string(direct.Messages()[0].Data); !strings.Contains(bounce, "Gone.") || !strings.Contains(bounce, "Status: 5.7.1") {
		t.Errorf("%s", bounce)
	}
	d.control("release", kept)
	d.waitEvent(kept, "delivered")
	d.waitEvent(waits, "deferred")
	d.replace(`host = "127.0.2.77"`, `host = "`+thereIP+`"`)
	d.must("config", "reload")
	d.waitEvent(waits, "relayed")
	if n, m := len(direct.Messages()), len(there.Messages()); n != 2 || m != 1 {
		t.Errorf("%d went directly and %d there", n, m)
	}
	d.stop()
}

// TestRouteTables: a file that changes under way, breaks and is mended; a service
// that answers, is down, and is back.
func TestRouteTables(t *testing.T) {
	t.Parallel()
	service := &routeService{answers: map[string]string{}}
	server := httptest.NewServer(service)
	defer server.Close()
	w, d, direct, there := routed(t, `[[route]]
table = "routes"

[[route]]
table = "`+server.URL+`/route"
table_by = ["domain", "sender", "user", "stream", "tags"]
table_token_file = "token"
`)
	table := filepath.Join(d.dir, "routes")
	host := fmt.Sprintf("%s:%d", thereIP, w.port)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(table+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(table+".new", table); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(d.dir, "token"), []byte("t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	write("# ours\nother.example " + host + "\n")
	d.start()
	send := func(domain, event string) {
		t.Helper()
		d.waitEvent(d.submit("a@sender.example", []string{"x@" + domain}, letter), event)
	}
	send("one.example", "delivered")
	write("one.example " + host + "\n")
	mtatest.Eventually(t, 30*time.Second, "the changed table", func() bool {
		return d.explained("x@one.example").Matched != "direct (default)"
	}, d.log)
	if e := d.explained("x@one.example"); !strings.HasSuffix(e.Matched, ", "+table+":1") || e.Route != host {
		t.Errorf("%+v", e)
	}
	send("one.example", "relayed")
	write("one.example direct\nnonsense\n")
	mtatest.Eventually(t, 30*time.Second, "the alarm", func() bool { return strings.Contains(d.log(), "routes:2: ") }, d.log)
	send("one.example", "relayed")
	if out, errs, status := d.run("config", "check"); status != 78 || !strings.Contains(out+errs, table+":2: ") {
		t.Errorf("config check: %d %s %s", status, out, errs)
	}
	write("one.example direct\n")
	mtatest.Eventually(t, 30*time.Second, "the mended table", func() bool { return d.explained("x@one.example").Route == "direct" }, d.log)

	send("one.example", "delivered")
	d.waitEvent(d.submit("a@sender.example", []string{"x@two.example"}, letter), "delivered")
	if q := service.last(); q != `{"domain":"two.example","sender":"a@sender.example","stream":"default","user":"","tags":[]}` {
		t.Errorf("the service was asked %s", q)
	}
	service.answer("three.example", fmt.Sprintf(`{"route":%q,"ttl_s":1}`, host))
	send("three.example", "relayed")
	service.answer("three.example", "")
	service.down(true)
	id := d.submit("b@sender.example", []string{"x@three.example"}, letter)
	d.waitEvent(id, "deferred") // nobody knows of this sender
	if reason := d.shown(id).text("reason"); !strings.Contains(reason, "gives no answer") {
		t.Errorf("%q", reason)
	}
	send("three.example", "relayed") // by the old answer
	mtatest.Eventually(t, 30*time.Second, "the service's alarm", func() bool { return strings.Contains(d.log(), "gives no answers") }, d.log)
	service.down(false)
	d.waitEvent(id, "delivered")
	if n := strings.Count(d.log(), "gives no answers"); n != 1 {
		t.Errorf("%d alarms", n)
	}
	if len(direct.Messages()) != 4 || len(there.Messages()) != 4 {
		t.Errorf("%d went directly, %d there", len(direct.Messages()), len(there.Messages()))
	}
	d.stop()
}

// routeService is a table of routes behind HTTP.
type routeService struct {
	mu       sync.Mutex
	answers  map[string]string
	question string
	broken   bool
}

func (s *routeService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	s.question = string(body)
	var q struct{ Domain string }
	_ = json.Unmarshal(body, &q)
	switch {
	case s.broken || r.Header.Get("Authorization") != "Bearer t0ken":
		w.WriteHeader(http.StatusServiceUnavailable)
	case s.answers[q.Domain] == "":
		w.WriteHeader(http.StatusNotFound)
	default:
		fmt.Fprint(w, s.answers[q.Domain])
	}
}

func (s *routeService) answer(domain, answer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[domain] = answer
}

func (s *routeService) down(is bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = is
}

func (s *routeService) last() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.question
}
