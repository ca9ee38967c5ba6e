package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"sync"
	"time"

	"mailout/internal/header"
)

// SigningKey is a key and the names that its signatures carry.
type SigningKey struct {
	Domain   string // d=, lower-case A-labels
	Selector string // s=
	Key      *Key
}

// Keys says which keys sign a message whose From address is in domain, which is
// in lower-case A-labels. It gives at most MaxSignatures of them, in the order in
// which the signatures stand in the message; none: the message goes unsigned. It
// is called for every message by many at once, must be quick, and what it gives is
// not changed by anybody.
type Keys interface {
	For(domain string) []SigningKey
}

// MaxSignatures bounds the signatures that one message gets.
const MaxSignatures = 4

// MinSigningBits is the size below which no RSA key signs (RFC 8301 3.2).
const MinSigningBits = 1024

// Content is the octets of a message: CRLF-clean, not dot-stuffed.
type Content interface {
	io.ReaderAt
	Size() int64
	// Bytes is the whole content when it is in memory, else nil.
	Bytes() []byte
}

// Octets is content in memory.
type Octets []byte

// ReadAt implements Content; nobody asks, since Bytes is there.
func (o Octets) ReadAt(p []byte, at int64) (int, error) { return bytes.NewReader(o).ReadAt(p, at) }

// Size implements Content.
func (o Octets) Size() int64 { return int64(len(o)) }

// Bytes implements Content.
func (o Octets) Bytes() []byte { return o }

// Sign gives the DKIM-Signature fields of a message, one a key, each line with its
// CRLF. They go before prefix, which are whole header fields that go before
// content. at is when that is, for t=; zero: it is not said, which is better than
// a clock that runs ahead, since verifiers may ignore signatures from the future
// (RFC 6376 3.5). The body is read once, whatever the number of keys.
//
// Memory is bounded whatever the size of the content: the header, of at most
// header.MaxSize octets, and one block of the body. An error is that of reading
// the content, of a header too large, or of a key that does not sign.
func Sign(prefix []byte, content Content, keys []SigningKey, at time.Time) ([]byte, error) {
	m := newMessage(prefix, content)
	defer m.release()
	if err := m.readHeader(); err != nil {
		return nil, err
	}
	body, err := m.hashBody()
	if err != nil {
		return nil, err
	}
	return m.sign(keys, body, at)
}

// block is how much of content that is not in memory is read at once.
const block = 32 << 10

// message is one message on its way through the hash. Its memory goes from one to
// the next.
type message struct {
	prefix  []byte
	content Content
	header  header.Header
	body    int64 // where it begins in content

	chosen selection
	relax  relaxer
	hash   hash.Hash
	text   []byte // relaxed header
	out    []byte
	block  []byte // nil until something is read
}

var messages = sync.Pool{New: func() any { return &message{hash: sha256.New()} }}

// maxKept is the size of header above which memory is not handed on.
const maxKept = 64 << 10

func newMessage(prefix []byte, content Content) *message {
	m := messages.Get().(*message)
	m.prefix, m.content = prefix, content
	return m
}

func (m *message) release() {
	if max(m.header.Size(), cap(m.text), cap(m.out)) > maxKept || cap(m.chosen.fields) > maxKept/64 {
		return
	}
	m.prefix, m.content = nil, nil
	messages.Put(m)
}

// slack is by how much a header may pass the bounds that it had at arrival, for
// what was added to it since.
const slack = 64 << 10

// readHeader collects the fields of prefix and content.
func (m *message) readHeader() error {
	h := &m.header
	h.Reset(header.Limits{Size: header.MaxSize + slack, Fields: header.MaxFields + slack/64})
	if _, err := h.Feed(m.prefix); err != nil {
		return err
	}
	m.body = 0
	err := m.each(0, func(p []byte) (bool, error) {
		n, err := h.Feed(p)
		m.body += int64(n)
		return h.End() == header.EndOpen, err
	})
	if err == nil {
		err = h.Finish()
	}
	m.body -= int64(len(h.Rest()))
	return err
}

