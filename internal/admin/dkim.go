package admin

import (
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/account"
	"mailout/internal/dkim"
	"mailout/internal/mta"
	"mailout/internal/rest"
)

// Signing is which DKIM keys sign, and mail that none is for.
type Signing interface {
	// DKIMKeys are the keys of the configuration in its order.
	DKIMKeys() []dkim.KeyStatus
	// DKIMLooks counts the looks at their records.
	DKIMLooks() dkim.LookCounts
	// DKIMSigned counts what became of messages that went out.
	DKIMSigned() dkim.Counts
	// Unaligned counts messages whose From domain no key is for.
	Unaligned() (accepted, refused int64)
}

// DKIMKey is one key as the API shows it. It holds nothing secret.
type DKIMKey struct {
	Domain    string `json:"domain"`
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm,omitempty" doc:"rsa or ed25519; missing when the file cannot be read."`
	Bits      int    `json:"bits,omitempty"`
	File      string `json:"file"`
	State     string `json:"state" enum:"active,pending,standby,retired,gone,revoked,missing" doc:"active: it signs; pending: its record has not been seen; standby, retired: its record is there, and a later key signs; gone: its record was there; revoked: its record says so; missing: the file cannot be read."`
	Since     string `json:"since,omitempty" doc:"Since when it is in that state."`
	Trouble   string `json:"trouble,omitempty" doc:"Why the file cannot be read."`
	Name      string `json:"name" doc:"Where the record is published."`
	Value     string `json:"value,omitempty" doc:"The record's text."`
	Record    string `json:"record" enum:"published,absent,differs,withdrawn,unknown" doc:"What the servers said last."`
	Authority bool   `json:"authority" doc:"The zone's own servers said so, else a resolver."`
	Said      string `json:"said,omitempty" doc:"Their answers."`
	Seen      string `json:"seen,omitempty" doc:"When the record was first seen."`
	Checked   string `json:"checked,omitempty" doc:"When it was last seen."`
	Signed    string `json:"signed,omitempty" doc:"Since when it signs, or signed."`
	Retired   string `json:"retired,omitempty" doc:"Since when a later key signs."`
	Next      string `json:"next,omitempty" doc:"When its record is looked at next."`
}

// DKIMKeys is the answer of GET /v1/dkim.
type DKIMKeys struct {
	Keys []DKIMKey `json:"keys"`
}

// ShownKeys gives keys as the API shows them.
func ShownKeys(list []dkim.KeyStatus) []DKIMKey {
	stamp := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return mta.FormatTime(t)
	}
	out := make([]DKIMKey, len(list))
	for i := range list {
		k := &list[i]
		out[i] = DKIMKey{
			Domain: k.Domain, Selector: k.Selector, Algorithm: string(k.Algorithm), Bits: k.Bits, File: k.Path,
			State: string(k.State), Since: stamp(k.Since), Trouble: k.Trouble, Name: k.Name(), Value: k.TXT,
			Record: string(k.Record.Finding), Authority: k.Record.Authority, Said: k.Record.Why,
			Seen: stamp(k.Seen), Checked: stamp(k.Checked), Signed: stamp(k.Signed), Retired: stamp(k.Retired), Next: stamp(k.Next),
		}
		if out[i].Record == "" {
			out[i].Record = "unknown"
		}
	}
	return out
}

func (s *Server) dkimRoutes(api huma.API) {
	rest.Raw[none, answer[DKIMKeys]](api, rest.Operation(huma.Operation{
		OperationID: "dkim", Method: http.MethodGet, Path: "/v1/dkim", Tags: []string{"Identity"},
		Summary: "The DKIM keys, and which of them sign", Description: "In the order of the configuration. What stands in the private keys is not shown.",
	}, account.ScopeAdmin), func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, DKIMKeys{ShownKeys(s.opts.Signing.DKIMKeys())})
	})
}

var (
	descKeys      = desc("mailout_dkim_key", "One series a DKIM key, with its state now; always 1.", "domain", "selector", "algorithm", "state")
	descKeyLooks  = desc("mailout_dkim_record_checks_total", "Looks at the records of DKIM keys since the start.", "result")
	descSigned    = desc("mailout_dkim_signing_total", "Messages made ready to go out since the start, by what became of signing.", "result")
	descUnaligned = desc("mailout_unaligned_messages_total", "Messages since the start whose From domain no DKIM key is for.", "result")
)

// keyMetrics collects where the keys stand.
type keyMetrics struct {
	descs
	signing Signing
}

func newKeyMetrics(s Signing) *keyMetrics {
	return &keyMetrics{descs{descKeys, descKeyLooks, descSigned, descUnaligned}, s}
}

// Collect implements prometheus.Collector.
func (m *keyMetrics) Collect(c chan<- prometheus.Metric) {
	to := sink(c)
	for _, k := range m.signing.DKIMKeys() {
		to.gauge(descKeys, 1, k.Domain, k.Selector, string(k.Algorithm), string(k.State))
	}
	n := m.signing.DKIMLooks()
	to.counter(descKeyLooks, float64(n.Published), "published")
	to.counter(descKeyLooks, float64(n.Missing), "missing")
	to.counter(descKeyLooks, float64(n.Unknown), "unknown")
	made := m.signing.DKIMSigned()
	to.counter(descSigned, float64(made.Signed), "signed")
	to.counter(descSigned, float64(made.Unsigned), "unsigned")
	to.counter(descSigned, float64(made.Failed), "failed")
	accepted, refused := m.signing.Unaligned()
	to.counter(descUnaligned, float64(accepted), "accepted")
	to.counter(descUnaligned, float64(refused), "refused")
}
