//go:debug rsa1024min=0

package dnssec

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mailout/internal/mtatest"
)

var testNow = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// world is a signed name space and a validator of it.
type world struct {
	*mtatest.Tree
	*Validator
	now time.Time
	// alter changes what is answered about a name and type.
	alter func(m *dns.Msg)
	mu    sync.Mutex
	asked []string
}

func newWorld(t testing.TB, zones ...mtatest.SignedZone) *world {
	t.Helper()
	tree, err := mtatest.NewTree(testNow, zones...)
	if err != nil {
		t.Fatal(err)
	}
	return worldOf(t, tree)
}

// commonTree is made once: RSA keys take their time.
var commonTree = sync.OnceValues(func() (*mtatest.Tree, error) { return mtatest.NewTree(testNow, zones()...) })

// common is a world of the common zones, with a validator of its own.
func common(t testing.TB) *world {
	t.Helper()
	tree, err := commonTree()
	if err != nil {
		t.Fatal(err)
	}
	return worldOf(t, tree)
}

func worldOf(t testing.TB, tree *mtatest.Tree) *world {
	t.Helper()
	w := &world{Tree: tree, now: testNow}
	anchors, err := ParseAnchors(strings.NewReader(tree.Anchor(".")))
	if err != nil {
		t.Fatal(err)
	}
	w.Validator = New(Options{Anchors: anchors, Source: w.source, Now: func() time.Time { return w.now }})
	return w
}

func (w *world) source(ctx context.Context, name string, qtype uint16, good func(*dns.Msg) bool) error {
	w.mu.Lock()
	w.asked = append(w.asked, name+" "+dns.TypeToString[qtype])
	w.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m := w.answer(name, qtype)
	if m == nil {
		return errors.New("silence")
	}
	good(m)
	return nil
}

