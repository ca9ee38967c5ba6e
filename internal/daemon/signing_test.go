package daemon

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailout/internal/dkim"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/transport"
)

// widgetKeys sign for widget.com.
type widgetKeys []dkim.SigningKey

func (k widgetKeys) For(domain string) []dkim.SigningKey {
	if domain == "widget.com" {
		return k
	}
	return nil
}

func newWidgetKeys(t *testing.T) widgetKeys {
	t.Helper()
	k, err := dkim.Generate(dkim.Ed25519, 0)
	if err != nil {
		t.Fatal(err)
	}
	return widgetKeys{{Domain: "widget.com", Selector: "m1", Key: k}}
}

func outgoing(text string) *transport.Outgoing {
	m := &mta.Message{ID: mta.NewID(time.Now(), [10]byte{1}), Deliveries: 1}
	d := &mta.Delivery{Message: m, Recipients: []mta.Recipient{{Address: "b@example.net"}}}
	return &transport.Outgoing{Delivery: d, Recipients: d.Recipients, Content: dkim.Octets(text)}
}

func TestSigningPutsAddedFieldsBehindSignatures(t *testing.T) {
	s := newSigning(newWidgetKeys(t), nil, slog.New(slog.DiscardHandler))
	s.added = func(*transport.Outgoing) ([]byte, *mta.Failure) { return []byte("Feedback-ID: a\r\n"), nil }
	got, f := s.prepare(context.Background(), outgoing("From: a@widget.com\r\n\r\nhi\r\n"))
	if f != nil || !bytes.HasPrefix(got.Fields, []byte("DKIM-Signature: v=1; a=ed25519-sha256;")) || !bytes.HasSuffix(got.Fields, []byte("\r\nFeedback-ID: a\r\n")) || !strings.HasSuffix(string(got.Signed), "._domainkey.widget.com") {
		t.Errorf("%s by %s, %v", got.Fields, got.Signed, f)
	}
	if flat := strings.NewReplacer("\r\n\t", "").Replace(string(got.Fields)); !strings.Contains(flat, "Feedback-ID:Feedback-ID") {
		t.Errorf("what was added is not signed: %s", got.Fields)
	}
	got, f = s.prepare(context.Background(), outgoing("From: a@other.example\r\n\r\nhi\r\n"))
	if f != nil || string(got.Fields) != "Feedback-ID: a\r\n" || got.Signed != "" {
		t.Errorf("%s by %s, %v", got.Fields, got.Signed, f)
	}
}

// goneDisk is content on a disk that is gone.
type goneDisk struct{ dkim.Octets }

func (goneDisk) Bytes() []byte                     { return nil }
func (goneDisk) ReadAt([]byte, int64) (int, error) { return 0, errors.New("the disk is gone") }

// TestSigningThatFailsDefers: mail that a key should sign never goes out unsigned
// for our own trouble, is not bounced, and the log says it once.
func TestSigningThatFailsDefers(t *testing.T) {
	var log bytes.Buffer
	s := newSigning(newWidgetKeys(t), nil, slog.New(slog.NewTextHandler(&log, nil)))
	o := outgoing("From: a@widget.com\r\n\r\nhi\r\n")
	o.Content = goneDisk{o.Content.(dkim.Octets)}
	for range 3 {
		prefix, f := s.prepare(context.Background(), o)
		if f == nil || prefix.Fields != nil {
			t.Fatalf("%s", prefix.Fields)
		}
		if r := transport.Judge(f, transport.Place{}); r.Class != mta.ClassTemporary || r.Scope != mta.ScopeLocal || !strings.Contains(r.Reason, "cannot be signed: the disk is gone") {
			t.Errorf("%+v", r)
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), o.Delivery.Message.ID.String()) {
		t.Errorf("%s", log.String())
	}
}

var timed = regexp.MustCompile(`\st=\d+;`)

func TestTimeOfSignatures(t *testing.T) {
	for _, c := range []struct {
		checks []doctor.Check
		set    bool
	}{
		{nil, false},
		{[]doctor.Check{{ID: "clock", Status: doctor.Pass}}, true},
		{[]doctor.Check{{ID: "clock", Status: doctor.Warn}}, false},
		{[]doctor.Check{{ID: "clock", Status: doctor.Fail}}, false},
		{[]doctor.Check{{ID: "clock", Status: doctor.Unknown}}, false},
		{[]doctor.Check{{ID: "port25", Status: doctor.Pass}}, false},
	} {
		now := rightTime(func() *doctor.Examined { return &doctor.Examined{Report: &doctor.Report{Checks: c.checks}} })
		s := newSigning(newWidgetKeys(t), now, slog.New(slog.DiscardHandler))
		got, f := s.prepare(context.Background(), outgoing("From: a@widget.com\r\n\r\nhi\r\n"))
		if f != nil || timed.Match(got.Fields) != c.set {
			t.Errorf("%+v: %s, %v", c.checks, got.Fields, f)
		}
	}
	if at := rightTime(func() *doctor.Examined { return nil })(); !at.IsZero() {
		t.Errorf("before the first examination: %v", at)
	}
}
