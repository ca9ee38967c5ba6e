package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dnssec"
	"mailout/internal/mta"
)

// Who says that an answer is authenticated? The AD bit is worth what the server
// and the way to it are worth (RFC 4035 4.9.3, RFC 7672 2.2). It is believed of
// a server on this machine, of one asked over TLS, and of those the operator
// names, and of these only when a self-test shows that they check signatures:
// the root's answer carries the bit, and a name whose signatures are wrong on
// purpose is not answered. What other servers say is checked here (package
// dnssec), when the test shows that the root's keys can be had and fit a trust
// anchor. Where neither works nothing is secure, and mail flows without DANE:
// see docs/decisions/0009.
//
// The test runs when the first question is asked and then every hour, in a
// goroutine of the resolver; look-ups wait for the first one only, and for no
// longer than the time of one query.

// Times of the self-test.
const (
	testEvery   = time.Hour
	testAgain   = time.Minute // when a server gave no answer to it
	testAtOnce  = 5 * time.Second
	maxTestTime = 30 * time.Second

	// A root that was checked and then is not may be an attack or a slip: for
	// three tests, five minutes apart, it is still asked for, and what cannot be
	// checked is deferred. Then mail goes on without.
	testDoubtful = 5 * time.Minute
	maxDoubts    = 3
)

// DNSSECStatus says what Secure is worth.
type DNSSECStatus uint8

// The states of a resolver.
const (
	// Untested: the first self-test has not ended.
	Untested DNSSECStatus = iota
	// SecureOff: no answer is ever secure.
	SecureOff
	// SecureTrusted: the AD bits of trusted servers are believed.
	SecureTrusted
	// SecureHere: signatures are checked in this process, but for the answers of
	// trusted servers.
	SecureHere
)

// DNSSECState is what the last self-test found.
type DNSSECState struct {
	Mode   DNSSECMode
	Status DNSSECStatus
	// Why is one sentence for people: who authenticates answers, or why nobody
	// does.
	Why     string
	Servers []ServerTrust
	Tested  time.Time
	// Doubt is why the last test failed, while what was found before still counts.
	Doubt string
	// Alarm says that it worked before, and does not now.
	Alarm bool
}

// ServerTrust is what the self-test found about one server.
type ServerTrust struct {
	Server netip.AddrPort
	// Trusted says why its word would count: "this machine", "asked over TLS",
	// "named in dns.trusted"; empty: it does not.
	Trusted string
	// Believed says that its AD bit is believed.
	Believed bool
	// Why says, when a trusted one is not believed, what it did.
	Why string

	disproved bool // it answered for the bogus name
}

// On reports whether any answer can be secure.
func (s DNSSECState) On() bool { return s.Status > SecureOff }

// trust is what one generation of settings knows of DNSSEC; nil: the AD bit is
// taken as it comes.
type trust struct {
	mode      DNSSECMode
	trusted   []netip.Addr
	bogusName string
	log       *slog.Logger
	here      here     // owned by the goroutine of the self-tests
	options   string   // what the outcome of a test depends on
	past      *finding // what the generation before knew by the same options; may be nil

	state atomic.Pointer[finding]
	first chan struct{} // closed when the first self-test has ended
	again chan struct{} // one token: test again soon

	begun bool               // owned by Resolver.mu
	end   context.CancelFunc // owned by Resolver.mu; nil until begun
}

// finding is the outcome of one self-test; immutable.
type finding struct {
	DNSSECState
	believed  map[netip.AddrPort]bool
	validator *dnssec.Validator // nil: nothing is checked here
	unchecked bool              // those that are not believed are asked with CD, and all for a chain
	anchors   []byte            // the text of the file that it begins with
	next      time.Duration     // until the next test
}

// unchecks reports that a server gives signatures only when it is told not to check
// them; f may be nil.
func (f *finding) unchecks(server netip.AddrPort) bool {
	return f != nil && f.unchecked && !f.believed[server]
}

func newTrust(o *Options, log *slog.Logger) *trust {
	if o.DNSSEC == AsSaid {
		return nil
	}
	t := &trust{mode: o.DNSSEC, trusted: o.Trusted, bogusName: o.BogusName, log: log, first: make(chan struct{}), again: make(chan struct{}, 1)}
	t.here.file, t.here.private = o.TrustAnchors, o.Private
	t.options = fmt.Sprint(o.Servers, o.TLS, o.DNSSEC, o.Trusted, o.TrustAnchors, o.BogusName, o.ResolvConf)
	if t.mode == DNSSECOff {
		t.state.Store(&finding{DNSSECState: DNSSECState{Mode: t.mode, Status: SecureOff, Why: `DNSSEC is switched off (dns.dnssec = "off")`}})
		t.begun = true
		close(t.first)
	}
	return t
}

