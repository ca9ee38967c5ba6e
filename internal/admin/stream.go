package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/events"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// Bounds and times of event streams.
const (
	maxStreams     = 64 // at once
	maxUserStreams = 8  // of one user, or of the Unix socket
	streamBeat     = 15 * time.Second
	streamRest     = 50 * time.Millisecond // between readings, so that events share writes
	streamOctets   = 256 << 10             // made before they are written
	streamRetry    = "retry: 3000\n\n"     // milliseconds, for clients that lose the connection
	maxStreamWords = 64                    // values of one parameter
)

func (s *Server) eventRoutes(api huma.API) {
	rest.Raw[struct {
		After     string   `query:"after" doc:"The id of the last event that was dealt with: those behind it come first. 0: everything that the journal has. Absent: what happens from now on."`
		Last      string   `header:"Last-Event-ID" doc:"The same, as event streams say it when they connect again; it comes before after."`
		Event     []string `query:"event,explode" doc:"Only these events: accepted, delivered, failed, …"`
		Stream    []string `query:"stream,explode" doc:"Only mail of these streams."`
		Recipient string   `query:"recipient" doc:"Only this address."`
		ID        string   `query:"id" doc:"Only this message."`
	}, none](api, rest.Operation(huma.Operation{
		OperationID: "events", Method: http.MethodGet, Path: "/v1/events", Tags: []string{"Events"}, DefaultStatus: http.StatusOK,
		Summary:     "What happens to mail, as it happens",
		Description: "Server-sent events: `id` is the cursor (one without data says that this was all for now), `event` the type (`message.delivered`), `data` the event in the shape of webhooks. A user without admin gets events of own mail. A client that does not read is cut off and may go on behind the last event it got.",
		Errors:      []int{http.StatusBadRequest, http.StatusServiceUnavailable},
		Responses:   map[string]*huma.Response{"200": {Description: "The stream; it does not end.", Content: map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}}}},
	}, account.ScopeSend, account.ScopeRead), s.events)
}

// events serves one stream.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	filter, problem := eventFilter(query)
	if problem != nil {
		writeProblem(w, problem)
		return
	}
	at, problem := s.eventStart(r, query)
	if problem != nil {
		writeProblem(w, problem)
		return
	}
	user, _ := rest.All(r.Context())
	if !s.streams.enter(user) {
		writeProblem(w, &Problem{Status: http.StatusServiceUnavailable, Detail: "too many event streams are open", Retry: time.Minute})
		return
	}
	defer s.streams.leave(user)
	ctx, cancel := untilStop(r.Context())
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // for proxies that collect answers
	stream := &eventStream{allowed: func() bool { return s.stillMay(ctx) }, feed: s.opts.Feed, filter: filter, mine: s.viewOf(ctx), w: w, control: http.NewResponseController(w), at: at}
	stream.run(ctx) // it ends with the connection: nobody is left to be told why
}

// stillMay reports whether who opened a stream may still read it: a key may have
// been withdrawn meanwhile, or a scope.
func (s *Server) stillMay(ctx context.Context) bool {
	u := account.UserOf(ctx)
	if u == nil || s.opts.TCP.Users == nil {
		return true
	}
	now := s.opts.TCP.Users.Still(u)
	return now != nil && (now.May(account.ScopeSend) || now.May(account.ScopeRead)) && (now.May(account.ScopeAdmin) || !u.May(account.ScopeAdmin))
}

