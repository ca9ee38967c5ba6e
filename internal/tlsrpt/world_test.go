package tlsrpt

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
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
	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/submit"
)

// world is what a Reports works on: notes that outlive it, DNS, an intake that
// takes each message once, and receivers by HTTPS on a network in memory.
type world struct {
	t         *testing.T
	notes     *fakeNotes
	resolver  *fakeResolver
	intake    *fakeIntake
	net       mtatest.Net
	web       *webSink
	authority *mtatest.Authority
	settings  Settings
	signs     func(string) bool

	mu   sync.Mutex
	told []Sent
}

func newWorld(t *testing.T) *world {
	t.Helper()
	authority, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, notes: newNotes(), resolver: &fakeResolver{texts: map[string][]string{}, addrs: map[string][]netip.Addr{}}, intake: newIntake(), authority: authority}
	w.settings = Settings{Send: true, Hostname: "mail.sender.example", From: "tls@sender.example", Contact: "postmaster@sender.example", Organization: "Sender", Roots: authority.Pool()}
	w.web = &webSink{}
	w.serve("r.example.com", webAddr, w.web)
	return w
}

var (
	webAddr = netip.MustParseAddr("198.51.100.80")
	mxAddr  = netip.MustParseAddr("198.51.100.25")
	ownAddr = netip.MustParseAddr("203.0.113.5")
)

// serve has a sink answer for a host.
func (w *world) serve(host string, addr netip.Addr, sink *webSink) {
	w.t.Helper()
	cert, err := w.authority.Certificate(true, host)
	if err != nil {
		w.t.Fatal(err)
	}
	w.resolver.addrs[host] = []netip.Addr{addr}
	w.net.Handle(netip.AddrPortFrom(addr, 443), func(c net.Conn) { sink.handle(c, cert) })
}

// ask publishes the record of a domain.
func (w *world) ask(domain, rua string) {
	w.resolver.set(Label+domain, "v=TLSRPTv1; rua="+rua)
}

func (w *world) reports() *Reports {
	return New(Options{
		Notes: w.notes, Resolver: w.resolver, Intake: w.intake, Settings: w.settings, Signs: w.signs, Dial: w.net.DialContext,
		Told: func(_ context.Context, s *Sent) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.told = append(w.told, *s)
		},
	})
}

func (w *world) start() *Reports {
	w.t.Helper()
	r := w.reports()
	if err := r.Start(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	return r
}

// kill ends a Reports without its keeping anything.
func (w *world) kill(r *Reports) {
	notes := w.notes.crash()
	r.Stop(context.Background())
	w.notes = notes
}

func (w *world) said() []Sent {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.told)
}

// session is one with mx.DOMAIN that went well.
func session(domain string, policies ...mta.TLSPolicy) *Session {
	if policies == nil {
		policies = []mta.TLSPolicy{{Type: typeNone, Domain: domain}}
	}
	return &Session{Route: &mta.Route{Domain: domain, Policies: policies}, Host: "mx." + domain, IP: mxAddr, From: ownAddr, Helo: "helo." + domain}
}

func (o *Session) failing(result, reason string) *Session {
	c := *o
	c.Result, c.Reason = result, reason
	return &c
}

func stsPolicy(domain string) mta.TLSPolicy {
	return mta.TLSPolicy{Type: typeSTS, Domain: domain, Strings: []string{"version: STSv1", "mode: enforce", "mx: *." + domain, "max_age: 86400"}, MXHosts: []string{"*." + domain}}
}

func tlsaPolicy(host string) mta.TLSPolicy {
	return mta.TLSPolicy{Type: typeTLSA, Domain: host, Strings: []string{"3 1 1 " + strings.Repeat("ab", 32)}}
}

// unpack reads a compressed report.
func unpack(t *testing.T, packed []byte) []byte {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

// fakeNotes keeps notes in memory.
type fakeNotes struct {
	mu     sync.Mutex
	notes  map[string][]byte
	fail   error
	before func(changes map[string][]byte) error // called by SetNotes, without the lock
}

func newNotes() *fakeNotes { return &fakeNotes{notes: map[string][]byte{}} }

func (f *fakeNotes) Note(_ context.Context, name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.notes[name]), f.fail
}

func (f *fakeNotes) Notes(_ context.Context, prefix, after string, visit func(string, []byte) bool) error {
	f.mu.Lock()
	all, err := maps.Clone(f.notes), f.fail
	f.mu.Unlock()
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, prefix) && name > after && !visit(name, all[name]) {
			return nil
		}
	}
	return nil
}

func (f *fakeNotes) SetNotes(ctx context.Context, changes map[string][]byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before != nil {
		if err := before(changes); err != nil {
			return err
		}
	}
	return f.apply(changes)
}

