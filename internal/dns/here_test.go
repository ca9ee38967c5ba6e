package dns

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

// signedWorld is a name space behind a server that nobody trusts, and a file
// with its anchor.
func signedWorld(t *testing.T) (tree *mtatest.Tree, anchors string) {
	t.Helper()
	zone := "@ MX 10 mx\nmx A 192.0.2.1\n_25._tcp.mx TLSA 3 1 1 00ff\nalias CNAME mx\n"
	tree, err := mtatest.NewTree(time.Now(),
		mtatest.SignedZone{Name: ".", Expiration: time.Now().Add(90 * 24 * time.Hour)},
		mtatest.SignedZone{Name: "test.", NSEC3: true, Expiration: time.Now().Add(90 * 24 * time.Hour)},
		mtatest.SignedZone{Name: "good.test.", Records: zone, Expiration: time.Now().Add(2 * time.Hour)},
		mtatest.SignedZone{Name: "later.test.", Records: zone},
		mtatest.SignedZone{Name: "wrong.test.", Records: zone, WrongDS: true},
		mtatest.SignedZone{Name: "free.test.", Records: zone, Unsigned: true},
	)
	if err != nil {
		t.Fatal(err)
	}
	anchors = filepath.Join(t.TempDir(), "anchors")
	if err := os.WriteFile(anchors, []byte(tree.Anchor(".")), 0o600); err != nil {
		t.Fatal(err)
	}
	return tree, anchors
}

// passing is a server that passes on what the tree says, and checks nothing;
// alter may change it.
func passing(tree *mtatest.Tree, alter func(*wire.Msg)) handler {
	return func(_ string, q *wire.Msg) (*wire.Msg, []byte) {
		opt := q.IsEdns0()
		m := tree.Answer(q.Question[0].Name, q.Question[0].Qtype, opt != nil && opt.Do())
		m.Id = q.Id
		if alter != nil {
			alter(m)
		}
		return m, nil
	}
}

// wantMX asks for the MX records of a name, which must be there, secure or not.
func wantMX(t *testing.T, r *Resolver, name string, secure bool) {
	t.Helper()
	if mx, err := r.MX(t.Context(), name); err != nil || mx.Secure != secure {
		t.Errorf("%s: %+v %v, want secure %t", name, mx, err, secure)
	}
}

func TestSignaturesAreCheckedHere(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		n.serve(elsewhere, passing(tree, nil))
		r := n.newResolver(Options{DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors, BogusName: "wrong.test"})
		if st := r.DNSSEC(t.Context()); st.Status != SecureHere || !strings.Contains(st.Why, "itself") {
			t.Fatalf("%+v", st)
		}
		mx, err := r.MX(t.Context(), "Good.test")
		check(t, mx.Records, err, []MX{{10, "mx.good.test"}})
		a, err := r.Addresses(t.Context(), "alias.good.test")
		if err != nil || !a.Secure || a.CanonicalName != "mx.good.test" || !mx.Secure {
			t.Errorf("%+v %v, MX %v", a, err, mx.Secure)
		}
		tlsa, err := r.TLSA(t.Context(), "_25._tcp.mx.good.test")
		if err != nil || !tlsa.Secure || len(tlsa.Records) != 1 {
			t.Errorf("%+v %v", tlsa, err)
		}
		for name, want := range map[string]Kind{"gone.good.test": NXDomain, "mx.good.test": NoData} {
			if _, err := r.MX(t.Context(), name); AsError(err).Kind != want || !AsError(err).Secure {
				t.Errorf("%s: %v", name, err)
			}
		}
		wantMX(t, r, "free.test", false)
		if _, err := r.MX(t.Context(), "gone.free.test"); AsError(err).Kind != NXDomain || AsError(err).Secure {
			t.Errorf("%v", err)
		}
		for _, name := range []string{"wrong.test", "gone.wrong.test"} {
			_, err = r.MX(t.Context(), name)
			if e := AsError(err); e.Kind != Bogus || !e.Temporary() || strings.Contains(e.Text, "dns.private") || !strings.Contains(e.Error(), "no key of wrong.test.") {
				t.Errorf("%v", err)
			}
		}
		n.asked()
		if r.MX(t.Context(), "mx.good.test"); len(n.asked()) != 0 {
			t.Error("asked again")
		}
	})
}

// TestBogusNeverSaysNo: an answer stripped of its proof is no answer: mail waits.
func TestBogusNeverSaysNo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		lie := func(m *wire.Msg) {
			if m.Question[0].Name == "good.test." && m.Question[0].Qtype == wire.TypeMX {
				m.Rcode, m.Answer = wire.RcodeNameError, nil
			}
			if strings.HasPrefix(m.Question[0].Name, "gone.") {
				m.Ns = m.Ns[:1]
			}
		}
		n.serve(elsewhere, passing(tree, lie))
		o := Options{DNSSEC: DNSSECValidate, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors}
		r := n.newResolver(o)
		for _, name := range []string{"good.test", "gone.good.test"} {
			if _, err := r.MX(t.Context(), name); AsError(err).Kind != Bogus {
				t.Errorf("%s: %v", name, err)
			}
		}
		// Another server has better ones.
		n.serve(serverB, passing(tree, nil))
		o.Servers = append(o.Servers, serverB)
		o.Dialer = n.dial
		r.Reconfigure(o)
		wantMX(t, r, "good.test", true)
	})
}

