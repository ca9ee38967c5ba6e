package smtpd

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/account"
)

// authSeeds are what clients say to sign in, well and ill.
var authSeeds = []string{
	plainErp + "\r\n",
	"AUTH PLAIN\r\nAGVycABzZWNyZXQ=\r\nMAIL FROM:<erp@example.com>\r\n",
	"AUTH PLAIN AGVycAB3cm9uZw==\r\nAUTH PLAIN =\r\nAUTH PLAIN *\r\n",
	"AUTH LOGIN\r\nZXJw\r\nc2VjcmV0\r\n",
	"AUTH LOGIN ZXJw\r\nc2VjcmV0\r\nAUTH LOGIN\r\n",
	"AUTH LOGIN\r\n*\r\nAUTH LOGIN\r\n=\r\n\r\n",
	"AUTH SCRAM-SHA-256 biwsbj1lcnAscj1hYmM=\r\nYz1iaXdzLHI9YWJjLHA9\r\n",
	"AUTH SCRAM-SHA-256\r\n\r\nAUTH SCRAM-SHA-256-PLUS\r\n",
	"AUTH SCRAM-SHA-256\r\nbiwsbj1lcnAscj1hYmM=\r\n*\r\n",
	"AUTH\r\nAUTH \r\nAUTH PLAIN  \r\nAUTH PLAIN ====\r\nAUTH PLAIN AAA\r\nAUTH PLAIN A=BC\r\n",
	"AUTH PLAIN AGVycABzZWNyZXQ=\nAUTH plain AGVycABzZWNyZXQ\r\n",
	"AUTH PLAIN \xff\xfe\r\n\x00\r\nAUTH NTLM TlRMTVNTUAA=\r\n",
	"AUTH PLAIN ZXJwAGVycABzZWNyZXQ=\r\nMAIL FROM:<a@evil.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n",
	"AUTH PLAIN " + strings.Repeat("A", 600) + "\r\n", "AUTH PLAIN\r\n" + strings.Repeat("A", 600) + "\r\n",
	"AUTH LOGIN\r\nZXJw\r\n" + base64.StdEncoding.EncodeToString([]byte("secret\x00")) + "\r\n",
}

// FuzzAuth plays any octets behind EHLO to a server that takes passwords. None
// of them signs in without the password in it, none sends without signing in,
// and every reply is well-formed.
func FuzzAuth(f *testing.F) {
	for _, s := range authSeeds {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(255))
	}
	plain, keys := cheapHash(f, "secret"), "$scram-sha-256$i=4096$c2FsdHNhbHRzYWx0c2FsdA$"+strings.Repeat("A", 43)+"$"+strings.Repeat("A", 43)
	scramOnly, err := account.ParseVerifier(keys) // fits no password
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8) {
		for _, hash := range []account.Verifier{plain, scramOnly} {
			synctest.Test(t, func(t *testing.T) { playAuth(t, in, int(cut)+1, hash, hash.SCRAM()) })
		}
	})
}

func playAuth(t *testing.T, in []byte, cut int, hash account.Verifier, closed bool) {
	set := testSettings()
	set.Trusted, set.Auth, set.Limits.Line = nil, AuthAlways, 512
	set.Users = account.NewBook(nil)
	set.Users.Configure([]account.User{{Name: "erp", Password: hash, From: account.Senders{"*@example.com"}}})
	a := &intake{}
	s, l := start(t, set, a)
	p := l.dial(t, "192.0.2.1")
	p.send("EHLO x\r\n")
	for rest := in; len(rest) > 0; {
		n := min(cut, len(rest))
		if _, err := p.conn.Write(rest[:n]); err != nil {
			break // the server has ended the session
		}
		rest = rest[n:]
	}
	synctest.Wait()
	p.conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	var out strings.Builder
	for line := range p.lines {
		out.WriteString(line)
	}
	checkReplies(t, out.String())
	c := s.Counts()
	if c.Internal != 0 || c.Active != 0 || a.drafts != a.ended {
		t.Errorf("%+v, %d drafts, %d ended", c, a.drafts, a.ended)
	}
	if c.SignedIn > 0 && (closed || !tellsPassword(in)) {
		t.Errorf("%q signs in", in)
	}
	if c.SignedIn != int64(strings.Count(out.String(), "\r\n235 ")) {
		t.Errorf("%d sign-ins counted: %q", c.SignedIn, out.String())
	}
	for _, m := range a.messages {
		if m.request.User == nil || c.SignedIn == 0 || m.request.Envelope.Sender != "" && !strings.HasSuffix(strings.ToLower(m.request.Envelope.Sender), "@example.com") {
			t.Errorf("a stranger sends %s", describe(m))
		}
	}
}

// tellsPassword reports whether a word of the octets is base64 with the password.
func tellsPassword(in []byte) bool {
	for _, word := range bytes.FieldsFunc(in, func(r rune) bool { return r <= ' ' }) {
		if text, err := base64.StdEncoding.DecodeString(string(word)); err == nil && bytes.Contains(text, []byte("secret")) {
			return true
		}
	}
	return false
}

const v2Magic = "\r\n\r\n\x00\r\nQUIT\n"

