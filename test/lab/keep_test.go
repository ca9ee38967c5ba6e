//go:build linux

package lab

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

// renumber gives the line another address, as a DSL provider does at night.
func (h *home) renumber(from, to string) {
	h.t.Helper()
	mustRun(h.t, "", "ip", "-n", "nat", "address", "delete", from+"/24", "dev", "nat1")
	mustRun(h.t, "", "ip", "-n", "nat", "address", "add", to+"/24", "dev", "nat1")
}

// program runs mailout on the machine inside.
func (h *home) program(config string) mtatest.Program {
	h.t.Helper()
	path := filepath.Join(h.dir, "mailout-inside")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nexec ip netns exec inside "+os.Getenv("LAB_MAILOUT")+" \"$@\"\n"), 0o755); err != nil {
		h.t.Fatal(err)
	}
	return mtatest.Program{Path: path, Config: config}
}

// must runs a command that is to succeed, and gives what it prints.
func (h *home) must(p mtatest.Program, args ...string) string {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, errs, status, err := p.Run(ctx, args...)
	if err != nil || status != 0 {
		h.t.Fatalf("mailout %s: %v, status %d\n%s%s", strings.Join(args, " "), err, status, out, errs)
	}
	return strings.TrimSpace(out)
}

// keepConfig examines every two seconds, holds, and has the key.
func (h *home) keepConfig(keep string) string {
	return h.updateConfig(signedBy(knotKey, knotSecret)+"\nmin_interval = \"1s\"\nkeep_address = "+keep,
		strings.Replace(examinedOutside, "[identity]\n", "[delivery]\nipv6 = false\nprivate_networks = true\nretry = [\"2s\"]\n[identity]\nguard = \"hold\"\ninterval = \"2s\"\n", 1))
}

// receiver is the mail server of example.test, in the world.
func (h *home) receiver() *mtatest.MX {
	h.t.Helper()
	const addr = "198.51.100.27"
	mustRun(h.t, "", "ip", "-n", "outside", "address", "add", addr+"/24", "dev", "out0")
	mx := mtatest.NewMX(mtatest.MXConfig{Hostname: "mx.example.test"})
	h.in("outside", func() error {
		_, err := mx.Listen(addr + ":25")
		return err
	})
	h.t.Cleanup(mx.Stop)
	if err := h.zone.Add("example.test. 300 IN MX 10 mx.example.test.\nmx.example.test. 300 IN A " + addr); err != nil {
		h.t.Fatal(err)
	}
	return mx
}

// arrived gives the addresses that the messages came from, in order.
func arrived(mx *mtatest.MX) (from []string) {
	for _, m := range mx.Messages() {
		host, _, _ := strings.Cut(m.Remote.String(), ":")
		from = append(from, host)
	}
	return from
}

// TestRecordFollowsTheLine: the visible address changes under a running
// daemon. Its mail is held, with the cause; once the daemon may keep the
// address, it publishes the new one at Knot, and the mail goes out from there.
// After the next change all of that happens by itself.
func TestRecordFollowsTheLine(t *testing.T) {
	needLab(t)
	const second, third = "198.51.100.2", "198.51.100.3"
	h := newHome(t)
	h.knot(natName + ". 1 IN A " + visibleAddr)
	h.cache(cacheOf("widget.test"))
	mx := h.receiver()
	letter := filepath.Join(h.dir, "letter.eml")
	if err := os.WriteFile(letter, []byte("From: <a@widget.test>\r\nSubject: test\r\n\r\nHello\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := h.program(h.keepConfig("false"))
	daemon, err := p.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		daemon.Kill()
		if t.Failed() {
			t.Logf("serve's log:\n%s", daemon.Log(100))
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := daemon.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	send := func() string { return h.must(p, "send", "-k", "-f", "a@widget.test", letter, "b@example.test") }
	from := func(want ...string) func() bool { return func() bool { return slices.Equal(arrived(mx), want) } }
	logged := func(what string) func() bool {
		return func() bool { return strings.Contains(daemon.Log(1000), what) }
	}

	h.eventually(20*time.Second, "the first examination", logged("check="))
	send()
	h.eventually(20*time.Second, "a message goes out from the first address", from(visibleAddr))

	h.renumber(visibleAddr, second)
	h.eventually(20*time.Second, "the guard holds", logged("mail is held"))
	held := send()
	h.eventually(20*time.Second, "queue show names the cause", func() bool {
		shown := h.must(p, "queue", "show", held)
		return strings.Contains(shown, "identity.guard holds mail") && strings.Contains(shown, natName+". IN A "+second)
	})
	if got := h.published(natName, wire.TypeA); len(got) != 1 || got[0] != visibleAddr {
		t.Errorf("published without keep_address: %v", got)
	}

	h.keepConfig("true")
	h.must(p, "config", "reload")
	h.eventually(20*time.Second, "the record follows", func() bool { return slices.Equal(h.published(natName, wire.TypeA), []string{second}) })
	h.eventually(20*time.Second, "the held message goes out from the second address", from(visibleAddr, second))

	h.renumber(second, third)
	h.eventually(20*time.Second, "the record follows by itself", func() bool { return slices.Equal(h.published(natName, wire.TypeA), []string{third}) })
	send()
	h.eventually(20*time.Second, "a message goes out from the third address", from(visibleAddr, second, third))

	history := h.must(p, "trace", "identity", "--json")
	for _, part := range []string{
		"published " + natName + " A " + second + " in place of " + visibleAddr,
		"published " + natName + " A " + third + " in place of " + second, "identity.guard releases mail",
	} {
		if !strings.Contains(history, part) {
			t.Errorf("the journal lacks %q:\n%s", part, history)
		}
	}
}
