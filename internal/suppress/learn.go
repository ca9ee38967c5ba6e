package suppress

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// What was heard waits for the goroutine, at most so much of it; more is
// dropped and counted: an address that is dead will say so again.
const (
	maxHeard   = 4096
	heardBatch = 256
)

// heard is something that was said of an address.
type heard struct {
	Evidence
	well bool // mail was delivered to it
}

// Evidence is what tells that an address should get no mail.
type Evidence struct {
	Address string // as smtp.ParseMailbox makes it
	Stream  string // of the message
	// Reason is Dead for a refusal, which Reply decides about, or Complained or
	// Unsubscribed, which need none.
	Reason  Reason
	Reply   bounce.Reply
	Message mta.ID
	// Back says that it came after mail had been handed over: that mail is handed
	// over again is no sign that it arrives.
	Back bool
	// Unsure says that others than the recipient's side could have said it: it has
	// to be heard several times, whatever it is.
	Unsure bool
}

// Learn takes in what an attempt came to: recipients that were refused for good
// may be dead, one that was reached is not. It never waits.
func (l *List) Learn(d *mta.Delivery, a *mta.Attempt) {
	if l.settings.Load().Off {
		return
	}
	for i := range a.Results {
		if i >= len(d.Recipients) {
			return
		}
		r := &a.Results[i]
		switch {
		case r.Class == mta.ClassDelivered:
			if f := l.filter.Load(); f != nil && f.may(fold(d.Recipients[i].Address)) {
				l.hear(heard{Evidence: Evidence{Address: d.Recipients[i].Address}, well: true})
			}
		case r.Class == mta.ClassPermanent && r.Scope == mta.ScopeRecipient && r.Reply.Code != 0 && !r.Suppressed && !r.Elsewhere &&
			d.Message.Kind == mta.KindMail && worth(r.Bounce):
			l.hear(heard{Evidence: Evidence{
				Address: d.Recipients[i].Address, Stream: d.Message.Stream, Reason: Dead, Message: d.Message.ID,
				Reply: bounce.Reply{Code: r.Reply.Code, Enhanced: r.Reply.Enhanced.String(), Text: r.Reply.Text},
			}})
		}
	}
}

// worth reports whether a class that was found already may speak of a dead
// address.
func worth(class string) bool { return class == "" || bounce.Class(class).Action() == bounce.Remove }

func (l *List) hear(h heard) {
	select {
	case l.heard <- h:
	default:
		l.counts.dropped.Add(1)
	}
}

// Report takes in what came back, and returns when it is on stable storage. It
// gives the entry that it made or confirmed; nil when the address is not listed
// for it.
func (l *List) Report(ctx context.Context, ev Evidence) (*Entry, error) {
	if l.settings.Load().Off {
		return nil, nil
	}
	ruling := l.rule(ctx, &ev, map[string]bool{})
	l.writes.Lock()
	defer l.writes.Unlock()
	changes := map[string][]byte{}
	e, err := l.weigh(ctx, &ev, ruling, changes)
	if err != nil {
		return nil, err
	}
	return e, l.set(ctx, changes)
}

// ruling is what evidence was found to mean.
type ruling struct {
	class    bounce.Class
	sureness sureness
	gone     bool // DNS says so
}

// rule judges evidence; it may ask DNS, and keeps the answers in gone.
func (l *List) rule(ctx context.Context, ev *Evidence, gone map[string]bool) ruling {
	r := l.ruleSure(ctx, ev, gone)
	if ev.Unsure && r.sureness == sure {
		r.sureness = unsure
	}
	return r
}

func (l *List) ruleSure(ctx context.Context, ev *Evidence, gone map[string]bool) ruling {
	if ev.Reason != Dead {
		return ruling{sureness: sure}
	}
	class, s := judge(l.classifier.Load(), ev.Reply)
	r := ruling{class: class, sureness: s}
	if s == ifNoSuch {
		domain := ev.Address[strings.LastIndexByte(ev.Address, '@')+1:]
		r.sureness = nothing
		is, known := gone[domain]
		if !known && l.opts.Gone != nil && ctx.Err() == nil {
			is = l.opts.Gone(ctx, domain)
			gone[domain] = is
		}
		if is {
			r.sureness, r.gone = sure, true
		}
	}
	return r
}

