package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/smtpclient"
)

func TestCarryReusesItsSession(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		got := w.deliver(w.mail("b@example.net"), w.mail("c@example.net", "d@example.net"))
		w.want(got[0], "delivered 2.0.0 @mx1")
		w.want(got[1], "delivered 2.0.0, delivered 2.0.0 @mx1 reused")
		a := got[0]
		if a.IP.String() != "192.0.2.1" || a.Helo != "out.example.org" || a.Site != "mx1" || a.Source.String() != "192.0.2.1" || a.Results[0].Reply.Code != 250 {
			w.Errorf("%+v", a)
		}
		w.received("mx1", 2)
		w.sessions("mx1", 1)
		if data := string(w.mx["mx1"].Messages()[0].Data); data != body {
			w.Errorf("content %q", data)
		}
	})
}

func TestMessagesPerConnection(t *testing.T) {
	inWorld(t, func(w *world) {
		w.route.Limits.MessagesPerConnection = 2
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		w.deliver(w.mail("b@example.net"), w.mail("b@example.net"), w.mail("b@example.net"))
		w.sessions("mx1", 2)
	})
}

func TestRecipientsPerMessage(t *testing.T) {
	inWorld(t, func(w *world) {
		w.route.Limits = mta.Limits{RecipientsPerMessage: 2, MessagesPerConnection: 2}
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		got := w.deliver(w.mail("a@x", "b@x", "c@x", "d@x", "e@x"))
		w.want(got[0], "delivered 2.0.0, delivered 2.0.0, delivered 2.0.0, delivered 2.0.0, delivered 2.0.0 @mx1")
		w.received("mx1", 3)
		w.sessions("mx1", 2) // the third transaction is over the limit of a connection
	})
}

// A receiver that takes one message a session must not keep from a delivery
// what its limit of recipients moved to a second transaction: a first recipient
// that is deferred for ever would keep the others from ever being asked for.
// Found by test/world, seed 102.
func TestFewMessagesASession(t *testing.T) {
	inWorld(t, func(w *world) {
		w.route.Limits = mta.Limits{RecipientsPerMessage: 1}
		cfg := rules(mtatest.Rule{Stage: mtatest.StageRcpt, Match: "full@*", Action: mtatest.Action{Reply: "452 4.2.2 full"}})
		cfg.MaxMessages = 1
		w.host("mx1", cfg, "192.0.2.1")
		w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
		got := w.deliver(w.mail("full@example.net", "b@example.net", "c@example.net"))[0]
		for i, want := range []mta.Class{mta.ClassTemporary, mta.ClassDelivered, mta.ClassDelivered} {
			if got.Results[i].Class != want {
				w.Errorf("recipient %d: %v\n%s", i, got.Results[i], told(got))
			}
		}
		w.received("mx1", 2)
		w.sessions("mx1", 3)
		w.sessions("mx2", 0)
	})
}

