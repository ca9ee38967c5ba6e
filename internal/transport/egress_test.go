package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

const proxyAt = "10.0.0.5:1080"

// proxy puts a proxy into the world and gives the route a source behind it.
func (w *world) proxy(e mta.Egress, h func(net.Conn)) {
	w.net.Handle(netip.MustParseAddrPort(proxyAt), h)
	if e.Address == "" {
		e.Address = proxyAt
	}
	w.route.Sources = []mta.Source{{IP: netip.MustParseAddr("203.0.113.9"), Hostname: "far.example.org", Egress: &e}}
}

// socksTo is a SOCKS 5 proxy that wants user and password, if any, and passes
// connections on.
func (w *world) socksTo(user, password string) func(net.Conn) {
	return func(conn net.Conn) {
		defer conn.Close()
		if !socksHello(conn, user, password) {
			return
		}
		head := make([]byte, 4)
		if _, err := io.ReadFull(conn, head); err != nil {
			return
		}
		size := 4
		if head[3] == socksIPv6 {
			size = 16
		}
		to := make([]byte, size+2)
		if _, err := io.ReadFull(conn, to); err != nil {
			return
		}
		ip, _ := netip.AddrFromSlice(to[:size])
		out, err := w.net.DialFrom(context.Background(), "tcp", netip.Addr{}, netip.AddrPortFrom(ip, binary.BigEndian.Uint16(to[size:])).String())
		if err != nil {
			_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
			return
		}
		defer out.Close()
		// The answer in pieces, with a name for the address.
		for _, b := range append([]byte{5, 0, 0, 3, 2, 'p', 'x'}, 0, 0) {
			_, _ = conn.Write([]byte{b})
		}
		done := make(chan struct{})
		go func() { _, _ = io.Copy(out, conn); out.Close(); close(done) }()
		_, _ = io.Copy(conn, out)
		conn.Close()
		<-done
	}
}

// socksHello plays the greeting and the signing in.
func socksHello(conn net.Conn, user, password string) bool {
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		return false
	}
	methods := make([]byte, head[1])
	if _, err := io.ReadFull(conn, methods); err != nil {
		return false
	}
	if user == "" {
		_, err := conn.Write([]byte{5, 0})
		return err == nil
	}
	if !strings.Contains(string(methods), "\x02") {
		_, _ = conn.Write([]byte{5, 0xff})
		return false
	}
	want := "\x01" + string(rune(len(user))) + user + string(rune(len(password))) + password
	got := make([]byte, len(want))
	if _, err := conn.Write([]byte{5, 2}); err != nil {
		return false
	}
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		_, _ = conn.Write([]byte{1, 1})
		return false
	}
	_, err := conn.Write([]byte{1, 0})
	return err == nil
}

// TestSOCKS5: mail goes out by the proxy, to IPv4 and IPv6, with and without
// signing in; the record names the proxy's address.
func TestSOCKS5(t *testing.T) {
	for name, c := range map[string]struct{ user, password, to, from string }{
		"IPv4":       {"", "", "192.0.2.1", "203.0.113.9"},
		"IPv6":       {"", "", "2001:db8::1", "2001:db8:9::9"},
		"signing in": {"mailout", "secret", "192.0.2.1", "203.0.113.9"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.proxy(mta.Egress{Username: c.user, Password: c.password}, w.socksTo(c.user, c.password))
				w.route.Sources[0].IP = netip.MustParseAddr(c.from)
				w.host("mx1", mtatest.MXConfig{}, c.to)
				a := w.deliver(w.mail("b@example.net"), w.mail("c@example.net"))
				w.want(a[0], "delivered 2.0.0 @mx1")
				w.want(a[1], "delivered 2.0.0 @mx1 reused")
				if a[0].Source.String() != c.from || a[0].Helo != "far.example.org" || a[0].SourceTrouble != "" {
					w.Errorf("%+v", a[0])
				}
				w.received("mx1", 2)
			})
		})
	}
}

