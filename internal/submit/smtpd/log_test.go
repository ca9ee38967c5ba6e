package smtpd

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

// TestRefusalsDoNotFloodTheLog guards that a full disk with pushing clients
// writes a bounded number of lines, and that the rest is counted.
func TestRefusalsDoNotFloodTheLog(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	s := New(Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	s.base = context.Background()
	session := &session{server: s}
	refusal := &submit.Refusal{Reply: mta.Reply{Code: 452, Text: "full"}}
	for range 10_000 {
		session.refuse(refusal)
	}
	lines := strings.Count(log.String(), "\n")
	if lines < refusalBurst || lines > refusalBurst+100 {
		t.Errorf("%d lines for 10,000 refusals", lines)
	}
	if got := s.Counts().Refused; got != 10_000 {
		t.Errorf("%d counted", got)
	}
	if told := s.unlogged.Load(); told == 0 {
		t.Error("what was not logged is not counted")
	}
}