func TestTrap04_AllHostsMustSayNo(t *testing.T) {
	greet := func(reply string) mtatest.MXConfig { return rules(on(mtatest.StageConnect, reply)) }
	for name, c := range map[string]struct {
		first, second mtatest.MXConfig
		want          string
	}{
		"next host takes it":    {greet("554 5.7.1 no"), mtatest.MXConfig{}, "delivered 2.0.0 @mx2; mx1 banner; mx2 final"},
		"421, then takes it":    {greet("421 4.3.2 busy"), mtatest.MXConfig{}, "delivered 2.0.0 @mx2; mx1 banner; mx2 final"},
		"every host says no":    {greet("554 5.7.1 no"), greet("554 no"), "permanent host 5.7.1 @mx1; mx1 banner; mx2 banner"},
		"one is busy":           {greet("554 5.7.1 no"), greet("421 busy"), "temporary host 4.3.2 @mx2; mx1 banner; mx2 banner"},
		"one was busy":          {greet("421 busy"), greet("554 5.7.1 no"), "temporary host 4.3.2 @mx1; mx1 banner; mx2 banner"},
		"silent, then no":       {rules(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Hang: true}}), greet("554 no"), "temporary host 4.4.2 @mx1; mx1 banner; mx2 banner"},
		"closed, then busy":     {rules(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Drop: true}}), greet("421 busy"), "temporary host 4.3.2 @mx2; mx1 banner; mx2 banner"},
		"endless greeting":      {rules(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Raw: strings.Repeat("220-and on\r\n", 600)}}), mtatest.MXConfig{}, "delivered 2.0.0 @mx2; mx1 banner; mx2 final"},
		"busy, then closed":     {greet("421 busy"), rules(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Drop: true}}), "temporary host 4.3.2 @mx1; mx1 banner; mx2 banner"},
		"EHLO no, then takes":   {rules(on(mtatest.StageHelo, "550 no")), mtatest.MXConfig{}, "delivered 2.0.0 @mx2; mx1 ehlo; mx2 final"},
		"out of space at RCPT":  {rules(on(mtatest.StageRcpt, "452 4.3.1 full")), mtatest.MXConfig{}, "delivered 2.0.0 @mx2; mx1 rcpt; mx2 final"},
		"greylisting stays":     {rules(on(mtatest.StageRcpt, "450 4.7.1 greylisted, try again in 5 minutes")), mtatest.MXConfig{}, "temporary recipient 4.7.1 @mx1; mx1 rcpt"},
		"unknown user stays":    {rules(on(mtatest.StageRcpt, "550 5.1.1 who")), mtatest.MXConfig{}, "permanent recipient 5.1.1 @mx1; mx1 rcpt"},
		"refused content stays": {rules(on(mtatest.StageDot, "554 5.6.0 spam")), mtatest.MXConfig{}, "permanent message 5.6.0 @mx1; mx1 final"},
		"421 at the content":    {rules(on(mtatest.StageDot, "421 4.3.0 oops")), mtatest.MXConfig{}, "delivered 2.0.0 @mx2; mx1 final; mx2 final"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.host("mx1", c.first, "192.0.2.1")
				w.host("mx2", c.second, "192.0.2.2")
				w.want(w.deliver(w.mail("b@example.net"))[0], c.want)
			})
		})
	}
}

func TestDeadHosts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.serve("mx1", nil, "192.0.2.1", "2001:db8::1")
		w.serve("mx2", nil, "192.0.2.2")
		w.net.Silence(netip.MustParseAddrPort("192.0.2.2:25"), true)
		start := time.Now()
		a := w.deliver(w.mail("b@example.net"))[0]
		w.want(a, "temporary host 4.4.1 @mx2; mx1 connect; mx1 connect; mx2 connect")
		if took := time.Since(start); took != DefaultConnectTimeout {
			w.Errorf("took %v", took)
		}
		if r := a.Tries[0].Reply; r != "connect to [2001:db8::1]:25: connection refused" {
			w.Errorf("%q", r)
		}
		if r := a.Tries[2]; r.Reply != "connect to 192.0.2.2:25: no answer in time" || r.MS != 30_000 {
			w.Errorf("%+v", r)
		}
	})
}

func TestHostWithoutAddresses(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(on(mtatest.StageConnect, "554 no")), "192.0.2.1")
		w.route.Hosts = append(w.route.Hosts, mta.Host{Name: "mx2", Failure: &mta.Failure{Cause: mta.CauseDNS}})
		w.want(w.deliver(w.mail("b@example.net"))[0], "temporary local 4.4.3 @mx1; mx1 banner")
	})
	t.Run("alone", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.route.Hosts = []mta.Host{{Name: "mx1", Failure: &mta.Failure{Cause: mta.CauseNoAddress}}, {Name: "mx2", Failure: &mta.Failure{Cause: mta.CauseDNS}}}
			w.want(w.deliver(w.mail("b@example.net"))[0], "temporary local 4.4.3 @")
		})
	})
	t.Run("no family in common", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.route.IPv6 = false
			w.serve("mx1", nil, "2001:db8::1")
			w.want(w.deliver(w.mail("b@example.net"))[0], "temporary local 4.3.0 @")
		})
	})
}

