package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// TestExamplesOfHTTPMessages runs the commands of docs/http-messages.md as they
// stand there, but for the port, and counts what arrives.
func TestExamplesOfHTTPMessages(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("curl is not here")
	}
	page, err := os.ReadFile("../../docs/http-messages.md")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "example.net")
	d := w.daemon("")
	key, line := d.newKey()
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	d.replace("[delivery]", fmt.Sprintf("[http]\naddress = %q\n[[user]]\nname = \"shop\"\n%s\nfrom = [\"*@example.com\"]\nstream = \"orders\"\n\n[delivery]", address, line))
	d.start()
	examples := regexp.MustCompile("(?s)<!-- run: 202 -->\n```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if n := strings.Count(string(page), "<!-- run:"); n != len(examples) || n != 4 {
		t.Fatalf("%d of %d examples are read", len(examples), n)
	}
	for again := range 2 {
		for _, e := range examples {
			script := strings.ReplaceAll(e[1], "127.0.0.1:8025", address)
			if again > 0 && !strings.Contains(script, "Idempotency-Key") {
				continue
			}
			run := exec.Command("sh", "-c", script)
			run.Env = append(os.Environ(), "KEY="+key)
			out, err := run.CombinedOutput()
			if err != nil || !regexp.MustCompile(`"id":"[0-9A-Z]{26}","recipients":\[\{"address":"[a-z]+@example.net","state":"queued"\}`).Match(out) {
				t.Errorf("%v\n%s\n%s", err, script, out)
			}
		}
	}
	d.drain(time.Minute)
	if n := len(mx.Messages()); n != 1+1+1+2 {
		t.Errorf("%d messages arrived", n)
	}
	for _, want := range []string{"Subject: Your order 4711", "Content-Id: <logo>", "Hello Ann.", "Dear Bob &amp; Sons, your code is 4712"} {
		found := false
		for _, m := range mx.Messages() {
			found = found || strings.Contains(string(m.Data), want)
		}
		if !found {
			t.Errorf("%q did not arrive", want)
		}
	}
	resp, err := http.Post("http://"+address+"/v1/messages", "application/json", strings.NewReader("{}"))
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("a stranger: %v, %v", resp, err)
	}
	resp.Body.Close()
	d.stop()
}
