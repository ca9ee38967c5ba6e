package returns

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"mailout/internal/keyring"
	"mailout/internal/mta"
	"mailout/internal/smtp"
)

var noon = time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)

func ring(t testing.TB) keyRing {
	t.Helper()
	r, err := openKeys(filepath.Join(t.TempDir(), "keys"), noon, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestTag: what a tag says comes back, in any case of letters, and it is a local
// part that every server takes.
func TestTag(t *testing.T) {
	t.Parallel()
	r := ring(t)
	k := r.current()
	id := mta.NewID(noon, [10]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	local := k.local(id, k.recipient("Ann@Example.com"), true)
	if len(local) > 64 || local != strings.ToLower(local) {
		t.Errorf("%q, %d octets", local, len(local))
	}
	if _, err := smtp.ParseMailbox(local+"@bounces.example.com", false); err != nil {
		t.Error(err)
	}
	for _, form := range []string{local, strings.ToUpper(local)} {
		got := r.open(form)
		if got == nil || got.id != id || !got.quiet {
			t.Fatalf("%q: %+v", form, got)
		}
		if yes, alone := got.speaksOf("ann@example.com"); !yes || !alone {
			t.Error("it does not speak of its recipient")
		}
		if yes, _ := got.speaksOf("bob@example.com"); yes {
			t.Error("it speaks of another recipient")
		}
	}
	all := r.open(k.local(id, k.domain("example.com"), false))
	if yes, alone := all.speaksOf("bob@Example.com"); !yes || alone || all.quiet {
		t.Error("one of a domain does not speak of its recipients")
	}
	if yes, _ := all.speaksOf("bob@sub.example.com"); yes {
		t.Error("one of a domain speaks of another domain")
	}
}

// TestForgedTags: nothing but what was made is a tag: no change of any character,
// no other key, no other message.
func TestForgedTags(t *testing.T) {
	t.Parallel()
	r, other := ring(t), ring(t)
	k := r.current()
	const letters = "abcdefghijklmnopqrstuvwxyz234567"
	rapid.Check(t, func(rt *rapid.T) {
		var id mta.ID
		copy(id[:], rapid.SliceOfN(rapid.Byte(), len(id), len(id)).Draw(rt, "id"))
		local := k.local(id, k.recipient(rapid.StringMatching(`[a-z]{1,8}@[a-z]{1,8}\.example`).Draw(rt, "rcpt")), rapid.Bool().Draw(rt, "quiet"))
		if r.open(local) == nil {
			rt.Fatal("a tag that was made is not taken")
		}
		if other.open(local) != nil {
			rt.Fatal("a tag of another key is taken")
		}
		at := rapid.IntRange(len(tagPrefix), len(local)-1).Draw(rt, "at")
		c := letters[rapid.IntRange(0, len(letters)-1).Draw(rt, "letter")]
		if forged := local[:at] + string(c) + local[at+1:]; forged != local && r.open(forged) != nil {
			rt.Fatalf("%q is taken for %q", forged, local)
		}
		for _, bad := range []string{local[:len(local)-1], local + "a", strings.TrimPrefix(local, "b+"), "b-" + local[2:], rapid.String().Draw(rt, "text"), "b+" + rapid.StringMatching(`[a-z2-7]{56}`).Draw(rt, "random")} {
			if r.open(bad) != nil {
				rt.Fatalf("%q is taken", bad)
			}
		}
	})
}

// TestOldKeys: an old key opens what it made until that is too old.
func TestOldKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	open := func(at time.Time) keyRing {
		t.Helper()
		r, err := openKeys(path, at, 60*24*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	local := open(noon).current().local(mta.ID{1}, who{}, false)
	second := open(noon.Add(keyring.Life))
	if len(second) != 2 || second.open(local) == nil || second.open(second.current().local(mta.ID{1}, who{}, false)) == nil ||
		second.current().local(mta.ID{1}, who{}, false) == local {
		t.Fatal("no successor, or it does not open what was made before")
	}
	if third := open(noon.Add(3 * keyring.Life)); third.open(local) != nil || len(third) != 2 {
		t.Errorf("%d keys: one that nothing needs any more stays", len(third))
	}
}

func FuzzOpenTag(f *testing.F) {
	r := ring(f)
	f.Add("b+aaaa")
	f.Add("b+" + strings.Repeat("a", tagLen))
	f.Add("")
	f.Fuzz(func(t *testing.T, local string) {
		if r.open(local) != nil {
			t.Fatalf("%q is taken", local)
		}
	})
}
