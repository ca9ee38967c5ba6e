package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// MaxSuppressions is how many entries one call of Suppress takes, and a page of
// Suppressions has at most.
const MaxSuppressions = 1000

// Suppression is an address that gets no mail. The user of the token needs the
// scope suppress.
type Suppression struct {
	Address string `json:"address"`
	Stream  string `json:"stream,omitempty"` // only mail of this stream; empty: all mail
	// Reason is dead, complained, unsubscribed or manual; empty in a request:
	// manual.
	Reason  string `json:"reason,omitempty"`
	Class   string `json:"class,omitempty"`    // what a reply meant: user_unknown, …
	Reply   string `json:"reply,omitempty"`    // what was said, or a note
	Message string `json:"message,omitempty"`  // the message that told
	Since   string `json:"since,omitempty"`    // RFC 3339
	Expires string `json:"expires,omitempty"`  // RFC 3339; empty: never
	Hits    int    `json:"hits,omitempty"`     // how often it was found so
	LastHit string `json:"last_hit,omitempty"` // RFC 3339
}

// SuppressionQuery selects entries; the zero value selects all.
type SuppressionQuery struct {
	Address string
	Domain  string
	Stream  *string // empty: those for all mail
	Reason  string
	Limit   int    // of a page, at most MaxSuppressions; 0: 100
	Cursor  string // of the page before
}

// Suppressions gives a page of the suppression list, in the order of the
// addresses. With a cursor there may be more, even when the page is not full.
func (c *Client) Suppressions(ctx context.Context, q SuppressionQuery) (page []Suppression, cursor string, err error) {
	v := url.Values{}
	for name, value := range map[string]string{"address": q.Address, "domain": q.Domain, "reason": q.Reason, "cursor": q.Cursor} {
		if value != "" {
			v.Set(name, value)
		}
	}
	if q.Stream != nil {
		v.Set("stream", *q.Stream)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	var answer struct {
		Suppressions []Suppression `json:"suppressions"`
		Cursor       string        `json:"cursor"`
	}
	err = c.suppressions(ctx, http.MethodGet, v, nil, &answer)
	return answer.Suppressions, answer.Cursor, err
}

// Suppress puts addresses on the list, all or none: at most MaxSuppressions. It
// may be repeated. An *Error that is not Temporary names the entry at fault in
// its Field.
func (c *Client) Suppress(ctx context.Context, entries ...Suppression) error {
	body, err := json.Marshal(map[string][]Suppression{"suppressions": entries})
	if err != nil {
		return fmt.Errorf("mailout: %w", err)
	}
	return c.suppressions(ctx, http.MethodPost, nil, body, &struct{}{})
}

// Unsuppress takes an address off the list: its entry of a stream (empty: the
// one for all mail), or with a nil stream every entry. It tells how many there
// were; a call that was repeated because of a broken connection may tell 0.
func (c *Client) Unsuppress(ctx context.Context, address string, stream *string) (int, error) {
	v := url.Values{"address": {address}}
	if stream != nil {
		v.Set("stream", *stream)
	}
	var answer struct {
		Removed int `json:"removed"`
	}
	err := c.suppressions(ctx, http.MethodDelete, v, nil, &answer)
	return answer.Removed, err
}

// suppressions makes one call, tried again as the others are.
func (c *Client) suppressions(ctx context.Context, method string, query url.Values, body []byte, answer any) error {
	return c.try(ctx, func() error {
		req, err := c.request(ctx, method, "/v1/suppressions", query, body)
		if err != nil {
			return err
		}
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		resp, err := c.do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var raw bytes.Buffer
		if _, err := raw.ReadFrom(io.LimitReader(resp.Body, maxAnswer)); err != nil {
			return &brokenError{err}
		}
		if err := json.Unmarshal(raw.Bytes(), answer); err != nil {
			return &brokenError{err}
		}
		return nil
	})
}
