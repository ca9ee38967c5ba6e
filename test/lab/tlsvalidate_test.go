package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestTLSPoliciesValidatedHere: the same table with a resolver that checks no
// signatures: mailout checks them itself, down from the lab's root.
func TestTLSPoliciesValidatedHere(t *testing.T) {
	needLab(t)
	plainResolver(t, "127.0.1.54")
	holdToTable(t, "here", "127.0.1.8:2545", tlsTables(), `servers = ["127.0.1.53"]`,
		fmt.Sprintf("servers = [\"127.0.1.54\"]\ndnssec = \"validate\"\ntrust_anchors = %q", state("trust-anchor.key")))
}

// plainResolver starts an unbound that asks and remembers, and judges nothing.
func plainResolver(t *testing.T, ip string) {
	t.Helper()
	dir := state("plain-resolver")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf(`server:
  interface: %s@53
  access-control: 127.0.0.0/8 allow
  do-daemonize: no
  do-ip6: no
  use-syslog: no
  logfile: %q
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  do-not-query-localhost: no
  root-hints: %q
  module-config: "iterator"
  local-zone: "test." nodefault
  local-zone: "127.in-addr.arpa." nodefault
  cache-max-ttl: 20
  cache-max-negative-ttl: 2
  infra-host-ttl: 1
  num-threads: 1
remote-control:
  control-enable: no
`, ip, filepath.Join(dir, "log"), dir, state("root.hints"))
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("unbound", "-d", "-c", conf)
	mtatest.EndTogether(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	mtatest.Eventually(t, 20*time.Second, "the resolver at "+ip, func() bool {
		conn, err := net.Dial("tcp", ip+":53")
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}
