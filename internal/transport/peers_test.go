package transport

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// TestHostsWithPorts: each host of a router has its port, a dead one is passed
// over, and a session is kept for its own port alone.
func TestHostsWithPorts(t *testing.T) {
	inWorld(t, func(w *world) {
		w.route.Router = "r"
		ip := netip.MustParseAddr("10.0.0.1")
		m := mtatest.NewMX(mtatest.MXConfig{Hostname: "b"})
		w.mx["b"] = m
		w.net.Handle(netip.AddrPortFrom(ip, 2525), m.ServeConn)
		w.route.Hosts = []mta.Host{{Name: "r", Addresses: []netip.Addr{ip}, Port: 587}, {Name: "r", Addresses: []netip.Addr{ip}, Port: 2525, Preference: 1}}
		a := w.deliver(w.mail("b@example.net"), w.mail("c@example.net"))
		w.want(a[0], "delivered 2.0.0 @r; r connect; r final")
		w.want(a[1], "delivered 2.0.0 @r reused")
		other := *w.route
		other.Hosts = w.route.Hosts[:1] // the dead port alone
		w.want(w.carry(context.Background(), context.Background(), job{d: w.mail("d@example.net")}, job{d: w.mail("e@example.net"), route: &other})[1],
			"temporary host 4.4.1 @r; r connect")
	})
}

// store is an LMTP server that answers each recipient as its local part says.
func lmtpStore(conn net.Conn) {
	defer conn.Close()
	br := bufio.NewReader(conn)
	say := func(s string) { _, _ = io.WriteString(conn, s+"\r\n") }
	say("220 store LMTP")
	var to []string
	for {
		line, err := br.ReadString('\n')
		if err != nil {
			return
		}
		switch verb := strings.ToUpper(line[:4]); verb {
		case "LHLO":
			say("250-store\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES")
		case "RCPT":
			local, _, _ := strings.Cut(line[strings.IndexByte(line, '<')+1:], "@")
			if strings.HasPrefix(local, "no") {
				say("450 4.2.1 not now")
				continue
			}
			to = append(to, local)
			say("250 2.1.5 ok")
		case "DATA":
			say("354 go")
			for line != ".\r\n" {
				if line, err = br.ReadString('\n'); err != nil {
					return
				}
			}
			for _, local := range to {
				switch local {
				case "full":
					say("552 5.2.2 full")
				case "later":
					say("451 4.2.0 later")
				case "lost":
					return
				default:
					say("250 2.0.0 " + local)
				}
			}
			to = nil
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// TestLMTPOverSocket: a mailbox server at a Unix socket answers for each
// recipient; it is the end of the way, so nothing is relayed.
func TestLMTPOverSocket(t *testing.T) {
	inWorld(t, func(w *world) {
		w.opt.Dial = func(_ context.Context, network string, local netip.Addr, remote string) (net.Conn, error) {
			if network != "unix" || remote != "/run/lmtp" || local.IsValid() {
				t.Errorf("%s %s from %v", network, remote, local)
			}
			client, server := mtatest.Pipe(&net.UnixAddr{}, &net.UnixAddr{})
			go lmtpStore(server)
			return client, nil
		}
		w.route.Router, w.route.Protocol, w.route.TLS = "unix:/run/lmtp", mta.LMTP, mta.TLSOpportunistic
		w.route.Hosts = []mta.Host{{Name: "unix:/run/lmtp", Socket: "/run/lmtp"}}
		w.route.Sources = []mta.Source{{IP: netip.MustParseAddr("203.0.113.9"), Hostname: "out.example.org"}}
		a := w.deliver(w.mail("a@example.net", "full@example.net", "later@example.net"), w.mail("b@example.net"), w.mail("c@example.net", "lost@example.net", "d@example.net"))
		w.want(a[0], "delivered 2.0.0, permanent recipient 5.2.2, temporary recipient 4.2.0 @unix:/run/lmtp; unix:/run/lmtp final")
		w.want(a[1], "delivered 2.0.0 @unix:/run/lmtp reused")
		if a[0].Results[0].Relayed || a[0].Results[0].Reply.Text != "a" || a[0].IP.IsValid() || a[0].Helo != "out.example.org" {
			w.Errorf("%+v", a[0])
		}
		if a[2].Results[0].Class != mta.ClassDelivered || a[2].Results[1].Class != mta.ClassUncertain || a[2].Results[2].Class != mta.ClassUncertain {
			w.Errorf("%s", told(a[2]))
		}
	})
}

// TestSourceNotHere: an address that cannot be bound is the source's trouble; a
// machine out of ports is not.
func TestSourceNotHere(t *testing.T) {
	for call, want := range map[string]string{"bind": "source", "connect": ""} {
		t.Run(call, func(t *testing.T) {
			inWorld(t, func(w *world) {
				stuck := ""
				w.opt.Stuck = func(_ mta.Source, f *mta.Failure) { stuck = f.Cause.String() }
				w.opt.Dial = func(context.Context, string, netip.Addr, string) (net.Conn, error) {
					return nil, &net.OpError{Op: "dial", Err: os.NewSyscallError(call, syscall.EADDRNOTAVAIL)}
				}
				w.route.Sources = []mta.Source{{IP: netip.MustParseAddr("203.0.113.9"), Hostname: "out.example.org"}}
				w.serve("mx1", nil, "192.0.2.1")
				a := w.deliver(w.mail("b@example.net"))[0]
				if a.Results[0].Class != mta.ClassTemporary || a.Results[0].Scope != mta.ScopeLocal || stuck != want || (a.SourceTrouble != "") != (want != "") {
					w.Errorf("%s, stuck %q, trouble %q", told(a), stuck, a.SourceTrouble)
				}
			})
		})
	}
}

// TestOneAfterAnother: a mailbox server that takes one recipient a message, and
// asks for the message of one whom it refused, whose session has to end then: the
// others are asked for all the same.
func TestOneAfterAnother(t *testing.T) {
	inWorld(t, func(w *world) {
		w.route.Protocol, w.route.Router, w.route.TLS = mta.LMTP, "store", mta.TLSNone
		w.route.Limits = mta.Limits{RecipientsPerMessage: 1}
		w.serve("store", lmtpStore, "192.0.2.1")
		w.want(w.deliver(w.mail("no@example.net", "a@example.net", "no2@example.net", "b@example.net"))[0],
			"temporary recipient 4.2.1, delivered 2.0.0, temporary recipient 4.2.1, delivered 2.0.0 @store; store rcpt; store final; store rcpt; store final")
	})
}
