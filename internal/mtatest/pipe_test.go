package mtatest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func pipePair() (net.Conn, net.Conn) { return Pipe(textAddr{"tcp", "a"}, textAddr{"tcp", "b"}) }

func TestPipeBuffersAndBlocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pipePair()
		defer a.Close()
		defer b.Close()
		if n, err := a.Write(make([]byte, pipeBuffer)); n != pipeBuffer || err != nil {
			t.Fatal(n, err) // nobody reads, and yet it fits
		}
		if err := a.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		if n, err := a.Write([]byte("x")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(begun) != time.Minute {
			t.Errorf("%d %v after %v", n, err, time.Since(begun))
		}
		if err := a.SetWriteDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.CopyN(io.Discard, b, pipeBuffer) }()
		if n, err := a.Write(bytes.Repeat([]byte("y"), 10)); n != 10 || err != nil {
			t.Error(n, err)
		}
	})
}

func TestPipeEnds(t *testing.T) {
	t.Parallel()
	a, b := pipePair()
	if _, err := a.Write([]byte("last words")); err != nil {
		t.Fatal(err)
	}
	if err := a.(*pipeConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); string(got) != "last words" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	if _, err := b.Write([]byte("still heard")); err != nil {
		t.Error(err)
	}
	a.Close()
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("write to a closed peer: %v", err)
	}
	if _, err := a.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
	if err := a.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
}

func TestPipeResetAndPassedDeadline(t *testing.T) {
	t.Parallel()
	a, b := pipePair()
	if err := a.(*pipeConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	a.Close()
	if _, err := b.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read: %v", err)
	}
	c, d := pipePair()
	defer c.Close()
	defer d.Close()
	if err := c.SetDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	var ne net.Error
	if _, err := c.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
		t.Errorf("read: %v", err)
	}
	if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("write: %v", err)
	}
}

// FuzzMXSession has a server hear anything at all: it must end with the
// connection, and keep nothing that was not sent.
func FuzzMXSession(f *testing.F) {
	f.Add("EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<u@d>\r\nDATA\r\n.\r\n.x\r\n\r\n.\r\nQUIT\r\n")
	f.Add("EHLO a.example\r\nMAIL FROM:<>\r\nRCPT TO:<u@d>\r\nBDAT 3\r\na\r\nBDAT 0 LAST\r\nBDAT 9999999999999999999 LAST\r\n")
	f.Add("HELO\nMAIL FROM:<\"a\\\"> SIZE=x\r\nRCPT TO:<>\r\nBDAT -1\r\nDATA\r\n\x00\r.\r\n")
	f.Fuzz(func(t *testing.T, input string) {
		m := NewMX(MXConfig{MaxRecipients: 2, Size: 1000, Rules: []Rule{{Stage: StageRcpt, Match: "*x", Action: Action{Greylist: 1}}}})
		client, server := pipePair()
		go func() {
			_, _ = io.WriteString(client, input)
			_ = client.(*pipeConn).CloseWrite()
		}()
		done := make(chan []byte)
		go func() {
			out, _ := io.ReadAll(client)
			done <- out
		}()
		m.ServeConn(server)
		out := <-done
		client.Close()
		for _, got := range m.Messages() {
			if len(got.Data) > 1000 || len(got.Data) > len(input) || len(got.To) == 0 || len(got.To) > 2 {
				t.Errorf("kept %q for %v", got.Data, got.To)
			}
		}
		if !bytes.HasPrefix(out, []byte("220 ")) {
			t.Errorf("greeting %q", out)
		}
	})
}
