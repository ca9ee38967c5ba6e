package tlspolicy

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Policies are kept across restarts as notes, one a domain: in the spool, beside
// the mail that they protect. A note is "1", the policy's id, its mode, its
// max_age in seconds, when it was read, when its record was seen last and when
// mail last asked for it (Unix seconds), with a space between them; then a line
// for each mx pattern.

// Notes is the part of spool.Notes that keeps policies.
type Notes interface {
	Note(ctx context.Context, name string) ([]byte, error)
	Notes(ctx context.Context, prefix, after string, f func(name string, value []byte) bool) error
	SetNotes(ctx context.Context, changes map[string][]byte) error
}

// notePrefix begins the names of the notes.
const notePrefix = "sts/"

// maxNote bounds a note (spool.MaxNoteValue). A policy that takes more, which no
// domain has cause for, is forgotten with the process.
const maxNote = 64 << 10

// known is what is known of one domain. It is immutable.
type known struct {
	id      string
	policy  *Policy   // nil: none was ever read
	fetched time.Time // when it was read
	checked time.Time // when the domain's record was looked at
	used    time.Time // when mail asked for it, to the day

	// Since the last policy was read:
	failures int
	again    time.Time // no fetch before
	trouble  string    // of the last fetch
	reason   string
	lost     time.Time // when it was found that a note cannot be read; zero: it can
}

// leastLife keeps a policy with no max_age to speak of from being fetched for
// each message.
const leastLife = time.Minute

// expires is until when the policy holds.
func (k *known) expires() time.Time { return k.fetched.Add(max(k.policy.MaxAge, leastLife)) }

// holds reports whether a policy is in force.
func (k *known) holds(now time.Time) bool {
	return k != nil && k.policy != nil && now.Before(k.expires())
}

// refreshAge is when a policy is read anew at the latest.
const refreshAge = 24 * time.Hour

// refresh is when the policy is to be read anew: once a day, and ahead of its end
// (RFC 8461 3.3). A time to come is our clock's error.
func (k *known) refresh(now time.Time) time.Time {
	if k.fetched.After(now.Add(time.Hour)) {
		return now
	}
	return k.fetched.Add(min(refreshAge, max(k.policy.MaxAge, leastLife)/2))
}

// cost estimates the octets of memory that it takes.
func (k *known) cost() int {
	n := 300 + len(k.reason)
	if k.policy != nil {
		for _, mx := range k.policy.MX {
			n += 24 + len(mx)
		}
	}
	return n
}

// note gives the value of a policy's note.
func (k *known) note() []byte {
	var b []byte
	b = fmt.Appendf(b, "1 %s %s %d %d %d %d", k.id, k.policy.Mode, k.policy.MaxAge/time.Second, k.fetched.Unix(), k.checked.Unix(), k.used.Unix())
	for _, mx := range k.policy.MX {
		b = append(append(b, '\n'), mx...)
	}
	return b
}

var errNote = errors.New("the note is damaged")

// readNote is the way back.
func readNote(value []byte) (*known, error) {
	head, rest, _ := strings.Cut(string(value), "\n")
	f := strings.Split(head, " ")
	if len(f) != 7 || f[0] != "1" || !isID(f[1]) {
		return nil, errNote
	}
	mode, ok := ParseMode(f[2])
	if !ok {
		return nil, errNote
	}
	var n [4]int64
	for i := range n {
		var err error
		if n[i], err = strconv.ParseInt(f[3+i], 10, 64); err != nil {
			return nil, errNote
		}
	}
	p := &Policy{Mode: mode, MaxAge: time.Duration(n[0]) * time.Second}
	if n[0] < 0 || n[0] > int64(MaxAge/time.Second) {
		return nil, errNote
	}
	if rest != "" {
		p.MX = strings.Split(rest, "\n")
	}
	for _, mx := range p.MX {
		if !isPattern(mx) {
			return nil, errNote
		}
	}
	if mode != ModeNone && len(p.MX) == 0 {
		return nil, errNote
	}
	return &known{id: f[1], policy: p, fetched: time.Unix(n[1], 0), checked: time.Unix(n[2], 0), used: time.Unix(n[3], 0)}, nil
}