func TestTrap05_421OnAReusedSession(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  mtatest.MXConfig
		wait time.Duration
	}{
		"421 at MAIL": {mtatest.MXConfig{MaxMessages: 1}, 0},
		"closed idle": {rules(mtatest.Rule{Stage: mtatest.StageDot, First: 1, Action: mtatest.Action{Reply: "250 ok", Drop: true}}), 2 * time.Second},
		"421 idle":    {rules(mtatest.Rule{Stage: mtatest.StageDot, First: 1, Action: mtatest.Action{Reply: "250 ok", After: "421 4.4.2 idle\r\n", Drop: true}}), 2 * time.Second},
		"421 at RCPT": {rules(mtatest.Rule{Stage: mtatest.StageRcpt, Skip: 1, First: 1, Action: mtatest.Action{Reply: "421 no", Drop: true}}), 0},
		"closed at DATA": {mtatest.MXConfig{Without: []string{"CHUNKING"},
			Rules: []mtatest.Rule{{Stage: mtatest.StageData, Skip: 1, First: 1, Action: mtatest.Action{Drop: true}}}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.host("mx1", c.cfg, "192.0.2.1")
				w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
				got := w.carry(context.Background(), context.Background(), job{d: w.mail("b@example.net")}, job{d: w.mail("c@example.net"), after: c.wait})
				w.want(got[0], "delivered 2.0.0 @mx1")
				if r := got[1].Results[0]; r.Class != mta.ClassDelivered || got[1].Host != "mx1" || got[1].Reused {
					w.Errorf("%s", told(got[1]))
				}
				w.received("mx1", 2)
				w.sessions("mx1", 2)
				w.sessions("mx2", 0)
			})
		})
	}
}

func TestTrap08_Uncertain(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(mtatest.Rule{Stage: mtatest.StageDot, First: 1, Action: mtatest.Action{Keep: true, Drop: true}}), "192.0.2.1")
		w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
		got := w.deliver(w.mail("b@example.net"), w.mail("c@example.net"))
		w.want(got[0], "uncertain host 4.4.2 @mx1; mx1 final") // and no other host is asked
		w.want(got[1], "delivered 2.0.0 @mx1")
		w.received("mx2", 0)
	})
	t.Run("on a reused session", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", rules(mtatest.Rule{Stage: mtatest.StageDot, Skip: 1, Action: mtatest.Action{Keep: true, Drop: true}}), "192.0.2.1")
			got := w.deliver(w.mail("b@example.net"), w.mail("c@example.net"))
			w.want(got[1], "uncertain host 4.4.2 @mx1 reused; mx1 final")
			w.received("mx1", 2)
		})
	})
}

// A 421 for one recipient ends the session after the message was taken for the
// others: the next host is asked for that one.
func TestTrap05_421InTheFlight(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(mtatest.Rule{Stage: mtatest.StageRcpt, Match: "c@*", Action: mtatest.Action{Reply: "421 not this one"}}), "192.0.2.1")
		w.host("mx2", mtatest.MXConfig{}, "192.0.2.2")
		w.want(w.deliver(w.mail("b@x", "c@x"))[0], "delivered 2.0.0, delivered 2.0.0 @mx2; mx1 rcpt; mx2 final")
		w.sessions("mx1", 1)
	})
}

func TestTrap10_TheRetryCarriesOnlyTheDeferred(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(
			mtatest.Rule{Stage: mtatest.StageRcpt, Match: "c@*", Action: mtatest.Action{Reply: "450 4.2.1 later"}},
			mtatest.Rule{Stage: mtatest.StageRcpt, Match: "d@*", Action: mtatest.Action{Reply: "550 5.1.1 who"}},
		), "192.0.2.1")
		w.want(w.deliver(w.mail("b@x", "c@x", "d@x"))[0], "delivered 2.0.0, temporary recipient 4.2.1, permanent recipient 5.1.1 @mx1; mx1 rcpt")
	})
}

func TestTrap11_ContinuesInTheNextTransaction(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", mtatest.MXConfig{MaxRecipients: 2}, "192.0.2.1")
		w.want(w.deliver(w.mail("a@x", "b@x", "c@x", "d@x", "e@x"))[0],
			"delivered 2.0.0, delivered 2.0.0, delivered 2.0.0, delivered 2.0.0, delivered 2.0.0 @mx1")
		w.received("mx1", 3)
		w.sessions("mx1", 1)
	})
}

