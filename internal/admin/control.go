package admin

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"mailout/internal/account"
	"mailout/internal/config"
	"mailout/internal/control"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/route"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// Controller carries out what an operator orders of queued mail.
type Controller interface {
	Preview(ctx context.Context, r control.Request) (int64, []*mta.Delivery, error)
	Run(ctx context.Context, r control.Request, progress func(control.Result)) (control.Result, error)
}

// ControlPreview tells what a command would touch.
type ControlPreview struct {
	Command string     `json:"command"`
	Matched int64      `json:"matched"`
	Sample  []Delivery `json:"sample"` // the first, in the order of arrival
	DryRun  bool       `json:"dry_run"`
}

// ControlLine is a line of an answer that shows progress. The last one has
// finished, or an error.
type ControlLine struct {
	control.Result
	Error string `json:"error,omitempty"`
}

// progressEvery is the least distance of two lines of progress.
const progressEvery = 200 * time.Millisecond

// maxOptions bounds the JSON body of a command, in octets.
const maxOptions = 64 << 10

// maxNamed bounds what a problem repeats of a member's name, in octets.
const maxNamed = 64

// maxWords bounds the operator's reason, which every record of the command
// carries.
const maxWords = 500

// controlOptions are the options of a command that a JSON body may give
// instead of the query.
type controlOptions struct {
	Stream  *string `json:"stream"`
	Reason  *string `json:"reason"`
	Expires *string `json:"expires"`
	To      *string `json:"to"`
	Once    *bool   `json:"once"`
	DryRun  *bool   `json:"dry_run"`
}

// control answers a command; the selector named by place stands in the path.
func (s *Server) control(w http.ResponseWriter, r *http.Request, verb queue.Verb, place string) {
	q := r.URL.Query()
	if place != "" {
		q.Set(place, r.PathValue(place))
	}
	request, err := controlRequest(r, q, verb)
	if err == nil {
		err = s.mayOrder(r.Context(), request.Select.ID)
	}
	switch {
	case err != nil:
		writeProblem(w, controlProblem(err))
	case isSet(q, "dry_run"):
		s.preview(w, r, request)
	case strings.Contains(r.Header.Get("Accept"), "application/x-ndjson"):
		s.controlLines(w, r, request)
	default:
		result, err := s.opts.Control.Run(r.Context(), request, nil)
		if err != nil {
			writeProblem(w, controlProblem(err))
			return
		}
		writeJSON(w, http.StatusOK, result)
	}
}

// mayOrder says that the message of a command is not there, or not one that who
// asks may see. Commands for more than one message ask for the scope admin.
func (s *Server) mayOrder(ctx context.Context, id mta.ID) error {
	if id.IsZero() {
		return nil
	}
	open, err := s.opts.Store.Get(ctx, id)
	if err == nil && !s.viewOf(ctx).message(open[0].Message) {
		err = spool.ErrNotFound // as if it were not there
	}
	return err
}

func (s *Server) preview(w http.ResponseWriter, r *http.Request, request control.Request) {
	matched, sample, err := s.opts.Control.Preview(r.Context(), request)
	out := ControlPreview{Command: request.Verb.String(), Matched: matched, DryRun: true, Sample: []Delivery{}}
	if err == nil && len(sample) > 0 {
		out.Sample, err = s.show(r.Context(), sample)
	}
	if err != nil {
		writeProblem(w, controlProblem(err))
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// controlLines answers with lines of progress.
func (s *Server) controlLines(w http.ResponseWriter, r *http.Request, request control.Request) {
	out, flush := json.NewEncoder(w), http.NewResponseController(w)
	var last time.Time
	began := false
	line := func(l ControlLine) {
		if !began {
			began = true
			w.Header().Set("Content-Type", "application/x-ndjson")
		}
		_ = out.Encode(l) // the peer went away: its context tells the command
		_ = flush.Flush()
	}
	result, err := s.opts.Control.Run(r.Context(), request, func(now control.Result) {
		if time.Since(last) >= progressEvery {
			last = time.Now()
			line(ControlLine{Result: now})
		}
	})
	switch {
	case err == nil:
		line(ControlLine{Result: result})
	case !began:
		writeProblem(w, controlProblem(err))
	default:
		line(ControlLine{Result: result, Error: err.Error()})
	}
}

// controlProblem translates what the controller refuses.
func controlProblem(err error) *Problem {
	switch {
	case errors.Is(err, control.ErrNothing):
		return &Problem{Status: http.StatusBadRequest, Field: "all", Detail: err.Error()}
	case errors.Is(err, control.ErrExpires):
		return &Problem{Status: http.StatusBadRequest, Field: "expires", Detail: err.Error()}
	case errors.Is(err, control.ErrTo), errors.Is(err, control.ErrTooMany):
		return &Problem{Status: http.StatusBadRequest, Field: "to", Detail: err.Error()}
	case errors.Is(err, queue.ErrStopped):
		return &Problem{Status: http.StatusServiceUnavailable, Detail: err.Error()}
	}
	return problemOf(err)
}

// controlRequest reads a command from the query and the body.
func controlRequest(r *http.Request, q url.Values, verb queue.Verb) (control.Request, error) {
	request := control.Request{Verb: verb, By: orderedBy(r.Context())}
	if err := bodyOptions(r, q); err != nil {
		return request, err
	}
	for name := range q {
		if !controlNames[name] {
			return request, &Problem{Status: http.StatusBadRequest, Field: smtp.Harmless(name), Detail: smtp.Harmless(name) + " is not a selector or option of this command"}
		}
	}
	request.Once = isSet(q, "once")
	request.Reason = strings.TrimSpace(smtp.Harmless(q.Get("reason")))
	if len(request.Reason) > maxWords {
		return request, &Problem{Status: http.StatusBadRequest, Field: "reason", Detail: "a reason has at most " + strconv.Itoa(maxWords) + " octets"}
	}
	var problem *Problem
	if request.Select, problem = selectorOf(q); problem == nil {
		request.Expires, problem = span(q, "expires")
	}
	if problem == nil {
		request.To, problem = target(q, verb)
	}
	if problem != nil {
		return request, problem
	}
	return request, nil
}

// orderedBy names who gives a command: the user who signed in, or the account at
// the other end of the socket.
func orderedBy(ctx context.Context) string {
	if u := account.UserOf(ctx); u != nil {
		return u.Name
	}
	return peerOf(ctx)
}

// controlNames are the parameters of a command.
var controlNames = map[string]bool{
	"id": true, "destination": true, "stream": true, "sender": true, "recipient": true, "site": true, "state": true,
	"older": true, "newer": true, "all": true, "reason": true, "expires": true, "to": true, "once": true, "dry_run": true,
}

// bodyOptions puts the options of a JSON body into q.
func bodyOptions(r *http.Request, q url.Values) error {
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return nil
	}
	var given map[string]json.RawMessage
	err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxOptions)).Decode(&given)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		err = errors.New("it is not an object")
	}
	if err != nil {
		return &Problem{Status: http.StatusBadRequest, Field: "body", Detail: "the JSON body: " + err.Error()}
	}
	var o controlOptions
	options := map[string]any{"stream": &o.Stream, "reason": &o.Reason, "expires": &o.Expires, "to": &o.To, "once": &o.Once, "dry_run": &o.DryRun}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		to, known := options[name]
		problem := ""
		switch {
		case !known:
			problem = "there is no such member; a command may have stream, reason, expires, to, once, dry_run"
		case json.Unmarshal(given[name], to) == nil:
			continue
		case name == "once" || name == "dry_run":
			problem = "true or false is expected"
		case name == "expires":
			problem = `a time span is expected, as text ("30m", "12h", "7d")`
		default:
			problem = "text is expected"
		}
		field := smtp.Harmless(strings.ToValidUTF8(name[:min(len(name), maxNamed)], ""))
		return &Problem{Status: http.StatusBadRequest, Field: field, Detail: field + ": " + problem}
	}
	for name, v := range map[string]*string{"stream": o.Stream, "reason": o.Reason, "expires": o.Expires, "to": o.To} {
		if v != nil {
			q.Set(name, *v)
		}
	}
	for name, v := range map[string]*bool{"once": o.Once, "dry_run": o.DryRun} {
		if v != nil {
			q.Set(name, strconv.FormatBool(*v))
		}
	}
	return nil
}

