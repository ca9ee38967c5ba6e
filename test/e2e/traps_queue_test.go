package e2e

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

func TestTrap30_WhatDNSSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	mx := w.mx(mtatest.MXConfig{}) // 127.0.2.3
	w.records("null.example. MX 0 .\nnull.example. A 127.0.2.3\nfail.example. A 127.0.2.3\nsilent.example. A 127.0.2.3\nplain.example. A 127.0.2.3")
	w.dns.Script("fail.example", wire.TypeMX, mtatest.Script{Rcode: wire.RcodeServerFailure})
	w.dns.Script("silent.example", wire.TypeMX, mtatest.Script{Silent: true})
	d := w.daemon("").start()
	ids := map[string]string{}
	for _, name := range []string{"null", "missing", "fail", "silent", "plain"} {
		ids[name] = d.submit("a@sender.example", []string{"b@" + name + ".example"}, plainLetter)
	}
	for name, want := range map[string]string{"null": "5.1.10", "missing": "5.1.2"} {
		for _, r := range d.waitEvent(ids[name], "failed") {
			if r.text("event") == "failed" && (r.text("enhanced") != want || r["attempt"] != float64(1)) {
				t.Errorf("%s: %v", name, r)
			}
		}
	}
	d.waitEnds(ids["plain"], map[string]string{"b@plain.example": "delivered"})
	d.waitEnds(ids["fail"], map[string]string{"b@fail.example": "deferred deferred"})
	d.waitEnds(ids["silent"], map[string]string{"b@silent.example": "deferred"})
	for _, name := range []string{"null.example", "fail.example", "silent.example"} {
		if n := w.dns.Count(name, "A") + w.dns.Count(name, "AAAA"); n != 0 {
			t.Errorf("%s: its addresses were asked for", name)
		}
	}
	if n := len(mx.Messages()); n != 1 {
		t.Errorf("%d messages at the address records", n)
	}
	arrive(t, home, 2)
	d.stop()
}

func TestTrap31_OurselvesAndPrivateAddresses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "private.example")
	w.records("self.example. MX 10 mailout.sender.example.\nself.example. MX 20 mx3.world.example.\nmailout.sender.example. A 127.0.2.9")
	d := w.daemon("").start()
	failed := func(domain, enhanced string) {
		t.Helper()
		for _, r := range d.waitEvent(d.submit("", []string{"b@" + domain}, plainLetter), "failed") {
			if r.text("event") == "failed" && r.text("enhanced") != enhanced {
				t.Errorf("%s: %v", domain, r)
			}
		}
	}
	failed("self.example", "5.4.6") // the host behind us is cut off too
	d.must("config", "set", "delivery.private_networks", "false")
	d.must("config", "reload")
	failed("private.example", "5.4.4")
	if n := mx.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions with a host that is to be left alone", n)
	}
	d.stop()
}

func TestTrap32_TruncatedAnswers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "many.example")
	for i := range 300 {
		w.records(fmt.Sprintf("many.example. MX 1000 mx%d.many.example.", i))
	}
	w.dns.Script("many.example", wire.TypeMX, mtatest.Script{Truncate: true})
	d := w.daemon("").start()
	d.waitEvent(d.submit("a@sender.example", []string{"b@many.example"}, plainLetter), "delivered")
	if n := len(mx.Messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
	d.stop()
}

func TestTrap34_RouterThatDoesNotResolve(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.daemon("[router]\nhost = \"gone.example\"\n").start()
	id := d.submit("a@sender.example", []string{"b@any.example"}, plainLetter)
	d.waitEnds(id, map[string]string{"b@any.example": "deferred deferred"})
	if ends := d.ends(id)["b@any.example"]; strings.Contains(ends, "failed") {
		t.Errorf("events: %s", ends)
	}
	if log := d.log(); !strings.Contains(log, "gone.example") || !strings.Contains(log, "does not resolve") {
		t.Errorf("no alarm in the log:\n%s", log)
	}
	d.stop()
}

func TestTrap36_UnreadableConfigurationIsNoPolicy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "direct.example")
	router := w.mx(mtatest.MXConfig{}) // 127.0.2.3
	d := w.daemon("[router]\nhost = \"127.0.2.3\"\nport = " + fmt.Sprint(w.port) + "\n").start()
	if err := os.Remove(d.config); err != nil {
		t.Fatal(err)
	}
	if err := d.process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	mtatest.Eventually(t, 10e9, "the log names the file", func() bool { return strings.Contains(d.log(), d.config) })
	out, err := d.client().Send("a@sender.example", []string{"b@direct.example"}, []byte(plainLetter))
	if err != nil || !out.Accepted() {
		t.Fatal(out, err)
	}
	arrive(t, router, 1) // of the last good file
	if n := mx.Stats().Sessions; n != 0 {
		t.Errorf("%d sessions past the router", n)
	}
	d.stop()
}

