package lab

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestProxyProtocolToPostfix: a real Postfix reads the header that a source's
// proxy is sent, and takes the source for its client.
func TestProxyProtocolToPostfix(t *testing.T) {
	needLab(t)
	m, err := startMailout("proxied", "127.0.1.8:2531", `
[[source]]
ip = "198.51.100.10"
proxy_protocol = "127.0.1.1:2527"

[[pool]]
name = "default"
sources = ["198.51.100.10"]
`)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.process.Kill() })
	id := m.send(t, "alice@origin.test", "Subject: by a proxy\r\n\r\nx\r\n", "user41@pf.test")
	if r := m.await(t, id, "user41@pf.test", "delivered"); r.text("source") != "198.51.100.10" {
		t.Errorf("%v", r)
	}
	mtatest.Eventually(t, 10*time.Second, "Postfix names the client", func() bool {
		log, err := os.ReadFile(state("log", "pf.log"))
		return err == nil && strings.Contains(string(log), "client=unknown[198.51.100.10]")
	})
}

// TestSourceLeavesTheMachine: an address that is taken off the machine is left
// out, its mail goes out from the other source without a wait, and it is used
// again when it is back. Nothing is told to the daemon.
func TestSourceLeavesTheMachine(t *testing.T) {
	needLab(t)
	address := func(verb string) {
		t.Helper()
		if out, err := exec.Command("ip", "addr", verb, "198.51.100.77/32", "dev", "lo").CombinedOutput(); err != nil {
			t.Fatalf("ip addr %s: %v %s", verb, err, out)
		}
	}
	address("add")
	m, err := startMailout("moving", "127.0.1.8:2532", "\n[[source]]\nip = \"198.51.100.77\"\nweight = 10000\n")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.process.Kill() })
	from := func() string {
		t.Helper()
		id := m.send(t, "alice@origin.test", "Subject: moving\r\n\r\nx\r\n", "user42@pf.test")
		r := m.await(t, id, "user42@pf.test", "delivered")
		for _, other := range m.trace(t, id) {
			if other.text("event") == "deferred" && !strings.Contains(other.text("reason"), "another route is tried at once") {
				t.Errorf("put off: %v", other)
			}
		}
		return r.text("source")
	}
	if got := from(); got != "198.51.100.77" {
		t.Fatalf("at first from %s", got)
	}
	// What is under way when an address goes is lost like any broken session.
	mtatest.Eventually(t, 30*time.Second, "the session has ended", func() bool {
		log, err := os.ReadFile(state("log", "pf.log"))
		return err == nil && strings.Contains(string(log), "disconnect from unknown[198.51.100.77]")
	})
	address("del")
	if got := from(); got != mailoutIP {
		t.Errorf("without its address from %s", got)
	}
	if log := m.process.Log(0); !strings.Contains(log, "a source is left out") {
		t.Errorf("the log says nothing:\n%s", log)
	}
	address("add")
	mtatest.Eventually(t, 150*time.Second, "the source is used again", func() bool { return from() == "198.51.100.77" })
}
