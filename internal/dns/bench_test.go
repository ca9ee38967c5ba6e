package dns

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

// BenchmarkLookups is what checking signatures costs: MX look-ups that miss the
// cache, of 500 names in one zone, or of 500 zones, from a server in memory whose
// signatures are made before. "one zone" has its keys known; in "500 zones" each
// name needs DS and DNSKEY as well.
func BenchmarkLookups(b *testing.B) {
	const names = 500
	var one strings.Builder
	zones := []mtatest.SignedZone{{Name: "."}, {Name: "test."}}
	for i := range names {
		fmt.Fprintf(&one, "d%d MX 10 mx\n", i)
		zones = append(zones, mtatest.SignedZone{Name: fmt.Sprintf("z%d.test.", i), Records: "@ MX 10 mx\n"})
	}
	zones = append(zones, mtatest.SignedZone{Name: "one.test.", Records: one.String()})
	tree, err := mtatest.NewTree(time.Now(), zones...)
	if err != nil {
		b.Fatal(err)
	}
	anchors := filepath.Join(b.TempDir(), "anchors")
	if err := os.WriteFile(anchors, []byte(tree.Anchor(".")), 0o600); err != nil {
		b.Fatal(err)
	}
	server := mtatest.NewDNS()
	server.Tree = tree
	defer server.Stop()
	for _, name := range []string{"d%d.one.test", "z%d.test"} {
		for i := range names { // signatures are made when they are asked for
			n := fmt.Sprintf(name, i) + "."
			for _, t := range []uint16{wire.TypeMX, wire.TypeDS, wire.TypeDNSKEY} {
				tree.Answer(n, t, true)
			}
		}
	}
	for _, mode := range []DNSSECMode{AsSaid, DNSSECValidate} {
		for label, name := range map[string]string{"one zone": "d%d.one.test", "500 zones": "z%d.test"} {
			b.Run(mode.String()+"/"+label, func(b *testing.B) {
				i := 0
				var r *Resolver
				for b.Loop() {
					if i%names == 0 {
						b.StopTimer()
						if r != nil {
							r.Close()
						}
						r = New(Options{Servers: []netip.AddrPort{elsewhere}, Dialer: server.DialContext, DNSSEC: mode, TrustAnchors: anchors})
						r.DNSSEC(b.Context())
						r.MX(b.Context(), "one.test")
						b.StartTimer()
					}
					if mx, err := r.MX(b.Context(), fmt.Sprintf(name, i%names)); err != nil || mx.Secure != (mode == DNSSECValidate) {
						b.Fatalf("%+v %v", mx, err)
					}
					i++
				}
				r.Close()
				b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "lookups/s")
			})
		}
	}
}
