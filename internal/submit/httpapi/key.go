package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"mailout/internal/account"
	"mailout/internal/rest"
)

// hashKey gives the name under which a key's request is stored: that of one
// user is not that of another.
func hashKey(user *account.User, key string) (out [16]byte, err error) {
	ok := len(key) <= MaxKey
	for i := range len(key) {
		ok = ok && ' ' <= key[i] && key[i] <= '~'
	}
	if !ok {
		return out, &rest.Problem{
			Status: http.StatusBadRequest, Field: "Idempotency-Key",
			Detail: "a key is 1 to 255 printable ASCII characters, such as a UUID",
		}
	}
	h := sha256.New()
	name := ""
	if user != nil {
		name = "user " + user.Name
	}
	writeText(h, name)
	writeText(h, key)
	copy(out[:], h.Sum(nil))
	return out, nil
}

// keyWait is how long a request waits for another with the same key.
const keyWait = 20 * time.Second

// keyLocks lets one request with a key through at a time. There are at most as
// many as requests.
type keyLocks struct {
	mu struct {
		sync.Mutex
		held map[[16]byte]chan struct{} // closed when the key is free
	}
}

func (k *keyLocks) lock(ctx context.Context, key [16]byte) (unlock func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, keyWait)
	defer cancel()
	for {
		free := k.try(key)
		if free == nil {
			return func() { k.unlock(key) }, nil
		}
		select {
		case <-free:
		case <-ctx.Done():
			return nil, &rest.Problem{
				Status: http.StatusConflict, Field: "Idempotency-Key", Retry: time.Second,
				Detail: "another request with this key is under way",
			}
		}
	}
}

// try takes the key, or gives what is closed when it is free.
func (k *keyLocks) try(key [16]byte) <-chan struct{} {
	k.mu.Lock()
	defer k.mu.Unlock()
	if free, held := k.mu.held[key]; held {
		return free
	}
	if k.mu.held == nil {
		k.mu.held = make(map[[16]byte]chan struct{})
	}
	k.mu.held[key] = make(chan struct{})
	return nil
}

func (k *keyLocks) unlock(key [16]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.mu.held[key])
	delete(k.mu.held, key)
}

// digest is a hash of messages, by which a repeated request is known. It is of
// what they say and not of how the request was written, for some programs write
// the members of an object in another order each time.
type digest struct {
	h hash.Hash // nil: not wanted
	// files are the hashes of files by where they lie: the messages of a batch
	// share them.
	files map[*byte][sha256.Size]byte
}

func newDigest(wanted bool) *digest {
	d := &digest{}
	if wanted {
		d.h, d.files = sha256.New(), map[*byte][sha256.Size]byte{}
	}
	return d
}

func (d *digest) add(m *Message) {
	if d.h == nil {
		return
	}
	if m.Raw != nil {
		d.addWhole(m, sha256.Sum256(m.Raw))
		return
	}
	writeText(d.h, "fields")
	d.envelope(m)
	writeAddresses(d.h, m.ReplyTo)
	writeText(d.h, m.Subject)
	writeText(d.h, m.Text)
	writeText(d.h, m.HTML)
	writeNumber(d.h, len(m.Headers))
	for _, f := range m.Headers {
		writeText(d.h, f.Name)
		writeText(d.h, f.Value)
	}
	writeNumber(d.h, len(m.Attachments))
	for i := range m.Attachments {
		a := &m.Attachments[i]
		writeText(d.h, a.Name)
		writeText(d.h, a.ContentType)
		writeText(d.h, a.ContentID)
		if a.Inline {
			writeText(d.h, "inline")
		}
		d.file(a.Content)
	}
}

// addWhole adds a message that is whole, of which only the hash is known.
func (d *digest) addWhole(m *Message, content [sha256.Size]byte) {
	writeText(d.h, "whole")
	d.envelope(m)
	d.h.Write(content[:])
}

// envelope adds what stands beside a message that is whole.
func (d *digest) envelope(m *Message) {
	writeAddresses(d.h, []Address{m.From})
	if m.ReturnPath != nil {
		writeText(d.h, "<"+*m.ReturnPath+">")
	}
	writeAddresses(d.h, m.To)
	writeAddresses(d.h, m.Cc)
	writeAddresses(d.h, m.Bcc)
	writeText(d.h, m.Stream)
	writeTime(d.h, m.SendAt)
	if m.SendAfter > 0 { // not the time that it stands for now
		writeText(d.h, "after")
		writeNumber(d.h, int(m.SendAfter))
	}
	writeTime(d.h, m.Expires)
	writeNumber(d.h, int(m.ExpireAfter))
	writeNumber(d.h, len(m.Tags))
	for _, t := range m.Tags {
		writeText(d.h, t)
	}
	writeNumber(d.h, len(m.Metadata))
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		writeText(d.h, k)
		writeText(d.h, m.Metadata[k])
	}
	if m.RequireTLS { // what was hashed before there was such a member stays the same
		writeText(d.h, "require_tls")
	}
}

// file adds the hash of a file.
func (d *digest) file(content []byte) {
	if len(content) == 0 {
		writeNumber(d.h, 0)
		return
	}
	sum, known := d.files[&content[0]]
	if !known {
		sum = sha256.Sum256(content)
		d.files[&content[0]] = sum
	}
	writeNumber(d.h, len(content))
	d.h.Write(sum[:])
}

func (d *digest) sum() (out [16]byte) {
	if d.h != nil {
		copy(out[:], d.h.Sum(nil))
	}
	return out
}

// What is hashed is told apart by lengths in front. A hash's Write never fails.

func writeNumber(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	h.Write(b[:])
}

func writeText(h hash.Hash, s string) {
	writeNumber(h, len(s))
	h.Write([]byte(s))
}

func writeTime(h hash.Hash, t time.Time) {
	if t.IsZero() {
		writeNumber(h, 0)
		return
	}
	writeNumber(h, int(t.UnixNano()))
}

func writeAddresses(h hash.Hash, list []Address) {
	writeNumber(h, len(list))
	for _, a := range list {
		writeText(h, a.Name)
		writeText(h, a.Address)
	}
}
