package tlspolicy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mtatest"
)

// world is an STS with a DNS, policy hosts and notes of its own, in memory.
type world struct {
	t     *testing.T
	dns   *mtatest.DNS
	net   mtatest.Net
	ca    *mtatest.Authority
	notes *notes
	sts   *STS
	log   logged

	mu      sync.Mutex
	gets    map[string]int // requests by host
	open    int            // requests under way
	most    int
	respond func(w net.Conn, host string) // to each request
}

var policyAddr = netip.MustParseAddrPort("198.51.100.80:443")

// newWorld begins with domains that have a record, "x.test" and others, whose
// policy host is one address.
func newWorld(t *testing.T) *world {
	w := &world{t: t, dns: mtatest.NewDNS(), notes: &notes{of: map[string][]byte{}}, gets: map[string]int{}}
	t.Cleanup(w.dns.Stop)
	var err error
	if w.ca, err = mtatest.NewAuthority(); err != nil {
		t.Fatal(err)
	}
	w.serve("mode: enforce\nmx: mx.x.test\nmax_age: 604800\n")
	w.record("x.test", "1")
	w.listen(true, "*.x.test", "mta-sts.x.test")
	w.start()
	return w
}

// start makes the STS, as at the start of a process.
func (w *world) start() {
	if w.sts != nil {
		w.sts.Stop()
	}
	r := dns.New(dns.Options{Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}, Dialer: w.dns.DialContext})
	w.t.Cleanup(func() { r.Close() })
	sts := NewSTS(STSOptions{
		Resolver: r, Notes: w.notes, Settings: w.settings(),
		Dial: w.net.DialContext, Logger: slog.New(slog.NewTextHandler(&w.log, nil)),
	})
	sts.Start(w.t.Context())
	w.t.Cleanup(sts.Stop)
	w.sts = sts
}

func (w *world) settings() Settings { return Settings{On: true, Roots: w.ca.Pool()} }

// record publishes a domain's record, with that id alone, and where its policy
// host is.
func (w *world) record(domain, id string) {
	w.dns.Remove("_mta-sts." + domain)
	w.dns.Remove("mta-sts." + domain)
	zone := fmt.Sprintf("mta-sts.%s 1 A %s\n", domain, policyAddr.Addr())
	if id != "" {
		zone += fmt.Sprintf("_mta-sts.%s 1 TXT \"v=STSv1; id=%s;\"\n", domain, id)
	}
	if err := w.dns.Add(zone); err != nil {
		w.t.Fatal(err)
	}
}

// listen has the policy host show a certificate.
func (w *world) listen(valid bool, names ...string) {
	cert, err := w.ca.Certificate(valid, names...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.net.Handle(policyAddr, func(c net.Conn) { w.answer(c, cert) })
}

// answer serves one request.
func (w *world) answer(c net.Conn, cert *tls.Certificate) {
	defer c.Close()
	s := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}})
	req, err := http.ReadRequest(bufio.NewReader(s))
	if err != nil {
		return
	}
	if req.URL.Path != "/.well-known/mta-sts.txt" || req.Method != "GET" {
		w.t.Errorf("%s %s", req.Method, req.URL)
	}
	w.mu.Lock()
	w.gets[strings.TrimPrefix(req.Host, "mta-sts.")]++
	w.open++
	w.most = max(w.most, w.open)
	respond := w.respond
	w.mu.Unlock()
	respond(s, req.Host)
	w.mu.Lock()
	w.open--
	w.mu.Unlock()
}

// reply is a whole answer of HTTP.
func reply(status, head, body string) string {
	return "HTTP/1.1 " + status + "\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n" + head + "\r\n" + body
}

const plainText = "Content-Type: text/plain\r\n"

// serve has the policy host give a policy.
func (w *world) serve(policy string) { w.say(reply("200 OK", plainText, "version: STSv1\n"+policy)) }

// say has it answer with these octets.
func (w *world) say(octets string) {
	w.respondBy(func(c net.Conn, _ string) { _, _ = c.Write([]byte(octets)) })
}

func (w *world) respondBy(f func(c net.Conn, host string)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.respond = f
}

func (w *world) got(domain string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gets[domain]
}

// find gives what is known in one line: "enforce 1", or the trouble.
func (w *world) find(domain string) string { return words(w.sts.Find(w.t.Context(), domain)) }

func words(d DomainSTS) string {
	switch {
	case d.Against != nil:
		return "against: " + d.Against.Text
	case d.Policy != nil:
		return d.Policy.Mode.String() + " " + d.ID
	case d.Trouble != "":
		return d.Trouble
	}
	return "none"
}

func (w *world) expect(domain, want string) {
	w.t.Helper()
	if got := w.find(domain); got != want {
		w.t.Errorf("%s: %s (%s)", domain, got, want)
	}
}

// logged is a log, in memory.
type logged struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// notes are a spool's, in memory.
type notes struct {
	mu     sync.Mutex
	of     map[string][]byte
	broken error // of every call
	writes int
}

func (n *notes) Note(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	value := n.of[name]
	if string(value) == "damaged" { // once, and gone then
		delete(n.of, name)
		return nil, errors.New("the record is damaged")
	}
	return value, n.broken
}

func (n *notes) Notes(_ context.Context, prefix, after string, f func(name string, value []byte) bool) error {
	n.mu.Lock()
	of := maps.Clone(n.of)
	err := n.broken
	n.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if strings.HasPrefix(name, prefix) && name > after && !f(name, of[name]) {
			break
		}
	}
	return err
}

func (n *notes) SetNotes(_ context.Context, changes map[string][]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.broken != nil {
		return n.broken
	}
	n.writes++
	for name, value := range changes {
		if n.of[name] = value; value == nil {
			delete(n.of, name)
		}
	}
	return nil
}

func (n *notes) set(name, value string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.of[name] = []byte(value)
}

func (n *notes) breakAll(err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.broken = err
}

const day = 24 * time.Hour
