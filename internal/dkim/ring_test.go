package dkim

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"
)

// TestRotationUnderLoad: a second key is configured while mail flows, and its
// record comes late, at one server before the other. No message is signed with
// a key whose record is not at each server at that moment, and none goes unsigned.
func TestRotationUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		older, k1 := s.key("old", Ed25519)
		newer, k2 := s.key("new", Ed25519)
		s.names.publish(older.Name(), k1.TXT(), everywhere()...)
		s.start(older)
		defer s.stop()
		texts := map[string]string{"old": k1.TXT(), "new": k2.TXT()}
		used, end := map[string]int{}, make(chan struct{})
		flow := make(chan struct{})
		go func() { // the mail
			defer close(flow)
			for {
				select {
				case <-end:
					return
				case <-time.After(10 * time.Millisecond):
				}
				keys := s.ring.For("widget.com")
				if len(keys) != 1 {
					t.Errorf("%d signatures", len(keys))
					return
				}
				k := keys[0]
				used[k.Selector]++
				if !s.names.has(Name(k.Selector, k.Domain), texts[k.Selector]) {
					t.Errorf("signed with %s, which not every server has", k.Selector)
					return
				}
			}
		}()
		time.Sleep(5 * time.Second)
		s.ring.Configure(t.Context(), []Entry{older, newer})
		time.Sleep(30 * time.Second)
		s.want("old", "old active, new pending")
		s.names.publish(newer.Name(), k2.TXT(), first, resolver)
		time.Sleep(time.Minute)
		s.want("old", "old active, new pending")
		s.names.set(func() { s.names.silent[first] = true }) // its silence is no yes
		time.Sleep(time.Minute)
		s.want("old", "old active, new pending")
		s.names.set(func() { s.names.silent[first], s.names.silent[second] = true, true }) // nor is a resolver's word
		time.Sleep(time.Minute)
		s.want("old", "old active, new pending")
		s.names.set(func() { s.names.silent[first], s.names.silent[second] = false, false })
		s.names.publish(newer.Name(), k2.TXT(), second)
		time.Sleep(15 * time.Second)
		s.want("new", "old retired, new active")
		retired := s.ring.Status()[0]
		if retired.Retired.IsZero() || retired.Retired != retired.Since || retired.Signed.IsZero() {
			t.Errorf("%+v", retired)
		}
		time.Sleep(time.Hour)
		close(end)
		<-flow
		if used["old"] == 0 || used["new"] == 0 {
			t.Error(used)
		}
	})
}

// TestRestartSignsAtOnce: what was seen is kept, and trouble with DNS changes
// nothing.
func TestRestartSignsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, k := s.key("m1", Ed25519)
		s.names.publish(e.Name(), k.TXT(), everywhere()...)
		s.start(e)
		s.want("m1", "m1 active")
		seen := s.ring.Status()[0]
		s.names.set(func() {
			for _, server := range everywhere() {
				s.names.silent[server] = true
			}
		})
		began := time.Now()
		s.start(e)
		if took := time.Since(began); took != 0 {
			t.Errorf("the start waited %s", took)
		}
		s.want("m1", "m1 active")
		time.Sleep(30 * time.Hour)
		s.want("m1", "m1 active")
		if now := s.ring.Status()[0]; !now.Signed.Equal(seen.Signed) || !now.Seen.Equal(seen.Seen) {
			t.Errorf("%+v became %+v", seen, now)
		}
		// After long silence the start looks first, but not for ever.
		began = time.Now()
		s.start(e)
		if took := time.Since(began); took == 0 || took > DefaultFirstLook {
			t.Errorf("the start waited %s", took)
		}
		s.want("m1", "m1 active")
		s.stop()
		// Another key under the same name is another key.
		s.file("widget.com", "m1", oneRSA())
		s.start(e)
		s.want("", "m1 pending")
		s.stop()
	})
}

// TestStartIsBounded: with no DNS at all the daemon is ready all the same, and
// an operator is told that mail goes unsigned.
func TestStartIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, k := s.key("m1", Ed25519)
		s.names.publish(e.Name(), k.TXT(), everywhere()...)
		s.names.silent[resolver] = true
		began := time.Now()
		s.start(e)
		defer s.stop()
		if took := time.Since(began); took > DefaultFirstLook {
			t.Errorf("the start waited %s", took)
		}
		s.want("", "m1 pending")
		if !strings.Contains(s.log.String(), "goes unsigned") {
			t.Error(s.log.String())
		}
		s.names.set(func() { s.names.silent[resolver] = false })
		time.Sleep(10 * time.Second)
		s.want("m1", "m1 active")
		if n := strings.Count(s.log.String(), "goes unsigned"); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}

