package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestDovecotLMTP: mail for mailboxes goes to a real Dovecot, by its socket and
// by TCP; each recipient has the fate that Dovecot gave it, at RCPT or after the
// content.
func TestDovecotLMTP(t *testing.T) {
	needLab(t)
	socket := state("dovecot-lmtp", "lmtp")
	if out, err := exec.Command(filepath.Join(os.Getenv("LAB_DIR"), "bin", "mailboxes.sh")).CombinedOutput(); err != nil {
		t.Fatalf("Dovecot does not start: %v\n%s", err, out)
	}
	mtatest.Eventually(t, 30*time.Second, "Dovecot's socket", func() bool {
		conn, err := net.Dial("unix", socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	m, err := startMailout("boxes", "127.0.1.8:2533", fmt.Sprintf("\n[[route]]\ndomains = [\"boxes.test\"]\nhosts = [\"unix:%s\"]\nprotocol = \"lmtp\"\n\n[[route]]\ndomains = [\"tcp.test\"]\nhost = \"127.0.1.1\"\nport = 2424\nprotocol = \"lmtp\"\n", socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.process.Kill()
		if t.Failed() {
			log, err := os.ReadFile(state("log", "dovecot-lmtp.log"))
			t.Logf("%v\n%s\n%s", err, log, m.process.Log(40))
		}
	})
	id := m.send(t, "alice@origin.test", "Subject: boxes\r\n\r\nx\r\n", "box1@boxes.test", "full@boxes.test", "nobody@boxes.test", "box2@boxes.test")
	for _, box := range []string{"box1@boxes.test", "box2@boxes.test"} {
		if r := m.await(t, id, box, "delivered"); !strings.Contains(r.text("reply"), "Saved") || r.text("host") != "unix:"+socket {
			t.Errorf("%v", r)
		}
		if list, err := filepath.Glob(state("mail", "boxes", box, "new", "*")); err != nil || len(list) != 1 {
			t.Errorf("%s has %d messages (%v)", box, len(list), err)
		}
	}
	if r := m.await(t, id, "nobody@boxes.test", "failed"); r["code"] != 550.0 {
		t.Errorf("%v", r)
	}
	if r := m.await(t, id, "full@boxes.test", "failed"); r["code"] != 552.0 || r.text("class") != "permanent" {
		t.Errorf("%v", r)
	}
	id = m.send(t, "alice@origin.test", "Subject: tcp\r\n\r\nx\r\n", "box1@tcp.test")
	if r := m.await(t, id, "box1@tcp.test", "failed"); r.text("host") != "127.0.1.1" || r["code"] != 550.0 {
		t.Errorf("%v", r)
	}
}
