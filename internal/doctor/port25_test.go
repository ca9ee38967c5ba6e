package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
)

// failing makes every connection fail in one way.
func failing(w *fakeWorld, err error) {
	w.dial = func(_ context.Context, _ netip.Addr, network, address string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: network, Err: os.NewSyscallError("connect", err)}
	}
}

func TestCheck_port25(t *testing.T) {
	port := func(t *testing.T, w *fakeWorld, id Identity) Check {
		t.Helper()
		return find(t, examineFor(t, w, id, "port25"), "port25", "192.0.2.10")
	}
	two := func() Identity {
		id := goodIdentity()
		id.Probes = []string{"198.51.100.25", "198.51.100.26"}
		return id
	}
	t.Run("pass", func(t *testing.T) {
		w := newWorld(t)
		newStreet(t, w).two("")
		port(t, w, two()).mustBe(t, Pass, "198.51.100.25: greeted; 198.51.100.26: greeted")
	})
	t.Run("pass though one server is down", func(t *testing.T) {
		w := newWorld(t)
		newStreet(t, w).open("198.51.100.25:25", "220 mx ESMTP\r\n", usual, "")
		port(t, w, two()).mustBe(t, Pass, "198.51.100.26: refused")
	})
	t.Run("warn when we are not welcome", func(t *testing.T) {
		w := newWorld(t)
		s := newStreet(t, w)
		s.two("")
		s.open("198.51.100.26:25", "554 5.7.1 192.0.2.10 blocked using list.example\r\n", usual, "")
		port(t, w, two()).mustBe(t, Warn, "greeted with 554 5.7.1 192.0.2.10 blocked")
		s.open("198.51.100.26:25", "220 mx ESMTP\r\n", "504 5.5.2 Helo command rejected\r\n", "")
		port(t, w, two()).mustBe(t, Warn, "answered EHLO with 504 5.5.2 Helo command rejected")
	})
	for name, c := range map[string]struct {
		err   error
		words []string
	}{
		"fail when refused":     {syscall.ECONNREFUSED, []string{": refused", "answers for them", "router.host"}},
		"fail when filtered":    {syscall.EHOSTUNREACH, []string{": filtered", "REJECT"}},
		"fail when forbidden":   {syscall.EACCES, []string{": filtered"}},
		"fail when unreachable": {syscall.ENETUNREACH, []string{": unreachable"}},
		"fail when timed out":   {syscall.ETIMEDOUT, []string{": no answer, the packets are dropped"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			failing(w, c.err)
			port(t, w, two()).mustBe(t, Fail, append(c.words, "Please open outgoing TCP port 25")...)
		})
	}
	t.Run("fail when dropped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			s := newStreet(t, w)
			for _, p := range two().Probes {
				s.net.Silence(netip.MustParseAddrPort(p+":25"), true)
			}
			port(t, w, two()).mustBe(t, Fail, "swallows the packets")
		})
	})
	t.Run("each family by itself", func(t *testing.T) {
		w, id := sixWorld(t)
		newStreet(t, w).two("")
		id.Probes = []string{"198.51.100.25", "198.51.100.26", "2001:db8:9::25"}
		r := examineFor(t, w, id, "port25")
		find(t, r, "port25", "192.0.2.10").mustBe(t, Pass)
		find(t, r, "port25", "2001:db8::10").mustBe(t, Fail, "2001:db8:9::25: refused")
	})
	t.Run("unknown", func(t *testing.T) {
		port(t, newWorld(t), goodIdentity()).mustBe(t, Unknown, "no mail server to try", "identity.probes")
		w := newWorld(t)
		id := two()
		id.Probes = []string{"none.widget.com"}
		port(t, w, id).mustBe(t, Unknown, "NXDOMAIN")
		id.Probes = []string{"2001:db8:9::25"}
		port(t, w, id).mustBe(t, Unknown, "has an address of this family")
		failing(w, syscall.EADDRNOTAVAIL)
		port(t, w, two()).mustBe(t, Unknown, "does not have the source address")
	})
	t.Run("skip", func(t *testing.T) {
		id := two()
		id.Router = Router{Host: "smtp.provider.example", Use: "always"}
		if c := find(t, examineFor(t, newWorld(t), id, "port25"), "port25", ""); c.Status != Skip {
			t.Errorf("%+v", c)
		}
	})
}

