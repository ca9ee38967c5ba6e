package lab

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestPostfixAgreesOnDANE: posttls-finger says of each domain's first host what
// the table says, and Postfix as a sender delivers and defers as the table says
// that mailout does (TestTLSPolicies holds mailout to it). Where Postfix differs
// the table tells why.
func TestPostfixAgreesOnDANE(t *testing.T) {
	tamperers(t)
	sent := postfixSends(t, daneCases())
	differs := 0
	for _, c := range daneCases() {
		if agrees := c.postfix == "sent" == (c.event == "delivered"); !agrees {
			differs++
		}
		t.Run(c.domain, func(t *testing.T) {
			t.Parallel()
			verdict, out := finger(t, c.domain)
			if verdict != c.finger {
				t.Errorf("posttls-finger: %s, want %s\n%s", verdict, c.finger, out)
			}
			// "dane" in the journal is what posttls-finger calls verified; of
			// the second host it does not speak.
			if (c.verified == "dane") != (verdict == fingerVerified) && c.domain != "wrongfirst.dane.test" {
				t.Errorf("verified by %q, and posttls-finger: %s", c.verified, verdict)
			}
			if status, line := sent(t, c.domain); status != c.postfix {
				t.Errorf("Postfix: %s, want %s\n%s", status, c.postfix, line)
			}
		})
	}
	if differs != 1 {
		t.Errorf("Postfix differs in %d cases, of which one is explained", differs)
	}
}

// finger asks posttls-finger about the first host of a domain.
func finger(t *testing.T, domain string) (verdict, out string) {
	t.Helper()
	b, err := exec.CommandContext(t.Context(), "posttls-finger", "-c", "-l", "dane", "-t", "10", domain).CombinedOutput()
	if err != nil {
		t.Fatalf("posttls-finger: %v\n%s", err, b)
	}
	out = string(b)
	switch {
	case strings.Contains(out, "Verified TLS connection established"):
		return fingerVerified, out
	case strings.Contains(out, "Untrusted TLS connection established"):
		return fingerUntrusted, out
	case strings.Contains(out, "TLSA lookup error"), strings.Contains(out, "address lookup failed"):
		return fingerLookup, out
	}
	return fingerNone, out
}

// postfixSends has the lab's null client send one message to all domains, and
// gives a function that waits for what became of one.
func postfixSends(t *testing.T, cases []tlsCase) func(t *testing.T, domain string) (status, line string) {
	t.Helper()
	conf := state("out", "conf")
	for _, setting := range []string{"relayhost=", "smtp_tls_security_level=dane"} {
		command(t, "postconf", "-c", conf, "-e", setting)
	}
	command(t, "postfix", "-c", conf, "reload")
	t.Cleanup(func() { command(t, "postsuper", "-c", conf, "-d", "ALL") })
	user := fmt.Sprintf("user%d", time.Now().UnixNano()%90) // users that the receivers have
	var to []string
	for _, c := range cases {
		to = append(to, localPart(c.domain, user)+"@"+c.domain)
	}
	log, err := os.Stat(state("log", "out.log"))
	if err != nil {
		t.Fatal(err)
	}
	client, err := mtatest.Dial(t.Context(), "127.0.1.9:2525")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := client.Hello("client.origin.test"); err != nil {
		t.Fatal(err)
	}
	o, err := client.Send("sender@origin.test", to, []byte("Subject: by Postfix\r\n\r\nx\r\n"))
	if err == nil {
		err = o.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return func(t *testing.T, domain string) (status, line string) {
		t.Helper()
		said := regexp.MustCompile(`.* to=<` + regexp.QuoteMeta(localPart(domain, user)+"@"+domain) + `>, .* status=([a-z]+).*`)
		mtatest.Eventually(t, 40*time.Second, "Postfix on "+domain, func() bool {
			b, err := os.ReadFile(state("log", "out.log"))
			if err != nil || int64(len(b)) < log.Size() {
				return false
			}
			m := said.FindSubmatch(b[log.Size():])
			if m == nil {
				return false
			}
			line, status = string(m[0]), string(m[1])
			return true
		})
		return status, line
	}
}

// localPart is a user that a domain's server has.
func localPart(domain, user string) string {
	if domain == "chasquid.test" {
		return "user1"
	}
	return user
}
