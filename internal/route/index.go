package route

import (
	"math"

	"mailout/internal/mta"
)

// index finds the rules that may hold for a message without looking at all of
// them.
//
// Each rule stands under one of its conditions, the first that it has of:
// recipient domain, sender, user, tag, stream; a rule without any (or with "*"
// alone) stands in the list that everybody meets. The lists are in the order of
// the rules, and are walked side by side. The other conditions are looked at in
// the walk. So ten thousand rules by domain, or by sender, cost as much as one;
// ten thousand rules for one domain are walked through.
type index struct {
	domains, senders, users, tags, streams map[string][]int32
	all                                    []int32
}

func newIndex() *index {
	return &index{domains: map[string][]int32{}, senders: map[string][]int32{}, users: map[string][]int32{}, tags: map[string][]int32{}, streams: map[string][]int32{}}
}

// add takes in rule i; domains and senders are its keys.
func (x *index) add(i int32, domains, senders []string, r *Rule) {
	switch {
	case len(domains) > 0 && !hasAny(domains):
		put(x.domains, domains, i)
	case len(senders) > 0 && !hasAny(senders):
		put(x.senders, senders, i)
	case len(r.Users) > 0:
		put(x.users, r.Users, i)
	case len(r.Tags) > 0:
		put(x.tags, r.Tags, i)
	case len(r.Streams) > 0:
		put(x.streams, r.Streams, i)
	default:
		x.all = append(x.all, i)
	}
}

func put(into map[string][]int32, list []string, i int32) {
	for _, key := range list {
		if had := into[key]; len(had) == 0 || had[len(had)-1] != i {
			into[key] = append(had, i)
		}
	}
}

// walk goes through lists of rules in the order of the rules.
type walk struct {
	lists [][]int32
	last  int32
}

// room is what a walk's lists stand in, mostly.
type room [16][]int32

func (w *walk) add(list []int32) {
	if len(list) > 0 {
		w.lists = append(w.lists, list)
	}
}

// next gives the next rule; it reports false after the last.
func (w *walk) next() (int32, bool) {
	least := int32(math.MaxInt32)
	for n, list := range w.lists {
		for len(list) > 0 && list[0] <= w.last {
			list = list[1:]
		}
		w.lists[n] = list
		if len(list) > 0 {
			least = min(least, list[0])
		}
	}
	w.last = least
	return least, least != math.MaxInt32
}

// begin starts a walk through the rules that a destination meets.
func (x *index) begin(w *walk, domain, stream string) {
	w.last = -1
	w.add(x.all)
	if len(x.domains) > 0 {
		eachDomain(domain, func(key string) bool {
			w.add(x.domains[key])
			return false
		})
	}
	if len(x.streams) > 0 {
		w.add(x.streams[stream])
	}
}

// widen adds those that a message meets.
func (x *index) widen(w *walk, m *mta.Message) {
	if len(x.senders) > 0 {
		eachSender(m.Envelope.Sender, func(key string) bool {
			w.add(x.senders[key])
			return false
		})
	}
	if len(x.users) > 0 {
		w.add(x.users[m.Origin.User])
	}
	if len(x.tags) > 0 {
		for _, t := range m.Tags {
			w.add(x.tags[t])
		}
	}
}
