package smtpd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStopSaysGoodbyeToIdleSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		s, l := start(t, testSettings(), a)
		var peers []*peer
		for _, sent := range []string{"", "MAIL FROM:<>\r\n"} {
			p := l.dial(t, trustedPeer)
			p.hello()
			p.send(sent)
			if sent != "" {
				p.want("250 *")
			}
			peers = append(peers, p)
		}
		synctest.Wait()
		if d := elapsed(func() { stopNow(t, s, a) }); d > 0 {
			t.Errorf("Stop took %v", d)
		}
		for _, p := range peers {
			p.want("421 4.3.2 *")
			p.wantClosed()
		}
		if err := s.Start(context.Background()); err == nil {
			t.Error("started again")
		}
	})
}

// TRAPS 43 from the other side: a message that is coming in is finished.
func TestTrap43_StopWaitsForData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		s, l := start(t, testSettings(), a)
		data, chunks := l.dial(t, trustedPeer), l.dial(t, trustedPeer)
		data.hello()
		data.send(openData)
		data.want("250 *", "250 *", "354 *")
		chunks.hello()
		chunks.send(openMail + "BDAT 1\r\nx")
		chunks.want("250 *", "250 *", "250 *")
		stopped := make(chan struct{})
		go func() { stopNow(t, s, a); close(stopped) }()
		synctest.Wait()
		// Neither has heard of it; both finish, and are sent away after.
		data.send("x\r\n.\r\n" + openMail)
		data.want("250 2.0.0 queued as *", "421 4.3.2 *")
		data.wantClosed()
		chunks.send("BDAT 1 LAST\r\ny" + openMail)
		chunks.want("250 2.0.0 queued as *", "421 4.3.2 *")
		chunks.wantClosed()
		<-stopped
		if len(a.taken()) != 2 {
			t.Errorf("%d messages", len(a.taken()))
		}
	})
}

func TestStopCutsOffAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{committing: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }}
		s, l := start(t, testSettings(), a)
		reading, storing := l.dial(t, trustedPeer), l.dial(t, trustedPeer)
		for _, p := range []*peer{reading, storing} {
			p.hello()
			p.send(openData)
			p.want("250 *", "250 *", "354 *")
		}
		storing.send(".\r\n")
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		var err error
		if d := elapsed(func() { err = s.Stop(ctx) }); d != 30*time.Second {
			t.Errorf("Stop took %v", d)
		}
		if err == nil || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "2 SMTP sessions") {
			t.Errorf("%v", err)
		}
		reading.wantClosed()
		storing.wantClosed()
		if a.drafts != 2 || a.ended != 2 {
			t.Errorf("%d drafts, %d ended", a.drafts, a.ended)
		}
	})
}
