package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// tlsTables is the configuration of the daemons here: the lab's authority
// besides those of the system.
func tlsTables() string { return fmt.Sprintf("\n[tls]\nca_file = %q\n", state("pki", "ca.pem")) }

// TestTLSPolicies: mail to every domain of the table at once. Each is delivered
// or waits as the table says, and journal, receiver and `explain` tell the same.
func TestTLSPolicies(t *testing.T) {
	holdToTable(t, "tls", "127.0.1.8:2540", tlsTables())
}

// holdToTable starts a daemon and holds it to the whole table. Pairs of old and
// new replace parts of its configuration.
func holdToTable(t *testing.T, name, door, tables string, pairs ...string) {
	t.Helper()
	between := tamperers(t)
	m, err := startMailout(name, door, tables, pairs...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.process.Kill()
		if t.Failed() {
			t.Logf("serve's log:\n%s", m.process.Log(60))
		}
	})
	user := name
	address := func(domain string) string {
		switch {
		case domain == "gnutls.dane.test" || !strings.Contains(strings.TrimSuffix(domain, ".test"), "."):
			return "alice@" + domain // a server that knows its users
		}
		return user + "@" + domain
	}
	var to []string
	for _, c := range tlsCases() {
		to = append(to, address(c.domain))
	}
	messageID := fmt.Sprintf("<%s.%d@origin.test>", name, time.Now().UnixNano())
	id := m.send(t, "sender@origin.test", "Subject: policies\r\nMessage-ID: "+messageID+"\r\n\r\nx\r\n", to...)
	outcomes := m.outcomes(t, id, len(to))
	arrived := arrivals(t, messageID)
	for _, c := range tlsCases() {
		t.Run(c.domain, func(t *testing.T) {
			rec := outcomes[address(c.domain)]
			c.judge(t, rec)
			c.judgeExplanation(t, m, address(c.domain))
			if secret, ok := arrived[address(c.domain)]; ok && c.event == "delivered" && secret == c.clear {
				t.Errorf("the receiver got it by TLS: %v", secret)
			}
			for way, p := range between {
				if !c.clear && p.saw(address(c.domain)) {
					t.Errorf("the proxy (%s) read the recipient", way)
				}
			}
		})
	}
}

// judge compares the first record after the acceptance with the table.
func (c *tlsCase) judge(t *testing.T, rec record) {
	t.Helper()
	if rec.text("event") != c.event {
		t.Fatalf("%s, want %s: %v", rec.text("event"), c.event, rec)
	}
	facts, _ := rec["tls"].(map[string]any)
	if c.event == "delivered" {
		if encrypted := facts["version"] != nil; encrypted == c.clear {
			t.Errorf("encrypted %v: %v", encrypted, rec)
		}
		if got := record(facts).text("verified_by"); got != c.verified {
			t.Errorf("verified by %q, want %q: %v", got, c.verified, rec)
		}
		if got := record(facts).text("demanded_by"); got != c.demanded {
			t.Errorf("demanded by %q, want %q: %v", got, c.demanded, rec)
		}
		return
	}
	if rec.text("class") != "temporary" || rec.text("next") == "" {
		t.Errorf("not to be tried again: %v", rec)
	}
	if got := record(facts).text("demanded_by"); got != c.demanded && rec.text("ip") != "" {
		t.Errorf("demanded by %q, want %q: %v", got, c.demanded, rec)
	}
	words := c.why
	if c.demanded != "" {
		words = append([]string{c.host()}, words...)
	}
	for _, word := range words {
		if !strings.Contains(rec.text("reason"), word) {
			t.Errorf("the reason does not name %q: %v", word, rec)
		}
	}
}

// requirement is what `explain` must say of a domain's first host.
func (c *tlsCase) requirement() (words, origin string) {
	switch {
	case c.demanded == "dane" && c.event == "delivered" && c.verified == "":
		return "encrypted", "dane"
	case c.demanded == "dane":
		return "dane", "dane"
	case c.demanded == "mta-sts":
		return "required", "mta-sts"
	}
	return "opportunistic", "tls.outbound (default)"
}

// explanation is what is read of `mailout explain`.
type explanation struct {
	TLS struct{ Requirement, Origin, Why, Testing string }

	Hosts []struct {
		Name, Failure string
		TLS           *struct{ Requirement, Origin string }
	}
	Policies []struct{ Type, Domain, Mode string }
	Failure  string
}

// judgeExplanation holds `mailout explain` to the table.
func (c *tlsCase) judgeExplanation(t *testing.T, m *mailout, address string) {
	t.Helper()
	out, status := m.run(t, "explain", address, "--json")
	var e explanation
	if err := json.Unmarshal([]byte(out), &e); err != nil {
		t.Fatalf("%v (status %d): %s", err, status, out)
	}
	if len(e.Hosts) == 0 { // no host can be used: it says why
		for _, word := range append([]string{c.host()}, c.why...) {
			if c.event != "deferred" || !strings.Contains(e.Failure, word) {
				t.Errorf("explain does not name %q: %.1000s", word, out)
			}
		}
		return
	}
	requirement, origin := c.requirement()
	if e.TLS.Requirement != requirement || e.TLS.Origin != origin {
		t.Errorf("explain: %s by %s, want %s by %s: %.1000s", e.TLS.Requirement, e.TLS.Origin, requirement, origin, out)
	}
	if testing := strings.HasPrefix(c.domain, "testing") || c.domain == "ststest.test"; testing != (e.TLS.Testing != "") {
		t.Errorf("explain: testing %q: %.1000s", e.TLS.Testing, out)
	}
	if c.demanded != "" && !strings.Contains(e.TLS.Why, map[string]string{"dane": "_25._tcp.", "mta-sts": "MTA-STS policy of " + c.domain}[c.demanded]) {
		t.Errorf("explain does not name the policy: %.1000s", out)
	}
	for _, h := range e.Hosts {
		if (h.TLS == nil) != (h.Failure != "") {
			t.Errorf("explain on %s: %.1000s", h.Name, out)
		}
	}
	published := map[string]string{"dane": "tlsa", "mta-sts": "sts", "": ""}[c.demanded]
	for _, p := range e.Policies {
		if p.Type == published && (p.Mode == "enforce" || published == "tlsa") {
			return
		}
	}
	if published != "" {
		t.Errorf("explain does not show the policy: %.1000s", out)
	}
}

// outcomes waits for the first record after the acceptance of so many
// recipients.
func (m *mailout) outcomes(t *testing.T, id string, recipients int) map[string]record {
	t.Helper()
	found := map[string]record{}
	mtatest.Eventually(t, 60*time.Second, "an outcome for each recipient", func() bool {
		clear(found)
		for _, r := range m.trace(t, id) {
			if to := r.text("recipient"); r.text("event") != "accepted" && found[to] == nil {
				found[to] = r
			}
		}
		return len(found) == recipients
	}, func() string { return fmt.Sprintf("%d of %d: %v", len(found), recipients, found) })
	return found
}

var deliveredTo = regexp.MustCompile(`(?m)^Delivered-To: (\S+)`)

// arrivals tells of each recipient whose mail Postfix keeps for the domains of
// bin/tls.sh whether it came by TLS, as Postfix says in its Received field.
func arrivals(t *testing.T, messageID string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(state("mail", "pf", "tls", "new", "*"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]bool{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		if to := deliveredTo.FindStringSubmatch(text); to != nil && strings.Contains(text, messageID) {
			head, _, _ := strings.Cut(text, "by mx.pf.test")
			all[to[1]] = strings.Contains(head, "(using TLS")
		}
	}
	return all
}
