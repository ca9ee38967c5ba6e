package tlspolicy

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

// bubble runs f in virtual time.
func bubble(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(t, newWorld(t)) })
}

// pass lets time go by, and what is begun end.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// TestPolicyIsReadOnce: the first mail waits for the policy; later mail finds it,
// also after a restart.
func TestPolicyIsReadOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		w.expect("x.test", "enforce 1")
		w.expect("other.test", "none")
		d := w.sts.Find(t.Context(), "x.test")
		if h := d.Host("x.test", "mx.x.test"); !h.Names || h.Mode != ModeEnforce || h.Why != "the MTA-STS policy of x.test (id 1)" {
			t.Errorf("%+v", h)
		}
		if h := d.Host("x.test", "other.x.test"); h.Names {
			t.Errorf("%+v", h)
		}
		if r := d.Report("x.test"); r.Type != "sts" || r.ID != "1" || strings.Join(r.Strings, ";") != "version: STSv1;mode: enforce;mx: mx.x.test;max_age: 604800" || !r.Expires.Equal(r.Fetched.Add(7*day)) {
			t.Errorf("%+v", r)
		}
		w.start()
		w.net.Handle(policyAddr, nil) // the host is gone
		w.expect("x.test", "enforce 1")
		if n := w.got("x.test"); n != 1 {
			t.Errorf("%d fetches", n)
		}
		if c := w.sts.Counts(); c.Enforce != 1 {
			t.Errorf("%+v", c)
		}
	})
}

// TestNewPolicy: a new id is noticed, and mail does not wait for its policy.
func TestNewPolicy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		w.record("x.test", "2")
		w.serve("mode: testing\nmx: mx.x.test\nmax_age: 604800\n")
		w.expect("x.test", "enforce 1")
		pass(checkEvery)
		w.expect("x.test", "enforce 1") // and looks behind it
		synctest.Wait()
		w.expect("x.test", "testing 2")

		w.record("x.test", "3")
		pass(freshFor)
		if got := words(w.sts.Renew(t.Context(), "x.test")); got != "testing 3" {
			t.Error(got)
		}
		before := w.dns.Count("_mta-sts.x.test", "TXT")
		pass(freshFor / 2)
		if got := words(w.sts.Renew(t.Context(), "x.test")); got != "testing 3" || w.dns.Count("_mta-sts.x.test", "TXT") != before {
			t.Error("looked at within the minute, and again: ", got)
		}
	})
}

// TestBrokenHostKeepsItsPolicy: refreshing fails, the record goes, and the policy
// holds until its max_age is over (RFC 8461 3.3); then there is none, with the
// reason.
func TestBrokenHostKeepsItsPolicy(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		w.say(reply("500 Oh", plainText, ""))
		for range 6 {
			pass(day)
			w.expect("x.test", "enforce 1")
		}
		if w.got("x.test") < 7 {
			t.Errorf("%d fetches in six days", w.got("x.test"))
		}
		w.record("x.test", "")
		pass(day - time.Minute)
		w.expect("x.test", "enforce 1")
		w.record("x.test", "1")
		pass(time.Minute)
		w.expect("x.test", "sts-policy-fetch-error")
		w.record("x.test", "")
		pass(time.Minute)
		w.expect("x.test", "none")
	})
}

// TestTroubleIsNotAskedForEachMessage: a policy that holds, a host and a record
// that are broken, and mail every minute.
func TestTroubleIsNotAskedForEachMessage(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		w.say("")
		pass(refreshAge)
		before := w.got("x.test")
		for range 24 * 60 {
			w.expect("x.test", "enforce 1")
			pass(time.Minute)
		}
		if n := w.got("x.test") - before; n < 20 || n > 30 {
			t.Errorf("%d fetches in a day", n)
		}
		w.dns.Script("_mta-sts.x.test", 0, mtatest.Script{Rcode: wire.RcodeServerFailure, Times: 1000})
		pass(checkEvery)
		asked, counts := w.dns.Count("_mta-sts.x.test", "TXT"), []int(nil)
		for range 9 {
			w.expect("x.test", "enforce 1")
			pass(time.Minute)
			counts = append(counts, w.dns.Count("_mta-sts.x.test", "TXT")-asked)
		}
		if n := counts[8]; n == 0 || n > 6 { // one look-up asks twice
			t.Errorf("%v questions in ten minutes", counts)
		}
	})
}