// each gives f the content from an offset on in order, all at once when it is in
// memory, until f says false.
func (m *message) each(at int64, f func([]byte) (bool, error)) error {
	if all := m.content.Bytes(); all != nil {
		_, err := f(all[at:])
		return err
	}
	if m.block == nil {
		m.block = make([]byte, block)
	}
	for size := m.content.Size(); at < size; {
		want := m.block[:min(block, size-at)]
		n, err := m.content.ReadAt(want, at)
		if n < len(want) {
			if err == nil || errors.Is(err, io.EOF) {
				err = fmt.Errorf("the content ends after %d of %d octets", at+int64(n), size)
			}
			return err
		}
		if more, err := f(want); err != nil || !more {
			return err
		}
		at += int64(n)
	}
	return nil
}

// hashBody gives what bh= holds.
func (m *message) hashBody() (sum [sha256.Size]byte, err error) {
	m.relax.reset(m.hash)
	err = m.each(m.body, func(p []byte) (bool, error) {
		m.relax.write(p)
		return true, nil
	})
	m.relax.sum(sum[:0])
	return sum, err
}

// sign makes the fields.
func (m *message) sign(keys []SigningKey, body [sha256.Size]byte, at time.Time) ([]byte, error) {
	m.chosen.choose(&m.header)
	m.text = m.chosen.appendRelaxed(m.text[:0])
	signed := len(m.text)
	out := m.out[:0]
	for i := range keys {
		k := &keys[i]
		start := len(out)
		out = m.appendUnsigned(out, k, &body, at)
		m.text = appendRelaxed(m.text[:signed], "dkim-signature", out[start+len(fieldName):])
		sum := sha256.Sum256(m.text)
		signature, err := k.Key.sign(sum[:])
		if err != nil {
			return nil, fmt.Errorf("the key %s does not sign: %w", Name(k.Selector, k.Domain), err)
		}
		out = append(appendFolded(out, signature), '\r', '\n')
	}
	m.out = out
	return append([]byte(nil), out...), nil
}

// sign signs a hash.
func (k *Key) sign(sum []byte) ([]byte, error) {
	switch s := k.signer.(type) {
	case ed25519.PrivateKey:
		if k.quick {
			return quickly(s, sum), nil
		}
		return ed25519.Sign(s, sum), nil // RFC 8463 3: over the hash
	case *rsa.PrivateKey:
		if k.Bits() < MinSigningBits {
			return nil, fmt.Errorf("RSA of %d bits is too weak", k.Bits())
		}
		return rsa.SignPKCS1v15(nil, s, crypto.SHA256, sum)
	}
	return nil, fmt.Errorf("DKIM has no %T", k.signer)
}

// fieldName begins the field.
const fieldName = "DKIM-Signature:"

// appendUnsigned appends the field up to "b=", folded (RFC 6376 3.5). There is no
// i=, whose default is the domain, no l=, which leaves room for strangers' text, and
// no x=, which a wrong clock would make a trap.
func (m *message) appendUnsigned(dst []byte, k *SigningKey, body *[sha256.Size]byte, at time.Time) []byte {
	f := folder{append(dst, fieldName...), len(fieldName)}
	f.word(" v=1;")
	f.word(" a=" + string(k.Key.Algorithm()) + "-sha256;")
	f.word(" c=relaxed/relaxed;")
	f.word(" d=" + k.Domain + ";")
	f.word(" s=" + k.Selector + ";")
	if !at.IsZero() {
		f.word(" t=" + strconv.FormatInt(at.Unix(), 10) + ";")
	}
	f.fold("h=")
	colon := ""
	for n := range signable {
		for range m.chosen.named(n) {
			if colon != "" {
				f.add(colon)
			}
			f.room(len(signable[n].name) + 1)
			f.add(signable[n].name)
			colon = ":"
		}
	}
	f.add(";")
	f.fold("bh=")
	f.b = appendBase64(f.b, body[:])
	f.add(";")
	f.fold("b=")
	return f.b
}
