package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Record is an entry of the daemon's journal: something that happened to one
// recipient of a message.
type Record struct {
	Time      time.Time `json:"time"`
	Event     string    `json:"event"` // accepted, deferred, delivered, relayed, failed, expired, held, released, cancelled, bounced, …
	ID        string    `json:"id"`
	MessageID string    `json:"message_id"`
	Stream    string    `json:"stream"`
	Sender    string    `json:"sender"` // return path
	Recipient string    `json:"recipient"`
	Host      string    `json:"host"` // the server that answered
	IP        string    `json:"ip"`
	Attempt   int       `json:"attempt"`
	Code      int       `json:"code"`     // of the SMTP reply
	Enhanced  string    `json:"enhanced"` // as 5.1.1
	Reply     string    `json:"reply"`
	Class     string    `json:"class"`
	Reason    string    `json:"reason"`
	// Uncertain says that the final reply was lost: a copy may have arrived.
	Uncertain bool              `json:"uncertain"`
	Next      time.Time         `json:"next"` // the next attempt; zero: none
	Tags      []string          `json:"tags"`
	Metadata  map[string]string `json:"metadata"`
}

// Status is what became of a message.
type Status struct {
	ID         string
	Accepted   time.Time
	Recipients []RecipientStatus
	Records    []Record // all that happened, oldest first

	back map[string]*Record // by recipient: it was handed over and came back
}

// RecipientStatus is one recipient: its state, and the record that made it so.
type RecipientStatus struct {
	Recipient
	Last Record
}

// Final reports whether every recipient has reached its final state.
func (s *Status) Final() bool {
	for _, r := range s.Recipients {
		if !r.State.Final() {
			return false
		}
	}
	return len(s.Recipients) > 0
}

// stateOf are the states that events lead to; others change none.
var stateOf = map[string]State{
	"accepted": Queued, "deferred": Deferred, "held": Held, "released": Queued, "delivered": Delivered,
	"relayed": Relayed, "failed": Failed, "suppressed": Failed, "expired": Expired, "cancelled": Cancelled,
}

// maxRecords bounds the journal of one message that Status reads.
const maxRecords = 100_000

// Status asks what became of a message. An *Error with status 404 says that the
// daemon does not know it, or has forgotten it (journal retention).
func (c *Client) Status(ctx context.Context, id string) (*Status, error) {
	s := &Status{}
	err := c.try(ctx, func() error {
		*s = Status{ID: id}
		return c.records(ctx, url.Values{"query": {id}}, s.add)
	})
	if err == nil && len(s.Records) == 0 {
		err = &Error{Status: http.StatusNotFound, Title: http.StatusText(http.StatusNotFound), Detail: "no record of the message " + id}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *Status) add(r *Record) error {
	if len(s.Records) == maxRecords {
		return errors.New("mailout: the message has too many records")
	}
	s.Records = append(s.Records, *r)
	if r.Event == "bounced" && r.Class != "" {
		if s.back == nil {
			s.back = map[string]*Record{}
		}
		s.back[r.Recipient] = r
		s.cameBack(r.Recipient)
		return nil
	}
	state, changes := stateOf[r.Event]
	if !changes {
		return nil
	}
	defer s.cameBack(r.Recipient)
	if r.Event == "accepted" && s.Accepted.IsZero() {
		s.Accepted = r.Time
	}
	for i := range s.Recipients {
		if s.Recipients[i].Address == r.Recipient {
			s.Recipients[i].State, s.Recipients[i].Last = state, *r
			return nil
		}
	}
	s.Recipients = append(s.Recipients, RecipientStatus{Recipient{r.Recipient, state}, *r})
	return nil
}

// cameBack makes a recipient failed whose mail was handed over and came back.
func (s *Status) cameBack(address string) {
	r := s.back[address]
	for i := range s.Recipients {
		if p := &s.Recipients[i]; r != nil && p.Address == address && (p.State == Delivered || p.State == Relayed) {
			p.State, p.Last = Failed, *r
		}
	}
}

// records reads journal records, one JSON object a line.
func (c *Client) records(ctx context.Context, query url.Values, each func(*Record) error) error {
	req, err := c.request(ctx, http.MethodGet, "/v1/trace", query, nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := json.NewDecoder(resp.Body)
	for {
		var r Record
		err := in.Decode(&r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &brokenError{err}
		}
		if err := each(&r); err != nil {
			return err
		}
	}
}
