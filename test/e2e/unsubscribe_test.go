package e2e

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"

	"mailout/internal/mtatest"
)

// leaving is a daemon that signs, and whose stream "news" has links.
type leaving struct {
	*daemon
	at     string // where links are served
	events string // file of events
	record string // of the key
}

func (w *world) leaving(selector, more string) *leaving {
	w.t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		w.t.Fatal(err)
	}
	l := &leaving{daemon: w.daemon(""), at: fmt.Sprintf("127.0.0.1:%d", freePort(w.t))}
	l.events, l.record = filepath.Join(l.dir, "events.jsonl"), "v=DKIM1; k=ed25519; p="+base64.StdEncoding.EncodeToString(public)
	w.records(selector + `._domainkey.sender.example. TXT "` + l.record + `"`)
	key := filepath.Join(l.dir, "m1.pem")
	if err := os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		w.t.Fatal(err)
	}
	l.write(l.text() + fmt.Sprintf(`
[unsubscribe]
url = "https://news.sender.example/u"
address = %q

[[stream]]
name = "news"
unsubscribe = true
feedback_id = "{tag}:{metadata:customer}:{stream}:senderex"
%s
[events]
file = %q

[[dkim]]
domain = "sender.example"
selector = %q
key = %q
`, l.at, more, l.events, selector, key))
	l.start()
	return l
}

// mail hands a message of a stream over.
func (l *leaving) mail(stream, header string, to ...string) string {
	l.t.Helper()
	args := []string{"compose", "--from", "app@sender.example", "--subject", "offers", "--text", "hello", "--tag", "march", "--meta", "customer=4711", "--stream", stream}
	for _, a := range to {
		args = append(args, "--to", a)
	}
	if header != "" {
		args = append(args, "--header", header)
	}
	return strings.TrimSpace(l.must(args...))
}

var linkPattern = regexp.MustCompile(`(?m)^List-Unsubscribe: <https://news\.sender\.example/u/([A-Za-z0-9_-]+)>\r$`)

// link is the link in a message: its path.
func link(t *testing.T, m *mtatest.Message) string {
	t.Helper()
	found := linkPattern.FindAllSubmatch(m.Data, -1)
	if len(found) != 1 || len(found[0][0]) > 200 {
		t.Fatalf("%d links in\n%s", len(found), m.Data)
	}
	return "/u/" + string(found[0][1])
}

// signed verifies the message's signature, and that it covers the fields.
func (l *leaving) signed(m *mtatest.Message, fields ...string) {
	l.t.Helper()
	got, err := msgauth.VerifyWithOptions(bytes.NewReader(m.Data), &msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if name != "m1._domainkey.sender.example" {
			return nil, fmt.Errorf("%s is asked for", name)
		}
		return []string{l.record}, nil
	}})
	if err != nil || len(got) != 1 || got[0].Err != nil {
		l.t.Fatalf("the signature: %v, %+v\n%s", err, got, m.Data)
	}
	for _, f := range fields {
		if !slices.ContainsFunc(got[0].HeaderKeys, func(k string) bool { return strings.EqualFold(k, f) }) {
			l.t.Errorf("the signature does not cover %s: %v", f, got[0].HeaderKeys)
		}
	}
}

// ask sends one request to where links lead.
func (l *leaving) ask(method, path, body string) (int, string) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), method, "http://"+l.at+path, strings.NewReader(body))
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp.StatusCode, string(page)
}

const click = "List-Unsubscribe=One-Click"

// events gives the events of a recipient of a message, in order.
func (l *leaving) eventsOf(id, recipient string) string {
	l.t.Helper()
	var out []string
	for _, r := range l.trace(id) {
		if r.text("recipient") == recipient {
			out = append(out, r.text("event"))
		}
	}
	return strings.Join(out, " ")
}

