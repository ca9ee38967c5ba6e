package e2e

import (
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestHistory: what became of mail, asked in every way, also when it is gone.
func TestHistory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "to.example", "sender.example")
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "550 5.1.1 no such user"}}}}, "no.example")
	d := w.daemon("").start()
	defer d.stop()
	good := d.submit("app@sender.example", []string{"ann@to.example"}, "Message-ID: <order-7@shop.example>\r\nSubject: x\r\n\r\nx\r\n")
	bad := d.submit("other@sender.example", []string{"bob@no.example", "cy@to.example"}, "Subject: x\r\n\r\nx\r\n")
	d.waitEvent(good, "delivered")
	d.waitEvent(bad, "failed")
	d.waitEvent("cy@to.example", "delivered")
	lines := func(args ...string) []string {
		t.Helper()
		out := strings.TrimSpace(d.must(append([]string{"trace"}, args...)...))
		return strings.Split(out, "\n")
	}
	for _, v := range []struct {
		args  string
		lines int
		holds string
	}{
		{"--json <order-7@shop.example>", 2, good},
		{"--json --sender app@sender.example", 2, good},
		{"--json --event failed", 1, bad},
		{"--json --since 1h --limit 3", 3, good},
		{"--json --recipient cy@to.example " + bad, 2, "cy@to.example"},
		{"--json --follow " + good, 2, good}, // it is done, so this ends
		{"--json --messages --sender other@sender.example", 1, `"states":{"delivered":1,"failed":1}`},
		{"--json --state failed", 1, bad},
		{"-m ann@to.example", 2, "delivered  app@sender.example  ann@to.example"},
		{"-m <order-7@shop.example>", 2, good},
	} {
		got := lines(strings.Fields(v.args)...)
		if len(got) != v.lines || !strings.Contains(strings.Join(got, "\n"), v.holds) {
			t.Errorf("trace %s: %q, want %d lines with %s", v.args, got, v.lines, v.holds)
		}
	}
	if out := d.must("queue", "show", good, "--json"); !strings.Contains(out, `"state":"delivered"`) || !strings.Contains(out, `"status":[`) {
		t.Error(out)
	}
	for args, status := range map[string]int{
		"": 65, "--state lost": 65, "--event lost": 65, "--since x y@to.example": 64, "--limit=-1 y@to.example": 64, "--follow --messages": 64,
		"--tag none": 1, "--messages --tag none": 1, "nobody@to.example": 1,
	} {
		if out, errs, got := d.run(append([]string{"trace"}, strings.Fields(args)...)...); got != status || out != "" || strings.Count(errs, "\n") != 1 {
			t.Errorf("trace %s: %d, %q, %q", args, got, out, errs)
		}
	}
}

// TestFollowEndsWithTheMessage: a trace that follows tells what comes, and ends
// by itself.
func TestFollowEndsWithTheMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "450 4.2.0 later"}}}}, "to.example")
	d := w.daemon("")
	d.replace(`retry = ["1s"]`, `retry = ["1h"]`)
	d.start()
	defer d.stop()
	id := d.submit("app@sender.example", []string{"ann@to.example"}, "Subject: x\r\n\r\nx\r\n")
	d.waitEvent(id, "deferred")
	followed := make(chan string, 1)
	go func() {
		out, _, _ := d.run("trace", "--follow", "--json", id)
		followed <- out
	}()
	d.must("queue", "hold", id, "--yes")
	d.must("queue", "cancel", id, "--yes")
	select {
	case out := <-followed:
		var events []string
		for line := range strings.Lines(out) {
			_, rest, _ := strings.Cut(line, `"event":"`)
			word, _, _ := strings.Cut(rest, `"`)
			events = append(events, word)
		}
		if got := strings.Join(events, " "); got != "accepted deferred held cancelled" {
			t.Error(got)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	if len(mx.Messages()) != 0 {
		t.Error("it was delivered")
	}
}