func (f *fakeNotes) apply(changes map[string][]byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	for name, value := range changes {
		if value == nil {
			delete(f.notes, name)
		} else {
			f.notes[name] = slices.Clone(value)
		}
	}
	return nil
}

func (f *fakeNotes) interpose(before func(changes map[string][]byte) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.before = before
}

func (f *fakeNotes) breakWith(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fail = err
}

func (f *fakeNotes) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.notes))
}

// crash gives what the disk has.
func (f *fakeNotes) crash() *fakeNotes {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &fakeNotes{notes: maps.Clone(f.notes)}
}

var errDisk = errors.New("the disk is broken")

// fakeResolver answers from maps; a name that is not there does not exist.
type fakeResolver struct {
	mu    sync.Mutex
	texts map[string][]string
	addrs map[string][]netip.Addr
	down  bool
	asked int
}

func (f *fakeResolver) set(name string, texts ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(texts) == 0 {
		delete(f.texts, name)
		return
	}
	f.texts[name] = texts
}

func (f *fakeResolver) fail(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

func (f *fakeResolver) TXT(_ context.Context, name string) (dns.Answer[string], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	switch {
	case f.down:
		return dns.Answer[string]{}, &dns.Error{Kind: dns.Temporary, Name: name, Type: "TXT", Text: "SERVFAIL"}
	case f.texts[name] == nil:
		return dns.Answer[string]{}, &dns.Error{Kind: dns.NXDomain, Name: name, Type: "TXT"}
	}
	return dns.Answer[string]{Records: f.texts[name]}, nil
}

func (f *fakeResolver) Addresses(_ context.Context, host string) (dns.Answer[netip.Addr], error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.addrs[host] == nil {
		return dns.Answer[netip.Addr]{}, &dns.Error{Kind: dns.NXDomain, Name: host, Type: "A and AAAA"}
	}
	return dns.Answer[netip.Addr]{Records: f.addrs[host]}, nil
}

// fakeIntake takes messages, each ID once.
type fakeIntake struct {
	mu     sync.Mutex
	taken  map[mta.ID]fakeMail
	refuse *submit.Refusal
	after  func() error // called when a message was taken
}

type fakeMail struct {
	request *submit.Request
	content []byte
}

func newIntake() *fakeIntake { return &fakeIntake{taken: map[mta.ID]fakeMail{}} }

func (f *fakeIntake) Check(context.Context, *submit.Request) error { return nil }

func (f *fakeIntake) Begin(_ context.Context, r *submit.Request) (submit.Draft, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	if _, taken := f.taken[r.ID]; taken {
		return nil, submit.ErrTaken
	}
	return &fakeDraft{intake: f, request: r}, nil
}

func (f *fakeIntake) mails() (out []fakeMail) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.taken {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b fakeMail) int {
		return strings.Compare(a.request.Recipients[0].Address, b.request.Recipients[0].Address)
	})
	return out
}

type fakeDraft struct {
	bytes.Buffer
	intake  *fakeIntake
	request *submit.Request
}

func (d *fakeDraft) Commit(context.Context) (mta.ID, error) {
	d.intake.mu.Lock()
	d.intake.taken[d.request.ID] = fakeMail{d.request, d.Bytes()}
	after := d.intake.after
	d.intake.mu.Unlock()
	if after != nil {
		if err := after(); err != nil {
			return mta.ID{}, err
		}
	}
	return d.request.ID, nil
}

func (d *fakeDraft) Abort() {}

// webSink receives reports.
type webSink struct {
	mu      sync.Mutex
	posts   []webPost
	answers []string // status and header lines, one a request; then 200
	broken  bool     // hang up after the request
	silent  bool     // say nothing at all
}

type webPost struct {
	path, host, kind, agent string
	body                    []byte
	at                      time.Time
}

func (s *webSink) handle(c net.Conn, cert *tls.Certificate) {
	defer c.Close()
	s.mu.Lock()
	silent := s.silent
	s.mu.Unlock()
	if silent {
		_, _ = io.Copy(io.Discard, c)
		return
	}
	conn := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{*cert}})
	req, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		return
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.posts = append(s.posts, webPost{req.Method + " " + req.URL.String(), req.Host, req.Header.Get("Content-Type"), req.Header.Get("User-Agent"), body, time.Now()})
	if s.broken {
		return
	}
	answer := "200 OK"
	if len(s.answers) > 0 {
		answer, s.answers = s.answers[0], s.answers[1:]
	}
	fmt.Fprintf(conn, "HTTP/1.1 %s\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", answer)
	_ = conn.Close()
}

func (s *webSink) got() []webPost {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.posts)
}

func (s *webSink) will(answers ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = answers
}
