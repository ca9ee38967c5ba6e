package smtpclient

import (
	"bytes"
	"context"
	"net"
	"testing"
	"time"

	"mailout/internal/mta"
)

// tape is a connection whose other side says what was recorded, whatever it is
// told.
type tape struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error)         { return c.in.Read(p) }
func (c *tape) Write(p []byte) (int, error)        { return c.out.Write(p) }
func (c *tape) Close() error                       { return nil }
func (c *tape) LocalAddr() net.Addr                { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr               { return &net.TCPAddr{} }
func (c *tape) SetDeadline(t time.Time) error      { return nil }
func (c *tape) SetReadDeadline(t time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(t time.Time) error { return nil }

var tapes = []string{
	"",
	"220 mx\r\n250 mx\r\n250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n221 bye\r\n",
	"220 mx\r\n250-mx\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n450 4.7.1 later\r\n354 go\r\n250 taken\r\n250 ok\r\n250 ok\r\n354 go\r\n250 ok\r\n",
	"220 mx\r\n250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n250 ok\r\n250 ok\r\n452 4.5.3 full\r\n250 taken\r\n250 ok\r\n250 ok\r\n250 taken\r\n",
	"220 mx\r\n250-mx\r\n250-CHUNKING\r\n250-LIMITS RCPTMAX=1 MAILMAX=2\r\n250 PIPELINING\r\n250 ok\r\n421 bye\r\n250 taken\r\n",
	"220 mx\r\n250-mx\r\n250 STARTTLS\r\n454 no\r\n250 ok\r\n550 no\r\n550 no\r\n250 ok\r\n250 ok\r\n",
	"220 mx\r\n250-mx\r\n250 STARTTLS\r\n220 go\r\n\x16\x03\x03\x00\x02hi",
	"220 mx\r\n502 what\r\n250 mx\r\n250 ok\r\n250 ok\r\n552 5.2.2 full\r\n354 go\r\n554 5.6.0 spam\r\n250 reset\r\n",
	"220 mx\r\n250-mx\r\n250 PIPELINING\r\n550 no\r\n503 no\r\n503 no\r\n354 go\r\n554 no\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n",
	"220-a\r\n220 b\r\n250-mx\r\n250-SIZE 10\r\n250 SMTPUTF8\r\n",
	"220 mx\r\n250 mx\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n",
	"421 4.3.2 busy\r\n",
	"554 no\r\n",
	"SSH-2.0-x\r\n",
	"220 mx\r\n250 mx\r\n250 ok\r\n354 what\r\n250 ok\r\n354 go\r\n354 go\r\n",
}

// FuzzSession: whatever a server says, the client ends, every verdict is
// defined, and nothing is delivered without a 2xx.
func FuzzSession(f *testing.F) {
	for _, s := range tapes {
		f.Add([]byte(s))
	}
	if len(tapes) == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, said []byte) {
		conn := &tape{in: bytes.NewReader(said)}
		opt := plain
		opt.TLS = mta.TLSOpportunistic
		s, failure := Open(context.Background(), conn, opt)
		if (s == nil) == (failure == nil) {
			t.Fatalf("session %v, failure %v", s, failure)
		}
		for i := 0; s != nil && s.Usable() && i < 5; i++ {
			checkOutcome(t, s.Send(to("b@example.net", "c@example.net")), said)
		}
		if s != nil {
			s.Quit()
			s.Close()
		}
	})
}

func checkOutcome(t *testing.T, o Outcome, said []byte) {
	tried := false
	for _, v := range o.Verdicts {
		tried = tried || v.Fate != Untried
		if (v.Fate == Failed) != (v.Failure != nil) {
			t.Errorf("fate %d with failure %v", v.Fate, v.Failure)
		}
		if v.Fate == Delivered && (o.Reply.Code/100 != 2 || !bytes.Contains(said, []byte("2"))) {
			t.Errorf("delivered by %v", o.Reply)
		}
	}
	if len(o.Verdicts) != 2 || !tried && o.Broken == nil {
		t.Errorf("no progress: %+v", o)
	}
}
