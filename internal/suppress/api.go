package suppress

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/smtp"
)

// Suppression is an entry as the API and the command line show and take it.
type Suppression struct {
	Address string `json:"address" doc:"The address; its local part in any case."`
	Stream  string `json:"stream,omitempty" doc:"Only mail of this stream; absent: all mail."`
	Reason  string `json:"reason,omitempty" enum:"dead,complained,unsubscribed,manual" doc:"Why; absent in a request: manual."`
	Class   string `json:"class,omitempty" doc:"What the reply meant, for dead addresses: user_unknown, mailbox_disabled, …"`
	Reply   string `json:"reply,omitempty" doc:"What was said, or a note. At most 500 octets are kept."`
	Message string `json:"message,omitempty" doc:"The message that told."`
	Since   string `json:"since,omitempty" doc:"When it was listed first."`
	Expires string `json:"expires,omitempty" doc:"When it leaves the list by itself; absent: never."`
	Hits    int    `json:"hits,omitempty" minimum:"0" doc:"How often it was found so."`
	LastHit string `json:"last_hit,omitempty" doc:"When it was last."`
}

// Show gives the entry for a listing.
func (e *Entry) Show() Suppression {
	s := Suppression{
		Address: e.Address, Stream: e.Stream, Reason: string(e.Reason), Class: e.Class, Reply: e.Reply,
		Since: shown(e.Since), Expires: shown(e.Expires), Hits: e.Hits, LastHit: shown(e.Last),
	}
	if !e.Message.IsZero() {
		s.Message = e.Message.String()
	}
	return s
}

func shown(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return mta.FormatTime(t)
}

// Entry reads what a program gave. Errors are *FieldError.
func (s *Suppression) Entry(now time.Time) (Entry, error) {
	e := Entry{Address: s.Address, Stream: s.Stream, Reason: Reason(s.Reason), Class: s.Class, Reply: s.Reply, Hits: s.Hits}
	var err error
	for _, t := range []struct {
		field, text string
		to          *time.Time
	}{{"since", s.Since, &e.Since}, {"expires", s.Expires, &e.Expires}, {"last_hit", s.LastHit, &e.Last}} {
		if t.text == "" {
			continue
		}
		if *t.to, err = time.Parse(time.RFC3339, t.text); err != nil {
			return e, &FieldError{t.field, fmt.Sprintf("%.40q is not a time such as %s", t.text, "2026-01-10T12:00:00Z")}
		}
	}
	if s.Message != "" {
		if e.Message, err = mta.ParseID(s.Message); err != nil {
			return e, &FieldError{"message", err.Error()}
		}
	}
	return e, e.complete(now)
}

// The bounds of a page.
const (
	DefaultPage = 100
	MaxPage     = 1000
)

// Register puts the operations of the list on an API.
func Register(api huma.API, l *List) {
	op := func(id, method, summary, text string) huma.Operation {
		return rest.Operation(huma.Operation{
			OperationID: id, Method: method, Path: "/v1/suppressions", Tags: []string{"Suppressions"}, Summary: summary, Description: text,
		}, account.ScopeSuppress)
	}
	rest.Raw[listInput, listOutput](api, op("suppressions", http.MethodGet, "Addresses that get no mail",
		"In the order of the addresses. With a cursor there may be more, even when the page is not full."), l.answerList)
	rest.Raw[addInput, addOutput](api, op("suppress", http.MethodPost, "Put addresses on the list",
		"One address, or up to 1,000 as `suppressions`: all or none. An entry for the same address and stream is replaced, but for its beginning and hits."), l.answerAdd)
	rest.Raw[removeInput, removeOutput](api, op("unsuppress", http.MethodDelete, "Take an address off the list",
		"Without `stream` its entries of every stream go; an empty `stream` names the one for all mail."), l.answerRemove)
}