// Recipients that a host's own trouble struck go to the next host; the others
// keep what they have.
func TestPartsOfADelivery(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(mtatest.Rule{Stage: mtatest.StageRcpt, Match: "c@*", Action: mtatest.Action{Reply: "451 4.3.0 oops"}}), "192.0.2.1")
		w.host("mx2", rules(mtatest.Rule{Stage: mtatest.StageRcpt, Match: "c@*", Action: mtatest.Action{Reply: "550 5.1.1 who"}}), "192.0.2.2")
		w.want(w.deliver(w.mail("b@x", "c@x"))[0], "delivered 2.0.0, permanent recipient 5.1.1 @mx1; mx1 rcpt; mx2 rcpt")
		w.received("mx1", 1)
		w.received("mx2", 0)
	})
}

func TestTrap33_PTROfIPv6(t *testing.T) {
	refuse6 := mtatest.Rule{Stage: mtatest.StageDot, First: 1, Action: mtatest.Action{Reply: "550 5.7.1 does not meet IPv6 sending guidelines regarding PTR records"}}
	t.Run("tried over IPv4", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", rules(refuse6), "2001:db8::1", "2001:db8::2", "192.0.2.1")
			w.want(w.deliver(w.mail("b@example.net"))[0], "delivered 2.0.0 @mx1; mx1 final; mx1 final")
			if d := w.net.Dials(); len(d) != 2 || d[1].Address != "192.0.2.1:25" {
				w.Errorf("%+v", d)
			}
		})
	})
	t.Run("IPv4 is away", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", rules(refuse6), "2001:db8::1")
			w.serve("mx2", nil, "192.0.2.1")
			w.want(w.deliver(w.mail("b@example.net"))[0], "temporary host 4.4.1 @mx2; mx1 final; mx2 connect")
		})
	})
	t.Run("there is no IPv4", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", rules(refuse6), "2001:db8::1", "2001:db8::2")
			w.want(w.deliver(w.mail("b@example.net"))[0], "permanent message 5.7.1 @mx1; mx1 final")
		})
	})
}

func TestTrap40_OneGreylistedRecipient(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", rules(mtatest.Rule{Stage: mtatest.StageRcpt, Match: "c@*", Action: mtatest.Action{Greylist: 1}}), "192.0.2.1")
		w.want(w.deliver(w.mail("b@x", "c@x", "d@x"))[0], "delivered 2.0.0, temporary recipient 4.7.1, delivered 2.0.0 @mx1; mx1 rcpt")
		w.want(w.deliver(w.mail("c@x"))[0], "delivered 2.0.0 @mx1")
	})
}

func TestTrap43_Stopping(t *testing.T) {
	hang := mtatest.Rule{Stage: mtatest.StageDot, Action: mtatest.Action{Hang: true}}
	slow := mtatest.Rule{Stage: mtatest.StageDot, Action: mtatest.Action{Delay: 10 * time.Second}}
	run := func(t *testing.T, cfg mtatest.MXConfig, want string) {
		inWorld(t, func(w *world) {
			w.host("mx1", cfg, "192.0.2.1")
			ctx, stop := context.WithCancel(context.Background())
			abandon, kill := context.WithCancel(context.Background())
			time.AfterFunc(time.Second, stop)
			time.AfterFunc(30*time.Second, kill)
			got := w.carry(ctx, abandon, job{d: w.mail("b@example.net")}, job{d: w.mail("c@example.net")})
			if len(got) != 1 {
				w.Fatalf("%d attempts", len(got))
			}
			w.want(got[0], want)
			stop()
			kill()
		})
	}
	t.Run("an open transaction goes on", func(t *testing.T) { run(t, rules(slow), "delivered 2.0.0 @mx1") })
	t.Run("until it is abandoned", func(t *testing.T) { run(t, rules(hang), "uncertain local 4.3.2 @mx1; mx1 final") })
	t.Run("a greeting is not waited for", func(t *testing.T) {
		run(t, rules(mtatest.Rule{Stage: mtatest.StageConnect, Action: mtatest.Action{Hang: true}}), "temporary local 4.3.0 @mx1; mx1 banner")
	})
}

