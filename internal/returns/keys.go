package returns

import (
	"time"

	"mailout/internal/keyring"
)

// key is one secret.
type key struct{ *keyring.Key }

// keyRing holds the keys, the oldest first. It is never changed.
type keyRing keyring.Ring

// current is the key in use.
func (r keyRing) current() key { return key{keyring.Ring(r).Current()} }

// openKeys reads the keys of a file, or makes the first. Keys that can have no
// return path left that is good (valid long after they were replaced) are dropped.
func openKeys(path string, now time.Time, valid time.Duration) (keyRing, error) {
	ring, err := keyring.Open(path, now, keyring.Use{
		Keys: "the keys of return paths", Harm: "forge bounces", Loss: "what comes back to older mail is then refused",
		Keep: valid + keyring.Life, // a message may wait for months before its last attempt tags it
	})
	return keyRing(ring), err
}