// inherit has a generation go on from what the one before it knew: a reload that
// falls into a silence must not switch DNSSEC off.
func (t *trust) inherit(before *trust) {
	if t == nil || before == nil || t.options != before.options || t.mode == DNSSECOff {
		return
	}
	past := before.state.Load()
	if past == nil {
		past = before.past
	}
	if past == nil {
		return
	}
	known := *past
	known.validator = nil // it asks by the old options, and holds much
	t.past = &known
	t.here.text, t.here.worked, t.here.unchecked = known.anchors, known.Status == SecureHere, known.unchecked
}

// watch begins the self-tests of a generation, once.
func (r *Resolver) watch(s *settings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchLocked(s)
}

func (r *Resolver) watchLocked(s *settings) {
	t := s.trust
	if t == nil || t.begun || r.mu.closed || r.settings.Load() != s { // a look-up may be late for its generation
		return
	}
	t.begun = true
	ctx, end := context.WithCancel(r.life)
	t.end = end
	r.wg.Go(func() { r.testForEver(ctx, s) })
}

// Begin begins the self-tests, so that the first look-up need not.
func (r *Resolver) Begin() { r.watch(r.settings.Load()) }

// await gives the last finding; until there is one it waits at most the time of
// one query. nil: none yet.
func (t *trust) await(ctx context.Context, timeout time.Duration) *finding {
	if f := t.state.Load(); f != nil {
		return f
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-t.first:
	case <-timer.C:
	case <-ctx.Done():
	}
	return t.state.Load()
}

// known is the last finding; nil: none yet.
func (t *trust) known() *finding {
	if t == nil {
		return nil
	}
	return t.state.Load()
}

// retest asks for a self-test soon: the servers changed.
func (t *trust) retest() {
	select {
	case t.again <- struct{}{}:
	default:
	}
}

// DNSSEC gives what the last self-test found, and waits for the first one at
// most the time of one query. In the mode AsSaid nothing is tested.
func (r *Resolver) DNSSEC(ctx context.Context) DNSSECState {
	s := r.settings.Load()
	if s.trust == nil {
		return DNSSECState{Status: SecureTrusted, Why: "the AD bit of every server is believed, untested"}
	}
	r.watch(s)
	if f := s.trust.await(ctx, s.timeout); f != nil {
		out := f.DNSSECState
		out.Servers = slices.Clone(out.Servers)
		return out
	}
	return DNSSECState{Mode: s.trust.mode, Why: "the name servers have not answered the self-test yet"}
}

// Status gives what the last self-test found, without a wait: Untested before the
// first has ended.
func (r *Resolver) Status() DNSSECStatus {
	s := r.settings.Load()
	if s.trust == nil {
		return SecureTrusted
	}
	if f := s.trust.known(); f != nil {
		return f.Status
	}
	return Untested
}

