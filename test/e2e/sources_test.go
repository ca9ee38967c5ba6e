package e2e

import (
	"bufio"
	octets "encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"mailout/internal/mtatest"
)

// TestPool: sources share the mail by weight; the same sender and recipient come
// from the same one; a source that is not on this machine is left out and told.
func TestPool(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "far.example")
	d := w.daemon(`
[[source]]
ip = "127.0.0.51"
weight = 6
[[source]]
ip = "127.0.0.52"
weight = 3
[[source]]
ip = "127.0.0.53"
[[source]]
ip = "192.0.2.99"
weight = 100
[[pool]]
name = "bulk"
sources = ["127.0.0.53", "192.0.2.99"]
[[route]]
senders = ["news@sender.example"]
pool = "bulk"
`).start()
	d.submitMany("far.example", 0, 100)
	mtatest.Eventually(t, 60*time.Second, "100 messages", func() bool { return len(mx.Messages()) >= 100 })
	got := fromSources(t, mx)
	if len(got) != 3 || got["127.0.0.51"] <= got["127.0.0.52"] || got["127.0.0.52"] <= got["127.0.0.53"] {
		t.Errorf("the shares are %v", got)
	}
	for i := range 10 {
		d.submit("app@sender.example", []string{"ann@far.example"}, "Subject: x\r\n\r\nx\r\n")
		d.submit("news@sender.example", []string{fmt.Sprintf("u%d@far.example", i)}, "Subject: x\r\n\r\nx\r\n")
	}
	mtatest.Eventually(t, 60*time.Second, "20 more", func() bool { return len(mx.Messages()) >= 120 })
	from := map[string]map[string]int{}
	for _, m := range mx.Messages()[100:] {
		host, _, _ := net.SplitHostPort(m.Remote.String())
		if from[m.From] == nil {
			from[m.From] = map[string]int{}
		}
		from[m.From][host]++
	}
	if len(from["app@sender.example"]) != 1 || from["news@sender.example"]["127.0.0.53"] != 10 {
		t.Errorf("%v", from)
	}

	const why = "it is not an address of this machine"
	if log := d.log(); strings.Count(log, "a source is left out") != 1 || !strings.Contains(log, why) {
		t.Errorf("the log says\n%s", log)
	}
	metrics := d.socket("GET", "/metrics")
	for _, series := range []string{`mailout_source_up{source="192.0.2.99"} 0`, `mailout_source_up{source="127.0.0.51"} 1`} {
		if !strings.Contains(metrics, series) {
			t.Errorf("no %s", series)
		}
	}
	if out := d.must("explain", "x@far.example", "--json"); !strings.Contains(out, `{"addresses":["192.0.2.99"],"helo":"mailout.sender.example","weight":0,"left_out":"`+why) ||
		!strings.Contains(out, `"pool":"default"`) || !strings.Contains(out, `"weight":6}`) {
		t.Errorf("explain: %s", out)
	}
	if out := d.must("explain", "x@far.example", "--sender", "news@sender.example"); !strings.Contains(out, "pool bulk") {
		t.Errorf("explain: %s", out)
	}
	out, _, _ := d.run("doctor", "--offline", "--only", "source", "--json")
	if !strings.Contains(out, `"id":"source","subject":"192.0.2.99","status":"fail"`) || !strings.Contains(out, `"id":"source","subject":"127.0.0.51","status":"pass"`) {
		t.Errorf("doctor: %s", out)
	}
}

// socksServer is a SOCKS 5 proxy on loopback with a user, until it is closed.
type socksServer struct {
	net.Listener
	mu sync.Mutex
	n  int // connections passed on
}

func newSOCKS(t *testing.T, at string) *socksServer {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	s := &socksServer{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go s.serve(conn)
		}
	}()
	return s
}

