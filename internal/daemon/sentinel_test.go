package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// diary keeps what is put into the journal.
type diary struct{ subs []*spool.Submission }

func (d *diary) Put(_ context.Context, subs ...*spool.Submission) error {
	d.subs = append(d.subs, subs...)
	return nil
}

// TestSentinelTellsChanges: one log line and one record a change, all records
// of an examination in one commit; what could not be found out at the start is
// no change.
func TestSentinelTellsChanges(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	d := &diary{}
	s := &sentinel{log: slog.New(slog.NewTextHandler(&log, nil)), store: d}
	s.keeper = newKeeper(nil, s.log, nil, nil)
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s.Examined(&doctor.Examined{At: at, Report: &doctor.Report{}, Changes: []doctor.Change{
		{Was: doctor.Pass, Check: doctor.Check{ID: "address.record", Subject: "h.example", Status: doctor.Fail,
			Seen: "203.0.113.5", Fix: &doctor.Fix{Record: "h.example. IN A 203.0.113.9", Text: "Publish it."}}},
		{Was: doctor.Fail, Check: doctor.Check{ID: "ptr.exists", Subject: "203.0.113.9", Status: doctor.Pass, Seen: "evil\r\nname"}},
		{Check: doctor.Check{ID: "clock", Subject: "h.example", Status: doctor.Unknown}},
	}})
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	want := []string{
		"level=WARN msg=identity check=address.record subject=h.example status=fail was=pass seen=203.0.113.5 fix=\"h.example. IN A 203.0.113.9\"",
		"level=INFO msg=identity check=ptr.exists", "level=INFO msg=\"some of the identity could not be examined",
	}
	if len(lines) != len(want) {
		t.Fatalf("log:\n%s", &log)
	}
	for i, w := range want {
		if !strings.Contains(lines[i], w) {
			t.Errorf("%s\nlacks %s", lines[i], w)
		}
	}
	if len(d.subs) != 1 || len(d.subs[0].Records) != 2 || len(d.subs[0].Deliveries) != 0 {
		t.Fatalf("%+v", d.subs)
	}
	r := d.subs[0].Records[0]
	if r.Event != mta.EventIdentity || r.Recipient != mta.IdentityRecipient || r.ID.IsZero() || r.ID != d.subs[0].Message.ID || !r.Time.Equal(at) ||
		r.Reason != "address.record of h.example: fail (was pass): 203.0.113.5; fix: h.example. IN A 203.0.113.9" {
		t.Errorf("%+v", r)
	}
	if strings.ContainsAny(d.subs[0].Records[1].Reason, "\r\n") {
		t.Errorf("%q", d.subs[0].Records[1].Reason)
	}
}

// TestGuardStateIsReadWithCare: none is fine, a damaged one is told and as good
// as none.
func TestGuardStateIsReadWithCare(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), guardFile)
	read := func() guardState { return readGuardState(path, slog.New(slog.NewTextHandler(&log, nil))) }
	if s := read(); len(s.Holds)+len(s.Guarded) != 0 || log.Len() != 0 {
		t.Errorf("%+v %s", s, &log)
	}
	for text, told := range map[string]bool{`{"holds":[{"hostn`: true, `{"holds":[{"hostname":"h.example"}],"guarded":[{"from":"2026-03-01T12:00:00Z"}]}`: false} {
		log.Reset()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s := read()
		if told != (log.Len() > 0) || told != (len(s.Holds) == 0) {
			t.Errorf("%s: %+v %s", text, s, &log)
		}
	}
}

// TestGuardTakenAwayStaysAway: a start with identity.guard = "warn" forgets what
// was held, or a later start with "hold" would hold for a reason of long ago.
func TestGuardTakenAwayStaysAway(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path, store := filepath.Join(dir, "mailout.toml"), filepath.Join(dir, "spool")
	text := fmt.Sprintf("hostname = \"mail.example.com\"\nspool = %q\n[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"100ms\"\nhosts_file = \"\"\n[identity]\nreflectors = []\nprobes = []\nblocklists = []\n", store)
	old := `{"holds":[{"source":"","ipv6":false,"hostname":"mail.example.com","check":{"id":"address.record","status":"fail"},"since":"2026-01-01T00:00:00Z"}],"guarded":[{"from":"2026-01-01T00:00:00Z"}]}`
	if err := errors.Join(os.Mkdir(store, 0o700), os.WriteFile(path, []byte(text), 0o600), os.WriteFile(filepath.Join(store, guardFile), []byte(old), 0o600)); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	if k := readGuardState(filepath.Join(store, guardFile), log); len(k.Holds) != 1 {
		t.Fatalf("%+v", k)
	}
	d := New(Options{ConfigPath: path, Config: c, Logger: log})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if k := readGuardState(filepath.Join(store, guardFile), log); len(k.Holds) != 0 || len(k.Guarded) != 1 || k.Guarded[0].To.IsZero() {
		t.Errorf("%+v", k)
	}
}
