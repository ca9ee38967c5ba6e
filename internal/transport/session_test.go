package transport

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

func TestTrap15_TLSInClearOnANewConnection(t *testing.T) {
	broken := rules(mtatest.Rule{Stage: mtatest.StageHandshake, Action: mtatest.Action{Drop: true}})
	run := func(t *testing.T, tls mta.TLSRequirement, want string, sessions int64) {
		inWorld(t, func(w *world) {
			authority, err := mtatest.NewAuthority()
			if err != nil {
				w.Fatal(err)
			}
			cfg := broken
			cfg.Certificate, err = authority.Certificate(true, "mx1")
			if err != nil {
				w.Fatal(err)
			}
			w.route.TLS = tls
			w.opt.Settings.RootCAs = authority.Pool()
			w.host("mx1", cfg, "192.0.2.1")
			w.want(w.deliver(w.mail("b@example.net"))[0], want)
			w.sessions("mx1", sessions)
			if tls == mta.TLSOpportunistic { // and it is remembered
				w.want(w.deliver(w.mail("b@example.net"))[0], "delivered 2.0.0 @mx1")
				w.sessions("mx1", sessions+1)
				if got := w.carrier.Counts(); got != (Counts{Opened: 2, Clear: 2}) {
					w.Errorf("%+v", got)
				}
			} else if got := w.carrier.Counts(); got != (Counts{Failed: 1}) {
				w.Errorf("%+v", got)
			}
		})
	}
	t.Run("opportunistic", func(t *testing.T) {
		run(t, mta.TLSOpportunistic, "delivered 2.0.0 @mx1; mx1 starttls; mx1 final", 2)
	})
	t.Run("required", func(t *testing.T) {
		run(t, mta.TLSRequired, "temporary host 4.7.5 @mx1; mx1 starttls", 1)
	})
}

func TestTLSFactsAreRecorded(t *testing.T) {
	inWorld(t, func(w *world) {
		authority, err := mtatest.NewAuthority()
		if err != nil {
			w.Fatal(err)
		}
		cert, err := authority.Certificate(true, "mx1")
		if err != nil {
			w.Fatal(err)
		}
		w.host("mx1", mtatest.MXConfig{Certificate: cert}, "192.0.2.1")
		w.opt.Settings.RootCAs = authority.Pool()
		optional, required := *w.route, *w.route
		optional.TLS, required.TLS = mta.TLSOpportunistic, mta.TLSRequired
		got := w.carry(context.Background(), context.Background(), job{d: w.mail("b@x"), route: &optional}, job{d: w.mail("b@x"), route: &required}, job{d: w.mail("b@x"), route: &required})
		if a := got[0]; a.TLS.Version != "TLS1.3" || a.TLS.Verified != "" {
			w.Errorf("%+v", a.TLS)
		}
		if a := got[1]; a.TLS.Verified != "pkix" || a.Reused {
			w.Errorf("%+v", a)
		}
		if a := got[2]; a.TLS.Verified != "pkix" || !a.Reused {
			w.Errorf("%+v", a)
		}
	})
}

func TestTrap19_ReuseKey(t *testing.T) {
	base := func(w *world) mta.Route { return *w.route }
	for name, c := range map[string]struct {
		change func(w *world, r *mta.Route, d *mta.Delivery)
		reused bool
	}{
		"the same, looked up again": {func(*world, *mta.Route, *mta.Delivery) {}, true},
		"another address": {func(w *world, r *mta.Route, _ *mta.Delivery) {
			r.Hosts = []mta.Host{{Name: "mx1", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.7")}}}
		}, false},
		"another name": {func(w *world, r *mta.Route, _ *mta.Delivery) {
			r.Hosts = []mta.Host{{Name: "mx7", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}}}
		}, false},
		"no IPv6 any more": {func(w *world, r *mta.Route, _ *mta.Delivery) { r.IPv6 = false }, true},
		"another source": {func(w *world, r *mta.Route, _ *mta.Delivery) {
			r.Sources = []mta.Source{{IP: netip.MustParseAddr("203.0.113.9"), Hostname: "out.example.org"}}
		}, false},
		"another EHLO name":  {func(w *world, r *mta.Route, _ *mta.Delivery) { r.Helo = "other.example.org" }, false},
		"another TLS demand": {func(w *world, r *mta.Route, _ *mta.Delivery) { r.TLS = mta.TLSOpportunistic }, false},
		"SMTPUTF8 not offered": {func(_ *world, _ *mta.Route, d *mta.Delivery) {
			d.Message.UTF8, d.Message.Envelope.SMTPUTF8 = true, true
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.host("mx1", mtatest.MXConfig{Without: []string{"SMTPUTF8"}}, "192.0.2.1")
				w.net.Handle(netip.MustParseAddrPort("192.0.2.7:25"), w.mx["mx1"].ServeConn)
				second, d := base(w), w.mail("c@example.net")
				c.change(w, &second, d)
				got := w.carry(context.Background(), context.Background(), job{d: w.mail("b@example.net")}, job{d: d, route: &second})
				if got[1].Reused != c.reused {
					w.Errorf("%s", told(got[1]))
				}
			})
		})
	}
	t.Run("never after a protocol error", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", rules(mtatest.Rule{Stage: mtatest.StageRcpt, First: 1, Action: mtatest.Action{Raw: "what?\r\n"}}), "192.0.2.1")
			got := w.deliver(w.mail("b@example.net"), w.mail("c@example.net"))
			if got[0].Results[0].Class == mta.ClassDelivered || got[1].Reused {
				w.Errorf("%s; %s", told(got[0]), told(got[1]))
			}
		})
	})
}

