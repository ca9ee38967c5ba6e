package mta

import (
	"context"
	"crypto"
	"slices"
	"time"
)

// Plan is where the mail of one destination and variant goes now. It is
// immutable and shared.
type Plan struct {
	// Routes has one route for each member of the pool that may carry the mail:
	// they differ in source, limits and weight only. It is empty exactly when
	// Stop is set.
	Routes []*Route
	// Stop says that a rule ends the mail's way here.
	Stop *Stop
	// LeftOut are sources of the pool that no route uses now.
	LeftOut []LeftOut
	// Expires is when to ask again.
	Expires time.Time
}

// LeftOut is a source that a plan does not use.
type LeftOut struct {
	Source Source
	Why    string // one sentence
}

// OnePlan is the plan of a single route.
func OnePlan(r *Route) *Plan { return &Plan{Routes: []*Route{r}, Expires: r.Expires} }

// VariantReleased begins the variant (queue.Planner) of mail that was released
// from a rule's hold: the rules that hold do not hold it again.
const VariantReleased = "released\x00"

// VariantRequireTLS begins the variant of mail with REQUIRETLS (behind
// VariantReleased), VariantAnyTLS that of mail with "TLS-Required: No" (RFC 8689).
const (
	VariantRequireTLS = "requiretls\x00"
	VariantAnyTLS     = "anytls\x00"
)

// StopAction is what a rule does with mail that it does not send.
type StopAction uint8

// The actions.
const (
	StopHold    StopAction = iota // held until somebody releases it
	StopDiscard                   // cancelled, and nobody is told but the journal
)

// Stop is a rule's end of the way.
type Stop struct {
	Action  StopAction
	Reason  string // one sentence for people
	Matched string // the configuration line, as in Route.Matched
}

// Credentials prove who we are to a router (RFC 4954). They are compared by
// pointer: a session serves only mail with the same.
type Credentials struct {
	Username string
	Password string // empty with Token
	// Token gives an OAuth 2.0 access token, a new one when the last was refused.
	Token func(ctx context.Context, refused bool) (string, error)
	// Mechanisms are the SASL mechanisms that may be used, in the order of
	// preference; none: the strongest that the server offers and that Password or
	// Token serve.
	Mechanisms []string
	// Trouble is why the credentials cannot be used now (a file that cannot be
	// read): nothing is sent then, also no mail without them. Empty: none.
	Trouble string
	// Certificate is shown when the router asks for one in the TLS handshake;
	// nil: none. Without Username it is all that proves who we are.
	Certificate *Certificate
}

// SignsIn reports whether AUTH is to be used: credentials of a certificate alone
// need none, unless EXTERNAL is named (RFC 4422 appendix A).
func (c *Credentials) SignsIn() bool {
	return c.Username != "" || slices.Contains(c.Mechanisms, "EXTERNAL")
}

// Certificate is ours as a TLS client.
type Certificate struct {
	Chain [][]byte      // DER, our own first, then those that lead to its root
	Key   crypto.Signer // of the first
}

// Rate bounds how many messages go out in a time. Its bucket is full at first
// and is filled evenly.
type Rate struct {
	Count int // at least 1
	Per   time.Duration
	// Bucket names what the rate is counted by: rates with the same name share
	// one. The planner has put the rule and the site or source into it.
	Bucket   string
	ByStream bool // each stream has a bucket of its own
	BySender bool // each sender
	// Apart says that the rate is for part of a site's mail only: what it holds
	// back lets the rest of the site's pass.
	Apart  bool
	Origin string // the configuration line
}

// Warming says that a source is new and has a ceiling a day for each provider.
type Warming struct {
	Provider string // for people
	// Second says that mail of this stream comes after that of others: what it is
	// refused, theirs may still have.
	Second bool
	Origin string // the configuration line
}
