package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/config"
	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// maxFollowed bounds the records that a follower of a trace remembers, so that
// none is told twice: the last so many, and up to as many before them.
const maxFollowed = 10_000

// followOverlap is how far back the readings of the past and of what comes can
// overlap.
const followOverlap = time.Minute

func (s *Server) historyRoutes(api huma.API) {
	rest.Raw[struct {
		ID        string `query:"id" doc:"One message."`
		Recipient string `query:"recipient" doc:"An address."`
		Sender    string `query:"sender" doc:"The return path; <> is the null one."`
		MessageID string `query:"message_id" doc:"The Message-ID field."`
		Stream    string `query:"stream"`
		Tag       string `query:"tag"`
		User      string `query:"user" doc:"Who signed in to hand it over. Needs the scope admin, but for oneself."`
		State     string `query:"state" enum:"queued,deferred,held,delivered,relayed,failed,expired,cancelled" doc:"At least one recipient is in it."`
		Since     string `query:"since" format:"date-time" doc:"Arrived at or after."`
		Until     string `query:"until" format:"date-time" doc:"Arrived before."`
		Limit     int    `query:"limit" minimum:"1" maximum:"1000" default:"50" doc:"Messages of a page."`
		Cursor    string `query:"cursor" doc:"Of the page before."`
	}, answer[journal.Page]](api, rest.Operation(huma.Operation{
		OperationID: "messages", Method: http.MethodGet, Path: "/v1/messages", Tags: []string{"Messages"},
		Summary:     "Messages, the youngest first",
		Description: "All conditions must hold. With `cursor` in the answer there may be more, also behind a page that is not full. A user without admin finds own mail.",
		Errors:      []int{http.StatusBadRequest},
	}, account.ScopeSend, account.ScopeRead), s.search)
	rest.Raw[struct {
		ID string `path:"id" doc:"The message."`
	}, answer[Message]](api, rest.Operation(huma.Operation{
		OperationID: "message", Method: http.MethodGet, Path: "/v1/messages/{id}", Tags: []string{"Messages"},
		Summary:     "One message, with its recipients and attempts",
		Description: "A message that is no longer in the queue is told from the journal: `state` is then final.",
	}, account.ScopeSend, account.ScopeRead), s.message)
	rest.Raw[struct {
		Query     string `query:"query" doc:"A message ID, a recipient's address, or a Message-ID."`
		Sender    string `query:"sender" doc:"The return path; <> is the null one."`
		Recipient string `query:"recipient"`
		Stream    string `query:"stream"`
		Tag       string `query:"tag"`
		Event     string `query:"event" doc:"Only these, separated by commas."`
		Since     string `query:"since" format:"date-time" doc:"Only what happened since."`
		Until     string `query:"until" format:"date-time" doc:"Only what happened before."`
		Limit     int    `query:"limit" doc:"So many records at most."`
		Follow    bool   `query:"follow" doc:"Go on with what happens. A message that is asked for ends it with its last recipient."`
	}, none](api, rest.Operation(huma.Operation{
		OperationID: "trace", Method: http.MethodGet, Path: "/v1/trace", Tags: []string{"Messages"}, DefaultStatus: http.StatusOK,
		Summary:     "What happened, record by record, oldest first",
		Description: "One condition at least. Without query or recipient the journal is read through.",
		Responses:   lines(api, "One journal record a line (docs/design.md, section 8)."),
	}, account.ScopeSend, account.ScopeRead), s.trace)
}

// search answers one page.
func (s *Server) search(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	search := journal.Search{
		Recipient: q.Get("recipient"), MessageID: q.Get("message_id"), Sender: senderOf(q), Stream: q.Get("stream"),
		Tag: q.Get("tag"), Cursor: q.Get("cursor"),
	}
	problem := onlyKnown(q, "id", "recipient", "sender", "message_id", "stream", "tag", "user", "state", "since", "until", "limit", "cursor")
	if problem == nil {
		problem = readSearch(&search, q)
	}
	if user, all := rest.All(r.Context()); problem == nil && !all {
		if asked := q.Get("user"); user == "" || asked != "" && asked != user {
			problem = &Problem{Status: http.StatusForbidden, Field: "user", Detail: "other users' mail needs the scope admin"}
		}
		search.User = &user
	}
	if problem != nil {
		writeProblem(w, problem)
		return
	}
	page, err := journal.Find(r.Context(), s.opts.History, search)
	if err != nil {
		writeProblem(w, searchProblem(err))
		return
	}
	writeJSON(w, http.StatusOK, page)
}

