package dnssec

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"mailout/internal/mtatest"
)

// told is what a reader takes from a message: the records at the end of the
// aliases, or that there are none.
func told(m *dns.Msg, name string, qtype uint16) string {
	name = dns.CanonicalName(name)
	links := 0
	for range 20 {
		i := slices.IndexFunc(m.Answer, func(rr dns.RR) bool {
			return rr.Header().Rrtype == dns.TypeCNAME && rr.Header().Class == dns.ClassINET && dns.CanonicalName(rr.Header().Name) == name
		})
		if i < 0 {
			break
		}
		name = dns.CanonicalName(m.Answer[i].(*dns.CNAME).Target)
		links++
	}
	var data []string
	for _, rr := range m.Answer {
		if h := rr.Header(); h.Rrtype == qtype && h.Class == dns.ClassINET && dns.CanonicalName(h.Name) == name {
			data = append(data, strings.ToLower(strings.TrimPrefix(rr.String(), h.String())))
		}
	}
	slices.Sort(data)
	data = slices.Compact(data)
	switch {
	case len(data) == 0 && m.Rcode == dns.RcodeNameError:
		return name + " is not there"
	case len(data) == 0 && links > 0 && !hasSOA(m.Ns):
		return name + " is asked next"
	}
	return fmt.Sprint(name, data)
}

var questions = []string{"ec.test. MX", "chain.ec.test. A", "chain.hash.test. AAAA", "any.wild.ec.test. TXT", "any.wild.hash.test. TXT", "any.wild.ec.test. A",
	"any.wild.hash.test. A", "gone.ec.test. MX", "gone.hash.test. MX", "mx.ec.test. MX", "x.moved.ed.test. A", "_25._tcp.mx.rsa.test. TLSA", "b.c.d.hash.test. A", "any.wildalias.ed.test. A"}

// TestAnyOctetChanged: however an answer is changed on its way, nothing is
// secure that was not said; the same for the answers that its chain is made of.
func TestAnyOctetChanged(t *testing.T) {
	t.Parallel()
	base := common(t)
	truth := map[string]string{}
	for _, q := range questions {
		name, qtype, _ := strings.Cut(q, " ")
		m := base.answer(name, dns.StringToType[qtype])
		truth[q] = told(m, name, dns.StringToType[qtype])
		if v := base.Validate(t.Context(), m, name, dns.StringToType[qtype]); v.Status != Secure {
			t.Fatalf("%s: %+v", q, v)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		q := rapid.SampledFrom(questions).Draw(t, "question")
		name, qtypeText, _ := strings.Cut(q, " ")
		qtype := dns.StringToType[qtypeText]
		chain := rapid.Bool().Draw(t, "chain")
		change := func(m *dns.Msg) *dns.Msg {
			b, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				at := rapid.IntRange(2, len(b)-1).Draw(t, "at")
				b[at] ^= byte(rapid.IntRange(1, 255).Draw(t, "bits"))
			}
			out := new(dns.Msg)
			if out.Unpack(b) != nil {
				return nil
			}
			return out
		}
		w := base
		m := base.answer(name, qtype)
		if chain {
			tree, _ := commonTree()
			w = &world{Tree: tree, now: testNow}
			spoil := rapid.IntRange(0, 5).Draw(t, "which")
			w.Validator = New(Options{Anchors: base.anchors, Now: base.clock, Source: func(_ context.Context, name string, qtype uint16, good func(*dns.Msg) bool) error {
				m := w.answer(name, qtype)
				if spoil--; spoil == -1 {
					if m = change(m); m == nil {
						return errSpent
					}
				}
				good(m)
				return nil
			}})
		} else if m = change(m); m == nil {
			return
		}
		v := w.Validate(t.Context(), m, name, qtype)
		if v.Status == Secure && told(m, name, qtype) != truth[q] {
			said := told(m, name, qtype)
			if strings.HasSuffix(said, " is asked next") {
				return // true as far as it goes
			}
			t.Fatalf("%s is secure and says %s, not %s\n%v", q, said, truth[q], m)
		}
		if v.Status == Insecure && !chain && !strings.HasPrefix(q, "gone.") { // of what is not there, nothing is lost
			t.Fatalf("%s is insecure: %s\n%v", q, v.Why, m)
		}
	})
}

