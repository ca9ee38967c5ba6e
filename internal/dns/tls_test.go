package dns

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"
)

// tlsServer answers over TLS as dns.example and 127.0.0.1, and counts its
// connections.
type tlsServer struct {
	net.Listener
	addr  netip.AddrPort
	roots *x509.CertPool
	conns atomic.Int64
	last  atomic.Pointer[net.Conn]
}

func (s *tlsServer) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err == nil {
		s.conns.Add(1)
		s.last.Store(&c)
	}
	return c, err
}

func newTLSServer(t *testing.T, h handler, names ...string) *tlsServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: names, IsCA: true, BasicConstraintsValid: true}
	if len(names) == 0 {
		template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &tlsServer{Listener: l, addr: l.Addr().(*net.TCPAddr).AddrPort(), roots: x509.NewCertPool()}
	s.roots.AddCert(cert)
	config := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server := &wire.Server{Listener: tls.NewListener(s, config), Handler: wire.HandlerFunc(func(w wire.ResponseWriter, q *wire.Msg) {
		if m, _ := h("tls", q); m != nil {
			w.WriteMsg(m)
		}
	})}
	go server.ActivateAndServe()
	t.Cleanup(func() { server.Shutdown() })
	return s
}

func TestServersOverTLS(t *testing.T) {
	t.Parallel()
	h := checking(marked, servfail)
	for _, c := range []struct {
		name, as string
		names    []string
		roots    bool
		want     bool
	}{
		{"its address", "", nil, true, true},
		{"its name", "dns.example", []string{"dns.example"}, true, true},
		{"another name", "dns.example", []string{"other.example"}, true, false},
		{"a name where the address is wanted", "", []string{"dns.example"}, true, false},
		{"an authority that nobody knows", "dns.example", []string{"dns.example"}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newTLSServer(t, h, c.names...)
			o := Options{DNSSEC: DNSSECTrust, BogusName: "bogus.test", Timeout: 5 * time.Second}
			o.Use([]Server{{AddrPort: s.addr, TLS: true, Name: c.as}})
			if o.RootCAs = s.roots; !c.roots {
				o.RootCAs = x509.NewCertPool()
			}
			r := New(o)
			defer r.Close()
			mx, err := r.MX(t.Context(), "x.test")
			if c.want != (err == nil) || mx.Secure != c.want {
				t.Fatalf("%v %v", mx, err)
			}
			if err != nil && AsError(err).Kind != Temporary {
				t.Error(err)
			}
		})
	}
}

// TestTLSConnectionsAreReused: one after the other over one connection; a
// connection that the server closed is replaced at once.
func TestTLSConnectionsAreReused(t *testing.T) {
	t.Parallel()
	s := newTLSServer(t, zone(true, "x.test. 60 IN MX 1 mx.test."), "dns.example")
	o := Options{RootCAs: s.roots}
	o.Use([]Server{{AddrPort: s.addr, TLS: true, Name: "dns.example"}})
	r := New(o)
	defer r.Close()
	for _, name := range []string{"x.test", "a.test", "b.test", "c.test"} {
		if _, err := r.MX(t.Context(), name); AsError(err) != nil && AsError(err).Temporary() {
			t.Fatal(err)
		}
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections for four questions", n)
	}
	(*s.last.Load()).Close()
	if _, err := r.MX(t.Context(), "d.test"); AsError(err).Kind != NXDomain {
		t.Errorf("after the server closed: %v", err)
	}
	if n := s.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
	p, err := Ask(t.Context(), nil, Probe{Server: s.addr, Name: "x.test", Type: wire.TypeMX, TLS: true, TLSName: "dns.example", RootCAs: s.roots})
	if err != nil || len(p.Msg.Answer) != 1 || !p.TCP {
		t.Errorf("probe: %v %v", p, err)
	}
}

// TestIdleTLSConnectionsAreBounded: no more than maxIdle are kept, and none
// after close.
func TestIdleTLSConnectionsAreBounded(t *testing.T) {
	t.Parallel()
	d := &secured{}
	var theirs []net.Conn
	put := func() {
		mine, other := net.Pipe()
		theirs = append(theirs, other)
		d.keep(mine)
	}
	for range maxIdle + 5 {
		put()
	}
	if n := len(d.mu.idle); n != maxIdle {
		t.Errorf("%d are kept", n)
	}
	d.close()
	put()
	for i, c := range theirs {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("connection %d is open", i)
		}
	}
	if d.take() != nil {
		t.Error("one is kept after close")
	}
}