type listInput struct {
	Address string `query:"address" doc:"This address alone."`
	Domain  string `query:"domain" doc:"Addresses of this domain."`
	Stream  string `query:"stream" doc:"Entries of this stream; given and empty: those for all mail."`
	Reason  string `query:"reason" enum:"dead,complained,unsubscribed,manual" doc:"Entries with this reason."`
	Limit   int    `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Entries of a page."`
	Cursor  string `query:"cursor" doc:"Of the page before."`
}

// Listing is a page of entries.
type Listing struct {
	Suppressions []Suppression `json:"suppressions"`
	Cursor       string        `json:"cursor,omitempty"`
}

type listOutput struct{ Body Listing }

// query reads the parameters of a request and refuses those that are not known.
func query(r *http.Request, known ...string) (url.Values, *rest.Problem) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &rest.Problem{Status: http.StatusBadRequest, Detail: "the query cannot be read"}
	}
	for name, values := range q {
		if !slices.Contains(known, name) {
			return nil, &rest.Problem{Status: http.StatusBadRequest, Field: smtp.Harmless(cut(name, 80)), Detail: "this parameter is not known here (" + strings.Join(known, ", ") + ")"}
		}
		if len(values) > 1 {
			return nil, &rest.Problem{Status: http.StatusBadRequest, Field: name, Detail: "the parameter is there twice"}
		}
	}
	return q, nil
}

// optional gives a parameter that may be absent, and may be empty.
func optional(q url.Values, name string) *string {
	if !q.Has(name) {
		return nil
	}
	value := q.Get(name)
	return &value
}

// selection reads the parameters of a listing.
func selection(r *http.Request) (q Query, cursor string, limit int, p *rest.Problem) {
	v, p := query(r, "address", "domain", "stream", "reason", "limit", "cursor")
	if p != nil {
		return q, "", 0, p
	}
	q = Query{Address: v.Get("address"), Domain: v.Get("domain"), Stream: optional(v, "stream")}
	if word := v.Get("reason"); word != "" {
		var err error
		if q.Reason, err = ParseReason(word); err != nil {
			return q, "", 0, &rest.Problem{Status: http.StatusBadRequest, Field: "reason", Detail: smtp.Harmless(err.Error())}
		}
	}
	limit = DefaultPage
	if text := v.Get("limit"); text != "" {
		var err error
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > MaxPage {
			return q, "", 0, &rest.Problem{Status: http.StatusBadRequest, Field: "limit", Detail: fmt.Sprintf("limit is 1 to %d", MaxPage)}
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(v.Get("cursor"))
	if err != nil || len(raw) > maxCursor {
		return q, "", 0, &rest.Problem{Status: http.StatusBadRequest, Field: "cursor", Detail: "the cursor is none that a page of this listing gave"}
	}
	return q, string(raw), limit, nil
}

// maxCursor bounds a cursor: an address and a stream.
const maxCursor = MaxAddress + 1 + MaxStream

func (l *List) answerList(w http.ResponseWriter, r *http.Request) {
	q, cursor, limit, p := selection(r)
	if p != nil {
		rest.WriteProblem(w, p)
		return
	}
	entries, next, err := l.Page(r.Context(), q, cursor, limit)
	if err != nil {
		rest.WriteProblem(w, problem(err))
		return
	}
	out := Listing{Suppressions: make([]Suppression, 0, len(entries)), Cursor: base64.RawURLEncoding.EncodeToString([]byte(next))}
	for i := range entries {
		out.Suppressions = append(out.Suppressions, entries[i].Show())
	}
	answer(w, out)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the peer went away: nobody to tell
}

type addInput struct {
	Body struct {
		Address      string        `json:"address,omitempty" doc:"The address; its local part in any case."`
		Stream       string        `json:"stream,omitempty" doc:"Only mail of this stream; absent: all mail."`
		Reason       string        `json:"reason,omitempty" enum:"dead,complained,unsubscribed,manual" doc:"Why; absent: manual."`
		Reply        string        `json:"reply,omitempty" doc:"A note."`
		Expires      string        `json:"expires,omitempty" doc:"When it leaves the list by itself; absent: never."`
		Suppressions []Suppression `json:"suppressions,omitempty" maxItems:"1000" doc:"Several, instead."`
	}
}

type addOutput struct{ Body Added }

// maxBody bounds a request: a batch of the longest entries.
const maxBody = 8 << 20

func (l *List) answerAdd(w http.ResponseWriter, r *http.Request) {
	var in addInput
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&in.Body); err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			rest.WriteProblem(w, rest.ProblemOf(err))
			return
		}
		rest.WriteProblem(w, &rest.Problem{Status: http.StatusBadRequest, Detail: "the body is not what is asked for: " + smtp.Harmless(cut(err.Error(), 200))})
		return
	}
	given, batch, p := in.given()
	if p == nil {
		var added Added
		if added, p = l.addGiven(r.Context(), given, batch); p == nil {
			answer(w, added)
			return
		}
	}
	rest.WriteProblem(w, p)
}