// TestRecordDisappears: only a record that is surely gone stops a key, and the
// older one signs again.
func TestRecordDisappears(t *testing.T) {
	for name, change := range map[string]func(n *names, e Entry, own, other *Key){
		"removed":         func(n *names, e Entry, _, _ *Key) { n.publish(e.Name(), "", first, second) },
		"removed at one":  func(n *names, e Entry, _, _ *Key) { n.publish(e.Name(), "", second) },
		"another key":     func(n *names, e Entry, _, other *Key) { n.publish(e.Name(), other.TXT(), first, second) },
		"damaged":         func(n *names, e Entry, _, _ *Key) { n.publish(e.Name(), "v=DKIM1; p=&", second) },
		"for no mail":     func(n *names, e Entry, own, _ *Key) { n.publish(e.Name(), own.TXT()+"; s=tlsrpt", second) },
		"a second record": func(n *names, e Entry, own, other *Key) { n.publish(e.Name(), own.TXT()+"\n"+other.TXT(), first) },
		"an alias to naught": func(n *names, e Entry, _, _ *Key) {
			n.publish(e.Name(), "CNAME gone.other.example.", first, second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				older, k1 := s.key("old", Ed25519)
				newer, k2 := s.key("new", Ed25519)
				s.names.publish(older.Name(), k1.TXT(), everywhere()...)
				s.names.publish(newer.Name(), k2.TXT(), everywhere()...)
				s.start(older, newer)
				defer s.stop()
				s.want("new", "old standby, new active")
				change(s.names, newer, k2, k1)
				time.Sleep(hourly + time.Second)
				s.want("new", "old standby, new active") // it may be a slip
				time.Sleep(confirmation + unsettled)
				s.want("old", "old active, new gone")
				s.names.publish(newer.Name(), k2.TXT(), everywhere()...)
				time.Sleep(10 * time.Second)
				s.want("new", "old retired, new active")
			})
		})
	}
}

// TestTroubleChangesNothing: silence, errors, servers that do not know the zone,
// and a resolver's word against what the zone's servers said before.
func TestTroubleChangesNothing(t *testing.T) {
	for name, change := range map[string]func(s *scene, name string){
		"silence": func(s *scene, _ string) {
			s.names.silent[first], s.names.silent[second], s.names.silent[resolver] = true, true, true
		},
		"errors": func(s *scene, _ string) {
			s.names.rcode[first], s.names.rcode[second] = wire.RcodeServerFailure, wire.RcodeRefused
			s.names.rcode[resolver] = wire.RcodeServerFailure
		},
		"one that does not know": func(s *scene, name string) { s.names.rcode[second] = wire.RcodeRefused },
		"resolver lies":          func(s *scene, name string) { s.names.texts[resolver][wire.CanonicalName(name)] = "" },
		"a slip":                 func(s *scene, name string) { s.names.texts[first][wire.CanonicalName(name)] = "" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				e, k := s.key("m1", Ed25519)
				s.names.publish(e.Name(), k.TXT(), everywhere()...)
				s.start(e)
				defer s.stop()
				s.want("m1", "m1 active")
				s.names.set(func() { change(s, e.Name()) })
				time.Sleep(hourly + 2*unsettled)
				if name == "a slip" {
					s.names.publish(e.Name(), k.TXT(), everywhere()...)
				}
				time.Sleep(5 * hourly)
				s.want("m1", "m1 active")
			})
		})
	}
}

// TestRevoked: an empty p= stops the key at the next look, without a second one.
func TestRevoked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		older, k1 := s.key("old", Ed25519)
		newer, k2 := s.key("new", Ed25519)
		s.names.publish(older.Name(), k1.TXT(), everywhere()...)
		s.names.publish(newer.Name(), k2.TXT(), everywhere()...)
		s.start(older, newer)
		defer s.stop()
		s.names.publish(newer.Name(), "v=DKIM1; k=ed25519; p=", second)
		time.Sleep(hourly + time.Second)
		s.want("old", "old active, new revoked")
		s.names.publish(newer.Name(), "", first, second)
		time.Sleep(hourly)
		s.want("old", "old active, new gone")
	})
}

