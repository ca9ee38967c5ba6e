package dns

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	rewrite(t, path, content)
	return path
}

func rewrite(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestHostsFileComesBeforeDNS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(serverA, zone(false, "near.test. 60 IN MX 1 mx.near.test.", "near.test. 60 IN A 198.51.100.1", "far.test. 60 IN A 198.51.100.2"))
		path := write(t, "hosts", "# local names\n10.0.0.1 Near.test. alias # comment\n::1 six.test\nnonsense near.test\n10.0.0.2 near.test bad/name\n10.0.0.1 near.test\n")
		r, ctx := n.newResolver(Options{HostsFile: path}), t.Context()

		a, err := r.Addresses(ctx, "near.test")
		check(t, a.Records, err, addrs("10.0.0.1", "10.0.0.2"))
		if a.Secure || len(n.asked()) != 0 {
			t.Error("a name of the hosts file was asked for, or is secure")
		}
		a, err = r.Addresses(ctx, "alias")
		check(t, a.Records, err, addrs("10.0.0.1"))
		a, err = r.Addresses(ctx, "six.test")
		check(t, a.Records, err, addrs("::1"))
		if _, err := r.AAAA(ctx, "near.test"); AsError(err).Kind != NoData {
			t.Errorf("AAAA: %v", err)
		}
		mx, err := r.MX(ctx, "near.test") // not affected
		check(t, mx.Records, err, []MX{{1, "mx.near.test"}})
		a, err = r.A(ctx, "far.test")
		check(t, a.Records, err, addrs("198.51.100.2"))

		rewrite(t, path, "10.0.0.9 far.test and.more\n")
		a, err = r.A(ctx, "alias")
		check(t, a.Records, err, addrs("10.0.0.1")) // not looked at within the second
		time.Sleep(time.Second)                     // virtual
		a, err = r.A(ctx, "far.test")
		check(t, a.Records, err, addrs("10.0.0.9"))
		a, err = r.A(ctx, "near.test")
		check(t, a.Records, err, addrs("198.51.100.1"))

		os.Remove(path) // the last content stays
		time.Sleep(time.Second)
		a, err = r.A(ctx, "far.test")
		check(t, a.Records, err, addrs("10.0.0.9"))
	})
}

func TestMissingHostsFileIsReportedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(serverA, zone(false, "far.test. 60 IN A 198.51.100.2"))
		var log bytes.Buffer
		r := n.newResolver(Options{HostsFile: filepath.Join(t.TempDir(), "none"), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for range 3 {
			a, err := r.A(t.Context(), "far.test")
			check(t, a.Records, err, addrs("198.51.100.2"))
			time.Sleep(2 * time.Second) // virtual
		}
		if got := strings.Count(log.String(), "level=WARN"); got != 1 {
			t.Errorf("%d warnings:\n%s", got, log.String())
		}
	})
}

func TestHostsFileIsBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	for i := range maxHostNames + 10 {
		fmt.Fprintf(&b, "0.0.0.0 h%d.test\n", i)
	}
	names, cut, err := parseHosts(strings.NewReader(b.String()))
	if err != nil || len(names) != maxHostNames || !cut {
		t.Errorf("%d names, cut %t, %v", len(names), cut, err)
	}
	if names, cut, _ = parseHosts(strings.NewReader("192.0.2.1 a\n" + strings.Repeat("192.0.2.1 a\n", 10))); len(names["a."]) != 1 || cut {
		t.Errorf("the same line again: %v", names)
	}
}

func TestLocalhostIsNeverAsked(t *testing.T) {
	t.Parallel()
	n := newFakeNet(t)
	r := n.newResolver(Options{})
	for _, name := range []string{"localhost", "LOCALHOST.", "mx.localhost"} {
		a, err := r.Addresses(t.Context(), name)
		check(t, a.Records, err, addrs("127.0.0.1", "::1"))
	}
	if got := n.asked(); len(got) != 0 {
		t.Errorf("asked %q", got)
	}
}

func TestSystemServersAreFollowed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n := newFakeNet(t)
		n.serve(serverA, zone(false, "x.test. 600 IN A 198.51.100.1"))
		n.serve(serverB, zone(false, "x.test. 600 IN A 198.51.100.2"))
		path := write(t, "resolv.conf", "# comment\n;nameserver 192.0.2.9\nnameserver\nnameserver bad\nnameserver 192.0.2.1\noptions edns0\nnameserver fe80::1%eth0\n")
		r := n.newResolver(Options{ResolvConf: path})
		want := []netip.AddrPort{serverA, netip.MustParseAddrPort("[fe80::1%eth0]:53")}
		if got := r.Servers(); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		a, err := r.A(t.Context(), "x.test")
		check(t, a.Records, err, addrs("198.51.100.1"))
		rewrite(t, path, "nameserver 192.0.2.2\n")
		time.Sleep(time.Second) // virtual
		a, err = r.A(t.Context(), "x.test")
		check(t, a.Records, err, addrs("198.51.100.2"))
		rewrite(t, path, "")
		time.Sleep(time.Second)
		if got := r.Servers(); len(got) != 2 || got[0].String() != "127.0.0.1:53" {
			t.Errorf("a file without servers: %v", got)
		}
	})
}

func TestServersGetTheirPortAndBound(t *testing.T) {
	t.Parallel()
	many := slices.Repeat([]netip.AddrPort{netip.AddrPortFrom(serverA.Addr(), 0)}, 40)
	r := New(Options{Servers: many})
	defer r.Close()
	if got := r.Servers(); len(got) != maxServers || got[0] != serverA {
		t.Errorf("got %d servers, %v", len(got), got[0])
	}
}
