package transport

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// TRAPS 1: whatever is endless, wherever it comes, ends as a protocol error,
// and the next host is asked.
func TestTrap01_EndlessAnswersAtEveryStage(t *testing.T) {
	endless := map[string]string{"lines": strings.Repeat("250-and on\r\n", 600), "a line": "250-" + strings.Repeat("x", 1<<20)}
	for stage := mtatest.StageConnect; stage <= mtatest.StageData; stage++ {
		if stage == mtatest.StageStartTLS || stage == mtatest.StageHandshake {
			continue // without TLS
		}
		for name, raw := range endless {
			t.Run(stage.String()+", "+name, func(t *testing.T) {
				inWorld(t, func(w *world) {
					cfg := rules(mtatest.Rule{Stage: stage, Action: mtatest.Action{Raw: raw, Drop: true}})
					cfg.Without = []string{"CHUNKING"} // DATA stands alone
					w.lenient = true
					w.host("mx1", cfg, "192.0.2.1")
					w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
					a := w.deliver(w.mail("b@example.net"))[0]
					if a.Results[0].Class != mta.ClassDelivered || a.Host != "mx2" || len(a.Tries) != 2 {
						w.Errorf("%s", told(a))
					}
					if r := a.Tries[0].Reply; len(r) > maxReasonText {
						w.Errorf("%d octets of it are kept", len(r))
					}
				})
			})
		}
	}
}

// TRAPS 3: the enhanced code of an earlier reply is never that of a later one
// which has none.
func TestTrap03_StaleEnhancedCode(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(
			mtatest.Rule{Stage: mtatest.StageRcpt, Match: "b@*", Action: mtatest.Action{Reply: "550 5.1.1 who"}},
			mtatest.Rule{Stage: mtatest.StageRcpt, Match: "c@*", Action: mtatest.Action{Reply: "550 no"}},
			mtatest.Rule{Stage: mtatest.StageRcpt, Match: "d@*", Action: mtatest.Action{Reply: "450 4.2.1 later"}},
			mtatest.Rule{Stage: mtatest.StageRcpt, Match: "e@*", Action: mtatest.Action{Reply: "450 not now"}},
			mtatest.Rule{Stage: mtatest.StageDot, Action: mtatest.Action{Reply: "250 taken"}},
		), "192.0.2.1")
		got := w.deliver(w.mail("b@x", "c@x", "d@x", "e@x", "f@x"), w.mail("c@x"))
		w.want(got[0], "permanent recipient 5.1.1, permanent recipient 5.0.0, temporary recipient 4.2.1, temporary recipient 4.0.0, delivered 2.0.0 @mx1; mx1 rcpt")
		w.want(got[1], "permanent recipient 5.0.0 @mx1 reused; mx1 rcpt")
		for _, i := range []int{1, 3, 4} {
			if r := got[0].Results[i].Reply; !r.Enhanced.IsZero() {
				w.Errorf("recipient %d: %v", i, r)
			}
		}
	})
}

// TRAPS 6: the final refusal is of those that were accepted in this
// transaction; the others keep their own reply.
func TestTrap06_RefusedKeepTheirOwnReply(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(
			mtatest.Rule{Stage: mtatest.StageRcpt, Match: "c@*", Action: mtatest.Action{Reply: "450 4.2.1 later"}},
			mtatest.Rule{Stage: mtatest.StageRcpt, Match: "d@*", Action: mtatest.Action{Reply: "550 5.1.1 who"}},
			on(mtatest.StageDot, "554 5.6.0 spam"),
		), "192.0.2.1")
		a := w.deliver(w.mail("b@x", "c@x", "d@x"))[0]
		w.want(a, "permanent message 5.6.0, temporary recipient 4.2.1, permanent recipient 5.1.1 @mx1; mx1 final")
		if r := a.Results[1].Reply; r.Code != 450 || r.Text != "later" {
			w.Errorf("the deferred one has %v", r)
		}
	})
	// In an earlier transaction of the same delivery they are delivered.
	t.Run("an earlier transaction stands", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", mtatest.MXConfig{MaxRecipients: 1, Rules: []mtatest.Rule{
				{Stage: mtatest.StageDot, Skip: 1, Action: mtatest.Action{Reply: "554 5.6.0 spam"}}}}, "192.0.2.1")
			w.want(w.deliver(w.mail("b@x", "c@x"))[0], "delivered 2.0.0, permanent message 5.6.0 @mx1; mx1 final")
		})
	})
}

