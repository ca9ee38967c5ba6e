package admin

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/control"
	"mailout/internal/queue"
	"mailout/internal/rest"
	"mailout/internal/submit/dropin"
)

// none stands for an operation without parameters, or without an answer that
// can be described as a JSON object.
type none struct{}

// answer describes a JSON object that an operation answers.
type answer[T any] struct{ Body T }

// register puts every operation on the mux. What is not found is a problem too.
func (s *Server) register(api huma.API) {
	documentTypes(api)
	s.healthRoutes(api)
	s.queueRoutes(api)
	s.historyRoutes(api)
	s.localRoutes(api)
	s.identityRoutes(api)
	if s.opts.Records != nil {
		s.recordRoutes(api)
	}
	if s.opts.Control != nil {
		s.controlRoutes(api)
	}
	if s.opts.Standing != nil {
		s.standingRoutes(api)
	}
	if s.opts.Signing != nil {
		s.dkimRoutes(api)
	}
	if s.opts.Feed != nil {
		s.eventRoutes(api)
	}
	for _, more := range s.opts.Routes {
		more(api)
	}
	s.documentRoute(api)
	s.mux.HandleFunc("/", s.absent)
}

// absent answers what is not part of the API, or not by this method.
func (s *Server) absent(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch} {
		other := r.Clone(r.Context())
		other.Method = method
		if _, pattern := s.mux.Handler(other); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	p := &Problem{Status: http.StatusNotFound, Detail: r.Method + " " + r.URL.Path + " is not part of this API"}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p.Status, p.Detail = http.StatusMethodNotAllowed, r.URL.Path+" takes "+strings.Join(allowed, " and ")
	}
	writeProblem(w, p)
}

// routes serves whoever may open the Unix socket.
func (s *Server) routes() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mux.ServeHTTP(dropin.Dress(w, r), r.WithContext(rest.WithLocal(r.Context())))
	})
}