// readSearch reads the parameters that can be wrong.
func readSearch(search *journal.Search, q url.Values) (problem *Problem) {
	if q.Has("user") {
		user := q.Get("user")
		search.User = &user
	}
	if text := q.Get("id"); text != "" {
		id, err := mta.ParseID(text)
		if err != nil {
			return &Problem{Status: http.StatusBadRequest, Field: "id", Detail: smtp.Harmless(text) + " is " + err.Error()}
		}
		search.ID = id
	}
	if word := q.Get("state"); word != "" {
		state, known := mta.ParseState(word)
		if !known {
			return &Problem{Status: http.StatusBadRequest, Field: "state", Detail: smtp.Harmless(word) + " is not a state (queued, deferred, held, delivered, relayed, failed, expired, cancelled)"}
		}
		search.State = &state
	}
	if search.Limit, problem = numberOf(q, "limit"); problem != nil {
		return problem
	}
	if search.Since, problem = timeOf(q, "since"); problem != nil {
		return problem
	}
	search.Until, problem = timeOf(q, "until")
	return problem
}

func searchProblem(err error) *Problem {
	var limit *journal.LimitError
	switch {
	case errors.Is(err, journal.ErrCursor):
		return &Problem{Status: http.StatusBadRequest, Field: "cursor", Detail: err.Error()}
	case errors.As(err, &limit):
		return &Problem{Status: http.StatusBadRequest, Field: "limit", Detail: err.Error()}
	}
	return problemOf(err)
}

// senderOf reads the return path that is asked for; nil: any.
func senderOf(q url.Values) *string {
	sender := q.Get("sender")
	if sender == "" {
		return nil
	}
	if sender == nullPath {
		sender = ""
	}
	return &sender
}

// timeOf reads a time, or a span back from now.
func timeOf(q url.Values, name string) (time.Time, *Problem) {
	text := q.Get(name)
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	if d, err := config.ParseDuration(text); err == nil && d >= 0 {
		return time.Now().Add(-d), nil
	}
	return time.Time{}, &Problem{Status: http.StatusBadRequest, Field: name, Detail: smtp.Harmless(text) + " is neither a time (2026-01-10T12:00:00Z, 2026-01-10) nor a span back from now (2h, 3d)"}
}

// onlyKnown refuses parameters that are not among those named: a filter with a
// slip in its name would answer another question.
func onlyKnown(q url.Values, names ...string) *Problem {
	for name := range q {
		if !slices.Contains(names, name) {
			return &Problem{Status: http.StatusBadRequest, Field: smtp.Harmless(name), Detail: smtp.Harmless(name) + " is not a parameter here: there are " + strings.Join(names, ", ")}
		}
	}
	return nil
}

// numberOf reads a number of at least 1; 0 when it is not given.
func numberOf(q url.Values, name string) (int, *Problem) {
	text := q.Get(name)
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, &Problem{Status: http.StatusBadRequest, Field: name, Detail: smtp.Harmless(text) + " is not a number of 1 or more"}
	}
	return n, nil
}