// TestKeyTrap: keys whose tags collide and signatures that none of them made
// (CVE-2023-50387) cost no more than the bounds.
func TestKeyTrap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mtatest.SignedZone{Name: "."}, mtatest.SignedZone{Name: "trap.", Collide: 50, Records: "@ MX 10 mx\n"}, mtatest.SignedZone{Name: "wide.", Collide: 70})
	w.alter = func(m *dns.Msg) {
		if m.Question[0].Qtype == dns.TypeMX { // the true key comes last
			var sigs []dns.RR
			for i := range 100 {
				sig := dns.Copy(m.Answer[1]).(*dns.RRSIG)
				sig.OrigTtl = uint32(i)
				sigs = append(sigs, sig)
			}
			m.Answer = append(m.Answer[:1], sigs...)
		}
	}
	m := w.answer("trap.", dns.TypeMX)
	z, err := w.work(t.Context(), "trap.").zone("trap.")
	if err != nil {
		t.Fatal(err)
	}
	same := 0
	for _, k := range z.keys {
		if k.tag == z.keys[0].tag {
			same++
		}
	}
	if same < 40 {
		t.Fatalf("%d keys collide", same)
	}
	work := w.work(t.Context(), "trap.")
	_, err = work.message(m, dns.TypeMX)
	if StatusOf(err) != Bogus || work.checks > maxTries {
		t.Errorf("%v after %d checks", err, work.checks)
	}
	w.expect(t, "wide. NS", Bogus, "more than 64 keys")
}

// TestCheckBudget: a long chain of aliases, each with tries to spend, ends at
// the bound, and what others need of the zones is not spoilt.
func TestCheckBudget(t *testing.T) {
	t.Parallel()
	w := common(t)
	work := w.work(t.Context(), "ec.test.")
	work.checks = maxChecks
	if _, err := work.message(w.answer("ec.test.", dns.TypeMX), dns.TypeMX); StatusOf(err) != Bogus {
		t.Error(err)
	}
	w.expect(t, "ec.test. MX", Secure, "")
	work = w.work(t.Context(), "ed.test.")
	work.queries = maxQueries
	if _, err := work.message(w.answer("ed.test.", dns.TypeMX), dns.TypeMX); StatusOf(err) != Indeterminate {
		t.Error(err)
	}
	w.expect(t, "ed.test. MX", Secure, "")
	work = w.work(t.Context(), "hash.test.")
	work.rounds = maxRounds
	if _, err := work.message(w.answer("gone.hash.test.", dns.TypeMX), dns.TypeMX); StatusOf(err) != Bogus {
		t.Error(err)
	}
	w.expect(t, "gone.hash.test. MX", Secure, "")
}

// TestHashBudget: a name of many labels and a zone with as many iterations as
// are taken (CVE-2023-50868) stay within the bound of hashing.
func TestHashBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, mtatest.SignedZone{Name: "."}, mtatest.SignedZone{Name: "deep.", NSEC3: true, Iterations: maxIterations, Salt: strings.Repeat("ab", 200)})
	name := strings.Repeat("a.", 120) + "deep."
	work := w.work(t.Context(), name)
	_, err := work.message(w.answer(name, dns.TypeA), dns.TypeA)
	if err != nil && StatusOf(err) != Bogus || work.rounds > maxRounds {
		t.Errorf("%v after %d rounds", err, work.rounds)
	}
	w.expect(t, "a.deep. A", Secure, "")
}

