package submit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// Queue is the order, as intake sees it: it is told of deliveries that have
// just become durable. Add does not block on anything but memory and never
// fails; a queue that has no room in memory leaves them to be paged in.
type Queue interface {
	Add(deliveries []*mta.Delivery)
}

// Settings are what may change while intake runs. Zero numbers mean the
// defaults.
type Settings struct {
	Hostname   string // our name in Received, Message-ID and reports; never empty
	Postmaster string // the operator's address; empty: postmaster@Hostname

	MaxSize       int64 // octets of content as given; default DefaultMaxSize
	MaxRecipients int   // of one message; default DefaultMaxRecipients
	MaxHops       int   // Received fields; default DefaultMaxHops
	Header        header.Limits
	// MaxPerDelivery is how many recipients one delivery holds; more of one
	// destination make more deliveries. Default DefaultPerDelivery.
	MaxPerDelivery int
	// Unaligned says what becomes of messages whose From domain no DKIM key is for.
	Unaligned Unaligned
	// DSNFull is the size up to which a failure report carries the whole
	// message when RET does not say; default dsn.DefaultFull.
	DSNFull int64
}

// The defaults of Settings.
const (
	DefaultMaxSize       = 50_000_000
	DefaultMaxRecipients = 1000
	DefaultMaxHops       = 100
	DefaultPerDelivery   = 1000
)

