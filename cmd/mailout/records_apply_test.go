//go:build linux || darwin || freebsd

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"
	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

const applySecret = "bWFpbG91dCB0ZXN0IHNlY3JldCwgMzIgb2N0ZXRzISE="

// applied is a name server that takes updates of widget.example, and a
// configuration with its key.
func applied(t *testing.T) (primary *mtatest.DNS, file string) {
	t.Helper()
	primary = mtatest.NewDNS()
	primary.Primary(mtatest.Primary{Zone: "widget.example", Key: "mailout", Secret: applySecret})
	if err := primary.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(primary.Stop)
	err := primary.Add("widget.example. SOA ns.widget.example. h.widget.example. 1 7200 3600 604800 300\nwidget.example. NS ns.widget.example.\nns.widget.example. A 127.0.0.1\n" +
		"mailout.ofc.widget.example. 600 A 203.0.113.4\nwidget.example. MX 10 mx.widget.example.\nmx.widget.example. A 203.0.113.25\nwidget.example. TXT \"v=spf1 ip4:198.51.100.1 -all\"\nwidget.example. TXT \"keep me\"")
	if err != nil {
		t.Fatal(err)
	}
	return primary, applyConfig(t, primary, primary)
}

func applyConfig(t *testing.T, resolver, primary *mtatest.DNS, more ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mailout.toml")
	text := fmt.Sprintf("hostname = \"mailout.ofc.widget.example\"\nspool = \"spool\"\npostmaster = \"postmaster@widget.example\"\n[dns]\nservers = [%q]\nhosts_file = \"\"\n"+
		"[delivery]\nipv6 = false\n[[source]]\nip = \"127.0.0.1\"\n[identity]\npublic_ip = [\"203.0.113.5\"]\nreflectors = []\nprobes = []\n%s\n"+
		"[identity.dns_update]\nserver = %q\nzone = \"widget.example\"\nkey_name = \"mailout\"\nkey_secret = %q\n",
		resolver.Addr(), strings.Join(more, "\n"), primary.Addr(), applySecret)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func apply(stdin io.Reader, file string, args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	status = run(append([]string{"records", "--apply", "--config", file}, args...), stdin, &out, &errs)
	return out.String(), errs.String(), status
}

func TestRecordsApplyPublishes(t *testing.T) {
	t.Parallel()
	primary, file := applied(t)
	out, errs, status := apply(strings.NewReader(""), file, "--yes")
	if status != 0 {
		t.Fatalf("%d\n%s%s", status, out, errs)
	}
	for _, part := range []string{
		"Changes in the zone widget.example at " + primary.Addr().String(),
		"  − mailout.ofc.widget.example. 600 IN A 203.0.113.4\n  + mailout.ofc.widget.example. 300 IN A 203.0.113.5\n",
		"  − widget.example. 60 IN TXT \"v=spf1 ip4:198.51.100.1 -all\"\n  + widget.example. 300 IN TXT \"v=spf1 ip4:198.51.100.1 ip4:203.0.113.5 -all\"\n",
		"ok    " + primary.Addr().String(), "(600 s)",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in:\n%s", part, out)
		}
	}
	if strings.Contains(out, "keep me") {
		t.Errorf("a value that stays is shown as changed:\n%s", out)
	}
	for name, want := range map[string]string{
		"mailout.ofc.widget.example": `"v=spf1 a -all"`,
		"widget.example":             `"keep me" "v=spf1 ip4:198.51.100.1 ip4:203.0.113.5 -all"`,
		"_dmarc.widget.example":      `"v=DMARC1; p=none; rua=mailto:postmaster@widget.example"`,
	} {
		if got := strings.Join(primary.Records(name, wire.TypeTXT), " "); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	if got := primary.Records("mailout.ofc.widget.example", wire.TypeA); !slices.Equal(got, []string{"203.0.113.5"}) {
		t.Errorf("%v", got)
	}
	if out, errs, status = apply(strings.NewReader(""), file, "--yes"); status != 0 || !strings.Contains(out, "nothing to change") || primary.Updates() != 1 {
		t.Errorf("again: %d, %d updates\n%s%s", status, primary.Updates(), out, errs)
	}
}

// TestRecordsApplyGoesByThePrimary: a resolver remembers an SPF record that
// somebody has replaced since; his is the one to merge with.
func TestRecordsApplyGoesByThePrimary(t *testing.T) {
	t.Parallel()
	primary, _ := applied(t)
	cache := mtatest.NewDNS()
	if err := cache.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cache.Stop)
	if err := cache.Add("widget.example. SOA ns.widget.example. h.widget.example. 1 7200 3600 604800 300\nwidget.example. TXT \"v=spf1 mx -all\"\nns.widget.example. A 127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	if out, errs, status := apply(strings.NewReader(""), applyConfig(t, cache, primary), "--yes"); status != 0 {
		t.Fatalf("%d\n%s%s", status, out, errs)
	}
	if got := strings.Join(primary.Records("widget.example", wire.TypeTXT), " "); got != `"keep me" "v=spf1 ip4:198.51.100.1 ip4:203.0.113.5 -all"` {
		t.Error(got)
	}
}