func (s *socksServer) serve(conn net.Conn) {
	defer conn.Close()
	read := func(n int) []byte {
		b := make([]byte, n)
		if _, err := io.ReadFull(conn, b); err != nil {
			return make([]byte, n)
		}
		return b
	}
	read(int(read(2)[1]))
	_, _ = conn.Write([]byte{5, 2})
	read(int(read(2)[1]))
	if string(read(int(read(1)[0]))) != "secret" {
		_, _ = conn.Write([]byte{1, 1})
		return
	}
	_, _ = conn.Write([]byte{1, 0})
	request := read(10)
	ip, _ := netip.AddrFromSlice(request[4:8])
	out, err := net.Dial("tcp", netip.AddrPortFrom(ip, octets.BigEndian.Uint16(request[8:])).String())
	if err != nil {
		_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	defer out.Close()
	s.mu.Lock()
	s.n++
	s.mu.Unlock()
	_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	go func() { _, _ = io.Copy(out, conn); out.Close() }()
	_, _ = io.Copy(conn, out)
}

// TestSOCKS5: a source whose address is a proxy's goes out by it. Without the
// proxy its mail goes from another source at once, and comes back to it.
func TestSOCKS5(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "far.example")
	at := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	proxy := newSOCKS(t, at)
	d := w.daemon(fmt.Sprintf(`
[[source]]
ip = "203.0.113.9"
hostname = "far.sender.example"
socks5 = %q
username = "mailout"
password = "secret"
weight = 1000
[[source]]
ip = "127.0.0.54"
`, at)).start()
	const text = "Subject: x\r\n\r\nx\r\n"
	id := d.submit("app@sender.example", []string{"ann@far.example"}, text)
	delivered := d.waitEvent(id, "delivered")
	last := delivered[len(delivered)-1]
	if last["source"] != "203.0.113.9" || last["helo"] != "far.sender.example" || proxy.n == 0 || mx.Messages()[0].Helo != "far.sender.example" {
		t.Errorf("%+v", last)
	}

	proxy.Close()
	d.stop() // the session by the proxy ends too
	d.start()
	began := time.Now()
	id = d.submit("app@sender.example", []string{"ann@far.example"}, text)
	delivered = d.waitEvent(id, "delivered")
	if last = delivered[len(delivered)-1]; last["source"] != "127.0.0.54" {
		t.Errorf("after %v: %+v", time.Since(began), delivered)
	}
	for _, r := range delivered {
		if r["event"] == "deferred" && !strings.Contains(r.text("reason"), "another route is tried at once") {
			t.Errorf("mail that another source took was put off: %+v", r)
		}
	}
	mtatest.Eventually(t, 30*time.Second, "the proxy is missed", func() bool {
		return strings.Contains(d.socket("GET", "/metrics"), `mailout_source_up{source="203.0.113.9"} 0`)
	})

	newSOCKS(t, at)
	mtatest.Eventually(t, 60*time.Second, "the proxy is found again", func() bool {
		return strings.Contains(d.socket("GET", "/metrics"), `mailout_source_up{source="203.0.113.9"} 1`)
	})
	mtatest.Eventually(t, 150*time.Second, "mail goes by the proxy again", func() bool {
		id := d.submit("app@sender.example", []string{"ann@far.example"}, text)
		list := d.waitEvent(id, "delivered")
		return list[len(list)-1]["source"] == "203.0.113.9"
	})
}

// TestProxyProtocolOut: a proxy is told the two ends by a header that others'
// code reads.
func TestProxyProtocolOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "far.example")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan string, 10)
	proxy := &proxyproto.Listener{Listener: l, ConnPolicy: func(proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) { return proxyproto.REQUIRE, nil }}
	t.Cleanup(func() { proxy.Close() })
	go func() {
		for {
			conn, err := proxy.Accept()
			if err != nil {
				return
			}
			from, to := conn.RemoteAddr().String(), conn.LocalAddr().String() // reads the header
			host, _, _ := net.SplitHostPort(from)
			if to == l.Addr().String() { // no header: somebody only looked whether we are there
				conn.Close()
				continue
			}
			told <- host + " to " + to
			go mx.ServeConn(conn)
		}
	}()
	d := w.daemon(fmt.Sprintf("\n[[source]]\nip = \"203.0.113.10\"\nproxy_protocol = %q\n", l.Addr())).start()
	id := d.submit("app@sender.example", []string{"ann@far.example"}, "Subject: x\r\n\r\nx\r\n")
	list := d.waitEvent(id, "delivered")
	if last := list[len(list)-1]; last["source"] != "203.0.113.10" {
		t.Errorf("%+v", last)
	}
	if got, want := <-told, fmt.Sprintf("203.0.113.10 to 127.0.2.2:%d", w.port); got != want {
		t.Errorf("the proxy was told %s, want %s", got, want)
	}
}