// TestWhereOnlyAResolverAnswers: a machine that may not ask the zone's servers
// signs by its resolver's word; a zone whose servers nobody knows is the same.
func TestWhereOnlyAResolverAnswers(t *testing.T) {
	for name, change := range map[string]func(n *names){
		"nothing goes out":  func(n *names) { n.silent[first], n.silent[second] = true, true },
		"intercepted":       func(n *names) { n.humble[first], n.humble[second] = true, true },
		"no servers known":  func(n *names) { n.lost = true },
		"they do not serve": func(n *names) { n.rcode[first], n.rcode[second] = wire.RcodeRefused, wire.RcodeServerFailure },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScene(t)
				e, k := s.key("m1", Ed25519)
				s.names.publish(e.Name(), k.TXT(), everywhere()...)
				change(s.names)
				s.start(e)
				defer s.stop()
				s.want("m1", "m1 active")
				if r := s.ring.Status()[0].Record; r.Authority || !strings.Contains(r.Why, "a resolver") {
					t.Errorf("%+v", r)
				}
				s.names.publish(e.Name(), "", everywhere()...)
				time.Sleep(hearsay - unsettled)
				s.want("m1", "m1 active") // what it says may be old
				time.Sleep(3 * unsettled)
				s.want("", "m1 gone")
			})
		})
	}
}

// TestResolverOverruled: the zone's servers know better than the resolver by
// whose word a key began to sign.
func TestResolverOverruled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, k := s.key("m1", Ed25519)
		s.names.publish(e.Name(), k.TXT(), resolver, first)
		s.names.silent[first], s.names.silent[second] = true, true
		s.start(e)
		defer s.stop()
		s.want("m1", "m1 active")
		s.names.set(func() { s.names.silent[second] = false })
		time.Sleep(unsettled + 10*time.Second)
		s.want("", "m1 gone")
	})
}

// TestAliasedRecord: the record may be an alias into another zone, whose servers
// are asked then.
func TestAliasedRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, k := s.key("m1", Ed25519)
		s.names.publish(e.Name(), "CNAME key.other.example.", everywhere()...)
		s.names.publish("key.other.example", k.TXT(), first)
		s.start(e)
		defer s.stop()
		s.want("", "m1 pending")
		s.names.publish("key.other.example", k.TXT(), second)
		time.Sleep(5 * time.Second)
		s.want("m1", "m1 active")
		s.names.publish("key.other.example", "CNAME "+e.Name()+".", everywhere()...) // round and round
		time.Sleep(hourly + confirmation + 2*unsettled)
		s.want("", "m1 gone")
	})
}

// TestWhichKeysSign: both algorithms, the nearest domain, and a key that waits
// leaves the mail to a domain above.
func TestWhichKeysSign(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, ed := s.key("ed", Ed25519)
		r, rsa := s.key("rsa", RSA)
		sub := s.file("news.widget.com", "sub", ed)
		for entry, k := range map[Entry]*Key{e: ed, r: rsa} {
			s.names.publish(entry.Name(), k.TXT(), everywhere()...)
		}
		s.start(e, r, sub)
		defer s.stop()
		check := func(want map[string]string) {
			t.Helper()
			for domain, selectors := range want {
				if got := s.signs(domain); got != selectors {
					t.Errorf("%s: %q, want %q", domain, got, selectors)
				}
			}
		}
		check(map[string]string{"widget.com": "rsa ed", "a.b.widget.com": "rsa ed", "news.widget.com": "rsa ed", "x.news.widget.com": "rsa ed",
			"example.com": "", "com": "", "": "", "notwidget.com": ""})
		s.names.publish(sub.Name(), ed.TXT(), everywhere()...)
		time.Sleep(5 * time.Second)
		check(map[string]string{"widget.com": "rsa ed", "news.widget.com": "sub", "x.news.widget.com": "sub"})
		for domain, want := range map[string]bool{"widget.com": true, "x.widget.com": true, "com": false, "example.com": false, "": false} {
			if s.ring.Covers(domain) != want {
				t.Errorf("Covers(%q) is not %t", domain, want)
			}
		}
		s.ring.Configure(t.Context(), nil)
		check(map[string]string{"widget.com": "", "news.widget.com": ""})
		if s.ring.Any() || len(s.notes.m) != 0 {
			t.Error("something is left", s.notes.m)
		}
	})
}

