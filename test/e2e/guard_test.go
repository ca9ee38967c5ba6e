package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// reflector is a service that tells the address that it is told to.
func reflector(t *testing.T, address string) (url string, say func(string)) {
	t.Helper()
	var says atomic.Pointer[string]
	says.Store(&address)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, *says.Load()) }))
	t.Cleanup(s.Close)
	return s.URL, func(a string) { says.Store(&a) }
}

// guarded is a daemon that looks at its identity every second and holds mail.
// Mail expires after 3 seconds.
func (w *world) guarded(url string) *daemon {
	return w.daemon(fmt.Sprintf(`expire = "3s"
delay_notice = "1s"

[[source]]
ip = "127.0.0.1"
hostname = "mailout.sender.example"

[identity]
guard = "hold"
interval = "1s"
reflectors = [%q]
probes = []
blocklists = []
external_names = ["fine.example"]
bogus_name = ""
`, url))
}

// socket asks the control socket.
func (d *daemon) socket(method, path string) string {
	d.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.dir, "spool", "mailout.sock"))
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: time.Minute}
	req, err := http.NewRequest(method, "http://mailout"+path, nil)
	if err != nil {
		d.t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		d.t.Fatalf("%s %s: %s, %v: %s", method, path, resp.Status, err, body)
	}
	return string(body)
}

// shown is what `queue show` says of one message.
func (d *daemon) shown(id string) record {
	d.t.Helper()
	r := record{}
	if err := json.Unmarshal([]byte(d.must("queue", "show", id, "--json")), &r); err != nil {
		d.t.Fatal(err)
	}
	return r
}

// TestGuardHoldsWhileTheAddressIsAnother: the visible address changes under a
// running daemon. Its mail waits, longer than it may live and over a restart,
// and goes out when the record has followed; nothing is lost, nobody is told
// of a delay or a failure.
func TestGuardHoldsWhileTheAddressIsAnother(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "fine.example")
	w.mx(mtatest.MXConfig{}, "sender.example") // where reports would go
	w.records("mailout.sender.example. A 203.0.113.5")
	url, say := reflector(t, "203.0.113.5")
	d := w.guarded(url).start()

	first := d.submit("a@sender.example", []string{"b@fine.example"}, letter)
	d.waitEvent(first, "delivered")

	say("203.0.113.9")
	mtatest.Eventually(t, 30*time.Second, "the guard holds", func() bool { return strings.Contains(d.log(), "mail is held") }, d.log)
	held := d.submit("a@sender.example", []string{"b@fine.example"}, letter)
	theCause(t, d, held)
	mtatest.Eventually(t, 30*time.Second, "the mail is older than it may become", func() bool { return d.shown(held)["age_s"].(float64) > 5 })
	d.stop()
	d.start()
	if !strings.Contains(d.log(), "held since before the start") {
		t.Error("a restart forgets what is held")
	}
	theCause(t, d, held)
	if s := d.summary(); s["queued"] != 1 || s["deferred"] != 0 || s["held"] != 0 || s["active"] != 0 {
		t.Errorf("%v", s)
	}
	if n := mx.Stats().Messages; n != 1 {
		t.Errorf("%d messages arrived", n)
	}

	w.dns.Remove("mailout.sender.example")
	w.records("mailout.sender.example. A 203.0.113.9")
	d.waitEvent(held, "delivered")
	for _, r := range d.trace(held) {
		if e := r.text("event"); e != "accepted" && e != "delivered" {
			t.Errorf("%v", r)
		}
	}
	after := d.submit("a@sender.example", []string{"b@fine.example"}, letter)
	d.waitEvent(after, "delivered")
	if n := mx.Stats().Messages; n != 3 {
		t.Errorf("%d messages arrived", n)
	}
	theHistory(t, d)
	d.stop()
}

