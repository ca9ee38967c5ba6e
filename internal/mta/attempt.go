package mta

import (
	"net/netip"
	"time"
)

// TLSFacts says how a session was protected. The zero value is clear text.
type TLSFacts struct {
	Version  string `json:"version,omitempty"` // "TLS1.3"
	Cipher   string `json:"cipher,omitempty"`
	Verified string `json:"verified_by,omitempty"` // "", "pkix", "dane"; empty means not authenticated
	// Origin is who demanded it, when somebody demanded more than the default.
	Origin TLSOrigin `json:"demanded_by,omitempty"`
}

// Try is one host address tried on the way of an attempt without success, or
// the one that answered.
type Try struct {
	Host  string     `json:"host"`
	IP    netip.Addr `json:"ip,omitzero"`
	Stage Stage      `json:"stage"`
	Reply string     `json:"reply"` // the reply, or what went wrong
	MS    int64      `json:"ms"`
}

// Durations of an attempt's stages in milliseconds; a reused session has
// zeros up to Mail.
type Durations struct {
	Route   int64 `json:"route_ms,omitempty"`
	Connect int64 `json:"connect_ms,omitempty"`
	TLS     int64 `json:"tls_ms,omitempty"`
	Mail    int64 `json:"mail_ms,omitempty"`
	Data    int64 `json:"data_ms,omitempty"`
	Total   int64 `json:"total_ms,omitempty"`
}

// Attempt is one visit of a delivery to its hosts: the unit of history.
type Attempt struct {
	Start  time.Time
	End    time.Time
	Site   string
	Host   string // the one that decided; empty when none was reached
	IP     netip.Addr
	Source netip.Addr // the local address used
	Helo   string
	TLS    TLSFacts
	Reused bool // an open session carried it
	// SourceTrouble says why the source could not be used, whatever the host;
	// empty: it could, or was not needed.
	SourceTrouble string
	Tries         []Try // every address tried, in order
	// Results has one result for each of the delivery's recipients, by index.
	Results   []Result
	Durations Durations
}
