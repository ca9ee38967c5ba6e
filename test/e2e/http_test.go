package e2e

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// api is somebody who asks over TCP.
type api struct {
	t     *testing.T
	base  string
	token string
	http  *http.Client
}

func newAPI(t *testing.T, base, token string, rules *tls.Config) *api {
	transport := &http.Transport{TLSClientConfig: rules}
	t.Cleanup(transport.CloseIdleConnections)
	return &api{t: t, base: base, token: token, http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

func (a *api) ask(method, path, kind, body string) (int, string) {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), method, a.base+path, strings.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if a.token != "" {
		r.Header.Set("Authorization", "Bearer "+a.token)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := a.http.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		a.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// want asks and demands a status.
func (a *api) want(status int, method, path string) string {
	a.t.Helper()
	got, text := a.ask(method, path, "", "")
	if got != status {
		a.t.Errorf("%s %s: %d instead of %d: %s", method, path, got, status, text)
	}
	return text
}

// newKey makes a key with the command, and gives it and its line.
func (d *daemon) newKey() (key, line string) {
	d.t.Helper()
	out := strings.Split(d.must("config", "key"), "\n")
	if len(out) != 3 || out[2] != "" || !strings.HasPrefix(out[0], "mo_") {
		d.t.Fatalf("%q", out)
	}
	return out[0], out[1]
}

// TestHTTP: from `config key` to the journal, over TCP with TLS, and the same
// over the socket. Strangers get nothing, users their own, a renewed certificate
// and a new user are taken, and nothing but what is configured is bound.
func TestHTTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "b.example")
	d := w.daemon("\n")
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, ca, d.dir, false, "old.example")
	keys := map[string]string{}
	var users strings.Builder
	for name, scopes := range map[string]string{"web": `["send", "control"]`, "shop": `["send"]`, "prom": `["read"]`, "op": `["admin"]`} {
		key, line := d.newKey()
		keys[name] = key
		fmt.Fprintf(&users, "[[user]]\nname = %q\n%s\nfrom = [\"*@sender.example\"]\nscopes = %s\n", name, line, scopes)
	}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	d.replace("[delivery]", fmt.Sprintf("%s\n[http]\naddress = %q\ncert = \"cert.pem\"\nkey = \"key.pem\"\n\n[delivery]", users.String(), address))
	if out := d.must("config", "show"); strings.Contains(out, keys["op"]) {
		t.Error("show tells a key")
	}
	d.start()
	if !strings.Contains(d.log(), "the certificate has expired") {
		t.Errorf("no warning:\n%s", d.log())
	}
	writePair(t, ca, d.dir, true, "mailout.sender.example")
	d.must("config", "reload")
	rules := &tls.Config{RootCAs: ca.Pool(), ServerName: "mailout.sender.example"}
	as := func(name string) *api { return newAPI(t, "https://"+address, keys[name], rules) }
	stranger, web, shop, prom, op := as("nobody"), as("web"), as("shop"), as("prom"), as("op")

	for _, path := range []string{"/healthz", "/readyz"} {
		stranger.want(200, "GET", path)
	}
	everyOperation(t, stranger, op)

	status, text := web.ask("POST", "/v1/messages?from=web@sender.example&to=a@b.example", "message/rfc822", "From: web@sender.example\r\nSubject: x\r\n\r\nx\r\n")
	var taken struct{ ID string }
	if err := json.Unmarshal([]byte(text), &taken); err != nil || status != 202 {
		t.Fatal(status, text)
	}
	records := d.waitEvent(taken.ID, "delivered")
	if r := records[0]; r.text("user") != "web" {
		t.Errorf("%v", r)
	}
	trace := "/v1/trace?query=" + taken.ID
	own, sock := web.want(200, "GET", trace), d.must("trace", taken.ID, "--json")
	if own == "" || own != sock {
		t.Errorf("%s\nand over the socket\n%s", own, sock)
	}
	if others := shop.want(200, "GET", trace); others != "" {
		t.Error("a user sees another's mail:", others)
	}
	if others := shop.want(200, "GET", "/v1/trace?query=a@b.example"); others != "" {
		t.Error("a user sees another's mail:", others)
	}
	if all := op.want(200, "GET", trace); all != sock {
		t.Error(all)
	}
	shop.want(403, "GET", "/metrics")
	if m := prom.want(200, "GET", "/metrics"); !strings.Contains(m, "mailout_queue_deliveries") {
		t.Error(m)
	}

	// What waits: another's is not there, one's own can be cancelled.
	w.records("late.example. MX 10 mx.late.example.\nmx.late.example. A 127.0.2.250")
	_, text = web.ask("POST", "/v1/messages?from=web@sender.example&to=a@late.example", "message/rfc822", "From: web@sender.example\r\n\r\nx\r\n")
	if err := json.Unmarshal([]byte(text), &taken); err != nil {
		t.Fatal(text)
	}
	d.waitEvent(taken.ID, "deferred")
	shop.want(404, "GET", "/v1/messages/"+taken.ID)
	if out := shop.want(200, "GET", "/v1/deliveries"); out != "" {
		t.Error(out)
	}
	if out := web.want(200, "GET", "/v1/deliveries"); !strings.Contains(out, taken.ID) {
		t.Error(out)
	}
	if out := prom.want(200, "GET", "/v1/queues/late.example"); !strings.Contains(out, `"deferred":1`) || !strings.Contains(out, `"reason":"`) {
		t.Error(out)
	}
	web.want(403, "POST", "/v1/queues/late.example/cancel")
	web.want(200, "POST", "/v1/messages/"+taken.ID+"/cancel")
	for _, r := range d.waitEvent(taken.ID, "cancelled") {
		if r.text("event") == "cancelled" && !strings.Contains(fmt.Sprint(r), "web") {
			t.Errorf("nobody knows who cancelled: %v", r)
		}
	}

	// A user who is gone from the file is gone at the reload.
	config, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	d.write(strings.Replace(string(config), `name = "shop"`, `name = "till"`, 1))
	op.want(200, "POST", "/v1/config/reload")
	if out := shop.want(200, "GET", "/v1/deliveries"); out != "" {
		t.Error(out)
	}
	d.write(strings.Replace(string(config), "[[user]]\nname = \"shop\"", "[[user]]\npassword = \"x\"\nname = \"shop\"", 1))
	if out := op.want(422, "POST", "/v1/config/reload"); !strings.Contains(out, "password") || !strings.Contains(out, "errors") {
		t.Error(out)
	}
	d.write(string(config))
	d.stop()
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("the port is still open")
	}
}