func TestCanonicalOrder(t *testing.T) {
	t.Parallel()
	// RFC 4034 6.1, with its example names.
	names := []string{"example.", "a.example.", "yljkjljk.a.example.", "z.a.example.", "zabc.a.example.", "z.example.", `\001.z.example.`, "*.z.example.", `\200.z.example.`}
	for i := range names {
		for j := range names {
			c := compare(names[i], names[j])
			if (c < 0) != (i < j) || (c == 0) != (i == j) {
				t.Errorf("%s, %s: %d", names[i], names[j], c)
			}
		}
	}
	if compare("A.Example.", "a.example.") != 0 {
		t.Error("capitals count")
	}
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	// The keys themselves, as they stand in the root zone, fit the digests.
	for _, text := range []string{
		`. IN DNSKEY 257 3 8 AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=`,
		`. IN DNSKEY 257 3 8 AwEAAa96jeuknZlaeSrvyAJj6ZHv28hhOKkx3rLGXVaC6rXTsDc449/cidltpkyGwCJNnOAlFNKF2jBosZBU5eeHspaQWOmOElZsjICMQMC3aeHbGiShvZsx4wMYSjH8e7Vrhbu6irwCzVBApESjbUdpWWmEnhathWu1jo+siFUiRAAxm9qyJNg/wOZqqzL/dL/q8PkcRU5oUKEpUge71M3ej2/7CPqpdVwuMoTvoB+ZOT4YeGyxMvHmbrxlFzGOHOijtzN+u1TQNatX2XBuzZNQ1K+s2CXkPIZo7s6JgZyvaBevYtxPvYLw4z9mR7K2vaF18UYH9Z9GNUUeayffKC73PYc=`,
	} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		k := rr.(*dns.DNSKEY)
		found := false
		for _, ds := range BuiltIn()["."] {
			found = found || len(entry([]*dns.DNSKEY{k}, ds)) == 1
		}
		if tag := k.KeyTag(); !found || tag != 20326 && tag != 38696 {
			t.Errorf("key %d fits no anchor", tag)
		}
		if a, err := ParseAnchors(strings.NewReader(text)); err != nil || len(a["."]) != 1 || !strings.EqualFold(a["."][0].Digest, k.ToDS(dns.SHA256).Digest) {
			t.Errorf("%v %v", a, err)
		}
	}
	for name, text := range map[string]string{
		"nothing": "; a comment\n", "another record": ". IN A 192.0.2.1", "a broken line": ". IN DS 1 2", "an unknown algorithm": ". IN DS 1 12 2 " + strings.Repeat("ab", 32),
		"an unknown digest": ". IN DS 1 8 3 " + strings.Repeat("ab", 32), "too many": strings.Repeat(". IN DS 1 8 2 "+strings.Repeat("ab", 32)+"\n", maxAnchors+1),
		"a file of its own": "$INCLUDE /etc/passwd\n",
	} {
		if a, err := ParseAnchors(strings.NewReader(text)); err == nil {
			t.Errorf("%s: %v", name, a)
		}
	}
}

// TestIslands: anchors of other zones than the root.
func TestIslands(t *testing.T) {
	t.Parallel()
	w := common(t)
	a, err := ParseAnchors(strings.NewReader(w.Anchor("island.test.")))
	if err != nil {
		t.Fatal(err)
	}
	w.Validator = New(Options{Anchors: a, Source: w.source, Now: w.clock})
	if err := w.Test(t.Context()); err != nil {
		t.Error(err)
	}
	w.expect(t, "mx.island.test. A", Secure, "")
	w.expect(t, "ec.test. MX", Insecure, "no trust anchor")
	w.expect(t, "island.test. DS", Insecure, "no trust anchor")
}

func TestStrongestDigest(t *testing.T) {
	t.Parallel()
	of := func(digests ...uint8) (out []*dns.DS) {
		for _, d := range digests {
			out = append(out, &dns.DS{Algorithm: dns.RSASHA256, DigestType: d})
		}
		return out
	}
	for _, c := range []struct{ in, want []*dns.DS }{
		{of(1), of(1)}, {of(1, 2), of(2)}, {of(1, 4, 2), of(4, 2)}, {of(3), nil}, {of(3, 1), of(1)}, {nil, nil},
	} {
		if got := strongest(c.in); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%v, want %v", got, c.want)
		}
	}
	if got := strongest([]*dns.DS{{Algorithm: dns.DSA, DigestType: 2}}); got != nil {
		t.Errorf("%v", got)
	}
}

