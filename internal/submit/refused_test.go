package submit

import (
	"strings"
	"testing"

	"mailout/internal/mta"
)

func TestRefusedTellsTheSender(t *testing.T) {
	t.Parallel()
	w := newWorld()
	r := withID()
	why := refuse(452, mta.Enhanced{Class: 4, Subject: 5, Detail: 3}, "recipient", "more than 1000 recipients")
	if err := NewReporter(w.Intake).Refused(t.Context(), r, why); err != nil {
		t.Fatal(err)
	}
	if len(w.store.put) != 1 || len(w.queue.added) != 1 {
		t.Fatalf("%d stored, %d queued", len(w.store.put), len(w.queue.added))
	}
	sub := w.store.put[0]
	text := sub.Content.(*memDraft).buf.String()
	for _, want := range []string{"Status: 5.5.3", "Final-Recipient: rfc822; a@example.net", "more than 1000 recipients", "To: <app@example.com>"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if sub.Records[0].Report != r.ID || sub.Message.Envelope.Sender != "" || sub.Message.ID == r.ID {
		t.Errorf("%+v", sub.Message)
	}
	r.Recipients[0].Notify = mta.NotifyNever
	if err := NewReporter(w.Intake).Refused(t.Context(), r, why); err != nil || len(w.store.put) != 1 {
		t.Errorf("NOTIFY=NEVER: %v, %d stored", err, len(w.store.put))
	}
}