// TRAPS 7: what comes after the 250 changes nothing for the message: one copy,
// no further try of it.
func TestTrap07_DeliveredWhateverComesAfter(t *testing.T) {
	for name, rule := range map[string]mtatest.Rule{
		"closed behind the 250": {Stage: mtatest.StageDot, First: 1, Action: mtatest.Action{Reply: "250 ok", Drop: true}},
		"421 behind the 250":    {Stage: mtatest.StageDot, First: 1, Action: mtatest.Action{Reply: "250 ok", After: "421 bye\r\n", Drop: true}},
		"nonsense behind it":    {Stage: mtatest.StageDot, First: 1, Action: mtatest.Action{Reply: "250 ok", After: "what?\r\n", Drop: true}},
		"QUIT unanswered":       {Stage: mtatest.StageQuit, Action: mtatest.Action{Hang: true}},
		"QUIT refused":          {Stage: mtatest.StageQuit, Action: mtatest.Action{Reply: "500 what"}},
		"RSET unanswered":       {Stage: mtatest.StageRset, Action: mtatest.Action{Hang: true}},
		"RSET refused":          {Stage: mtatest.StageRset, Action: mtatest.Action{Reply: "502 no"}},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.lenient = true // a MAIL that went with a refused RSET is out of order
				w.host("mx1", rules(rule, mtatest.Rule{Stage: mtatest.StageRcpt, Match: "no@*", Action: mtatest.Action{Reply: "550 5.1.1 who"}}), "192.0.2.1")
				// The refused recipient makes an RSET necessary before the third.
				got := w.deliver(w.mail("b@x"), w.mail("no@x"), w.mail("c@x"))
				w.want(got[0], "delivered 2.0.0 @mx1")
				// What went out behind a silent RSET may have been taken.
				if c := got[2].Results[0].Class; c != mta.ClassDelivered && !(c == mta.ClassUncertain && name == "RSET unanswered") {
					w.Errorf("the message after it: %s", told(got[2]))
				}
				seen := map[string]int{}
				for _, m := range w.mx["mx1"].Messages() {
					seen[m.To[0].Address]++
				}
				if seen["b@x"] != 1 || seen["c@x"] > 1 {
					w.Errorf("copies: %v", seen)
				}
			})
		})
	}
}

// TRAPS 9: no content goes out unless DATA is answered with 354.
func TestTrap09_NoBodyWithout354(t *testing.T) {
	for reply, want := range map[string]string{
		"250 2.0.0 fine":      "temporary",
		"503 5.5.1 sequence":  "permanent",
		"554 5.7.1 no":        "permanent",
		"451 4.2.0 later":     "temporary",
		"299 2.0.0 and so on": "temporary",
	} {
		t.Run(reply, func(t *testing.T) {
			inWorld(t, func(w *world) {
				sent := false
				m := w.host("mx1", mtatest.MXConfig{Without: []string{"CHUNKING"}, Rules: []mtatest.Rule{{Stage: mtatest.StageData, Action: mtatest.Action{
					Takeover: func(conn net.Conn, pending []byte) {
						fmt.Fprintf(conn, "%s\r\n", reply)
						buf := make([]byte, 4096)
						for {
							n, err := conn.Read(buf)
							pending = append(pending, buf[:n]...)
							if strings.Contains(string(pending), "hello") {
								sent = true
							}
							if err != nil || strings.Contains(string(pending), "QUIT") {
								return
							}
							fmt.Fprint(conn, "250 ok\r\n")
						}
					}}}}}, "192.0.2.1")
				a := w.deliver(w.mail("b@example.net"))[0]
				if got := a.Results[0].Class.String(); got != want || sent || len(m.Messages()) != 0 {
					w.Errorf("%s, content sent: %v", told(a), sent)
				}
			})
		})
	}
}

