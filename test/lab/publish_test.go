//go:build linux

package lab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// Knot DNS as the primary of widget.test, in the world behind the NAT.
const (
	knotAddr   = "198.51.100.55"
	knotKey    = "mailout"
	knotSecret = "bWFpbG91dCBsYWIgc2VjcmV0LCAzMiBvY3RldHMhISE="
)

// knot starts the server with the zones widget.test, which the key may change,
// and fixed.test, which nobody may.
func (h *home) knot(records ...string) {
	h.t.Helper()
	mustRun(h.t, "", "ip", "-n", "outside", "address", "add", knotAddr+"/24", "dev", "out0")
	dir := filepath.Join(h.dir, "knot")
	if err := os.Mkdir(dir, 0o755); err != nil {
		h.t.Fatal(err)
	}
	config := `server:
  rundir: "` + dir + `"
  listen: ` + knotAddr + `@53
log:
  - target: stderr
    any: info
database:
  storage: "` + dir + `"
key:
  - id: ` + knotKey + `
    algorithm: hmac-sha256
    secret: ` + knotSecret + `
acl:
  - id: mailout
    key: ` + knotKey + `
    action: update
template:
  - id: default
    storage: "` + dir + `"
    zonefile-load: whole
zone:
  - domain: widget.test
    acl: mailout
  - domain: fixed.test
`
	for name, more := range map[string][]string{"widget.test": records, "fixed.test": nil} {
		zone := name + ". 3600 IN SOA ns." + name + ". hostmaster." + name + ". 1 7200 3600 604800 2\n" +
			name + ". 3600 IN NS ns." + name + ".\nns." + name + ". 3600 IN A " + knotAddr + "\n" + strings.Join(more, "\n") + "\n"
		if err := os.WriteFile(filepath.Join(dir, name+".zone"), []byte(zone), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "knot.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command("ip", "netns", "exec", "outside", "knotd", "-c", file)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Kill() // what it has is thrown away
		_ = cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && h.t.Failed() {
			h.t.Logf("knotd:\n%s", text)
		}
	})
	h.eventually(20*time.Second, "knotd answers for its zone", func() bool { return len(h.published("widget.test", wire.TypeSOA)) > 0 })
}

// cacheOf is unbound's way to a zone of knot's.
func cacheOf(zone string) string {
	return "stub-zone:\n name: \"" + zone + ".\"\n stub-addr: " + knotAddr + "\n"
}

// published asks knot itself.
func (h *home) published(name string, qtype uint16) (out []string) {
	h.t.Helper()
	h.in("outside", func() error {
		r, err := dns.Ask(context.Background(), nil, dns.Probe{Server: netip.MustParseAddrPort(knotAddr + ":53"), Name: name, Type: qtype, NoRecursion: true, Timeout: time.Second})
		if err != nil {
			return nil // it is not up yet
		}
		for _, rr := range r.Msg.Answer {
			out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
		}
		return nil
	})
	return out
}

// eventually waits for something, looking often.
func (h *home) eventually(limit time.Duration, what string, is func() bool) {
	h.t.Helper()
	end := time.NewTimer(limit)
	defer end.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-end.C:
			h.t.Fatalf("not within %s: %s", limit, what)
		case <-tick.C:
		}
	}
}

// updateConfig is a configuration whose records are in widget.test.
func (h *home) updateConfig(update, more string) (file string) {
	h.t.Helper()
	file = filepath.Join(h.dir, "mailout.toml")
	text := fmt.Sprintf("hostname = %q\nspool = %q\npostmaster = \"postmaster@widget.test\"\n%s\n[dns]\nservers = [%q]\nhosts_file = \"\"\n"+
		"[identity.dns_update]\nserver = %q\n%s\n",
		natName, filepath.Join(h.dir, "spool"), more, cacheAddr, knotAddr, update)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		h.t.Fatal(err)
	}
	return file
}

const examinedOutside = "[identity]\nprobes = [\"198.51.100.25\", \"198.51.100.26\"]\nreflectors = [\"http://" + pageAddr +
	"/\"]\nblocklists = []\nexternal_names = [\"example.test\"]\nbogus_name = \"\"\n"