// finished describes a message that is not in the queue any more.
func (s *Server) finished(ctx context.Context, id mta.ID) (*Message, error) {
	m, err := journal.Finished(ctx, s.opts.History, id)
	if err != nil {
		return nil, err
	}
	if user, all := rest.All(ctx); !all && (user == "" || m.User != user) {
		return nil, spool.ErrNotFound // as if it were not there
	}
	out := &Message{MessageID: m.MessageID, Accepted: m.Accepted, Status: m.Recipients}
	out.Delivery = Delivery{
		ID: m.ID, Stream: m.Stream, Sender: m.Sender, Size: m.Size, Tags: m.Tags, Metadata: m.Metadata,
		State: endState(m.States), AgeS: int64(time.Since(m.ID.Time()) / time.Second),
	}
	for i := range m.Recipients {
		r := &m.Recipients[i]
		out.Recipients = append(out.Recipients, RecipientState{Address: r.Address, State: r.State})
		out.Attempts = max(out.Attempts, r.Attempts)
		if last := r.Last(); last != nil && r.State == out.State && out.Destination == "" {
			out.Destination, out.Site, out.Reason, out.Reply = last.Destination, last.Site, last.Reason, last.Reply
		}
	}
	out.History, err = journal.Attempts(ctx, s.opts.Store, id)
	return out, err
}

// endState is one word for a message whose recipients may have ended
// differently: the one that somebody should look at.
func endState(states map[string]int) string {
	for _, s := range []mta.State{mta.Failed, mta.Expired, mta.Cancelled, mta.Relayed, mta.Delivered} {
		if states[s.String()] > 0 {
			return s.String()
		}
	}
	return mta.Queued.String()
}

// trace streams journal records, oldest first, one JSON object a line.
func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	t, problem := s.newTrace(w, r)
	if problem != nil {
		writeProblem(w, problem)
		return
	}
	ctx := r.Context()
	var from spool.Position
	if t.follow {
		user, _ := rest.All(ctx)
		if !s.streams.enter(user) {
			writeProblem(w, &Problem{Status: http.StatusServiceUnavailable, Detail: "too many event streams are open", Retry: time.Minute})
			return
		}
		defer s.streams.leave(user)
		from = s.opts.Feed.End()
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	err := journal.Select(ctx, s.opts.Store, t.selection, t.take)
	if err = errors.Join(err, t.failed); err == nil && t.follow && !t.full() {
		err = t.goOn(ctx, s, from)
	}
	if err = errors.Join(err, t.out.Flush()); err != nil {
		s.endBadly(w, t.lines, err)
	}
}

// tracing is one answer of records.
type tracing struct {
	ctx       context.Context
	selection journal.Selection
	match     *journal.Match
	limit     int
	follow    bool
	mine      *view
	lines     *countingWriter
	out       *bufio.Writer
	control   *http.ResponseController
	told      map[string]bool // of the last minute, while there is something to follow
	before    map[string]bool // those told before them
	begun     time.Time
	count     int
	failed    error
}

func (s *Server) newTrace(w http.ResponseWriter, r *http.Request) (*tracing, *Problem) {
	q := r.URL.Query()
	if problem := onlyKnown(q, "query", "sender", "recipient", "stream", "tag", "event", "since", "until", "limit", "follow"); problem != nil {
		return nil, problem
	}
	t := &tracing{ctx: r.Context(), follow: q.Get("follow") == "true", mine: s.viewOf(r.Context()), lines: &countingWriter{w: w}, control: http.NewResponseController(w), begun: time.Now()}
	t.out = bufio.NewWriterSize(t.lines, 32<<10)
	t.selection = journal.Selection{
		Query: q.Get("query"), Sender: senderOf(q), Recipient: q.Get("recipient"), Stream: q.Get("stream"), Tag: q.Get("tag"),
	}
	for word := range strings.SplitSeq(q.Get("event"), ",") {
		var e mta.Event
		if word == "" {
			continue
		}
		if err := e.UnmarshalText([]byte(word)); err != nil {
			return nil, &Problem{Status: http.StatusBadRequest, Field: "event", Detail: smtp.Harmless(word) + " is not an event (accepted, deferred, delivered, failed, …)"}
		}
		t.selection.Events = append(t.selection.Events, e)
	}
	var problem *Problem
	if t.limit, problem = numberOf(q, "limit"); problem != nil {
		return nil, problem
	}
	if t.selection.Since, problem = timeOf(q, "since"); problem != nil {
		return nil, problem
	}
	if t.selection.Until, problem = timeOf(q, "until"); problem != nil {
		return nil, problem
	}
	alone := t.follow && len(q) == 1
	if alone { // what happens from now on, and nothing before
		t.selection.Since = t.begun
	}
	var err error
	if t.match, err = journal.NewMatch(t.selection); err != nil {
		return nil, &Problem{Status: http.StatusBadRequest, Field: "query", Detail: err.Error()}
	}
	if user, all := rest.All(t.ctx); !all && !alone && t.selection.Query == "" && t.selection.Recipient == "" {
		return nil, &Problem{Status: http.StatusForbidden, Field: "query", Detail: user + " may trace a message or a recipient; more needs the scope admin, and GET /v1/messages finds messages"}
	}
	if t.follow && (s.opts.Feed == nil || !t.selection.Until.IsZero()) {
		return nil, &Problem{Status: http.StatusBadRequest, Field: "follow", Detail: "what happens cannot be followed until a time"}
	}
	return t, nil
}

