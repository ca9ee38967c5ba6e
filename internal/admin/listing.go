package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// RecipientState is one recipient in a listing or an answer.
type RecipientState struct {
	Address string `json:"address"`
	State   string `json:"state"`
}

// Delivery is one delivery as `queue list --json` shows it.
type Delivery struct {
	ID          mta.ID           `json:"id"`
	Stream      string           `json:"stream"`
	Sender      string           `json:"sender"`
	Recipients  []RecipientState `json:"recipients"`
	Destination string           `json:"destination"`
	Site        string           `json:"site"`
	State       string           `json:"state"`
	Attempts    int              `json:"attempts"`
	Next        string           `json:"next,omitempty"`
	Reason      string           `json:"reason"` // the limit, reply or check that holds it
	Reply       string           `json:"reply"`
	Size        int64            `json:"size"`
	AgeS        int64            `json:"age_s"`
	Rerouted    string           `json:"rerouted,omitempty"` // the route that an operator gave: direct, router or a host
	// What the application said beside the content.
	Tags      []string          `json:"tags,omitempty"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	NotBefore string            `json:"not_before,omitempty"` // the first attempt is not before this
	Expires   string            `json:"expires,omitempty"`    // of its own; its stream's may come first
}

// Message is a message with its open deliveries and the attempts made so far,
// as `queue show --json` shows it. One that is no longer in the queue has a
// final state.
type Message struct {
	Delivery
	MessageID string `json:"message_id,omitempty"` // the field
	Accepted  string `json:"accepted,omitempty"`
	// Status is where each recipient stands, also those that are done.
	Status     []journal.Recipient `json:"status,omitempty"`
	Deliveries []Delivery          `json:"deliveries,omitempty"` // when there are several
	History    []journal.Attempt   `json:"history"`
}

// explainBatch is how many deliveries the scheduler explains at a time: enough
// to make the question cheap, few enough that it holds up nothing.
const explainBatch = 200

// deliveries streams the selected deliveries, one JSON object a line.
func (s *Server) deliveries(w http.ResponseWriter, r *http.Request) {
	filter, problem := listFilter(r)
	if problem != nil {
		writeProblem(w, problem)
		return
	}
	nullSender := filter.Sender == nullPath
	if nullSender {
		filter.Sender = "" // which selects every sender
	}
	lines := &countingWriter{w: w}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(lines)
	batch := make([]*mta.Delivery, 0, explainBatch)
	var failed error
	mine := s.viewOf(r.Context())
	flush := func() bool {
		failed = s.encode(r.Context(), out, batch)
		batch = batch[:0]
		return failed == nil
	}
	err := s.opts.Store.List(r.Context(), filter, func(d *mta.Delivery) bool {
		if nullSender && d.Message.Envelope.Sender != "" || !mine.message(d.Message) {
			return true
		}
		batch = append(batch, d)
		return len(batch) < explainBatch || flush()
	})
	if err == nil && failed == nil {
		flush()
	}
	if err = errors.Join(err, failed); err != nil {
		s.endBadly(w, lines, err)
	}
}

// encode writes some deliveries with what holds each.
func (s *Server) encode(ctx context.Context, out *json.Encoder, batch []*mta.Delivery) error {
	shown, err := s.show(ctx, batch)
	for i := range shown {
		if err == nil {
			err = out.Encode(&shown[i])
		}
	}
	return err
}

// countingWriter knows whether anything was written.
type countingWriter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// endBadly ends a listing that failed: with a problem while that can still be
// said; later the peer must not take half a listing for a whole one, so the
// connection is cut.
func (s *Server) endBadly(w http.ResponseWriter, lines *countingWriter, err error) {
	if lines.n == 0 {
		writeProblem(w, problemOf(err))
		return
	}
	if !errors.Is(err, context.Canceled) {
		s.opts.Logger.Warn("listing broke off", mta.KeyError, err)
	}
	panic(http.ErrAbortHandler)
}

// nullPath is how people write the null return path.
const nullPath = "<>"

// listFilter reads what is selected. Addresses and domains come as people
// write them and are looked for in the form that the spool has: a listing that
// finds nothing must mean that there is nothing. The sender may be nullPath.
func listFilter(r *http.Request) (spool.Filter, *Problem) { return filterOf(r.URL.Query()) }

func filterOf(q url.Values) (spool.Filter, *Problem) {
	filter := spool.Filter{
		Destination: canonicalDomain(q.Get("destination")), Stream: q.Get("stream"),
		Sender: q.Get("sender"), Recipient: canonicalAddress(q.Get("recipient")),
	}
	if filter.Sender != nullPath {
		filter.Sender = canonicalAddress(filter.Sender)
	}
	if text := q.Get("id"); text != "" {
		id, err := mta.ParseID(text)
		if err != nil {
			return filter, &Problem{Status: http.StatusBadRequest, Field: "id", Detail: text + " is " + err.Error()}
		}
		filter.ID = id
	}
	if word := q.Get("state"); word != "" {
		state, known := mta.ParseState(word)
		if !known || state.Final() {
			return filter, &Problem{Status: http.StatusBadRequest, Field: "state", Detail: word + " is not a state of queued mail (queued, deferred, held)"}
		}
		filter.State = &state
	}
	return filter, nil
}

// canonicalDomain gives a domain or an address literal as destinations have it;
// what is neither is looked for as it stands.
func canonicalDomain(text string) string {
	text = strings.TrimSpace(text)
	if a, err := smtp.ParseAddressLiteral(text); err == nil {
		return smtp.AddressLiteral(a)
	}
	if d, err := smtp.ParseDomain(text, true); err == nil {
		return d
	}
	return text
}

// canonicalAddress does the same for addresses, with or without brackets.
func canonicalAddress(text string) string {
	if m, err := smtp.ParseMailbox(withoutBrackets(text), true); err == nil {
		return m.String()
	}
	return text
}

// show joins what the spool knows of deliveries with what the scheduler says.
func (s *Server) show(ctx context.Context, list []*mta.Delivery) ([]Delivery, error) {
	why, err := s.opts.Queue.WhyAll(ctx, list)
	if err != nil {
		return nil, err
	}
	out := make([]Delivery, len(list))
	for i, d := range list {
		out[i] = shownDelivery(d, &why[i])
	}
	return out, nil
}

func shownDelivery(d *mta.Delivery, why *queue.Explanation) Delivery {
	out := Delivery{
		ID: d.Message.ID, Stream: d.Destination.Stream, Sender: d.Message.Envelope.Sender,
		Destination: d.Destination.Domain, Site: why.Site, State: d.State.String(), Attempts: d.Attempts,
		Reason: why.Reason, Reply: d.Last.Result.Reply.String(), Size: d.Message.Size,
		AgeS: int64(time.Since(d.Message.Arrived) / time.Second),
		Tags: d.Message.Tags, Metadata: d.Message.Metadata, Rerouted: why.Via,
	}
	if t := d.Message.NotBefore; !t.IsZero() {
		out.NotBefore = mta.FormatTime(t)
	}
	if t := d.Message.Expires; !t.IsZero() {
		out.Expires = mta.FormatTime(t)
	}
	if out.Site == "" {
		out.Site = d.Last.Site
	}
	switch {
	case d.State == mta.Held:
	case !why.Next.IsZero():
		out.Next = mta.FormatTime(why.Next)
	default:
		out.Next = mta.FormatTime(d.Due)
	}
	for _, r := range d.Recipients {
		out.Recipients = append(out.Recipients, RecipientState{Address: r.Address, State: d.State.String()})
	}
	return out
}

// message shows one message, with its attempts.
func (s *Server) message(w http.ResponseWriter, r *http.Request) {
	id, err := mta.ParseID(r.PathValue("id"))
	if err != nil {
		writeProblem(w, &Problem{Status: http.StatusBadRequest, Field: "id", Detail: r.PathValue("id") + " is " + err.Error()})
		return
	}
	out, err := s.describe(r.Context(), id)
	if errors.Is(err, spool.ErrNotFound) {
		err = &Problem{Status: http.StatusNotFound, Detail: "nothing is known of this message"}
	}
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) describe(ctx context.Context, id mta.ID) (*Message, error) {
	open, err := s.opts.Store.Get(ctx, id)
	if errors.Is(err, spool.ErrNotFound) {
		return s.finished(ctx, id)
	}
	if err != nil {
		return nil, err
	}
	if !s.viewOf(ctx).message(open[0].Message) {
		return nil, spool.ErrNotFound // as if it were not there
	}
	out := &Message{}
	if out.Deliveries, err = s.show(ctx, open); err != nil {
		return nil, err
	}
	out.Delivery = out.Deliveries[0]
	if len(out.Deliveries) == 1 {
		out.Deliveries = nil
	}
	if out.History, err = journal.Attempts(ctx, s.opts.Store, id); err != nil {
		return nil, err
	}
	known, err := journal.Finished(ctx, s.opts.History, id)
	if err == nil {
		out.MessageID, out.Accepted, out.Status = known.MessageID, known.Accepted, known.Recipients
	} else if errors.Is(err, spool.ErrNotFound) { // the journal was lost
		err = nil
	}
	return out, err
}

func (s *Server) summary(w http.ResponseWriter, r *http.Request) {
	sum, err := s.opts.Queue.Summary(r.Context())
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, sum)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the peer went away: nobody to tell
}