// TestRefreshAheadOfTheEnd: a policy is read anew once a day, without mail, as
// long as mail asks for it every month; then it ends.
func TestRefreshAheadOfTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		pass(10*day + time.Hour)
		if n := w.got("x.test"); n < 10 || n > 12 {
			t.Errorf("%d fetches in ten days", n)
		}
		d := w.sts.Find(t.Context(), "x.test")
		if left := time.Until(d.Expires); left < 5*day {
			t.Errorf("%v left", left)
		}
		pass(60 * day)
		if n := w.got("x.test"); n > 50 {
			t.Errorf("%d fetches, and no mail", n)
		}
		w.notes.mu.Lock()
		defer w.notes.mu.Unlock()
		if len(w.notes.of) != 0 {
			t.Errorf("%q", w.notes.of)
		}
	})
}

// TestPauseAfterAFailure: 5 minutes, 10, 20, 40, then an hour.
func TestPauseAfterAFailure(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.say(reply("404 No", plainText, ""))
		start := time.Now()
		var at []time.Duration
		for n := 0; time.Since(start) < 4*time.Hour; pass(time.Minute) {
			w.expect("x.test", "sts-policy-fetch-error")
			if got := w.got("x.test"); got > n {
				n = got
				at = append(at, time.Since(start).Round(time.Minute))
			}
		}
		want := []time.Duration{0, 5 * time.Minute, 15 * time.Minute, 35 * time.Minute, 75 * time.Minute, 135 * time.Minute, 195 * time.Minute}
		if fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("%v", at)
		}
		w.sts.Reconfigure(w.settings())
		w.serve("mode: none\nmax_age: 1000\n")
		w.expect("x.test", "none 1")
	})
}

// TestFailuresAreTold: the operator hears of each refresh that fails, not of those
// of a policy of mode none, and once of a domain whose first policy cannot be had
// (RFC 8461 3.3).
func TestFailuresAreTold(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		w.say("")
		pass(2 * day)
		if told, tried := w.log.count("level=WARN"), w.got("x.test")-1; told != tried || told < 2 {
			t.Errorf("%d warnings for %d fetches", told, tried)
		}
	})
	t.Run("none", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.serve("mode: none\nmax_age: 604800\n")
			w.expect("x.test", "none 1")
			w.say("")
			pass(2 * day)
			if w.got("x.test") < 2 || w.log.count("level=WARN") != 0 {
				t.Error(w.log.text.String())
			}
		})
	})
	t.Run("first", func(t *testing.T) {
		bubble(t, func(t *testing.T, w *world) {
			w.say("")
			for range 60 {
				w.expect("x.test", "sts-policy-fetch-error")
				pass(time.Minute)
			}
			if w.got("x.test") < 3 || w.log.count("cannot be read; mail goes") != 1 {
				t.Error(w.log.text.String())
			}
		})
	})
}

