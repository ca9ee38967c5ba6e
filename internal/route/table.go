package route

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"mailout/internal/lookup"
	"mailout/internal/mta"
)

// MaxTables bounds the tables of a configuration.
const MaxTables = 64

// Table says where the routes of a rule stand instead of in the rule.
type Table struct {
	// Source is a file (an absolute path), or a service (http:// or https://).
	// docs/routing.md has the form of both.
	Source string
	// By is what the table is asked by. Of a file's it is one of ByDomain, which
	// none means, and BySender.
	By []Fact
	// TokenFile has the token that a service is shown; empty: none.
	TokenFile string
}

// Fact is something that a table may be asked by.
type Fact uint8

// The facts.
const (
	ByDomain Fact = iota // of the recipient
	BySender             // the return path
	ByStream
	ByUser
	ByTags
)

// Remote reports whether the table is a service.
func (t *Table) Remote() bool {
	return strings.HasPrefix(t.Source, "http://") || strings.HasPrefix(t.Source, "https://")
}

// id tells tables apart: what has the same is the same table.
func (t *Table) id() string { return fmt.Sprintf("%q %v %q", t.Source, t.By, t.TokenFile) }

// table is a Table at work.
type table interface {
	// dependent reports whether the answer depends on the message.
	dependent() bool
	// note is compiledRule.note of a rule with this table; conditions tells
	// whether the rule looks at the message anyhow.
	note(m *mta.Message, conditions bool) (n noted, noting, certain bool)
	// answer says what the table has for mail, of whose messages n is noted.
	answer(ctx context.Context, domain, stream string, n *noted) (answer, *mta.Failure)
}

// answer is what a table says.
type answer struct {
	spec  spec
	found bool
	place string    // where it stands, for people
	until time.Time // zero: until the planner says that plans are to be made anew
}

// tables are those of a configuration. Tables that stay the same from one
// configuration to the next stay what they are, with all they know.
type tables struct {
	before map[string]table // of the configuration before
	now    map[string]table
	secret func(file string) (string, error)
	roots  *x509.CertPool
	// transport is for tests; nil: the network.
	transport http.RoundTripper
}

func (t *tables) get(r *Rule) (table, error) {
	if t.now == nil {
		t.now = map[string]table{}
	}
	id := r.Table.id()
	if known := t.now[id]; known != nil {
		return known, nil
	}
	if len(t.now) == MaxTables {
		return nil, fmt.Errorf("table: there are more than %d tables", MaxTables)
	}
	made, err := t.before[id], error(nil)
	if remote, ok := made.(*httpTable); made == nil || ok && !remote.roots.Equal(t.roots) {
		made, err = t.make(&r.Table)
	}
	if err == nil {
		t.now[id] = made
	}
	return made, err
}

func (t *tables) make(of *Table) (table, error) {
	if of.Remote() {
		return t.remote(of)
	}
	bySender := slices.Contains(of.By, BySender)
	if len(of.By) > 1 || len(of.By) == 1 && of.By[0] != ByDomain && !bySender {
		return nil, errors.New("table_by: a file is asked by domain or by sender")
	}
	key := domainKey
	if bySender {
		key = tableSender
	}
	return &fileTable{path: of.Source, bySender: bySender, file: lookup.NewFile(lookup.FileOptions[spec]{Path: of.Source, Key: key, Value: parseSpec})}, nil
}

// tableSender reads a sender in a table: as senderKey, and a domain alone is
// everybody there.
func tableSender(text string) (string, error) {
	switch {
	case text == "*" || text == NullSender || strings.Contains(text, "@"):
	case strings.HasPrefix(text, "."):
		text = "*@*" + text
	default:
		text = "*@" + text
	}
	return senderKey(text)
}

func (t *tables) remote(of *Table) (table, error) {
	u, err := url.Parse(of.Source)
	if err != nil || u.Host == "" {
		return nil, fmt.Errorf("table: %q is no URL", of.Source)
	}
	h := &httpTable{name: u.Scheme + "://" + u.Host + u.Path, by: of.By, roots: t.roots}
	if len(h.by) == 0 {
		h.by = []Fact{ByDomain}
	}
	o := lookup.HTTPOptions[spec]{URL: of.Source, Roots: t.roots, Answer: readAnswer, Transport: t.transport}
	if of.TokenFile != "" {
		if t.secret == nil {
			return nil, errors.New("table_token_file: secrets cannot be read here")
		}
		o.Token = func() (string, error) { return t.secret(of.TokenFile) }
	}
	h.http = lookup.NewHTTP(o)
	return h, nil
}

// fileTable is a table in a file.
type fileTable struct {
	path     string
	file     *lookup.File[spec]
	bySender bool
}

func (t *fileTable) dependent() bool { return t.bySender }

func (t *fileTable) note(m *mta.Message, conditions bool) (n noted, noting, certain bool) {
	if !t.bySender {
		return n, conditions, false
	}
	if !t.file.Ready() {
		return noted{mark: '!'}, true, true
	}
	s, _, ok := t.get(m.Envelope.Sender, eachSender)
	if !ok {
		return n, false, false
	}
	return noted{mark: '=', text: s.String()}, true, s.action != ActionHold // see compiledRule.note
}