func TestTrap38_RestartRetriesNothingEarly(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	busy := w.mx(script(on(mtatest.StageRcpt, "", "450 4.2.1 later")), "busy.example")
	w.mx(mtatest.MXConfig{}, "fine.example")
	d := w.daemon("")
	d.start()
	d.must("config", "set", "delivery.retry", "1h")
	d.must("config", "reload")
	want := map[string]string{}
	var to []string
	for i := range 20 {
		to = append(to, fmt.Sprintf("u%d@busy.example", i))
		want[to[i]] = "deferred"
	}
	id := d.submit("a@sender.example", to, plainLetter)
	d.waitEnds(id, want)
	sessions := busy.Stats().Sessions
	for _, end := range []func(){d.stop, d.kill} {
		end()
		d.start()
		d.waitEvent(d.submit("a@sender.example", []string{"b@fine.example"}, plainLetter), "delivered")
		if n := busy.Stats().Sessions; n != sessions {
			t.Errorf("%d sessions more after a restart", n-sessions)
		}
	}
	for rcpt, events := range d.ends(id) {
		if events != "deferred" {
			t.Errorf("%s: %s", rcpt, events)
		}
	}
	d.stop()
}

func TestTrap40_GreylistedAndDead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	grey := w.mx(script(mtatest.Rule{Stage: mtatest.StageRcpt, Match: "grey@*", Action: mtatest.Action{Greylist: 1}}), "grey.example")
	w.records("dead.example. MX 10 dead.world.example.\ndead.world.example. A 127.0.2.200")
	d := w.daemon("").start()
	var dead []string
	for range 30 {
		dead = append(dead, d.submit("a@sender.example", []string{"b@dead.example"}, plainLetter))
	}
	id := d.submit("a@sender.example", []string{"one@grey.example", "grey@grey.example", "two@grey.example"}, plainLetter)
	d.waitEnds(id, map[string]string{"one@grey.example": "delivered", "two@grey.example": "delivered", "grey@grey.example": "deferred delivered"})
	if n := len(grey.Messages()); n != 2 {
		t.Errorf("%d messages", n)
	}
	// A dead site burns no attempts of what waits for it.
	if s := d.summary(); s["queued"]+s["deferred"] != 30 {
		t.Errorf("%v", s)
	}
	attempts := 0
	for _, id := range dead {
		attempts += len(d.trace(id)) - 1
	}
	if attempts > 15 {
		t.Errorf("%d attempts at a dead site", attempts)
	}
	d.stop()
}

func TestTrap41_ReportsEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	operator := w.mx(mtatest.MXConfig{}, "sender.example")
	w.mx(mtatest.MXConfig{Users: []string{}}, "users.example")
	d := w.daemon("").start()
	// The bounce cannot go to its sender: the operator hears of it once.
	id := d.submit("a@users.example", []string{"nobody@users.example"}, plainLetter)
	d.waitEvent(id, "failed")
	notice := arrive(t, operator, 1)[0]
	if notice.From != "" || notice.To[0].Address != "postmaster@sender.example" || !strings.HasPrefix(notice.Header("Auto-Submitted"), "auto-") {
		t.Errorf("from <%s> to %v:\n%s", notice.From, notice.To, notice.Data)
	}
	// Not even the operator can be told: it ends, and the log says so.
	d.must("config", "set", "postmaster", "nobody@users.example")
	d.must("config", "reload")
	id = d.submit("a@users.example", []string{"nobody@users.example"}, plainLetter)
	d.waitEvent(id, "failed")
	mtatest.Eventually(t, 20e9, "the queue is empty", func() bool { s := d.summary(); return s["queued"]+s["deferred"]+s["active"] == 0 })
	if n := len(d.trace("nobody@users.example")); n > 8 {
		t.Errorf("%d records: a circle", n)
	}
	if n := len(operator.Messages()); n != 1 {
		t.Errorf("%d notices", n)
	}
	d.stop()
}

