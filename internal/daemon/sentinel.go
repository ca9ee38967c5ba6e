package daemon

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/dns"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/route"
	"mailout/internal/smtp"
	"mailout/internal/spool"
)

// sentinel joins the watch of the identity to the rest: changes become log
// lines and journal records, and with identity.guard = "hold" the sources that
// the watch finds failing are held.
//
// What is held is kept in a file beside the spool, so that a restart (which is
// what an operator does who mends the configuration) lets nothing out before
// the first examination. The file is written after the gate is closed and after
// it is opened: a crash in between costs what a start without the file costs,
// mail that goes out until the first examination, or that waits until then.
type sentinel struct {
	log     *slog.Logger
	watch   *doctor.Watch
	learner doctor.Learner
	keeper  *keeper // of the address records
	planner *route.Planner
	queue   *queue.Queue
	store   journalStore
	file    string
	before  guardState
	// sign gives the credentials of [router] as they are now; nil: the doctor
	// reads them itself.
	sign   func() (*mta.Credentials, *doctor.AuthTrouble)
	dnssec func(context.Context) dns.DNSSECState // of the resolver that mail is sent by

	mu struct {
		sync.Mutex // one change of what is held at a time
		sources    []config.Source
		guard      config.Guard
		found      []doctor.Hold // what the last examination would hold
		held       []doctor.Hold // what is held
	}
}

// journalStore is where the records of changes go.
type journalStore interface {
	Put(ctx context.Context, subs ...*spool.Submission) error
}

// guardState is the file's content.
type guardState struct {
	Holds   []doctor.Hold `json:"holds"`
	Guarded []queue.Span  `json:"guarded"` // when the guard held mail
}

// guardFile is beside the spool's own files.
const guardFile = "guard.json"

// readGuardState reads what was held when the last process ended. A file that is
// damaged is as good as none.
func readGuardState(path string, log *slog.Logger) (k guardState) {
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &k)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("what identity.guard held before cannot be read; the first examination finds out", mta.KeyPath, path, mta.KeyError, err)
		return guardState{}
	}
	return k
}

// newSentinel makes it from what an earlier process left.
func newSentinel(c *config.Config, log *slog.Logger, before guardState) *sentinel {
	s := &sentinel{log: log, file: filepath.Join(c.Spool, guardFile), before: before}
	s.mu.guard = c.Identity.Guard
	s.mu.found = before.Holds
	s.mu.sources = c.Sources
	s.watch = doctor.NewWatch(doctor.WatchOptions{
		World: ThroughProxies(doctor.SystemWorld(s.learner.All), s.sources), Observer: s, Settings: watchSettings(c), Holds: before.Holds,
	})
	return s
}

// examineAs makes the examinations sign in with the credentials that the daemon
// uses. It is called before start.
func (s *sentinel) examineAs(c *config.Config, sign func() (*mta.Credentials, *doctor.AuthTrouble)) {
	s.sign = sign
	s.watch.Reconfigure(s.settings(c))
}

// settings are those of the watch.
func (s *sentinel) settings(c *config.Config) doctor.WatchSettings {
	w := watchSettings(c)
	if s.sign != nil && w.Identity.Router.Ask != nil {
		w.Identity.Router.Ask = s.sign
	}
	if s.dnssec != nil {
		w.Identity.DNSSEC = s.dnssec // what the daemon's own answers are worth
	}
	return w
}

func watchSettings(c *config.Config) doctor.WatchSettings {
	return doctor.WatchSettings{Identity: Identity(c), Interval: c.Identity.Interval, ListsInterval: c.Identity.ListsInterval}
}

// join gives it the parts that it acts on, before they run. What was held
// before is held from the first delivery on.
func (s *sentinel) join(p *route.Planner, q *queue.Queue, store journalStore, k *keeper) {
	s.planner, s.queue, s.store, s.keeper = p, q, store, k
	k.changed = s.published
	if s.mu.guard == config.GuardHold {
		s.mu.held = s.before.Holds
		p.Hold(heldRoutes(s.mu.held))
	}
}