// TestRouterOfSeveralHosts: a dead host is passed over; the router's own EHLO
// name and port hold; without any host left mail waits.
func TestRouterOfSeveralHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "router.example")
	dead := freePort(t)
	d := w.daemon(fmt.Sprintf(`
[router]
hosts = ["127.0.0.1:%d|nowhere.example", "mx:router.example"]
port = %d
helo = "customer17.sender.example"
connections = 2
rate = "600/m"
`, dead, w.port)).start()
	id := d.submit("app@sender.example", []string{"ann@anywhere.example"}, "Subject: x\r\n\r\nx\r\n")
	list := d.waitEvent(id, "relayed")
	if last := list[len(list)-1]; last["helo"] != "customer17.sender.example" || !strings.Contains(last["site"].(string), "mx:router.example") {
		t.Errorf("%+v", last)
	}
	if m := mx.Messages(); len(m) != 1 || m[0].Helo != "customer17.sender.example" {
		t.Errorf("%+v", m)
	}
	out := d.must("explain", "x@anywhere.example")
	for _, want := range []string{fmt.Sprintf("127.0.0.1:%d|nowhere.example, mx:router.example", dead), "nowhere.example: no such domain", "messages in a minute", "as customer17.sender.example"} {
		if !strings.Contains(out, want) {
			t.Errorf("explain does not say %q:\n%s", want, out)
		}
	}
	mx.Stop()
	id = d.submit("app@sender.example", []string{"bob@anywhere.example"}, "Subject: x\r\n\r\nx\r\n")
	d.waitEvent(id, "deferred")
}

// mailboxes is an LMTP server on a Unix socket that refuses some recipients
// after the content.
func mailboxes(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go mailboxSession(conn)
		}
	}()
}

func mailboxSession(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewScanner(conn)
	say := func(s string) { _, _ = io.WriteString(conn, s+"\r\n") }
	say("220 store LMTP")
	var to []string
	for in.Scan() {
		switch line := in.Text(); strings.ToUpper(line[:4]) {
		case "LHLO":
			say("250-store\r\n250-PIPELINING\r\n250 ENHANCEDSTATUSCODES")
		case "RCPT":
			to = append(to, line)
			say("250 2.1.5 ok")
		case "DATA":
			say("354 go")
			for in.Scan() && in.Text() != "." {
			}
			for _, rcpt := range to {
				switch {
				case strings.Contains(rcpt, "full@"):
					say("552 5.2.2 full")
				case strings.Contains(rcpt, "later@"):
					say("451 4.2.0 later")
				default:
					say("250 2.0.0 kept")
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

// TestLMTP: mail for a domain of our own mailboxes goes to a socket, and each
// recipient has the fate that the server gave it.
func TestLMTP(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.daemon("")
	socket := filepath.Join(d.dir, "lmtp")
	d.replace("retry = [\"1s\"]\n", fmt.Sprintf("retry = [\"1s\"]\n\n[[route]]\ndomains = [\"boxes.example\"]\nhost = \"unix:%s\"\nprotocol = \"lmtp\"\n", socket))
	mailboxes(t, socket)
	d.start()
	id := d.submit("app@sender.example", []string{"ann@boxes.example", "full@boxes.example", "later@boxes.example"}, "Subject: x\r\n\r\nx\r\n")
	d.waitEvent(id, "failed")
	d.waitEvent(id, "deferred")
	fates := map[string]string{}
	for _, r := range d.waitEvent(id, "delivered") {
		if event := r["event"]; event != "accepted" && event != "bounced" {
			fates[r["recipient"].(string)] = r["event"].(string)
		}
	}
	if fates["ann@boxes.example"] != "delivered" || fates["full@boxes.example"] != "failed" || fates["later@boxes.example"] != "deferred" {
		t.Errorf("%v", fates)
	}
	if out := d.must("explain", "ann@boxes.example", "--probe"); !strings.Contains(out, "LHLO") || !strings.Contains(out, "unix:"+socket) {
		t.Errorf("explain: %s", out)
	}
}
