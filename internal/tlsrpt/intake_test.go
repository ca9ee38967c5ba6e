package tlsrpt

import (
	"context"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool/pebble"
	"mailout/internal/submit"
)

// lane is a queue that takes what it is told.
type lane struct{ deliveries []*mta.Delivery }

func (l *lane) Add(d []*mta.Delivery) { l.deliveries = append(l.deliveries, d...) }

// TestTLSReportsIgnorePolicies: the real intake takes a report once, as a message
// that no policy of the receiver's stops and whose failure nobody is told of.
func TestTLSReportsIgnorePolicies(t *testing.T) {
	t.Parallel()
	store, err := pebble.Open(context.Background(), pebble.Options{Dir: t.TempDir(), MinFree: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	queue := &lane{}
	w := newWorld(t)
	r := New(Options{
		Notes: store, Resolver: w.resolver, Settings: w.settings,
		Intake: submit.NewIntake(submit.Options{Store: store, Queue: queue, Settings: submit.Settings{Hostname: "mail.sender.example"}}),
	})
	j := &job{day: dayOf(time.Now()) - 1, domain: "example.com"}
	j.state = &state{ID: r.reportID(j, "sender.example")}
	to := Target{Mail: "tls@example.com"}
	m := &made{domain: "example.com", day: j.day, id: j.state.ID, submitter: "sender.example", packed: []byte(strings.Repeat("x", 1000))}
	for range 3 { // the note that it is done could not be written
		if a := r.mail(t.Context(), m, &w.settings, to.Mail, r.mailID(j, to)); a.err != nil || a.message != r.mailID(j, to) {
			t.Fatalf("%+v", a)
		}
	}
	if len(queue.deliveries) != 1 {
		t.Fatalf("%d deliveries of one report", len(queue.deliveries))
	}
	d := queue.deliveries[0]
	if !d.Message.AnyTLS || d.Message.Envelope.RequireTLS || d.Message.Envelope.Sender != "tls@sender.example" || d.Message.Stream != Stream || d.Recipients[0].Notify != mta.NotifyNever {
		t.Errorf("the message is %+v", d.Message)
	}
	if left := d.Message.Expires.Sub(d.Message.Arrived); left < GiveUp-time.Minute || left > GiveUp {
		t.Errorf("it is given up after %s", left)
	}
}

// TestReportIDs: a report has the same name whenever it is made, and those of
// other days, domains and machines have others.
func TestReportIDs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.reports()
	w.settings.Hostname = "other.sender.example"
	other := w.reports()
	seen := map[string]bool{}
	for _, id := range []string{
		r.reportID(&job{day: 1, domain: "a.example"}, "s.example"), r.reportID(&job{day: 2, domain: "a.example"}, "s.example"),
		r.reportID(&job{day: 1, domain: "b.example"}, "s.example"), other.reportID(&job{day: 1, domain: "a.example"}, "s.example"),
	} {
		if seen[id] || !strings.HasSuffix(id, "@s.example") || strings.ContainsAny(id, " <>") {
			t.Errorf("%q", id)
		}
		seen[id] = true
	}
	if a, b := r.reportID(&job{day: 1, domain: "a.example"}, "s.example"), r.reportID(&job{day: 1, domain: "a.example"}, "s.example"); a != b {
		t.Errorf("%q and %q", a, b)
	}
	j := &job{day: 1, domain: "a.example", state: &state{ID: "x"}}
	if r.mailID(j, Target{Mail: "a@a.example"}) == r.mailID(j, Target{Mail: "b@a.example"}) {
		t.Error("two receivers share a message's ID")
	}
}
