package smtpd

import (
	"bufio"
	"context"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// startTCP runs a server on a port of loopback until the test ends.
func startTCP(t testing.TB, a submit.Acceptor) *Server {
	t.Helper()
	s := New(Options{Address: "127.0.0.1:0", Acceptor: a, Settings: testSettings()})
	if err := s.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// The replies before a goodbye reach a client that goes on sending: the
// connection is not reset under them.
func TestLastRepliesAreNotLost(t *testing.T) {
	t.Parallel()
	a := &intake{}
	s := startTCP(t, a)
	for name, c := range map[string]struct{ script, last string }{
		"QUIT":   {"HELO x\r\n" + openData + ".\r\nQUIT\r\n", "221 2.0.0"},
		"HTTP":   {"GET / HTTP/1.1\r\n", "421 4.7.0"},
		"errors": {strings.Repeat("X\r\n", 20), "421 4.7.0"},
	} {
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		if _, err := io.WriteString(conn, c.script+strings.Repeat("more\r\n", 20_000)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		out, err := io.ReadAll(conn)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		lines := strings.Split(strings.TrimSuffix(string(out), "\r\n"), "\r\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, c.last) {
			t.Errorf("%s: the last reply is %q", name, last)
		}
		conn.Close()
	}
}

// TestEveryIPv4AddressIsNoIPv6: [[listen]] 0.0.0.0 opens nothing on IPv6, and
// leaves its port there to a listener on [::].
func TestEveryIPv4AddressIsNoIPv6(t *testing.T) {
	t.Parallel()
	first := New(Options{Address: "0.0.0.0:0", Acceptor: &intake{}, Settings: testSettings()})
	if err := first.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer first.Stop(t.Context())
	bound := first.Addr().(*net.TCPAddr)
	if bound.IP.To4() == nil {
		t.Errorf("0.0.0.0 is bound as %s", bound)
	}
	probe, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	probe.Close()
	second := New(Options{Address: net.JoinHostPort("::", strconv.Itoa(bound.Port)), Acceptor: &intake{}, Settings: testSettings()})
	if err := second.Start(t.Context()); err != nil {
		t.Error(err)
	}
	defer second.Stop(t.Context())
}

// swaks is a client that we did not write.
func TestSwaks(t *testing.T) {
	t.Parallel()
	swaks, err := exec.LookPath("swaks")
	if err != nil {
		t.Skip("swaks is not installed")
	}
	a := &intake{}
	s := startTCP(t, a)
	host, port, _ := net.SplitHostPort(s.Addr().String())
	for _, more := range [][]string{
		nil,
		{"--pipeline"},
		{"--body", ".\n..\nlast"},
		{"--to", "b@example.net,c@example.org"},
	} {
		args := append([]string{"--server", host, "--port", port, "--from", "a@example.com", "--to", "b@example.net", "--helo", "client.example"}, more...)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		out, err := exec.CommandContext(ctx, swaks, args...).CombinedOutput()
		cancel()
		if err != nil || !strings.Contains(string(out), "250 2.0.0 queued as ") {
			t.Errorf("swaks %q: %v\n%s", more, err, out)
		}
	}
	if m := a.taken(); len(m) != 4 || len(m[3].request.Recipients) != 2 || !strings.Contains(m[2].content, "\r\n.\r\n..\r\nlast\r\n") {
		t.Errorf("%d messages: %+v", len(m), m)
	}
}

// discard is an intake that keeps nothing, for the benchmark.
type discard struct{}

func (discard) Check(context.Context, *submit.Request) error { return nil }
func (discard) Begin(context.Context, *submit.Request) (submit.Draft, error) {
	return discard{}, nil
}
func (discard) Write(p []byte) (int, error)            { return len(p), nil }
func (discard) Commit(context.Context) (mta.ID, error) { return mta.ID{1}, nil }
func (discard) Abort()                                 {}

// BenchmarkReceive takes 4 KB messages over one TCP session, pipelined.
func BenchmarkReceive(b *testing.B) {
	s := startTCP(b, discard{})
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	br := bufio.NewReader(conn)
	ask := func(line string, replies int) {
		if _, err := io.WriteString(conn, line); err != nil {
			b.Fatal(err)
		}
		for range replies {
			if r, err := smtp.ReadReply(br); err != nil || r.Code >= 400 {
				b.Fatalf("%v %v", r, err)
			}
		}
	}
	ask("EHLO client.example\r\n", 2)
	content := strings.Repeat(strings.Repeat("x", 70)+"\r\n", 57) + ".\r\n"
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		ask(openData, 3)
		ask(content, 1)
	}
}
