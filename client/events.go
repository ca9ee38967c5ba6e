package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"
)

// Event is something that happened to a recipient of a message, as the daemon
// tells it to whoever listens.
type Event struct {
	// Cursor is the place of the event in the stream: give it to Events to go
	// on behind it.
	Cursor string `json:"-"`
	// ID is the event's for ever. Events come at least once; who must not act
	// twice remembers it.
	ID        string    `json:"id"`
	Type      string    `json:"type"` // "message.delivered", "message.failed", …
	Timestamp time.Time `json:"timestamp"`
	Data      Record    `json:"data"`
}

// EventsOptions say which events Events gives.
type EventsOptions struct {
	// After is the Cursor of the last event that was dealt with; empty: from now
	// on, or what From says.
	After string
	// Query has further parameters of GET /v1/events, such as "event",
	// "stream" and "recipient".
	Query url.Values
}

// Events gives the daemon's events as they happen, until ctx ends or the caller
// stops; it connects again by itself, behind the last event. The error, when
// there is one, is the last that is given. It ends by itself only with an error.
func (c *Client) Events(ctx context.Context, o EventsOptions) iter.Seq2[*Event, error] {
	return func(yield func(*Event, error) bool) {
		s := &stream{client: c, query: o.Query, after: o.After}
		for failures := 0; ; {
			s.lived = false
			err := s.read(ctx, func(e *Event) bool { return yield(e, nil) })
			if s.lived { // one that breaks now and then, with nothing to tell, is none that fails
				failures = 0
			}
			if errors.Is(err, errStopped) {
				return
			}
			failures++
			wait, again := c.again(err, failures)
			if ctx.Err() != nil || !again {
				if ctx.Err() != nil {
					err = ctx.Err()
				}
				yield(nil, err)
				return
			}
			t := time.NewTimer(max(wait, s.retry))
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
			}
		}
	}
}

var errStopped = errors.New("the caller stopped")

// stream reads server-sent events (WHATWG HTML 9.2).
type stream struct {
	client *Client
	query  url.Values
	after  string
	lived  bool          // the last connection told where the stream is
	retry  time.Duration // what the daemon asks to wait before a new connection
}

// maxEvent bounds one line of the stream, in octets.
const maxEvent = 4 << 20

// read connects and gives events until the connection ends.
func (s *stream) read(ctx context.Context, each func(*Event) bool) error {
	req, err := s.client.request(ctx, http.MethodGet, "/v1/events", s.query, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept", "text/event-stream")
	if s.after != "" {
		req.Header.Set("Last-Event-ID", s.after)
	}
	resp, err := s.client.do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 0, 64<<10), maxEvent)
	var data []byte
	id := s.after
	for in.Scan() {
		line := in.Bytes()
		if len(line) > 0 {
			id, data = s.line(line, id, data)
			continue
		}
		if err := s.dispatch(id, data, each); err != nil {
			return err
		}
		data = data[:0]
	}
	if err := in.Err(); err != nil {
		return &brokenError{err}
	}
	return &brokenError{io.ErrUnexpectedEOF}
}

// line takes one line of an event.
func (s *stream) line(line []byte, id string, data []byte) (string, []byte) {
	field, value, _ := bytes.Cut(line, []byte(":"))
	value = bytes.TrimPrefix(value, []byte(" "))
	switch string(field) {
	case "id":
		return string(value), data
	case "data":
		if len(data) > 0 {
			data = append(data, '\n')
		}
		return id, append(data, value...)
	case "retry":
		var ms int64
		if n, err := fmt.Sscan(string(value), &ms); n == 1 && err == nil && ms >= 0 {
			s.retry = min(time.Duration(ms)*time.Millisecond, longestWait)
		}
	}
	return id, data // comments keep the connection open; others have no meaning here
}

func (s *stream) dispatch(id string, data []byte, each func(*Event) bool) error {
	s.after, s.lived = id, s.lived || id != ""
	if len(data) == 0 {
		return nil
	}
	e := &Event{Cursor: id}
	if err := json.Unmarshal(data, e); err != nil {
		return fmt.Errorf("mailout: an event cannot be read: %w", err)
	}
	if !each(e) {
		return errStopped
	}
	return nil
}