// TestSOCKS5Trouble: what is the proxy's is the source's trouble, and nothing
// bounces; what it says of the host is the host's. Hostile answers end in time.
func TestSOCKS5Trouble(t *testing.T) {
	says := func(s string) func(net.Conn) {
		return func(conn net.Conn) {
			buf := make([]byte, 64)
			_, _ = conn.Read(buf)
			_, _ = io.WriteString(conn, s)
			_, _ = io.Copy(io.Discard, conn)
		}
	}
	// asked answers the greeting, and the request with s.
	asked := func(s string, close bool) func(net.Conn) {
		return func(conn net.Conn) {
			defer conn.Close()
			if socksHello(conn, "", "") {
				buf := make([]byte, 10)
				_, _ = io.ReadFull(conn, buf)
				_, _ = io.WriteString(conn, s)
				if !close {
					_, _ = io.Copy(io.Discard, conn)
				}
			}
		}
	}
	for name, c := range map[string]struct {
		e     mta.Egress
		h     func(net.Conn)
		scope string // "local": the source's trouble
		text  string
		// served: the proxy takes us, but not to this host; the source is not looked
		// at for it, and other hosts' mail goes on.
		served bool
	}{
		"not there":              {h: nil, scope: "local", text: "refused"},
		"closes at once":         {h: func(c net.Conn) { c.Close() }, scope: "local", text: "closed"},
		"says nothing":           {h: func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, scope: "local", text: "no answer in time"},
		"speaks HTTP":            {h: says("HTTP/1.1 400 Bad Request\r\n\r\n"), scope: "local", text: "it does not speak SOCKS 5"},
		"wants us to sign in":    {h: says("\x05\xff"), scope: "local", text: "wants us to sign in"},
		"picks what we have not": {h: says("\x05\x01"), scope: "local", text: "no way of signing in"},
		"half a greeting":        {h: says("\x05"), scope: "local", text: "no answer in time"},
		"wrong password":         {e: mta.Egress{Username: "u", Password: "x"}, h: func(conn net.Conn) { defer conn.Close(); socksHello(conn, "u", "y") }, scope: "local", text: "refused our user name or password"},
		"forbidden":              {h: asked("\x05\x02\x00\x01\x00\x00\x00\x00\x00\x00", false), scope: "local", text: "rules forbid", served: true},
		"failed":                 {h: asked("\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00", false), scope: "local", text: "the proxy failed", served: true},
		"unheard answer":         {h: asked("\x05\x63\x00\x01\x00\x00\x00\x00\x00\x00", false), scope: "local", text: "it answered 99", served: true},
		"unheard address":        {h: asked("\x05\x00\x00\x09\x00\x00\x00\x00\x00\x00", false), scope: "local", text: "broke the protocol", served: true},
		"another version":        {h: asked("\x04\x00\x00\x01\x00\x00\x00\x00\x00\x00", false), scope: "local", text: "broke the protocol", served: true},
		"gone after the request": {h: asked("", true), scope: "local", text: "closed", served: true},
		"gone amid its answer":   {h: asked("\x05\x00\x00\x03\xffabc", true), scope: "local", text: "closed", served: true},
		"host refuses":           {h: asked("\x05\x05\x00\x01\x00\x00\x00\x00\x00\x00", false), scope: "host", text: "connection refused"},
		"host unreachable":       {h: asked("\x05\x04\x00\x01\x00\x00\x00\x00\x00\x00", false), scope: "host", text: "host unreachable"},
		"host does not answer":   {h: asked("", false), scope: "host", text: "no answer in time"},
		"half an answer":         {h: asked("\x05\x00\x00\x03\xffabc", false), scope: "host", text: "no answer in time"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var stuck []string
				w.opt.Stuck = func(s mta.Source, f *mta.Failure) { stuck = append(stuck, s.IP.String()+" "+f.Cause.String()) }
				w.proxy(c.e, c.h)
				w.serve("mx1", nil, "192.0.2.1")
				start := time.Now()
				a := w.deliver(w.mail("b@example.net"))[0]
				r := a.Results[0]
				if r.Class != mta.ClassTemporary || r.Scope.String() != c.scope || !strings.Contains(r.Reason, c.text) {
					w.Errorf("%s: %s", r.Scope, r.Reason)
				}
				if ours := c.scope == "local"; ours != (a.SourceTrouble != "") || (ours && !c.served) != (len(stuck) == 1) {
					w.Errorf("source trouble %q, stuck %q", a.SourceTrouble, stuck)
				}
				if took := time.Since(start); took > DefaultConnectTimeout {
					w.Errorf("took %v", took)
				}
			})
		})
	}
}

