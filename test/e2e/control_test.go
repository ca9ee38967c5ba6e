package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// result is what a command of `mailout queue` tells with --json.
type result struct {
	Matched, Changed, Skipped, Kept, Gone int
	InFlight                              int `json:"in_flight"`
	HoldsEnded                            int `json:"holds_ended"`
	Finished                              bool
}

func (d *daemon) control(args ...string) (r result) {
	d.t.Helper()
	out := d.must(append([]string{"queue"}, append(args, "--yes", "--json")...)...)
	if err := json.Unmarshal([]byte(out), &r); err != nil || !r.Finished {
		d.t.Fatalf("%v: %s, %v", args, out, err)
	}
	return r
}

func (d *daemon) events(id string) (list []string) {
	for _, r := range d.trace(id) {
		list = append(list, r.text("event"))
	}
	return list
}

// waiting submits mail that a receiver defers for an hour.
func waitingWorld(t *testing.T) (w *world, d *daemon, open *mtatest.MX) {
	w = newWorld(t)
	later := mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "450 4.2.1 come back later"}}}}
	w.mx(later, "later.example", "tardy.example")
	open = w.mx(mtatest.MXConfig{}, "open.example", "sender.example")
	d = w.daemon("")
	d.replace(`retry = ["1s"]`, `retry = ["1h"]`)
	return w, d.start(), open
}

func TestQueueCommands(t *testing.T) {
	_, d, _ := waitingWorld(t)
	a := d.submit("a@sender.example", []string{"x@later.example"}, letter)
	b := d.submit("b@sender.example", []string{"y@later.example"}, letter)
	c := d.submit("a@sender.example", []string{"z@tardy.example"}, letter)
	for _, id := range []string{a, b, c} {
		d.waitEvent(id, "deferred")
	}
	if out := d.must("queue", "cancel", "--sender", "a@sender.example", "--dry-run"); !strings.Contains(out, "2 deliveries to cancel") || !strings.Contains(out, a) || !strings.Contains(out, c) || strings.Contains(out, b) {
		t.Errorf("--dry-run: %s", out)
	}
	if r := d.control("hold", "--sender", "a@sender.example", "--destination", "later.example", "--reason", "a wave"); r.Matched != 1 || r.Changed != 1 {
		t.Errorf("%+v", r)
	}
	if s := d.shown(a); s.text("state") != "held" || !strings.HasSuffix(s.text("reason"), ": a wave") || !strings.HasPrefix(s.text("reason"), "held by ") {
		t.Errorf("%v", s)
	}
	if s := d.summary(); s["held"] != 1 || s["deferred"] != 2 {
		t.Errorf("%v", s)
	}
	if r := d.control("retry", "--stream", "default", "--state", "deferred", "--site", d.shown(c).text("site"), "--older", "1ms"); r.Changed != 2 {
		t.Errorf("retry by site: %+v", r) // both domains have one MX set
	}
	mtatest.Eventually(t, 30*time.Second, "a second attempt", func() bool { return len(d.events(b)) >= 4 }, d.log)
	if got := strings.Join(d.events(b), " "); got != "accepted deferred retried deferred" {
		t.Errorf("%s", got)
	}
	if r := d.control("release", a); r.Changed != 1 {
		t.Errorf("%+v", r)
	}
	mtatest.Eventually(t, 30*time.Second, "the released one is tried", func() bool { return len(d.events(a)) >= 5 }, d.log)
	if got := strings.Join(d.events(a), " "); got != "accepted deferred held released deferred" {
		t.Errorf("%s", got)
	}
	if r := d.control("cancel", "--recipient", "x@later.example"); r.Changed != 1 {
		t.Errorf("%+v", r)
	}
	if got := strings.Join(d.events(a), " "); got != "accepted deferred held released deferred cancelled" {
		t.Errorf("%s", got)
	}
	if r := d.control("cancel", "--all"); r.Changed != 2 {
		t.Errorf("%+v", r)
	}
	if s := d.summary(); s["deferred"] != 0 || s["queued"] != 0 {
		t.Errorf("%v", s)
	}
	d.stop()
}

