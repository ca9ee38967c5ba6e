package mta

import (
	"encoding/json"
	"net/netip"
	"sort"
	"strings"
	"testing"
	"time"
)

func TestIDKnownText(t *testing.T) {
	// The ULID of time 1469918176385 ms with all-zero entropy begins so.
	id := NewID(time.UnixMilli(1469918176385), [10]byte{})
	if got, want := id.String(), "01ARYZ6S410000000000000000"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if !id.Time().Equal(time.UnixMilli(1469918176385)) {
		t.Fatalf("time came back as %v", id.Time())
	}
}

func TestIDRoundTripAndOrder(t *testing.T) {
	var ids []ID
	for i := range 200 {
		ids = append(ids, NewID(time.UnixMilli(int64(i)*7919+1), [10]byte{byte(i), 255, byte(i * 3)}))
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = id.String()
		back, err := ParseID(strings.ToLower(texts[i]))
		if err != nil || back != id {
			t.Fatalf("%s came back as %s, %v", id, back, err)
		}
	}
	if !sort.StringsAreSorted(texts) {
		t.Fatal("the order of texts is not the order of time")
	}
}

func TestParseIDRefuses(t *testing.T) {
	for _, bad := range []string{"", "0", strings.Repeat("0", 25), strings.Repeat("0", 27),
		"8" + strings.Repeat("0", 25), strings.Repeat("U", 26), strings.Repeat("0", 25) + "é"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q was taken for an ID", bad)
		}
	}
}

func FuzzParseID(f *testing.F) {
	f.Add("01ARYZ6S410000000000000000")
	f.Add("7ZZZZZZZZZZZZZZZZZZZZZZZZZ")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseID(s)
		if err == nil && !strings.EqualFold(id.String(), s) {
			t.Fatalf("%q parses to %s", s, id)
		}
	})
}

func TestRecordJSONHasMilliseconds(t *testing.T) {
	zone := time.FixedZone("", 3600)
	r := Record{
		Time: time.Date(2026, 1, 10, 13, 0, 0, 0, zone), Event: EventDeferred, Recipient: "a@b.example",
		IP: netip.MustParseAddr("192.0.2.1"), Next: time.Date(2026, 1, 10, 13, 5, 0, 120e6, zone),
		Durations: Durations{Total: 12},
	}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"time":"2026-01-10T12:00:00.000Z"`, `"next":"2026-01-10T12:05:00.120Z"`,
		`"event":"deferred"`, `"ip":"192.0.2.1"`, `"total_ms":12`, `"sender":""`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
	if strings.Contains(string(b), "source") {
		t.Errorf("an absent address is written: %s", b)
	}
	var back Record
	if err := json.Unmarshal(b, &back); err != nil || !back.Time.Equal(r.Time) || !back.Next.Equal(r.Next) || back.Event != r.Event {
		t.Fatalf("came back as %+v, %v", back, err)
	}
}

func TestRecordJSONWithoutNext(t *testing.T) {
	b, err := json.Marshal(Record{Time: time.Unix(0, 0)})
	if err != nil || strings.Contains(string(b), `"next"`) {
		t.Fatalf("%s, %v", b, err)
	}
}

func TestNotifyWants(t *testing.T) {
	cases := []struct {
		set                     Notify
		success, failure, delay bool
	}{
		{NotifyDefault, false, true, true},
		{NotifyNever, false, false, false},
		{NotifySuccess, true, false, false},
		{NotifyFailure | NotifyDelay, false, true, true},
	}
	for _, c := range cases {
		if c.set.Wants(NotifySuccess) != c.success || c.set.Wants(NotifyFailure) != c.failure || c.set.Wants(NotifyDelay) != c.delay {
			t.Errorf("NOTIFY %d wants the wrong events", c.set)
		}
	}
}

func TestWordsAreComplete(t *testing.T) {
	for s := Queued; s <= Cancelled; s++ {
		back, ok := ParseState(s.String())
		if !ok || back != s {
			t.Errorf("state %d has the word %q", s, s)
		}
	}
	for e := EventAccepted; e <= LastEvent; e++ {
		var back Event
		if err := back.UnmarshalText([]byte(e.String())); err != nil || back != e {
			t.Errorf("event %d has the word %q", e, e)
		}
	}
	for s := StageRoute; s <= StageQuit; s++ {
		var back Stage
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s || s.String() == "" {
			t.Errorf("stage %d has the word %q", s, s)
		}
	}
	if err := new(Stage).UnmarshalText([]byte("nowhere")); err == nil {
		t.Error("a stage that is none is taken")
	}
	for c := CauseReply; c <= CauseRouter; c++ {
		if c.String() == "" {
			t.Errorf("cause %d has no word", c)
		}
	}
	if Deferred.Final() || !Delivered.Final() {
		t.Error("final states are wrong")
	}
}

func TestReplyStringIsOneLine(t *testing.T) {
	r := Reply{Code: 550, Enhanced: Enhanced{5, 1, 1}, Text: "first\nsecond"}
	if got := r.String(); got != "550 5.1.1 first second" {
		t.Errorf("got %q", got)
	}
	if got := (Reply{}).String(); got != "" {
		t.Errorf("no reply is shown as %q", got)
	}
}

// TestLocalUser: a local account is never taken for a user, whose names have no
// colon.
func TestLocalUser(t *testing.T) {
	t.Parallel()
	for account, want := range map[string]string{"": "", "ann": "unix:ann", "unix:ann": "unix:ann", "1000": "unix:1000"} {
		if got := LocalUser(account); got != want {
			t.Errorf("%q is %q, want %q", account, got, want)
		}
	}
}

func TestParseNotify(t *testing.T) {
	t.Parallel()
	for words, want := range map[string]Notify{
		"": NotifyDefault, "never": NotifyNever, "SUCCESS": NotifySuccess, " delay, failure ": NotifyDelay | NotifyFailure,
	} {
		var list []string
		if words != "" {
			list = strings.Split(words, ",")
		}
		if got, err := ParseNotify(list); err != nil || got != want {
			t.Errorf("%q: %v, %v", words, got, err)
		}
	}
	for _, words := range []string{"never,delay", "always", ""} {
		if _, err := ParseNotify(strings.Split(words, ",")); err == nil {
			t.Errorf("%q is taken", words)
		}
	}
}
