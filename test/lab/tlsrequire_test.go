package lab

import (
	"crypto/tls"
	"fmt"
	"strings"
	"testing"

	"mailout/internal/mtatest"
)

// requireIP has a server that offers REQUIRETLS. No real one here does: not
// Postfix 3.7, Exim 4.96, OpenSMTPD 6.8 or chasquid 1.11.
const requireIP = "127.0.1.75"

func requiringServer(t *testing.T) *mtatest.MX {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(state("pki", "pf.pem"), state("pki", "pf.key"))
	if err != nil {
		t.Fatal(err)
	}
	server := mtatest.NewMX(mtatest.MXConfig{Hostname: "mx-requires.dane.test", Certificate: &cert, With: []string{"REQUIRETLS"}})
	if _, err := server.Listen(requireIP + ":25"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

// startDoor starts a daemon with a door that has TLS.
func startDoor(t *testing.T, name, plain, secure string) *mailout {
	t.Helper()
	m, err := startMailout(name, plain, tlsTables()+fmt.Sprintf("\n[[listen]]\naddress = %q\ntrusted = [\"127.0.0.0/8\"]\ncert = %q\nkey = %q\n", secure, state("pki", "out.pem"), state("pki", "out.key")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.process.Kill()
		if t.Failed() {
			t.Logf("serve's log:\n%s", m.process.Log(60))
		}
	})
	return m
}

// TestRequireTLS: a message with REQUIRETLS goes where the server's name and
// certificate are beyond doubt and the server takes on the demand; comes back at
// once where a server cannot (RFC 8689 4.2.1); and waits where it only may not be
// the right one.
func TestRequireTLS(t *testing.T) {
	needLab(t)
	server := requiringServer(t)
	const door = "127.0.1.8:2543"
	m := startDoor(t, "require", "127.0.1.8:2542", door)
	cases := []struct{ to, event, verified, demanded, status string }{
		{"a@requires.dane.test", "delivered", "dane", "requiretls", ""},
		{"a@requires.sts.test", "delivered", "pkix", "requiretls", ""},
		{"a@requires.plain.test", "failed", "", "", "5.7.30"}, // nobody vouches for the host
		{"alice@pf.test", "failed", "", "", "5.7.30"},
		{"alice@exim.test", "failed", "", "", "5.7.30"},
		{"alice@chasquid.test", "failed", "", "", "5.7.30"},
		{"a@clear.dane.test", "failed", "", "", "5.7.10"},
		{"a@notls.sts.test", "deferred", "", "", ""}, // the domain promises TLS: somebody may have taken it
		{"a@requiresnot.dane.test", "deferred", "", "", ""},
		{"a@othername.sts.test", "deferred", "", "", ""},
	}
	client, err := mtatest.Dial(t.Context(), door)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	err = client.Hello("client.origin.test")
	if err == nil {
		err = client.StartTLS(&tls.Config{InsecureSkipVerify: true})
	}
	if err == nil {
		err = client.Hello("client.origin.test")
	}
	if err != nil {
		t.Fatal(err)
	}
	var to []string
	for _, c := range cases {
		to = append(to, c.to)
	}
	o, err := client.Send("sender@origin.test REQUIRETLS", to, []byte("Subject: require\r\n\r\nx\r\n"))
	if err == nil {
		err = o.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	outcomes := m.outcomes(t, o.ID(), len(to))
	for _, c := range cases {
		t.Run(c.to, func(t *testing.T) {
			rec := outcomes[c.to]
			if rec.text("event") != c.event || c.status != "" && rec.text("enhanced") != c.status {
				t.Fatalf("%s %s, want %s %s: %v", rec.text("event"), rec.text("enhanced"), c.event, c.status, rec)
			}
			if c.event != "delivered" {
				return
			}
			facts, _ := rec["tls"].(map[string]any)
			if got := record(facts); got.text("verified_by") != c.verified || c.demanded != "" && got.text("demanded_by") != c.demanded {
				t.Errorf("verified by %q, demanded by %q: %v", got.text("verified_by"), got.text("demanded_by"), rec)
			}
		})
	}
	if got := len(server.Messages()); got != 2 {
		t.Errorf("the server took %d messages", got)
	}
	for _, one := range server.Messages() {
		if !strings.Contains(one.Params, "REQUIRETLS") || one.TLS == nil {
			t.Errorf("it came with %q (TLS: %v)", one.Params, one.TLS != nil)
		}
	}
}

// TestTLSRequiredNo: a message that says that its arrival matters more than its
// way goes where the domain's policies would have it wait (RFC 8689 5).
func TestTLSRequiredNo(t *testing.T) {
	tamperers(t)
	m, err := startMailout("any", "127.0.1.8:2544", tlsTables())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.process.Kill() })
	to := []string{"a@wrong.dane.test", "a@expiredta.dane.test", "a@notls.dane.test", "a@strip.dane.test", "a@mismatch.sts.test", "a@expired.sts.test", "a@close.sts.test"}
	id := m.send(t, "sender@origin.test", "Subject: any\r\nTLS-Required: No\r\n\r\nx\r\n", to...)
	for address, rec := range m.outcomes(t, id, len(to)) {
		if rec.text("event") != "delivered" {
			t.Errorf("%s: %v", address, rec)
		}
	}
}
