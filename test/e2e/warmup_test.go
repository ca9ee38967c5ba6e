package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// youngDay is a plan of three recipients a day; the warm-up began today, or
// yesterday where midnight is near.
func youngDay() (config string, ceiling int) {
	start := time.Now().UTC()
	for _, end := range []time.Duration{0, 5 * time.Minute} {
		if start.Add(end).Day() != start.Day() {
			start = start.Add(end)
		}
	}
	return fmt.Sprintf(`warmup = { start = %q, plan = "tiny" }

[[warmup_plan]]
name = "tiny"
days = [3, 3, 3]
`, start.AddDate(0, 0, -1).Format(time.DateOnly)), 3
}

// fromSources counts a receiver's messages by the address that they came from.
func fromSources(t *testing.T, mx *mtatest.MX) map[string]int {
	t.Helper()
	out := map[string]int{}
	for _, m := range mx.Messages() {
		host, _, err := net.SplitHostPort(m.Remote.String())
		if err != nil {
			t.Fatal(err)
		}
		out[host] += len(m.To)
	}
	return out
}

const (
	oldSource = "127.0.0.41"
	newSource = "127.0.0.42"
)

// submitMany hands over n messages, from as many senders, so that the sources
// share them.
func (d *daemon) submitMany(domain string, first, n int) {
	d.t.Helper()
	c := d.client()
	for i := range n {
		out, err := c.Send(fmt.Sprintf("app%d@sender.example", first+i), []string{fmt.Sprintf("u%d@%s", first+i, domain)}, []byte("Subject: x\r\n\r\nx\r\n"))
		if err != nil || out.Final.Code != 250 {
			d.t.Fatal(out, err)
		}
	}
}

// TestWarmup: a new source sends its three a day and the warm one all others;
// what a kill -9 interrupts is not sent again tomorrow's way, and a restart
// gives no second day.
func TestWarmup(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "far.example")
	young, ceiling := youngDay()
	d := w.daemon(fmt.Sprintf("\n[[source]]\nip = %q\n\n[[source]]\nip = %q\n%s", oldSource, newSource, young)).start()
	arrived := func(n int) map[string]int {
		t.Helper()
		mtatest.Eventually(t, 30*time.Second, fmt.Sprintf("%d messages", n), func() bool { return len(recipientsOf(mx)) >= n })
		return fromSources(t, mx)
	}
	d.submitMany("far.example", 0, 40)
	got, total := arrived(40), 40
	mtatest.Eventually(t, 60*time.Second, "the ceiling", func() bool { // each of the three waits for a write
		d.submitMany("far.example", total, 5)
		total += 5
		got = arrived(total)
		return got[newSource] >= ceiling
	})
	if got[newSource] != ceiling {
		t.Errorf("%v: the new source has passed its ceiling", got)
	}
	if out := d.must("explain", "x@far.example", "--json"); !strings.Contains(out, `"name":"warmup","value":3`) || !strings.Contains(out, "3 of 3 recipients today, the ceiling") {
		t.Errorf("explain: %s", out)
	}
	for _, series := range []string{
		`mailout_warmup_ceiling{provider="other",source="127.0.0.42"} 3`,
		`mailout_warmup_sent{provider="other",source="127.0.0.42"} 3`,
		`mailout_warmup_day{provider="other",source="127.0.0.42"} 2`,
	} {
		if text := d.socket("GET", "/metrics"); !strings.Contains(text, series) {
			t.Errorf("no %s", series)
		}
	}
	out, _, _ := d.run("doctor", "--offline", "--only", "warmup", "--json")
	if !strings.Contains(out, `"id":"warmup","subject":"127.0.0.42","status":"pass"`) || !strings.Contains(out, "other: day 2 of 3, 3 of 3 recipients today") {
		t.Errorf("doctor: %s", out)
	}
	for range 3 {
		d.kill()
		d.start()
		d.submitMany("far.example", total, 20)
		total += 20
		if got := arrived(total); got[newSource] != ceiling || got[oldSource] < total-ceiling { // what the kill cut off may come twice
			t.Fatalf("after kill -9: %v", got)
		}
	}
}

