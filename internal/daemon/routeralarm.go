package daemon

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"mailout/internal/admin"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// routerAlarms knows which routers cannot be used, and tells it once: as an error
// in the log that names what to mend, as a record in the journal that receivers of
// events get, and as a metric; and once when it is over.
//
// It hears of each attempt that asked a router for a new session, and of each
// look-up that found none of its hosts. What a busy server says on a bad day is
// told only when nothing else is heard: a connection that fails while another
// has just been made, or a 4xx, has to come again.
type routerAlarms struct {
	log    *slog.Logger
	record func(router, words string)
	now    func() time.Time

	mu struct {
		sync.Mutex
		states map[string]*routerState
	}
}

// routerState is how one router stands.
type routerState struct {
	down   bool
	since  time.Time
	why    string
	told   []trouble // of this outage
	took   time.Time // it took us last
	failed int       // attempts in a row that it did not
}

// The bounds of alarms.
const (
	maxAlarms = 1000             // routers that are remembered
	lately    = 30 * time.Second // a router that took us that lately may only be busy
	softTries = 3                // attempts in a row that a busy router may fail
)

// trouble is what has to be mended, for people.
type trouble struct {
	kind, fix string
	soft      bool // it may mend by itself, and may be about one connection only
}

var (
	troubleName        = trouble{kind: "name", fix: "write the router's name as its provider gives it in host, or mend its records in DNS"}
	troubleCredentials = trouble{kind: "credentials", fix: "write the user name and the password that the router's provider gave you; a changed password_file is taken by itself"}
	troubleToken       = trouble{kind: "token", fix: "look at oauth: the client and its secret, and whether the refresh token was withdrawn or has ended"}
	troubleMechanism   = trouble{kind: "mechanism", fix: "use the router's port for submission (587 or 465), or name a mechanism that it offers in mechanisms"}
	troubleExpired     = trouble{kind: "certificate", fix: "the router's certificate has to be renewed by whoever runs it"}
	troubleHostname    = trouble{kind: "certificate", fix: "write the router's name as its certificate has it in host"}
	troubleAuthority   = trouble{kind: "certificate", fix: "name the authority that made the router's certificate in [tls] ca_file"}
	troubleOurs        = trouble{kind: "client certificate", fix: "renew the certificate of client_cert, or have the router's provider accept it; a changed file is taken by itself"}
	troubleTLS         = trouble{kind: "tls", fix: "check port and tls: a port with TLS from the first octet (465) needs tls = \"implicit\", the others STARTTLS and tls = \"required\""}
	troubleRefused     = trouble{kind: "refused", fix: "show the answer to whoever runs the router: it does not take this machine's name or address"}
	troubleProtocol    = trouble{kind: "protocol", fix: "check host and port: what answers there is no mail server as it should be"}
	troubleDown        = trouble{kind: "down", soft: true, fix: "check host and port, and whether this machine may connect there; nothing else is to be done if the router is only away"}
	troubleBusy        = trouble{kind: "busy", soft: true, fix: "the router takes nothing now; its provider knows why"}
)

func newRouterAlarms(log *slog.Logger, record func(router, words string)) *routerAlarms {
	a := &routerAlarms{log: log, record: record, now: time.Now}
	a.mu.states = map[string]*routerState{}
	return a
}

// routed is transport.Options.Routed.
func (a *routerAlarms) routed(r *mta.Route, f *mta.Failure) {
	if f == nil {
		a.took(r.Router)
		return
	}
	a.failed(r.Router, f)
}

// took takes in that a router took us.
func (a *routerAlarms) took(router string) {
	now := a.now()
	a.mu.Lock()
	s := a.state(router)
	s.took, s.failed = now, 0
	over := s.down
	lasted := now.Sub(s.since)
	s.down, s.told, s.why = false, nil, ""
	a.mu.Unlock()
	if over {
		a.log.Info("the router can be used again", mta.KeyHost, router, "lasted", lasted.Round(time.Second).String())
		a.record(router, "the router "+router+" can be used again, after "+lasted.Round(time.Second).String())
	}
}

// failed takes in that a router could not be used.
func (a *routerAlarms) failed(router string, f *mta.Failure) {
	what, words, now := judgeRouter(f), smtp.Harmless(failureWords(f)), a.now()
	a.mu.Lock()
	s := a.state(router)
	s.failed++
	if !s.down && what.soft && s.failed < softTries && (what == troubleBusy || now.Sub(s.took) < lately) {
		a.mu.Unlock()
		return
	}
	if !s.down {
		s.down, s.since = true, now
	}
	s.why = words
	news := !slices.ContainsFunc(s.told, func(t trouble) bool { return t.kind == what.kind || t.soft && what.soft })
	if news {
		s.told = append(s.told, what)
	}
	a.mu.Unlock()
	if news {
		a.log.Error("the router cannot be used; its mail waits", mta.KeyHost, router, "trouble", what.kind, mta.KeyReason, words, mta.KeyFix, what.fix)
		a.record(router, "the router "+router+" cannot be used, and its mail waits: "+words+"; fix: "+what.fix)
	}
}