// untilStop is ctx, ended too when the server is about to stop.
func untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	if stopping := rest.Stopping(ctx); stopping != nil {
		go func() {
			select {
			case <-stopping:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return ctx, cancel
}

// eventFilter reads the parameters that select.
func eventFilter(query url.Values) (f events.Filter, problem *Problem) {
	wrong := func(field, detail string) *Problem {
		return &Problem{Status: http.StatusBadRequest, Field: field, Detail: detail}
	}
	if problem := onlyKnown(query, "after", "event", "stream", "recipient", "id"); problem != nil {
		return f, problem
	}
	for _, field := range []string{"event", "stream"} {
		if len(query[field]) > maxStreamWords {
			return f, wrong(field, "too many values")
		}
	}
	for _, word := range query["event"] {
		var e mta.Event
		if err := e.UnmarshalText([]byte(word[strings.IndexByte(word, '.')+1:])); err != nil {
			return f, wrong("event", smtp.Harmless(word)+" is not an event (accepted, deferred, delivered, failed, …)")
		}
		f.Events = append(f.Events, e)
	}
	f.Streams, f.Recipient = query["stream"], query.Get("recipient")
	if id := query.Get("id"); id != "" {
		var err error
		if f.ID, err = mta.ParseID(id); err != nil {
			return f, wrong("id", err.Error())
		}
	}
	return f, nil
}

// eventStart is where a stream begins.
func (s *Server) eventStart(r *http.Request, query url.Values) (spool.Position, *Problem) {
	end := s.opts.Feed.End()
	text, field := r.Header.Get("Last-Event-ID"), "Last-Event-ID"
	if text == "" {
		text, field = query.Get("after"), "after"
	}
	if text == "" {
		return end, nil
	}
	at, err := spool.ParsePosition(text)
	if err != nil || at.Compare(end) > 0 {
		return at, &Problem{Status: http.StatusBadRequest, Field: field, Detail: spool.ErrPosition.Error() + ": begin without it"}
	}
	return at, nil
}

// eventStream is one client's.
type eventStream struct {
	allowed func() bool // still
	feed    spool.Feed
	filter  events.Filter
	mine    *view
	w       http.ResponseWriter
	control *http.ResponseController
	at      spool.Position
	text    bytes.Buffer
	flushed time.Time
}

// run sends until ctx or the connection ends.
func (s *eventStream) run(ctx context.Context) {
	s.text.WriteString(streamRetry)
	for caughtUp := false; ctx.Err() == nil && s.allowed(); {
		before := s.at
		err := s.read(ctx)
		if err == nil && s.at == before && !caughtUp {
			caughtUp = true
			s.beat()
		}
		if err == nil && s.text.Len() == 0 && time.Since(s.flushed) >= streamBeat {
			s.beat() // a long way without anything that the client asked for
		}
		if err != nil || s.flush() != nil {
			return
		}
		if s.at != before {
			continue
		}
		if s.await(ctx) != nil {
			return
		}
	}
}

// read makes the text of what comes next. Writing it waits for the client, so
// that is done when the journal is not being read any more.
func (s *eventStream) read(ctx context.Context) error {
	var failed error
	next, err := s.feed.Follow(ctx, s.at, func(at spool.Position, r *mta.Record) bool {
		if s.text.Len() >= streamOctets {
			return false
		}
		if !s.filter.Match(r) {
			return true
		}
		var mine bool
		if mine, failed = s.mine.record(ctx, r); failed == nil && mine {
			failed = s.add(at, r)
		}
		return failed == nil
	})
	if err == nil {
		err = failed
	}
	s.at = next
	return err
}

func (s *eventStream) add(at spool.Position, r *mta.Record) error {
	data, err := json.Marshal(events.New(at, r))
	if err != nil {
		return err
	}
	s.text.WriteString("id: " + at.String() + "\nevent: " + events.TypeOf(r.Event) + "\ndata: ")
	s.text.Write(data)
	s.text.WriteString("\n\n")
	return nil
}

// flush sends what was made. A client that does not take it in time is cut off.
func (s *eventStream) flush() error {
	if s.text.Len() == 0 {
		return nil
	}
	s.flushed = time.Now()
	_ = s.control.SetWriteDeadline(time.Now().Add(stallTime)) // a connection that cannot is closed already
	if _, err := s.w.Write(s.text.Bytes()); err != nil {
		return err
	}
	if s.text.Cap() > 2*streamOctets {
		s.text = bytes.Buffer{}
	}
	s.text.Reset()
	return s.control.Flush()
}

// beat is an event without data, which clients do not see, but for its id: it
// moves their cursor over what they did not ask for.
func (s *eventStream) beat() { s.text.WriteString("id: " + s.at.String() + "\n\n") }

// await waits for more, and says now and then that the connection lives.
func (s *eventStream) await(ctx context.Context) error {
	beat, cancel := context.WithTimeout(ctx, streamBeat)
	defer cancel()
	err := s.feed.Await(beat, s.at)
	if err != nil && ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) {
		s.beat()
		return s.flush()
	}
	if err != nil {
		return err
	}
	t := time.NewTimer(streamRest)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return nil
}
