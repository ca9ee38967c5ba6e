package setup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/publicsuffix"

	"mailout/internal/config"
	"mailout/internal/doctor"
)

// ErrStopped says that somebody stopped the set-up before anything was
// written.
var ErrStopped = errors.New("stopped: nothing was written")

// Options are what a set-up works with.
type Options struct {
	Path    string    // of the configuration file
	Answers Answers   // given beforehand: they are not asked for
	Asker   Asker     // nil: nobody is asked
	Out     io.Writer // for the account of what is found and done
	Style   Style
	Offline bool // ask nothing of the network

	World    doctor.World
	Identity func(*config.Config) doctor.Identity
	// Names are those that the system gives this machine, the best first.
	Names func() []string
	Now   func() time.Time
}

// Style lays text out for Out. Every text ends with a line end.
type Style struct {
	Heading func(text string) string
	Text    func(text string) string // a paragraph, wrapped
	Check   func(doctor.Check) string
	Plan    func(*doctor.Plan) string
}

// Result is what a set-up has done.
type Result struct {
	Changed bool // the file was written
	Created bool // and there was none before
}

// setup is one run.
type setup struct {
	Options
	draft   *draft
	survey  *doctor.Survey // of the identity as drafted; nil: begin one
	visible []netip.Addr   // what receivers see, as far as it was found out
	keys    []keyFile      // to be written
	number  int            // of the step
}

// steps are all there are, in their order.
var steps = []struct {
	title string
	run   func(*setup, context.Context) error
}{
	{"Mail router", (*setup).routerStep},
	{"DNS servers", (*setup).serversStep},
	{"Host name", (*setup).nameStep},
	{"Public address", (*setup).addressStep},
	{"DNS records", (*setup).recordsStep},
	{"Port 25", (*setup).portStep},
	{"DKIM key", (*setup).dkimStep},
	{"Postmaster", (*setup).postmasterStep},
	{"Where mail comes in", (*setup).listenStep},
	{"Where mail is kept", (*setup).spoolStep},
}

// Run goes through all steps and writes the configuration. The error is an
// *AnswerError for an answer that is not possible, ErrStopped, of type
// config.Errors, or one of the file system's; nothing is written then.
func Run(ctx context.Context, o Options) (*Result, error) {
	d, err := open(o.Path)
	if err != nil {
		return nil, err
	}
	s := &setup{Options: o, draft: d}
	s.Answers = maps.Clone(o.Answers)
	if o.Offline {
		s.World = offline(s.World)
	}
	if err := s.prepare(); err != nil {
		return nil, err
	}
	for i, step := range steps {
		s.number = i + 1
		s.print(s.Style.Heading(fmt.Sprintf("%d/%d %s", s.number, len(steps), step.title)))
		if err := step.run(s, ctx); err != nil {
			return nil, stopped(ctx, err)
		}
		if ctx.Err() != nil {
			return nil, ErrStopped
		}
		s.print("\n")
	}
	return s.finish(ctx)
}

// stopped makes an interruption of whatever it interrupted.
func stopped(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ErrStopped
	}
	return err
}

// prepare checks what can be checked before the first question: the answers
// given, each by itself, and that the file can be written.
func (s *setup) prepare() error {
	if err := s.Answers.check(); err != nil {
		return err
	}
	if err := canWrite(s.Path); err != nil {
		return err
	}
	for _, flag := range []string{OutsideNames, Reflectors, Probes} {
		v, given := s.Answers[flag]
		if !given {
			continue
		}
		if v == "none" {
			v = "[]"
		}
		if err := s.put(flag, config.Change{Key: keys[flag], Value: v}); err != nil {
			return err
		}
	}
	return nil
}

// look is the survey of the identity as drafted.
func (s *setup) look() *doctor.Survey {
	if s.survey == nil {
		s.survey = doctor.NewSurvey(s.identity(), s.World, doctor.Options{Offline: s.Offline})
	}
	return s.survey
}

