package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"mailout/internal/mtatest"
)

// The tests of this file and of its two sisters are rows of docs/traps.md,
// seen from outside the daemon.

const plainLetter = "From: a@sender.example\r\nTo: b@fine.example\r\nSubject: hello\r\n" +
	"Date: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n\r\nhello\r\n"

func script(rules ...mtatest.Rule) mtatest.MXConfig { return mtatest.MXConfig{Rules: rules} }

// on answers a stage; with a pattern, what it fits alone.
func on(stage mtatest.Stage, match, reply string) mtatest.Rule {
	return mtatest.Rule{Stage: stage, Match: match, Action: mtatest.Action{Reply: reply}}
}

// once is a rule that serves one time.
func once(stage mtatest.Stage, a mtatest.Action) mtatest.Rule {
	return mtatest.Rule{Stage: stage, First: 1, Action: a}
}

// hosts starts a receiving server for each configuration and makes them the
// mail servers of domain, in this order of preference.
func (w *world) hosts(domain string, cfgs ...mtatest.MXConfig) []*mtatest.MX {
	w.t.Helper()
	var all []*mtatest.MX
	for i, cfg := range cfgs {
		all = append(all, w.mx(cfg))
		w.records(fmt.Sprintf("%s. MX %d mx%d.world.example.", domain, 10*(i+1), w.next))
	}
	return all
}

// ends gives the events of a message by recipient, in order: "deferred
// delivered".
func (d *daemon) ends(id string) map[string]string {
	d.t.Helper()
	out := map[string]string{}
	for _, r := range d.trace(id) {
		if e := r.text("event"); e != "accepted" {
			out[r.text("recipient")] = strings.TrimSpace(out[r.text("recipient")] + " " + e)
		}
	}
	return out
}

// waitEnds waits until the events of a message begin as wanted, for every
// recipient named.
func (d *daemon) waitEnds(id string, want map[string]string) {
	d.t.Helper()
	var got map[string]string
	defer func() {
		if d.t.Failed() {
			d.t.Logf("events: %v\n%s", got, d.must("trace", id))
		}
	}()
	mtatest.Eventually(d.t, 30e9, fmt.Sprintf("%v", want), func() bool {
		got = d.ends(id)
		for rcpt, events := range want {
			if !strings.HasPrefix(got[rcpt], events) {
				return false
			}
		}
		return true
	})
}

func TestTrap01_EndlessGreeting(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	endless := func(conn net.Conn, _ []byte) {
		line := bytes.Repeat([]byte("220-and on\r\n"), 4096)
		for {
			if _, err := conn.Write(line); err != nil {
				return
			}
		}
	}
	mx := w.hosts("two.example", script(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Takeover: endless}}), mtatest.MXConfig{})
	d := w.daemon("").start()
	id := d.submit("a@sender.example", []string{"b@two.example"}, plainLetter)
	d.waitEnds(id, map[string]string{"b@two.example": "delivered"})
	if n := len(mx[1].Messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
	if peak := d.peakMemory(); peak > 200<<20 {
		t.Errorf("%d octets of memory", peak)
	}
	d.stop()
}

func TestTrap02_HostileReplyText(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	hostile := "no\x00 \x1b[2Jsuch\rStatus: 2.0.0 \xff\xfe \xc2\x85user\x7f"
	w.mx(script(
		mtatest.Rule{Stage: mtatest.StageRcpt, Match: "bad@*", Action: mtatest.Action{Raw: "550-5.1.1 " + hostile + "\r\n550 5.1.1 " + hostile + "\r\n"}},
		mtatest.Rule{Stage: mtatest.StageRcpt, Match: "late@*", Action: mtatest.Action{Raw: "450 4.2.1 " + hostile + "\r\n"}},
	), "hostile.example")
	d := w.daemon("").start()
	id := d.submit("a@sender.example", []string{"bad@hostile.example", "late@hostile.example"}, plainLetter)
	d.waitEnds(id, map[string]string{"bad@hostile.example": "failed", "late@hostile.example": "deferred"})
	mtatest.Eventually(t, 20e9, "the bounce arrives", func() bool { return len(home.Messages()) == 1 })
	bounce := string(home.Messages()[0].Data)
	if n := strings.Count(bounce, "\nStatus:"); n != 1 {
		t.Errorf("%d Status fields:\n%s", n, bounce)
	}
	for where, text := range map[string]string{
		"bounce": strings.ReplaceAll(bounce, "\r\n", "\n"), "log": d.log(),
		"trace": d.must("trace", id), "trace --json": d.must("trace", id, "--json"),
		"queue show": d.must("queue", "show", id), "queue list": d.must("queue", "list"), "queue list --json": d.must("queue", "list", "--json"),
	} {
		if i := strings.IndexFunc(text, func(r rune) bool {
			return r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 || r == '\ufffd'
		}); i >= 0 {
			t.Errorf("%s: a harmful character at %q", where, text[max(0, i-40):min(len(text), i+20)])
		}
	}
	d.stop()
}