// TestKeyFileTrouble: a file that cannot be read is an alarm; what was read
// before goes on signing, and what comes later is taken.
func TestKeyFileTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, k := s.key("m1", Ed25519)
		text, err := os.ReadFile(e.Path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(e.Path); err != nil {
			t.Fatal(err)
		}
		s.names.publish(e.Name(), k.TXT(), everywhere()...)
		s.start(e)
		defer s.stop()
		s.want("", "m1 missing")
		if err := os.WriteFile(e.Path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		time.Sleep(reloadEvery + time.Second)
		s.want("m1", "m1 active")
		if err := os.WriteFile(e.Path, []byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		s.ring.Configure(t.Context(), []Entry{e})
		s.want("m1", "m1 active")
		time.Sleep(3 * reloadEvery)
		s.want("m1", "m1 active")
		if k := s.ring.Status()[0]; k.Trouble == "" {
			t.Error("no word of it")
		}
		log := s.log.String()
		if strings.Count(log, "goes on signing") != 1 || strings.Contains(log, "c2VjcmV0") {
			t.Error(log)
		}
	})
}

// TestNotesThatCannotBeKept: a disk that is full costs nothing but the memory
// over a restart.
func TestNotesThatCannotBeKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, k := s.key("m1", Ed25519)
		s.names.publish(e.Name(), k.TXT(), everywhere()...)
		s.notes.broken = true
		s.start(e)
		defer s.stop()
		s.want("m1", "m1 active")
	})
}

// TestLooksAreBounded: a key whose record never comes is looked for less and
// less often.
func TestLooksAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, _ := s.key("m1", Ed25519)
		s.start(e)
		defer s.stop()
		time.Sleep(24 * time.Hour)
		if n := s.ring.Looks(); n.Missing > 1000 || n.Missing < 300 {
			t.Errorf("%+v", n)
		}
	})
}

// TestForgottenKeys: a key that was taken out and comes back is looked for anew,
// also when notes of it were there at the start; and a record that nobody has
// seen for long is not given the time of a slip.
func TestForgottenKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, k := s.key("m1", Ed25519)
		other, _ := s.key("m2", Ed25519)
		s.names.publish(e.Name(), k.TXT(), everywhere()...)
		s.start(e)
		s.stop()
		s.start(other)
		s.names.publish(e.Name(), "", everywhere()...)
		s.ring.Configure(t.Context(), []Entry{other, e})
		s.want("", "m2 pending, m1 pending")
		time.Sleep(10 * time.Second)
		s.names.publish(e.Name(), k.TXT(), everywhere()...)
		time.Sleep(10 * time.Second)
		s.want("m1", "m2 pending, m1 active")
		s.stop()
		time.Sleep(fresh + time.Hour)
		s.names.publish(e.Name(), "", everywhere()...)
		s.start(e)
		s.want("", "m1 gone")
		s.stop()
	})
}

// TestReloadSigns: a key whose record is there signs when the reload is over; a
// dead resolver holds a reload up for a moment only.
func TestReloadSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		older, k1 := s.key("old", Ed25519)
		newer, k2 := s.key("new", Ed25519)
		s.names.publish(older.Name(), k1.TXT(), everywhere()...)
		s.names.publish(newer.Name(), k2.TXT(), everywhere()...)
		s.start(older)
		defer s.stop()
		s.ring.Configure(t.Context(), []Entry{older, newer})
		s.want("new", "old retired, new active")
		third, _ := s.key("third", Ed25519)
		s.names.set(func() {
			for _, server := range everywhere() {
				s.names.silent[server] = true
			}
		})
		began := time.Now()
		s.ring.Configure(t.Context(), []Entry{older, newer, third})
		if took := time.Since(began); took == 0 || took > reloadLook {
			t.Errorf("the reload waited %s", took)
		}
		s.want("new", "old retired, new active, third pending")
	})
}

// TestManyKeysAreCheap: a look that changes nothing elects nobody, and writes the
// note of its own key alone.
func TestManyKeysAreCheap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScene(t)
		e, k := s.key("m1", Ed25519)
		other := e
		other.Domain = "other.example"
		s.names.publish(e.Name(), k.TXT(), everywhere()...)
		s.names.publish(other.Name(), k.TXT(), everywhere()...)
		s.start(e, other)
		before := s.ring.shown.Load()
		wrote := s.notes.wrote()
		time.Sleep(90 * time.Minute) // one look each
		if s.ring.shown.Load() != before {
			t.Error("an election that nothing asked for")
		}
		if n := s.notes.wrote() - wrote; n != 2 {
			t.Errorf("%d notes were written for two looks", n)
		}
		s.names.publish(e.Name(), "v=DKIM1; k=ed25519; p=", everywhere()...)
		time.Sleep(time.Hour)
		s.want("", "m1 revoked, m1 active")
		s.stop()
		s.start(e, other)
		s.want("", "m1 revoked, m1 active")
		s.stop()
	})
}