// TestProxyProtocol: the header names the two ends, octet by octet; the session
// follows.
func TestProxyProtocol(t *testing.T) {
	for name, c := range map[string]struct{ from, to, ends string }{
		"IPv4": {"203.0.113.9", "192.0.2.1", "\x21\x11\x00\x0c\xcb\x00\x71\x09\xc0\x00\x02\x01PP\x00\x19"},
		"IPv6": {"2001:db8::9", "2001:db8::1", "\x21\x21\x00\x24\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x09\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01PP\x00\x19"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				m := mtatest.NewMX(mtatest.MXConfig{Hostname: "mx1"})
				w.mx["mx1"] = m
				want := "\r\n\r\n\x00\r\nQUIT\n" + c.ends
				w.proxy(mta.Egress{Kind: mta.EgressProxyProtocol}, func(conn net.Conn) {
					got := make([]byte, len(want))
					if _, err := io.ReadFull(conn, got); err != nil {
						w.Error(err)
					}
					port := conn.RemoteAddr().(*net.TCPAddr).Port
					if exact := strings.Replace(want, "PP", string(binary.BigEndian.AppendUint16(nil, uint16(port))), 1); string(got) != exact {
						w.Errorf("\n got %q\nwant %q", got, exact)
					}
					m.ServeConn(conn)
				})
				w.route.Sources[0].IP = netip.MustParseAddr(c.from)
				w.serve("mx1", nil, c.to)
				a := w.deliver(w.mail("b@example.net"))[0]
				w.want(a, "delivered 2.0.0 @mx1")
				if a.Source.String() != c.from {
					w.Errorf("from %s", a.Source)
				}
			})
		})
	}
}

// TestProxyByName: a proxy's name is looked up by who made the Carrier, and its
// addresses are tried in turn.
func TestProxyByName(t *testing.T) {
	inWorld(t, func(w *world) {
		w.proxy(mta.Egress{Address: "proxy.example:1080"}, w.socksTo("", ""))
		w.opt.Resolve = func(_ context.Context, host string) ([]netip.Addr, error) {
			if host != "proxy.example" {
				return nil, errors.New("unknown")
			}
			return []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.5")}, nil
		}
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		w.want(w.deliver(w.mail("b@example.net"))[0], "delivered 2.0.0 @mx1")
		other := *w.route
		other.Sources = []mta.Source{{IP: w.route.Sources[0].IP, Hostname: "x.example.org", Egress: &mta.Egress{Address: "gone.example:1"}}}
		a := w.carry(context.Background(), context.Background(), job{d: w.mail("c@example.net"), route: &other})[0]
		w.want(a, "temporary local 4.3.5 @mx1; mx1 connect")
	})
}

// TestAnotherEgressIsAnotherSession: sessions by one proxy carry nothing that is
// to go by another (trap 19).
func TestAnotherEgressIsAnotherSession(t *testing.T) {
	inWorld(t, func(w *world) {
		w.proxy(mta.Egress{}, w.socksTo("", ""))
		w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
		other := *w.route
		same := *w.route.Sources[0].Egress
		other.Sources = []mta.Source{w.route.Sources[0]}
		other.Sources[0].Egress = &same
		a := w.carry(context.Background(), context.Background(), job{d: w.mail("a@example.net")}, job{d: w.mail("b@example.net"), route: &other}, job{d: w.mail("c@example.net"), route: &other})
		if a[0].Reused || a[1].Reused || !a[2].Reused {
			w.Errorf("reused %t %t %t", a[0].Reused, a[1].Reused, a[2].Reused)
		}
	})
}
