package e2e

import (
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// refusedMail is what a receiver says that has our address on a block list.
const refusedMail = "554 5.7.1 Service unavailable; Client host blocked using a block list"

// blocking are the rules of such a receiver.
func blocking(stage mtatest.Stage, match string) mtatest.Rule {
	return mtatest.Rule{Stage: stage, Match: match, Action: mtatest.Action{Reply: refusedMail, Drop: stage == mtatest.StageConnect}}
}

// fallbackRouter starts a router and gives it with its [router].
func (w *world) fallbackRouter(cfg mtatest.MXConfig, more string) (*mtatest.MX, string) {
	w.t.Helper()
	name := fmt.Sprintf("mx%d.world.example", w.next+1)
	router := w.mx(cfg)
	return router, fmt.Sprintf("\n[router]\nhost = %q\nport = %d\nuse = \"fallback\"\n%s\n", name, w.port, more)
}

// recipients counts the recipients that a server took mail for.
func recipients(mx *mtatest.MX) map[string]int {
	out := map[string]int{}
	for _, m := range mx.Messages() {
		for _, to := range m.To {
			out[to.Address]++
		}
	}
	return out
}

// TestFallback is the whole story: the mail of a receiver that refuses our
// address arrives by the router, other mail directly; kill -9 forgets nothing of
// it, everything tells of it, and the operator may end it.
func TestFallback(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	blocker := w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{blocking(mtatest.StageConnect, "")}}, "blocked.example", "also.blocked.example")
	friend := w.mx(mtatest.MXConfig{}, "friend.example")
	router, config := w.fallbackRouter(mtatest.MXConfig{}, `fallback_probe = "1h"`)
	d := w.daemon(config).start()
	d.submit("s@sender.example", []string{"ann@blocked.example", "bob@friend.example"}, "Subject: 1\r\n\r\nx\r\n")
	d.waitEvent("ann@blocked.example", "relayed")
	d.waitEvent("bob@friend.example", "delivered")
	if got := d.events("ann@blocked.example"); slices.Contains(got, "failed") || slices.Contains(got, "bounced") {
		t.Errorf("ann: %v", got)
	}
	tried := blocker.Stats().Sessions
	if tried != 1 {
		t.Errorf("the receiver was asked %d times", tried)
	}
	mtatest.Eventually(t, 10*time.Second, "what was learnt, written", func() bool { return len(d.trace("standing")) == 1 })
	d.kill()
	d.start()
	d.submit("s@sender.example", []string{"cat@blocked.example", "dan@also.blocked.example", "eve@friend.example"}, "Subject: 2\r\n\r\nx\r\n")
	for _, to := range []string{"cat@blocked.example", "dan@also.blocked.example"} {
		if got := d.waitEvent(to, "relayed"); len(got) != 2 {
			t.Errorf("%s: %v", to, got)
		}
	}
	d.waitEvent("eve@friend.example", "delivered")
	if n := blocker.Stats().Sessions; n != tried {
		t.Errorf("after kill -9 the receiver was asked again (%d)", n)
	}
	if got := recipients(router); len(got) != 3 || got["ann@blocked.example"] != 1 || got["cat@blocked.example"] != 1 || got["dan@also.blocked.example"] != 1 {
		t.Errorf("the router got %v", got)
	}
	if got := recipients(friend); len(got) != 2 || got["bob@friend.example"] != 1 || got["eve@friend.example"] != 1 {
		t.Errorf("directly went %v", got)
	}
	out := d.must("explain", "x@blocked.example", "--json")
	for _, want := range []string{`instead of direct delivery: mx3.world.example`, "Client host blocked", `"kind":"fallback"`} {
		if !strings.Contains(out, want) {
			t.Errorf("explain does not tell %q: %s", want, out)
		}
	}
	if got := d.trace("standing"); len(got) != 1 || got[0].text("event") != "standing" || !strings.Contains(got[0].text("reason"), "stands in for direct delivery to mx3.world.example") {
		t.Errorf("trace standing: %v", got)
	}
	if text := d.socket("GET", "/metrics"); !strings.Contains(text, `mailout_standing_sites{kind="fallback"} 1`) {
		t.Error("metrics do not count it")
	}
	if out := d.must("queue", "standing"); !strings.Contains(out, "the router stands in since ") {
		t.Errorf("queue standing: %s", out)
	}
	blocker.SetRules()
	if out := d.must("queue", "standing", "--clear", "--all"); !strings.Contains(out, "1 thing forgotten") {
		t.Errorf("cleared: %s", out)
	}
	d.submit("s@sender.example", []string{"fay@blocked.example"}, "Subject: 3\r\n\r\nx\r\n")
	d.waitEvent("fay@blocked.example", "delivered")
}