func TestQueueCommandsAreRefused(t *testing.T) {
	_, d, _ := waitingWorld(t)
	for _, c := range []struct {
		args, words string
		status      int
	}{
		{"hold --yes", "name what is meant", 64},
		{"cancel --all", "--yes", 64}, // nobody can be asked
		{"cancel --all --stream x --yes", "--all", 64},
		{"hold --stream x --expires 2h --yes", "expire", 64},
		{"retry --state delivered --yes", "not a state", 64},
		{"cancel --older soon --yes", "time span", 64},
		{"cancel ABC --yes", "not a message ID", 64},
		{"release --id= --yes", "", 64},
	} {
		_, errs, status := d.run(append([]string{"queue"}, strings.Fields(c.args)...)...)
		if status != c.status || !strings.Contains(errs, c.words) {
			t.Errorf("queue %s: status %d, %s", c.args, status, errs)
		}
	}
	for path, want := range map[string]string{
		"/v1/messages/01ARYZ6S410000000000000000/hold": "404", "/v1/messages/no/hold": "400", "/v1/deliveries/hold": "400",
		"/v1/deliveries/cancel?destination=": "400", "/v1/deliveries/cancel?recipent=a@b.example&all=1": "400", "/v1/deliveries/delete?all=1": "404",
	} {
		if status, body := d.tell(path); status != want {
			t.Errorf("%s: %s %s", path, status, body)
		}
	}
	d.stop()
}

// TestHeldDestination: as DESIGN has it, by the socket and the command line;
// for mail to come, over a kill, until it is released or has expired.
func TestHeldDestination(t *testing.T) {
	_, d, open := waitingWorld(t)
	if status, body := d.tell("/v1/queues/open.example/hold?reason=they+asked"); status != "200" || !strings.Contains(body, `"destination":"open.example"`) {
		t.Fatalf("%s %s", status, body)
	}
	var ids []string
	for i := range 3 {
		ids = append(ids, d.submit("a@sender.example", []string{fmt.Sprintf("u%d@open.example", i)}, letter))
		d.waitEvent(ids[i], "held")
		if i == 0 {
			d.kill()
			d.start()
		}
	}
	if out := d.must("queue", "summary"); !strings.Contains(out, "destination open.example held") || !strings.Contains(out, "they asked") || !strings.Contains(out, "3 held") {
		t.Errorf("summary: %s", out)
	}
	if out := d.must("explain", "x@open.example", "--json"); !strings.Contains(out, `"held_by":"destination open.example held`) {
		t.Errorf("explain: %s", out)
	}
	if status, body := d.tell("/v1/messages/" + ids[0] + "/release"); status != "200" || !strings.Contains(body, `"kept":1`) {
		t.Errorf("%s %s", status, body)
	}
	if status, body := d.tell("/v1/messages/" + ids[0] + "/cancel"); status != "200" || !strings.Contains(body, `"changed":1`) {
		t.Errorf("%s %s", status, body)
	}
	if n := open.Stats().Messages; n != 0 {
		t.Errorf("%d messages arrived", n)
	}
	if r := d.control("release", "--destination", "open.example"); r.Changed != 2 || r.HoldsEnded != 1 {
		t.Errorf("%+v", r)
	}
	for _, id := range ids[1:] {
		d.waitEvent(id, "delivered")
	}
	d.control("hold", "--destination", "OPEN.example", "--expires", "2s")
	last := d.submit("a@sender.example", []string{"u@open.example"}, letter)
	d.waitEvent(last, "held")
	d.waitEvent(last, "delivered")
	if out := d.must("queue", "summary", "--json"); strings.Contains(out, "holds") {
		t.Errorf("the hold has expired: %s", out)
	}
	d.stop()
}

// tell posts to the control socket.
func (d *daemon) tell(path string) (status, body string) {
	d.t.Helper()
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(d.dir, "spool", "mailout.sock"))
	}
	client := &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, Timeout: time.Minute}
	resp, err := client.Post("http://mailout"+path, "", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		d.t.Fatal(err)
	}
	return strconv.Itoa(resp.StatusCode), string(text)
}

