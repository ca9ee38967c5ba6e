package admin

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/smtp"
)

// Explanation says how mail for an address would be delivered now, and why, as
// `explain --json` shows it.
type Explanation struct {
	Recipient   string           `json:"recipient"`
	Destination string           `json:"destination"`
	Route       string           `json:"route"`       // "direct", or the router as configured; empty without a route
	Matched     string           `json:"matched"`     // the configuration that chose it, with its line
	PassedOver  []string         `json:"passed_over"` // rules before that one, which mail of another sender, stream, user or tag would meet
	Site        string           `json:"site"`
	Hosts       []ExplainedHost  `json:"hosts"`  // by preference
	TLS         ExplainedTLS     `json:"tls"`    // of the first host that is tried
	Source      string           `json:"source"` // local address; empty: the system chooses
	Helo        string           `json:"helo"`
	Pool        string           `json:"pool"`    // of sources
	Sources     []ExplainedFrom  `json:"sources"` // the pool's members; empty: the system chooses the address
	Limits      []ExplainedLimit `json:"limits"`
	HeldBy      string           `json:"held_by"` // what holds the destination's mail; empty: nothing does
	Next        string           `json:"next"`    // when mail for it is tried next; empty: at once, or there is none
	// DNSSEC is who authenticates the answers of DNS, or why nobody does.
	DNSSEC string `json:"dnssec"`
	// Policies are what the recipient domain publishes about TLS; none where a router
	// or a rule leaves no room for it.
	Policies []ExplainedPolicy `json:"policies"`
	// Standing is what replies taught of the site (of the direct one, where a
	// router stands in) and holds now.
	Standing []StandingEntry `json:"standing,omitempty"`
	// Suppressed is why mail for the address is not sent at all: what the
	// suppression list says of it; empty: nothing that counts for the stream.
	Suppressed string `json:"suppressed,omitempty"`
	// Failure is what mail for the address would get instead of a route.
	Failure string `json:"failure,omitempty"`
	// RouterTrouble is why the route's router cannot be used now; empty: nothing
	// is known against it.
	RouterTrouble string `json:"router_trouble,omitempty"`
	// Daemon tells whether the running daemon was asked. Without it nothing is
	// known of what was learnt, and of what waits.
	Daemon bool           `json:"daemon"`
	Probe  *ExplainedTest `json:"probe,omitempty"`
}

// ExplainedFrom is one member of the pool: a source, or an IPv4 and an IPv6 one.
type ExplainedFrom struct {
	Addresses []string `json:"addresses"`
	Helo      string   `json:"helo"`
	Weight    int      `json:"weight"`             // share of the mail among the members; 0 with left_out
	Proxy     string   `json:"proxy,omitempty"`    // that connections go out by
	HeldBy    string   `json:"held_by,omitempty"`  // why it does not send now
	Avoided   string   `json:"avoided,omitempty"`  // why it is not used while there are others
	LeftOut   string   `json:"left_out,omitempty"` // why it cannot carry this mail
}

// ExplainedHost is one mail server.
type ExplainedHost struct {
	Name       string   `json:"name"`
	Preference uint16   `json:"preference"`
	Addresses  []string `json:"addresses"`
	// DNSSEC is "secure" when all answers that led here are authenticated,
	// "insecure" when one is not, and "none" when DNS was not asked.
	DNSSEC  string `json:"dnssec"`
	Failure string `json:"failure,omitempty"` // why it has no address that can be used
	// TLS is what is demanded of it; absent with Failure.
	TLS *ExplainedTLS `json:"tls,omitempty"`
}

// ExplainedTLS is how much TLS is demanded, and by what.
type ExplainedTLS struct {
	Requirement string `json:"requirement"`       // "opportunistic", "required", "implicit", "none", "encrypted" or "dane"
	Origin      string `json:"origin"`            // key of the configuration; or "dane", "mta-sts" or "requiretls"
	Why         string `json:"why,omitempty"`     // the policy or the records that demand it
	Testing     string `json:"testing,omitempty"` // what a policy in testing mode asks beside
}

