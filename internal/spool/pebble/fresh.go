package pebble

import (
	"sync"

	"mailout/internal/mta"
)

// fresh keeps what was accepted or read a moment ago, so that a message which
// is delivered at once is never read back. The oldest leave when the budget
// is used up.
type fresh struct {
	budget int64
	mu     struct {
		sync.Mutex
		used        int64
		byID        map[mta.ID]*freshMessage
		first, last *freshMessage // by age
	}
}

// freshMessage is one message in memory. facts are never changed.
type freshMessage struct {
	facts      *facts
	body       *body // held; nil when the content is in a file
	prev, next *freshMessage
}

// freshOverhead is what a message in memory costs beside its content, in
// octets, about.
const freshOverhead = 1 << 10

func (m *freshMessage) cost() int64 {
	n := int64(freshOverhead)
	if m.body != nil {
		n += int64(cap(m.body.data))
	}
	return n
}

func newFresh(budget int64) *fresh {
	f := &fresh{budget: budget}
	f.mu.byID = make(map[mta.ID]*freshMessage)
	return f
}

// put takes a message in, and the caller's hold of its body.
func (f *fresh) put(facts *facts, b *body) {
	m := &freshMessage{facts: facts, body: b}
	f.mu.Lock()
	defer f.mu.Unlock()
	if old := f.mu.byID[facts.msg.ID]; old != nil {
		f.unlink(old)
	}
	f.mu.byID[facts.msg.ID] = m
	if m.prev = f.mu.last; m.prev != nil {
		m.prev.next = m
	} else {
		f.mu.first = m
	}
	f.mu.last = m
	f.mu.used += m.cost()
	for f.mu.used > f.budget && f.mu.first != nil {
		f.unlink(f.mu.first)
	}
}

// unlink lets a message go; the mutex is held.
func (f *fresh) unlink(m *freshMessage) {
	if m.prev != nil {
		m.prev.next = m.next
	} else {
		f.mu.first = m.next
	}
	if m.next != nil {
		m.next.prev = m.prev
	} else {
		f.mu.last = m.prev
	}
	delete(f.mu.byID, m.facts.msg.ID)
	f.mu.used -= m.cost()
	if m.body != nil {
		m.body.release()
	}
}

// get gives a message's facts and a hold of its body; nil when it is not here.
func (f *fresh) get(id mta.ID) (*facts, *body) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := f.mu.byID[id]
	if m == nil {
		return nil, nil
	}
	if m.body != nil {
		m.body.refs.Add(1)
	}
	return m.facts, m.body
}

// facts gives a message's facts, or nil.
func (f *fresh) factsOf(id mta.ID) *facts {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.mu.byID[id]; m != nil {
		return m.facts
	}
	return nil
}

func (f *fresh) forget(id mta.ID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if m := f.mu.byID[id]; m != nil {
		f.unlink(m)
	}
}

func (f *fresh) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for f.mu.first != nil {
		f.unlink(f.mu.first)
	}
}