// everyOperation: for a stranger everything but health is 401; for admin nothing
// of the document is missing.
func everyOperation(t *testing.T, stranger, op *api) {
	t.Helper()
	var doc struct {
		OpenAPI string                                `json:"openapi"`
		Paths   map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(op.want(200, "GET", "/openapi.json")), &doc); err != nil || doc.OpenAPI != "3.1.0" || len(doc.Paths) < 20 {
		t.Fatalf("%v: %s, %d paths", err, doc.OpenAPI, len(doc.Paths))
	}
	page, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	for path, item := range doc.Paths {
		told := path
		for _, verb := range []string{"release", "retry", "cancel", "reroute"} { // told together with hold
			if short, ok := strings.CutSuffix(path, "/"+verb); ok {
				told = short + "/hold"
				break
			}
		}
		if !strings.Contains(string(page), told) {
			t.Errorf("docs/http.md does not tell of %s", path)
		}
		at := strings.NewReplacer("{id}", "01HZZZZZZZZZZZZZZZZZZZZZZZ", "{destination}", "nobody.example").Replace(path)
		for method := range item {
			if path == "/healthz" || path == "/readyz" {
				continue
			}
			method = strings.ToUpper(method)
			if status, text := stranger.ask(method, at, "", ""); status != 401 {
				t.Errorf("%s %s for a stranger: %d %s", method, at, status, text)
			}
			if path == "/v1/events" || path == "/v1/config/reload" || method == "POST" && path == "/v1/doctor" {
				continue // without an end, or with an effect
			}
			if status, text := op.ask(method, at, "", ""); status == 401 || strings.Contains(text, "not part of this API") || status >= 500 && status != 503 {
				t.Errorf("%s %s for admin: %d %s", method, at, status, text)
			}
		}
	}
	stranger.want(401, "GET", "/")
	op.want(404, "GET", "/")
}

// TestHTTPOnlyWhereItIsSafe: an address that others reach needs TLS, or the
// operator's word.
func TestHTTPOnlyWhereItIsSafe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.daemon("\n[http]\naddress = \"0.0.0.0:8025\"\n")
	if _, errs, status := d.run("config", "check"); status != 78 || !strings.Contains(errs, "[http] address") || !strings.Contains(errs, "plain = true") {
		t.Errorf("%d %s", status, errs)
	}
	d.replace(`"0.0.0.0:8025"`, fmt.Sprintf("\"0.0.0.0:%d\"\nplain = true", freePort(t)))
	d.start()
	if !strings.Contains(d.log(), "http.plain") {
		t.Error("plain is not warned of:\n", d.log())
	}
	d.stop()
}

// TestNoHTTPWithoutAddress: the daemon binds its SMTP door and nothing else.
func TestNoHTTPWithoutAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.daemon("\n").start()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", d.process.Pid()))
	if err != nil || len(fds) == 0 {
		t.Skip("open sockets are read from /proc, which is not here")
	}
	mine := map[string]bool{}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err == nil && strings.HasPrefix(target, "socket:[") {
			mine[strings.Trim(target, "socket:[]")] = true
		}
	}
	var bound []string
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", d.process.Pid(), table))
		if err != nil {
			t.Skip(err)
		}
		for line := range bytes.Lines(text) {
			const listening = "0A"
			if f := strings.Fields(string(line)); len(f) > 9 && f[3] == listening && mine[f[9]] {
				bound = append(bound, f[1])
			}
		}
	}
	_, port, _ := net.SplitHostPort(d.smtp)
	var n int
	fmt.Sscan(port, &n)
	if len(bound) != 1 || !strings.HasSuffix(bound[0], fmt.Sprintf(":%04X", n)) {
		t.Errorf("bound %v, the SMTP door is %04X", bound, n)
	}
	d.stop()
}