// TestFallbackEnds: when the receiver stops refusing, a probe finds that out, and
// all mail goes directly again; until then nothing is lost, doubled or returned.
func TestFallbackEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	blocker := w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{blocking(mtatest.StageConnect, "")}}, "blocked.example")
	router, config := w.fallbackRouter(mtatest.MXConfig{}, "fallback_probe = \"1s\"\nfallback_probe_max = \"1s\"")
	d := w.daemon(config).start()
	n, c := 0, d.client()
	send := func() string {
		n++
		to := fmt.Sprintf("u%d@blocked.example", n)
		if out, err := c.Send("s@sender.example", []string{to}, []byte("Subject: x\r\n\r\nx\r\n")); err != nil || out.Final.Code != 250 {
			t.Fatal(out, err)
		}
		return to
	}
	mtatest.Eventually(t, 60*time.Second, "three refused probes", func() bool {
		to := send()
		mtatest.Eventually(t, 30*time.Second, to+" at the router", func() bool { return recipients(router)[to] > 0 })
		return blocker.Stats().Sessions >= 4
	})
	blocker.SetRules()
	mtatest.Eventually(t, 60*time.Second, "direct delivery again", func() bool {
		to := send()
		mtatest.Eventually(t, 30*time.Second, to+" somewhere", func() bool { return recipients(router)[to]+recipients(blocker)[to] > 0 })
		return recipients(blocker)[to] > 0
	})
	before := len(router.Messages())
	for range 5 {
		to := send()
		mtatest.Eventually(t, 30*time.Second, to, func() bool { return recipients(blocker)[to] > 0 })
	}
	if len(router.Messages()) != before {
		t.Error("the router still gets mail")
	}
	by, direct := recipients(router), recipients(blocker)
	for i := 1; i <= n; i++ {
		if to := fmt.Sprintf("u%d@blocked.example", i); by[to]+direct[to] != 1 {
			t.Errorf("%s arrived %d times", to, by[to]+direct[to])
		}
	}
	d.waitEvent("standing", "standing")
	mtatest.Eventually(t, 10*time.Second, "the end in the journal", func() bool {
		got := d.trace("standing")
		return strings.Contains(got[len(got)-1].text("reason"), "is reached directly again")
	})
}

// TestFallbackOfSome: of one message those who were accepted stay delivered, who
// was refused goes by the router, and the router's refusal tells both replies.
func TestFallbackOfSome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	receiver := w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{blocking(mtatest.StageRcpt, "b*")}}, "some.example")
	router, config := w.fallbackRouter(mtatest.MXConfig{Rules: []mtatest.Rule{
		{Stage: mtatest.StageRcpt, Match: "bad@*", Action: mtatest.Action{Reply: "550 5.1.1 the router knows no such user"}},
	}}, `fallback_probe = "1h"`)
	d := w.daemon(config).start()
	id := d.submit("s@sender.example", []string{"ann@some.example", "bob@some.example", "bad@some.example"}, "Subject: x\r\n\r\nx\r\n")
	d.waitEvent("bob@some.example", "relayed")
	got := d.waitEvent("bad@some.example", "failed")
	for _, r := range got {
		if r.text("event") == "failed" && (!strings.Contains(r.text("reason"), "the router knows no such user") || !strings.Contains(r.text("reason"), "directly before: ") || !strings.Contains(r.text("reason"), "Client host blocked")) {
			t.Errorf("the reason is %q", r.text("reason"))
		}
	}
	if got := recipients(receiver); len(got) != 1 || got["ann@some.example"] != 1 {
		t.Errorf("directly: %v (%s)", got, id)
	}
	if got := recipients(router); len(got) != 1 || got["bob@some.example"] != 1 {
		t.Errorf("by the router: %v", got)
	}
}

// TestFallbackRouterDown: what the router cannot take waits, and is not returned;
// it goes when the router is back.
func TestFallbackRouterDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{blocking(mtatest.StageMail, "")}}, "blocked.example")
	router, config := w.fallbackRouter(mtatest.MXConfig{Rules: []mtatest.Rule{
		{Stage: mtatest.StageConnect, Action: mtatest.Action{Reply: "554 5.3.2 closed to you", Drop: true}},
	}}, `fallback_probe = "1h"`)
	d := w.daemon(config).start()
	d.submit("s@sender.example", []string{"ann@blocked.example"}, "Subject: x\r\n\r\nx\r\n")
	mtatest.Eventually(t, 30*time.Second, "two attempts by the router", func() bool { return router.Stats().Sessions >= 2 })
	if got := d.events("ann@blocked.example"); slices.Contains(got, "failed") || slices.Contains(got, "bounced") {
		t.Errorf("%v", got)
	}
	router.SetRules()
	d.waitEvent("ann@blocked.example", "relayed")
}