// start begins to watch. The queue runs.
func (s *sentinel) start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.before.Guarded) > 0 || len(s.mu.held) > 0 {
		s.queue.SetGuard(len(s.mu.held) > 0) // the guard may have been taken away meanwhile
	}
	if len(s.mu.held) != len(s.before.Holds) { // what is held no more must not come back with a later start
		if err := s.save(); err != nil {
			s.log.Warn("what identity.guard holds could not be kept for a restart", mta.KeyPath, s.file, mta.KeyError, err)
		}
	}
	for _, h := range s.mu.held {
		s.log.Warn("mail is held since before the start", mta.KeySource, heldSource(h), mta.KeyReason, smtp.Harmless(h.Reason()))
	}
	s.keeper.Start()
	return s.watch.Start(ctx)
}

// stop ends it and waits.
func (s *sentinel) stop() {
	s.watch.Stop()
	s.keeper.Stop()
}

// published hears that address records were changed: whether the world sees
// them is looked at soon.
func (s *sentinel) published(words []string) {
	s.record(time.Now(), words)
	s.watch.Doubt()
}

// configure follows a reload.
func (s *sentinel) configure(c *config.Config) {
	s.mu.Lock()
	s.mu.guard, s.mu.sources = c.Identity.Guard, c.Sources
	s.apply()
	s.mu.Unlock()
	s.keeper.Configure(c)
	s.watch.Reconfigure(s.settings(c))
}

// sources are those of the configuration.
func (s *sentinel) sources() []config.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.sources
}

// greeted learns from a receiver's reply to EHLO: transport.Options.Greeted.
func (s *sentinel) greeted(t *mta.Target, local netip.Addr, hello mta.Reply) {
	visible := smtp.SaidAddress(hello)
	if !visible.IsValid() {
		return
	}
	news := s.learner.Learn(doctor.Learned{Source: local, Visible: visible, From: t.Host.Name, Time: time.Now()})
	if news && s.watch.Last() != nil { // the first examination is still to come otherwise
		s.watch.Doubt()
	}
}

// Examined implements doctor.Observer.
func (s *sentinel) Examined(e *doctor.Examined) {
	var words []string
	unknown := 0
	for _, c := range e.Changes {
		if c.Was == "" && c.Check.Status == doctor.Unknown {
			unknown++ // no change is known
			continue
		}
		s.tell(c)
		words = append(words, changeWords(c))
	}
	if unknown > 0 {
		s.log.Info("some of the identity could not be examined; `mailout doctor` shows what", mta.KeyCount, unknown)
	}
	s.record(e.At, words)
	s.mu.Lock()
	s.mu.found = e.Holds
	s.apply()
	s.mu.Unlock()
	s.keeper.Examined(e)
}

// tell makes one log line of a change.
func (s *sentinel) tell(c doctor.Change) {
	level := slog.LevelInfo
	if c.Check.Status == doctor.Fail || c.Check.Status == doctor.Warn {
		level = slog.LevelWarn
	}
	attrs := []any{mta.KeyCheck, c.Check.ID, mta.KeySubject, c.Check.Subject, mta.KeyStatus, string(c.Check.Status)}
	if c.Was != "" {
		attrs = append(attrs, mta.KeyWas, string(c.Was))
	}
	attrs = append(attrs, mta.KeySeen, smtp.Harmless(c.Check.Seen))
	if fix := fixWords(c.Check.Fix); fix != "" {
		attrs = append(attrs, mta.KeyFix, smtp.Harmless(fix))
	}
	s.log.Log(context.Background(), level, "identity", attrs...)
}

// fixWords is the shortest that mends it.
func fixWords(f *doctor.Fix) string {
	switch {
	case f == nil:
		return ""
	case f.Record != "":
		return f.Record
	case f.Command != "":
		return f.Command
	}
	return f.Text
}

func changeWords(c doctor.Change) string {
	was := ""
	if c.Was != "" {
		was = fmt.Sprintf(" (was %s)", c.Was)
	}
	text := fmt.Sprintf("%s of %s: %s%s: %s", c.Check.ID, c.Check.Subject, c.Check.Status, was, c.Check.Seen)
	if fix := fixWords(c.Check.Fix); fix != "" {
		text += "; fix: " + fix
	}
	return text
}