func TestRecordsApplyLeavesTheRestToTheOperator(t *testing.T) {
	t.Parallel()
	primary, _ := applied(t)
	file := applyConfig(t, primary, primary, `domains = ["widget.example", "other.example"]`)
	if err := primary.Add("other.example. SOA ns.other.example. h.other.example. 1 7200 3600 604800 300"); err != nil {
		t.Fatal(err)
	}
	out, errs, status := apply(strings.NewReader(""), file, "--yes")
	if status != exitFailure {
		t.Errorf("%d\n%s%s", status, out, errs)
	}
	for _, part := range []string{
		"To publish by hand:\n\n", "  + other.example. IN TXT \"v=spf1 ip4:203.0.113.5 ~all\"\n    it is not in the zone widget.example.\n",
		"+ other.example. IN MX 10 ", "it is a guess: name the server",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in:\n%s", part, out)
		}
	}
	if primary.Updates() != 1 || len(primary.Records("other.example", wire.TypeTXT)) > 0 {
		t.Errorf("%d updates", primary.Updates())
	}
}

// TestRecordsApplyPublishesNoInnerAddress: what only an inner network sees never
// takes the place of the address that receivers see.
func TestRecordsApplyPublishesNoInnerAddress(t *testing.T) {
	t.Parallel()
	primary, file := applied(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.ReplaceAll(text, []byte("203.0.113.5"), []byte("10.0.0.5")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, status := apply(strings.NewReader(""), file, "--yes")
	if got := primary.Records("mailout.ofc.widget.example", wire.TypeA); !slices.Equal(got, []string{"203.0.113.4"}) || status != exitFailure || !strings.Contains(out, "a private address") {
		t.Errorf("%v, %d\n%s%s", got, status, out, errs)
	}
}

func TestRecordsApplyNeedsLeave(t *testing.T) {
	t.Parallel()
	primary, file := applied(t)
	if out, errs, status := apply(strings.NewReader("y\n"), file); status != exitUsage || !strings.Contains(errs, "--yes") {
		t.Errorf("without a terminal: %d\n%s%s", status, out, errs)
	}
	if _, _, status := apply(strings.NewReader(""), file, "--yes", "--json"); status != exitUsage {
		t.Errorf("--json: %d", status)
	}
	var out, errs bytes.Buffer
	if status := run([]string{"records", "--yes", "--config", file}, strings.NewReader(""), &out, &errs); status != exitUsage {
		t.Errorf("--yes alone: %d", status)
	}
	unset := filepath.Join(t.TempDir(), "mailout.toml")
	if err := os.WriteFile(unset, []byte(doctorConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, errs, status := apply(strings.NewReader(""), unset, "--yes"); status != exitConfig || !strings.Contains(errs, "[identity.dns_update]") {
		t.Errorf("without a server: %d %s", status, errs)
	}
	if primary.Updates() != 0 {
		t.Errorf("%d updates", primary.Updates())
	}
}

func TestRecordsApplyAsks(t *testing.T) {
	t.Parallel()
	primary, file := applied(t)
	for _, c := range []struct {
		answer  string
		status  int
		updates int
	}{{"\r", exitFailure, 0}, {"n\r", exitFailure, 0}, {"yesterday\r", exitFailure, 0}, {"\x04", exitFailure, 0}, {"Y\r", 0, 1}} {
		master, tty, err := pty.Open()
		if err != nil {
			t.Skip("no pseudo-terminal:", err)
		}
		if _, err := master.WriteString(c.answer); err != nil {
			t.Fatal(err)
		}
		out, errs, status := apply(tty, file)
		if status != c.status || primary.Updates() != c.updates || !strings.Contains(out, "Publish this? (y/N)") {
			t.Errorf("%q: %d, %d updates\n%s%s", c.answer, status, primary.Updates(), out, errs)
		}
		tty.Close()
		master.Close()
	}
}

// TestRecordsApplyInterrupted: Ctrl-C at the question changes nothing.
func TestRecordsApplyInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	never, silence := io.Pipe()
	defer silence.Close()
	var out bytes.Buffer
	p := publisher{in: never, out: &out, print: newDoctorPrinter(&out), now: time.Now}
	if err := p.confirm(ctx); err == nil || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v", err)
	}
}