func (s *Server) healthRoutes(api huma.API) {
	text := func(status, description string) map[string]*huma.Response {
		return map[string]*huma.Response{status: {Description: description, Content: map[string]*huma.MediaType{"text/plain": {Schema: &huma.Schema{Type: huma.TypeString}}}}}
	}
	rest.Raw[none, none](api, rest.Open(huma.Operation{
		OperationID: "healthz", Method: http.MethodGet, Path: "/healthz", Tags: []string{"Server"}, DefaultStatus: http.StatusOK,
		Summary: "Whether the process answers", Responses: text("200", "It does."),
	}), func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	rest.Raw[none, none](api, rest.Open(huma.Operation{
		OperationID: "readyz", Method: http.MethodGet, Path: "/readyz", Tags: []string{"Server"}, DefaultStatus: http.StatusOK,
		Summary: "Whether mail can be handed over now", Errors: []int{http.StatusServiceUnavailable},
		Description: "503 while the daemon starts or stops, when the spool's disk is full, and when memory is short.",
		Responses:   text("200", "It can."),
	}), s.ready)
	rest.Raw[none, none](api, rest.Operation(huma.Operation{
		OperationID: "metrics", Method: http.MethodGet, Path: "/metrics", Tags: []string{"Server"}, DefaultStatus: http.StatusOK,
		Summary: "Metrics for Prometheus", Responses: text("200", "The text format of Prometheus, or OpenMetrics if asked for."),
	}, account.ScopeRead), s.metrics().ServeHTTP)
	rest.Raw[none, answer[Reload]](api, rest.Operation(huma.Operation{
		OperationID: "reload", Method: http.MethodPost, Path: "/v1/config/reload", Tags: []string{"Server"},
		Summary: "Read the configuration file again", Description: "A file with errors changes nothing; `errors` lists them with their positions.",
	}, account.ScopeAdmin), s.reload)
}

func (s *Server) ready(w http.ResponseWriter, r *http.Request) {
	if s.opts.Ready != nil {
		if err := s.health.ask(r.Context(), s.opts.Ready); err != nil {
			p := problemOf(&Problem{Status: http.StatusServiceUnavailable, Detail: err.Error()})
			writeProblem(w, p)
			return
		}
	}
	fmt.Fprintln(w, "ready")
}

func (s *Server) reload(w http.ResponseWriter, r *http.Request) {
	result, err := s.opts.Reload(r.Context())
	if err != nil {
		writeProblem(w, reloadProblem(err))
		return
	}
	writeJSON(w, http.StatusOK, result)
}

func (s *Server) queueRoutes(api huma.API) {
	rest.Raw[none, answer[queue.Summary]](api, rest.Operation(huma.Operation{
		OperationID: "queues", Method: http.MethodGet, Path: "/v1/queues", Tags: []string{"Queue"}, Summary: "The queue in numbers",
	}, account.ScopeRead), s.summary)
	rest.Raw[struct {
		Destination string `path:"destination" doc:"A recipient domain, or an address literal."`
	}, answer[Destination]](api, rest.Operation(huma.Operation{
		OperationID: "destination", Method: http.MethodGet, Path: "/v1/queues/{destination}", Tags: []string{"Queue"}, Summary: "What waits for one destination, by stream",
	}, account.ScopeRead), s.destination)
	rest.Raw[Selection, none](api, rest.Operation(huma.Operation{
		OperationID: "deliveries", Method: http.MethodGet, Path: "/v1/deliveries", Tags: []string{"Queue"}, DefaultStatus: http.StatusOK,
		Summary: "What waits in the queue, a line each", Responses: rest.Lines[Delivery](api, "One JSON object a line, in the order of the queue."),
	}, account.ScopeSend, account.ScopeRead), s.deliveries)
}

// localRoutes are those of the command line alone.
func (s *Server) localRoutes(api huma.API) {
	rest.Raw[none, answer[Accepted]](api, rest.Local(huma.Operation{
		OperationID: "handover", Method: http.MethodPost, Path: "/v1/handover", Tags: []string{"Messages"}, DefaultStatus: http.StatusAccepted,
		Summary: "Take an entry of `mailout sendmail`", Description: "The same entry may come again; it is taken once.",
		RequestBody: body("application/vnd.mailout.entry", "An envelope with the message's ID, and the content."),
	}), s.handover)
}

// lines is the answer of a listing whose lines are not described.
func lines(api huma.API, description string) map[string]*huma.Response {
	return map[string]*huma.Response{"200": {Description: description, Content: map[string]*huma.MediaType{"application/x-ndjson": {Schema: &huma.Schema{Type: huma.TypeObject}}}}}
}

// body describes what is read as it stands.
func body(kind, description string) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Description: description, Content: map[string]*huma.MediaType{kind: {Schema: &huma.Schema{Type: huma.TypeString, Format: "binary"}}}}
}

func (s *Server) identityRoutes(api huma.API) {
	if s.opts.Doctor != nil {
		rest.Raw[none, answer[Examination]](api, rest.Operation(huma.Operation{
			OperationID: "doctor", Method: http.MethodGet, Path: "/v1/doctor", Tags: []string{"Identity"}, Summary: "What the last examination found",
		}, account.ScopeRead), s.lastDoctor)
		rest.Raw[none, answer[Examination]](api, rest.Operation(huma.Operation{
			OperationID: "examine", Method: http.MethodPost, Path: "/v1/doctor", Tags: []string{"Identity"}, Summary: "Examine everything now, and wait for it",
		}, account.ScopeAdmin), s.doctorNow)
	}
	if s.opts.Explain != nil {
		rest.Raw[struct {
			Address string   `query:"address" required:"true" doc:"A recipient."`
			Probe   bool     `query:"probe" doc:"Connect to the first host that answers. Needs the scope admin."`
			Rcpt    bool     `query:"rcpt" doc:"With probe: also ask it about the recipient."`
			Sender  string   `query:"sender" doc:"Return path of the mail; <> is the null return path."`
			Stream  string   `query:"stream" doc:"Stream of the mail. Default: default."`
			User    string   `query:"user" doc:"Who handed the mail over."`
			Tag     []string `query:"tag,explode" doc:"A tag of the mail; may be given several times."`
		}, answer[Explanation]](api, rest.Operation(huma.Operation{
			OperationID: "explain", Method: http.MethodGet, Path: "/v1/explain", Tags: []string{"Queue"}, Summary: "How mail for an address would be delivered, and why",
		}, account.ScopeRead), s.explain)
	}
}

