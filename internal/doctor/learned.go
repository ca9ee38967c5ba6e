package doctor

import (
	"net/netip"
	"slices"
	"sync"
)

// Bounds of what deliveries teach.
const (
	keptLearned    = 8  // statements of one source and family, each of another host
	learnedSources = 64 // sources and families; beyond, the one that learnt least lately is forgotten
)

// Learner keeps what receivers said of our addresses lately, in their replies
// to EHLO. It is safe for concurrent use and costs a session a short lock.
type Learner struct {
	mu struct {
		sync.Mutex
		by map[learnedKey][]Learned // the latest last
	}
}

type learnedKey struct {
	source netip.Addr
	v6     bool
}

// Learn takes in one statement and reports whether it is news: an address
// that nobody kept has said of this source. What cannot be our address on the
// internet (an inner network's, or one of the other family) is ignored.
func (l *Learner) Learn(s Learned) (news bool) {
	s.Source, s.Visible = s.Source.Unmap(), s.Visible.Unmap()
	if !s.Visible.IsValid() || innerNetwork(s.Visible) != "" || s.Visible.IsMulticast() || s.Visible.IsUnspecified() ||
		s.Source.IsValid() && s.Source.Is6() != s.Visible.Is6() {
		return false
	}
	key := learnedKey{s.Source, s.Visible.Is6()}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.mu.by == nil {
		l.mu.by = make(map[learnedKey][]Learned)
	}
	list := l.mu.by[key]
	news = !slices.ContainsFunc(list, func(o Learned) bool { return o.Visible == s.Visible })
	if i := slices.IndexFunc(list, func(o Learned) bool { return o.From == s.From }); i >= 0 {
		list = slices.Delete(list, i, i+1)
	} else if len(list) == keptLearned {
		list = slices.Delete(list, 0, 1)
	}
	l.mu.by[key] = append(list, s)
	if len(l.mu.by) > learnedSources {
		l.forgetOldest()
	}
	return news
}

func (l *Learner) forgetOldest() {
	var oldest learnedKey
	first := true
	for key, list := range l.mu.by {
		if at := list[len(list)-1].Time; first || at.Before(l.mu.by[oldest][len(l.mu.by[oldest])-1].Time) {
			oldest, first = key, false
		}
	}
	delete(l.mu.by, oldest)
}

// All gives what is kept, the latest first: World.Learned.
func (l *Learner) All() []Learned {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := []Learned{}
	for _, list := range l.mu.by {
		out = append(out, list...)
	}
	slices.SortStableFunc(out, func(a, b Learned) int { return b.Time.Compare(a.Time) })
	return out
}