// proxySeeds are headers of balancers, well and ill.
var proxySeeds = []string{
	"PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\r\n",
	"PROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\n",
	"PROXY TCP6 2001:db8::7 2001:db8::1 5000 25\r\n",
	"PROXY TCP6 ::ffff:198.51.100.7 ::ffff:192.0.2.1 5000 25\r\n",
	"PROXY TCP6 fe80::1%eth0 fe80::2%eth0 5000 25\r\n",
	"PROXY TCP4 198.51.100.007 192.0.2.1 05000 25\r\n",
	"PROXY TCP4 198.51.100.7 192.0.2.1 99999 25\r\n",
	"PROXY TCP4 198.51.100.7 192.0.2.1 -1 25\r\n",
	"PROXY TCP4  198.51.100.7 192.0.2.1 5000 25\r\n",
	"PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\n",
	"PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "PROXY\r\n", "PROXY ", "P",
	"PROXY TCP4 198.51.100.7 192.0.2.1 5000 25\r\nPROXY TCP4 203.0.113.9 192.0.2.1 5000 25\r\n",
	"PROXY UNKNOWN " + strings.Repeat("x", 200) + "\r\n",
	v2Magic + "\x21\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19",
	v2Magic + "\x20\x00\x00\x00",
	v2Magic + "\x20\x11\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19",
	v2Magic + "\x20\x11\x00\x03abc",
	v2Magic + "\x21\x12\x00\x0c\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19",
	v2Magic + "\x21\x21\x00\x24" + strings.Repeat("\x20\x01\x0d\xb8", 9),
	v2Magic + "\x21\x11\x00\x10\xc6\x33\x64\x07\xc0\x00\x02\x01\x13\x88\x00\x19\x04\x00\x01x",
	v2Magic + "\x21\x11\xff\xff", v2Magic + "\x21\x11\x00\x0b", v2Magic + "\x21\x31\x00\xd8" + strings.Repeat("/", 216), v2Magic + "\x31\x11\x00\x00", v2Magic,
	"EHLO x\r\n", "\x16\x03\x01\x02\x00\x01",
}

// FuzzProxyHeader plays any header to a door behind a balancer. A header either
// names the client by its very address, or names nobody, or ends the connection
// without a word; and what it names is all that makes a client trusted.
func FuzzProxyHeader(f *testing.F) {
	for _, s := range proxySeeds {
		f.Add([]byte(s), uint8(0))
		f.Add([]byte(s), uint8(255))
	}
	f.Fuzz(func(t *testing.T, header []byte, cut uint8) {
		synctest.Test(t, func(t *testing.T) { playHeader(t, header, int(cut)+1) })
	})
}

func playHeader(t *testing.T, header []byte, cut int) {
	set := testSettings()
	set.Trusted = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("127.0.0.0/8")}
	set.Proxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.7/32")}
	a := &intake{}
	s, l := start(t, set, a)
	p := l.dial(t, "10.0.0.7")
	in := append(bytes.Clone(header), "EHLO x\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n"...)
	for len(in) > 0 {
		n := min(cut, len(in))
		if _, err := p.conn.Write(in[:n]); err != nil {
			break
		}
		in = in[n:]
	}
	began := time.Now()
	p.wantEnd()
	if took := time.Since(began); took > max(headerTime, 5*time.Minute)+farewellTime {
		t.Errorf("the session ended after %v", took)
	}
	p.conn.Close()
	stopNow(t, s, a)
	if len(s.mu.perPeer) != 0 {
		t.Errorf("connections are counted on: %v", s.mu.perPeer)
	}
	for _, m := range a.messages {
		if peer := m.request.Origin.Peer; !set.within(peer) || !names(header, peer) {
			t.Errorf("%q makes %v a client", header, peer)
		}
	}
}

func (s Settings) within(a netip.Addr) bool { return within(s.Trusted, a) }

// names reports whether a header names a client, in the form of either version.
func names(header []byte, peer netip.Addr) bool {
	if line, ok := bytes.CutPrefix(header, []byte("PROXY TCP")); ok {
		fields := strings.Fields(string(line))
		if len(fields) < 2 {
			return false
		}
		a, err := netip.ParseAddr(fields[1])
		return err == nil && a.Unmap() == peer && (fields[0] == "4" || fields[0] == "6")
	}
	if !bytes.HasPrefix(header, []byte(v2Magic)) || len(header) < 28 || header[12] != 0x21 {
		return false
	}
	length := int(binary.BigEndian.Uint16(header[14:]))
	switch body := header[16:]; {
	case length > len(body)+200: // what is said behind the header is not part of it
		return false
	case header[13]>>4 == 1:
		return net.IP(body[:4]).Equal(peer.AsSlice())
	case header[13]>>4 == 2 && len(body) >= 16:
		return net.IP(body[:16]).Equal(peer.AsSlice())
	}
	return false
}

// wantEnd reads until the server has closed, within the time of a session.
func (p *peer) wantEnd() {
	p.t.Helper()
	limit := time.After(time.Hour)
	for {
		select {
		case _, ok := <-p.lines:
			if !ok {
				return
			}
		case <-limit:
			p.t.Fatal("the connection stays open")
		}
	}
}