// TestRootThatFits: without a root that can be checked nothing is secure, and
// everything is answered. One that was checked is doubted for a quarter of an
// hour; what cannot be checked waits so long, then goes on.
func TestRootThatFits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		n.serve(elsewhere, passing(tree, strip))
		r := n.newResolver(Options{DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors})
		expect := func(name string, secure bool, kind Kind) {
			t.Helper()
			mx, err := r.MX(t.Context(), name)
			if err != nil && AsError(err).Kind != kind || err == nil && (kind != 0 || mx.Secure != secure) {
				t.Errorf("%s after %v: %+v %v", name, time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)), mx, err)
			}
		}
		expect("good.test", false, 0)
		expect("wrong.test", false, 0)
		if st := r.DNSSEC(t.Context()); st.On() || st.Alarm || !strings.Contains(st.Why, "cannot check them itself") {
			t.Errorf("%+v", st)
		}
		n.serve(elsewhere, passing(tree, nil))
		time.Sleep(testDoubtful + time.Second)
		expect("good.test", true, 0)
		expect("wrong.test", false, Bogus)
		n.serve(elsewhere, passing(tree, strip))
		time.Sleep(testEvery)
		expect("good.test", false, Bogus)
		if st := r.DNSSEC(t.Context()); !st.On() || st.Doubt == "" {
			t.Errorf("%+v", st)
		}
		time.Sleep(maxDoubts * testDoubtful)
		expect("good.test", false, 0)
		if st := r.DNSSEC(t.Context()); st.On() || !st.Alarm {
			t.Errorf("%+v", st)
		}
		n.serve(elsewhere, silence) // proves nothing
		time.Sleep(time.Hour)
		n.serve(elsewhere, passing(tree, nil))
		time.Sleep(testDoubtful + time.Second)
		expect("good.test", false, Bogus) // it has expired by now
		if st := r.DNSSEC(t.Context()); !st.On() || st.Alarm {
			t.Errorf("%+v", st)
		}
	})
}

// strip takes what DNSSEC puts into a message out of it.
func strip(m *wire.Msg) { m.Answer, m.Ns = withoutSignatures(m.Answer), withoutSignatures(m.Ns) }

func withoutSignatures(section []wire.RR) []wire.RR {
	var out []wire.RR
	for _, rr := range section {
		switch rr.(type) {
		case *wire.RRSIG, *wire.NSEC, *wire.NSEC3:
		default:
			out = append(out, rr)
		}
	}
	return out
}

// TestAnchorsThatAreGone: a file that cannot be read leaves the anchors that
// were read before; without any nothing is secure.
func TestAnchorsThatAreGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		n.serve(elsewhere, passing(tree, nil))
		o := Options{DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors, Dialer: n.dial}
		r := n.newResolver(o)
		wantMX(t, r, "good.test", true)
		if err := os.Remove(anchors); err != nil {
			t.Fatal(err)
		}
		time.Sleep(testEvery + time.Second)
		wantMX(t, r, "later.test", true)
		r.Reconfigure(o)
		wantMX(t, r, "good.test", false)
		if st := r.DNSSEC(t.Context()); st.On() || !strings.Contains(st.Why, "anchors cannot be read") {
			t.Errorf("%+v", st)
		}
	})
}

// TestKeptNoLongerThanSigned: an answer is asked again when its signature ends.
func TestKeptNoLongerThanSigned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		n.serve(elsewhere, passing(tree, nil))
		r := n.newResolver(Options{DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors})
		time.Sleep(2*time.Hour - 10*time.Second)
		mx, err := r.MX(t.Context(), "good.test")
		if err != nil || !mx.Secure || time.Until(mx.Expires) > 10*time.Second {
			t.Errorf("%+v %v", mx, err)
		}
	})
}

// TestInnerZones: what one server says without signatures of a name that another
// one proves not to be there gives nobody's mail back; a zone that is named as
// private is used as it is.
func TestInnerZones(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		inside := func(m *wire.Msg) {
			if q := m.Question[0]; strings.HasSuffix(q.Name, "good.test.") {
				m.Rcode, m.Answer, m.Ns = wire.RcodeSuccess, nil, []wire.RR{rr("good.test. 60 IN SOA a. b. 1 2 3 4 5")}
				if q.Qtype == wire.TypeMX {
					m.Answer, m.Ns = []wire.RR{rr(q.Name + " 60 IN MX 10 inside.good.test.")}, nil
				}
			}
		}
		n.serve(elsewhere, passing(tree, inside))
		n.serve(serverB, passing(tree, nil))
		o := Options{DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere, serverB}, TrustAnchors: anchors, Dialer: n.dial}
		r := n.newResolver(o)
		if _, err := r.MX(t.Context(), "mx.good.test"); AsError(err).Kind != Bogus || !strings.Contains(err.Error(), "belongs into dns.private") {
			t.Errorf("%v", err)
		}
		if tlsa, err := r.TLSA(t.Context(), "_25._tcp.mx.good.test"); err != nil || !tlsa.Secure {
			t.Errorf("%+v %v", tlsa, err) // no records without signatures: the other's count
		}
		o.Private = []string{"good.test"}
		r.Reconfigure(o)
		mx, err := r.MX(t.Context(), "mx.good.test")
		check(t, mx.Records, err, []MX{{10, "inside.good.test"}})
		if mx.Secure {
			t.Error("secure without a signature")
		}
	})
}