func TestCheck_port25_intercepted(t *testing.T) {
	const at1, at2 = "198.51.100.25:25", "198.51.100.26:25"
	const bare = "250 mx.example.net\r\n"
	judge := func(t *testing.T, lay func(s *street)) Check {
		t.Helper()
		w := newWorld(t)
		lay(newStreet(t, w))
		id := goodIdentity()
		id.Probes = []string{"198.51.100.25", "198.51.100.26"}
		return find(t, examineFor(t, w, id, "port25"), "port25.intercepted", "192.0.2.10")
	}
	t.Run("pass", func(t *testing.T) {
		judge(t, func(s *street) { s.two("") }).mustBe(t, Pass, "198.51.100.25 is mx.example.net; 198.51.100.26 is mail.example.org")
	})
	t.Run("fail at the same banner everywhere", func(t *testing.T) {
		judge(t, func(s *street) {
			s.open(at1, "220 proxy.isp.example ESMTP\r\n", usual, "")
			s.open(at2, "220 proxy.isp.example ESMTP\r\n", usual, "")
		}).mustBe(t, Fail, "the same banner from every server: 220 proxy.isp.example")
	})
	t.Run("fail at asterisks", func(t *testing.T) {
		judge(t, func(s *street) {
			s.two("")
			s.open(at2, "220 ****************2******0*\r\n", usual, "")
		}).mustBe(t, Fail, "198.51.100.26 greets with 220 ****", "fixup protocol smtp")
	})
	t.Run("fail at masked extensions", func(t *testing.T) {
		judge(t, func(s *street) {
			s.two("")
			s.open(at1, "220 mx.example.net ESMTP\r\n", "250-mx.example.net\r\n250-XXXXXXXA\r\n250 XXXB\r\n", "")
		}).mustBe(t, Fail, "XXXX")
	})
	t.Run("fail without extensions", func(t *testing.T) {
		judge(t, func(s *street) {
			s.open(at1, "220 mx.example.net ESMTP\r\n", bare, "")
			s.open(at2, "220 mail.example.org ESMTP\r\n", "500 5.5.1 command unknown\r\n", "")
		}).mustBe(t, Fail, "usual extensions")
	})
	t.Run("warn without STARTTLS", func(t *testing.T) {
		plain := strings.Replace(usual, "250-PIPELINING\r\n250 STARTTLS", "250 PIPELINING", 1)
		judge(t, func(s *street) {
			s.open(at1, "220 mx.example.net ESMTP\r\n", plain, "")
			s.open(at2, "220 mail.example.org ESMTP\r\n", plain, "")
		}).mustBe(t, Warn, "no server offers STARTTLS")
	})
	t.Run("unknown", func(t *testing.T) {
		judge(t, func(*street) {}).mustBe(t, Unknown, "no server greeted")
	})
}

// TestServersOfOneOwnerMayShareABanner: Google's are all "mx.google.com".
func TestServersOfOneOwnerMayShareABanner(t *testing.T) {
	w := newWorld(t, "mx1.mail.example.net. 60 A 198.51.100.25", "mx2.example.net. 60 A 198.51.100.26")
	s := newStreet(t, w)
	s.open("198.51.100.25:25", "220 mx.example.net ESMTP\r\n", usual, "")
	s.open("198.51.100.26:25", "220 mx.example.net ESMTP\r\n", usual, "")
	id := goodIdentity()
	id.Probes = []string{"mx1.mail.example.net", "mx2.example.net"}
	find(t, examineFor(t, w, id, "port25"), "port25.intercepted", "").mustBe(t, Pass)
}

func TestObstacles(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  error
		want obstacle
	}{
		{syscall.ECONNREFUSED, obstacleRefused}, {syscall.ECONNRESET, obstacleRefused}, {syscall.ETIMEDOUT, obstacleDropped},
		{context.DeadlineExceeded, obstacleDropped}, {os.ErrDeadlineExceeded, obstacleDropped}, {syscall.EHOSTUNREACH, obstacleFiltered},
		{syscall.EPERM, obstacleFiltered}, {syscall.ENETUNREACH, obstacleUnreachable}, {syscall.EADDRNOTAVAIL, obstacleLocal}, {errors.New("x"), obstacleBroken},
	} {
		if got := obstacleOf(&net.OpError{Op: "dial", Err: c.err}); got != c.want {
			t.Errorf("%v: %s, want %s", c.err, got, c.want)
		}
		if c.want.words() == "" {
			t.Error(c.want)
		}
	}
}
