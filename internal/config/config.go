package config

import (
	"net/netip"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/warmup"

	"mailout/internal/suppress"
	"mailout/internal/unsubscribe"
)

// Config is a checked configuration with every default filled in: the
// effective values. Treat it as immutable.
type Config struct {
	// Path is the file as named to Load; empty without one.
	Path string

	Hostname   string // EHLO name, Received, Message-ID; fully qualified
	Spool      string // directory, absolute
	Postmaster string // mailbox that gets what cannot be returned to a sender

	DNS      DNS
	Router   Router
	Routes   []Route // first match wins, before Router
	Listen   []Listener
	Users    []User
	HTTP     HTTP
	Sendmail Sendmail
	Pickups  []Pickup
	Sources  []Source
	Pools    []Pool
	Delivery Delivery
	Streams  []Stream
	Warmups  []WarmupPlan
	TLS      TLS
	ACME     ACME
	Limits   Limits
	Journal  Journal
	Suppress Suppress
	Returns  Returns
	Events   Events
	Webhooks []Webhook
	DKIM     []DKIMKey
	Identity Identity

	Classify    []Classify
	Automations []Automation
	Shapes      []Shape
	Unsubscribe Unsubscribe

	TLSReports TLSReports

	// given holds the full names ("delivery.expire", "route.1.host") of the
	// keys that the file sets; nil in a configuration not made by Parse.
	given map[string]bool
}

// RouterUse says when the router carries mail.
type RouterUse uint8

// The uses of a router.
const (
	UseAlways     RouterUse = iota // for every domain that no [[route]] names
	UseUnresolved                  // only for domains whose mail servers cannot be found in DNS
	UseFallback                    // where direct delivery is refused, as Router.Fallback says
)

// String gives the word of the configuration file.
func (u RouterUse) String() string { return routerUses.word(u) }

// Router is the smart host for mail that no Route names.
type Router struct {
	Host string // the first host; empty: none, deliver directly
	Peers
	Port uint16
	Use  RouterUse
	TLS  mta.TLSRequirement
	Auth Credentials
	Line int // of host in the file; 0 when it is not there

	Fallback Fallback
}

// Listener is one address that takes mail by SMTP. The limits are the
// effective ones: its own or those of [limits].
type Listener struct {
	Address            netip.AddrPort
	Trusted            []netip.Prefix // may send without AUTH
	RepairBareLF       bool           // bare_lf = "repair"
	MessageSize        int64          // octets
	Recipients         int            // of one message
	Connections        int            // at once
	ConnectionsPerPeer int            // at once from one address

	TLS     ListenTLS
	TLSMin  uint16         // oldest version: crypto/tls.VersionTLS12, …
	Cert    string         // PEM file of the certificate and those that lead to its root; empty: none
	Key     string         // PEM file of its private key
	ACME    bool           // the certificate comes as Config.ACME says
	Auth    ListenAuth     // where AUTH is offered
	Proxy   []netip.Prefix // balancers whose connections begin with a PROXY header
	Returns bool           // serves what comes back, and nothing else
}

// ListenTLS says how TLS begins at a listener.
type ListenTLS uint8

// The ways to TLS at a listener.
const (
	ListenClear    ListenTLS = iota // never
	ListenOffered                   // by STARTTLS, if the client likes
	ListenRequired                  // by STARTTLS, and no mail without it
	ListenImplicit                  // at once
)

// ListenAuth says where AUTH is offered at a listener.
type ListenAuth uint8

// The places of AUTH.
const (
	ListenAuthTLS    ListenAuth = iota // under TLS
	ListenAuthAlways                   // in clear text too
	ListenAuthNever
)

// User is one who may send after signing in.
type User struct {
	Name         string
	Password     account.Verifier // that of PasswordFile, when Load has read it
	PasswordFile string           // its only line is the hash; empty: Password stands in the file
	From         account.Senders
	Stream       string // of its messages; empty: mta.DefaultStream
	Rate         account.Rate
	Key          account.Key // zero: none
	Scopes       []account.Scope
}

// Delivery is how mail goes out.
type Delivery struct {
	Port                  uint16 // of mail servers found by MX
	IPv6                  bool
	PrivateNetworks       bool // deliver to loopback and private addresses
	Expire                time.Duration
	DelayNotice           time.Duration // at or beyond Expire: none
	Retry                 []time.Duration
	ConnectTimeout        time.Duration
	ReplyTimeout          time.Duration // 0: RFC 5321 4.5.3.2's time of each command
	Hosts                 int           // tried in one attempt
	Addresses             int           // tried in one attempt
	EightBit              EightBit
	Connections           int // at once to one site from one source
	MessagesPerConnection int
	ProviderLimits        bool // what is known of providers lowers limits
}

// EightBit says what a host without 8BITMIME gets of an 8-bit message.
type EightBit uint8

// The treatments of 8-bit content.
const (
	ConvertEightBit EightBit = iota // quoted-printable or base64
	SendEightBit                    // as it is
)

// String gives the word of the configuration file.
func (e EightBit) String() string { return eightBits.word(e) }

// Stream is what a stream has of its own; times that it does not set are
// [delivery]'s.
type Stream struct {
	Name        string
	Expire      time.Duration
	DelayNotice time.Duration
	Retry       []time.Duration
	Pool        string            // of sources; empty: none of its own
	Warmup      warmup.Priority   // at sources that are being warmed up
	Suppress    []suppress.Reason // for which listed addresses get no mail
	Unsubscribe bool              // mail gets a link to unsubscribe
	Places      unsubscribe.Places
	Feedback    unsubscribe.Feedback
}

// Stream gives the times of a stream by its name.
func (c *Config) Stream(name string) Stream {
	for _, s := range c.Streams {
		if s.Name == name {
			return s
		}
	}
	return Stream{Name: name, Expire: c.Delivery.Expire, DelayNotice: c.Delivery.DelayNotice, Retry: c.Delivery.Retry}
}

// TLS is the protection of direct delivery.
type TLS struct {
	Outbound mta.TLSRequirement // never TLSImplicit
	CAFile   string             // extra roots, PEM; empty: none
	DANE     bool               // RFC 7672
	STS      bool               // RFC 8461
	STSPort  uint16
	// MinVersion is the lowest version of TLS out (tls.VersionTLS12 or later).
	MinVersion uint16
}

// Limits bound what the process takes on.
type Limits struct {
	MessageSize        int64         // octets
	Recipients         int           // of one message
	Memory             int64         // octets; a target
	Hops               int           // Received fields; more is a loop
	Stop               time.Duration // to drain after SIGTERM
	Connections        int           // of one listener at once
	ConnectionsPerPeer int           // of one listener and address at once
	LineLength         int           // of an SMTP command line, octets with CRLF
	Commands           int           // of a session since its last accepted message
	Errors             int           // of a session since its last accepted message
	CommandTimeout     time.Duration // to wait for a client's next command
	DataTimeout        time.Duration // to wait for more of a message's content
	MessageTimeout     time.Duration // for one message, from MAIL to its last octet
	SpoolFree          int64         // octets; less free refuses new mail; 0: no bound
}

// Journal is how long history is kept.
type Journal struct {
	Keep time.Duration
	Size int64 // octets on disk; 0: no bound
}
