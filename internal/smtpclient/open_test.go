package smtpclient

import (
	"context"
	"crypto/x509"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
)

func TestOpenReadsCapabilities(t *testing.T) {
	play(t, `
		S: 220 mx.example.net ESMTP
		C: EHLO out.example.org
		S: 250-mx.example.net hello [203.0.113.5]
		S: 250-SIZE 1000
		S: 250-LIMITS MAILMAX=5 RCPTMAX=7
		S: 250 PIPELINING
		C: QUIT
		S: 221 bye
	`, func(t *testing.T, conn net.Conn) {
		s := opened(t, conn, plain)
		c := s.Capabilities()
		if !c.Pipelining || c.Size != 1000 || c.MailMax != 5 || c.RcptMax != 7 || !s.ESMTP() || s.Local().String() != "192.0.2.99" {
			t.Errorf("%+v", c)
		}
		if s.Hello().Text[:36] != "mx.example.net hello [203.0.113.5]\nS" {
			t.Errorf("hello %q", s.Hello().Text)
		}
		s.Quit()
	})
}

// A failure of Open as "stage cause", with the time it took.
type failing struct {
	name, script string
	opt          Options
	stage        mta.Stage
	cause        mta.Cause
	code         int
	took         time.Duration
}

func (c failing) test(t *testing.T) {
	play(t, c.script, func(t *testing.T, conn net.Conn) {
		if c.opt.Hello == "" {
			c.opt = plain
		}
		start := time.Now()
		f := refusedOpen(t, conn, c.opt)
		if f.Stage != c.stage || f.Cause != c.cause || f.Reply.Code != c.code {
			t.Errorf("got %v %v: %v", f.Stage, f.Cause, f)
		}
		if took := time.Since(start); took != c.took {
			t.Errorf("took %v, want %v", took, c.took)
		}
	})
}

func TestTrap01_EndlessReplies(t *testing.T) {
	for _, c := range []failing{
		{name: "endless lines", script: "repeat 600 220-and on", stage: mta.StageBanner, cause: mta.CauseProtocol},
		{name: "a line of megabytes", script: "S: 220 mx\nC: EHLO*\nlong 3000000", stage: mta.StageEhlo, cause: mta.CauseProtocol},
		{name: "no SMTP", script: "S: SSH-2.0-OpenSSH", stage: mta.StageBanner, cause: mta.CauseProtocol},
		{name: "changing code", script: "S: 220-a\nS: 250 b", stage: mta.StageBanner, cause: mta.CauseProtocol},
	} {
		t.Run(c.name, c.test)
	}
}

func TestTrap04_Greeting(t *testing.T) {
	capped := plain
	capped.ReplyTimeout = 7 * time.Second
	for _, c := range []failing{
		{name: "421", script: "S: 421 4.3.2 busy\nclose", stage: mta.StageBanner, cause: mta.CauseReply, code: 421},
		{name: "554", script: "S: 554 no service\nC: QUIT\nS: 221 bye", stage: mta.StageBanner, cause: mta.CauseReply, code: 554},
		{name: "554, QUIT unanswered", script: "S: 554 no service\nhang", stage: mta.StageBanner, cause: mta.CauseReply, code: 554, took: waitQuit},
		{name: "empty", script: "close", stage: mta.StageBanner, cause: mta.CauseIO},
		{name: "never", script: "hang", stage: mta.StageBanner, cause: mta.CauseTimeout, took: 5 * time.Minute},
		{name: "never, capped", script: "hang", opt: capped, stage: mta.StageBanner, cause: mta.CauseTimeout, took: 7 * time.Second},
		{name: "EHLO 421", script: "S: 220 mx\nC: EHLO*\nS: 421 no\nclose", stage: mta.StageEhlo, cause: mta.CauseReply, code: 421},
		{name: "EHLO 4xx", script: "S: 220 mx\nC: EHLO*\nS: 450 no\nC: QUIT\nclose", stage: mta.StageEhlo, cause: mta.CauseReply, code: 450},
		{name: "354", script: "S: 354 go on\nC: QUIT\nclose", stage: mta.StageBanner, cause: mta.CauseReply, code: 354},
	} {
		t.Run(c.name, c.test)
	}
}

func TestTrap13_HELO(t *testing.T) {
	play(t, `
		S: 220 mx.example.net
		C: EHLO out.example.org
		S: 502 5.5.1 what
		C: HELO out.example.org
		S: 250-mx.example.net
		S: 250-PIPELINING
		S: 250 SIZE 10
		C: MAIL FROM:<a@example.org>
		S: 250 ok
		C: RCPT TO:<b@example.net>
		S: 250 ok
		C: DATA
		S: 354 go
		data
		S: 250 done
	`, func(t *testing.T, conn net.Conn) {
		opt := plain
		opt.TLS = mta.TLSOpportunistic
		s := opened(t, conn, opt)
		if s.ESMTP() || s.Capabilities().Pipelining || s.Capabilities().HasSize {
			t.Errorf("extensions of a HELO reply: %+v", s.caps)
		}
		wantOutcome(t, s.Send(to("b@example.net")), "delivered 250 done")
	})
}

