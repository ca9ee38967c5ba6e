package main

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// sinkLine is one line of `mailout sink --json`.
type sinkLine struct {
	Time    string   `json:"time"`
	Event   string   `json:"event"` // listening, message, summary, or a stage of the session
	Session int64    `json:"session,omitempty"`
	Peer    string   `json:"peer,omitempty"`
	Local   string   `json:"local,omitempty"`
	Line    string   `json:"line,omitempty"`
	Reply   string   `json:"reply,omitempty"`
	Note    string   `json:"note,omitempty"`
	Message *sinkMsg `json:"message,omitempty"`
	Summary *sinkSum `json:"summary,omitempty"`
}

// sinkMsg is a message's envelope as the sink prints and stores it.
type sinkMsg struct {
	N         int64      `json:"n"`
	From      string     `json:"from"`
	Params    string     `json:"params,omitempty"`
	To        []sinkRcpt `json:"to"`
	Helo      string     `json:"helo"`
	TLS       string     `json:"tls,omitempty"`
	Chunked   bool       `json:"chunked,omitempty"`
	Size      int        `json:"size"`
	MessageID string     `json:"message_id,omitempty"`
}

type sinkRcpt struct {
	Address string `json:"address"`
	Params  string `json:"params,omitempty"`
}

// sinkSum is the summary.
type sinkSum struct {
	Messages   int64    `json:"messages"`
	Recipients int64    `json:"recipients"`
	Octets     int64    `json:"octets"`
	Sessions   int64    `json:"sessions"`
	MaxOpen    int64    `json:"max_open"`
	TLS        int64    `json:"tls_sessions"`
	Unique     *int     `json:"unique,omitempty"`  // values of the --unique field
	Doubled    *int     `json:"doubled,omitempty"` // messages beyond the first of a value
	Violations int64    `json:"violations"`
	Broke      []string `json:"broke,omitempty"` // the first violations
}

// shownViolations is how many breaches of the protocol a summary lists.
const shownViolations = 20

// sinkPrinter writes whole lines for many sessions at once.
type sinkPrinter struct {
	json  bool
	quiet bool
	mu    sync.Mutex
	w     io.Writer
}

// print writes one line; a broken output is not the sender's trouble.
func (p *sinkPrinter) print(l *sinkLine, human string) {
	now := time.Now()
	text := now.Format("15:04:05.000 ") + human
	if p.json {
		l.Time = mta.FormatTime(now)
		b, err := json.Marshal(l)
		if err != nil {
			b = []byte(strconv.Quote(err.Error()))
		}
		text = string(b)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, text)
}

func (p *sinkPrinter) listening(at net.Addr) {
	p.print(&sinkLine{Event: "listening", Local: at.String()}, "listening on "+at.String())
}

func (p *sinkPrinter) event(e mtatest.Event) {
	what := e.Stage.String()
	if e.Line != "" {
		what = clean(e.Line)
	}
	human := fmt.Sprintf("#%d %s %s", e.Session, e.Remote, what)
	if e.Reply != "" {
		human += " → " + clean(e.Reply)
	}
	if e.Note != "" {
		human += " (" + clean(e.Note) + ")"
	}
	p.print(&sinkLine{Event: e.Stage.String(), Session: e.Session, Peer: e.Remote.String(), Local: e.Local.String(), Line: clean(e.Line), Reply: clean(e.Reply), Note: clean(e.Note)}, human)
}

func (p *sinkPrinter) message(m *mtatest.Message) {
	if p.quiet {
		return
	}
	env := envelopeOf(m)
	var to []string
	for _, r := range env.To {
		to = append(to, clean(r.Address))
	}
	human := fmt.Sprintf("#%d message %d: <%s> to %s, %d octets, %s", m.Session, m.Seq, clean(m.From), strings.Join(to, ", "), env.Size, shownTLS(m))
	p.print(&sinkLine{Event: "message", Session: m.Session, Peer: m.Remote.String(), Local: m.Local.String(), Message: env}, human)
}

func envelopeOf(m *mtatest.Message) *sinkMsg {
	env := &sinkMsg{N: m.Seq, From: m.From, Params: m.Params, Helo: m.Helo, Chunked: m.Chunked, Size: len(m.Data), MessageID: m.Header("Message-ID")}
	if m.TLS != nil {
		env.TLS = shownTLS(m)
	}
	for _, r := range m.To {
		env.To = append(env.To, sinkRcpt{r.Address, r.Params})
	}
	return env
}

func (p *sinkPrinter) summary(mx *mtatest.MX, unique string) {
	s := mx.Stats()
	sum := &sinkSum{Messages: s.Messages, Recipients: s.Recipients, Octets: s.Octets, Sessions: s.Sessions, MaxOpen: s.MaxOpen, TLS: s.TLS, Violations: s.Violations}
	human := fmt.Sprintf("%d messages for %d recipients, %d octets; %d sessions, at most %d at once, %d with TLS", s.Messages, s.Recipients, s.Octets, s.Sessions, s.MaxOpen, s.TLS)
	if unique != "" {
		n, doubled := 0, 0
		for _, times := range mx.Seen() {
			n++
			doubled += times - 1
		}
		sum.Unique, sum.Doubled = &n, &doubled
		human += fmt.Sprintf("; %s: unique=%d doubled=%d", unique, n, doubled)
	}
	broke := mx.Violations()
	sum.Broke = broke[:min(len(broke), shownViolations)]
	if s.Violations > 0 {
		human += fmt.Sprintf("; %d breaches of the protocol by clients:", s.Violations)
		for _, v := range sum.Broke {
			human += "\n             " + clean(v)
		}
	}
	p.print(&sinkLine{Event: "summary", Summary: sum}, human)
}

// clean makes what a peer sent harmless on a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, s)
}

func tlsVersion(s *tls.ConnectionState) string { return tls.VersionName(s.Version) }
func tlsCipher(s *tls.ConnectionState) string  { return tls.CipherSuiteName(s.CipherSuite) }

// sinkStore keeps messages as files. It goes on after an error and remembers
// the first.
type sinkStore struct {
	dir   string
	first int64 // number before the first message's
	mu    sync.Mutex
	err   error
}

// newSinkStore makes the folder and numbers on from what it holds.
func newSinkStore(dir string) (*sinkStore, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.eml"))
	if err != nil {
		return nil, err
	}
	s := &sinkStore{dir: dir}
	for _, name := range old {
		if n, err := strconv.ParseInt(strings.TrimSuffix(filepath.Base(name), ".eml"), 10, 64); err == nil {
			s.first = max(s.first, n)
		}
	}
	return s, nil
}

func (s *sinkStore) put(m *mtatest.Message) {
	name := filepath.Join(s.dir, fmt.Sprintf("%06d", s.first+m.Seq))
	env, err := json.MarshalIndent(envelopeOf(m), "", "  ")
	if err == nil {
		err = os.WriteFile(name+".json", append(env, '\n'), 0o644)
	}
	if err == nil {
		err = os.WriteFile(name+".eml", m.Data, 0o644)
	}
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.err == nil {
			s.err = err
		}
	}
}