// given are the entries of a request.
func (in *addInput) given() (given []Suppression, batch bool, p *rest.Problem) {
	b := &in.Body
	switch {
	case b.Suppressions == nil && b.Address == "":
		return nil, false, &rest.Problem{Status: http.StatusUnprocessableEntity, Field: "address", Detail: "address is missing"}
	case b.Suppressions == nil:
		return []Suppression{{Address: b.Address, Stream: b.Stream, Reason: b.Reason, Reply: b.Reply, Expires: b.Expires}}, false, nil
	case b.Address != "" || b.Stream != "" || b.Reason != "" || b.Reply != "" || b.Expires != "":
		return nil, true, &rest.Problem{Status: http.StatusUnprocessableEntity, Field: "suppressions", Detail: "suppressions stand alone, without the fields of a single address"}
	case len(b.Suppressions) > MaxBatch:
		return nil, true, &rest.Problem{Status: http.StatusUnprocessableEntity, Field: "suppressions", Detail: fmt.Sprintf("%d entries at once; at most %d are taken", len(b.Suppressions), MaxBatch)}
	}
	return b.Suppressions, true, nil
}

func (l *List) addGiven(ctx context.Context, given []Suppression, batch bool) (Added, *rest.Problem) {
	entries := make([]Entry, len(given))
	now := l.now()
	for i := range given {
		var err error
		if entries[i], err = given[i].Entry(now); err != nil {
			p := problem(err)
			if batch {
				p.Field = fmt.Sprintf("suppressions[%d].%s", i, p.Field)
			}
			return Added{}, p
		}
	}
	added, err := l.Add(ctx, entries...)
	if err != nil {
		return added, problem(err)
	}
	return added, nil
}

type removeInput struct {
	Address string `query:"address" required:"true" doc:"The address."`
	Stream  string `query:"stream" doc:"Its entry of this stream; given and empty: the one for all mail; absent: every entry."`
}

// Removed tells how many entries there were.
type Removed struct {
	Removed int `json:"removed"`
}

type removeOutput struct{ Body Removed }

func (l *List) answerRemove(w http.ResponseWriter, r *http.Request) {
	q, p := query(r, "address", "stream")
	if p != nil {
		rest.WriteProblem(w, p)
		return
	}
	stream := optional(q, "stream")
	n, err := l.Remove(r.Context(), q.Get("address"), q.Get("stream"), stream == nil)
	if err != nil {
		rest.WriteProblem(w, problem(err))
		return
	}
	answer(w, Removed{n})
}

// problem translates an error for the API.
func problem(err error) *rest.Problem {
	var field *FieldError
	if errors.As(err, &field) {
		return &rest.Problem{Status: http.StatusUnprocessableEntity, Field: field.Field, Detail: smtp.Harmless(field.Problem)}
	}
	p := *rest.ProblemOf(err)
	return &p
}