func TestTrap13_NoHELO(t *testing.T) {
	required, esmtp := plain, plain
	required.TLS = mta.TLSRequired
	esmtp.NeedESMTP = true
	refuses := "S: 220 mx\nC: EHLO*\nS: 502 what\nC: QUIT\nclose"
	for _, c := range []failing{
		{name: "TLS required", script: refuses, opt: required, stage: mta.StageTLS, cause: mta.CauseNeed},
		{name: "ESMTP needed", script: refuses, opt: esmtp, stage: mta.StageEhlo, cause: mta.CauseReply, code: 502},
		{name: "HELO refused too", script: "S: 220 mx\nC: EHLO*\nS: 502 what\nC: HELO*\nS: 554 never\nC: QUIT\nclose", stage: mta.StageEhlo, cause: mta.CauseReply, code: 554},
	} {
		t.Run(c.name, c.test)
	}
}

func TestTrap18_HelloName(t *testing.T) {
	for _, name := range []string{"", "localhost", "my_host.example.org", "out.example.org.", "192.0.2.1", "häuschen.example", "a b.example", "x.example\r\nMAIL"} {
		t.Run(name, func(t *testing.T) {
			play(t, "S: 220 mx\nC: QUIT", func(t *testing.T, conn net.Conn) {
				f := refusedOpen(t, conn, Options{Hello: name, TLS: mta.TLSNone})
				if f.Cause != mta.CauseLocal {
					t.Errorf("%v", f)
				}
			})
		})
	}
	for _, name := range []string{"out.example.org", "[192.0.2.1]", "[IPv6:2001:db8::1]"} {
		t.Run(name, func(t *testing.T) {
			play(t, "S: 220 mx\nC: EHLO "+name+"\nS: 250 mx", func(t *testing.T, conn net.Conn) {
				opened(t, conn, Options{Hello: name, TLS: mta.TLSNone})
			})
		})
	}
}

func TestOpenEndsWithItsContext(t *testing.T) {
	play(t, "S: 220 mx\nhang", func(t *testing.T, conn net.Conn) {
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		_, f := Open(ctx, conn, plain)
		if f == nil || f.Cause != mta.CauseLocal {
			t.Errorf("%v", f)
		}
	})
}

func TestOpenTimesOutWithItsContext(t *testing.T) {
	play(t, "hang", func(t *testing.T, conn net.Conn) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, f := Open(ctx, conn, plain)
		if f == nil || f.Cause != mta.CauseTimeout {
			t.Errorf("%v", f)
		}
	})
}

// TLS

const offersTLS = `
	S: 220 mx
	C: EHLO out.example.org
	S: 250-mx
	S: 250-SIZE 5
	S: 250 STARTTLS
	C: STARTTLS
`

func playTLS(t *testing.T, script string, host string, client func(t *testing.T, conn net.Conn, roots *x509.CertPool)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cert, roots := certificate(t, host)
		playHere(t, script, cert, func(t *testing.T, conn net.Conn) { client(t, conn, roots) })
	})
}

func TestTLSForgetsWhatWasOfferedInClear(t *testing.T) {
	playTLS(t, offersTLS+"S: 220 go\ntls\nC: EHLO out.example.org\nS: 250-mx\nS: 250 PIPELINING\nC: QUIT\nS: 221 bye", "other.example",
		func(t *testing.T, conn net.Conn, _ *x509.CertPool) {
			opt := plain
			opt.TLS, opt.Host = mta.TLSOpportunistic, "mx.example.net."
			s := opened(t, conn, opt)
			if s.Capabilities().HasSize || s.Capabilities().StartTLS || !s.Capabilities().Pipelining {
				t.Errorf("%+v", s.caps)
			}
			if tls := s.TLS(); tls.Version != "TLS1.3" || tls.Cipher == "" || tls.Verified != "" {
				t.Errorf("%+v", tls)
			}
			s.Quit()
		})
}