// full reports whether the limit is met.
func (t *tracing) full() bool { return t.limit > 0 && t.count >= t.limit }

// take writes one record, unless it is somebody else's or was told before.
func (t *tracing) take(r *mta.Record) bool {
	shown, err := t.mine.record(t.ctx, r)
	if err != nil || !shown {
		t.failed = err
		return err == nil
	}
	line, err := json.Marshal(r)
	if err == nil && !t.twice(r, string(line)) {
		t.count++
		_, err = t.out.Write(append(line, '\n'))
	}
	t.failed = err
	return err == nil && !t.full()
}

// twice reports a record that was told before, while past and future overlap.
func (t *tracing) twice(r *mta.Record, line string) bool {
	if !t.follow || r.Time.Before(t.begun.Add(-followOverlap)) {
		return false
	}
	if t.told[line] || t.before[line] {
		return true
	}
	if len(t.told) >= maxFollowed { // the last ones matter: there the readings meet
		t.before, t.told = t.told, nil
	}
	if t.told == nil {
		t.told = make(map[string]bool)
	}
	t.told[line] = true
	return false
}

// goOn tells what happens from a position on, until the client leaves, the
// daemon stops, or the message that was asked for is at its end.
func (t *tracing) goOn(ctx context.Context, s *Server, at spool.Position) error {
	ctx, cancel := untilStop(ctx)
	defer cancel()
	id, one := t.match.ID()
	for s.stillMay(ctx) {
		ended := one && errors.Is(second(s.opts.Store.Get(ctx, id)), spool.ErrNotFound)
		next, err := s.opts.Feed.Follow(ctx, at, func(_ spool.Position, r *mta.Record) bool {
			return !t.match.Wants(r) || t.take(r)
		})
		if err = errors.Join(err, t.failed); err != nil {
			return stopped(ctx, err)
		}
		if t.full() {
			return nil
		}
		if err := t.flush(); err != nil {
			return err
		}
		if next == at && ended {
			return t.rest(ctx, s, id)
		}
		if next == at {
			if err := s.opts.Feed.Await(ctx, at); err != nil {
				return stopped(ctx, err)
			}
		}
		at = next
	}
	return nil
}

// rest tells what the feed does not have yet of a message that has left the
// queue: a commit is visible a moment before it is on stable storage.
func (t *tracing) rest(ctx context.Context, s *Server, id mta.ID) error {
	from := spool.RecordFilter{ID: id, Since: time.Now().Add(-followOverlap)}
	if since := t.begun.Add(-followOverlap); from.Since.Before(since) { // the clock was set back
		from.Since = since
	}
	err := s.opts.Store.Records(ctx, from, func(r *mta.Record) bool {
		return !t.match.Wants(r) || t.take(r)
	})
	return stopped(ctx, errors.Join(err, t.failed))
}

// second is the error of two results.
func second[T any](_ T, err error) error { return err }

// stopped takes the end of a stream for what it is.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil || errors.Is(err, spool.ErrClosed) {
		return nil
	}
	return err
}

func (t *tracing) flush() error {
	if err := t.out.Flush(); err != nil {
		return err
	}
	return t.control.Flush()
}
