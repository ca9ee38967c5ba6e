package admin

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/standing"
)

// Standing is what is known of how we stand with receivers.
type Standing interface {
	// Standing lists what holds for a site, or for all with an empty name.
	Standing(site string) []standing.Entry
	// ClearStanding forgets it, and gives how many things held; by says who asked.
	ClearStanding(site, by string) int
	// StandingCounts counts it.
	StandingCounts() standing.Counts
}

// StandingEntry is one thing that holds for a site, as the API shows it.
type StandingEntry struct {
	Site   string  `json:"site"`
	Source string  `json:"source"` // addresses of the source; empty: all sources
	Kind   string  `json:"kind" enum:"fallback,suspended,avoided,slowed" doc:"fallback: the router stands in; suspended: nothing is sent; avoided: other sources are used; slowed: limits are lowered."`
	Why    string  `json:"why"`
	Since  string  `json:"since,omitempty"`
	Until  string  `json:"until,omitempty" doc:"When it ends; of a fallback, when direct delivery is tried again."`
	Factor float64 `json:"factor,omitempty" doc:"What is left of the limits, with slowed."`
}

// StandingList is the answer of GET /v1/standing.
type StandingList struct {
	Entries []StandingEntry `json:"entries"`
}

// StandingCleared is the answer of DELETE /v1/standing.
type StandingCleared struct {
	Cleared int `json:"cleared" doc:"How many things held."`
}

// StandingEntries gives entries as the API shows them.
func StandingEntries(list []standing.Entry) []StandingEntry {
	out := make([]StandingEntry, len(list))
	for i, e := range list {
		out[i] = StandingEntry{Site: e.Site, Source: e.Source, Kind: e.Kind, Why: e.Why, Factor: e.Factor}
		if !e.Since.IsZero() {
			out[i].Since = mta.FormatTime(e.Since)
		}
		if !e.Until.IsZero() {
			out[i].Until = mta.FormatTime(e.Until)
		}
	}
	return out
}

func (s *Server) standingRoutes(api huma.API) {
	rest.Raw[struct {
		Site string `query:"site" doc:"Only this site, as the queue names it."`
	}, answer[StandingList]](api, rest.Operation(huma.Operation{
		OperationID: "standing", Method: http.MethodGet, Path: "/v1/standing", Tags: []string{"Queue"},
		Summary: "How we stand with receivers: suspensions, slowing, and where a router stands in",
	}, account.ScopeRead), func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, StandingList{StandingEntries(s.opts.Standing.Standing(r.URL.Query().Get("site")))})
	})
	rest.Raw[struct {
		Site string `query:"site" doc:"Only this site."`
		All  bool   `query:"all" doc:"Every site, when none is named."`
	}, answer[StandingCleared]](api, rest.Operation(huma.Operation{
		OperationID: "clear-standing", Method: http.MethodDelete, Path: "/v1/standing", Tags: []string{"Queue"},
		Summary: "Forget what was learnt of a site", Description: "Mail is planned anew at once.",
	}, account.ScopeAdmin), s.clearStanding)
}

func (s *Server) clearStanding(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	site, all := q.Get("site"), q.Get("all") == "true"
	if (site == "") == !all {
		writeProblem(w, &Problem{Status: http.StatusUnprocessableEntity, Detail: "name a site, or all=true: one of them"})
		return
	}
	writeJSON(w, http.StatusOK, StandingCleared{s.opts.Standing.ClearStanding(site, "an operator")})
}

var (
	descStanding     = desc("mailout_standing_sites", "Sites, or sources at a site, for which something learnt from replies holds now.", "kind")
	descStandingMade = desc("mailout_standing_changes_total", "What was learnt from replies since the start.", "kind")
	descProbes       = desc("mailout_standing_probes_total", "Deliveries that tried the direct way to a site that the router stands in for.", "result")
	descStandingLost = desc("mailout_standing_lost_total", "Writes of what was learnt that failed.")
)

// standingMetrics collects how we stand with receivers.
type standingMetrics struct {
	descs
	standing Standing
}

func newStandingMetrics(s Standing) *standingMetrics {
	return &standingMetrics{descs{descStanding, descStandingMade, descProbes, descStandingLost}, s}
}

// Collect implements prometheus.Collector.
func (m *standingMetrics) Collect(c chan<- prometheus.Metric) {
	to, n := sink(c), m.standing.StandingCounts()
	to.gauge(descStanding, float64(n.Fallbacks), standing.KindFallback)
	to.gauge(descStanding, float64(n.Suspended), standing.KindSuspended)
	to.gauge(descStanding, float64(n.Avoided), standing.KindAvoided)
	to.gauge(descStanding, float64(n.Slowed), standing.KindSlowed)
	to.counter(descStandingMade, float64(n.StoodIn), standing.KindFallback)
	to.counter(descStandingMade, float64(n.Suspensions), "suspension")
	to.counter(descStandingMade, float64(n.Slowings), standing.KindSlowed)
	to.counter(descProbes, float64(n.Probes-n.ProbesFailed), "taken_or_under_way")
	to.counter(descProbes, float64(n.ProbesFailed), "refused")
	to.counter(descStandingLost, float64(n.Lost))
}
