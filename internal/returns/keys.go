package returns

import (
	"crypto/rand"
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

// The file of keys has a line for each: number, time made (Unix), secret in hex.
// The last is the one in use; those before it open what was made with them.
const (
	maxKeys  = 16                  // kept; numbers go round at 128
	keyLife  = 90 * 24 * time.Hour // of the key in use
	keyCount = 128
)

// key is one secret.
type key struct {
	number byte // 0 to 127
	made   time.Time
	secret [32]byte
}

// keyRing holds the keys, the oldest first. It is never changed.
type keyRing []*key

func (r keyRing) numbered(n byte) *key {
	for _, k := range r {
		if k.number == n {
			return k
		}
	}
	return nil
}

// current is the key in use.
func (r keyRing) current() *key { return r[len(r)-1] }

// openKeys reads the keys of a file, or makes the first. A key that has been in
// use for long gets a successor; keys that can have no return path left that is
// good (valid long after they were replaced) are dropped.
func openKeys(path string, now time.Time, valid time.Duration) (keyRing, error) {
	ring, err := readKeys(path)
	if err != nil {
		return nil, fmt.Errorf("the keys of return paths: %w", err)
	}
	if len(ring) > 0 && now.Sub(ring.current().made) < keyLife {
		return ring, nil
	}
	next := &key{made: now}
	if len(ring) > 0 {
		next.number = (ring.current().number + 1) % keyCount
	}
	if _, err := rand.Read(next.secret[:]); err != nil {
		return nil, fmt.Errorf("the keys of return paths: %w", err)
	}
	ring = append(ring.still(now, valid), next)
	if err := writeKeys(path, ring); err != nil {
		return nil, fmt.Errorf("the keys of return paths: %w", err)
	}
	return ring, nil
}

// still are the keys that may be needed yet.
func (r keyRing) still(now time.Time, valid time.Duration) keyRing {
	out := keyRing{}
	for i, k := range r {
		replaced := now
		if i+1 < len(r) {
			replaced = r[i+1].made
		}
		// A message may wait for months before its last attempt tags it.
		if now.Sub(replaced) < valid+keyLife {
			out = append(out, k)
		}
	}
	return out[max(0, len(out)-maxKeys+1):]
}

// readKeys reads a file of keys; none when there is no file.
func readKeys(path string) (keyRing, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s can be read by others (mode %04o): whoever reads it can forge bounces; chmod 600 it, or remove it for new keys", path, info.Mode().Perm())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var ring keyRing
	for n, line := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		k, err := parseKey(line)
		if err == nil && ring.numbered(k.number) != nil {
			err = errors.New("the number stands twice")
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w (remove the file for new keys; what comes back to older mail is then refused)", path, n+1, err)
		}
		ring = append(ring, k)
	}
	return ring, nil
}

func parseKey(line string) (*key, error) {
	f := strings.Fields(line)
	if len(f) != 3 {
		return nil, errors.New("this is not a line of number, time and secret")
	}
	n, err := strconv.ParseUint(f[0], 10, 7)
	made, err2 := strconv.ParseInt(f[1], 10, 64)
	secret, err3 := hex.DecodeString(f[2])
	k := &key{number: byte(n), made: time.Unix(made, 0)}
	if errors.Join(err, err2, err3) != nil || len(secret) != len(k.secret) {
		return nil, errors.New("the number, the time or the secret is wrong")
	}
	copy(k.secret[:], secret)
	return k, nil
}

// writeKeys puts a file in place: whole, on stable storage, or not.
func writeKeys(path string, ring keyRing) error {
	var b strings.Builder
	for _, k := range ring {
		fmt.Fprintf(&b, "%d %d %s\n", k.number, k.made.Unix(), hex.EncodeToString(k.secret[:]))
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".returns-*") // mode 0600
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