func TestTrap04_EveryHostMustSayNo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	no, busy := on(mtatest.StageConnect, "", "554 5.7.1 no service"), on(mtatest.StageConnect, "", "421 4.3.2 busy")
	w.hosts("next.example", script(no), mtatest.MXConfig{})
	w.hosts("all.example", script(no), script(no))
	later := w.hosts("later.example", script(no), script(busy))
	w.hosts("silent.example", script(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Hang: true}}), script(no))
	w.hosts("closed.example", script(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Drop: true}}), script(no))
	d := w.daemon("reply_timeout = \"1s\"\n").start()
	want := map[string]string{"next.example": "delivered", "all.example": "failed", "later.example": "deferred", "silent.example": "deferred", "closed.example": "deferred"}
	ids := map[string]string{}
	for domain := range want {
		ids[domain] = d.submit("a@sender.example", []string{"b@" + domain}, plainLetter)
	}
	for domain, event := range want {
		d.waitEnds(ids[domain], map[string]string{"b@" + domain: event})
	}
	later[1].SetRules()
	d.waitEvent(ids["later.example"], "delivered")
	d.stop()
}

func TestTrap05_421OnAnIdleSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(script(mtatest.Rule{Stage: mtatest.StageDot, Action: mtatest.Action{Reply: "250 ok", After: "421 4.4.2 idle\r\n", Drop: true}}), "idle.example")
	d := w.daemon("").start()
	for range 3 {
		id := d.submit("a@sender.example", []string{"b@idle.example"}, plainLetter)
		records := d.waitEvent(id, "delivered")
		if last := records[len(records)-1]; len(records) != 2 || last["attempt"] != float64(1) {
			t.Errorf("records: %v", records)
		}
	}
	if n := len(mx.Messages()); n != 3 {
		t.Errorf("%d messages", n)
	}
	d.stop()
}

func TestTrap06_FinalRefusalIsOfTheAccepted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "sender.example")
	mx := w.mx(script(on(mtatest.StageRcpt, "late@*", "450 4.2.1 later"), on(mtatest.StageDot, "", "554 5.6.0 spam")), "picky.example")
	d := w.daemon("").start()
	id := d.submit("a@sender.example", []string{"b@picky.example", "late@picky.example"}, plainLetter)
	d.waitEnds(id, map[string]string{"b@picky.example": "failed", "late@picky.example": "deferred"})
	mx.SetRules()
	d.waitEnds(id, map[string]string{"late@picky.example": "deferred"})
	d.waitEvent(id, "delivered")
	if m := mx.Messages(); len(m) != 1 || len(m[0].To) != 1 || m[0].To[0].Address != "late@picky.example" {
		t.Errorf("%d messages", len(m))
	}
	d.stop()
}

func TestTrap07_NoCopyAfterA250(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servers := map[string]*mtatest.MX{
		"closes.example": w.mx(script(mtatest.Rule{Stage: mtatest.StageDot, Action: mtatest.Action{Reply: "250 ok", Drop: true}}), "closes.example"),
		"quit.example":   w.mx(script(mtatest.Rule{Stage: mtatest.StageQuit, Action: mtatest.Action{Hang: true}}), "quit.example"),
		"refuse.example": w.mx(script(on(mtatest.StageQuit, "", "500 what"), on(mtatest.StageRset, "", "500 what")), "refuse.example"),
	}
	d := w.daemon("messages_per_connection = 1\n").start()
	for domain := range servers {
		for range 3 {
			id := d.submit("a@sender.example", []string{"b@" + domain}, plainLetter)
			if records := d.waitEvent(id, "delivered"); len(records) != 2 {
				t.Errorf("%s: %v", domain, records)
			}
		}
	}
	d.stop()
	for domain, mx := range servers {
		if n := len(mx.Messages()); n != 3 {
			t.Errorf("%s got %d copies of three messages", domain, n)
		}
	}
}

