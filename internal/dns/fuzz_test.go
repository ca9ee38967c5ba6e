package dns

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
)

var fuzzTypes = []uint16{wire.TypeMX, wire.TypeA, wire.TypeAAAA, wire.TypeTXT, wire.TypePTR, wire.TypeTLSA}

// FuzzAnswer feeds octets of a server to the reader: it never panics, and what
// it believes is bounded and in the form that callers rely on.
func FuzzAnswer(f *testing.F) {
	for _, m := range fuzzSeeds() {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)-1])
	}
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xc0, 0x0c}, 40))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) >= 2 { // any ID is ours, or nothing would get further
			b = bytes.Clone(b)
			binary.BigEndian.PutUint16(b, 7)
		}
		for _, qtype := range fuzzTypes {
			q := &query{id: 7, name: "x.test.", qtype: qtype}
			m, err := q.parse(b)
			if m == nil || err != nil {
				continue
			}
			a, e := understand(m, key{q.name, qtype}, MaxAliases)
			if e == nil {
				checkReading(t, a)
			}
		}
	})
}

func checkReading(t *testing.T, a reading) {
	if a.ttl < minTTL || a.ttl > maxTTL {
		t.Errorf("TTL %v", a.ttl)
	}
	if a.count() > MaxRecords || a.aliases > MaxAliases+1 {
		t.Errorf("%d records, %d aliases", a.count(), a.aliases)
	}
	if (a.verdict == found) != (a.count() > 0) {
		t.Errorf("verdict %d with %d records", a.verdict, a.count())
	}
	for _, mx := range a.mx {
		if mx.Host != "." && (mx.Host == "" || strings.HasSuffix(mx.Host, ".") && !strings.HasSuffix(mx.Host, `\.`) || mx.Host != strings.ToLower(mx.Host)) {
			t.Errorf("MX host %q", mx.Host)
		}
	}
	for _, addr := range a.addrs {
		if !addr.IsValid() || addr.Is4In6() {
			t.Errorf("address %v", addr)
		}
	}
}

func fuzzSeeds() []*wire.Msg {
	var seeds []*wire.Msg
	for _, qtype := range fuzzTypes {
		q := new(wire.Msg)
		q.SetQuestion("x.test.", qtype)
		seeds = append(seeds,
			withSOA(reply(q, wire.RcodeNameError, true), "60", "60"),
			reply(q, 0, true, "x.test. 60 IN CNAME y.test.", "y.test. 60 IN CNAME x.test."),
			reply(q, 0, true, "X.test. 60 IN CNAME y.test.", "y.test. 60 IN MX 1 A.test.", "y.test. 60 IN A 192.0.2.1",
				"y.test. 60 IN AAAA ::ffff:192.0.2.1", `y.test. 60 IN TXT "a" "\200"`, "y.test. 60 IN PTR z.test.", "y.test. 60 IN TLSA 3 1 1 00"))
	}
	return seeds
}

// FuzzHosts: any file is read without a panic, within the bounds.
func FuzzHosts(f *testing.F) {
	f.Add("127.0.0.1 localhost\n::1 localhost # x\n")
	f.Add("fe80::1%lo a.b.\n\x00 \xff\n1.2.3.4")
	f.Add("1.2.3.4 " + strings.Repeat("a ", 300))
	f.Fuzz(func(t *testing.T, text string) {
		names, _, _ := parseHosts(strings.NewReader(text))
		for name, list := range names {
			if full, ok := fqdn(name); !ok || full != name || len(list) == 0 || len(list) > MaxRecords {
				t.Errorf("%q: %v", name, list)
			}
		}
		if _, err := parseResolvConf(strings.NewReader(text)); err != nil && len(text) < 60000 {
			t.Error(err)
		}
	})
}

// FuzzUnescape: octets survive the library's presentation form.
func FuzzUnescape(f *testing.F) {
	f.Add("v=spf1 -all")
	f.Add("\x00\"\\\x7f\xff\\200")
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 255 {
			return
		}
		raw := append([]byte{0, 0, 16, 0, 1, 0, 0, 0, 60, byte((len(s) + 1) >> 8), byte(len(s) + 1), byte(len(s))}, s...)
		parsed, _, err := wire.UnpackRR(raw, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := unescape(parsed.(*wire.TXT).Txt[0]); got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}
