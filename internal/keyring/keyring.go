package keyring

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// The bounds of a file.
const (
	MaxKeys = 16                  // kept
	Life    = 90 * 24 * time.Hour // of the key in use
	numbers = 128                 // of keys: they go round
)

// secretLen is the length of a secret in octets.
const secretLen = 32

// Key is one secret. It is never changed.
type Key struct {
	number byte
	made   time.Time
	secret [secretLen]byte
}

// Number is how what was made with the key names it: 0 to 127.
func (k *Key) Number() byte { return k.number }

// Sum is a keyed hash (HMAC-SHA-256) of a purpose and a text.
func (k *Key) Sum(purpose byte, text []byte) []byte {
	h := hmac.New(sha256.New, k.secret[:])
	h.Write([]byte{purpose})
	h.Write(text)
	return h.Sum(nil)
}

// Derive gives a secret of 32 octets for a label (HKDF-SHA-256, RFC 5869).
func (k *Key) Derive(label string) []byte {
	secret, err := hkdf.Key(sha256.New, k.secret[:], nil, label, secretLen)
	if err != nil {
		panic("keyring: " + err.Error()) // only a length beyond 255 hashes is refused
	}
	return secret
}

// Ring holds the keys of a file, the oldest first. It is never changed, and not
// empty.
type Ring []*Key

// Numbered gives the key of a number; nil when there is none.
func (r Ring) Numbered(n byte) *Key {
	for _, k := range r {
		if k.number == n {
			return k
		}
	}
	return nil
}

// Current is the key in use.
func (r Ring) Current() *Key { return r[len(r)-1] }

// Use says what a file of keys is for, in the words of errors.
type Use struct {
	Keys string // "the keys of return paths"
	Harm string // what somebody else can do with them: "forge bounces"
	Loss string // what is lost with them: "what comes back to older mail is then refused"
	// Keep is how long after it was replaced a key may be needed.
	Keep time.Duration
}

// Open reads the keys of a file, or makes the first. A key that has been in use
// for Life gets a successor; keys that nothing can need any more are dropped.
// Where the successor cannot be written the key goes on: the disk is in trouble.
func Open(path string, now time.Time, use Use) (Ring, error) {
	ring, err := open(path, now, use, write)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", use.Keys, err)
	}
	return ring, nil
}

func open(path string, now time.Time, use Use, write func(string, Ring) error) (Ring, error) {
	have, err := read(path, use)
	if err != nil {
		return nil, err
	}
	if len(have) > 0 && now.Sub(have.Current().made) < Life {
		return have, nil
	}
	next := &Key{made: now}
	if len(have) > 0 {
		next.number = (have.Current().number + 1) % numbers
	}
	if _, err := rand.Read(next.secret[:]); err != nil {
		return nil, err
	}
	ring := append(have.still(now, use.Keep), next)
	switch err := write(path, ring); {
	case err == nil:
		return ring, nil
	case len(have) > 0:
		return have, nil
	default:
		return nil, err
	}
}

// still are the keys that may be needed yet.
func (r Ring) still(now time.Time, keep time.Duration) Ring {
	out := Ring{}
	for i, k := range r {
		replaced := now
		if i+1 < len(r) {
			replaced = r[i+1].made
		}
		if now.Sub(replaced) < keep {
			out = append(out, k)
		}
	}
	return out[max(0, len(out)-MaxKeys+1):]
}

// read reads a file of keys, a line for each: number, time made (Unix), secret in
// hex. The last is the one in use. There are none when there is no file.
func read(path string, use Use) (Ring, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): whoever reads it can %s; chmod 600 it, or remove it for new keys", path, info.Mode().Perm(), use.Harm)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ring Ring
	for n, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		k, err := parse(line)
		if err == nil && ring.Numbered(k.number) != nil {
			err = errors.New("the number stands twice")
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w (remove the file for new keys; %s)", path, n+1, err, use.Loss)
		}
		ring = append(ring, k)
	}
	return ring, nil
}

func parse(line string) (*Key, error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return nil, errors.New("this is not a line of number, time and secret")
	}
	n, err := strconv.ParseUint(f[0], 10, 7)
	made, err2 := strconv.ParseInt(f[1], 10, 64)
	secret, err3 := hex.DecodeString(f[2])
	k := &Key{number: byte(n), made: time.Unix(made, 0)}
	if errors.Join(err, err2, err3) != nil || len(secret) != len(k.secret) {
		return nil, errors.New("the number, the time or the secret is wrong")
	}
	copy(k.secret[:], secret)
	return k, nil
}

// write puts a file in place: whole, on stable storage, or not.
func write(path string, ring Ring) error {
	var b strings.Builder
	for _, k := range ring {
		fmt.Fprintf(&b, "%d %d %s\n", k.number, k.made.Unix(), hex.EncodeToString(k.secret[:]))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".keys-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(b.String())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