// TestOneClickUnsubscribe: mail of a stream carries a signed link for each
// recipient; who follows it gets no more of the stream, and everything else. Also
// after a kill, and with what waits.
func TestOneClickUnsubscribe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "readers.example")
	other := w.leaving("other", "") // another instance, with keys of its own
	l := w.leaving("m1", "[suppress]\nlearn = false\n")

	id := l.mail("news", "", "ann@readers.example", "bob@readers.example")
	mtatest.Eventually(t, 30*time.Second, "two transactions", func() bool { return len(mx.Messages()) == 2 })
	links := map[string]string{}
	for _, m := range mx.Messages() {
		if len(m.To) != 1 || strings.Count(string(m.Data), "\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n") != 1 || !strings.Contains(string(m.Data), "\nFeedback-ID: march:4711:news:senderex\r\n") {
			t.Fatalf("%+v\n%s", m.To, m.Data)
		}
		links[m.To[0].Address] = link(t, m)
		l.signed(m, "List-Unsubscribe", "List-Unsubscribe-Post", "Feedback-ID")
	}
	ann := links["ann@readers.example"]
	if ann == "" || ann == links["bob@readers.example"] || strings.Contains(ann, "ann") {
		t.Fatal(links)
	}

	// Nothing but a POST of what RFC 8058 says does anything.
	for _, c := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", ann, "", 200}, {"GET", ann + "?" + click, "", 200}, {"HEAD", ann, "", 405}, {"POST", ann, "x=1", 400}, {"POST", ann[:len(ann)-2], click, 404},
		{"POST", ann + "A", click, 404}, {"POST", strings.Replace(ann, "/u/A", "/u/B", 1), click, 404}, {"POST", "/u/", click, 404}, {"GET", "/v1/queues", "", 404}, {"GET", "/healthz", "", 404},
	} {
		if got, page := l.ask(c.method, c.path, c.body); got != c.status || strings.Contains(page, "ann") {
			t.Errorf("%s %s %s: %d\n%s", c.method, c.path, c.body, got, page)
		}
	}
	if got, _ := other.ask("POST", ann, click); got != 404 {
		t.Error("another instance takes the link:", got)
	}
	if out, _, _ := l.run("suppress", "list"); strings.Contains(out, "ann") {
		t.Fatal("it is listed already:", out)
	}

	for range 2 {
		if got, page := l.ask("POST", ann, click); got != 200 {
			t.Fatal(got, page)
		}
	}
	l.kill() // 200 was a promise
	l.start()
	if out := l.must("suppress", "list", "--json"); !strings.Contains(out, `"address":"ann@readers.example","stream":"news","reason":"unsubscribed"`) || !strings.Contains(out, id) {
		t.Error(out)
	}
	if got := l.eventsOf(id, "ann@readers.example"); got != "accepted delivered unsubscribed" {
		t.Error(got)
	}
	if out := l.must("trace", "ann@readers.example"); !strings.Contains(out, "unsubscribed from the stream news by the link in the message") {
		t.Error(out)
	}
	if out := l.must("trace", "--messages", "--state", "delivered", "--json"); !strings.Contains(out, id) {
		t.Errorf("the message is no longer delivered:\n%s", out)
	}

	next := l.mail("news", "", "Ann@readers.example", "bob@readers.example")
	bill := l.mail("bills", "", "ann@readers.example")
	l.waitEvent(next, "delivered")
	l.waitEvent(bill, "delivered")
	if a, b := l.eventsOf(next, "Ann@readers.example"), l.eventsOf(next, "bob@readers.example"); !strings.HasPrefix(a, "accepted suppressed") || b != "accepted delivered" {
		t.Error(a, "/", b)
	}
	all := mx.Messages()
	for _, m := range all[2:] {
		if got := strings.Contains(string(m.Data), "\nList-Unsubscribe: ") || strings.Contains(string(m.Data), "\nFeedback-ID: "); got != (m.To[0].Address == "bob@readers.example") {
			t.Errorf("fields in mail for %s: %v", m.To[0].Address, got)
		}
	}
	if len(all) != 4 {
		t.Errorf("%d messages", len(all))
	}
	// An older link goes on after the restart, and says what it said.
	if got, _ := l.ask("POST", links["bob@readers.example"], click); got != 200 {
		t.Error("after a restart:", got)
	}
	mtatest.Eventually(t, 30*time.Second, "the events in the file", func() bool {
		lines, err := os.ReadFile(l.events)
		return err == nil && bytes.Count(lines, []byte(`"type":"message.unsubscribed"`)) == 2
	})
}

// TestOwnUnsubscribeFieldsStay: an application's own fields stay alone.
func TestOwnUnsubscribeFieldsStay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "readers.example")
	l := w.leaving("m1", "")
	l.waitEvent(l.mail("news", "List-Unsubscribe: <mailto:leave@sender.example>", "ann@readers.example"), "delivered")
	l.waitEvent(l.mail("news", "Feedback-ID: a:b:c:other", "ann@readers.example"), "delivered")
	fields := func(m *mtatest.Message, name string) []string {
		h, err := textproto.NewReader(bufio.NewReader(bytes.NewReader(m.Data))).ReadMIMEHeader()
		if err != nil {
			t.Fatal(err)
		}
		return h.Values(name)
	}
	own, loop := mx.Messages()[0], mx.Messages()[1]
	l.signed(own, "List-Unsubscribe")
	if got := fmt.Sprint(fields(own, "List-Unsubscribe"), fields(own, "List-Unsubscribe-Post"), fields(own, "Feedback-ID")); got != "[<mailto:leave@sender.example>] [] [march:4711:news:senderex]" {
		t.Error(got)
	}
	if got := fmt.Sprint(fields(loop, "Feedback-ID"), len(fields(loop, "List-Unsubscribe"))); got != "[a:b:c:other] 1" {
		t.Error(got)
	}
}