// TestTwoSourcesOneRefused: mail moves to the other source, nothing is returned,
// and it is told.
func TestTwoSourcesOneRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{blocking(mtatest.StageConnect, newSource)}}, "far.example")
	d := w.daemon(fmt.Sprintf("\n[[source]]\nip = %q\n\n[[source]]\nip = %q\n", oldSource, newSource)).start()
	const n = 60
	d.submitMany("far.example", 0, n)
	mtatest.Eventually(t, 60*time.Second, "all mail", func() bool { return len(mx.Messages()) >= n })
	if got := fromSources(t, mx); got[oldSource] != n || got[newSource] != 0 {
		t.Errorf("%v", got)
	}
	if got := d.summary(); got["queued"]+got["deferred"] != 0 {
		t.Errorf("%v", got)
	}
	d.waitEvent("standing", "standing")
	if out := d.must("queue", "standing"); !strings.Contains(out, " from "+newSource+": avoided until ") {
		t.Errorf("%s", out)
	}
	mx.SetRules()
	d.kill()
	d.start()
	d.submitMany("far.example", n, 20)
	mtatest.Eventually(t, 60*time.Second, "all mail after kill -9", func() bool { return len(mx.Messages()) >= n+20 })
	if got := fromSources(t, mx); got[newSource] != 0 {
		t.Errorf("after kill -9 the refused source is used: %v", got)
	}
	d.must("queue", "standing", "--clear", mxSite(t, d))
	mtatest.Eventually(t, 60*time.Second, "the other source", func() bool {
		d.submitMany("far.example", len(mx.Messages()), 10)
		return fromSources(t, mx)[newSource] > 0
	})
}

// mxSite is the site of the domain.
func mxSite(t *testing.T, d *daemon) string {
	t.Helper()
	out := d.must("explain", "x@far.example", "--json")
	_, rest, ok := strings.Cut(out, `"site":"`)
	site, _, _ := strings.Cut(rest, `"`)
	if !ok || net.ParseIP(site) != nil {
		t.Fatal(out)
	}
	return site
}

// TestAutomation: a rule of the operator's has mail to a site wait for a time,
// and classes come from the operator's own words, also on the command line.
func TestAutomation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{
		{Stage: mtatest.StageMail, First: 1, Action: mtatest.Action{Reply: "450 4.3.9 the postmaster is at lunch"}},
	}}, "lunch.example")
	d := w.daemon(`
[[classify]]
class = "recipient_filtered"
text = "postmaster is at (lunch|tea)"

[[automation]]
action = "suspend"
class = ["recipient_filtered"]
of = "site"
for = "4s"
`).start()
	d.submit("s@sender.example", []string{"ann@lunch.example"}, "Subject: 1\r\n\r\nx\r\n")
	got := d.waitEvent("ann@lunch.example", "deferred")
	if r := got[len(got)-1]; r.text("bounce_class") != "recipient_filtered" {
		t.Errorf("%v", r)
	}
	d.waitEvent("standing", "standing")
	out, _, _ := d.run("explain", "x@lunch.example", "--json") // status 1: there is no way now
	if !strings.Contains(out, "nothing is sent to the recipient's mail servers for a while") || !strings.Contains(out, "at lunch") {
		t.Errorf("explain: %s", out)
	}
	sessions := mx.Stats().Sessions
	d.submit("s@sender.example", []string{"bob@lunch.example"}, "Subject: 2\r\n\r\nx\r\n")
	d.waitEvent("bob@lunch.example", "deferred")
	if n := mx.Stats().Sessions; n != sessions {
		t.Errorf("the suspended site was asked (%d)", n)
	}
	d.waitEvent("ann@lunch.example", "delivered")
	d.waitEvent("bob@lunch.example", "delivered")
	classify := exec.Command(binary, "classify", "--config", d.config)
	classify.Stdin = strings.NewReader("450 4.3.9 the postmaster is at TEA\n")
	if out, err := classify.Output(); err != nil || string(out) != "recipient_filtered\tunclear\n" {
		t.Errorf("classify: %q %v", out, err)
	}
}