func TestTrap24_SMTPUTF8(t *testing.T) {
	lacks, has := mtatest.MXConfig{Without: []string{"SMTPUTF8"}}, mtatest.MXConfig{}
	for name, c := range map[string]struct {
		first, second mtatest.MXConfig
		want          string
	}{
		"the second has it": {lacks, has, "delivered 2.0.0 @mx2; mx1 mail; mx2 final"},
		"none has it":       {lacks, lacks, "permanent host 5.6.7 @mx1; mx1 mail; mx2 mail"},
		"one is away":       {lacks, rules(on(mtatest.StageConnect, "421 busy")), "temporary host 4.3.2 @mx2; mx1 mail; mx2 banner"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.host("mx1", c.first, "192.0.2.1")
				w.host("mx2", c.second, "192.0.2.2")
				w.want(w.deliver(w.mail("bücher@example.net"))[0], c.want)
			})
		})
	}
	for name, c := range map[string]struct {
		cfg   mtatest.MXConfig
		asked bool
		want  string
	}{
		"header, asked for":                {lacks, true, "permanent host 5.6.7 @mx1; mx1 mail"},
		"header of a legacy application":   {lacks, false, "delivered 2.0.0 @mx1"},
		"header of one, where it is there": {has, false, "delivered 2.0.0 @mx1"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				mx := w.host("mx1", c.cfg, "192.0.2.1")
				d := w.mail("b@example.net")
				d.Message.UTF8, d.Message.Envelope.SMTPUTF8 = true, c.asked
				w.want(w.deliver(d)[0], c.want)
				if m := mx.Messages(); len(m) == 1 && strings.Contains(m[0].Params, "SMTPUTF8") != (len(c.cfg.Without) == 0) {
					w.Errorf("MAIL parameters: %s", m[0].Params)
				}
			})
		})
	}
	t.Run("not asked for without need", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.host("mx1", lacks, "192.0.2.1")
			d := w.mail("b@example.net")
			d.Message.Envelope.SMTPUTF8 = true
			w.want(w.deliver(d)[0], "delivered 2.0.0 @mx1")
		})
	})
}

func TestTrap23_EightBit(t *testing.T) {
	const eight = "Subject: x\r\n\r\nh\xc3\xa4llo\r\n"
	convert := func(p []byte) ([]byte, bool) {
		return []byte(strings.ReplaceAll(string(p), "\xc3\xa4", "=C3=A4")), true
	}
	for name, c := range map[string]struct {
		cfg     mtatest.MXConfig
		convert func([]byte) ([]byte, bool)
		send    bool
		want    string
	}{
		"offered":             {mtatest.MXConfig{}, convert, false, eight},
		"converted":           {mtatest.MXConfig{Without: []string{"8BITMIME"}}, convert, false, "Subject: x\r\n\r\nh=C3=A4llo\r\n"},
		"sent by policy":      {mtatest.MXConfig{Without: []string{"8BITMIME"}}, convert, true, eight},
		"signed, goes as is":  {mtatest.MXConfig{Without: []string{"8BITMIME"}}, func([]byte) ([]byte, bool) { return nil, false }, false, eight},
		"by default, no MIME": {mtatest.MXConfig{Without: []string{"8BITMIME"}}, nil, false, "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=unknown-8bit\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nh=C3=A4llo\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.opt.Convert, w.opt.Settings.SendEightBit = c.convert, c.send
				m := w.host("mx1", c.cfg, "192.0.2.1")
				d := w.mail("b@example.net")
				d.Message.EightBit = true
				w.bodies[d.Message.ID] = eight
				w.lenient = true // 8-bit content is sent undeclared on purpose
				w.want(w.deliver(d)[0], "delivered 2.0.0 @mx1")
				if got := string(m.Messages()[0].Data); got != c.want {
					w.Errorf("%q", got)
				}
				if declared := strings.Contains(m.Messages()[0].Params, "8BITMIME"); declared != (name == "offered") {
					w.Errorf("declared %v", declared)
				}
			})
		})
	}
}

func TestRelayed(t *testing.T) {
	for name, c := range map[string]struct {
		router       string
		without      []string
		notify       mta.Notify
		relayed, dsn bool
	}{
		"direct":                       {dsn: true},
		"router":                       {router: "relay", relayed: true, dsn: true},
		"no DSN, nobody asks":          {without: []string{"DSN"}},
		"no DSN, success is asked for": {without: []string{"DSN"}, notify: mta.NotifySuccess, relayed: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.route.Router = c.router
				w.host("mx1", mtatest.MXConfig{Without: c.without}, "192.0.2.1")
				d := w.mail("b@example.net")
				d.Recipients[0].Notify = c.notify
				if r := w.deliver(d)[0].Results[0]; r.Relayed != c.relayed || r.DSN != c.dsn || r.Class != mta.ClassDelivered {
					w.Errorf("%+v", r)
				}
			})
		})
	}
}

func TestBrokenTLSIsBounded(t *testing.T) {
	t.Parallel()
	var b brokenTLS
	now := time.Unix(0, 0)
	ip := netip.MustParseAddr("10.0.0.0")
	for range 2 * brokenTLSMax {
		at := netip.AddrPortFrom(ip, 25)
		why := &mta.TLSFault{Result: mta.ResultValidation, Text: "broken"}
		b.add(at, now, why)
		if got := b.of(at, now); got == nil || *got != *why || b.of(at, now.Add(brokenTLSFor+1)) != nil || b.of(netip.AddrPortFrom(ip, 587), now) != nil {
			t.Fatal("not remembered, or for too long, or for another port")
		}
		b.add(at, now, why)
		ip = ip.Next()
	}
	if n := len(b.mu.at); n > brokenTLSMax {
		t.Errorf("%d hosts remembered", n)
	}
}