func TestTrap46_APanicLeavesNoSession(t *testing.T) {
	inWorld(t, func(w *world) {
		m := w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		second := w.mail("c@example.net")
		second.Message = nil
		func() {
			defer func() {
				if recover() == nil {
					w.Error("no panic")
				}
			}()
			w.deliver(w.mail("b@example.net"), second)
		}()
		synctest.Wait()
		if open := m.Stats().Open; open != 0 {
			w.Errorf("%d sessions open", open)
		}
	})
}

func TestContentThatIsGone(t *testing.T) {
	inWorld(t, func(w *world) {
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		d := w.mail("b@example.net", "c@example.net")
		delete(w.bodies, d.Message.ID)
		w.want(w.deliver(d)[0], "temporary local 4.3.0, temporary local 4.3.0 @")
		w.sessions("mx1", 0)
	})
}

func TestDialFailures(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no descriptors":     {syscall.EMFILE, "temporary local 4.3.0 @mx1; mx1 connect"},
		"not our address":    {syscall.EADDRNOTAVAIL, "temporary local 4.3.0 @mx1; mx1 connect"},
		"no route":           {syscall.ENETUNREACH, "temporary host 4.4.1 @mx1; mx1 connect"},
		"something unheard":  {errors.New("a surprise"), "temporary host 4.4.1 @mx1; mx1 connect"},
		"time-out of a kind": {context.DeadlineExceeded, "temporary host 4.4.1 @mx1; mx1 connect"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.opt.Dial = func(context.Context, string, netip.Addr, string) (net.Conn, error) {
					return nil, &net.OpError{Op: "dial", Net: "tcp", Err: c.err}
				}
				w.serve("mx1", nil, "192.0.2.1")
				w.want(w.deliver(w.mail("b@example.net"))[0], c.want)
			})
		})
	}
}

func TestSourceAndName(t *testing.T) {
	inWorld(t, func(w *world) {
		w.route.Sources = []mta.Source{{IP: netip.MustParseAddr("203.0.113.9"), Hostname: "bulk.example.org"}}
		m := w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		a := w.deliver(w.mail("b@example.net"))[0]
		if a.Source.String() != "203.0.113.9" || a.Helo != "bulk.example.org" || m.Messages()[0].Helo != "bulk.example.org" {
			w.Errorf("%+v", a)
		}
	})
}

type watcher struct{ stages []string }

func (o *watcher) Observe(e Event) { o.stages = append(o.stages, e.Step.Stage.String()) }

func TestObserver(t *testing.T) {
	inWorld(t, func(w *world) {
		o := &watcher{}
		w.opt.Observer = o
		w.serve("mx0", nil, "192.0.2.9")
		w.host("mx1", mtatest.MXConfig{Without: []string{"CHUNKING"}}, "192.0.2.1")
		w.deliver(w.mail("b@example.net"))
		if got := strings.Join(o.stages, " "); got != "connect connect banner ehlo mail rcpt data final" {
			w.Errorf("%s", got)
		}
	})
}

func TestPlanner(t *testing.T) {
	t.Parallel()
	p := NewPlanner(oneRouter{})
	if r, a := p.Plan(context.Background(), mta.Destination{Domain: "example.net"}, ""); r == nil || a != nil {
		t.Errorf("%v %v", r, a)
	}
	r, a := p.Plan(context.Background(), mta.Destination{Domain: "gone.example"}, "")
	if r != nil || a == nil || len(a.Results) != 1 || a.Results[0].Class != mta.ClassPermanent || a.Start.IsZero() || a.End.IsZero() {
		t.Errorf("%v %+v", r, a)
	}
}

type oneRouter struct{}

func (oneRouter) Variant(*mta.Message, mta.Destination) string { return "" }

func (oneRouter) PlanFor(_ context.Context, d mta.Destination, _ string) (*mta.Plan, *mta.Failure) {
	if d.Domain == "example.net" {
		return mta.OnePlan(&mta.Route{}), nil
	}
	return nil, &mta.Failure{Cause: mta.CauseNoDomain}
}

var _ smtpclient.Content = memory(nil)
