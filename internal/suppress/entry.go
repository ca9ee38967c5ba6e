package suppress

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// Reason says why an address is on the list.
type Reason string

// The reasons.
const (
	Dead         Reason = "dead"         // receivers say that there is nobody
	Complained   Reason = "complained"   // its owner called our mail spam
	Unsubscribed Reason = "unsubscribed" // its owner wants no more
	Manual       Reason = "manual"       // an operator put it there
)

// Reasons are all of them.
var Reasons = []Reason{Dead, Complained, Unsubscribed, Manual}

// ParseReason reads a reason's word.
func ParseReason(word string) (Reason, error) {
	for _, r := range Reasons {
		if string(r) == word {
			return r, nil
		}
	}
	return "", fmt.Errorf("%.40q is none of dead, complained, unsubscribed, manual", word)
}

// The bounds of an entry, in octets.
const (
	MaxAddress = 512
	MaxStream  = 64
	MaxReply   = 500
	maxClass   = 64
)

// Entry is one address that gets no mail, of a stream or of all.
type Entry struct {
	// Address is canonical, with its local part in lower case: Ann@ and ann@ are
	// one address to this list.
	Address string    `json:"-"`
	Stream  string    `json:"-"` // empty: of every stream
	Reason  Reason    `json:"reason"`
	Class   string    `json:"class,omitempty"`   // of the reply (package bounce), for the dead
	Reply   string    `json:"reply,omitempty"`   // what was said, or an operator's note
	Message mta.ID    `json:"message,omitzero"`  // the message that told; zero: none
	Since   time.Time `json:"since"`             // when it was listed first
	Expires time.Time `json:"expires,omitzero"`  // zero: never
	Hits    int       `json:"hits,omitempty"`    // how often it was found so since
	Last    time.Time `json:"last_hit,omitzero"` // when it was last
}

// active reports whether the entry counts at now.
func (e *Entry) active(now time.Time) bool { return e.Expires.IsZero() || now.Before(e.Expires) }

// Words says in one sentence why the address gets no mail.
func (e *Entry) Words() string {
	var b strings.Builder
	b.WriteString("the address is on the suppression list since " + e.Since.UTC().Format(time.DateOnly) + ": ")
	switch e.Reason {
	case Dead:
		b.WriteString("it is dead")
	case Complained:
		b.WriteString("its owner complained of mail from here")
	case Unsubscribed:
		b.WriteString("its owner unsubscribed")
	default:
		b.WriteString("an operator put it there")
	}
	if e.Stream != "" {
		b.WriteString(", for the stream " + e.Stream)
	}
	if e.Reply != "" {
		b.WriteString(" (" + e.Reply + ")")
	}
	return b.String()
}

// Canonical gives the form in which the list knows an address.
func Canonical(address string) (string, error) {
	text := strings.TrimSpace(address)
	if inner, ok := strings.CutPrefix(text, "<"); ok {
		text = strings.TrimSuffix(inner, ">")
	}
	box, err := smtp.ParseMailbox(text, true)
	if err != nil {
		return "", err
	}
	if err := smtp.CheckRecipient(box); err != nil {
		return "", err
	}
	folded := fold(box.String())
	if len(folded) > MaxAddress {
		return "", fmt.Errorf("the address has more than %d octets", MaxAddress)
	}
	return folded, nil
}

// fold makes a canonical address the list's. The domain is in lower case already.
func fold(address string) string { return strings.ToLower(address) }

// complete checks an entry from outside and fills in what is missing.
func (e *Entry) complete(now time.Time) error {
	address, err := Canonical(e.Address)
	if err != nil {
		return &FieldError{"address", smtp.Harmless(cut(e.Address, 100)) + ": " + err.Error()}
	}
	e.Address = address
	if e.Reason == "" {
		e.Reason = Manual
	}
	if _, err := ParseReason(string(e.Reason)); err != nil {
		return &FieldError{"reason", err.Error()}
	}
	if !streamName(e.Stream) {
		return &FieldError{"stream", fmt.Sprintf("%.80q is not a stream's name (1 to %d letters, digits, and . _ -)", e.Stream, MaxStream)}
	}
	e.Class, e.Reply = smtp.Harmless(cut(e.Class, maxClass)), smtp.Harmless(cut(e.Reply, MaxReply))
	if e.Since.IsZero() {
		e.Since = now
	}
	e.Since, e.Expires, e.Last = stamp(e.Since), stamp(e.Expires), stamp(e.Last)
	e.Hits = max(e.Hits, 0)
	if !e.active(now) {
		return &FieldError{"expires", "it has expired already"}
	}
	return nil
}

// FieldError says what is wrong with a field of an entry.
type FieldError struct{ Field, Problem string }

// Error implements error.
func (e *FieldError) Error() string { return e.Field + ": " + e.Problem }

func streamName(name string) bool {
	if len(name) > MaxStream {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}

// stamp is a time as it is stored.
func stamp(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

// cut bounds a text.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 { // not inside a character
		n--
	}
	return s[:n]
}

// The names of notes: entries by address and stream, and what was said of
// addresses that is not sure enough yet.
const (
	entryPrefix = "suppress/a/"
	doubtPrefix = "suppress/w/"
)

func entryName(address, stream string) string { return entryPrefix + address + "\x00" + stream }

func doubtName(address string) string { return doubtPrefix + address }

// parseName is the reverse of entryName.
func parseName(name string) (address, stream string, ok bool) {
	rest, ok := strings.CutPrefix(name, entryPrefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(rest, "\x00")
}

func (e *Entry) name() string { return entryName(e.Address, e.Stream) }

func (e *Entry) encode() ([]byte, error) { return json.Marshal(e) }

func decodeEntry(name string, value []byte) (*Entry, error) {
	e := &Entry{}
	var ok bool
	if e.Address, e.Stream, ok = parseName(name); !ok {
		return nil, fmt.Errorf("the note %q is no entry", name)
	}
	if err := json.Unmarshal(value, e); err != nil {
		return nil, fmt.Errorf("the entry of %s: %w", e.Address, err)
	}
	return e, nil
}

// doubt is what was said of an address that is not sure.
type doubt struct {
	Count int       `json:"n"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Back  bool      `json:"back,omitempty"` // some of it came after mail had been handed over
}