// TestHostileHosts: what a policy host may say and do, and what comes of it.
func TestHostileHosts(t *testing.T) {
	t.Parallel()
	good := "version: STSv1\nmode: enforce\nmx: mx.x.test\nmax_age: 604800\n"
	endless := func(head, piece string) func(c net.Conn, _ string) {
		return func(c net.Conn, _ string) {
			_, err := c.Write([]byte("HTTP/1.1 200 OK\r\n" + plainText + head))
			for err == nil {
				_, err = c.Write([]byte(piece))
			}
		}
	}
	for name, c := range map[string]struct {
		set  func(w *world)
		want string
	}{
		"good":           {func(w *world) { w.say(reply("200 OK", plainText, good)) }, "enforce 1"},
		"with a charset": {func(w *world) { w.say(reply("200 OK", "Content-Type: TEXT/plain; charset=utf-8\r\n", good)) }, "enforce 1"},
		"without length": {func(w *world) { w.say("HTTP/1.0 200 OK\r\n" + plainText + "\r\n" + good) }, "enforce 1"},
		"64 KB": {func(w *world) {
			w.say(reply("200 OK", plainText, good+strings.Repeat("x", MaxPolicy)[:MaxPolicy-len(good)-3]+": y"))
		}, "sts-policy-invalid"},
		"64 KB, good": {func(w *world) { w.say(reply("200 OK", plainText, padded(good, MaxPolicy))) }, "enforce 1"},
		"over 64 KB":  {func(w *world) { w.say(reply("200 OK", plainText, padded(good, MaxPolicy+1))) }, "sts-policy-invalid"},
		"10 MB": {func(w *world) {
			w.say(reply("200 OK", plainText, good+strings.Repeat("x: "+strings.Repeat("y", 60)+"\n", 10<<14)))
		}, "sts-policy-invalid"},
		"endless body":       {func(w *world) { w.respondBy(endless("\r\n", "mx: mx.x.test\n")) }, "sts-policy-invalid"},
		"endless header":     {func(w *world) { w.respondBy(endless("", "X-Y: zzzzzzzzzzzzzzzzzzzzzzzzzzzzz\r\n")) }, "sts-policy-fetch-error"},
		"another media type": {func(w *world) { w.say(reply("200 OK", "Content-Type: text/html\r\n", good)) }, "sts-policy-fetch-error"},
		"no media type":      {func(w *world) { w.say(reply("200 OK", "", good)) }, "sts-policy-fetch-error"},
		"compressed":         {func(w *world) { w.say(reply("200 OK", plainText+"Content-Encoding: gzip\r\n", good)) }, "sts-policy-fetch-error"},
		"redirect": {func(w *world) {
			w.say(reply("301 Moved", "Location: https://mta-sts.x.test/.well-known/mta-sts.txt\r\n"+plainText, good))
		}, "sts-policy-fetch-error"},
		"created":           {func(w *world) { w.say(reply("201 Made", plainText, good)) }, "sts-policy-fetch-error"},
		"garbage":           {func(w *world) { w.say("\x00\x01\x1b[31mHi\r\n\r\n") }, "sts-policy-fetch-error"},
		"garbage as policy": {func(w *world) { w.say(reply("200 OK", plainText, "\x00\xff\xfe")) }, "sts-policy-invalid"},
		"empty":             {func(w *world) { w.say(reply("200 OK", plainText, "")) }, "sts-policy-invalid"},
		"nothing":           {func(w *world) { w.say("") }, "sts-policy-fetch-error"},
		"cut short":         {func(w *world) { w.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n" + plainText + "\r\n" + good) }, "sts-policy-fetch-error"},
		"expired":           {func(w *world) { w.listen(false, "mta-sts.x.test") }, "sts-webpki-invalid"},
		"another name":      {func(w *world) { w.listen(true, "www.x.test") }, "sts-webpki-invalid"},
		"the domain's name": {func(w *world) { w.listen(true, "x.test") }, "sts-webpki-invalid"},
		"a wildcard":        {func(w *world) { w.listen(true, "*.x.test") }, "enforce 1"},
		"another authority": {func(w *world) {
			other, err := mtatest.NewAuthority()
			if err != nil {
				w.t.Fatal(err)
			}
			w.sts.Reconfigure(Settings{On: true, Roots: other.Pool()})
		}, "sts-webpki-invalid"},
		"refused": {func(w *world) { w.net.Handle(policyAddr, nil) }, "sts-policy-fetch-error"},
		"no TLS":  {func(w *world) { w.net.Handle(policyAddr, func(c net.Conn) { _, _ = c.Write([]byte(good)); c.Close() }) }, "sts-policy-fetch-error"},
		"private": {func(w *world) {
			w.dns.Remove("mta-sts.x.test")
			_ = w.dns.Add("mta-sts.x.test A 10.0.0.1\nmta-sts.x.test A 127.0.0.1")
			w.net.Handle(netip.MustParseAddrPort("10.0.0.1:443"), func(c net.Conn) { w.t.Error("connected"); c.Close() })
		}, "sts-policy-fetch-error"},
		"no address":       {func(w *world) { w.dns.Remove("mta-sts.x.test") }, "sts-policy-fetch-error"},
		"no answer":        {func(w *world) { w.dns.Script("mta-sts.x.test", 0, mtatest.Script{Rcode: wire.RcodeServerFailure}) }, "sts-policy-fetch-error"},
		"two records":      {func(w *world) { _ = w.dns.Add(`_mta-sts.x.test TXT "v=STSv1; id=2;"`) }, "sts-policy-invalid"},
		"no id":            {func(w *world) { w.record("x.test", ""); _ = w.dns.Add(`_mta-sts.x.test TXT "v=STSv1; i=2;"`) }, "sts-policy-invalid"},
		"others' TXT":      {func(w *world) { w.record("x.test", ""); _ = w.dns.Add(`_mta-sts.x.test TXT "v=spf1 -all"`) }, "none"},
		"no record answer": {func(w *world) { w.dns.Script("_mta-sts.x.test", 0, mtatest.Script{Rcode: wire.RcodeServerFailure}) }, "none"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				c.set(w)
				w.expect("x.test", c.want)
				if n := w.got("x.test"); n > 1 {
					t.Errorf("%d requests", n)
				}
				d := w.sts.Find(t.Context(), "x.test")
				if strings.ContainsAny(d.Reason, "\x00\x1b\r\n") || len(d.Reason) > 500 || d.Trouble != "" && d.Reason == "" {
					t.Errorf("%q", d.Reason)
				}
			})
		})
	}
}

