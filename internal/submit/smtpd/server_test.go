package smtpd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

const (
	openMail = "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"
	openData = openMail + "DATA\r\n"
)

// elapsed runs f and gives the bubble's time it took.
func elapsed(f func()) time.Duration {
	begin := time.Now()
	f()
	return time.Since(begin)
}

func TestCommandTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		set := testSettings()
		set.Limits.CommandTime = 20 * time.Second
		s, l := start(t, set, a)
		p := l.dial(t, trustedPeer)
		p.hello()
		for range 5 { // each command starts the time anew
			<-time.After(15 * time.Second)
			p.send("NOOP\r\n")
			p.want("250 *")
		}
		p.send("NOO") // half a command is none
		if d := elapsed(func() { p.want("421 4.4.2 *") }); d < 19*time.Second || d > 21*time.Second {
			t.Errorf("421 after %v", d)
		}
		p.wantClosed()
		stopNow(t, s, a)
		if c := s.Counts(); c.TimedOut != 1 || c.Active != 0 {
			t.Errorf("%+v", c)
		}
	})
}

// TestCommandTimeOfAWholeLine: a line that comes an octet at a time has no more
// time than one that comes at once, also while it is being skipped.
func TestCommandTimeOfAWholeLine(t *testing.T) {
	for name, first := range map[string]string{"a command": "NO", "a line that is too long": strings.Repeat("x", 5000)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &intake{}
				set := testSettings()
				set.Limits.CommandTime = 20 * time.Second
				s, l := start(t, set, a)
				p := l.dial(t, trustedPeer)
				p.hello()
				p.send(first)
				took := elapsed(func() {
					for range 8 { // 24 seconds
						<-time.After(3 * time.Second)
						p.send("x")
					}
					p.want("421 4.4.2 *")
				})
				if took > 25*time.Second {
					t.Errorf("421 after %v", took)
				}
				p.conn.Close()
				stopNow(t, s, a)
			})
		})
	}
}

func TestDataTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		set := testSettings()
		set.Limits.DataTime = 20 * time.Second
		set.Limits.CommandTime = time.Hour
		s, l := start(t, set, a)
		for _, begin := range []string{openData, openMail + "BDAT 100\r\nx"} {
			p := l.dial(t, trustedPeer)
			p.hello()
			p.send(begin)
			p.want("250 *", "250 *")
			if begin == openData {
				p.want("354 *")
			}
			if d := elapsed(func() { p.want("421 4.4.2 *") }); d < 19*time.Second || d > 21*time.Second {
				t.Errorf("421 after %v", d)
			}
			p.wantClosed()
		}
		stopNow(t, s, a)
		if len(a.taken()) != 0 {
			t.Error("an unfinished message was accepted")
		}
	})
}

// A client that drips cannot hold a message open for ever.
func TestMessageTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		set := testSettings()
		set.Limits.MessageTime = time.Minute
		s, l := start(t, set, a)
		p := l.dial(t, trustedPeer)
		p.hello()
		p.send(openData)
		p.want("250 *", "250 *", "354 *")
		d := elapsed(func() {
			for range 20 {
				select {
				case line := <-p.lines:
					if !strings.HasPrefix(line, "421 4.4.2") {
						t.Errorf("reply %q", line)
					}
					return
				case <-time.After(10 * time.Second):
					p.send("x")
				}
			}
		})
		if d < 59*time.Second || d > 61*time.Second {
			t.Errorf("421 after %v", d)
		}
		stopNow(t, s, a)
	})
}

func TestLostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		s, l := start(t, testSettings(), a)
		for _, sent := range []string{"", "MAIL", openMail, openData, openData + "x\r\n.\r", openMail + "BDAT 10\r\nx", openMail + "BDAT 1\r\nx"} {
			p := l.dial(t, trustedPeer)
			p.hello()
			p.send(sent)
			p.conn.Close()
			synctest.Wait()
			if n := s.Counts().Active; n != 0 {
				t.Errorf("after %q %d sessions are open", sent, n)
			}
		}
		stopNow(t, s, a)
		if len(a.taken()) != 0 {
			t.Error("an unfinished message was accepted")
		}
	})
}

func TestConnectionLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		set := testSettings()
		set.Limits.Connections, set.Limits.PeerConnections = 3, 2
		s, l := start(t, set, a)
		one, two := l.dial(t, "127.0.0.1"), l.dial(t, "127.0.0.1")
		one.want("220 *")
		two.want("220 *")
		third := l.dial(t, "127.0.0.1")
		third.want("421 4.7.0 too many connections from your address*")
		third.wantClosed()
		other := l.dial(t, "127.0.0.2")
		other.want("220 *")
		fourth := l.dial(t, "127.0.0.3")
		fourth.want("421 4.7.0 too many connections, *")
		fourth.wantClosed()
		one.send("QUIT\r\n")
		one.want("221 *")
		one.wantClosed()
		synctest.Wait()
		again := l.dial(t, "127.0.0.1")
		again.want("220 *")
		stopNow(t, s, a)
		if c := s.Counts(); c.TurnedAway != 2 || c.Connections != 4 || c.Active != 0 {
			t.Errorf("%+v", c)
		}
		if len(s.mu.perPeer) != 0 || len(s.mu.open) != 0 {
			t.Errorf("left behind: %v %v", s.mu.perPeer, s.mu.open)
		}
	})
}

func TestReconfigureAtTheNextTransaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		s, l := start(t, testSettings(), a)
		p := l.dial(t, trustedPeer)
		p.hello()
		p.send("MAIL FROM:<>\r\n")
		p.want("250 *")
		set := testSettings()
		set.Trusted, set.Stream, set.Hostname = nil, "alerts", "new.example.com"
		s.Reconfigure(set)
		p.send("RCPT TO:<b@example.net>\r\nDATA\r\n")
		p.want("250 *", "354 *")
		p.send(".\r\n" + openMail)
		p.want("250 *", "250 *", "550 5.7.1 *")
		set.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		s.Reconfigure(set)
		p.send("RSET\r\n" + openData)
		p.want("250 *", "250 *", "250 *", "354 *")
		p.send(".\r\n")
		p.want("250 *")
		q := l.dial(t, trustedPeer)
		q.want("220 new.example.com *")
		stopNow(t, s, a)
		if m := a.taken(); len(m) != 2 || m[0].request.Stream != "" || m[1].request.Stream != "alerts" {
			t.Errorf("%+v", m)
		}
	})
}

// A thousand recipients with duplicates, and the limit: TRAPS 11 seen from
// the server.
func TestTrap11_452AfterTheLastRecipient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		set := testSettings()
		set.Limits.Recipients = 200
		s, l := start(t, set, a)
		p := l.dial(t, trustedPeer)
		p.hello()
		p.send("MAIL FROM:<>\r\n")
		p.want("250 *")
		for i := range 200 {
			p.send(fmt.Sprintf("RCPT TO:<u%d@example.net>\r\nRCPT TO:<u%d@EXAMPLE.net>\r\n", i, i/2))
			p.want("250 2.1.5 *", "250 2.1.5 *")
		}
		for range 30 { // no errors of the session
			p.send("RCPT TO:<one-more@example.net>\r\n")
			p.want("452 4.5.3 *")
		}
		p.send("RCPT TO:<u7@example.net>\r\nDATA\r\n")
		p.want("250 2.1.5 *", "354 *")
		p.send(".\r\n")
		p.want("250 2.0.0 *")
		stopNow(t, s, a)
		r := a.taken()[0].request.Recipients
		for i := range r {
			if r[i].Address != fmt.Sprintf("u%d@example.net", i) {
				t.Fatalf("recipient %d is %s", i, r[i].Address)
			}
		}
		if len(r) != 200 || s.Counts().Recipients != 200 {
			t.Errorf("%d recipients, %+v", len(r), s.Counts())
		}
	})
}

// TRAPS 12 from the server's side: a client that writes a thousand commands
// before it reads a reply is served, as far as buffers go.
func TestTrap12_RepliesWaitForTheInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		s, l := start(t, testSettings(), a)
		p := l.dial(t, trustedPeer)
		p.send("HELO x\r\n" + strings.Repeat("NOOP\r\n", 5000))
		p.want("220 *", "250 mx.example.com")
		for range 5000 {
			p.want("250 2.0.0 Ok")
		}
		stopNow(t, s, a)
	})
}

// writes records the largest write.
type writes struct {
	net.Conn
	largest int
}

func (w *writes) Write(p []byte) (int, error) {
	w.largest = max(w.largest, len(p))
	return w.Conn.Write(p)
}

func TestPendingRepliesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		s, l := start(t, testSettings(), a)
		client, server := net.Pipe()
		w := &writes{Conn: pipe{server, netip.MustParseAddr(trustedPeer)}}
		l.conns <- w
		p := &peer{t: t, conn: client, lines: make(chan string, 1<<16)}
		go p.read()
		p.send(strings.Repeat("HELP\r\n", 5000)) // 65 KB of replies for each read buffer
		p.want("220 *")
		for range 5000 {
			p.want("214 *")
		}
		client.Close()
		stopNow(t, s, a)
		if w.largest > maxPending+1024 {
			t.Errorf("%d octets were pending", w.largest)
		}
	})
}

// A client that never reads does not hold a session for ever.
func TestClientThatNeverReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		s, l := start(t, testSettings(), a)
		client, server := net.Pipe()
		l.conns <- pipe{server, netip.MustParseAddr(trustedPeer)}
		go client.Write([]byte("HELO x\r\n"))
		<-time.After(6 * time.Minute)
		if n := s.Counts(); n.Active != 0 || n.TimedOut != 1 {
			t.Errorf("%+v", n)
		}
		client.Close()
		stopNow(t, s, a)
	})
}

// TRAPS 46: a panic ends one session, and its draft.
func TestTrap46_PanicEndsOneSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		a := &intake{committing: func(context.Context) error {
			if calls++; calls == 1 {
				panic("broken invariant")
			}
			return nil
		}}
		s, l := start(t, testSettings(), a)
		for i := range 2 {
			p := l.dial(t, trustedPeer)
			p.hello()
			p.send(openData)
			p.want("250 *", "250 *", "354 *")
			p.send(".\r\n")
			if i == 0 {
				p.wantClosed()
			} else {
				p.want("250 2.0.0 queued as *")
			}
		}
		stopNow(t, s, a)
		if c := s.Counts(); c.Internal != 1 || c.Messages != 1 {
			t.Errorf("%+v", c)
		}
	})
}

func TestOriginOfAMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &intake{}
		s, l := start(t, testSettings(), a)
		p := l.dial(t, "127.0.0.9")
		p.hello()
		p.send(openData)
		p.want("250 *", "250 *", "354 *")
		p.send(".\r\n")
		p.want("250 *")
		stopNow(t, s, a)
		want := mta.Origin{Door: "smtp", Protocol: "ESMTP", Peer: netip.MustParseAddr("127.0.0.9"), Helo: "client.example"}
		if got := a.taken()[0].request; got.Origin != want || got.LineEnds != submit.RefuseBare {
			t.Errorf("%+v", got)
		}
	})
}

// tickListener fails as an exhausted machine does, then gives up.
type tickListener struct {
	*listener
	fails int
}

func (l *tickListener) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, errors.New("too many open files")
	}
	return l.listener.Accept()
}

func TestAcceptErrorsAreWaitedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &tickListener{newListener(), 10}
		a := &intake{}
		s := New(Options{Listener: l, Acceptor: a, Settings: testSettings()})
		if err := s.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		if d := elapsed(func() { l.dial(t, trustedPeer).want("220 *") }); d < time.Second || d > 5*time.Second {
			t.Errorf("greeted after %v", d)
		}
		stopNow(t, s, a)

		l = &tickListener{newListener(), 1 << 30}
		s = New(Options{Listener: l, Acceptor: a, Settings: testSettings()})
		if err := s.Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		if d := elapsed(func() { stopNow(t, s, a) }); d > 0 {
			t.Errorf("Stop took %v", d)
		}
	})
}

func TestStartSaysWhatItCannotBind(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := New(Options{Address: taken.Addr().String(), Acceptor: &intake{}})
	if err := s.Start(context.Background()); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("%v", err)
	}
	if s.Addr() != nil {
		t.Errorf("bound %v", s.Addr())
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}

func TestLimitsHaveDefaultsAndBounds(t *testing.T) {
	t.Parallel()
	got := Limits{}.withDefaults()
	want := Limits{Line: 2048, MessageSize: 50_000_000, Recipients: 1000, Connections: 1000, PeerConnections: 1000, Commands: 10_000, Errors: 20,
		CommandTime: 5 * time.Minute, DataTime: 3 * time.Minute, MessageTime: time.Hour}
	if got != want {
		t.Errorf("%+v", got)
	}
	if got := (Limits{Line: 100, Recipients: 5}).withDefaults(); got.Line != 512 || got.Recipients != 100 {
		t.Errorf("%+v", got)
	}
	if got := (Limits{Line: 1 << 20, Connections: 7}).withDefaults(); got.Line != 4096 || got.PeerConnections != 7 {
		t.Errorf("%+v", got)
	}
}
