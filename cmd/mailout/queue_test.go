package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"mailout/internal/admin"
	"mailout/internal/mta"
)

// TestQueueTellsNoNextTryInThePast: mail that is due and held by something else
// than time waits for that, and not for a moment that is over.
func TestQueueTellsNoNextTryInThePast(t *testing.T) {
	t.Parallel()
	past, future := mta.FormatTime(time.Now().Add(-time.Hour)), mta.FormatTime(time.Now().Add(time.Hour))
	for next, want := range map[string]string{
		past:   "as soon as nothing holds it (due since " + past + ")\n",
		future: future + "\n",
	} {
		var list, show bytes.Buffer
		d := admin.Delivery{Destination: "a.example", State: "queued", Reason: "identity.guard holds mail", Next: next}
		printDelivery(&list, &d)
		if err := printMessage(&show, &admin.Message{Delivery: d}); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(list.String(), "    next try "+want) || !strings.Contains(show.String(), "next        "+want) {
			t.Errorf("%s: no %q in\n%s\n%s", next, want, list.String(), show.String())
		}
	}
	var held bytes.Buffer
	if err := printMessage(&held, &admin.Message{Delivery: admin.Delivery{State: "held"}}); err != nil {
		t.Fatal(err)
	}
	if printDelivery(&held, &admin.Delivery{State: "held"}); strings.Contains(held.String(), "next") {
		t.Error(held.String())
	}
}