// get finds the narrowest pattern that something meets.
func (t *fileTable) get(of string, each func(string, func(string) bool) bool) (s spec, line int, ok bool) {
	each(of, func(key string) bool {
		s, line, ok = t.file.Get(key)
		return ok
	})
	return s, line, ok
}

func (t *fileTable) answer(_ context.Context, domain, _ string, n *noted) (answer, *mta.Failure) {
	switch {
	case t.bySender && n.mark == '=':
		s, err := parseSpec(n.text)
		if err != nil {
			return answer{}, fail(mta.CauseLocal, err, "the routes were changed while this mail was looked at")
		}
		return answer{spec: s, found: true, place: t.path}, nil
	case t.bySender || !t.file.Ready():
		return answer{}, fail(mta.CauseLocal, t.file.Err(), "the table of routes %s cannot be read", t.path)
	}
	s, line, ok := t.get(domain, eachDomain)
	return answer{spec: s, found: ok, place: fmt.Sprintf("%s:%d", t.path, line)}, nil
}

// line gives the place of what is there for a message.
func (t *fileTable) line(m *mta.Message, domain string) (place string, ok bool) {
	of, each := domain, eachDomain
	if t.bySender {
		of, each = m.Envelope.Sender, eachSender
	}
	_, line, ok := t.get(of, each)
	return fmt.Sprintf("%s:%d", t.path, line), ok
}

// httpTable is a service.
type httpTable struct {
	name  string // the URL without what may be secret
	http  *lookup.HTTP[spec]
	by    []Fact
	roots *x509.CertPool
}

func (t *httpTable) dependent() bool {
	return slices.Contains(t.by, BySender) || slices.Contains(t.by, ByUser) || slices.Contains(t.by, ByTags)
}

// question is what a service is asked: the facts of Table.By.
type question struct {
	Domain *string   `json:"domain,omitempty"`
	Sender *string   `json:"sender,omitempty"`
	Stream *string   `json:"stream,omitempty"`
	User   *string   `json:"user,omitempty"`
	Tags   *[]string `json:"tags,omitempty"`
}

func (t *httpTable) note(m *mta.Message, conditions bool) (n noted, noting, certain bool) {
	if !t.dependent() {
		return n, conditions, false
	}
	var q question
	for _, f := range t.by {
		switch f {
		case BySender:
			sender := strings.ToLower(m.Envelope.Sender)
			q.Sender = &sender
		case ByUser:
			q.User = &m.Origin.User
		case ByTags:
			tags := append([]string{}, m.Tags...)
			slices.Sort(tags)
			q.Tags = &tags
		}
	}
	text, err := json.Marshal(q)
	if err != nil {
		return noted{mark: '!'}, true, true // cannot be: all are texts
	}
	return noted{mark: '?', text: string(text)}, true, false
}

func (t *httpTable) answer(ctx context.Context, domain, stream string, n *noted) (answer, *mta.Failure) {
	var q question
	if n != nil && n.text != "" {
		if err := json.Unmarshal([]byte(n.text), &q); err != nil {
			return answer{}, fail(mta.CauseLocal, err, "the routes were changed while this mail was looked at")
		}
	}
	if slices.Contains(t.by, ByDomain) {
		q.Domain = &domain
	}
	if slices.Contains(t.by, ByStream) {
		q.Stream = &stream
	}
	text, err := json.Marshal(q)
	if err != nil {
		return answer{}, fail(mta.CauseLocal, err, "the table of routes %s cannot be asked", t.name)
	}
	a, err := t.http.Ask(ctx, string(text))
	if err != nil {
		return answer{}, fail(mta.CauseLocal, err, "the table of routes %s gives no answer: %v", t.name, err)
	}
	place := t.name
	if a.Stale {
		place += " (an old answer: it gives no new one)"
	}
	return answer{spec: a.Value, found: a.Found, place: place, until: a.Until}, nil
}

// readAnswer reads what a service says.
func readAnswer(body []byte) (s spec, ttl time.Duration, err error) {
	var a struct {
		Route string `json:"route"`
		Pool  string `json:"pool"`
		Text  string `json:"text"`
		TTL   int64  `json:"ttl_s"`
	}
	if err := json.Unmarshal(body, &a); err != nil {
		return s, 0, err
	}
	s.pool, s.text = a.Pool, a.Text
	if name, pool := strings.CutPrefix(a.Route, poolWord); pool {
		if s.pool != "" {
			return s, 0, errors.New("it names two pools")
		}
		s.pool = name
	} else if action, is := actionWords[a.Route]; is {
		s.action = action
	} else {
		s.host = a.Route
	}
	if a.TTL < 0 {
		return s, 0, errors.New("ttl_s is negative")
	}
	most := int64(lookup.MostTTL / time.Second)
	return s, time.Duration(min(a.TTL, most)) * time.Second, s.check()
}