// theCause: everywhere that people look.
func theCause(t *testing.T, d *daemon, id string) {
	t.Helper()
	reason := ""
	mtatest.Eventually(t, 30*time.Second, "queue show names the cause", func() bool {
		reason = d.shown(id).text("reason")
		return strings.Contains(reason, "identity.guard holds mail from 127.0.0.1: address.record of mailout.sender.example") &&
			strings.Contains(reason, "mailout.sender.example. IN A 203.0.113.9")
	}, func() string { return reason }, d.log)
	if explained := d.must("explain", "b@fine.example", "--json"); !strings.Contains(explained, `"held_by":"identity.guard holds mail`) {
		t.Errorf("explain: %s", explained)
	}
	if answer := d.socket(http.MethodPost, "/v1/doctor"); !strings.Contains(answer, `"status":"fail"`) || !strings.Contains(answer, `"held":[{`) {
		t.Errorf("POST /v1/doctor: %s", answer)
	}
	metrics := d.socket(http.MethodGet, "/metrics")
	for _, line := range []string{
		`mailout_identity_check{id="address.record",status="fail",subject="mailout.sender.example"} 1`,
		`mailout_identity_held{check="address.record",source="127.0.0.1"} 1`,
		`mailout_queue_deliveries{state="queued"} 1`, "mailout_identity_age_seconds ",
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("metrics lack %s:\n%s", line, metrics)
		}
	}
}

// theHistory: the journal tells what happened to the identity.
func theHistory(t *testing.T, d *daemon) {
	t.Helper()
	want := []string{"address.record of mailout.sender.example: fail (was pass)", "identity.guard holds mail", "address.record of mailout.sender.example: pass (was fail)", "identity.guard releases mail"}
	records := d.trace("identity")
	for _, r := range records {
		if len(want) > 0 && strings.HasPrefix(r.text("reason"), want[0]) && r.text("event") == "identity" {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		t.Errorf("no %q in %v", want[0], records)
	}
}

// TestGuardWarnsByDefault: the same change with guard = "warn" is told and
// holds nothing; a reload to "hold" does at once, and back releases.
func TestGuardWarnsByDefault(t *testing.T) {
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "fine.example")
	w.records("mailout.sender.example. A 203.0.113.5")
	url, _ := reflector(t, "203.0.113.9")
	d := w.guarded(url)
	d.replace(`guard = "hold"`, `guard = "warn"`)
	d.start()
	mtatest.Eventually(t, 30*time.Second, "the change is told", func() bool { return strings.Contains(d.log(), "check=address.record") }, d.log)
	d.waitEvent(d.submit("a@sender.example", []string{"b@fine.example"}, letter), "delivered")

	d.replace(`guard = "warn"`, `guard = "hold"`)
	d.must("config", "reload")
	held := d.submit("a@sender.example", []string{"b@fine.example"}, letter)
	theCause(t, d, held)
	d.replace(`guard = "hold"`, `guard = "warn"`)
	d.must("config", "reload")
	d.waitEvent(held, "delivered")
	d.stop()
}

// TestReceiversTeachTheAddress: what a receiver says in its reply to EHLO is
// known to the daemon, and `mailout doctor` hears it from there.
func TestReceiversTeachTheAddress(t *testing.T) {
	w := newWorld(t)
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{
		Stage: mtatest.StageHelo, Action: mtatest.Action{Reply: "250 mx at your service, [203.0.113.77]"},
	}}}, "fine.example")
	w.records("mailout.sender.example. A 203.0.113.5")
	url, _ := reflector(t, "203.0.113.5")
	d := w.guarded(url).start()
	d.waitEvent(d.submit("a@sender.example", []string{"b@fine.example"}, letter), "delivered")
	if answer := d.socket(http.MethodGet, "/v1/doctor"); !strings.Contains(answer, `"visible":"203.0.113.77"`) || !strings.Contains(answer, `"source":"127.0.0.1"`) {
		t.Errorf("GET /v1/doctor: %s", answer)
	}
	out, errs, _ := d.run("doctor", "--json", "--only", "address.public")
	if !strings.Contains(out, "203.0.113.77") {
		t.Errorf("doctor: %s%s", out, errs)
	}
	// One receiver's word, against the reflector's, holds nothing.
	d.waitEvent(d.submit("a@sender.example", []string{"b@fine.example"}, letter), "delivered")
	d.stop()
}
