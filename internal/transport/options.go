package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
	"mailout/internal/smtpclient"
	"mailout/internal/spool"
)

// DialFunc connects from local (zero: the system chooses) to remote, an address
// with its port. It ends with ctx. network is tcp4 or tcp6; or unix, and remote a
// path.
type DialFunc func(ctx context.Context, network string, local netip.Addr, remote string) (net.Conn, error)

// ContentStore is the part of the spool that transport reads.
type ContentStore interface {
	Open(ctx context.Context, id mta.ID) (spool.Content, error)
}

// Options are what a Carrier is built of.
type Options struct {
	Content ContentStore // required
	Dial    DialFunc     // default DialTCP
	// Convert makes the 7-bit form of a message for a host without 8BITMIME.
	// It reports false when the message must stay as it is (signed parts).
	// Default: eightbit.Convert.
	Convert func(message []byte) ([]byte, bool)
	// Shuffle orders hosts of one preference; default rand.Shuffle.
	Shuffle  func(n int, swap func(i, j int))
	Observer Observer // may be nil
	// Greeted, when set, is told once a session what the mail server of a
	// recipient (never a router) said in its last reply to EHLO or HELO, and
	// from which address we came. It is called by many workers at once and must
	// be quick.
	Greeted func(t *mta.Target, local netip.Addr, hello mta.Reply)
	// Routed, when set, is told after each attempt that asked a router for a new
	// session how that went: nil when one of its hosts took us, credentials and
	// all, else why the last of them did not. What is our own trouble (a shutdown,
	// no descriptors) is not told. It is called by many workers at once and must
	// be quick.
	Routed func(route *mta.Route, f *mta.Failure)
	// Resolve finds the addresses of a proxy's name (mta.Egress); default: the
	// system's resolver.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Stuck, when set, is told each time that a source could not be used: f has
	// CauseSource. What its proxy says to a request for one host is not told. It is called by many workers at once and must be quick.
	Stuck func(s mta.Source, f *mta.Failure)
	// Suppressed, when set, says in a sentence why a recipient of a delivery gets
	// no mail; empty: nothing is against it. It is asked before each attempt, by
	// many workers at once, and must be quick.
	Suppressed func(d *mta.Delivery, recipient string) string
	// ReturnPath, when set, gives the return path of a transaction by a route, for
	// these recipients of a delivery: the message's, or one that tells us what
	// comes back. It is called as Suppressed is. Both are ASCII when the message's is.
	ReturnPath func(d *mta.Delivery, route *mta.Route, recipients []mta.Recipient) string
	// Prepare, when set, gives what goes out before the content of a transaction. A
	// failure strikes the transaction's recipients. It is called by many workers at
	// once and may compute and wait; ctx ends with abandon.
	Prepare func(ctx context.Context, o *Outgoing) (Prefix, *mta.Failure)
	// Apart, when set, says that each recipient of a delivery gets a transaction of
	// its own, because Prepare's fields are for one. It is called as Suppressed is.
	Apart func(d *mta.Delivery) bool
	// Secured, when set, is told once for each session with a mail server of a
	// recipient that was asked for TLS, or failed before for the sake of it, how
	// that went. It is called by many workers at once and must be quick.
	Secured  func(route *mta.Route, t *mta.Target, o TLSOutcome)
	Settings Settings
}

// Prefix are the header fields before the content: those that are added, and the
// signatures over it all.
type Prefix struct {
	Fields []byte // whole lines
	Signed mta.KeyNames
}

// Outgoing is one transaction about to begin.
type Outgoing struct {
	Delivery   *mta.Delivery
	Route      *mta.Route
	Recipients []mta.Recipient // whom the fields may go to: with Apart one, else all of the delivery; not to be kept
	Content    smtpclient.Content
	Converted  bool // Content is the 7-bit form, not what is stored
}

// TLSOutcome is how TLS with a host went, in the words of RFC 8460 4.3.
type TLSOutcome struct {
	// Result is the result-type of a failure ("starttls-not-supported",
	// "certificate-expired", …); empty: success.
	Result string
	Reason string     // one sentence; with Result
	Local  netip.Addr // the address we came from; zero when not known
	Helo   string     // what the host called itself; empty when not known
	Demand mta.TLSDemand
}

// Settings can be replaced while mail flows. Zero values mean the defaults.
type Settings struct {
	ConnectTimeout time.Duration  // of one address; default 30 s
	ReplyTimeout   time.Duration  // caps every reply; default RFC 5321's per command
	IdleWait       time.Duration  // how long an open session waits for more mail; default 2 s
	RootCAs        *x509.CertPool // for verified TLS; nil: the system's
	MinTLS         uint16         // the lowest version spoken (tls.VersionTLS13); at least, and by default, TLS 1.2
	SendEightBit   bool           // delivery.eightbit = "send": never convert
	// Classifier says what replies mean (mta.Result.Bounce); nil: the shipped
	// rules alone.
	Classifier *bounce.Classifier
}

// Defaults of Settings.
const (
	DefaultConnectTimeout = 30 * time.Second
	DefaultIdleWait       = 2 * time.Second
)

// Defaults of mta.Limits where a route states none.
const (
	DefaultMessagesPerConnection = 100
	DefaultRecipientsPerMessage  = 100
)

// tlsSessions is how many hosts' TLS sessions are kept for resumption.
const tlsSessions = 1000

// settings are Settings in force, immutable, with what depends on them.
type settings struct {
	Settings
	sessions tls.ClientSessionCache // goes with RootCAs: a resumed session is not verified anew
}

func compile(s Settings) *settings {
	if s.ConnectTimeout <= 0 {
		s.ConnectTimeout = DefaultConnectTimeout
	}
	if s.IdleWait <= 0 {
		s.IdleWait = DefaultIdleWait
	}
	if s.Classifier == nil {
		s.Classifier = bounce.New()
	}
	return &settings{Settings: s, sessions: tls.NewLRUClientSessionCache(tlsSessions)}
}

// Observer sees what happens on the wire: the demo shows it, transcripts and
// the doctor (which learns from EHLO replies the address that we come from)
// use it. Observe is called from many workers at once and must be quick.
type Observer interface {
	Observe(Event)
}

// Event is one step of one attempt.
type Event struct {
	Time     time.Time
	Delivery mta.DeliveryKey // the delivery in hand
	Target   mta.Target
	Step     smtpclient.Step // Stage says what; at StageConnect it has no reply
	Failure  *mta.Failure    // what the step failed with, when it is not told by its reply
}

func (o Options) filled() Options {
	if o.Dial == nil {
		o.Dial = DialTCP
	}
	if o.Resolve == nil {
		o.Resolve = resolveBySystem
	}
	if o.Shuffle == nil {
		o.Shuffle = rand.Shuffle
	}
	if o.Convert == nil {
		o.Convert = convert
	}
	return o
}