// TRAPS 13: a host that knows no EHLO gets HELO, except by what needs more;
// what one host offered is not asked of the next.
func TestTrap13_HELOAndForgottenExtensions(t *testing.T) {
	noEHLO := rules(mtatest.Rule{Stage: mtatest.StageHelo, First: 1, Action: mtatest.Action{Reply: "502 5.5.1 what"}})
	t.Run("HELO", func(t *testing.T) {
		inWorld(t, func(w *world) {
			m := w.host("mx1", noEHLO, "192.0.2.1")
			w.want(w.deliver(w.mail("b@x", "c@x"))[0], "delivered 2.0.0, delivered 2.0.0 @mx1")
			w.sessions("mx1", 1)
			if got := m.Messages()[0]; got.ESMTP || got.Chunked || got.Params != "" || got.To[0].Params != "" {
				w.Errorf("%+v", got)
			}
		})
	})
	t.Run("not for SMTPUTF8", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", noEHLO, "192.0.2.1")
			w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
			a := w.deliver(w.mail("bücher@example.net"))[0]
			if a.Results[0].Class != mta.ClassDelivered || a.Host != "mx2" {
				w.Errorf("%s", told(a))
			}
		})
	})
	t.Run("of an earlier host", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", rules(on(mtatest.StageMail, "451 4.3.0 oops")), "192.0.2.1")
			m := w.host("mx2", mtatest.MXConfig{Without: []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "SIZE"}}, "192.0.2.2")
			d := w.mail("b@example.net")
			d.Recipients[0].Notify, d.Message.Envelope.EnvID = mta.NotifySuccess, "e"
			w.want(w.deliver(d)[0], "delivered 2.0.0 @mx2; mx1 mail; mx2 final")
			if got := m.Messages()[0]; got.Params != "" || got.To[0].Params != "" || got.Chunked {
				w.Errorf("%+v", got)
			}
		})
	})
}

// tlsWorld is a world whose mx1 has a certificate for its own name.
func tlsWorld(t *testing.T, demand mta.TLSRequirement, cfg mtatest.MXConfig, f func(w *world)) {
	inWorld(t, func(w *world) {
		authority, err := mtatest.NewAuthority()
		if err != nil {
			w.Fatal(err)
		}
		if cfg.Certificate, err = authority.Certificate(true, "mx1"); err != nil {
			w.Fatal(err)
		}
		w.route.TLS = demand
		w.opt.Settings.RootCAs = authority.Pool()
		w.host("mx1", cfg, "192.0.2.1")
		f(w)
	})
}

// TRAPS 14: octets between the 220 and the handshake are an attack: nothing is
// sent over that connection.
func TestTrap14_InjectionIsAborted(t *testing.T) {
	inject := func(text string) mtatest.MXConfig {
		return rules(mtatest.Rule{Stage: mtatest.StageStartTLS, Action: mtatest.Action{Reply: "220 go", After: text}})
	}
	for name, text := range map[string]string{"a reply": "250 fine\r\n", "a capability": "250-mx1\r\n250 AUTH PLAIN\r\n", "one octet": "2"} {
		for _, demand := range []mta.TLSRequirement{mta.TLSOpportunistic, mta.TLSRequired} {
			t.Run(fmt.Sprintf("%s %v", name, demand), func(t *testing.T) {
				tlsWorld(t, demand, inject(text), func(w *world) {
					w.lenient = true
					w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
					a := w.deliver(w.mail("b@example.net"))[0]
					w.received("mx1", 0)
					if a.Tries[0].Stage != mta.StageTLS || a.Tries[0].Host != "mx1" {
						w.Errorf("%s", told(a))
					}
					if want := demand == mta.TLSOpportunistic; want != (a.Results[0].Class == mta.ClassDelivered) {
						w.Errorf("%s", told(a)) // mx2 has no TLS: only opportunistic mail may go there
					}
					if demand == mta.TLSRequired && a.Results[0].Class != mta.ClassTemporary {
						w.Errorf("%s", told(a))
					}
				})
			})
		}
	}
}

// TRAPS 14: STARTTLS refused: clear text when TLS is opportunistic, deferred
// when it is required.
func TestTrap14_RefusedSTARTTLS(t *testing.T) {
	refuse := rules(on(mtatest.StageStartTLS, "454 4.7.0 not now"))
	t.Run("opportunistic", func(t *testing.T) {
		tlsWorld(t, mta.TLSOpportunistic, refuse, func(w *world) {
			a := w.deliver(w.mail("b@example.net"))[0]
			w.want(a, "delivered 2.0.0 @mx1")
			if a.TLS != (mta.TLSFacts{}) {
				w.Errorf("%+v", a.TLS)
			}
			w.sessions("mx1", 1)
		})
	})
	t.Run("required", func(t *testing.T) {
		tlsWorld(t, mta.TLSRequired, refuse, func(w *world) {
			w.want(w.deliver(w.mail("b@example.net"))[0], "temporary host 4.7.0 @mx1; mx1 starttls")
			w.received("mx1", 0)
		})
	})
}

