package warmup

import (
	"cmp"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// keptDays is how many days an account remembers.
const keptDays = 8

// notes begins the names of the ledger's notes.
const notes = "warmup/"

// accountKey names an account: what one source sends to one provider.
type accountKey struct {
	source   netip.Addr
	provider string
}

// note is the name of the account's note.
func (k accountKey) note() string { return notes + k.source.String() + "/" + k.provider }

func parseNote(text string) (k accountKey, ok bool) {
	source, provider, ok := strings.Cut(strings.TrimPrefix(text, notes), "/")
	addr, err := netip.ParseAddr(source)
	return accountKey{addr, provider}, ok && err == nil
}

// account is the state of one source at one provider. The ledger's lock guards
// it.
type account struct {
	key   accountKey
	start day // of the warm-up that back belongs to
	back  int // days that bad signs have cost
	now   day // the day that was counted on last
	days  []*record
	dirty bool // there is something to write
}

// record is one day of an account, in recipients.
type record struct {
	day      day
	reserved int // durable: no more than this may be used
	asked    int // what reserved becomes with the next write; 0: it stays
	used     int // not above reserved
	first    int // of used: by streams that are marked first
	signs    signs
	stopped  string // why nothing more is sent on that day; empty: nothing against it
}

// reservation is how much is reserved at once, of what a day has left.
func reservation(left int) int {
	const share, most = 16, 256
	return min(most, max(1, left/share))
}

// clockBack is why nothing is sent on a day that is not remembered.
const clockBack = "the clock was set back, and what was sent on that day is not known any more"

// record gives the day that now is in, and makes it the one that is counted on.
func (a *account) record(now time.Time) *record {
	today := dayOf(now)
	for _, r := range a.days {
		if r.day == today {
			a.now = today
			return r
		}
	}
	r := &record{day: today}
	if len(a.days) > 0 && today < a.now {
		r.stopped = clockBack
	}
	a.now = today
	a.days = append(a.days, r)
	a.forget()
	return r
}

// forget drops the oldest days but the one that is counted on.
func (a *account) forget() {
	slices.SortFunc(a.days, func(x, y *record) int { return cmp.Compare(x.day, y.day) })
	for len(a.days) > keptDays {
		i := 0
		if a.days[0].day == a.now {
			i = 1
		}
		a.days = slices.Delete(a.days, i, i+1)
	}
}

// day gives a remembered day, or nil.
func (a *account) day(d day) *record {
	for _, r := range a.days {
		if r.day == d {
			return r
		}
	}
	return nil
}

// follow makes the account one of a warm-up that began on start: what bad signs
// cost an earlier one is over.
func (a *account) follow(start day) {
	if a.start != start {
		a.start, a.back = start, 0
	}
}

// step is where the account stands in its plan on a day: the index, below 0
// before the first day.
func (a *account) step(today day) int {
	i := int(today - a.start)
	if i < 0 {
		return i
	}
	return max(0, i-a.back)
}

// stored is an account's note.
type stored struct {
	Start string      `json:"start"`
	Back  int         `json:"back,omitempty"`
	Now   string      `json:"now"`
	Days  []storedDay `json:"days"`
}

type storedDay struct {
	Day      string `json:"day"`
	Reserved int    `json:"reserved"`
	First    int    `json:"first,omitempty"`
	Signs    *signs `json:"signs,omitempty"`
	Stopped  string `json:"stopped,omitempty"`
}

// encode gives the note's value with what was asked for as reserved; in the end
// with what was used.
func (a *account) encode(final bool) ([]byte, error) {
	s := stored{Start: a.start.String(), Back: a.back, Now: a.now.String()}
	for _, r := range a.days {
		d := storedDay{Day: r.day.String(), Reserved: max(r.reserved, r.asked), First: r.first, Stopped: r.stopped}
		if final {
			d.Reserved = r.used
		}
		if r.signs != (signs{}) {
			copied := r.signs
			d.Signs = &copied
		}
		s.Days = append(s.Days, d)
	}
	return json.Marshal(s)
}

// decode reads a note. After a crash what was reserved counts as used, and what
// is not known of it as used by streams that are not first.
func decode(k accountKey, value []byte) (*account, bool) {
	var s stored
	if json.Unmarshal(value, &s) != nil {
		return nil, false
	}
	a := &account{key: k, back: max(0, s.Back)}
	var ok1, ok2 bool
	a.start, ok1 = parseDay(s.Start)
	a.now, ok2 = parseDay(s.Now)
	for _, d := range s.Days {
		at, ok := parseDay(d.Day)
		if !ok || d.Reserved < 0 || d.First < 0 || len(a.days) >= keptDays || a.day(at) != nil {
			return nil, false
		}
		r := &record{day: at, reserved: d.Reserved, used: d.Reserved, first: min(d.First, d.Reserved), stopped: d.Stopped}
		if d.Signs != nil {
			r.signs = *d.Signs
		}
		a.days = append(a.days, r)
	}
	return a, ok1 && ok2
}