// TestReroute: a message goes by the host that the operator names, at once;
// a destination also with what comes later and over a kill, until it ends.
func TestReroute(t *testing.T) {
	w, d, open := waitingWorld(t)
	there := fmt.Sprintf("127.0.2.3:%d", w.port) // where open is
	a := d.submit("a@sender.example", []string{"x@later.example"}, letter)
	b := d.submit("a@sender.example", []string{"y@later.example"}, letter)
	d.waitEvent(a, "deferred")
	d.waitEvent(b, "deferred")
	if out := d.must("queue", "reroute", a, "--to", there, "--dry-run"); !strings.Contains(out, "1 delivery to reroute") {
		t.Error(out)
	}
	if r := d.control("reroute", a, "--to", there, "--reason", "they moved"); r.Matched != 1 || r.Changed != 1 {
		t.Errorf("%+v", r)
	}
	d.waitEvent(a, "relayed")
	records := d.trace(a)
	if got := strings.Join(d.events(a), " "); got != "accepted deferred rerouted relayed" || !strings.Contains(records[2].text("reason"), "rerouted to "+there+" by ") || !strings.HasSuffix(records[2].text("reason"), ": they moved") {
		t.Errorf("%s: %v", got, records[2])
	}
	if r := d.control("reroute", "--destination", "later.example", "--to", there, "--expires", "1h"); r.Changed != 1 {
		t.Errorf("%+v", r)
	}
	d.waitEvent(b, "relayed")
	d.kill()
	d.start()
	c := d.submit("a@sender.example", []string{"z@later.example"}, letter)
	d.waitEvent(c, "relayed")
	if out := d.must("queue", "summary"); !strings.Contains(out, "destination later.example rerouted to "+there) {
		t.Errorf("summary: %s", out)
	}
	if out := d.must("explain", "q@later.example", "--json"); !strings.Contains(out, `"matched":"destination later.example rerouted to `+there) || !strings.Contains(out, `"route":"`+there) {
		t.Errorf("explain: %s", out)
	}
	if out := d.must("queue", "reroute", "--destination", "later.example", "--clear", "--yes"); !strings.Contains(out, "1 route ended, of destinations") {
		t.Error(out)
	}
	last := d.submit("a@sender.example", []string{"q@later.example"}, letter)
	d.waitEvent(last, "deferred")
	// To ourselves it would go in a circle: it waits, and says why.
	d.control("reroute", last, "--to", d.smtp)
	if s := d.shown(last); s.text("rerouted") != d.smtp {
		t.Errorf("%v", s)
	}
	mtatest.Eventually(t, 30*time.Second, "the loop is refused", func() bool {
		return strings.Contains(d.shown(last).text("reason"), "where we listen ourselves")
	}, d.log)
	if n := open.Stats().Messages; n != 3 {
		t.Errorf("%d messages arrived", n)
	}
	for _, args := range []string{"--all --yes", "--all --to direct --clear --yes", "--all --to a:b:c --yes", "--to direct --yes", "--stream x --to direct --expires 2h --yes", "--destination x.example --to default --expires 2h --yes"} {
		if _, errs, status := d.run(append([]string{"queue", "reroute"}, strings.Fields(args)...)...); status != 64 {
			t.Errorf("queue reroute %s: status %d, %s", args, status, errs)
		}
	}
	if status, body := d.tell("/v1/deliveries/hold?all=1&to=direct"); status != "400" {
		t.Errorf("%s %s", status, body)
	}
	d.stop()
}

// TestSendmailRunsTheQueue: -q tries what waits, all of it or what is named.
func TestSendmailRunsTheQueue(t *testing.T) {
	_, d, _ := waitingWorld(t)
	a := d.submit("a@sender.example", []string{"x@later.example"}, letter)
	b := d.submit("b@sender.example", []string{"y@tardy.example"}, letter)
	d.waitEvent(a, "deferred")
	d.waitEvent(b, "deferred")
	for i, args := range [][]string{{"-q"}, {"-qRlater.example"}, {"-q30m"}} {
		if stderr, status := d.sendmail(sendmailCommand(t), "", args...); status != 0 {
			t.Errorf("%v: status %d: %s", args, status, stderr)
		}
		want := []int{4, 6, 6}[i]
		mtatest.Eventually(t, 30*time.Second, "the next attempt", func() bool { return len(d.events(a)) >= want }, d.log)
	}
	if got := strings.Join(d.events(a), " "); got != "accepted deferred retried deferred retried deferred" {
		t.Error(got)
	}
	mtatest.Eventually(t, 30*time.Second, "the other's attempt", func() bool { return len(d.events(b)) == 4 }, d.log)
	d.stop()
	if _, status := d.sendmail(sendmailCommand(t), "", "-q"); status != 75 {
		t.Errorf("without a daemon: status %d", status)
	}
}