// TestWarmupKilled: killed again and again while it sends, a new source never
// passes its ceiling.
func TestWarmupKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "far.example")
	young, ceiling := youngDay()
	d := w.daemon(fmt.Sprintf("\n[[source]]\nip = %q\n\n[[source]]\nip = %q\n%s", oldSource, newSource, young)).start()
	for n := range 8 {
		d.submitMany("far.example", 10*n, 10)
		d.kill()
		d.start()
	}
	mtatest.Eventually(t, 60*time.Second, "all messages", func() bool { return len(recipientsOf(mx)) >= 80 })
	if got := fromSources(t, mx); got[newSource] > ceiling {
		t.Errorf("%v", got)
	}
}

func recipientsOf(mx *mtatest.MX) map[string]bool {
	out := map[string]bool{}
	for _, m := range mx.Messages() {
		for _, to := range m.To {
			out[to.Address] = true
		}
	}
	return out
}

// TestWarmupAlone: without another source mail waits, says why, and is not
// returned.
func TestWarmupAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "far.example")
	young, ceiling := youngDay()
	d := w.daemon(fmt.Sprintf("\n[[source]]\nip = %q\n%s", newSource, young)).start()
	d.submitMany("far.example", 0, 10)
	mtatest.Eventually(t, 30*time.Second, "the ceiling", func() bool { return len(mx.Messages()) >= ceiling })
	var waiting []record
	mtatest.Eventually(t, 30*time.Second, "seven that wait", func() bool {
		waiting = nil
		for line := range strings.Lines(d.must("queue", "list", "--json")) {
			r := record{}
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(r.text("reason"), "lets no more mail go") {
				waiting = append(waiting, r)
			}
		}
		return len(waiting) == 10-ceiling
	}, func() string { return d.must("queue", "list", "--json") })
	for _, r := range waiting {
		if !strings.Contains(r.text("reason"), newSource) || r.text("state") != "queued" || !strings.HasSuffix(r.text("next"), "T00:00:00.000Z") {
			t.Errorf("%v", r)
		}
	}
	if got := fromSources(t, mx); got[newSource] != ceiling {
		t.Errorf("%v", got)
	}
	out, _, status := d.run("doctor", "--offline", "--only", "warmup")
	if status != 1 || !strings.Contains(strings.Join(strings.Fields(out), " "), "no source of pool default is warm") {
		t.Errorf("doctor: %d %s", status, out)
	}
}

// TestWarmupStops: too many addresses that do not exist end the new source's day
// there; a record tells of it, and the plan steps back, also over kill -9.
func TestWarmupStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	nobody := mtatest.Rule{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "550 5.1.1 no such user here"}}
	w.mx(mtatest.MXConfig{Rules: []mtatest.Rule{nobody}}, "far.example")
	young, _ := youngDay()
	d := w.daemon(fmt.Sprintf("\n[[source]]\nip = %q\n%s", newSource, young)).start()
	d.submitMany("far.example", 0, 5)
	records := d.waitEvent("standing", "standing")
	const want = "the warm-up of 127.0.0.42 stops for today at other: 5 addresses that do not exist (5 is too many, from 5 % on); day 2 of the plan, tomorrow is day 1"
	if r := records[len(records)-1]; r.text("reason") != want || r.text("source") != newSource {
		t.Errorf("%v", r)
	}
	d.kill()
	d.start()
	out, _, status := d.run("doctor", "--offline", "--only", "warmup")
	if status != 1 || !strings.Contains(strings.Join(strings.Fields(out), " "), "stopped for today: 5 addresses that do not exist") {
		t.Errorf("doctor: %d %s", status, out)
	}
}