// CommandQuery are the parameters of a command.
type CommandQuery struct {
	Selection
	Site    string `query:"site"`
	Older   string `query:"older" doc:"Arrived at least so long ago: 30m, 12h, 7d."`
	Newer   string `query:"newer" doc:"Arrived at most so long ago."`
	All     bool   `query:"all" doc:"Everything, when there is no other condition."`
	Reason  string `query:"reason" maxLength:"500" doc:"Why; every record of the command carries it."`
	To      string `query:"to" doc:"Of reroute: direct, router, HOST, HOST:PORT, or default."`
	Expires string `query:"expires" doc:"When the hold or the route of a destination ends by itself: 30m, 12h, 7d."`
	Once    bool   `query:"once" doc:"Of hold and reroute by destination: only what waits now, not what comes."`
	DryRun  bool   `query:"dry_run" doc:"Only tell what would be touched."`
}

// Selection are the parameters that select deliveries.
type Selection struct {
	ID          string `query:"id"`
	Destination string `query:"destination" doc:"A recipient domain."`
	Stream      string `query:"stream"`
	Sender      string `query:"sender" doc:"The return path; <> is the null one."`
	Recipient   string `query:"recipient"`
	State       string `query:"state" enum:"queued,deferred,held"`
}

// CommandBody is the body that may give options of a command.
type CommandBody struct {
	Body *controlOptions `required:"false"`
}

func (s *Server) controlRoutes(api huma.API) {
	for v := queue.VerbHold; v <= queue.VerbReroute; v++ {
		order := func(place, path, about string) {
			scope := account.ScopeControl // over one's own message
			if place != "id" || v == queue.VerbReroute {
				scope = account.ScopeAdmin // over others' too, or to any host
			}
			op := rest.Operation(huma.Operation{
				OperationID: v.String() + "-" + about, Method: http.MethodPost, Path: path + "/" + v.String(), Tags: []string{"Control"},
				Summary:     "Order " + v.String() + " for " + about,
				Description: "With `Accept: application/x-ndjson` the answer is lines of progress; with `dry_run` it says what would be touched.",
			}, scope)
			handler := func(w http.ResponseWriter, r *http.Request) { s.control(w, r, v, place) }
			if place != "" {
				op.Parameters = []*huma.Param{{Name: place, In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString}}}
			}
			rest.Raw[struct {
				CommandQuery
				CommandBody
			}, answer[control.Result]](api, op, handler)
		}
		order("id", "/v1/messages/{id}", "message")
		order("destination", "/v1/queues/{destination}", "destination")
		order("", "/v1/deliveries", "selection")
	}
}

func (s *Server) documentRoute(api huma.API) {
	rest.Raw[none, none](api, rest.Operation(huma.Operation{
		OperationID: "openapi", Method: http.MethodGet, Path: "/openapi.json", Tags: []string{"Server"}, DefaultStatus: http.StatusOK,
		Summary:   "This document",
		Responses: map[string]*huma.Response{"200": {Description: "OpenAPI 3.1", Content: map[string]*huma.MediaType{"application/openapi+json": {}}}},
	}, account.ScopeSend, account.ScopeRead, account.ScopeControl), rest.Document(api))
}
