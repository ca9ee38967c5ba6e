package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// requiring starts the mail server of a domain, with REQUIRETLS or without.
func (w *tlsWorld) requiring(domain string, with ...string) (*mtatest.MX, func(usage int)) {
	w.t.Helper()
	cert, leaf := w.certificate("mx."+domain, time.Time{})
	ip := fmt.Sprintf("127.0.2.%d", w.next)
	w.next++
	server := mtatest.NewMX(mtatest.MXConfig{Hostname: "mx." + domain, Certificate: cert, With: with})
	if _, err := server.Listen(fmt.Sprintf("%s:%d", ip, w.port)); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(server.Stop)
	w.records(fmt.Sprintf("%[1]s. 1 MX 10 mx.%[1]s.\nmx.%[1]s. 1 A %[2]s", domain, ip))
	return server, func(usage int) { w.dane(domain, usage, leaf) }
}

// TestREQUIRETLSAllTheWay: a message handed over with REQUIRETLS arrives with it
// where that can be, verified, and comes back at once where it cannot (RFC 8689);
// TLS-Required: No arrives whatever the domain publishes.
func TestREQUIRETLSAllTheWay(t *testing.T) {
	t.Parallel()
	w := newTLSWorld(t)
	signed, publish := w.requiring("signed.example", "REQUIRETLS")
	publish(3)
	policed, _ := w.requiring("policed.example", "REQUIRETLS")
	w.sts("policed.example")
	lacks, publish := w.requiring("lacks.example")
	publish(3)
	unsigned, _ := w.requiring("unsigned.example", "REQUIRETLS")
	another, _ := w.requiring("another.example")
	_, leaf := w.certificate("mx.another.example", time.Time{}) // not the one that its server shows
	w.dane("another.example", 3, leaf)
	d := w.daemon(w.tables()).start()

	letter := filepath.Join(w.dir, "letter.eml")
	if err := os.WriteFile(letter, []byte(plainLetter), 0o600); err != nil {
		t.Fatal(err)
	}
	send := func(to string) string {
		t.Helper()
		return strings.TrimSpace(d.must("send", "-k", "--require-tls", "-f", "a@sender.example", letter, to))
	}
	for _, c := range []struct {
		to, by string
		mx     *mtatest.MX
	}{{"b@signed.example", "dane", signed}, {"b@policed.example", "pkix", policed}} {
		records := d.waitEvent(send(c.to), "delivered")
		tls, _ := records[len(records)-1]["tls"].(map[string]any)
		if tls["verified_by"] != c.by || tls["demanded_by"] != "requiretls" {
			t.Errorf("%s: %v", c.to, records)
		}
		if asked, _ := records[0]["tls"].(map[string]any); records[0].text("event") != "accepted" || len(asked) != 1 || asked["demanded_by"] != "requiretls" {
			t.Errorf("%s: %v", c.to, records[0])
		}
		if m := c.mx.Messages(); len(m) != 1 || m[0].TLS == nil || !strings.Contains(m[0].Params, "REQUIRETLS") {
			t.Errorf("%s: %d messages: %+v", c.to, len(m), m)
		}
	}
	for to, mx := range map[string]*mtatest.MX{"b@lacks.example": lacks, "b@unsigned.example": unsigned} {
		records := d.waitEvent(send(to), "failed")
		found := false
		for _, r := range records {
			found = found || r.text("event") == "failed" && r.text("enhanced") == "5.7.30"
		}
		if !found || len(mx.Messages()) != 0 {
			t.Errorf("%s: %v, %d messages", to, records, len(mx.Messages()))
		}
	}
	d.submit("a@sender.example", []string{"b@another.example"}, plainLetter)
	if out := d.must("trace", "b@another.example", "--event", "accepted", "--json"); strings.Contains(out, "tls") {
		t.Error(out)
	}
	d.waits("b@another.example", "demanded by the TLSA records")
	d.waitEvent(d.submit("a@sender.example", []string{"c@another.example"}, "TLS-Required: No\r\n"+plainLetter), "delivered")
	if m := another.Messages(); len(m) != 1 || m[0].TLS == nil {
		t.Errorf("%d messages", len(m))
	}
	d.stop()
}
