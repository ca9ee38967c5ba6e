package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

// nameServer is one of the zone's own, on the port that such servers have.
func nameServer(t *testing.T, w *world, name, ip string) *mtatest.DNS {
	t.Helper()
	d := mtatest.NewDNS()
	d.Primary(mtatest.Primary{Zone: "sender.example"})
	if err := d.Start(ip + ":53"); err != nil {
		t.Skip("port 53 of a loopback address is needed:", err)
	}
	t.Cleanup(d.Stop)
	w.records("sender.example. NS " + name + ".\n" + name + ". A " + ip)
	return d
}

// signedMail is what a receiver got, and which key signed it.
type signedMail struct {
	mu        sync.Mutex
	selectors []string // in the order of arrival
	bad       []string
}

var signedBy = regexp.MustCompile(`(?s)^DKIM-Signature:.*?[ \t]s=([a-z0-9-]+);`)

func (s *signedMail) take(m *mtatest.Message, texts func(name string) []string) {
	found, err := msgauth.VerifyWithOptions(bytes.NewReader(m.Data), &msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) { return texts(name), nil }})
	selector := ""
	if found := signedBy.FindSubmatch(m.Data); found != nil {
		selector = string(found[1])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.selectors = append(s.selectors, selector)
	if err != nil || len(found) != 1 || found[0].Err != nil || found[0].Domain != "sender.example" {
		s.bad = append(s.bad, fmt.Sprintf("%d signatures, %v: %.300q", len(found), err, m.Data))
	}
}

// by reports how many messages a key has signed.
func (s *signedMail) by(selector string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, have := range s.selectors {
		if have == selector {
			n++
		}
	}
	return n
}

// TestDKIMRotationUnderLoad: mail flows while a key is replaced, whose record is
// at one of the zone's servers before the other. Each message verifies with what
// every server has at the moment that it arrives. A restart in the dark signs.
func TestDKIMRotationUnderLoad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ip := func(n int) string { return fmt.Sprintf("127.%d.%d.%d", 60+os.Getpid()%100, os.Getpid()/100%250, n) }
	w.records("sender.example. SOA ns1.sender.example. h.sender.example. 1 7200 3600 604800 300")
	servers := []*mtatest.DNS{nameServer(t, w, "ns1.sender.example", ip(1)), nameServer(t, w, "ns2.sender.example", ip(2))}
	var got signedMail
	w.mx(mtatest.MXConfig{OnMessage: func(m *mtatest.Message) {
		got.take(m, func(name string) []string { // what every server has
			one, two := servers[0].Records(name, wire.TypeTXT), servers[1].Records(name, wire.TypeTXT)
			if len(one) != 1 || !slices.Equal(one, two) {
				return nil
			}
			return []string{strings.NewReplacer(`"`, "", " ", "").Replace(one[0])}
		})
	}}, "domain.example")
	d := w.daemon("")
	publish := func(selector string, at ...*mtatest.DNS) {
		t.Helper()
		record := d.must("dkim", "record", selector)
		for _, s := range at {
			if err := s.Add(record); err != nil {
				t.Fatal(err)
			}
		}
	}
	if out, errs, status := d.run("dkim", "new", "sender.example", "--algorithm", "ed25519", "--selector", "one"); status != 0 {
		t.Fatal(out, errs)
	}
	if record, _, status := d.run("dkim", "record"); status != 0 || servers[0].Add(record) != nil || servers[1].Add(record) != nil {
		t.Fatal(record)
	}
	d.start()
	const content = "From: app@sender.example\r\nSubject: x\r\n\r\nhello\r\n"
	end, flow, session := make(chan struct{}), make(chan struct{}), d.client()
	go func() { // the mail
		defer close(flow)
		for {
			select {
			case <-end:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if out, err := session.Send("app@sender.example", []string{"a@domain.example"}, []byte(content)); err != nil || out.Final.Code != 250 {
				t.Error(out, err)
				return
			}
		}
	}()
	until := func(what string, f func() bool) {
		t.Helper()
		mtatest.Eventually(t, 40*time.Second, what, f, func() string {
			got.mu.Lock()
			defer got.mu.Unlock()
			return fmt.Sprintf("%d messages by %q; bad: %.2000q\n%s", len(got.selectors), slices.Compact(slices.Clone(got.selectors)), got.bad, d.log())
		})
	}
	until("the first mail", func() bool { return got.by("one") > 0 })
	d.must("dkim", "rotate", "sender.example", "--selector", "two")
	const name = "two._domainkey.sender.example"
	asked := func(n int) {
		t.Helper()
		from := servers[1].Count(name, "TXT")
		until("looks at the record", func() bool { return servers[1].Count(name, "TXT") >= from+n })
	}
	asked(1)
	publish("two", servers[0])
	w.records(strings.TrimSpace(d.must("dkim", "record", "two"))) // the resolver heard of it too
	asked(2)
	if n := got.by("two"); n != 0 {
		t.Errorf("%d messages are signed with a key that one server does not have", n)
	}
	publish("two", servers[1])
	until("mail signed with the new key", func() bool { return got.by("two") > 0 })
	close(end)
	<-flow
	signed := d.must("trace", "--event", "delivered", "--since", "5m", "--json")
	for _, selector := range []string{"one", "two"} {
		if !strings.Contains(signed, `"dkim":["`+selector+`._domainkey.sender.example"]`) {
			t.Errorf("no record tells of %s: %.500s", selector, signed)
		}
	}
	states := d.must("dkim", "list", "--json")
	if !strings.Contains(states, `"state":"retired"`) || !strings.Contains(states, `"state":"active"`) {
		t.Error(states)
	}
	if out, _, status := d.run("dkim", "rotate", "sender.example", "--finish"); status != 75 || !strings.Contains(out, "one: it is retired") {
		t.Errorf("%d %s", status, out)
	}
	d.kill() // and in the dark again
	for _, s := range servers {
		s.Script("*", 0, mtatest.Script{Silent: true})
	}
	w.dns.Script(name, 0, mtatest.Script{Rcode: wire.RcodeServerFailure})
	d.start()
	before := got.by("two")
	d.submit("app@sender.example", []string{"a@domain.example"}, "From: app@news.sender.example\r\nSubject: x\r\n\r\nhello\r\n")
	until("mail after the restart", func() bool { return got.by("two") > before })
	d.must("dkim", "rotate", "sender.example", "--finish", "--keep", "0s")
	if list := d.must("dkim", "list", "--json"); strings.Contains(list, `"one"`) || !strings.Contains(list, `"two"`) {
		t.Error(list)
	}
	got.mu.Lock()
	defer got.mu.Unlock()
	if len(got.bad) > 0 {
		t.Errorf("%d of %d messages do not verify: %s", len(got.bad), len(got.selectors), got.bad[0])
	}
}

