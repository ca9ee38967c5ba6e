package daemon

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// alarmWorld is alarms whose time a test moves.
type alarmWorld struct {
	*routerAlarms
	log     bytes.Buffer
	records []string
	clock   time.Time
}

func newAlarmWorld() *alarmWorld {
	w := &alarmWorld{clock: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)}
	w.routerAlarms = newRouterAlarms(slog.New(slog.NewTextHandler(&w.log, nil)), func(router, words string) { w.records = append(w.records, words) })
	w.now = func() time.Time { return w.clock }
	return w
}

func (w *alarmWorld) told(t *testing.T, errs, mended int) {
	t.Helper()
	e, m := strings.Count(w.log.String(), "level=ERROR"), strings.Count(w.log.String(), "can be used again")
	if e != errs || m != mended || len(w.records) != errs+mended {
		t.Errorf("%d alarms and %d all-clears (%d records), want %d and %d:\n%s", e, m, len(w.records), errs, mended, w.log.String())
	}
}

func reply(stage mta.Stage, code int, text string) *mta.Failure {
	return &mta.Failure{Stage: stage, Cause: mta.CauseReply, Reply: mta.Reply{Code: code, Text: text}}
}

var refusedCredentials = reply(mta.StageAuth, 535, "no")

// TestAlarmOnce: once when it breaks, however often it is tried; once when it is
// mended; and again the next time.
func TestAlarmOnce(t *testing.T) {
	t.Parallel()
	w := newAlarmWorld()
	for range 100 {
		w.failed("r", refusedCredentials)
		w.clock = w.clock.Add(30 * time.Second)
	}
	w.told(t, 1, 0)
	if got := w.meter(); len(got) != 1 || got[0].Up || !strings.Contains(w.why("r"), "535") {
		t.Errorf("%+v %q", got, w.why("r"))
	}
	w.failed("r", &mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseIO, Text: "refused"}) // another thing to mend
	w.failed("r", refusedCredentials)
	w.failed("r", &mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseTimeout})
	w.told(t, 2, 0)
	w.took("r")
	w.took("r")
	w.told(t, 2, 1)
	if got := w.meter(); !got[0].Up || w.why("r") != "" {
		t.Errorf("%+v", got)
	}
	w.failed("r", refusedCredentials)
	w.told(t, 3, 1)
}

// TestBusyRouterIsNoAlarm: one connection too many is not told; a router that
// takes none any more is.
func TestBusyRouterIsNoAlarm(t *testing.T) {
	t.Parallel()
	busy, refused := reply(mta.StageBanner, 421, "too many connections"), &mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseIO}
	w := newAlarmWorld()
	for range 20 {
		w.took("r")
		w.failed("r", busy)
		w.failed("r", refused)
	}
	w.told(t, 0, 0)
	w.failed("r", busy)
	w.told(t, 1, 0)

	w = newAlarmWorld()
	w.failed("r", refused) // never seen up
	w.told(t, 1, 0)

	w = newAlarmWorld()
	w.took("r")
	w.failed("r", refused)
	w.told(t, 0, 0)
	w.clock = w.clock.Add(time.Minute)
	w.failed("r", refused)
	w.told(t, 1, 0)
}

// TestWhatToMend: each failure names what to mend.
func TestWhatToMend(t *testing.T) {
	t.Parallel()
	handshake := func(err error) *mta.Failure {
		return &mta.Failure{Stage: mta.StageTLS, Cause: mta.CauseTLS, Err: fmt.Errorf("tls: %w", err)}
	}
	for _, c := range []struct {
		f    *mta.Failure
		want trouble
	}{
		{&mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseRouter, Text: "no such name"}, troubleName},
		{refusedCredentials, troubleCredentials},
		{reply(mta.StageAuth, 454, "later"), troubleBusy},
		{reply(mta.StageMail, 530, "who are you"), troubleCredentials},
		{&mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseNeed}, troubleMechanism},
		{&mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseRouter}, troubleToken},
		{&mta.Failure{Stage: mta.StageAuth, Cause: mta.CauseProtocol}, troubleCredentials},
		{&mta.Failure{Stage: mta.StageTLS, Cause: mta.CauseNeed}, troubleTLS},
		{handshake(x509.CertificateInvalidError{Reason: x509.Expired}), troubleExpired},
		{handshake(x509.HostnameError{}), troubleHostname},
		{handshake(x509.UnknownAuthorityError{}), troubleAuthority},
		{handshake(errors.New("remote error: tls: expired certificate")), troubleOurs},
		{handshake(errors.New("first record does not look like a TLS handshake")), troubleTLS},
		{&mta.Failure{Stage: mta.StageBanner, Cause: mta.CauseIO, Err: errors.New("remote error: tls: certificate required")}, troubleOurs},
		{reply(mta.StageBanner, 554, "go away"), troubleRefused},
		{reply(mta.StageEhlo, 421, "later"), troubleBusy},
		{&mta.Failure{Stage: mta.StageBanner, Cause: mta.CauseProtocol}, troubleProtocol},
		{&mta.Failure{Stage: mta.StageConnect, Cause: mta.CauseTimeout}, troubleDown},
		{&mta.Failure{Stage: mta.StageEhlo, Cause: mta.CauseIO}, troubleDown},
	} {
		if got := judgeRouter(c.f); got != c.want {
			t.Errorf("%s: %s, want %s", c.f, got.kind, c.want.kind)
		}
	}
}

// TestAlarmsAreBounded: names that come and go do not fill the memory, and what
// is configured no more is forgotten.
func TestAlarmsAreBounded(t *testing.T) {
	t.Parallel()
	w := newAlarmWorld()
	for i := range 3 * maxAlarms {
		w.took(fmt.Sprint(i))
	}
	if n := len(w.meter()); n > maxAlarms {
		t.Errorf("%d states", n)
	}
	w.failed("old", refusedCredentials)
	w.keep([]string{"new"})
	if got := w.meter(); len(got) != 1 || got[0].Name != "new" || !got[0].Up {
		t.Errorf("%+v", got)
	}
}
