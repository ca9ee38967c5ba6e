package daemon

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"mailout/internal/config"
	"mailout/internal/dns"
)

// TestUnalignedLogIsBounded: a line an hour for each domain, and memory for a
// thousand of them.
func TestUnalignedLogIsBounded(t *testing.T) {
	t.Parallel()
	var l unalignedLog
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		after time.Duration
		want  bool
	}{{0, true}, {time.Minute, false}, {unalignedEvery - time.Minute, true}, {time.Second, false}} {
		now = now.Add(c.after)
		if l.due("a.example", now) != c.want {
			t.Errorf("after %s: not %t", c.after, c.want)
		}
	}
	told := 0
	for i := range 3 * maxUnaligned {
		if l.due(fmt.Sprint(i, ".example"), now) {
			told++
		}
	}
	if told != maxUnaligned-1 || len(l.mu.told) != maxUnaligned {
		t.Errorf("%d lines, %d remembered", told, len(l.mu.told))
	}
	if !l.due("new.example", now.Add(unalignedEvery)) || len(l.mu.told) != 1 {
		t.Errorf("%d remembered after an hour", len(l.mu.told))
	}
}

// TestRecordsAreAskedForAsConfigured: a server that is asked over TLS is never
// asked in clear, and a reload counts.
func TestRecordsAreAskedForAsConfigured(t *testing.T) {
	t.Parallel()
	server := netip.MustParseAddrPort("127.0.0.1:1")
	var r resolvers
	for _, tls := range []bool{true, false} {
		r.configure(&config.Config{DNS: config.DNS{Servers: []dns.Server{{AddrPort: server, TLS: tls, Name: "dns.example"}}}})
		s := r.secure.Load()
		name, there := s.names[server]
		if there != tls || tls && name != "dns.example" {
			t.Errorf("%t: %q %t", tls, name, there)
		}
		if _, err := r.ask(t.Context(), dns.Probe{Server: server, Name: "x.example", Type: 16, Timeout: time.Second}); err == nil {
			t.Error("nobody answers there")
		}
	}
}
