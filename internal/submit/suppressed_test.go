package submit

import (
	"context"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// gone is a suppression list by address; refuse is its answer.
type gone struct {
	who    map[string]string
	refuse bool
}

func (g *gone) Suppressed(_ context.Context, address, stream string) string {
	return g.who[stream+" "+address]
}

func (g *gone) Refuses() bool { return g.refuse }

func events(records []*mta.Record) string {
	var out []string
	for _, r := range records {
		out = append(out, r.Event.String()+" "+r.Recipient)
	}
	return strings.Join(out, ", ")
}

// TestSuppressedIsRecorded: the recipient ends when the message is taken, the
// others go on, and the sender is told in the same commit.
func TestSuppressedIsRecorded(t *testing.T) {
	t.Parallel()
	list := &gone{who: map[string]string{"default ann@example.com": "listed because", "default cid@example.net": "listed too"}}
	for name, c := range map[string]struct {
		sender     string
		to         []mta.Recipient
		deliveries int
		events     string
		report     string // recipients of the report; empty: none
	}{
		"one of two": {"app@widget.example", []mta.Recipient{{Address: "ann@example.com"}, {Address: "bob@example.com"}, {Address: "ann@example.com"}}, 1,
			"accepted bob@example.com, accepted ann@example.com, suppressed ann@example.com, bounced ann@example.com", "ann@example.com"},
		"all": {"app@widget.example", []mta.Recipient{{Address: "ann@example.com"}, {Address: "cid@example.net"}}, 0,
			"accepted ann@example.com, accepted cid@example.net, suppressed ann@example.com, suppressed cid@example.net, bounced ann@example.com, bounced cid@example.net", "ann@example.com cid@example.net"},
		"no return path": {"", []mta.Recipient{{Address: "ann@example.com"}}, 0, "accepted ann@example.com, suppressed ann@example.com", ""},
		"no report wanted": {"app@widget.example", []mta.Recipient{{Address: "ann@example.com", Notify: mta.NotifyNever}}, 0,
			"accepted ann@example.com, suppressed ann@example.com", ""},
		"nobody": {"app@widget.example", []mta.Recipient{{Address: "bob@example.com"}}, 1, "accepted bob@example.com", ""},
	} {
		w := newWorld()
		w.Intake.suppression = list
		r := request(c.to[0].Address)
		r.Envelope.Sender, r.Recipients = c.sender, c.to
		d, err := w.Begin(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Write([]byte("Subject: the subject\r\nX-Long: x\r\n\r\nsecret body\r\n")); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
		sub := w.store.put[0]
		if len(sub.Deliveries) != c.deliveries || sub.Message.Deliveries != c.deliveries || events(sub.Records) != c.events {
			t.Errorf("%s: %d deliveries, %s", name, len(sub.Deliveries), events(sub.Records))
		}
		var report *spool.Submission
		for _, s := range w.store.put[1:] {
			report = s
		}
		if (report != nil) != (c.report != "") || w.store.live != 0 {
			t.Errorf("%s: report %v, %d drafts left", name, report, w.store.live)
			continue
		}
		if got := len(w.queue.added); report == nil && got != c.deliveries || report != nil && got != c.deliveries+1 {
			t.Errorf("%s: %d deliveries were told to the queue", name, got)
		}
		if report == nil {
			continue
		}
		text := report.Content.(*memDraft).buf.String()
		for _, want := range append(strings.Fields(c.report), "listed because", "Subject: the subject", "Status: 5.7.1") {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the report does not say %q:\n%s", name, want, text)
			}
		}
		if strings.Contains(text, "secret body") || strings.Contains(text, "bob@") {
			t.Errorf("%s: the report tells too much:\n%s", name, text)
		}
	}
}

func TestSuppressedIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.Intake.suppression = &gone{who: map[string]string{"news ann@example.com": "listed because"}, refuse: true}
	r := request("bob@example.com")
	r.Stream = "news"
	r.Recipients = append(r.Recipients, mta.Recipient{Address: "ann@example.com"})
	_, err := w.Begin(t.Context(), r)
	wantRefusal(t, err, 550, "5.7.1", "ann@example.com: listed because")
	wantRefusal(t, w.CheckRecipient(t.Context(), r, "ann@example.com"), 550, "5.7.1", "ann@example.com: listed because")
	if err := w.CheckRecipient(t.Context(), r, "bob@example.com"); err != nil {
		t.Error(err)
	}
	r.Stream = ""
	if _, err := w.Begin(t.Context(), r); err != nil {
		t.Error("another stream is refused:", err)
	}
}

// TestSuppressedReportFails: without its report the message is not taken.
func TestSuppressedReportFails(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.Intake.suppression = &gone{who: map[string]string{"default ann@example.com": "listed"}}
	r := request("ann@example.com")
	d, err := w.Begin(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = d.Write([]byte("Subject: x\r\n\r\n"))
	w.store.draftErr = spool.ErrFull
	if _, err := d.Commit(t.Context()); err == nil || len(w.store.put) > 0 || w.store.live != 0 {
		t.Error(err, len(w.store.put), w.store.live)
	}
}