// TRAPS 15: a handshake that hangs has its own, shorter time-out, and what
// must not go in clear does not.
func TestTrap15_HangingHandshake(t *testing.T) {
	hang := rules(mtatest.Rule{Stage: mtatest.StageHandshake, Action: mtatest.Action{Hang: true}})
	t.Run("opportunistic", func(t *testing.T) {
		tlsWorld(t, mta.TLSOpportunistic, hang, func(w *world) {
			start := time.Now()
			w.want(w.deliver(w.mail("b@example.net"))[0], "delivered 2.0.0 @mx1; mx1 starttls; mx1 final")
			if took := time.Since(start); took > 2*time.Minute {
				w.Errorf("took %v", took)
			}
			w.sessions("mx1", 2)
			if m := w.mx["mx1"].Messages(); len(m) != 1 || m[0].TLS != nil {
				w.Errorf("%d messages", len(m))
			}
		})
	})
	t.Run("REQUIRETLS", func(t *testing.T) {
		tlsWorld(t, mta.TLSOpportunistic, hang, func(w *world) {
			w.route.Secure = true
			d := w.mail("b@example.net")
			d.Message.Envelope.RequireTLS = true
			if a := w.deliver(d)[0]; a.Results[0].Class != mta.ClassTemporary {
				w.Errorf("%s", told(a))
			}
			w.sessions("mx1", 1)
			w.received("mx1", 0)
		})
	})
}

// TRAPS 15: a certificate that proves nothing is no reason for clear text.
func TestTrap15_WorthlessCertificate(t *testing.T) {
	inWorld(t, func(w *world) {
		authority, err := mtatest.NewAuthority()
		if err != nil {
			w.Fatal(err)
		}
		cert, err := authority.Certificate(true, "another.example")
		if err != nil {
			w.Fatal(err)
		}
		w.route.TLS = mta.TLSOpportunistic
		m := w.host("mx1", mtatest.MXConfig{Certificate: cert}, "192.0.2.1")
		a := w.deliver(w.mail("b@example.net"))[0]
		w.want(a, "delivered 2.0.0 @mx1")
		if m.Messages()[0].TLS == nil || a.TLS.Version == "" || a.TLS.Verified != "" {
			w.Errorf("%+v", a.TLS)
		}
	})
}

// TRAPS 17: the size is sent only where SIZE is offered; its limit refuses
// here, before MAIL; the next host may take more.
func TestTrap17_SIZE(t *testing.T) {
	for name, c := range map[string]struct {
		first, second *mtatest.MXConfig
		want, params  string
	}{
		"too large for the only host": {first: &mtatest.MXConfig{Size: 10}, want: "permanent host 5.3.4 @mx1; mx1 mail"},
		"the second takes more":       {&mtatest.MXConfig{Size: 10}, &mtatest.MXConfig{Size: 1000}, "delivered 2.0.0 @mx2; mx1 mail; mx2 final", fmt.Sprintf("SIZE=%d", len(body))},
		"not offered":                 {&mtatest.MXConfig{Without: []string{"SIZE"}}, nil, "delivered 2.0.0 @mx1", ""},
		"exactly the limit":           {&mtatest.MXConfig{Size: int64(len(body))}, nil, "delivered 2.0.0 @mx1", fmt.Sprintf("SIZE=%d", len(body))},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				last := w.host("mx1", *c.first, "192.0.2.1")
				if c.second != nil {
					last = w.host("mx2", *c.second, "192.0.2.2")
				}
				w.want(w.deliver(w.mail("b@example.net"))[0], c.want)
				if m := last.Messages(); len(m) == 1 && m[0].Params != c.params {
					w.Errorf("MAIL parameters %q", m[0].Params)
				}
			})
		})
	}
}

// TRAPS 33: five dead AAAA records, refusing or silent, do not starve the A
// record in the same attempt.
func TestTrap33_DeadIPv6InTheSameAttempt(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent %v", silent), func(t *testing.T) {
			inWorld(t, func(w *world) {
				dead := []string{"2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5"}
				m := w.host("mx1", mtatest.MXConfig{}, append(dead, "192.0.2.1")...)
				for _, d := range dead {
					at := netip.AddrPortFrom(netip.MustParseAddr(d), 25)
					w.net.Handle(at, nil)
					w.net.Silence(at, silent)
				}
				w.route.MaxAddresses = 3
				a := w.deliver(w.mail("b@example.net"))[0]
				if a.Results[0].Class != mta.ClassDelivered || a.IP.String() != "192.0.2.1" || len(m.Messages()) != 1 {
					w.Errorf("%s", told(a))
				}
			})
		})
	}
}
