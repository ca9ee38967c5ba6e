package submit

import (
	"errors"
	"strings"
	"testing"
	"time"

	"mailout/internal/dsn"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/spool"
)

const stored = "Received: x\r\nMessage-ID: <z@y>\r\nSubject: x\r\n\r\nthe body\r\n"

var origID = mta.NewID(noon, [10]byte{9})

func failed(sender string, notify ...mta.Notify) queue.ReportRequest {
	m := &mta.Message{ID: origID, Arrived: noon.Add(-time.Hour), MessageID: "<z@y>", Stream: "alerts", Deliveries: 1,
		Envelope: mta.Envelope{Sender: sender, EnvID: "env"}}
	r := queue.ReportRequest{Delivery: &mta.Delivery{Message: m}, Host: "mx.example.net", LastTry: noon, Now: noon}
	if len(notify) == 0 {
		notify = []mta.Notify{mta.NotifyDefault}
	}
	for i, n := range notify {
		r.Recipients = append(r.Recipients, mta.Recipient{Address: string(rune('a'+i)) + "@example.net", Notify: n, ORcpt: "rfc822;o@example.net"})
		r.Results = append(r.Results, mta.Result{Class: mta.ClassPermanent, Reply: mta.Reply{Code: 550, Text: "no"}, Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 1}})
	}
	return r
}

func report(t *testing.T, w *world, r queue.ReportRequest) (*spool.Submission, *dsn.Notification, string) {
	t.Helper()
	if w.store.open == nil {
		w.store.open = map[mta.ID]spool.Content{origID: contentOf(stored)}
	}
	sub, err := NewReporter(w.Intake).Report(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if sub == nil {
		if w.store.live != 0 {
			t.Fatal("a draft leaks")
		}
		return nil, nil, ""
	}
	content := sub.Content.(*memDraft).buf.String()
	checkClean(t, content)
	n, err := dsn.Parse([]byte(content))
	if err != nil {
		t.Fatal(err)
	}
	sub.Content.Discard()
	return sub, n, content
}

// Row 41 of the traps: who is told, and that it ends.
func TestTrap41_WhoIsTold(t *testing.T) {
	t.Parallel()
	bounce := func(r *queue.ReportRequest) { r.Delivery.Message.Kind = mta.KindBounce }
	notice := func(r *queue.ReportRequest) { r.Delivery.Message.Kind = mta.KindNotice }
	kind := func(k queue.ReportKind) func(*queue.ReportRequest) {
		return func(r *queue.ReportRequest) { r.Kind = k }
	}
	both := func(f ...func(*queue.ReportRequest)) func(*queue.ReportRequest) {
		return func(r *queue.ReportRequest) {
			for _, g := range f {
				g(r)
			}
		}
	}
	for _, tc := range []struct {
		name, sender string
		change       func(*queue.ReportRequest)
		to           string
		kind         mta.Kind
	}{
		{"failure", "app@example.com", kind(queue.ReportFailure), "app@example.com", mta.KindBounce},
		{"delay", "app@example.com", kind(queue.ReportDelay), "app@example.com", mta.KindBounce},
		{"failure, null return path", "", kind(queue.ReportFailure), "ops@example.com", mta.KindNotice},
		{"failure, useless return path", "nobody", kind(queue.ReportFailure), "ops@example.com", mta.KindNotice},
		{"delay, null return path", "", kind(queue.ReportDelay), "", 0},
		{"delay, useless return path", "nobody", kind(queue.ReportDelay), "", 0},
		{"success, null return path", "", kind(queue.ReportSuccess), "", 0},
		{"bounce fails", "", bounce, "ops@example.com", mta.KindNotice},
		{"bounce is late", "", both(bounce, kind(queue.ReportDelay)), "", 0},
		{"notice fails", "", notice, "", 0},
		{"notice is late", "", both(notice, kind(queue.ReportDelay)), "", 0},
		{"notice with a return path fails", "x@y.example", notice, "", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(func(o *Options) { o.Settings.Postmaster = "ops@example.com" })
			r := failed(tc.sender)
			tc.change(&r)
			sub, _, content := report(t, w, r)
			if tc.to == "" {
				if sub != nil {
					t.Fatalf("told %v", sub.Deliveries[0].Recipients)
				}
				return
			}
			m, d := sub.Message, sub.Deliveries[0]
			if m.Kind != tc.kind || len(d.Recipients) != 1 || d.Recipients[0].Address != tc.to || d.Destination != (mta.Destination{Domain: "example.com", Stream: BounceStream}) {
				t.Fatalf("kind %d to %+v at %v", m.Kind, d.Recipients, d.Destination)
			}
			if m.Envelope.Sender != "" || d.Recipients[0].Notify != mta.NotifyDefault {
				t.Errorf("envelope %+v %+v", m.Envelope, d.Recipients)
			}
			if !strings.Contains(content, "\r\nTo: <"+tc.to+">\r\n") || !strings.Contains(content, "\r\nAuto-Submitted: auto-") {
				t.Errorf("content\n%s", content)
			}
		})
	}
}

// A chain of failures ends: message, bounce, notice, nothing.
func TestTrap41_ChainEnds(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := failed("app@example.com")
	var kinds []mta.Kind
	for range 10 {
		sub, _, _ := report(t, w, r)
		if sub == nil {
			break
		}
		kinds = append(kinds, sub.Message.Kind)
		next := failed("")
		next.Delivery = sub.Deliveries[0]
		next.Recipients = sub.Deliveries[0].Recipients
		r = next
	}
	if len(kinds) != 2 || kinds[0] != mta.KindBounce || kinds[1] != mta.KindNotice {
		t.Errorf("the chain was %v", kinds)
	}
}