// answer is what comes over the wire.
func (w *world) answer(name string, qtype uint16) *dns.Msg {
	m := w.Answer(name, qtype, true)
	if w.alter != nil {
		w.alter(m)
		if m.Rcode == dns.RcodeServerFailure {
			return nil
		}
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	out := new(dns.Msg)
	if err := out.Unpack(b); err != nil {
		panic(err)
	}
	return out
}

// verdict asks and checks.
func (w *world) verdict(name string, qtype uint16) Verdict {
	m := w.answer(name, qtype)
	return w.Validate(context.Background(), m, name, qtype)
}

func (w *world) expect(t *testing.T, question string, want Status, why string) {
	t.Helper()
	name, qtype, _ := strings.Cut(question, " ")
	v := w.verdict(name, dns.StringToType[qtype])
	if v.Status != want || !strings.Contains(v.Why, why) {
		t.Errorf("%s: %s (%s), want %s (%s)", question, v.Status, v.Why, want, why)
	}
	if (v.Status == Secure) != !v.Until.IsZero() {
		t.Errorf("%s: until %v", question, v.Until)
	}
}

// records are what most zones of the tests hold.
const records = `@ MX 10 mx
mx A 192.0.2.1
_25._tcp.mx TLSA 3 1 1 00ff
alias CNAME mx
chain CNAME alias
*.wild TXT "any"
*.wildalias CNAME mx
deep.er.wild A 192.0.2.9
moved DNAME target
x.target A 192.0.2.3
lone.unsigned-child NS ns.invalid.
unsigned NS ns.invalid.
a.b.c.d A 192.0.2.4
`

func zones() []mtatest.SignedZone {
	return []mtatest.SignedZone{
		{Name: "."},
		{Name: "test.", TwoKeys: true, Algorithm: dns.RSASHA256},
		{Name: "ec.test.", Records: records},
		{Name: "xec.test.", Records: records},
		{Name: "rsa.test.", Records: records, Algorithm: dns.RSASHA512, TwoKeys: true},
		{Name: "sha1.test.", Records: records, Algorithm: dns.RSASHA1},
		{Name: "ed.test.", Records: records, Algorithm: dns.ED25519, Digest: dns.SHA384},
		{Name: "p384.test.", Records: records, Algorithm: dns.ECDSAP384SHA384},
		{Name: "hash.test.", Records: records, NSEC3: true, Iterations: 5, Salt: "aabb"},
		{Name: "plain3.test.", Records: records, NSEC3: true},
		{Name: "optout.test.", Records: records, NSEC3: true, OptOut: true},
		{Name: "child.optout.test.", Records: records},
		{Name: "free.optout.test.", Unsigned: true, Records: records},
		{Name: "many.test.", Records: records, NSEC3: true, Iterations: 101},
		{Name: "free.test.", Unsigned: true, Records: records},
		{Name: "below.free.test.", Records: records},
		{Name: "island.test.", NoDS: true, Records: records},
		{Name: "wrong.test.", WrongDS: true, Records: records},
		{Name: "short.test.", Algorithm: dns.RSASHA256, Bits: 512, Records: records},
		{Name: "gost.test.", Digest: 3, Records: records},
		{Name: "expired.test.", Inception: testNow.Add(-48 * time.Hour), Expiration: testNow.Add(-24 * time.Hour), Records: records},
		{Name: "early.test.", Inception: testNow.Add(24 * time.Hour), Expiration: testNow.Add(48 * time.Hour), Records: records},
		{Name: "away.test.", Records: "@ MX 10 mx.free.test.\nout CNAME mx.free.test.\nbad CNAME mx.wrong.test.\nin CNAME mx.hash.test.\n"},
	}
}

func TestZones(t *testing.T) {
	t.Parallel()
	w := common(t)
	if err := w.Test(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, zone := range []string{"ec", "rsa", "sha1", "ed", "p384", "hash", "plain3", "optout", "child.optout"} {
		at := "." + zone + ".test."
		w.expect(t, zone+".test. MX", Secure, "")
		w.expect(t, "mx"+at+" A", Secure, "")
		w.expect(t, "_25._tcp.mx"+at+" TLSA", Secure, "")
		w.expect(t, "chain"+at+" A", Secure, "")
		w.expect(t, "chain"+at+" AAAA", Secure, "")      // NODATA behind aliases
		w.expect(t, "mx"+at+" AAAA", Secure, "")         // NODATA
		w.expect(t, "b.c.d"+at+" A", Secure, "")         // an empty non-terminal
		w.expect(t, "x.moved"+at+" A", Secure, "")       // DNAME
		w.expect(t, "deep.er.wild"+at+" A", Secure, "")  // not a wildcard's
		w.expect(t, "mx.unsigned"+at+" A", Insecure, "") // no zone of the tree, but delegated: see below
		w.expect(t, zone+".test. DS", Secure, "")        // the parent's, which has them
		w.expect(t, zone+".test. DNSKEY", Secure, "")    //
		w.expect(t, "*.wild"+at+" TXT", Secure, "")      // asked by its own name
	}
	for _, zone := range []string{"ec", "hash", "plain3", "child.optout"} {
		at := "." + zone + ".test."
		w.expect(t, "gone"+at+" A", Secure, "")
		w.expect(t, "nothing.deep.er.wild"+at+" A", Secure, "") // below a leaf
		w.expect(t, "a.gone"+at+" MX", Secure, "")
		w.expect(t, "any.wild"+at+" TXT", Secure, "")
		w.expect(t, "a.b.wild"+at+" TXT", Secure, "")
		w.expect(t, "any.wild"+at+" A", Secure, "") // a wildcard without the type
		w.expect(t, "any.wildalias"+at+" A", Secure, "")
	}
	w.expect(t, "gone.optout.test. A", Insecure, "opt-out")
	w.expect(t, "any.wild.optout.test. TXT", Insecure, "opt-out")
	w.expect(t, "free.optout.test. MX", Insecure, "opt-out")
	w.expect(t, "free.optout.test. DS", Insecure, "opt-out")
	w.expect(t, "many.test. MX", Secure, "")
	w.expect(t, "gone.many.test. MX", Insecure, "101 iterations")
	w.expect(t, "free.test. MX", Insecure, "delegated by test.")
	w.expect(t, "gone.free.test. MX", Insecure, "delegated by test.")
	w.expect(t, "free.test. DS", Secure, "")
	w.expect(t, "below.free.test. MX", Insecure, "free.test. is delegated")
	w.expect(t, "island.test. MX", Insecure, "island.test. is delegated")
	w.expect(t, "gone.island.test. MX", Insecure, "")
	w.expect(t, "short.test. MX", Insecure, "shorter")
	w.expect(t, "gost.test. MX", Insecure, "algorithms")
	w.expect(t, "wrong.test. MX", Bogus, "no key of wrong.test.")
	w.expect(t, "gone.wrong.test. MX", Bogus, "no key of wrong.test.")
	w.expect(t, "expired.test. MX", Bogus, "expired at 2026-11-22T12:00:00Z")
	w.expect(t, "early.test. MX", Bogus, "not valid before 2026-11-24T12:00:00Z")
	w.expect(t, "away.test. MX", Secure, "")
	w.expect(t, "out.away.test. A", Insecure, "free.test. is delegated")
	w.expect(t, "bad.away.test. A", Bogus, "wrong.test.")
	w.expect(t, "in.away.test. A", Secure, "")
	w.expect(t, ". NS", Secure, "")
	w.expect(t, ". DS", Secure, "")
	w.expect(t, "gone. A", Secure, "")
}