// TestRootThatCannotBeAsked: servers that answer everything but what the root's
// test asks stop no mail for longer than an attack may; where nothing is answered
// at all, nothing is learnt from it.
func TestRootThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		refusing := func(m *wire.Msg) {
			if m.Question[0].Qtype == wire.TypeDNSKEY || m.Question[0].Qtype == wire.TypeDS {
				m.Rcode, m.Answer, m.Ns = wire.RcodeServerFailure, nil, nil
			}
		}
		n.serve(elsewhere, passing(tree, nil))
		r := n.newResolver(Options{DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors})
		if st := r.DNSSEC(t.Context()); !st.On() {
			t.Fatalf("%+v", st)
		}
		n.serve(elsewhere, silence)
		time.Sleep(4 * testEvery)
		if st := r.DNSSEC(t.Context()); !st.On() || st.Doubt == "" {
			t.Errorf("%+v", st)
		}
		n.serve(elsewhere, passing(tree, refusing))
		ask := func() error {
			_, err := r.MX(t.Context(), "free.test")
			return err
		}
		if err := ask(); AsError(err) == nil || !AsError(err).Temporary() {
			t.Errorf("%v", err)
		}
		for range 2 * maxDoubts {
			time.Sleep(testDoubtful)
			ask()
		}
		if st := r.DNSSEC(t.Context()); st.On() || !st.Alarm {
			t.Errorf("%+v", st)
		}
		if err := ask(); err != nil {
			t.Error(err)
		}
		n.serve(elsewhere, passing(tree, nil))
		time.Sleep(testDoubtful + time.Second)
		if st := r.DNSSEC(t.Context()); !st.On() || st.Alarm {
			t.Errorf("%+v", st)
		}
	})
}

// TestNetworkComesLater: a test that met silence is made again with the first
// answer, not a minute later.
func TestNetworkComesLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		n.serve(elsewhere, silence)
		r := n.newResolver(Options{DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors, Timeout: time.Second})
		r.DNSSEC(t.Context())
		time.Sleep(testAtOnce + 2*time.Second)
		if st := r.DNSSEC(t.Context()); st.On() || st.Tested.IsZero() {
			t.Errorf("%+v", st)
		}
		n.serve(elsewhere, passing(tree, nil))
		time.Sleep(testAtOnce)
		wantMX(t, r, "good.test", false)
		time.Sleep(testAtOnce + time.Second)
		wantMX(t, r, "good.test", true)
	})
}

// TestLateForItsGeneration: a look-up that begins by options that were replaced
// meanwhile starts no self-test for them.
func TestLateForItsGeneration(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(loopback, checking(marked, servfail))
		o := Options{DNSSEC: DNSSECTrust, Servers: []netip.AddrPort{loopback}, Dialer: n.dial}
		r := n.newResolver(o)
		old := r.settings.Load()
		r.Reconfigure(o)
		if r.watch(old); old.trust.begun {
			t.Error("begun")
		}
	})
}

// TestReloadInASilence: a reload with the same options goes on from what was
// known; while nobody answers the new self-test nothing is taken for unsigned.
func TestReloadInASilence(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		n.serve(elsewhere, passing(tree, nil))
		o := Options{DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors, Dialer: n.dial}
		r := n.newResolver(o)
		wantMX(t, r, "good.test", true)
		keys := passing(tree, nil)
		n.serve(elsewhere, func(network string, q *wire.Msg) (*wire.Msg, []byte) {
			if q.Question[0].Qtype == wire.TypeDNSKEY {
				return nil, nil
			}
			return keys(network, q)
		})
		for range 2 { // the second one before the first one's test has ended
			r.Reconfigure(o)
			if mx, err := r.MX(t.Context(), "good.test"); err == nil || !AsError(err).Temporary() {
				t.Errorf("%+v %v", mx, err)
			}
		}
		time.Sleep(2 * maxTestTime)
		if st := r.DNSSEC(t.Context()); !st.On() || st.Doubt == "" {
			t.Errorf("%+v", st)
		}
		n.serve(elsewhere, passing(tree, nil))
		time.Sleep(testDoubtful + time.Second)
		wantMX(t, r, "good.test", true)
		// Other options begin anew.
		o.Servers = []netip.AddrPort{serverB}
		n.serve(serverB, passing(tree, strip))
		r.Reconfigure(o)
		wantMX(t, r, "good.test", false)
	})
}