func TestTrap08_FinalReplyLost(t *testing.T) {
	t.Parallel()
	for name, without := range map[string][]string{"BDAT": nil, "DATA": {"CHUNKING"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			cfg := script(once(mtatest.StageDot, mtatest.Action{Keep: true, Drop: true}))
			cfg.Without = without
			mx := w.hosts("lost.example", cfg, mtatest.MXConfig{})
			d := w.daemon("").start()
			id := d.submit("a@sender.example", []string{"b@lost.example"}, plainLetter)
			records := d.waitEvent(id, "delivered")
			if len(records) != 3 || records[1]["uncertain"] != true || records[1].text("event") != "deferred" {
				t.Fatalf("records: %v", records)
			}
			if first, second := len(mx[0].Messages()), len(mx[1].Messages()); first != 2 || second != 0 {
				t.Errorf("%d copies at the first host, %d at the second", first, second)
			}
			d.stop()
		})
	}
}

func TestTrap09_NoBodyWithout354(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "sender.example")
	servers := map[string]*mtatest.MX{}
	want := map[string]string{"x250": "deferred", "x503": "failed", "x554": "failed", "x451": "deferred"}
	for name := range want {
		cfg := script(on(mtatest.StageData, "", name[1:]+" no 354"))
		cfg.Without = []string{"CHUNKING"}
		servers[name] = w.mx(cfg, name+".example")
	}
	d := w.daemon("").start()
	ids := map[string]string{}
	for name := range want {
		ids[name] = d.submit("a@sender.example", []string{"b@" + name + ".example"}, plainLetter)
	}
	for name, event := range want {
		d.waitEnds(ids[name], map[string]string{"b@" + name + ".example": event})
		if n := len(servers[name].Messages()); n != 0 {
			t.Errorf("%s: %d messages", name, n)
		}
		noViolations(t, servers[name]) // content taken for commands would be some
	}
	d.stop()
}

func TestTrap10_EachRecipientItsOwnEnd(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	mx := w.mx(script(
		mtatest.Rule{Stage: mtatest.StageRcpt, Match: "two@*", First: 1, Action: mtatest.Action{Reply: "450 4.2.1 later"}},
		on(mtatest.StageRcpt, "three@*", "550 5.1.1 who"),
	), "mixed.example")
	d := w.daemon("").start()
	id := d.submit("a@sender.example", []string{"one@mixed.example", "two@mixed.example", "three@mixed.example"}, plainLetter)
	d.waitEnds(id, map[string]string{"one@mixed.example": "delivered", "two@mixed.example": "deferred delivered", "three@mixed.example": "failed"})
	mtatest.Eventually(t, 20e9, "the bounce arrives", func() bool { return len(home.Messages()) == 1 })
	var to []string
	for _, m := range mx.Messages() {
		for _, r := range m.To {
			to = append(to, r.Address)
		}
	}
	if fmt.Sprint(to) != "[one@mixed.example two@mixed.example]" {
		t.Errorf("delivered to %v", to)
	}
	d.stop()
}

func TestTrap11_452AfterSomeRecipients(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{MaxRecipients: 2}, "few.example")
	w.mx(mtatest.MXConfig{}, "sender.example")
	w.mx(script(on(mtatest.StageRcpt, "", "552 5.2.2 mailbox full")), "full.example")
	d := w.daemon("").start()
	want := map[string]string{}
	var to []string
	for i := range 5 {
		to = append(to, fmt.Sprintf("u%d@few.example", i))
		want[to[i]] = "delivered"
	}
	d.waitEnds(d.submit("a@sender.example", to, plainLetter), want)
	if n := len(mx.Messages()); n != 3 {
		t.Errorf("%d transactions", n)
	}
	full := d.submit("a@sender.example", []string{"b@full.example"}, plainLetter)
	d.waitEnds(full, map[string]string{"b@full.example": "failed"})
	d.stop()
}

func TestTrap13_HELO(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(script(once(mtatest.StageHelo, mtatest.Action{Reply: "502 5.5.1 what"})), "old.example")
	d := w.daemon("").start()
	d.waitEnds(d.submit("a@sender.example", []string{"b@old.example", "c@old.example"}, plainLetter),
		map[string]string{"b@old.example": "delivered", "c@old.example": "delivered"})
	if m := mx.Messages(); len(m) != 1 || m[0].ESMTP || m[0].Chunked || m[0].Params != "" {
		t.Errorf("%+v", m)
	}
	if n := mx.Stats().Sessions; n != 1 {
		t.Errorf("%d sessions", n)
	}
	noViolations(t, mx)
	d.stop()
}

