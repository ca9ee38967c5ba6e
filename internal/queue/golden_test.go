package queue

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/retry"
)

var rewrite = flag.Bool("rewrite", false, "write the golden traces anew")

// TestGoldenDay is one day of a small queue, every transition with its time:
// a domain that is fine, one that greylists, one that is dead for two hours,
// one that limits its rate, one that does not exist.
func TestGoldenDay(t *testing.T) {
	t.Parallel()
	run(t, func(w *world) {
		w.limit = 1 // so that the order of what is due at once is always the same
		w.opts.Schedules.Streams = map[string]retry.Schedule{"codes": {Intervals: []time.Duration{10 * time.Second, time.Minute}, Expire: 10 * time.Minute}}
		w.refuse = func(domain string) *mta.Result {
			if domain == "none.example" {
				return &mta.Result{Class: mta.ClassPermanent, Scope: mta.ScopeSite, Reason: "no such domain", Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 2}}
			}
			return nil
		}
		w.attempt = func(d *mta.Delivery) ([]mta.Result, time.Duration) {
			took := 100 * time.Millisecond
			switch d.Destination.Domain {
			case "grey.example":
				if len(w.attempts(d.Recipients[0].Address)) == 1 {
					return each(d, greylisted()), took
				}
			case "dead.example":
				if w.since() < 2*time.Hour {
					return each(d, unreachable()), 30 * time.Second
				}
			case "rate.example":
				if w.since() < 10*time.Second && len(w.tried())%3 == 0 {
					r := unreachable()
					r.Reply, r.Reason = mta.Reply{Code: 421, Text: "slow down"}, "421 slow down"
					return each(d, r), took
				}
			}
			return good(d), took
		}
		w.up()
		for i, r := range []string{"a@fine.example", "b@grey.example", "c@dead.example", "d@none.example", "e@rate.example"} {
			w.wait(time.Duration(i+1) * 7 * time.Millisecond)
			w.send(r)
		}
		w.submit(w.make("codes", "code@dead.example"))
		for i := range 6 {
			w.wait(250 * time.Millisecond)
			w.send(fmt.Sprintf("x%d@rate.example", i))
			w.send(fmt.Sprintf("y%d@dead.example", i))
		}
		w.wait(24 * time.Hour)

		var lines []string
		for _, r := range w.store.history() {
			if r.Event == mta.EventBounced {
				continue
			}
			line := fmt.Sprintf("%-14s %-9s %d %s", r.Time.Sub(w.start), r.Event, r.Attempt, r.Recipient)
			if r.Event != mta.EventDelivered {
				line += ": " + r.Reason
			}
			if !r.Next.IsZero() {
				line += fmt.Sprintf(" (next %v)", r.Next.Sub(w.start))
			}
			lines = append(lines, line)
		}
		slices.SortFunc(lines, func(a, b string) int {
			ta, _ := time.ParseDuration(strings.Fields(a)[0])
			tb, _ := time.ParseDuration(strings.Fields(b)[0])
			if ta != tb {
				return int(ta - tb)
			}
			return strings.Compare(a, b)
		})
		got := strings.Join(lines, "\n") + "\n"
		const golden = "testdata/day.golden"
		if *rewrite {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}
