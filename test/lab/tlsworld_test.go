package lab

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

// dynIP has the name server of dyn.test and its policies.
const dynIP = "127.0.1.82"

// dynWorld is dyn.test: records and MTA-STS policies that change at a word.
// Nothing of it lives in caches for longer than an answer.
type dynWorld struct {
	t   *testing.T
	dns *mtatest.DNS
	mu  struct {
		sync.Mutex
		policies map[string]string // by domain; missing: 404
		fetches  map[string]int
	}
}

func newDynWorld(t *testing.T) *dynWorld {
	t.Helper()
	needLab(t)
	w := &dynWorld{t: t, dns: mtatest.NewDNS()}
	w.mu.policies, w.mu.fetches = map[string]string{}, map[string]int{}
	w.dns.Primary(mtatest.Primary{Zone: "dyn.test", Alone: true})
	if err := w.dns.Start(dynIP + ":53"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.dns.Stop)
	w.add("dyn.test. 0 IN SOA ns.dyn.test. hostmaster.dyn.test. 1 60 60 60 0\ndyn.test. 0 IN NS ns.dyn.test.\nns.dyn.test. 0 IN A " + dynIP)
	cert, err := tls.LoadX509KeyPair(state("pki", "stsdyn.pem"), state("pki", "stsdyn.key"))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", dynIP+":443")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{
		Listener: listener,
		TLS:      &tls.Config{Certificates: []tls.Certificate{cert}},
		Config:   &http.Server{Handler: http.HandlerFunc(w.serve), ErrorLog: log.New(io.Discard, "", 0)},
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	return w
}

func (w *dynWorld) add(zone string) {
	w.t.Helper()
	if err := w.dns.Add(zone); err != nil {
		w.t.Fatal(err)
	}
}

// domain adds NAME.dyn.test, whose host is the proxy that changes its ways.
func (w *dynWorld) domain(name string) {
	w.t.Helper()
	w.add(fmt.Sprintf("%[1]s.dyn.test. 0 IN MX 10 mx-%[1]s.dyn.test.\nmx-%[1]s.dyn.test. 0 IN A 127.0.1.74\nmta-sts.%[1]s.dyn.test. 0 IN A %[2]s", name, dynIP))
}

// announce gives the policy record of a domain another id; empty: it has none.
func (w *dynWorld) announce(name, id string) {
	w.t.Helper()
	record := "_mta-sts." + name + ".dyn.test."
	w.dns.Remove(record, wire.TypeTXT)
	if id != "" {
		w.add(fmt.Sprintf("%s 0 IN TXT \"v=STSv1; id=%s\"", record, id))
	}
}

// away takes the policy host of a domain to where nothing listens.
func (w *dynWorld) away(name string) {
	w.t.Helper()
	host := "mta-sts." + name + ".dyn.test."
	w.dns.Remove(host, wire.TypeA)
	w.add(host + " 0 IN A 127.0.1.90")
}

// policy sets what the policy host of a domain serves; empty: 404.
func (w *dynWorld) policy(name, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.mu.policies[name+".dyn.test"] = strings.ReplaceAll(text, "\n", "\r\n")
}

// fetched is how often the policy of a domain was asked for.
func (w *dynWorld) fetched(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.mu.fetches[name+".dyn.test"]
}

func (w *dynWorld) serve(rw http.ResponseWriter, r *http.Request) {
	domain := strings.TrimPrefix(r.Host, "mta-sts.")
	w.mu.Lock()
	w.mu.fetches[domain]++
	text := w.mu.policies[domain]
	w.mu.Unlock()
	if r.URL.Path != "/.well-known/mta-sts.txt" || text == "" {
		http.NotFound(rw, r)
		return
	}
	rw.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(rw, text)
}
