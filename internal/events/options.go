package events

import (
	"context"
	"crypto/x509"
	"log/slog"
	"net"
	"slices"
	"time"

	"mailout/internal/spool"
)

// Bounds and times of webhooks.
const (
	// MaxBatch is the most records in one request.
	MaxBatch = 1000
	// MaxConcurrency is the most requests to one webhook at once.
	MaxConcurrency = 32
	// GiveUpAfter is how long the same events are tried.
	GiveUpAfter = 3 * 24 * time.Hour

	batchOctets    = 1 << 20 // a body ends behind the record that reaches it
	spareBatches   = 16      // open at once beside those that may be under way
	maxRetryAfter  = 24 * time.Hour
	saveEvery      = 200 * time.Millisecond // of a cursor, while receivers acknowledge
	saveIdle       = 10 * time.Second       // of a cursor that passes what nobody wants
	saveAgain      = 10 * time.Second       // after a failure
	noteEvery      = time.Hour              // of notes in the journal about one follower
	collectCalls   = 16                     // readings of the feed for nothing at a stretch
	answerOctets   = 4 << 10                // of a receiver's answer that are read
	stateOfBatches = 200                    // open batches in a state at most
)

// Options are what a Hub stands on.
type Options struct {
	Feed     spool.Feed
	Logger   *slog.Logger
	Settings Settings
	Hostname string // of this machine, in lines of syslog
	Version  string // of this program, for User-Agent
	// Lost is how many journal entries were removed for their age that a
	// follower had not got; nil: it is not known.
	Lost func() uint64
	// Note writes words about a follower into the journal; nil: nowhere.
	Note func(ctx context.Context, words string) error
	// Dial makes connections to receivers; nil is a net.Dialer's. For tests.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	giveUp time.Duration // instead of GiveUpAfter, for tests
}

// Settings are what may change while mail flows.
type Settings struct {
	Webhooks []Webhook // each with a name of its own
	File     File
	Syslog   Syslog
	Roots    *x509.CertPool
}

// Webhook is one receiver by HTTP.
type Webhook struct {
	Name    string
	URL     string // http or https
	Secrets Secrets
	Filter  Filter
	// Batch is the most events in one request, 1 to MaxBatch. With 1 a body is
	// an event, otherwise a list of them.
	Batch int
	// Wait is how long an event waits for others.
	Wait time.Duration
	// Timeout bounds one request.
	Timeout time.Duration
	// Concurrency is how many requests may be under way at once. Those of one
	// message never are.
	Concurrency int
}

func (w *Webhook) equal(o *Webhook) bool {
	return w.Name == o.Name && w.URL == o.URL && w.Secrets.Equal(o.Secrets) && w.Filter.equal(&o.Filter) &&
		w.Batch == o.Batch && w.Wait == o.Wait && w.Timeout == o.Timeout && w.Concurrency == o.Concurrency
}

func (f *Filter) equal(o *Filter) bool {
	return slices.Equal(f.Events, o.Events) && slices.Equal(f.Streams, o.Streams) && f.ID == o.ID && f.Recipient == o.Recipient
}