// padded lengthens a policy with keys that nobody knows.
func padded(policy string, to int) string {
	for len(policy) < to {
		policy += "x: " + strings.Repeat("y", min(96, to-len(policy)-4)) + "\n"
		if left := to - len(policy); left > 0 && left < 8 {
			policy += strings.Repeat("\n", left)
		}
	}
	return policy
}

// TestSlowHost: mail waits twenty seconds for a policy and no longer; the fetch
// ends after a minute.
func TestSlowHost(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.respondBy(func(c net.Conn, _ string) {
			_, err := c.Write([]byte("HTTP/1.1 200 OK\r\n" + plainText + "\r\n"))
			for err == nil {
				time.Sleep(time.Second)
				_, err = c.Write([]byte("v"))
			}
		})
		start := time.Now()
		w.expect("x.test", "sts-policy-fetch-error")
		if got := time.Since(start); got != firstWait {
			t.Errorf("mail waited %v", got)
		}
		pass(fetchTime - firstWait)
		start = time.Now()
		w.expect("x.test", "sts-policy-fetch-error")
		if d := w.sts.Find(t.Context(), "x.test"); time.Since(start) != 0 || !strings.Contains(d.Reason, "no whole answer in time") {
			t.Errorf("%v: %s", time.Since(start), d.Reason)
		}
		pass(firstPause)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if d := w.sts.Find(ctx, "x.test"); time.Since(start) != time.Second || d.Policy != nil {
			t.Errorf("%v: %+v", time.Since(start), d)
		}
		pass(fetchTime + 2*time.Second) // the host sees that nobody reads
	})
}

// TestSlowPolicyArrives: what comes after mail went on holds for the next.
func TestSlowPolicyArrives(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.respondBy(func(c net.Conn, _ string) {
			time.Sleep(30 * time.Second)
			_, _ = c.Write([]byte(reply("200 OK", plainText, "version: STSv1\nmode: enforce\nmx: mx.x.test\nmax_age: 604800\n")))
		})
		w.expect("x.test", "sts-policy-fetch-error")
		pass(time.Minute)
		w.expect("x.test", "enforce 1")
	})
}

// TestFetchesAtOnce: one fetch a domain, and MaxFetches in all.
func TestFetchesAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.respondBy(func(c net.Conn, _ string) {
			time.Sleep(time.Second)
			_, _ = c.Write([]byte(reply("200 OK", plainText, "version: STSv1\nmode: none\nmax_age: 604800\n")))
		})
		var all sync.WaitGroup
		for n := range 300 {
			domain := fmt.Sprintf("d%d.x.test", n%100)
			if n < 100 {
				w.record(domain, "7")
			}
		}
		w.listen(true, names(&Question{Host: "mta-sts.x.test", NextHop: hundred()}, "")...)
		for n := range 300 {
			all.Go(func() { w.expect(fmt.Sprintf("d%d.x.test", n%100), "none 7") })
		}
		all.Wait()
		if w.most != MaxFetches {
			t.Errorf("%d at once", w.most)
		}
		for n := range 100 {
			if got := w.got(fmt.Sprintf("d%d.x.test", n)); got != 1 {
				t.Errorf("%d fetches", got)
			}
		}
	})
}

func hundred() (out []string) {
	for n := range 100 {
		out = append(out, fmt.Sprintf("mta-sts.d%d.x.test", n))
	}
	return out
}

