package smtpclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// A script is what a server says and expects, a line each:
//
//	S: text      writes text and CRLF
//	C: text      reads a line that must be text; "C: text*" one that begins so
//	data         reads content up to the dot; "data N" exactly N octets
//	repeat N     the rest of the line, N times, in one write
//	long N       the beginning of a line of N octets
//	tls          takes a TLS handshake
//	close        closes
//	stall        reads nothing and says nothing for an hour
//	hang         reads and says nothing until the client is gone
//
// Lines without a keyword are comments.
type server struct {
	t    *testing.T
	conn net.Conn
	br   *bufio.Reader
	cert *tls.Certificate
	got  []string // contents
}

func (s *server) run(script string) {
	defer s.conn.Close()
	for line := range strings.Lines(script) {
		verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if !s.step(verb, rest) {
			return
		}
	}
	_, _ = io.Copy(io.Discard, s.br)
}

func (s *server) step(verb, rest string) bool {
	switch verb {
	case "S:":
		_, err := io.WriteString(s.conn, rest+"\r\n")
		return err == nil
	case "C:":
		return s.expect(rest)
	case "data":
		return s.data(rest)
	case "repeat":
		n, text := 0, ""
		number, text, _ := strings.Cut(rest, " ")
		fmt.Sscan(number, &n)
		_, err := io.WriteString(s.conn, strings.Repeat(text+"\r\n", n))
		return err == nil
	case "long":
		n := 0
		fmt.Sscan(rest, &n)
		_, err := io.WriteString(s.conn, "250-"+strings.Repeat("x", n))
		return err == nil
	case "tls":
		conn := tls.Server(s.conn, &tls.Config{Certificates: []tls.Certificate{*s.cert}})
		if conn.Handshake() != nil {
			return false
		}
		s.conn, s.br = conn, bufio.NewReader(conn)
	case "stall":
		<-time.After(time.Hour)
		return false
	case "close":
		return false
	case "hang":
		_, _ = io.Copy(io.Discard, s.conn)
		return false
	}
	return true
}

func (s *server) expect(want string) bool {
	line, err := s.br.ReadString('\n')
	line = strings.TrimSuffix(line, "\r\n")
	if prefix, ok := strings.CutSuffix(want, "*"); ok && strings.HasPrefix(line, prefix) || line == want {
		return true
	}
	s.t.Errorf("the client sent %q (%v), want %q", line, err, want)
	return false
}

func (s *server) data(rest string) bool {
	var n int
	if fmt.Sscan(rest, &n); n > 0 {
		p := make([]byte, n)
		_, err := io.ReadFull(s.br, p)
		s.got = append(s.got, string(p))
		return err == nil
	}
	var b strings.Builder
	for {
		line, err := s.br.ReadString('\n')
		if err != nil || line == ".\r\n" {
			s.got = append(s.got, b.String())
			return err == nil
		}
		b.WriteString(line)
	}
}

// play runs client against the script in a bubble of fake time and gives the
// contents the server read.
func play(t *testing.T, script string, client func(t *testing.T, conn net.Conn)) (got []string) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { got = playHere(t, script, nil, client) })
	return got
}

func playHere(t *testing.T, script string, cert *tls.Certificate, client func(t *testing.T, conn net.Conn)) []string {
	local, remote := mtatest.Pipe(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 99), Port: 40000}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25})
	s := &server{t: t, conn: remote, br: bufio.NewReader(remote), cert: cert}
	done := make(chan struct{})
	go func() { defer close(done); s.run(script) }()
	client(t, local)
	local.Close()
	<-done
	return s.got
}

var plain = Options{Hello: "out.example.org", Host: "mx.example.net", TLS: mta.TLSNone}

// opened opens a session or fails the test.
func opened(t *testing.T, conn net.Conn, opt Options) *Session {
	t.Helper()
	s, f := Open(context.Background(), conn, opt)
	if f != nil {
		t.Fatalf("open: %v", f)
	}
	return s
}

// refusedOpen opens a session that must fail, and gives "stage cause text".
func refusedOpen(t *testing.T, conn net.Conn, opt Options) *mta.Failure {
	t.Helper()
	s, f := Open(context.Background(), conn, opt)
	if f == nil {
		t.Fatalf("opened: %+v", s.caps)
	}
	return f
}

// text is content in memory, file content that is not.
type text string

func (c text) ReadAt(p []byte, at int64) (int, error) {
	return strings.NewReader(string(c)).ReadAt(p, at)
}
func (c text) Size() int64   { return int64(len(c)) }
func (c text) Bytes() []byte { return []byte(c) }

type file string

func (c file) ReadAt(p []byte, at int64) (int, error) {
	return strings.NewReader(string(c)).ReadAt(p, at)
}
func (c file) Size() int64   { return int64(len(c)) }
func (c file) Bytes() []byte { return nil }

const note = "Subject: x\r\n\r\nhello\r\n"

func to(addresses ...string) *Transaction {
	t := &Transaction{Sender: "a@example.org", Content: text(note)}
	for _, a := range addresses {
		t.Recipients = append(t.Recipients, mta.Recipient{Address: a})
	}
	return t
}

// told is an outcome in one line.
func told(o Outcome) string {
	var out []string
	for _, v := range o.Verdicts {
		switch v.Fate {
		case Untried:
			out = append(out, "untried")
		case Delivered:
			out = append(out, "delivered "+o.Reply.String())
		default:
			s := v.Failure.Stage.String() + " " + v.Failure.Cause.String()
			if v.Failure.Reply.Code > 0 {
				s += " " + v.Failure.Reply.String()
			}
			if v.Failure.Sent {
				s += " (sent)"
			}
			out = append(out, s)
		}
	}
	return strings.Join(out, " | ")
}

func wantOutcome(t *testing.T, o Outcome, want string) {
	t.Helper()
	if got := told(o); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// certificate makes one for host in the bubble's time, and the pool that
// trusts it.
func certificate(t *testing.T, host string) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	authority, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := authority.Certificate(true, host)
	if err != nil {
		t.Fatal(err)
	}
	return cert, authority.Pool()
}

// unbuffered sends tx over net.Pipe to a server that writes each answer before
// it reads on.
func unbuffered(t *testing.T, tx *Transaction) {
	synctest.Test(t, func(t *testing.T) {
		client, remote := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer remote.Close()
			br := bufio.NewReader(remote)
			_, _ = io.WriteString(remote, "220 mx\r\n")
			for {
				line, err := br.ReadString('\n')
				if err != nil {
					return
				}
				answer := "250 ok\r\n"
				switch {
				case strings.HasPrefix(line, "EHLO"):
					answer = "250-mx\r\n250-CHUNKING\r\n250 PIPELINING\r\n"
				case line == "DATA\r\n":
					answer = "354 go\r\n"
				case line == "Subject: x\r\n" || line == "hello\r\n" || line == "\r\n":
					continue
				}
				if _, err := io.WriteString(remote, answer); err != nil {
					return
				}
			}
		}()
		s := opened(t, client, plain)
		o := s.Send(tx)
		for i, v := range o.Verdicts {
			if v.Fate != Delivered {
				t.Fatalf("recipient %d: %+v", i, v)
			}
		}
		s.Close()
		<-done
	})
}