// Row 42 of the traps: NOTIFY decides who is reported to the sender.
func TestTrap42_Notify(t *testing.T) {
	t.Parallel()
	all := []mta.Notify{mta.NotifyDefault, mta.NotifyNever, mta.NotifySuccess, mta.NotifyFailure, mta.NotifyDelay, mta.NotifySuccess | mta.NotifyFailure | mta.NotifyDelay}
	for kind, want := range map[queue.ReportKind]string{queue.ReportFailure: "a d f", queue.ReportDelay: "a e f", queue.ReportSuccess: "c f"} {
		r := failed("app@example.com", all...)
		r.Kind = kind
		_, n, _ := report(t, newWorld(), r)
		var got []string
		for _, s := range n.Statuses {
			got = append(got, s.Final.Value[:1])
		}
		if strings.Join(got, " ") != want {
			t.Errorf("kind %d reports %v, want %s", kind, got, want)
		}
	}
	if sub, _, _ := report(t, newWorld(), failed("app@example.com", mta.NotifyNever)); sub != nil {
		t.Error("NEVER was reported")
	}
}

func TestReportIsAMessage(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := failed("App@example.com")
	r.Delivery.Message.Envelope.RequireTLS = true
	sub, n, content := report(t, w, r)
	m := sub.Message
	if m.Size != int64(len(content)) || m.Arrived != noon.Truncate(time.Millisecond).UTC() || !m.ID.Time().Equal(m.Arrived) || m.Deliveries != 1 || m.UTF8 || m.EightBit || !m.Envelope.RequireTLS || m.Origin.Door != "bounce" {
		t.Errorf("%+v", m)
	}
	rec := sub.Records[0]
	if len(sub.Records) != 1 || rec.Event != mta.EventAccepted || rec.Report != origID || rec.ID != m.ID || rec.Recipient != "App@example.com" || rec.MessageID != m.MessageID {
		t.Errorf("%+v", rec)
	}
	s := n.Statuses[0]
	if n.EnvelopeID != "env" || n.MessageID != "<z@y>" || s.Action != dsn.Failed || s.Status.String() != "5.1.1" || s.Original.Value != "o@example.net" || s.Remote.Value != "mx.example.net" || s.Diagnostic.Value != "550 no" {
		t.Errorf("%+v", n)
	}
	if strings.Contains(content, "the body") {
		t.Error("RFC 8689: the report of a REQUIRETLS message carries its body")
	}
	if len(w.store.put) > 0 || len(w.queue.added) > 0 {
		t.Error("the reporter stored or queued")
	}
}

func TestReportKinds(t *testing.T) {
	t.Parallel()
	r := failed("app@example.com", mta.NotifyDelay)
	r.Kind, r.RetryUntil = queue.ReportDelay, noon.Add(time.Hour)
	r.Results[0] = mta.Result{Reason: "the host does not answer", Enhanced: mta.Enhanced{Class: 4, Subject: 4, Detail: 1}}
	_, n, _ := report(t, newWorld(), r)
	if s := n.Statuses[0]; s.Action != dsn.Delayed || s.RetryUntil.IsZero() || s.Remote != (dsn.Typed{}) || s.Diagnostic != (dsn.Typed{Type: "x-mailout", Value: "the host does not answer"}) {
		t.Errorf("%+v", s)
	}
	r = failed("app@example.com", mta.NotifySuccess, mta.NotifySuccess)
	r.Kind = queue.ReportSuccess
	r.Results = []mta.Result{{Class: mta.ClassDelivered, Relayed: true}, {Class: mta.ClassDelivered}}
	_, n, _ = report(t, newWorld(), r)
	if n.Statuses[0].Action != dsn.Relayed || n.Statuses[1].Action != dsn.Delivered || n.Statuses[0].Status.String() != "2.0.0" {
		t.Errorf("%+v", n.Statuses)
	}
}

// The report is made even when the original is gone, or breaks at any read.
func TestReportWithoutOriginal(t *testing.T) {
	t.Parallel()
	for reads := range 5 {
		w := newWorld()
		w.store.open = map[mta.ID]spool.Content{}
		if reads > 0 {
			w.store.open[origID] = &brokenContent{contentOf(stored), reads - 1}
		}
		sub, n, content := report(t, w, failed("app@example.com"))
		if sub == nil || len(n.Statuses) != 1 || n.Original != nil || !strings.Contains(content, "could not be read back") || w.store.live != 0 {
			t.Errorf("%d reads: %+v", reads, n)
		}
	}
}

// brokenContent fails after some reads.
type brokenContent struct {
	spool.Content
	left int
}

func (c *brokenContent) ReadAt(p []byte, off int64) (int, error) {
	if c.left--; c.left < 0 {
		return 0, errors.New("input/output error")
	}
	return c.Content.ReadAt(p, off)
}

func TestReportTrouble(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.store.writeErr = spool.ErrFull
	if sub, err := NewReporter(w.Intake).Report(t.Context(), failed("app@example.com")); sub != nil || !errors.Is(err, spool.ErrFull) || w.store.live != 0 {
		t.Errorf("%v %v", sub, err)
	}
	w = newWorld(func(o *Options) { o.Settings.Postmaster = "not an address" })
	if sub, err := NewReporter(w.Intake).Report(t.Context(), failed("")); sub != nil || err == nil {
		t.Errorf("%v %v", sub, err)
	}
}

func TestInternationalReturnPath(t *testing.T) {
	t.Parallel()
	sub, _, content := report(t, newWorld(), failed("köln@example.com"))
	if !sub.Message.UTF8 || !sub.Message.Envelope.SMTPUTF8 || !sub.Message.EightBit || !strings.Contains(content, "To: <köln@example.com>") {
		t.Errorf("%+v", sub.Message)
	}
}
