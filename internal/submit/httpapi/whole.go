package httpapi

import (
	"context"
	"crypto/sha256"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
)

// queryNames are the parameters beside a message that is whole.
var queryNames = []string{"from", "to", "stream", "send_at", "expire", "require_tls", "tag", "meta"}

// readQuery reads the envelope of a message that is whole.
func readQuery(q url.Values) (*Message, error) {
	for name, values := range q {
		switch {
		case !slices.Contains(queryNames, name):
			text := "there is no such parameter"
			if near := nearest(name, queryNames); near != "" {
				text += "; is " + near + " meant?"
			}
			return nil, &rest.Problem{Status: http.StatusBadRequest, Field: shown(name), Detail: text}
		case len(values) > 1 && name != "to" && name != "tag" && name != "meta":
			return nil, invalid(name, "it is there twice")
		}
	}
	if !q.Has("from") {
		return nil, &rest.Problem{Status: http.StatusBadRequest, Field: "from", Detail: "from is missing (empty means no return path)"}
	}
	to := q["to"]
	if len(to) == 0 {
		return nil, &rest.Problem{Status: http.StatusBadRequest, Field: "to", Detail: "at least one recipient is needed"}
	}
	from := q.Get("from")
	m := &Message{ReturnPath: &from, Stream: q.Get("stream"), Tags: q["tag"]}
	for _, text := range to {
		m.To = append(m.To, Address{Address: withoutBrackets(text)})
	}
	for _, pair := range q["meta"] {
		name, value, ok := strings.Cut(pair, "=")
		if _, twice := m.Metadata[name]; !ok || twice {
			return nil, invalid("meta", "write meta=NAME=VALUE, each name once")
		}
		if m.Metadata == nil {
			m.Metadata = make(map[string]string)
		}
		m.Metadata[name] = value
	}
	var problem string
	if text := q.Get("send_at"); text != "" {
		if m.SendAt, problem = parseTime(text); problem != "" {
			return nil, invalid("send_at", "%s", problem)
		}
	}
	if text := q.Get("expire"); text != "" {
		if m.Expires, m.ExpireAfter, problem = parseExpire(text); problem != "" {
			return nil, invalid("expire", "%s", problem)
		}
	}
	if text := q.Get("require_tls"); text != "" {
		var err error
		if m.RequireTLS, err = strconv.ParseBool(text); err != nil {
			return nil, invalid("require_tls", "true or false is expected")
		}
	}
	return m, nil
}

// SendWhole takes a message that is whole, as it comes: it is never in memory
// as a whole. m says what stands beside it (m.Raw is not looked at), size is
// that of content, or 0 when nobody knows. Otherwise it is Send with Raw.
func (s *Sender) SendWhole(ctx context.Context, user *account.User, key string, m *Message, content io.Reader, size int64) (Result, error) {
	c := s.newCall(ctx, user, source{n: 1})
	envelope := *m
	envelope.Raw = []byte{}
	p, err := c.prepare(&envelope)
	if err != nil {
		return Result{}, problemOf(err)
	}
	p.request.DeclaredSize = max(size, 0)
	if err := s.opts.Intake.Check(ctx, &p.request); err != nil {
		return Result{}, problemOf(err)
	}
	var id mta.ID
	if key == "" {
		if err := c.spend(1); err != nil {
			return Result{}, err
		}
		id, err = c.pour(p, content, nil)
	} else {
		id, err = c.takeWhole(key, &envelope, p, content)
	}
	if err != nil {
		return Result{}, problemOf(err)
	}
	return accepted(id, &p.request, len(c.taken) > 0), nil
}

// takeWhole takes a message with a key. What is asked is only known at its end,
// so the hash is put into the reservation just before the commit.
func (c *call) takeWhole(key string, m *Message, p *prepared, content io.Reader) (mta.ID, error) {
	var err error
	if c.key, err = hashKey(c.user, key); err != nil {
		return mta.ID{}, err
	}
	unlock, err := c.sender.keys.lock(c.ctx, c.key)
	if err != nil {
		return mta.ID{}, err
	}
	defer unlock()
	found, err := c.sender.opts.Reservations.Reserved(c.ctx, c.key, c.now)
	if err != nil {
		return mta.ID{}, err
	}
	sum := sha256.New()
	finish := func() {
		d := newDigest(true)
		d.addWhole(m, [sha256.Size]byte(sum.Sum(nil)))
		c.request = d.sum()
	}
	if len(found) == 0 {
		if err := c.spend(1); err != nil {
			return mta.ID{}, err
		}
		p.request.Reserve = c.reservation(0)
		return c.pour(p, io.TeeReader(content, sum), func() {
			finish()
			p.request.Reserve.Request = c.request
		})
	}
	if err := hashAll(sum, content, c.limits.MessageSize); err != nil {
		return mta.ID{}, err
	}
	if finish(); len(found) > 1 || found[0].Part != 0 || found[0].Request != c.request {
		return mta.ID{}, keyReused()
	}
	c.taken = map[uint32]mta.ID{0: found[0].Message}
	return found[0].Message, nil
}

func hashAll(sum hash.Hash, content io.Reader, most int64) error {
	n, err := io.Copy(sum, io.LimitReader(content, most+1))
	if err == nil && n > most {
		err = tooLarge(most, n, 0)
	}
	return err
}

// pour hands content to intake as it comes. last is called before the commit.
func (c *call) pour(p *prepared, content io.Reader, last func()) (mta.ID, error) {
	draft, err := c.sender.opts.Intake.Begin(c.ctx, &p.request)
	if err != nil {
		return mta.ID{}, err
	}
	defer draft.Abort()
	n, err := io.Copy(draft, content)
	if err != nil {
		return mta.ID{}, err
	}
	if n == 0 {
		return mta.ID{}, invalid("", "the message is empty")
	}
	if last != nil {
		last()
	}
	return draft.Commit(c.ctx)
}
