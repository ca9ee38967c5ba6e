package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// TestSilentReflectorLeavesNothingBehind: an HTTPS server that takes the
// connection and never says a word of TLS holds neither a goroutine nor a
// connection once the examination has ended. (A transport of net/http goes on
// with the handshake after its request was given up.)
func TestSilentReflectorLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, id := natted(t)
		var open, calls atomic.Int32
		s.net.Handle(netip.MustParseAddrPort("198.51.100.80:443"), func(conn net.Conn) {
			calls.Add(1)
			open.Add(1)
			defer open.Add(-1)
			io.Copy(io.Discard, conn) //nolint:errcheck // until it is closed
		})
		id.Probes, id.Reflectors = nil, []string{"https://198.51.100.80/"}
		examineFor(t, w, id, "address.public", "clock")
		synctest.Wait()
		if calls.Load() != 2 || open.Load() != 0 {
			t.Errorf("%d connections were made and %d stay open", calls.Load(), open.Load())
		}
	})
}

// TestEndlessHeaderOfReflector: what a reflector can make us read is little.
func TestEndlessHeaderOfReflector(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, id := natted(t)
		var sent atomic.Int64
		s.net.Handle(netip.MustParseAddrPort("198.51.100.80:80"), func(conn net.Conn) {
			go io.Copy(io.Discard, conn) //nolint:errcheck // until it is closed
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nX: ")
			for block := []byte(strings.Repeat("x", 4096)); ; {
				n, err := conn.Write(block)
				if sent.Add(int64(n)); err != nil {
					return
				}
			}
		})
		id.Probes, id.Reflectors = nil, []string{"http://198.51.100.80/"}
		examineFor(t, w, id, "address.public", "clock")
		synctest.Wait()
		if got := sent.Load(); got > 256<<10 {
			t.Errorf("%d octets of a header were read", got)
		}
	})
}

// TestPanicBesideAProbe: a defect in one of the goroutines of a check must not
// end the process, which may be the daemon.
func TestPanicBesideAProbe(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ask = func(p dns.Probe) (*wire.Msg, error) {
		if strings.HasPrefix(p.Name, "_dmarc.") || p.Type == wire.TypeAAAA {
			panic("a defect")
		}
		return nil, nil
	}
	r := examineFor(t, w, goodIdentity())
	if c := find(t, r, "dmarc.record", ""); c.Status != Unknown || !strings.Contains(c.Seen, "a defect") {
		t.Errorf("%+v", c)
	}
	if c := find(t, r, "name.form", ""); c.Status != Pass {
		t.Errorf("%+v", c)
	}
}

// TestThousandsOfRecords: a zone of others' with very many records makes
// neither many questions nor a long text.
func TestThousandsOfRecords(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i := range 2000 {
		w.publish(fmt.Sprintf("10.2.0.192.in-addr.arpa. 300 PTR a%d.widget.com.", i), fmt.Sprintf("widget.com. 300 NS ns%d.widget.com.", i))
	}
	r := examineFor(t, w, goodIdentity(), "ptr", "address")
	if n := len(w.asked); n > 200 {
		t.Errorf("%d questions", n)
	}
	for _, c := range r.Checks {
		if len(c.Seen) > 4096 {
			t.Errorf("%s: a text of %d octets", c.ID, len(c.Seen))
		}
	}
	if c := find(t, r, "ptr.exists", ""); !strings.Contains(c.Seen, "a0.widget.com") {
		t.Errorf("%+v", c)
	}
}

// TestLostDatagram: one that was lost is no finding.
func TestLostDatagram(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lost := map[string]bool{}
	w.ask = func(p dns.Probe) (*wire.Msg, error) {
		key := fmt.Sprint(p.Server, p.Name, p.Type)
		if lost[key] {
			return nil, nil
		}
		lost[key] = true
		return nil, context.DeadlineExceeded
	}
	r := examineFor(t, w, goodIdentity(), "address.record", "address.authoritative")
	find(t, r, "address.record", "").mustBe(t, Pass)
	find(t, r, "address.authoritative", "").mustBe(t, Pass)
}

// TestSlowServersEndWithTheTime: servers that drip, that never end a reply, and
// that do not let go, cost no more than the time of the examination.
func TestSlowServersEndWithTheTime(t *testing.T) {
	drip := func(conn net.Conn, first, more string) {
		go io.Copy(io.Discard, conn) //nolint:errcheck // until it is closed
		fmt.Fprint(conn, first)
		for i := 0; ; i = (i + 1) % len(more) {
			time.Sleep(time.Second)
			if _, err := conn.Write([]byte{more[i]}); err != nil {
				return
			}
		}
	}
	for name, first := range map[string]string{
		"a banner": "", "a reply to EHLO": "220 mx.example.net ESMTP\r\n250-mx\r\n", "after QUIT": "220 mx.example.net ESMTP\r\n250 mx\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, s, id := natted(t)
				for _, at := range []string{"198.51.100.27:25", "198.51.100.28:80", "198.51.100.28:443"} {
					s.net.Handle(netip.MustParseAddrPort(at), func(conn net.Conn) { drip(conn, first, "250-x\r\n") })
				}
				id.Probes = []string{"198.51.100.27"}
				id.Reflectors = []string{"http://198.51.100.28/", "https://198.51.100.28/", "smtp:198.51.100.27"}
				id.Router = Router{Host: "198.51.100.27", Port: 25, Use: "fallback", TLS: mta.TLSOpportunistic, Auth: &mta.Credentials{Username: "u", Password: "p"}}
				w.publish("widget.com. 300 MX 10 mx.widget.com.", "mx.widget.com. 300 A 198.51.100.27")
				start := time.Now()
				r := examineFor(t, w, id)
				if took := time.Since(start); took > DefaultTimeout {
					t.Errorf("%s", took)
				}
				if c := find(t, r, "address.public", ""); c.Status != Unknown {
					t.Errorf("%+v", c)
				}
			})
		})
	}
}

// TestSilentRouterEndsWithTheTime: also one that begins to authenticate.
func TestSilentRouterEndsWithTheTime(t *testing.T) {
	cert, roots := pki(t)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "smart.example. 60 A 203.0.113.25")
		router := &fakeRouter{cert: cert, auth: "PLAIN", replies: map[string]string{"AUTH": "silence"}}
		w.dial = router.dial
		id := goodIdentity()
		id.TrustedCA = roots
		id.Router = Router{Host: "smart.example", Port: 25, Use: "always", TLS: mta.TLSRequired, Auth: &mta.Credentials{Username: "widget", Password: "secret"}}
		leaf, err := x509.ParseCertificate(cert.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Until(leaf.NotBefore.Add(time.Minute)))
		start := time.Now()
		r := Examine(t.Context(), id, w.world(), Options{Only: []string{"router.auth"}, Timeout: 3 * time.Second})
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("%s", took)
		}
		find(t, r, "router.auth", "").mustBe(t, Unknown)
		router.mu.Lock()
		defer router.mu.Unlock()
		if !slices.Contains(router.heard, "AUTH") {
			t.Errorf("it did not come to AUTH: %q", router.heard)
		}
	})
}
