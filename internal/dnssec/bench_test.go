package dnssec

import (
	"testing"

	"github.com/miekg/dns"
)

// BenchmarkValidate checks one answer whose zones are known.
func BenchmarkValidate(b *testing.B) {
	w := common(b)
	for name, question := range map[string]string{"ECDSA P-256": "ec.test.", "RSA-2048": "rsa.test.", "Ed25519": "ed.test.", "NXDOMAIN, NSEC": "gone.ec.test.", "NXDOMAIN, NSEC3": "gone.hash.test."} {
		m := w.answer(question, dns.TypeMX)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if v := w.Validate(b.Context(), m, question, dns.TypeMX); v.Status != Secure {
					b.Fatal(v.Why)
				}
			}
		})
	}
}