// unresolved is route.Options.Unresolved.
func (a *routerAlarms) unresolved(router string, f *mta.Failure) { a.failed(router, f) }

// state gives a router's. a.mu is held.
func (a *routerAlarms) state(router string) *routerState {
	s := a.mu.states[router]
	if s == nil {
		if len(a.mu.states) >= maxAlarms {
			for name, old := range a.mu.states { // any that tells nothing
				if !old.down {
					delete(a.mu.states, name)
					break
				}
			}
		}
		s = &routerState{}
		if len(a.mu.states) < maxAlarms {
			a.mu.states[router] = s
		}
	}
	return s
}

// keep forgets the routers that are configured no more.
func (a *routerAlarms) keep(names []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for name := range a.mu.states {
		if !slices.Contains(names, name) {
			delete(a.mu.states, name)
		}
	}
	for _, name := range names {
		a.state(name)
	}
}

// why says why a router cannot be used; empty when it can, or nothing is known.
func (a *routerAlarms) why(router string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if s := a.mu.states[router]; s != nil && s.down {
		return "since " + mta.FormatTime(s.since) + ": " + s.why
	}
	return ""
}

// meter tells the metrics.
func (a *routerAlarms) meter() []admin.Router {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]admin.Router, 0, len(a.mu.states))
	for name, s := range a.mu.states {
		out = append(out, admin.Router{Name: name, Up: !s.down})
	}
	slices.SortFunc(out, func(x, y admin.Router) int { return strings.Compare(x.Name, y.Name) })
	return out
}

func failureWords(f *mta.Failure) string {
	words := f.Error()
	if f.Cause == mta.CauseReply && f.Text != "" {
		words += " (" + f.Text + ")"
	}
	return words
}

// judgeRouter says what a failure asks to be mended.
func judgeRouter(f *mta.Failure) trouble {
	switch {
	case f.Cause == mta.CauseTLS:
		return judgeHandshake(f.Err)
	case refusesOurs(f.Err):
		return troubleOurs
	case f.Stage == mta.StageRoute:
		return troubleName
	case f.Stage == mta.StageAuth && f.Cause == mta.CauseNeed:
		return troubleMechanism
	case f.Stage == mta.StageAuth && f.Cause == mta.CauseRouter:
		return troubleToken
	case f.Stage == mta.StageAuth && f.Cause == mta.CauseProtocol:
		return troubleCredentials
	case f.Cause == mta.CauseNeed:
		return troubleTLS
	case f.Cause == mta.CauseProtocol:
		return troubleProtocol
	case f.Cause == mta.CauseReply && f.Reply.Code/100 == 4:
		return troubleBusy
	case f.Cause == mta.CauseReply && f.Stage >= mta.StageAuth:
		return troubleCredentials
	case f.Cause == mta.CauseReply:
		return troubleRefused
	}
	return troubleDown
}

// judgeHandshake tells the router's certificate, ours and everything else apart.
func judgeHandshake(err error) trouble {
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return troubleExpired
	case errors.As(err, new(x509.HostnameError)):
		return troubleHostname
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, &invalid):
		return troubleAuthority
	case refusesOurs(err):
		return troubleOurs
	}
	return troubleTLS
}

// refusesOurs reports an alert of the router about our certificate. With TLS 1.3
// it comes only after our side of the handshake, as a broken connection.
func refusesOurs(err error) bool {
	return err != nil && strings.Contains(err.Error(), "remote error: tls: ") && strings.Contains(err.Error(), "certificate")
}

// noteRouter writes what happened to a router into the journal, under an ID of
// its own.
func (d *Daemon) noteRouter(router, words string) {
	var entropy [10]byte
	_, _ = rand.Read(entropy[:]) // never fails
	now := time.Now().UTC().Truncate(time.Millisecond)
	sub := &spool.Submission{Message: &mta.Message{ID: mta.NewID(now, entropy), Arrived: now, Stream: mta.DefaultStream}}
	sub.Records = []*mta.Record{{
		Time: now, Event: mta.EventRouter, ID: sub.Message.ID, Recipient: mta.RouterRecipient, Host: router, Reason: smtp.Harmless(words),
	}}
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	if err := d.store.Put(ctx, sub); err != nil && !errors.Is(err, spool.ErrClosed) {
		d.log.Warn("what happened to a router could not be written to the journal", mta.KeyHost, router, mta.KeyError, err)
	}
}