// ExplainedPolicy is what a recipient domain publishes about TLS.
type ExplainedPolicy struct {
	Type    string   `json:"type"`   // "tlsa", "sts" or "no-policy-found"
	Domain  string   `json:"domain"` // of "tlsa" the TLSA base domain
	ID      string   `json:"id,omitempty"`
	Mode    string   `json:"mode,omitempty"`
	Age     int64    `json:"age_s,omitempty"`   // of "sts": since it was read
	Expires string   `json:"expires,omitempty"` // of "sts": until when it holds
	Lines   []string `json:"lines"`             // of the policy, or the records
	Trouble string   `json:"trouble,omitempty"` // in the words of RFC 8460 4.3
	Reason  string   `json:"reason,omitempty"`
}

// ExplainedLimit is one limit in force.
type ExplainedLimit struct {
	Name   string `json:"name"`
	Value  int    `json:"value"`
	Origin string `json:"origin"` // key of the configuration, or what it was learnt from
}

// ExplainedTest is a connection that was made to find out.
type ExplainedTest struct {
	Host    string          `json:"host"` // that answered, or the last one tried
	IP      string          `json:"ip"`
	Steps   []ExplainedStep `json:"steps"`
	Failure string          `json:"failure,omitempty"` // what ended it early
}

// ExplainedStep is one step of it.
type ExplainedStep struct {
	Stage   string `json:"stage"`
	Command string `json:"command,omitempty"`
	Reply   string `json:"reply,omitempty"`
	TLS     string `json:"tls,omitempty"`
	MS      int64  `json:"ms"`
}

// ExplainRequest is what is asked.
type ExplainRequest struct {
	Address smtp.Mailbox
	Mail    ExplainMail
	Probe   bool // connect to the first host that answers: EHLO, STARTTLS, QUIT
	Rcpt    bool // with Probe: also MAIL FROM:<>, RCPT and RSET
}

// ParseExplain checks an address as the doors do.
func ParseExplain(address string, probe, rcpt bool) (ExplainRequest, error) {
	m, err := smtp.ParseMailbox(withoutBrackets(strings.TrimSpace(address)), true)
	if err == nil {
		err = smtp.CheckRecipient(m)
	}
	if err != nil {
		return ExplainRequest{}, &Problem{Status: http.StatusBadRequest, Field: "recipient", Detail: smtp.Harmless(address) + ": " + err.Error()}
	}
	return ExplainRequest{Address: m, Mail: ExplainMail{Sender: UnknownSender, Stream: mta.DefaultStream}, Probe: probe || rcpt, Rcpt: rcpt}, nil
}

// Explainer says how mail for an address would be delivered.
type Explainer func(ctx context.Context, r ExplainRequest) (*Explanation, error)

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	flag := func(name string) bool { on, err := strconv.ParseBool(q.Get(name)); return err == nil && on }
	request, err := ParseExplain(q.Get("address"), flag("probe"), flag("rcpt"))
	if err == nil {
		err = request.ParseMail(q)
	}
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	if _, all := rest.All(r.Context()); request.Probe && !all {
		writeProblem(w, &Problem{Status: http.StatusForbidden, Field: "probe", Detail: "connecting to others to find out needs the scope admin"})
		return
	}
	out, err := s.opts.Explain(r.Context(), request)
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// TLSWord is the word for a requirement: the configuration's, or what a policy
// brings.
func TLSWord(t mta.TLSRequirement) string {
	switch t {
	case mta.TLSNone:
		return "none"
	case mta.TLSRequired:
		return "required"
	case mta.TLSImplicit:
		return "implicit"
	case mta.TLSEncrypted:
		return "encrypted"
	case mta.TLSDANE:
		return "dane"
	}
	return "opportunistic"
}
