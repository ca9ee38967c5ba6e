package transport

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// asks records what Prepare was asked, and answers each with a field that counts.
func (w *world) asks() *[]string {
	var got []string
	w.opt.Prepare = func(_ context.Context, o *Outgoing) (Prefix, *mta.Failure) {
		var to []string
		for _, r := range o.Recipients {
			to = append(to, r.Address)
		}
		got = append(got, fmt.Sprintf("%s converted=%t %d octets", strings.Join(to, ","), o.Converted, o.Content.Size()))
		return Prefix{Fields: fmt.Appendf(nil, "X-N: %d\r\n", len(got)), Signed: mta.KeyNames(fmt.Sprintf("k%d", len(got)))}, nil
	}
	return &got
}

func (w *world) contents(name string, want ...string) {
	w.Helper()
	got := w.mx[name].Messages()
	for i, m := range got {
		if i >= len(want) || string(m.Data) != want[i] {
			w.Errorf("%s, message %d: %q", name, i, m.Data)
		}
	}
	if len(got) != len(want) {
		w.Errorf("%s has %d messages, want %d", name, len(got), len(want))
	}
}

// TestPrepareOnceForAnAttempt: the fields are made once, and go to the next host and
// into the next transaction as they are.
func TestPrepareOnceForAnAttempt(t *testing.T) {
	inWorld(t, func(w *world) {
		asked := w.asks()
		w.route.Limits = mta.Limits{RecipientsPerMessage: 1}
		w.host("mx1", rules(on(mtatest.StageDot, "451 4.3.0 oops")), "192.0.2.1")
		w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
		w.deliver(w.mail("b@example.net", "c@example.net"))
		w.contents("mx2", "X-N: 1\r\n"+body, "X-N: 1\r\n"+body)
		if len(*asked) != 1 || (*asked)[0] != fmt.Sprintf("b@example.net,c@example.net converted=false %d octets", len(body)) {
			w.Errorf("%q", *asked)
		}
		w.deliver(w.mail("b@example.net")) // another attempt
		if len(*asked) != 2 {
			w.Errorf("%q", *asked)
		}
	})
}

// TestSignedContentIsTold: which keys signed is told of content that was sent, also
// when it was refused or nobody knows, and of nothing else.
func TestSignedContentIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		mx   mtatest.MXConfig
		want mta.KeyNames
	}{
		"taken":     {mtatest.MXConfig{}, "k1"},
		"refused":   {rules(on(mtatest.StageDot, "554 5.7.1 no")), "k1"},
		"deferred":  {rules(on(mtatest.StageDot, "451 4.7.1 later")), "k1"},
		"uncertain": {rules(mtatest.Rule{Stage: mtatest.StageDot, First: 1, Action: mtatest.Action{Keep: true, Drop: true}}), "k1"},
		"no RCPT":   {rules(on(mtatest.StageRcpt, "550 5.1.1 nobody")), ""},
		"no DATA":   {mtatest.MXConfig{Rules: []mtatest.Rule{on(mtatest.StageData, "451 4.3.0 oops")}, Without: []string{"CHUNKING"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.asks()
				w.host("mx1", c.mx, "192.0.2.1")
				if got := w.deliver(w.mail("b@example.net"))[0].Results[0].Signed; got != c.want {
					w.Errorf("signed by %q, want %q", got, c.want)
				}
			})
		})
	}
}

// TestSignedContentAtAnEarlierHost: what one host had is told, whatever the next one
// says.
func TestSignedContentAtAnEarlierHost(t *testing.T) {
	inWorld(t, func(w *world) {
		w.asks()
		w.host("mx1", rules(on(mtatest.StageDot, "451 4.3.0 oops")), "192.0.2.1")
		w.host("mx2", rules(on(mtatest.StageRcpt, "451 4.3.0 oops")), "192.0.2.2")
		if got := w.deliver(w.mail("b@example.net"))[0].Results[0].Signed; got != "k1" {
			w.Errorf("signed by %q", got)
		}
	})
}

// TestNeverAskedIsNotUncertain: when the session breaks behind the content, those
// whose turn had not come are neither uncertain nor was anything signed for them.
func TestNeverAskedIsNotUncertain(t *testing.T) {
	for name, action := range map[string]mtatest.Action{"dropped": {Keep: true, Drop: true}, "421": {Reply: "421 4.3.0 oops", Drop: true}} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.asks()
				w.route.Limits = mta.Limits{RecipientsPerMessage: 1}
				w.host("mx1", rules(mtatest.Rule{Stage: mtatest.StageDot, Action: action}), "192.0.2.1")
				results := w.deliver(w.mail("b@example.net", "c@example.net"))[0].Results
				if b, c := results[0], results[1]; b.Signed != "k1" || c.Class != mta.ClassTemporary || c.Signed != "" {
					w.Errorf("%+v\n%+v", b, c)
				}
			})
		})
	}
}

