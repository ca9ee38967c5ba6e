package dkim

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/mta"
)

// Outgoing is a message that is about to be sent.
type Outgoing struct {
	ID        mta.ID
	Converted bool // Content is another form of the message than the stored one
	// Prefix are the fields that were added to the message; From is not among them.
	Prefix  []byte
	Content Content
	// Shared says that the same message goes out more than once, and soon: what was
	// computed for it is kept for a while.
	Shared bool
}

// Signer signs the messages that go out. What it computed for a message with
// several destinations is shared by them, and computed once even when they all
// come at the same moment. It is safe for concurrent use.
//
// It remembers the maxMessages latest such messages and of each only the fields
// made last, of at most maxShared octets.
type Signer struct {
	keys   Keys
	now    func() time.Time
	counts counts

	mu struct {
		sync.Mutex
		known map[form]*shared
		ring  [maxMessages]form // in the order of arrival
		next  int
	}
}

const (
	maxMessages = 1024
	maxShared   = 8 << 10
)

// Counts are since the start.
type Counts struct {
	Signed   uint64 // signing was asked for, and the message was signed
	Unsigned uint64 // no key signs for its From address
	Failed   uint64 // a key that should have signed did not
}

type counts struct{ signed, unsigned, failed atomic.Uint64 }

// form is one form of one message.
type form struct {
	id        mta.ID
	converted bool
}

// shared is what is known of a form.
type shared struct {
	mu     sync.Mutex
	domain *future[string]            // of From
	body   *future[[sha256.Size]byte] // bh=
	fields *future[[]byte]            // of keys and prefix
	keys   []SigningKey
	prefix []byte
}

// NewSigner makes a Signer. now is the time for t=, and zero when the clock is not
// known to be right; nil: never said.
func NewSigner(keys Keys, now func() time.Time) *Signer {
	if now == nil {
		now = func() time.Time { return time.Time{} }
	}
	s := &Signer{keys: keys, now: now}
	s.mu.known = map[form]*shared{}
	return s
}

// Counts tells what became of messages.
func (s *Signer) Counts() Counts {
	return Counts{s.counts.signed.Load(), s.counts.unsigned.Load(), s.counts.failed.Load()}
}

// Signatures are what Sign made. Nobody changes them.
type Signatures struct {
	Fields []byte       // DKIM-Signature fields, each line with its CRLF
	Keys   []SigningKey // those that signed, in the order of the fields
}

// Names are those of the keys' records.
func (s *Signatures) Names() mta.KeyNames {
	names := ""
	for i, k := range s.Keys {
		if i > 0 {
			names += " "
		}
		names += Name(k.Selector, k.Domain)
	}
	return mta.KeyNames(names)
}

// Sign gives the signatures of a message; none when no key signs for its From
// address, or it has none that can be read. An error is that of reading the
// content, or of a key that does not sign.
func (s *Signer) Sign(o *Outgoing) (Signatures, error) {
	made, err := s.sign(o)
	switch {
	case err != nil:
		s.counts.failed.Add(1)
	case len(made.Fields) == 0:
		s.counts.unsigned.Add(1)
	default:
		s.counts.signed.Add(1)
	}
	return made, err
}

func (s *Signer) sign(o *Outgoing) (Signatures, error) {
	if o.Shared && len(o.Prefix) <= maxShared {
		return s.of(form{o.ID, o.Converted}).sign(s, o)
	}
	m := newMessage(o.Prefix, o.Content)
	defer m.release()
	if err := m.readHeader(); err != nil {
		return Signatures{}, err
	}
	keys := s.keysFor(AuthorDomain(&m.header))
	if len(keys) == 0 {
		return Signatures{}, nil
	}
	body, err := m.hashBody()
	if err != nil {
		return Signatures{}, err
	}
	fields, err := m.sign(keys, body, s.now())
	return Signatures{fields, keys}, err
}

func (s *Signer) keysFor(domain string) []SigningKey {
	if domain == "" {
		return nil
	}
	keys := s.keys.For(domain)
	return keys[:min(len(keys), MaxSignatures)]
}

// of gives what is known of a form; the oldest is forgotten for it.
func (s *Signer) of(f form) *shared {
	s.mu.Lock()
	defer s.mu.Unlock()
	known := s.mu.known[f]
	if known == nil {
		delete(s.mu.known, s.mu.ring[s.mu.next])
		known = &shared{}
		s.mu.known[f], s.mu.ring[s.mu.next] = known, f
		s.mu.next = (s.mu.next + 1) % maxMessages
	}
	return known
}

// sign is Sign with what is shared. The keys are asked for each time: one that may
// no more sign does not, whatever is remembered.
func (k *shared) sign(s *Signer, o *Outgoing) (Signatures, error) {
	domain, err := get(&k.mu, &k.domain, nil, func() (string, error) { return domainOf(o) })
	if err != nil {
		return Signatures{}, err
	}
	keys := s.keysFor(domain)
	if len(keys) == 0 {
		return Signatures{}, nil
	}
	other := func() bool {
		if slices.Equal(k.keys, keys) && bytes.Equal(k.prefix, o.Prefix) {
			return false
		}
		k.keys, k.prefix = keys, bytes.Clone(o.Prefix)
		return true
	}
	fields, err := get(&k.mu, &k.fields, other, func() ([]byte, error) { return k.make(s, o, keys) })
	if len(fields) > maxShared {
		k.forget()
	}
	return Signatures{fields, keys}, err
}

// make signs with the body's hash, which is the same whatever was added.
func (k *shared) make(s *Signer, o *Outgoing, keys []SigningKey) ([]byte, error) {
	m := newMessage(o.Prefix, o.Content)
	defer m.release()
	if err := m.readHeader(); err != nil {
		return nil, err
	}
	body, err := get(&k.mu, &k.body, nil, m.hashBody)
	if err != nil {
		return nil, err
	}
	return m.sign(keys, body, s.now())
}

// forget drops fields that are too long to be kept.
func (k *shared) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fields, k.keys, k.prefix = nil, nil, nil
}

func domainOf(o *Outgoing) (string, error) {
	m := newMessage(o.Prefix, o.Content)
	defer m.release()
	if err := m.readHeader(); err != nil {
		return "", err
	}
	return AuthorDomain(&m.header), nil
}

// future is something that one computes and others wait for.
type future[T any] struct {
	done  chan struct{}
	value T
	err   error
}

var errPanicked = errors.New("signing ended in a panic, of which the log tells more")

// get gives what slot holds, computed once for all who ask meanwhile. stale, when
// set, says under the lock whether what is there is of no use. What failed is
// computed again for who asks next. compute is bounded by the size of a message, so
// that the wait needs no end of its own.
func get[T any](mu *sync.Mutex, slot **future[T], stale func() bool, compute func() (T, error)) (T, error) {
	mu.Lock()
	if stale != nil && stale() {
		*slot = nil
	}
	f := *slot
	mine := f == nil
	if mine {
		f = &future[T]{done: make(chan struct{}), err: errPanicked}
		*slot = f
	}
	mu.Unlock()
	if !mine {
		<-f.done
		return f.value, f.err
	}
	defer func() {
		if f.err != nil {
			mu.Lock()
			if *slot == f {
				*slot = nil
			}
			mu.Unlock()
		}
		close(f.done)
	}()
	f.value, f.err = compute()
	return f.value, f.err
}
