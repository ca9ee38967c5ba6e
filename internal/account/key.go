package account

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"strings"
)

// Key is what is kept of an HTTP key: its SHA-256. A key is 256 random bits, so
// that nothing slower is needed to keep it from being guessed. The zero value
// fits no key.
type Key struct {
	hash [sha256.Size]byte
	set  bool
}

// keyPrefix begins every key, so that one in the wrong place is recognised.
const keyPrefix = "mo_"

// keyForm begins the hash of a key in the configuration.
const keyForm = "sha256:"

// ParseKey reads the hash of a key, "sha256:" and 64 hexadecimal digits. The
// error never repeats the text: it may be a key.
func ParseKey(s string) (Key, error) {
	digits, ok := strings.CutPrefix(s, keyForm)
	b, err := hex.DecodeString(digits)
	if !ok || err != nil || len(b) != sha256.Size {
		return Key{}, errors.New("is not the hash of a key (`mailout config key` makes one)")
	}
	k := Key{set: true}
	copy(k.hash[:], b)
	return k, nil
}

// String gives the hash as ParseKey reads it; empty for the zero value.
func (k Key) String() string {
	if !k.set {
		return ""
	}
	return keyForm + hex.EncodeToString(k.hash[:])
}

// IsZero reports whether there is no key.
func (k Key) IsZero() bool { return !k.set }

// fits reports in constant time whether a hash is the key's.
func (k Key) fits(sum [sha256.Size]byte) bool {
	return k.set && subtle.ConstantTimeCompare(k.hash[:], sum[:]) == 1
}

// NewKey makes a key: the text, which is nowhere kept, and its hash.
func NewKey() (string, Key) {
	var secret [32]byte
	rand.Read(secret[:]) // never fails (crypto/rand)
	text := keyPrefix + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret[:]))
	return text, Key{hash: sha256.Sum256([]byte(text)), set: true}
}
