package mtatest

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

const zone = `
fine.example.   MX 10 mx.fine.example.
fine.example.   MX 20 mx2.fine.example.
mx.fine.example. 300 A 127.0.0.2
mx.fine.example.     AAAA ::1
alias.example.  CNAME fine.example.
*.many.example. MX 5 mx.fine.example.
known.many.example. TXT "v=spf1 -all"
a.deep.example. A 127.0.0.3
zoned.example.  SOA ns.zoned.example. host.zoned.example. 1 2 3 4 5
2.0.0.127.in-addr.arpa. PTR mx.fine.example.
nullmx.example. MX 0 .
`

func newZone(t *testing.T) *DNS {
	t.Helper()
	d := NewDNS()
	t.Cleanup(d.Stop)
	if err := d.Add(zone); err != nil {
		t.Fatal(err)
	}
	return d
}

// shown gives an answer on one line: "NOERROR a; b".
func shown(m *dns.Msg) string {
	var parts []string
	for _, rr := range m.Answer {
		parts = append(parts, strings.ReplaceAll(strings.TrimPrefix(rr.String(), rr.Header().Name), "\t", " "))
	}
	return dns.RcodeToString[m.Rcode] + strings.Join(parts, ";")
}

func TestDNSAnswers(t *testing.T) {
	t.Parallel()
	d := newZone(t)
	for _, c := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"fine.example.", dns.TypeMX, "NOERROR 60 IN MX 10 mx.fine.example.; 60 IN MX 20 mx2.fine.example."},
		{"FINE.example.", dns.TypeMX, "NOERROR 60 IN MX 10 mx.fine.example.; 60 IN MX 20 mx2.fine.example."},
		{"mx.fine.example.", dns.TypeA, "NOERROR 300 IN A 127.0.0.2"},
		{"mx.fine.example.", dns.TypeAAAA, "NOERROR 60 IN AAAA ::1"},
		{"mx.fine.example.", dns.TypeTXT, "NOERROR"},
		{"none.example.", dns.TypeMX, "NXDOMAIN"},
		{"deep.example.", dns.TypeA, "NOERROR"},
		{"alias.example.", dns.TypeMX, "NOERROR 60 IN CNAME fine.example.; 60 IN MX 10 mx.fine.example.; 60 IN MX 20 mx2.fine.example."},
		{"d1.many.example.", dns.TypeMX, "NOERROR 60 IN MX 5 mx.fine.example."},
		{"x.d1.many.example.", dns.TypeMX, "NOERROR 60 IN MX 5 mx.fine.example."},
		{"known.many.example.", dns.TypeMX, "NOERROR"},
		{"x.known.many.example.", dns.TypeMX, "NXDOMAIN"},
		{"2.0.0.127.in-addr.arpa.", dns.TypePTR, "NOERROR 60 IN PTR mx.fine.example."},
		{"nullmx.example.", dns.TypeMX, "NOERROR 60 IN MX 0 ."},
	} {
		m := d.answer(new(dns.Msg).SetQuestion(c.name, c.qtype), "udp")
		if got := shown(m); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.name, dns.TypeToString[c.qtype], got, c.want)
		}
		if len(m.Answer) > 0 && m.Answer[0].Header().Name != dns.CanonicalName(c.name) {
			t.Errorf("%s: the answer is about %s", c.name, m.Answer[0].Header().Name)
		}
	}
	m := d.answer(new(dns.Msg).SetQuestion("x.zoned.example.", dns.TypeA), "udp")
	if len(m.Ns) != 1 || m.Ns[0].Header().Name != "zoned.example." {
		t.Errorf("the denial carries %v", m.Ns)
	}
}

func TestDNSChangesWhileRunning(t *testing.T) {
	t.Parallel()
	d := newZone(t)
	ask := func() string {
		return shown(d.answer(new(dns.Msg).SetQuestion("a.deep.example.", dns.TypeA), "udp"))
	}
	d.Remove("a.deep.example", dns.TypeA)
	if got := ask(); got != "NXDOMAIN" {
		t.Errorf("after Remove: %s", got)
	}
	if err := d.Add("a.deep.example. A 127.0.0.9\na.deep.example. AAAA ::9"); err != nil {
		t.Fatal(err)
	}
	d.Remove("a.deep.example", dns.TypeAAAA)
	if got := ask(); !strings.Contains(got, "127.0.0.9") {
		t.Errorf("after Add: %s", got)
	}
	if err := d.Add("broken MX"); err == nil {
		t.Error("a broken record is taken")
	}
}