func TestTLSRequiredVerifies(t *testing.T) {
	t.Run("right name", func(t *testing.T) {
		playTLS(t, offersTLS+"S: 220 go\ntls\nC: EHLO out.example.org\nS: 250 mx", "mx.example.net",
			func(t *testing.T, conn net.Conn, roots *x509.CertPool) {
				opt := plain
				opt.TLS, opt.RootCAs, opt.Host = mta.TLSRequired, roots, "mx.example.net."
				if s := opened(t, conn, opt); s.TLS().Verified != "pkix" {
					t.Errorf("%+v", s.TLS())
				}
			})
	})
	t.Run("wrong name", func(t *testing.T) {
		playTLS(t, offersTLS+"S: 220 go\ntls\nC: EHLO*\nS: 250 mx", "other.example", func(t *testing.T, conn net.Conn, roots *x509.CertPool) {
			opt := plain
			opt.TLS, opt.RootCAs = mta.TLSRequired, roots
			if f := refusedOpen(t, conn, opt); f.Stage != mta.StageTLS || f.Cause != mta.CauseTLS {
				t.Errorf("%v", f)
			}
		})
	})
	t.Run("unknown authority", func(t *testing.T) {
		playTLS(t, offersTLS+"S: 220 go\ntls\nC: EHLO*\nS: 250 mx", "mx.example.net", func(t *testing.T, conn net.Conn, _ *x509.CertPool) {
			opt := plain
			opt.TLS, opt.RootCAs = mta.TLSRequired, x509.NewCertPool()
			if f := refusedOpen(t, conn, opt); f.Cause != mta.CauseTLS {
				t.Errorf("%v", f)
			}
		})
	})
	t.Run("implicit", func(t *testing.T) {
		playTLS(t, "tls\nS: 220 mx\nC: EHLO out.example.org\nS: 250 mx", "mx.example.net",
			func(t *testing.T, conn net.Conn, roots *x509.CertPool) {
				opt := plain
				opt.TLS, opt.RootCAs = mta.TLSImplicit, roots
				if s := opened(t, conn, opt); s.TLS().Verified != "pkix" {
					t.Errorf("%+v", s.TLS())
				}
			})
	})
}

func TestTrap14_STARTTLS(t *testing.T) {
	optional, required := plain, plain
	optional.TLS, required.TLS = mta.TLSOpportunistic, mta.TLSRequired
	for _, c := range []failing{
		// One write, so that the octets after 220 are there with it.
		{name: "octets before the handshake", script: offersTLS + "repeat 2 220 go", opt: optional, stage: mta.StageTLS, cause: mta.CauseProtocol},
		{name: "refused, required", script: offersTLS + "S: 454 4.7.0 no\nC: QUIT\nclose", opt: required, stage: mta.StageTLS, cause: mta.CauseReply, code: 454},
		{name: "not offered, required", script: "S: 220 mx\nC: EHLO*\nS: 250 mx\nC: QUIT\nclose", opt: required, stage: mta.StageTLS, cause: mta.CauseNeed},
		{name: "421", script: offersTLS + "S: 421 bye\nclose", opt: optional, stage: mta.StageTLS, cause: mta.CauseReply, code: 421},
	} {
		t.Run(c.name, c.test)
	}
	t.Run("refused, opportunistic goes on in clear", func(t *testing.T) {
		play(t, offersTLS+"S: 454 4.7.0 no\nC: QUIT\nS: 221 bye", func(t *testing.T, conn net.Conn) {
			s := opened(t, conn, optional)
			if s.TLS() != (mta.TLSFacts{}) || !s.Usable() {
				t.Errorf("%+v", s.TLS())
			}
			s.Quit()
		})
	})
}

func TestTrap15_TLSFails(t *testing.T) {
	optional, capped := plain, plain
	optional.TLS, capped.TLS = mta.TLSOpportunistic, mta.TLSOpportunistic
	capped.ReplyTimeout = 3 * time.Second
	for _, c := range []failing{
		{name: "handshake hangs", script: offersTLS + "S: 220 go\nhang", opt: optional, stage: mta.StageTLS, cause: mta.CauseTLS, took: waitTLS},
		{name: "handshake hangs, capped", script: offersTLS + "S: 220 go\nhang", opt: capped, stage: mta.StageTLS, cause: mta.CauseTLS, took: 3 * time.Second},
		{name: "closed after STARTTLS", script: offersTLS + "close", opt: optional, stage: mta.StageTLS, cause: mta.CauseTLS},
		{name: "closed after 220", script: offersTLS + "S: 220 go\nclose", opt: optional, stage: mta.StageTLS, cause: mta.CauseTLS},
		{name: "garbage", script: offersTLS + "S: 220 go\nC: *\nS: this is no TLS\nhang", opt: optional, stage: mta.StageTLS, cause: mta.CauseTLS},
	} {
		t.Run(c.name, c.test)
	}
	t.Run("closed after the handshake", func(t *testing.T) {
		playTLS(t, offersTLS+"S: 220 go\ntls\nC: EHLO*\nclose", "mx.example.net", func(t *testing.T, conn net.Conn, _ *x509.CertPool) {
			if f := refusedOpen(t, conn, optional); f.Stage != mta.StageTLS || f.Cause != mta.CauseTLS {
				t.Errorf("%v", f)
			}
		})
	})
}