// TestUnalignedFrom: mail that no key is for is taken, told of, or refused, at
// every door.
func TestUnalignedFrom(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "domain.example")
	d := w.daemon("[http]\naddress = \"" + fmt.Sprintf("127.0.0.1:%d", freePort(t)) + "\"\n")
	if out, errs, status := d.run("dkim", "new", "sender.example", "--algorithm", "ed25519"); status != 0 {
		t.Fatal(out, errs)
	}
	d.start()
	send := func(from string) mtatest.Reply {
		t.Helper()
		out, err := d.client().Send("app@sender.example", []string{"a@domain.example"}, []byte("From: "+from+"\r\nSubject: x\r\n\r\nhello\r\n"))
		if err != nil {
			t.Fatal(err)
		}
		return out.Final
	}
	if r := send("boss@other.example"); r.Code != 250 {
		t.Error(r)
	}
	mtatest.Eventually(t, 10*time.Second, "a word of it in the log", func() bool {
		return strings.Contains(d.log(), "has no DKIM key") && strings.Contains(d.log(), "domain=other.example")
	})
	d.must("config", "set", "identity.unaligned", "refuse")
	d.must("config", "reload")
	if r := send("boss@other.example"); r.Code != 550 || !strings.Contains(fmt.Sprint(r), "5.7.1") || !strings.Contains(fmt.Sprint(r), "other.example has no DKIM key here") {
		t.Error(r)
	}
	if r := send("boss@news.sender.example"); r.Code != 250 {
		t.Error(r)
	}
	file := d.dir + "/m.eml"
	if err := os.WriteFile(file, []byte("From: boss@other.example\r\nSubject: x\r\n\r\nhello\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, errs, status := d.run("send", "-f", "app@sender.example", file, "a@domain.example"); status == 0 || !strings.Contains(errs, "no DKIM key here") {
		t.Errorf("%d %s%s", status, out, errs)
	}
	var keys struct {
		Keys []struct{ State string }
	}
	out := d.must("dkim", "list", "--json")
	if err := json.Unmarshal([]byte(out), &keys); err != nil || !strings.Contains(out, `"live":true`) || !strings.Contains(out, `"pending"`) {
		t.Error(out, err)
	}
}