// Options are what intake is built of.
type Options struct {
	Store    spool.Store
	Queue    Queue
	Settings Settings
	// Busy reports that the process is near limits.memory: new mail gets 452
	// 4.3.1. It is asked often and must be quick. nil: never.
	Busy func() bool
	// Full reports that the spool's disk is nearly full, so that a message is
	// refused before its content is sent. nil: only storing finds out.
	Full func() bool
	// Suppression says who gets no mail; nil: everybody does.
	Suppression Suppression
	// Covered reports whether a DKIM key is for a From domain, in lower-case
	// A-labels; empty: the domain could not be read. It is asked for each message.
	// nil: nobody asks.
	Covered func(domain string) bool
	// Unaligned hears of each message that is taken though none is; nil: nobody.
	Unaligned func(domain string, id mta.ID)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Intake checks, completes and stores messages. It implements Acceptor and is
// safe for concurrent use; it starts no goroutine.
type Intake struct {
	store    spool.Store
	queue    Queue
	busy     func() bool
	full     func() bool
	now      func() time.Time
	settings atomic.Pointer[Settings]
	entropy  entropy
	claims   claims

	suppression Suppression // nil: none

	covered       func(domain string) bool // nil: nobody asks
	tellUnaligned func(domain string, id mta.ID)
	unaligned     struct{ accepted, refused atomic.Int64 }
}

var _ Acceptor = (*Intake)(nil)

// NewIntake makes intake. Store, Queue and Settings.Hostname are needed.
func NewIntake(o Options) *Intake {
	in := &Intake{store: o.Store, queue: o.Queue, busy: o.Busy, full: o.Full, now: o.Now, suppression: o.Suppression, covered: o.Covered, tellUnaligned: o.Unaligned}
	if in.now == nil {
		in.now = time.Now
	}
	in.Configure(o.Settings)
	return in
}

// Configure replaces the settings. Messages that are being received go on
// under the settings they began with.
func (in *Intake) Configure(s Settings) {
	if s.MaxSize <= 0 {
		s.MaxSize = DefaultMaxSize
	}
	if s.MaxRecipients <= 0 {
		s.MaxRecipients = DefaultMaxRecipients
	}
	if s.MaxHops <= 0 {
		s.MaxHops = DefaultMaxHops
	}
	if s.MaxPerDelivery <= 0 {
		s.MaxPerDelivery = DefaultPerDelivery
	}
	if s.Postmaster == "" {
		s.Postmaster = "postmaster@" + s.Hostname
	}
	in.settings.Store(&s)
}

// Check implements Acceptor.
func (in *Intake) Check(ctx context.Context, r *Request) error {
	if err := ctx.Err(); err != nil {
		return ownTrouble(err)
	}
	s := in.settings.Load()
	switch {
	case in.busy != nil && in.busy():
		return refuse(452, mta.Enhanced{Class: 4, Subject: 3, Detail: 1}, "", "short of memory, try again later")
	case in.full != nil && in.full():
		return storageFull(spool.ErrFull)
	case r.DeclaredSize > s.MaxSize:
		return tooLarge(s.MaxSize)
	}
	if err := checkStream(r.Stream); err != nil {
		return err
	}
	return checkFacts(r, in.arrival())
}

// Begin implements Acceptor. The request must not be changed while the draft
// lives.
func (in *Intake) Begin(ctx context.Context, r *Request) (Draft, error) {
	if err := in.Check(ctx, r); err != nil {
		return nil, err
	}
	s := in.settings.Load()
	if err := checkRecipients(r.Recipients, s.MaxRecipients); err != nil {
		return nil, err
	}
	if err := in.stop(ctx, r); err != nil {
		return nil, err
	}
	arrived := in.arrival()
	id, err := in.identify(ctx, r, arrived)
	if err != nil {
		return nil, err
	}
	content, err := in.store.Draft()
	if err != nil {
		in.claims.end(r.ID)
		return nil, storeTrouble(err)
	}
	d := &draft{intake: in, settings: s, request: r, content: content, arrived: arrived, id: id, claim: r.ID}
	d.check.repair = r.LineEnds == RepairBare
	d.scratch = scratches.Get().(*scratch)
	d.scratch.header.Reset(s.Header)
	return d, nil
}

// arrival is now as every record has it: UTC, to the millisecond, without the
// monotonic reading.
func (in *Intake) arrival() time.Time { return time.UnixMilli(in.now().UnixMilli()).UTC() }

func (in *Intake) newID(t time.Time) (mta.ID, error) {
	bits, err := in.entropy.next()
	if err != nil {
		return mta.ID{}, err
	}
	return mta.NewID(t, bits), nil
}

// entropy hands out random bits, many IDs for one read.
type entropy struct {
	mu struct {
		sync.Mutex
		buf  [4000]byte
		left int
	}
}

func (e *entropy) next() (bits [10]byte, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mu.left < len(bits) {
		if _, err := rand.Read(e.mu.buf[:]); err != nil {
			return bits, fmt.Errorf("random bits for a message ID: %w", err)
		}
		e.mu.left = len(e.mu.buf)
	}
	copy(bits[:], e.mu.buf[len(e.mu.buf)-e.mu.left:])
	e.mu.left -= len(bits)
	return bits, nil
}

func checkRecipients(rcpts []mta.Recipient, limit int) error {
	switch {
	case len(rcpts) == 0:
		return refuse(554, mta.Enhanced{Class: 5, Subject: 5, Detail: 1}, "recipient", "no recipients")
	case len(rcpts) > limit:
		return refuse(452, mta.Enhanced{Class: 4, Subject: 5, Detail: 3}, "recipient", fmt.Sprintf("more than %d recipients", limit))
	}
	for i := range rcpts {
		if domainOf(rcpts[i].Address) == "" {
			return refuse(550, mta.Enhanced{Class: 5, Subject: 1, Detail: 3}, "recipient", "a recipient's address has no domain")
		}
	}
	return nil
}

// MaxStream is how long a stream's name may be, in octets.
const MaxStream = 64

// checkStream lets a stream's name be letters, digits and . _ - only, as the
// configuration does: it becomes a part of the store's keys, of log lines and
// of listings. Empty is the default stream.
func checkStream(name string) error {
	ok := len(name) <= MaxStream
	for i := range len(name) {
		c := name[i]
		ok = ok && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-')
	}
	if ok {
		return nil
	}
	return refuse(501, mta.Enhanced{Class: 5, Subject: 5, Detail: 4}, "stream", fmt.Sprintf("a stream's name is 1 to %d letters, digits, and . _ -", MaxStream))
}

func refuse(code int, e mta.Enhanced, field, text string) *Refusal {
	return &Refusal{Reply: mta.Reply{Code: code, Enhanced: e, Text: text}, Field: field}
}

func badContent(text string) *Refusal {
	return refuse(554, mta.Enhanced{Class: 5, Subject: 6}, "content", text)
}

func tooLarge(limit int64) *Refusal {
	return refuse(552, mta.Enhanced{Class: 5, Subject: 3, Detail: 4}, "content", fmt.Sprintf("the message is larger than %d octets", limit))
}

func storageFull(err error) *Refusal {
	r := refuse(452, mta.Enhanced{Class: 4, Subject: 3, Detail: 1}, "", "storage is nearly full, try again later")
	r.Err = err
	return r
}

// ownTrouble is the answer to whatever goes wrong on our side: always "try
// again", for the message is not to blame.
func ownTrouble(err error) *Refusal {
	r := refuse(451, mta.Enhanced{Class: 4, Subject: 3}, "", "local trouble, try again later")
	r.Err = err
	return r
}

func storeTrouble(err error) *Refusal {
	if errors.Is(err, spool.ErrFull) {
		return storageFull(err)
	}
	return ownTrouble(err)
}