// TestPrepareEachForm: what goes out converted is signed as it goes out.
func TestPrepareEachForm(t *testing.T) {
	inWorld(t, func(w *world) {
		asked := w.asks()
		w.opt.Convert = func([]byte) ([]byte, bool) { return []byte("Subject: x\r\n\r\nseven\r\n"), true }
		no8 := rules(on(mtatest.StageDot, "451 4.3.0 oops"))
		no8.Without = []string{"8BITMIME"}
		w.host("mx1", no8, "192.0.2.1")
		w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
		d := w.mail("b@example.net")
		d.Message.EightBit = true
		w.deliver(d)
		w.contents("mx2", "X-N: 2\r\n"+body)
		if got := strings.Join(*asked, "; "); got != "b@example.net converted=true 21 octets; b@example.net converted=false 21 octets" {
			w.Errorf("%s", got)
		}
	})
}

// TestPrepareForAll: fields that are not for one recipient are never made for the
// one who is left at a host, since the next host is asked for others with them.
func TestPrepareForAll(t *testing.T) {
	inWorld(t, func(w *world) {
		asked := w.asks()
		w.opt.Convert = func([]byte) ([]byte, bool) { return []byte("Subject: x\r\n\r\nseven\r\n"), true }
		no8 := rules(mtatest.Rule{Stage: mtatest.StageRcpt, Match: "c@*", Action: mtatest.Action{Reply: "451 4.3.0 oops"}})
		no8.Without = []string{"8BITMIME"}
		w.host("mx1", no8, "192.0.2.1")
		w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
		d := w.mail("b@example.net", "c@example.net")
		d.Message.EightBit = true
		w.deliver(d)
		w.contents("mx2", "X-N: 2\r\n"+body)
		if got := strings.Join(*asked, "; "); got != "b@example.net,c@example.net converted=true 21 octets; b@example.net,c@example.net converted=false 21 octets" {
			w.Errorf("%s", got)
		}
	})
}

// TestApart: each recipient has a transaction and fields of his own.
func TestApart(t *testing.T) {
	inWorld(t, func(w *world) {
		asked := w.asks()
		w.opt.Apart = func(d *mta.Delivery) bool { return len(d.Recipients) > 1 }
		w.host("mx1", rules(mtatest.Rule{Stage: mtatest.StageRcpt, Match: "full@*", Action: mtatest.Action{Reply: "452 4.2.2 full"}}), "192.0.2.1")
		a := w.deliver(w.mail("b@example.net", "full@example.net", "c@example.net"))[0]
		w.want(a, "delivered 2.0.0, temporary recipient 4.2.2, delivered 2.0.0 @mx1; mx1 rcpt; mx1 final")
		w.contents("mx1", "X-N: 1\r\n"+body, "X-N: 3\r\n"+body)
		if len(*asked) != 3 {
			w.Errorf("%q", *asked)
		}
	})
}

// TestPrepareFails: our own trouble defers, costs the session nothing and touches
// nobody else.
func TestPrepareFails(t *testing.T) {
	inWorld(t, func(w *world) {
		calls := 0
		w.opt.Prepare = func(_ context.Context, o *Outgoing) (Prefix, *mta.Failure) {
			if calls++; o.Recipients[0].Address == "bad@example.net" {
				return Prefix{}, &mta.Failure{Stage: mta.StageData, Cause: mta.CauseLocal, Text: "the message cannot be signed"}
			}
			return Prefix{}, nil
		}
		w.opt.Apart = func(*mta.Delivery) bool { return true }
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
		got := w.deliver(w.mail("bad@example.net"), w.mail("b@example.net", "bad@example.net", "c@example.net"))
		w.want(got[0], "temporary local 4.3.0 @")
		if r := got[0].Results[0].Reason; !strings.Contains(r, "cannot be signed") {
			w.Error(r)
		}
		w.want(got[1], "delivered 2.0.0, temporary local 4.3.0, delivered 2.0.0 @mx1 reused")
		w.sessions("mx1", 1)
		w.sessions("mx2", 0)
		if calls != 4 {
			w.Errorf("asked %d times", calls)
		}
	})
}