// withTLS gives a configuration a certificate of nobody's trust.
func withTLS(t *testing.T, cfg mtatest.MXConfig) mtatest.MXConfig {
	t.Helper()
	authority, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Certificate, err = authority.Certificate(true, "somewhere.example"); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestTrap14_STARTTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	inject := withTLS(t, script(once(mtatest.StageStartTLS, mtatest.Action{Reply: "220 go", After: "250 injected\r\n"})))
	refuse := withTLS(t, script(on(mtatest.StageStartTLS, "", "454 4.7.0 not now")))
	injected, refused := w.mx(inject, "inject.example"), w.mx(refuse, "refuse.example")
	d := w.daemon("").start()
	records := d.waitEvent(d.submit("a@sender.example", []string{"b@inject.example"}, plainLetter), "delivered")
	// Nothing went over the attacked connection; the next one was whole.
	if m := injected.Messages(); len(records) != 3 || len(m) != 1 || m[0].TLS == nil || m[0].Session == 1 {
		t.Errorf("records %v, %d messages", records, len(m))
	}
	d.waitEvent(d.submit("a@sender.example", []string{"b@refuse.example"}, plainLetter), "delivered")
	if m := refused.Messages(); len(m) != 1 || m[0].TLS != nil {
		t.Errorf("%d messages", len(m))
	}
	d.must("config", "set", "tls.outbound", "required")
	d.must("config", "reload")
	id := d.submit("a@sender.example", []string{"c@refuse.example"}, plainLetter)
	d.waitEnds(id, map[string]string{"c@refuse.example": "deferred deferred"})
	if n := len(refused.Messages()); n != 1 {
		t.Errorf("%d messages: one went in clear where TLS is required", n)
	}
	d.stop()
}

func TestTrap15_BrokenTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	garbage := func(conn net.Conn, pending []byte) {
		if len(pending) == 0 { // what comes before the client's hello is an attack: row 14
			_, _ = conn.Read(make([]byte, 1))
		}
		_, _ = io.WriteString(conn, "this is no TLS\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}
	servers := map[string]*mtatest.MX{}
	for name, a := range map[string]mtatest.Action{"closes": {Drop: true}, "resets": {Drop: true, Reset: true}, "hangs": {Hang: true}, "garbage": {Takeover: garbage}} {
		servers[name] = w.mx(withTLS(t, script(mtatest.Rule{Stage: mtatest.StageHandshake, Action: a})), name+".example")
	}
	d := w.daemon("reply_timeout = \"2s\"\n").start()
	for name, mx := range servers {
		records := d.waitEvent(d.submit("a@sender.example", []string{"b@" + name + ".example"}, plainLetter), "delivered")
		if m := mx.Messages(); len(records) != 2 || len(m) != 1 || m[0].TLS != nil || m[0].Session != 2 {
			t.Errorf("%s: records %v, %d messages", name, records, len(m))
		}
	}
	d.stop()
}

func TestTrap17_SizeIsRefusedHere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	small := w.mx(mtatest.MXConfig{Size: 100}, "small.example")
	none := w.mx(mtatest.MXConfig{Without: []string{"SIZE"}}, "none.example")
	d := w.daemon("").start()
	records := d.waitEvent(d.submit("a@sender.example", []string{"b@small.example"}, plainLetter), "failed")
	if last := records[len(records)-1]; last.text("enhanced") != "5.3.4" && records[1].text("enhanced") != "5.3.4" {
		t.Errorf("records: %v", records)
	}
	d.waitEvent(d.submit("a@sender.example", []string{"b@none.example"}, plainLetter), "delivered")
	if m := none.Messages(); strings.Contains(m[0].Params, "SIZE") {
		t.Errorf("MAIL parameters %q", m[0].Params)
	}
	mtatest.Eventually(t, 20e9, "the bounce arrives", func() bool { return len(home.Messages()) == 1 })
	if !bytes.Contains(home.Messages()[0].Data, []byte("Status: 5.3.4")) || len(small.Messages()) != 0 {
		t.Errorf("%s", home.Messages()[0].Data)
	}
	d.stop()
}