// selectorOf reads what a command is about. A condition without a value is
// refused: it would select everything by mistake.
func selectorOf(q url.Values) (sel control.Selector, problem *Problem) {
	for _, name := range []string{"id", "destination", "stream", "sender", "recipient", "site", "state", "older", "newer"} {
		if q.Has(name) && (len(q[name]) != 1 || strings.TrimSpace(q.Get(name)) == "") {
			return sel, &Problem{Status: http.StatusBadRequest, Field: name, Detail: name + " needs one value"}
		}
	}
	filter, problem := filterOf(q)
	if problem != nil {
		return sel, problem
	}
	sel = control.Selector{
		ID: filter.ID, Destination: filter.Destination, Stream: filter.Stream, Sender: filter.Sender,
		Recipient: filter.Recipient, State: filter.State, Site: q.Get("site"), All: isSet(q, "all"),
	}
	if sel.Sender == nullPath {
		sel.Sender, sel.NullSender = "", true
	}
	if sel.Destination != "" && !isDomain(sel.Destination) { // a hold of it would wait for ever
		return sel, &Problem{Status: http.StatusBadRequest, Field: "destination", Detail: smtp.Harmless(sel.Destination) + " is not a domain (example.com, or [192.0.2.1])"}
	}
	if sel.Older, problem = span(q, "older"); problem == nil {
		sel.Newer, problem = span(q, "newer")
	}
	return sel, problem
}

// isDomain reports a recipient domain or an address literal.
func isDomain(text string) bool {
	if _, err := smtp.ParseAddressLiteral(text); err == nil {
		return true
	}
	_, err := smtp.ParseDomain(text, true)
	return err == nil
}

// span reads a duration; 0 when there is none.
func span(q url.Values, name string) (time.Duration, *Problem) {
	if !q.Has(name) {
		return 0, nil
	}
	d, err := config.ParseDuration(q.Get(name))
	if err != nil || d <= 0 {
		return 0, &Problem{Status: http.StatusBadRequest, Field: name, Detail: smtp.Harmless(q.Get(name)) + " is not a time span (30m, 12h, 7d)"}
	}
	return d, nil
}

// target reads where a reroute sends mail.
func target(q url.Values, verb queue.Verb) (string, *Problem) {
	text := strings.TrimSpace(q.Get("to"))
	switch {
	case verb != queue.VerbReroute && !q.Has("to"), verb == queue.VerbReroute && strings.EqualFold(text, control.Default):
		return strings.ToLower(text), nil
	case verb != queue.VerbReroute:
		return "", &Problem{Status: http.StatusBadRequest, Field: "to", Detail: "to is for reroute alone"}
	case text == "":
		return "", controlProblem(control.ErrTo)
	}
	via, err := route.ParseVia(text)
	if err != nil {
		return "", &Problem{Status: http.StatusBadRequest, Field: "to", Detail: "to: " + smtp.Harmless(err.Error())}
	}
	return via, nil
}

func isSet(q url.Values, name string) bool {
	on, err := strconv.ParseBool(q.Get(name))
	return q.Has(name) && (q.Get(name) == "" || err == nil && on)
}