// mailout runs a command inside the home.
func (h *home) mailout(args ...string) (out string, status int) {
	h.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", "inside", os.Getenv("LAB_MAILOUT")}, args...)...)
	text, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		h.t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

func signedBy(name, secret string) string {
	return fmt.Sprintf("zone = \"widget.test\"\nkey_name = %q\nkey_secret = %q\nttl = \"1s\"", name, secret)
}

// TestRecordsApply publishes at a real server, with a real key.
func TestRecordsApply(t *testing.T) {
	needLab(t)
	h := newHome(t)
	h.knot(natName+". 300 IN A "+insideAddr, `widget.test. 300 IN TXT "verification=abc"`, `widget.test. 300 IN TXT "v=spf1 ip4:203.0.113.9 -all"`,
		"widget.test. 300 IN MX 10 mx.widget.test.", "mx.widget.test. 300 IN A 198.51.100.25")
	h.cache(cacheOf("widget.test"))

	file := h.updateConfig(signedBy(knotKey, knotSecret), "")
	if out, status := h.mailout("records", "--apply", "--config", file); status != 64 || !strings.Contains(out, "--yes") {
		t.Errorf("without a terminal: %d\n%s", status, out)
	}
	for name, c := range map[string]struct {
		update, says string
	}{
		"another secret": {signedBy(knotKey, "d3Jvbmc="), "BADSIG"},
		"another key":    {signedBy("somebody", knotSecret), "BADKEY"},
		"no key":         {"zone = \"widget.test\"", "give a key"},
	} {
		out, status := h.mailout("records", "--apply", "--yes", "--config", h.updateConfig(c.update, examinedOutside))
		if status != 69 || !strings.Contains(out, c.says) {
			t.Errorf("%s: %d\n%s", name, status, out)
		}
	}
	if got := h.published(natName, wire.TypeA); len(got) != 1 || got[0] != insideAddr {
		t.Fatalf("something was changed without the key: %v", got)
	}

	file = h.updateConfig(signedBy(knotKey, knotSecret), examinedOutside)
	out, status := h.mailout("records", "--apply", "--yes", "--config", file)
	for _, part := range []string{
		"− " + natName + ". 300 IN A " + insideAddr, "+ " + natName + ". 1 IN A " + visibleAddr,
		`− widget.test. 300 IN TXT "v=spf1 ip4:203.0.113.9 -all"`, "(300 s)", "ok    " + knotAddr,
	} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in:\n%s", part, out)
		}
	}
	if status != 0 {
		t.Errorf("status %d:\n%s", status, out)
	}
	if got := h.published(natName, wire.TypeA); len(got) != 1 || got[0] != visibleAddr {
		t.Errorf("%v", got)
	}
	texts := strings.Join(h.published("widget.test", wire.TypeTXT), "\n")
	if !strings.Contains(texts, "verification=abc") || !strings.Contains(texts, "ip4:203.0.113.9 ip4:"+visibleAddr) || strings.Count(texts, "v=spf1") != 1 {
		t.Errorf("%s", texts)
	}

	// The resolver still has the old ones; what is planned from is the primary.
	if out, status = h.mailout("records", "--apply", "--yes", "--config", file); status != 0 || !strings.Contains(out, "nothing to change") {
		t.Errorf("again: %d\n%s", status, out)
	}
}

// TestRecordsApplyRefused: a zone that the key may not change.
func TestRecordsApplyRefused(t *testing.T) {
	needLab(t)
	h := newHome(t)
	h.knot()
	h.cache(cacheOf("widget.test"), cacheOf("fixed.test"))
	file := h.updateConfig(strings.Replace(signedBy(knotKey, knotSecret), "widget.test", "fixed.test", 1), "")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(string(text), natName, "mailout.fixed.test", 1) + examinedOutside
	if err := os.WriteFile(file, []byte(moved), 0o600); err != nil {
		t.Fatal(err)
	}
	out, status := h.mailout("records", "--apply", "--yes", "--config", file)
	if status != 69 || !strings.Contains(out, "may change this zone") || !strings.Contains(out, "To publish by hand") {
		t.Errorf("%d\n%s", status, out)
	}
	if got := h.published("mailout.fixed.test", wire.TypeA); len(got) != 0 {
		t.Errorf("%v", got)
	}
}
