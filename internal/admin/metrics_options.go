package admin

import (
	"context"
	"time"

	"mailout/internal/dns"
	"mailout/internal/queue"
	"mailout/internal/returns"
	"mailout/internal/spool/pebble"
	"mailout/internal/submit/smtpd"
	"mailout/internal/suppress"
	"mailout/internal/tlsrpt"
	"mailout/internal/transport"
	"mailout/internal/unsubscribe"
	"mailout/internal/warmup"
)

// Meters are the parts whose numbers GET /metrics shows beside those of the
// queue, the identity and the receivers of events. What is nil is not shown.
type Meters struct {
	Spool       SpoolMeter
	Sites       SiteMeter
	Doors       func() []Door
	DNS         func() dns.Counts
	Sessions    func() transport.Counts
	Memory      func() Memory
	Routers     func() []Router
	Warmup      func() []warmup.State
	Sources     func() map[string]bool // which can be used, by address
	Suppress    func() suppress.Counts
	Returns     func() returns.Counts
	TLSRPT      func() tlsrpt.Counts
	TLSPolicies func() TLSPolicies

	Unsubscribe func() unsubscribe.Counts
}

// SpoolMeter is the store as far as it is counted.
type SpoolMeter interface {
	Metrics() pebble.Metrics
	Tally() pebble.Tally
	Syncs() pebble.Syncs
	Disk(ctx context.Context) (pebble.Disk, error)
	Full() bool
	Streak() int
}

// SiteMeter is the scheduler as far as it knows sites.
type SiteMeter interface {
	Load(ctx context.Context, n int) (queue.Load, error)
}

// Door is one [[listen]].
type Door struct {
	Listener string // its address as the configuration has it
	smtpd.Counts
	Expires time.Time // of its certificate; zero: it has none
}

// Memory is what the process has and may have, in octets.
type Memory struct {
	Live  int64 // what the last collection found in use
	Held  int64 // what the process holds of the system's
	Limit int64 // [limits] memory
	Short bool  // new mail is refused for it
}