func TestDNSScripts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newZone(t)
		defer d.Stop()
		d.Secure("fine.example")
		d.Script("*", dns.TypeTXT, Script{Rcode: dns.RcodeRefused})
		d.Script("fine.example", dns.TypeMX, Script{Rcode: dns.RcodeServerFailure, Times: 1})
		d.Script("mx.fine.example", dns.TypeA, Script{Truncate: true})
		d.Script("mx.fine.example", dns.TypeAAAA, Script{Silent: true})
		d.Script("deep.example", 0, Script{Delay: 3 * time.Second})
		ask := func(network, name string, qtype uint16) (*dns.Msg, error) {
			conn, err := d.DialContext(context.Background(), network, "192.0.2.53:53")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			q := new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, true)
			co := &dns.Conn{Conn: conn, UDPSize: 1232}
			if err := co.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			if err := co.WriteMsg(q); err != nil {
				return nil, err
			}
			return co.ReadMsg()
		}
		for _, c := range []struct {
			network, name string
			qtype         uint16
			want          string
			secure, cut   bool
		}{
			{"udp", "fine.example.", dns.TypeTXT, "REFUSED", true, false},
			{"udp", "fine.example.", dns.TypeMX, "SERVFAIL", false, false},
			{"udp", "fine.example.", dns.TypeMX, "NOERROR 60 IN MX 10 mx.fine.example.; 60 IN MX 20 mx2.fine.example.", true, false},
			{"udp", "mx.fine.example.", dns.TypeA, "NOERROR", true, true},
			{"tcp", "mx.fine.example.", dns.TypeA, "NOERROR 300 IN A 127.0.0.2", true, false},
			{"udp", "a.deep.example.", dns.TypeA, "NOERROR 60 IN A 127.0.0.3", false, false},
		} {
			m, err := ask(c.network, c.name, c.qtype)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if got := shown(m); got != c.want || m.AuthenticatedData != c.secure || m.Truncated != c.cut {
				t.Errorf("%s %s: %q secure %v cut %v, want %+v", c.network, c.name, got, m.AuthenticatedData, m.Truncated, c)
			}
		}
		if _, err := ask("udp", "mx.fine.example.", dns.TypeAAAA); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("silence: %v", err)
		}
		begun := time.Now()
		if _, err := ask("udp", "deep.example.", dns.TypeA); err != nil || time.Since(begun) != 3*time.Second {
			t.Errorf("delay: %v after %v", err, time.Since(begun))
		}
		if n := d.Count("fine.example", "MX"); n != 2 {
			t.Errorf("%d questions for fine.example MX", n)
		}
		if q := d.Queries()[3]; q.Name != "mx.fine.example" || !q.DO || q.Rcode != "NOERROR" || q.Network != "udp" {
			t.Errorf("record %+v", q)
		}
	})
}

func TestDNSTruncatesWhatDoesNotFit(t *testing.T) {
	t.Parallel()
	d := newZone(t)
	for range 40 {
		if err := d.Add("big.example. TXT \"" + strings.Repeat("x", 200) + "\""); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	for network, whole := range map[string]bool{"udp": false, "tcp": true} {
		c := dns.Client{Net: network}
		m, _, err := c.Exchange(new(dns.Msg).SetQuestion("big.example.", dns.TypeTXT), d.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if m.Truncated == whole || (len(m.Answer) == 40) != whole {
			t.Errorf("%s: %d records, truncated %v", network, len(m.Answer), m.Truncated)
		}
	}
}

func TestNet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n Net
		defer n.Close()
		m := NewMX(MXConfig{})
		defer m.Stop()
		open, closed, silent := netip.MustParseAddrPort("192.0.2.1:25"), "192.0.2.2:25", netip.MustParseAddrPort("192.0.2.3:25")
		n.Handle(open, m.ServeConn)
		n.Silence(silent, true)
		conn, err := n.DialFrom(t.Context(), "tcp", netip.MustParseAddr("192.0.2.99"), open.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewClient(conn); err != nil {
			t.Fatal(err)
		}
		if got := conn.LocalAddr().(*net.TCPAddr).IP.String(); got != "192.0.2.99" {
			t.Errorf("source %s", got)
		}
		if _, err := n.DialContext(t.Context(), "tcp", closed); err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("closed: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if _, err := n.DialContext(ctx, "tcp", silent.String()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("silent: %v", err)
		}
		var got []string
		for _, d := range n.Dials() {
			got = append(got, d.Address)
		}
		if want := []string{open.String(), closed, silent.String()}; !slices.Equal(got, want) {
			t.Errorf("dials %v", got)
		}
	})
}