// testForEver owns the self-tests of a generation until ctx ends.
func (r *Resolver) testForEver(ctx context.Context, s *settings) {
	t := s.trust
	for first := true; ; first = false {
		f := r.selfTest(ctx, s)
		if ctx.Err() != nil {
			return
		}
		if t.note(f) {
			r.unlearn(s)
		}
		if first {
			close(t.first)
		}
		timer := time.NewTimer(f.next)
		select {
		case <-timer.C:
		case <-t.again:
			timer.Reset(testAtOnce) // changes come in bunches
			select {
			case <-timer.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// unlearn forgets what was learnt by other rules, and keeps nothing of what is
// being learnt by them.
func (r *Resolver) unlearn(s *settings) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.settings.Load() == s {
		clear(r.mu.flights)
		r.cache.clear()
	}
}

// note keeps a finding. When it is another than before it is logged.
func (t *trust) note(f *finding) (changed bool) {
	before := t.state.Swap(f)
	if before == nil {
		before = t.past
	}
	switch {
	case before != nil && before.Status == f.Status && before.Why == f.Why:
		return false
	case before != nil && before.On() && !f.On():
		t.log.Warn("DNSSEC is off: answers are no longer authenticated, and DANE is not used", mta.KeyReason, f.Why)
	default:
		t.log.Info("what authenticates the answers of DNS", "on", f.On(), mta.KeyReason, f.Why)
	}
	return true
}

// selfTest asks every server, and tries to check signatures here where that is
// wanted.
func (r *Resolver) selfTest(ctx context.Context, s *settings) *finding {
	ctx, cancel := context.WithTimeout(ctx, maxTestTime)
	defer cancel()
	f := &finding{DNSSECState: DNSSECState{Mode: s.trust.mode, Tested: time.Now()}, believed: make(map[netip.AddrPort]bool), next: testEvery}
	before := s.trust.state.Load()
	if before == nil {
		before = s.trust.past
	}
	all := true
	if s.trust.mode != DNSSECValidate {
		all = s.testServers(ctx, f, before)
	}
	var tried string
	if s.trust.mode == DNSSECValidate || s.trust.mode == DNSSECAuto && !all {
		tried = r.testHere(ctx, s, f)
	}
	f.sum(tried)
	f.Alarm = !f.On() && before != nil && (before.On() || before.Alarm)
	return f
}

// testServers asks every server, side by side, and reports whether all are
// believed.
func (s *settings) testServers(ctx context.Context, f *finding, before *finding) (all bool) {
	servers := s.configured()
	f.Servers = make([]ServerTrust, len(servers))
	silent := make([]bool, len(servers))
	done := make(chan struct{}, len(servers))
	for i, server := range servers {
		go func() {
			defer func() {
				if p := recover(); p != nil { // over a stranger's octets
					s.log.Error("a self-test of a name server panicked", mta.KeyServer, server.String(), mta.KeyError, fmt.Sprint(p))
					f.Servers[i] = ServerTrust{Server: server, Why: "gave an answer that nobody can read"}
				}
				done <- struct{}{}
			}()
			f.Servers[i], silent[i] = s.testServer(ctx, server)
		}()
	}
	for range servers {
		<-done
	}
	all = true
	for i := range f.Servers {
		t := &f.Servers[i]
		if silent[i] {
			f.next = testAgain
			t.remember(before)
		}
		f.believed[t.Server] = t.Believed
		all = all && t.Believed
	}
	return all
}

// remember keeps what an earlier test found of a server: silence proves nothing
// new.
func (t *ServerTrust) remember(before *finding) {
	if before == nil {
		return
	}
	for _, was := range before.Servers {
		if was.Server == t.Server && (was.Believed || was.disproved) {
			*t = was
		}
	}
}

// sum makes one sentence of what was found; tried is why nothing is checked
// here, empty when it was not tried or is.
func (f *finding) sum(tried string) {
	var good, bad, parts []string
	for _, t := range f.Servers {
		label := Server{AddrPort: t.Server}.String()
		if t.Believed {
			good = append(good, label+" ("+t.Trusted+")")
			continue
		}
		bad = append(bad, label+" "+t.Why)
	}
	f.Status = SecureOff
	if len(good) > 0 {
		f.Status = SecureTrusted
		parts = append(parts, "trusted to check signatures: "+strings.Join(good, ", "))
	}
	if f.validator != nil {
		f.Status = SecureHere
		words := "mailout checks the signatures itself"
		if len(good) > 0 {
			words = "mailout checks the signatures of the others' answers itself"
		}
		parts = append(parts, words)
	} else if len(bad) > 0 {
		words := "not trusted: "
		if len(good) == 0 {
			words = "no name server is trusted to check signatures: "
		}
		parts = append(parts, words+strings.Join(bad, "; "))
	}
	if tried != "" {
		words := "mailout cannot check them itself: "
		if f.validator != nil {
			f.Doubt = tried
			words = "the last self-test failed, and mail that depends on it waits: "
		}
		parts = append(parts, words+tried)
	}
	f.Why = strings.Join(parts, "; ")
}

// because says why the word of a server would count; empty: it does not.
func (s *settings) because(server netip.AddrPort) string {
	switch addr := server.Addr().Unmap(); {
	case s.tls[server.String()] != nil:
		return "asked over TLS"
	case addr.IsLoopback():
		return "this machine"
	case slices.Contains(s.trust.trusted, addr):
		return "named in dns.trusted"
	}
	return ""
}

// testServer finds out whether the AD bit of a server can be believed. silent
// says that it gave no answer.
func (s *settings) testServer(ctx context.Context, server netip.AddrPort) (t ServerTrust, silent bool) {
	t = ServerTrust{Server: server, Trusted: s.because(server)}
	if t.Trusted == "" {
		t.Why = "is not on this machine, not asked over TLS and not named in dns.trusted"
		return t, false
	}
	root, err := s.ask(ctx, server.String(), asked{name: ".", qtype: wire.TypeSOA})
	if err != nil {
		t.Why = "gave no answer to the self-test"
		return t, true
	}
	// Some servers that know inner names alone say that the root does not
	// exist; the mark on that is a mark.
	if !root.AuthenticatedData || root.Rcode != wire.RcodeSuccess && root.Rcode != wire.RcodeNameError {
		t.Why = "does not mark the root as checked (no AD)"
		return t, false
	}
	if name, ok := fqdn(s.trust.bogusName); ok {
		// Whoever can silence the servers of that one name, or slow them down, must
		// not switch DNSSEC off: it gets half of the time for which the first look-ups
		// wait, and silence is no answer either.
		ctx, cancel := context.WithTimeout(ctx, s.timeout/2)
		defer cancel()
		m, err := s.ask(ctx, server.String(), asked{name: name, qtype: wire.TypeA})
		if err != nil {
			t.Believed = true
			return t, true
		}
		if m.Rcode == wire.RcodeSuccess && len(m.Answer) > 0 {
			t.Why = fmt.Sprintf("says that it checks signatures, and yet answers for %s, whose signatures are wrong", s.trust.bogusName)
			t.disproved = true
			return t, false
		}
	}
	t.Believed = true
	return t, false
}
