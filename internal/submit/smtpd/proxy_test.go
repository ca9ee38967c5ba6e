package smtpd

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"mailout/internal/mtatest"
)

func TestProxyHeader(t *testing.T) {
	t.Parallel()
	v2 := func(command proxyproto.ProtocolVersionAndCommand, from string) string {
		h := &proxyproto.Header{Version: 2, Command: command, TransportProtocol: proxyproto.TCPv4,
			SourceAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)), DestinationAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:25"))}
		b, err := h.Format()
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, c := range []struct {
		header, peer string
		rcpt         int
	}{
		{"PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\r\n", "198.51.100.7", 250},
		{"PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\n", "203.0.113.9", 550},
		{"PROXY TCP6 2001:db8::7 2001:db8::1 5000 25\r\n", "2001:db8::7", 550},
		{"PROXY UNKNOWN\r\n", "invalid IP", 550},
		{v2(proxyproto.PROXY, "198.51.100.7:5000"), "198.51.100.7", 250},
		{v2(proxyproto.PROXY, "203.0.113.9:5000"), "203.0.113.9", 550},
		{v2(proxyproto.LOCAL, "198.51.100.7:5000"), "invalid IP", 550},
		{"PROXY TCP4 198.51.100.7\r\n", "", 0},
		{"PROXY TCP4 999.51.100.7 192.0.2.1 5000 25\r\n", "", 0},
		{"EHLO client.example\r\n", "", 0},
		{"PROXY " + strings.Repeat("x", 200), "", 0},
		{"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff", "", 0},
	} {
		t.Run(fmt.Sprintf("%.20q", c.header), func(t *testing.T) {
			a := &intake{}
			s, _ := startSecure(t, a, func(set *Settings) {
				set.Users = nil
				set.Trusted = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("127.0.0.0/8")}
				set.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
			})
			conn, err := net.Dial("tcp", s.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(conn, c.header+"EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n")
			if half, ok := conn.(*net.TCPConn); ok && c.peer == "" {
				half.CloseWrite()
			}
			if c.peer == "" {
				if out, _ := io.ReadAll(conn); len(out) > 0 {
					t.Errorf("%q", out)
				}
				return
			}
			client, err := mtatest.NewClient(conn)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []int{250, 250, c.rcpt} {
				if r, err := client.Read(); err != nil || r.Code != want {
					t.Fatalf("%v %v, want %d", r, err, want)
				}
			}
			if c.rcpt != 250 {
				return
			}
			client.Read()
			client.Write([]byte("x\r\n.\r\n"))
			client.Read()
			if m := a.taken(); len(m) != 1 || m[0].request.Origin.Peer.String() != c.peer {
				t.Errorf("%+v", m)
			}
		})
	}
}

// TestProxyPeerLimit: connections are counted by their client.
func TestProxyPeerLimit(t *testing.T) {
	t.Parallel()
	s, _ := startSecure(t, &intake{}, func(set *Settings) {
		set.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		set.Limits.PeerConnections = 2
	})
	for i, want := range []int{220, 220, 421, 220} {
		from := "203.0.113.9"
		if i == 3 {
			from = "203.0.113.10"
		}
		conn, err := net.Dial("tcp", s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(30 * time.Second))
		fmt.Fprintf(conn, "PROXY TCP4 %s 192.0.2.1 5000 25\r\n", from)
		var code int
		if _, err := fmt.Fscanf(conn, "%d", &code); err != nil || code != want {
			t.Errorf("connection %d: %d %v, want %d", i, code, err, want)
		}
	}
}

// TestOpenssl: s_client, which shares nothing with our TLS.
