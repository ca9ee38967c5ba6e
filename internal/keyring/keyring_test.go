package keyring

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	noon  = time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	coins = Use{Keys: "the keys of coins", Harm: "forge coins", Loss: "older coins are then refused", Keep: 150 * 24 * time.Hour}
)

// TestOpen: the file is the operator's alone, a restart reads it, an old key gets
// a successor and stays until nothing can need it.
func TestOpen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	open := func(at time.Time) Ring {
		t.Helper()
		r, err := Open(path, at, coins)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := open(noon)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatal(info.Mode(), err)
	}
	k := first.Current()
	if again := open(noon.Add(Life - 1)); len(again) != 1 || again.Current().secret != k.secret {
		t.Fatal("a restart forgets the key")
	}
	second := open(noon.Add(Life))
	if len(second) != 2 || second.Numbered(k.Number()).secret != k.secret || second.Current().secret == k.secret || second.Current().Number() == k.Number() {
		t.Fatal("no successor, or the old one is gone")
	}
	if third := open(noon.Add(3 * Life)); len(third) != 2 || third.Numbered(k.Number()) != nil {
		t.Errorf("%d keys: one that nothing needs any more stays", len(third))
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".keys-*")); len(left) > 0 {
		t.Error("left behind:", left)
	}
}

// TestFullDisk: an old key goes on where its successor cannot be written; the first
// one must be.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	full := func(string, Ring) error { return errors.New("no space left on device") }
	if r, err := open(path, noon, coins, full); err == nil {
		t.Errorf("%d keys that are nowhere", len(r))
	}
	first, err := open(path, noon, coins, write)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if r, err := open(path, noon.Add(Life), coins, full); err != nil || len(r) != 1 || r.Current().secret != first.Current().secret {
			t.Error(len(r), err)
		}
	}
	if r, err := open(path, noon.Add(Life), coins, write); err != nil || len(r) != 2 {
		t.Error(len(r), err)
	}
}

// TestBadFiles: what cannot be used is said, with the place and the way out, and
// never replaced.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	for text, want := range map[string]string{
		"1 2\n": ":1: this is not a line of number, time and secret (remove the file for new keys; older coins are then refused)", "200 1 00\n": "is wrong", "1 1 zz\n": "is wrong",
		"": "number, time and secret",
		strings.Repeat("1 1 "+strings.Repeat("00", 32)+"\n", 2): ":2: the number stands twice",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path, noon, coins); err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "the keys of coins: ") {
			t.Errorf("%q: %v", text, err)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%q became %q", text, now)
		}
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(path, noon, coins); err == nil || !strings.Contains(err.Error(), "can be read by others (mode 0640): whoever reads it can forge coins") {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(path, "below"), noon, coins); err == nil {
		t.Error("a file below a file was made")
	}
}

// TestNumbersGoRound: for ever, and the file stays small.
func TestNumbersGoRound(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	at, use := noon, coins
	use.Keep = 5 * 365 * 24 * time.Hour
	for range 300 {
		r, err := Open(path, at, use)
		if err != nil {
			t.Fatal(err)
		}
		if len(r) > MaxKeys || r.Numbered(r.Current().Number()) != r.Current() {
			t.Fatalf("%d keys", len(r))
		}
		at = at.Add(Life)
	}
}

// TestPurposesApart: keys, purposes and labels give different secrets, the same
// ones the same.
func TestPurposesApart(t *testing.T) {
	t.Parallel()
	r, err := Open(filepath.Join(t.TempDir(), "keys"), noon, coins)
	if err != nil {
		t.Fatal(err)
	}
	k := r.Current()
	if bytes.Equal(k.Sum('a', nil), k.Sum('b', nil)) || bytes.Equal(k.Derive("a"), k.Derive("b")) || bytes.Equal(k.Derive("a"), k.Sum('a', nil)) {
		t.Error("two purposes have one secret")
	}
	if !bytes.Equal(k.Derive("a"), k.Derive("a")) || len(k.Derive("a")) != 32 || bytes.Equal(k.Derive(""), k.secret[:]) {
		t.Error("a label gives another secret the second time, or the key itself")
	}
}