// rsaKey is a key with a modulus of some octets.
func rsaKey(exponent string, modulus int) *dns.DNSKEY {
	e, err := hex.DecodeString(exponent)
	if err != nil {
		panic(err)
	}
	b := append([]byte{byte(len(e))}, e...)
	b = append(b, bytes.Repeat([]byte{0xff}, modulus)...)
	return &dns.DNSKEY{Flags: 257, Protocol: 3, Algorithm: dns.RSASHA256, PublicKey: base64.StdEncoding.EncodeToString(b)}
}

func TestUsableKeys(t *testing.T) {
	t.Parallel()
	good := func() *dns.DNSKEY {
		return &dns.DNSKEY{Flags: 257, Protocol: 3, Algorithm: dns.ED25519, PublicKey: "AAAA"}
	}
	for _, k := range []*dns.DNSKEY{good(), rsaKey("010001", 128), rsaKey("7fffffff", 512)} {
		if !usable(k) {
			t.Errorf("a good key is not usable: %v", k)
		}
	}
	for name, change := range map[string]func(k *dns.DNSKEY){
		"revoked": func(k *dns.DNSKEY) { k.Flags |= dns.REVOKE }, "no zone key": func(k *dns.DNSKEY) { k.Flags = 1 },
		"protocol": func(k *dns.DNSKEY) { k.Protocol = 2 }, "algorithm": func(k *dns.DNSKEY) { k.Algorithm = dns.RSAMD5 },
		"modulus": func(k *dns.DNSKEY) { *k = *rsaKey("03", 127) }, "a long modulus": func(k *dns.DNSKEY) { *k = *rsaKey("03", 513) },
		"exponent": func(k *dns.DNSKEY) { *k = *rsaKey("80000000", 256) }, "a long exponent": func(k *dns.DNSKEY) { *k = *rsaKey("0100000001", 256) },
		"no exponent": func(k *dns.DNSKEY) { *k = *rsaKey("", 256) }, "zeros": func(k *dns.DNSKEY) { *k = *rsaKey("0003", 256) },
		"short": func(k *dns.DNSKEY) { k.Algorithm = dns.RSASHA256 }, "unreadable": func(k *dns.DNSKEY) { k.Algorithm, k.PublicKey = dns.RSASHA256, "?" },
	} {
		k := good()
		if change(k); usable(k) {
			t.Errorf("%s: usable", name)
		}
	}
}

// FuzzValidate: no message, and no chain of messages, breaks the validator or
// makes it work past its bounds; and nothing is secure that nobody signed.
func FuzzValidate(f *testing.F) {
	base := common(f)
	for _, q := range questions {
		name, qtype, _ := strings.Cut(q, " ")
		b, err := base.answer(name, dns.StringToType[qtype]).Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, q, uint8(0))
		f.Add(b, q, uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, question string, as uint8) {
		name, qtypeText, _ := strings.Cut(question, " ")
		qtype := dns.StringToType[qtypeText]
		m := new(dns.Msg)
		if _, ok := dns.IsDomainName(name); !ok || m.Unpack(b) != nil {
			return
		}
		name = dns.Fqdn(name)
		w := &world{Tree: base.Tree, now: testNow}
		w.Validator = New(Options{Anchors: base.anchors, Now: base.clock, Source: func(_ context.Context, name string, qtype uint16, good func(*dns.Msg) bool) error {
			if as%2 == 1 {
				good(m.Copy())
				return nil
			}
			good(w.answer(name, qtype))
			return nil
		}})
		work := w.work(t.Context(), dns.CanonicalName(name))
		_, err := work.message(m, qtype)
		if work.checks > maxChecks || work.queries > maxQueries || work.rounds > maxRounds {
			t.Errorf("%d checks, %d queries, %d rounds", work.checks, work.queries, work.rounds)
		}
		if err != nil {
			return
		}
		if as%2 == 1 && len(m.Answer) > 0 {
			t.Errorf("secure without a chain: %v", m)
		}
		truth := w.answer(name, qtype)
		if said := told(m, name, qtype); said != told(truth, name, qtype) && !strings.HasSuffix(said, " is asked next") {
			t.Errorf("%s is secure and says %s, not %s", question, said, told(truth, name, qtype))
		}
	})
}