// TestUnsubscribeWhatWaits: mail that waits for its next attempt is stopped too.
func TestUnsubscribeWhatWaits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "readers.example")
	l := w.leaving("m1", "")
	first := l.mail("news", "", "ann@readers.example")
	l.waitEvent(first, "delivered")
	path := link(t, mx.Messages()[0])
	mx.SetRules(mtatest.Rule{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "450 4.2.1 come back later"}})
	waiting := l.mail("news", "", "ann@readers.example")
	l.waitEvent(waiting, "deferred")
	if got, _ := l.ask("POST", path, click); got != 200 {
		t.Fatal(got)
	}
	l.waitEvent(waiting, "suppressed")
	if n := len(mx.Messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestReloadOfLinks: a stream's fields come and go with a reload.
func TestReloadOfLinks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "readers.example")
	l := w.leaving("m1", "")
	l.replace("unsubscribe = true\n", "")
	l.must("config", "reload")
	l.waitEvent(l.mail("news", "", "ann@readers.example"), "delivered")
	l.replace("name = \"news\"\n", "name = \"news\"\nunsubscribe = true\n")
	l.must("config", "reload")
	l.waitEvent(l.mail("news", "", "ann@readers.example"), "delivered")
	if m := mx.Messages(); strings.Contains(string(m[0].Data), "\nList-Unsubscribe: ") || !strings.Contains(string(m[0].Data), "\nFeedback-ID: ") {
		t.Errorf("without:\n%s", m[0].Data)
	}
	link(t, mx.Messages()[1])
}

// TestLinksOverTLS: with a certificate links are served over TLS alone, and a
// renewed certificate is taken. Both listeners of HTTP keep apart what they serve.
func TestLinksOverTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "readers.example")
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	d := w.daemon("")
	writePair(t, ca, d.dir, true, "old.sender.example")
	links, web := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	d.write(d.text() + fmt.Sprintf("[http]\naddress = %q\n[unsubscribe]\nurl = \"https://news.sender.example/u\"\naddress = %q\ncert = \"cert.pem\"\nkey = \"key.pem\"\n[[stream]]\nname = \"default\"\nunsubscribe = true\n", web, links))
	d.start()
	if !strings.Contains(d.log(), "the certificate does not cover the host name") || !strings.Contains(d.log(), "news.sender.example") {
		t.Errorf("no warning:\n%s", d.log())
	}
	writePair(t, ca, d.dir, true, "news.sender.example")
	d.must("config", "reload")
	reader := newAPI(t, "https://"+links, "", &tls.Config{RootCAs: ca.Pool(), ServerName: "news.sender.example"})

	d.waitEvent(d.submit("app@sender.example", []string{"ann@readers.example"}, "Subject: offers\r\n\r\nhi\r\n"), "delivered")
	path := link(t, mx.Messages()[0])
	if status, page := newAPI(t, "http://"+web, "", nil).ask("POST", path, "application/x-www-form-urlencoded", click); status != 401 {
		t.Error("the API's listener:", status, page)
	}
	if status, page := newAPI(t, "http://"+links, "", nil).ask("POST", path, "application/x-www-form-urlencoded", click); status != 400 {
		t.Error("clear text:", status, page)
	}
	reader.want(404, "GET", "/v1/suppressions")
	reader.want(200, "GET", path)
	if status, page := reader.ask("POST", path, "application/x-www-form-urlencoded", click); status != 200 {
		t.Fatal(status, page)
	}
	if out := d.must("suppress", "list"); !strings.Contains(out, "ann@readers.example  unsubscribed (stream default)") {
		t.Error(out)
	}
	if metrics := d.socket(http.MethodGet, "/metrics"); !strings.Contains(metrics, `mailout_unsubscribe_total{outcome="left"} 1`) || !strings.Contains(metrics, `mailout_unsubscribe_fields_total{outcome="link"} 1`) {
		t.Error("metrics:", metrics)
	}
}
