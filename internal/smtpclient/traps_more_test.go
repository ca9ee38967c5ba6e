package smtpclient

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// TRAPS 13: what was offered in a HELO reply, or before TLS, is not used: the
// script demands each command as it must be without it.
func TestTrap13_ForgottenExtensions(t *testing.T) {
	playTLS(t, `
		S: 220 mx
		C: EHLO out.example.org
		S: 250-mx
		S: 250-SIZE 1000000
		S: 250-PIPELINING
		S: 250-CHUNKING
		S: 250-DSN
		S: 250-8BITMIME
		S: 250 STARTTLS
		C: STARTTLS
		S: 220 go
		tls
		C: EHLO out.example.org
		S: 250 mx
		C: MAIL FROM:<a@example.org>
		S: 250 ok
		C: RCPT TO:<b@example.net>
		S: 250 ok
		C: DATA
		S: 354 go
		data
		S: 250 taken
	`, "mx.example.net", func(t *testing.T, conn net.Conn, _ *x509.CertPool) {
		opt := plain
		opt.TLS = mta.TLSOpportunistic
		s := opened(t, conn, opt)
		tx := to("b@example.net")
		tx.EightBit = true
		tx.Recipients[0].Notify = mta.NotifySuccess
		wantOutcome(t, s.Send(tx), "delivered 250 taken")
	})
}

// TRAPS 32: the trailing dot of a name from DNS reaches neither SNI nor the
// certificate's comparison.
func TestTrap32_NoTrailingDotInSNI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cert, roots := certificate(t, "mx.example.net")
		client, server := mtatest.Pipe(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 99), Port: 40000}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25})
		sni := make(chan string, 1)
		go func() {
			defer server.Close()
			br := bufio.NewReader(server)
			_, _ = io.WriteString(server, "220 mx\r\n")
			for {
				line, err := br.ReadString('\n')
				switch {
				case err != nil:
					return
				case strings.HasPrefix(line, "EHLO"):
					_, _ = io.WriteString(server, "250-mx\r\n250 STARTTLS\r\n")
					continue
				}
				_, _ = io.WriteString(server, "220 go\r\n")
				conn := tls.Server(server, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
					sni <- h.ServerName
					return cert, nil
				}})
				if conn.Handshake() == nil {
					br := bufio.NewReader(conn)
					_, _ = br.ReadString('\n')
					_, _ = io.WriteString(conn, "250 mx\r\n")
					_, _ = io.Copy(io.Discard, br)
				}
				return
			}
		}()
		opt := plain
		opt.TLS, opt.RootCAs, opt.Host = mta.TLSRequired, roots, "MX.example.net."
		s := opened(t, client, opt)
		if got := <-sni; !strings.EqualFold(got, "mx.example.net") || strings.HasSuffix(got, ".") {
			t.Errorf("SNI %q", got)
		}
		if s.TLS().Verified != "pkix" {
			t.Errorf("%+v", s.TLS())
		}
		s.Close()
		client.Close()
		synctest.Wait()
	})
}

// TRAPS 1: replies that never end cost their bound in octets and in time,
// also when each octet comes in time.
func TestTrap01_ReplyThatDrips(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client, server := mtatest.Pipe(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 99), Port: 40000}, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 25})
		over := make(chan struct{})
		go func() {
			defer server.Close()
			for {
				_, _ = io.WriteString(server, "2")
				select {
				case <-time.After(time.Minute):
				case <-over:
					return
				}
			}
		}()
		start := time.Now()
		_, f := Open(context.Background(), client, plain)
		if f == nil || f.Stage != mta.StageBanner || time.Since(start) > 6*time.Minute {
			t.Errorf("%v after %v", f, time.Since(start))
		}
		close(over)
		client.Close()
	})
}

// TRAPS 7: a refused RSET is the session's trouble: the MAIL that went with it
// is refused for the old transaction's sake, which says nothing of the message.
func TestTrap07_RefusedRSETOfAFlight(t *testing.T) {
	first := chunked + "C: MAIL*\nC: RCPT*\nC: BDAT*\ndata 21\nS: 250 ok\nS: 550 no\nS: 554 no recipients\nC: RSET\nC: MAIL*\nC: RCPT*\nC: BDAT*\ndata 21\n"
	for _, c := range []struct{ name, script, want string }{
		{"MAIL refused with it", first + "S: 502 what\nS: 503 5.5.1 sequence\nS: 250 ok\nS: 250 ok", "reset reply 502 what"},
		{"and closed", first + "S: 421 bye\nclose", "reset reply 421 bye"},
		{"MAIL accepted all the same", first + "S: 502 what\nS: 250 ok\nS: 250 ok\nS: 250 taken", "delivered 250 taken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			play(t, c.script, func(t *testing.T, conn net.Conn) {
				s := opened(t, conn, plain)
				wantOutcome(t, s.Send(to("b@example.net")), "rcpt reply 550 no")
				o := s.Send(to("c@example.net"))
				wantOutcome(t, o, c.want)
				if s.Usable() {
					t.Error("the session goes on")
				}
			})
		})
	}
}