// TestMemoryIsBounded: what is pushed out of memory is found in its note.
func TestMemoryIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.expect("x.test", "enforce 1")
		k := &known{id: "1", policy: &Policy{Mode: ModeEnforce, MaxAge: MaxAge, MX: []string{"mx.x.test"}}, fetched: time.Now(), checked: time.Now(), used: time.Now()}
		w.sts.mu.Lock()
		for n := range MaxKnown + 1000 {
			w.sts.put(fmt.Sprintf("d%d.test", n), k)
		}
		held := len(w.sts.mu.known)
		big := &known{policy: &Policy{MX: make([]string, 20_000)}}
		for n := range 200 {
			w.sts.put(fmt.Sprintf("big%d.test", n), big)
		}
		cost, sum := w.sts.mu.cost, 0
		for domain, k := range w.sts.mu.known {
			sum += k.cost() + len(domain)
		}
		delete(w.sts.mu.known, "x.test")
		w.sts.mu.Unlock()
		if held != MaxKnown || cost > maxCost || cost != sum {
			t.Errorf("%d domains, %d octets (%d)", held, cost, sum)
		}
		w.expect("x.test", "enforce 1")
		if w.got("x.test") != 1 {
			t.Error("fetched again")
		}
	})
}

// TestShortLife: a policy without a life to speak of is not fetched for each
// message, and a clock that was wrong does not keep one for ever.
func TestShortLife(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.serve("mode: enforce\nmx: mx.x.test\nmax_age: 0\n")
		for range 60 {
			w.expect("x.test", "enforce 1")
			pass(time.Second)
		}
		if n := w.got("x.test"); n > 7 {
			t.Errorf("%d fetches in a minute", n)
		}
		future := known{id: "1", policy: &Policy{Mode: ModeEnforce, MaxAge: MaxAge, MX: []string{"old.x.test"}}, fetched: time.Now().Add(365 * day), checked: time.Now().Add(365 * day), used: time.Now()}
		w.notes.set("sts/x.test", string(future.note()))
		w.serve("mode: testing\nmx: mx.x.test\nmax_age: 1000\n")
		w.start()
		w.expect("x.test", "enforce 1")
		synctest.Wait()
		w.expect("x.test", "testing 1")
	})
}

// TestTurnedOff: [tls] mta_sts = false.
func TestTurnedOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.sts.Reconfigure(Settings{})
		w.expect("x.test", "none")
		if w.dns.Count("", "") != 0 {
			t.Error("somebody was asked")
		}
		w.sts.Reconfigure(w.settings())
		w.expect("x.test", "enforce 1")
		w.sts.Stop()
		w.expect("x.test", "enforce 1")
		w.record("y.test", "1")
		w.expect("y.test", "sts-policy-fetch-error")
	})
}

// TestAnotherPort: [tls] sts_port.
func TestAnotherPort(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		cert, err := w.ca.Certificate(true, "mta-sts.x.test")
		if err != nil {
			t.Fatal(err)
		}
		w.net.Handle(netip.AddrPortFrom(policyAddr.Addr(), 8443), func(c net.Conn) { w.answer(c, cert) })
		s := w.settings()
		s.Port = 8443
		w.sts.Reconfigure(s)
		w.expect("x.test", "enforce 1")
	})
}

// FuzzNote: what readNote takes, note gives back.
func FuzzNote(f *testing.F) {
	k := known{id: "1", policy: &Policy{Mode: ModeEnforce, MaxAge: time.Hour, MX: []string{"mx.test", "*.y.test"}}, fetched: time.Unix(5, 0)}
	f.Add(k.note())
	f.Add([]byte("1 a none 0 1 2 3"))
	f.Add([]byte("1 a enforce 1 1 2 3\nmx.test"))
	f.Fuzz(func(t *testing.T, value []byte) {
		k, err := readNote(value)
		if err != nil {
			return
		}
		again, err := readNote(k.note())
		if err != nil || fmt.Sprintf("%+v %+v", *k, *k.policy) != fmt.Sprintf("%+v %+v", *again, *again.policy) && k.policy != nil && fmt.Sprint(*k.policy) != fmt.Sprint(*again.policy) {
			t.Errorf("%q: %v", value, err)
		}
	})
}