func TestTrap42_DeliveryStatusNotifications(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	has := w.mx(mtatest.MXConfig{}, "has.example")
	w.mx(mtatest.MXConfig{Without: []string{"DSN"}}, "lacks.example")
	w.mx(mtatest.MXConfig{Users: []string{}}, "users.example")
	w.mx(script(on(mtatest.StageRcpt, "", "450 4.2.1 later")), "late.example")
	d := w.daemon("delay_notice = \"2s\"\n").start()
	submit := func(mail, rcpt string) string {
		c := d.client()
		for _, cmd := range []string{"MAIL FROM:<a@sender.example>" + mail, "RCPT TO:" + rcpt, "DATA"} {
			if r, err := c.Cmd("%s", cmd); err != nil || r.Code/100 > 3 {
				t.Fatalf("%s: %v %v", cmd, r, err)
			}
		}
		r, err := c.Cmd("%s.", plainLetter)
		if err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		return r.QueueID()
	}
	// A host with DSN is told everything, and reports itself.
	d.waitEvent(submit(" RET=HDRS ENVID=QQ+2B1", "<b@has.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2Bx@has.example"), "delivered")
	m := arrive(t, has, 1)[0]
	for _, want := range []string{"RET=HDRS", "ENVID=QQ+2B1"} {
		if !strings.Contains(m.Params, want) {
			t.Errorf("MAIL parameters %q lack %s", m.Params, want)
		}
	}
	for _, want := range []string{"NOTIFY=SUCCESS,DELAY", "ORCPT=rfc822;B+2Bx@has.example"} {
		if !strings.Contains(m.To[0].Params, want) {
			t.Errorf("RCPT parameters %q lack %s", m.To[0].Params, want)
		}
	}
	// A failure that nobody wants to hear of; then one without DSN beyond.
	d.waitEvent(submit("", "<b@users.example> NOTIFY=NEVER"), "failed")
	submit(" RET=HDRS ENVID=QQ+2B1", "<b@lacks.example> NOTIFY=SUCCESS ORCPT=rfc822;B+2Bx@lacks.example")
	report := arrive(t, home, 1)[0].Data
	for _, want := range []string{"Action: relayed", "Original-Envelope-Id: QQ+1", "Original-Recipient: rfc822; B+x@lacks.example", "Final-Recipient: rfc822; b@lacks.example", "text/rfc822-headers"} {
		if !bytes.Contains(report, []byte(want)) {
			t.Errorf("%q is not in the report:\n%s", want, report)
		}
	}
	// The delay is told once.
	id := submit("", "<b@late.example>")
	if m := arrive(t, home, 2)[1].Data; !bytes.Contains(m, []byte("Action: delayed")) {
		t.Errorf("%s", m)
	}
	after := len(d.trace(id))
	mtatest.Eventually(t, 20e9, "two more attempts", func() bool { return len(d.trace(id)) >= after+2 })
	if n := len(home.Messages()); n != 2 {
		t.Errorf("%d reports", n)
	}
	d.stop()
}

func TestTrap43_TermInTheMiddleOfDATA(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		action mtatest.Action
		event  string
		copies int
	}{
		"the reply comes in time": {mtatest.Action{Delay: time.Second}, "delivered", 1},
		"the reply never comes":   {mtatest.Action{Hang: true, Keep: true}, "deferred delivered", 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			begun := make(chan struct{}, 8)
			cfg := script(once(mtatest.StageDot, c.action))
			cfg.Without = []string{"CHUNKING"}
			cfg.OnEvent = func(e mtatest.Event) {
				if e.Stage == mtatest.StageData {
					begun <- struct{}{}
				}
			}
			mx := w.mx(cfg, "slow.example")
			d := w.daemon("[limits]\nstop = \"3s\"\n").start()
			id := d.submit("a@sender.example", []string{"b@slow.example"}, plainLetter)
			<-begun
			d.stop()
			d.start()
			d.waitEnds(id, map[string]string{"b@slow.example": c.event})
			for _, r := range d.trace(id) {
				if r.text("event") == "deferred" && r["uncertain"] != true {
					t.Errorf("the record does not say that it may be a duplicate: %v", r)
				}
			}
			if n := len(mx.Messages()); n != c.copies {
				t.Errorf("%d copies", n)
			}
			d.stop()
		})
	}
}

func TestTrap45_SlowDestinationsHoldNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	slow := w.mx(script(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Hang: true}}), "slow.example")
	w.mx(mtatest.MXConfig{}, "fine.example")
	d := w.daemon("[limits]\nstop = \"1s\"\n").start()
	for range 60 {
		d.submit("a@sender.example", []string{"b@slow.example"}, plainLetter)
	}
	mtatest.Eventually(t, 20e9, "the slow server is busy", func() bool { return slow.Stats().Open > 0 })
	for range 5 {
		d.waitEvent(d.submit("a@sender.example", []string{"b@fine.example"}, plainLetter), "delivered")
	}
	if n := slow.Stats().MaxOpen; n > 20 {
		t.Errorf("%d connections to one site", n)
	}
	d.stop()
}
