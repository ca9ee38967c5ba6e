package lab

import (
	"fmt"
	"testing"
)

// TestKeptPolicyProtects: an MTA-STS policy that was once had counts until it
// ends, whatever becomes of its host and of its record, also after a restart.
// (That one that was replaced does not is tlspolicy's to show, in virtual time:
// its record is looked at every ten minutes.)
func TestKeptPolicyProtects(t *testing.T) {
	w, way := newDynWorld(t), tamperers(t)[pass]
	t.Cleanup(func() { way.turn(pass) })
	// What becomes of each domain after its policy was had.
	changes := []struct {
		name   string
		change func(name string)
	}{
		{"cached", w.away},
		{"lost", func(name string) { w.announce(name, "2"); w.away(name) }},
		{"broken", func(name string) { w.announce(name, "2"); w.policy(name, "") }},
		{"kept", func(name string) { w.announce(name, "") }},
	}
	var to []string
	for _, c := range changes {
		w.domain(c.name)
		w.announce(c.name, "1")
		w.policy(c.name, fmt.Sprintf("version: STSv1\nmode: enforce\nmx: mx-%s.dyn.test\nmax_age: 86400\n", c.name))
		to = append(to, "sts@"+c.name+".dyn.test")
	}
	m, err := startMailout("kept", "127.0.1.8:2541", tlsTables())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.process.Kill()
		if t.Failed() {
			t.Logf("serve's log:\n%s", m.process.Log(60))
		}
	})
	first := m.outcomes(t, m.send(t, "sender@origin.test", "Subject: first\r\n\r\nx\r\n", to...), len(to))
	for _, c := range changes {
		protected := tlsCase{domain: c.name + ".dyn.test", event: "delivered", verified: "pkix", demanded: "mta-sts"}
		protected.judge(t, first["sts@"+protected.domain])
		if n := w.fetched(c.name); n != 1 {
			t.Errorf("the policy of %s was fetched %d times", c.name, n)
		}
		c.change(c.name)
	}
	// Now somebody on the way takes STARTTLS out, and the daemon starts anew.
	m.process.Kill()
	way.turn(strip)
	if err := m.start(); err != nil {
		t.Fatal(err)
	}
	id := m.send(t, "sender@origin.test", "Subject: second\r\n\r\nx\r\n", to...)
	second := m.outcomes(t, id, len(to))
	for _, c := range changes {
		want := tlsCase{domain: c.name + ".dyn.test", event: "deferred", demanded: "mta-sts", why: []string{"MTA-STS", c.name + ".dyn.test"}}
		t.Run(c.name, func(t *testing.T) { want.judge(t, second["sts@"+want.domain]) })
		if way.saw("sts@" + want.domain) {
			t.Errorf("somebody on the way read the recipient at %s", want.domain)
		}
	}
	// When nobody meddles any more, what waits goes out, protected as before.
	way.turn(pass)
	for _, c := range changes {
		protected := tlsCase{domain: c.name + ".dyn.test", event: "delivered", verified: "pkix", demanded: "mta-sts"}
		protected.judge(t, m.await(t, id, "sts@"+protected.domain, "delivered"))
	}
}