// recordTime bounds the wait for the disk.
const recordTime = 10 * time.Second

// record writes what happened into the journal, all in one commit under an ID
// of its own. What cannot be written stands in the log all the same.
func (s *sentinel) record(at time.Time, words []string) {
	if len(words) == 0 {
		return
	}
	var entropy [10]byte
	_, _ = rand.Read(entropy[:]) // never fails
	sub := &spool.Submission{Message: &mta.Message{ID: mta.NewID(at, entropy), Arrived: at, Stream: mta.DefaultStream}}
	for _, w := range words {
		sub.Records = append(sub.Records, &mta.Record{
			Time: at.UTC().Truncate(time.Millisecond), Event: mta.EventIdentity, ID: sub.Message.ID,
			Recipient: mta.IdentityRecipient, Reason: smtp.Harmless(w),
		})
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	if err := s.store.Put(ctx, sub); err != nil && !errors.Is(err, spool.ErrClosed) {
		s.log.Warn("changes of the identity could not be written to the journal", mta.KeyCount, len(words), mta.KeyError, err)
	}
}

// apply puts in force what the guard finds. s.mu is held.
func (s *sentinel) apply() {
	var want []doctor.Hold
	if s.mu.guard == config.GuardHold {
		want = s.mu.found
	}
	before := s.mu.held
	if slices.Equal(heldRoutes(want), heldRoutes(before)) {
		return
	}
	s.mu.held = want
	s.planner.Hold(heldRoutes(want))
	s.queue.SetGuard(len(want) > 0)
	s.announce(before, want)
	if err := s.save(); err != nil {
		s.log.Warn("what identity.guard holds could not be kept for a restart", mta.KeyPath, s.file, mta.KeyError, err)
	}
}

func heldRoutes(holds []doctor.Hold) []route.Hold {
	out := make([]route.Hold, len(holds))
	for i, h := range holds {
		out[i] = route.Hold{Source: h.Source, V6: h.V6, Reason: smtp.Harmless(h.Reason())}
	}
	return out
}

// announce tells what is held newly and what no more.
func (s *sentinel) announce(before, now []doctor.Hold) {
	same := func(a doctor.Hold) func(doctor.Hold) bool {
		return func(b doctor.Hold) bool { return a.Source == b.Source && a.V6 == b.V6 }
	}
	var words []string
	for _, h := range now {
		if !slices.ContainsFunc(before, same(h)) {
			reason := smtp.Harmless(h.Reason())
			s.log.Warn("mail is held", mta.KeySource, heldSource(h), mta.KeyReason, reason)
			words = append(words, reason)
		}
	}
	for _, h := range before {
		if !slices.ContainsFunc(now, same(h)) {
			s.log.Info("mail is released", mta.KeySource, heldSource(h))
			words = append(words, "identity.guard releases mail from "+heldSource(h))
		}
	}
	s.record(time.Now(), words)
}

func heldSource(h doctor.Hold) string {
	if h.Local.IsValid() {
		return h.Local.String()
	}
	return h.Hostname
}

// save writes the file, whole or not at all.
func (s *sentinel) save() error {
	data, err := json.Marshal(guardState{Holds: s.mu.held, Guarded: s.queue.Guarded()})
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(s.file), guardFile+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.file)
}

// Last implements admin.Doctor.
func (s *sentinel) Last() *doctor.Examined { return s.watch.Last() }

// Now implements admin.Doctor.
func (s *sentinel) Now(ctx context.Context) (*doctor.Examined, error) { return s.watch.Now(ctx) }

// Learned implements admin.Doctor.
func (s *sentinel) Learned() []doctor.Learned { return s.learner.All() }

// Updates implements admin.Doctor.
func (s *sentinel) Updates() (made, failed int64) {
	return s.keeper.made.Load(), s.keeper.failed.Load()
}

// Held implements admin.Doctor.
func (s *sentinel) Held() []admin.Hold {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []admin.Hold{}
	for _, h := range s.mu.held {
		out = append(out, admin.Hold{Hold: h, Reason: h.Reason()})
	}
	return out
}