// identity is that of the draft. As long as no sender domain is known, it is
// taken to be the host name's.
func (s *setup) identity() doctor.Identity {
	id := s.Identity(s.draft.cfg)
	if !s.draft.named {
		id.Hostname = ""
		for i := range id.Sources {
			id.Sources[i].Hostname = ""
		}
	}
	if d := s.domain(); d != "" && !s.draft.cfg.Given("postmaster") && !s.draft.cfg.Given("identity.domains") && len(s.draft.cfg.DKIM) == 0 {
		id.Postmaster, id.Domains = "postmaster@"+d, []string{d}
	}
	return id
}

// domain is the one that this machine probably sends mail for: that of the
// postmaster, or the registered one above the host name. Empty: not known.
func (s *setup) domain() string {
	c := s.draft.cfg
	if _, d, ok := strings.Cut(c.Postmaster, "@"); ok && c.Given("postmaster") {
		return strings.ToLower(d)
	}
	if !s.draft.named {
		return ""
	}
	host := strings.ToLower(c.Hostname)
	if d, err := publicsuffix.EffectiveTLDPlusOne(host); err == nil {
		return d
	}
	return host
}

// routed reports whether routers take all mail.
func (s *setup) routed() bool { return s.look().Routed() }

// put changes the draft by an answer. What was found out about the old
// identity does not hold for the new one.
func (s *setup) put(flag string, changes ...config.Change) error {
	changed, err := s.draft.set(changes...)
	if err != nil {
		return s.refused(flag, err)
	}
	if changed {
		s.survey = nil
	}
	return nil
}

// refused says which answer is not possible.
func (s *setup) refused(flag string, err error) error {
	return &AnswerError{Flag: flag, Err: plain(err)}
}

// answer is one given beforehand, or what somebody says, or what Enter gives.
func (s *setup) answer(ctx context.Context, q Question) (string, error) {
	if v, given := s.Answers[q.Flag]; given && q.Flag != "" {
		if err := q.check(v); err != nil {
			return "", s.refused(q.Flag, err)
		}
		s.say("%s: %s (--%s)", q.Prompt, v, q.Flag)
		return v, nil
	}
	if s.Asker != nil {
		return s.Asker.Ask(ctx, q)
	}
	if q.Default == "" && len(q.Choices) == 0 {
		return "", s.refused(q.Flag, fmt.Errorf("is not known and could not be guessed (give for example --%s %s)", q.Flag, q.Example))
	}
	if err := q.check(q.Default); err != nil {
		return "", s.refused(q.Flag, err)
	}
	s.say("%s: %s", q.Prompt, q.Default)
	return q.Default, nil
}

// choose asks what to do next, and takes the default where nobody is there.
func (s *setup) choose(ctx context.Context, prompt, def string, choices ...Choice) (string, error) {
	if s.Asker == nil {
		return def, nil
	}
	return s.Asker.Ask(ctx, Question{Prompt: prompt, Default: def, Choices: choices})
}

// show prints findings, and gives the worst of them.
func (s *setup) show(r *doctor.Report) doctor.Status {
	for _, c := range r.Checks {
		if c.Status != doctor.Skip {
			s.print(s.Style.Check(c))
		}
	}
	return r.Status
}

// say prints a paragraph.
func (s *setup) say(format string, args ...any) { s.print(s.Style.Text(fmt.Sprintf(format, args...))) }

// print ignores that nobody may see it: the work counts.
func (s *setup) print(text string) { _, _ = io.WriteString(s.Out, text) }

// examine announces and runs checks.
func (s *setup) examine(ctx context.Context, what string, only ...string) doctor.Status {
	s.say("%s …", what)
	return s.show(s.look().Examine(ctx, only...))
}

// fields takes a list with commas or spaces apart.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '\t' })
}

// listed is a list as one types it.
func listed[T fmt.Stringer](items []T) string {
	var out []string
	for _, i := range items {
		out = append(out, i.String())
	}
	return strings.Join(out, ",")
}

// remember notes an address that receivers see.
func (s *setup) remember(a netip.Addr) {
	if a.IsValid() && !slices.Contains(s.visible, a) {
		s.visible = append(s.visible, a)
	}
}