// weigh adds to changes what follows from evidence. l.writes is held.
func (l *List) weigh(ctx context.Context, ev *Evidence, r ruling, changes map[string][]byte) (*Entry, error) {
	if r.sureness == nothing {
		return nil, nil
	}
	key, now, set := fold(ev.Address), stamp(l.now()), l.settings.Load()
	e := &Entry{Address: key, Reason: ev.Reason, Class: string(r.class), Reply: said(ev.Reply), Message: ev.Message, Since: now, Hits: 1, Last: now}
	switch {
	case ev.Reason == Unsubscribed:
		e.Stream = ev.Stream
	case ev.Reason == Dead && r.gone:
		e.Expires = now.Add(set.Domain)
	case ev.Reason == Dead:
		e.Expires = now.Add(set.Dead)
	}
	before, err := l.current(ctx, e.name(), changes)
	if err != nil {
		return nil, err
	}
	listed := before != nil && before.active(now)
	if times := set.times(ev, r); times > 1 && !(listed && r.sureness == sure) {
		enough, err := l.doubted(ctx, key, times, ev.Back, now, set, changes)
		if err != nil || !enough {
			return nil, err
		}
	}
	if listed {
		e = confirmed(before, e)
	} else {
		l.counts.learned(e.Reason)
	}
	value, err := e.encode()
	if err == nil {
		changes[e.name()] = value
	}
	return e, err
}

// times is on how many days something has to be said before it counts.
func (s *Settings) times(ev *Evidence, r ruling) int {
	switch {
	case r.sureness == unsure:
		return s.Unsure
	case ev.Reason == Dead:
		return s.Sure
	}
	return 1
}

// current reads an entry as it is with the changes so far.
func (l *List) current(ctx context.Context, name string, changes map[string][]byte) (*Entry, error) {
	if value := changes[name]; value != nil {
		return decodeEntry(name, value)
	}
	return l.get(ctx, name)
}

// confirmed is an entry for which there is new evidence. One of a person's will
// is not made weaker by what a server says, nor any shorter; what the owner wants
// outlasts an entry that ends.
func confirmed(before, now *Entry) *Entry {
	e := *before
	e.Hits, e.Last = before.Hits+1, now.Last
	if before.Reason == Dead || now.Reason != Dead && !before.Expires.IsZero() {
		e.Reason, e.Class, e.Reply, e.Message, e.Expires = now.Reason, now.Class, now.Reply, now.Message, now.Expires
	}
	if now.Reason == Dead && (before.Expires.IsZero() || before.Expires.After(e.Expires)) {
		e.Expires = before.Expires
	}
	return &e
}

// doubted counts a reply, and reports whether there were enough.
func (l *List) doubted(ctx context.Context, key string, enough int, back bool, now time.Time, set *Settings, changes map[string][]byte) (bool, error) {
	name := doubtName(key)
	value := changes[name]
	if value == nil {
		var err error
		if value, err = l.opts.Notes.Note(ctx, name); err != nil {
			return false, err
		}
	}
	var d doubt
	if value != nil && json.Unmarshal(value, &d) != nil {
		d = doubt{}
	}
	switch {
	case d.Count == 0 || now.Sub(d.First) > set.UnsureWithin:
		d = doubt{Count: 1, First: now, Last: now}
	case now.Sub(d.Last) >= apart:
		d.Count, d.Last = d.Count+1, now
	}
	d.Back = d.Back || back
	if d.Count >= enough {
		changes[name] = nil
		return true, nil
	}
	value, err := json.Marshal(d)
	changes[name] = value
	return false, err
}

// said is a reply as an entry keeps it, in one line.
func said(r bounce.Reply) string {
	var words []string
	if r.Code != 0 {
		words = append(words, strconv.Itoa(r.Code))
	}
	if r.Enhanced != "" && !strings.Contains(r.Text, r.Enhanced) {
		words = append(words, r.Enhanced)
	}
	return smtp.Harmless(cut(strings.Join(append(words, strings.Fields(r.Text)...), " "), MaxReply))
}
