package pebble

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"mailout/internal/spool"
)

// TestNotesAreOneCommit cuts the power at every operation of a SetNotes: what
// is found afterwards is all changes or none, and all once it returned.
func TestNotesAreOneCommit(t *testing.T) {
	t.Parallel()
	for cut := 0; ; cut++ {
		f := newFaulty()
		s := mustOpen(t, Options{Dir: "spool", FS: f, Reserve: -1, Logger: quiet})
		if err := s.SetNotes(t.Context(), map[string][]byte{"a/old": {1}, "a/kept": {2}}); err != nil {
			t.Fatal(err)
		}
		left, all := cut, true
		f.set(func(op errorfs.Op) error {
			if !isLog(op) {
				return nil
			}
			if left--; left < 0 {
				all = false
				return errors.New("power cut")
			}
			return nil
		})
		err := s.SetNotes(t.Context(), map[string][]byte{"a/old": nil, "a/new": bytes.Repeat([]byte{3}, 5000)})
		disk := f.clone()
		f.set(func(errorfs.Op) error { return nil })
		again := mustOpen(t, Options{Dir: "spool", FS: disk, Reserve: -1})
		old, oerr := again.Note(t.Context(), "a/old")
		fresh, ferr := again.Note(t.Context(), "a/new")
		kept, kerr := again.Note(t.Context(), "a/kept")
		if oerr != nil || ferr != nil || kerr != nil {
			t.Fatal(oerr, ferr, kerr)
		}
		if (old == nil) != (len(fresh) == 5000) || err == nil && old != nil || len(kept) != 1 {
			t.Errorf("cut at %d: set %v, old %v, %d octets of the new, kept %v", cut, err, old, len(fresh), kept)
		}
		checkStore(t, again)
		_ = again.Close()
		_ = s.Close()
		if all {
			return
		}
	}
}

// TestDamagedNoteIsSetAside: a damaged note is told of once, and stops nobody.
func TestDamagedNoteIsSetAside(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet})
	defer mustClose(t, s)
	spoil := func(names ...string) {
		for _, n := range names {
			if err := s.SetNotes(t.Context(), map[string][]byte{n: []byte("a fact")}); err != nil {
				t.Fatal(err)
			}
			v, err := get(s.db, noteKey(nil, n))
			if err != nil {
				t.Fatal(err)
			}
			v[2] ^= 4
			if err := s.db.Set(noteKey(nil, n), v, nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.SetNotes(t.Context(), map[string][]byte{"a/3": []byte("good")}); err != nil {
		t.Fatal(err)
	}
	spoil("a/1", "a/2", "a/4")
	if v, err := s.Note(t.Context(), "a/1"); !errors.Is(err, spool.ErrCorrupt) || v != nil {
		t.Errorf("%q, %v", v, err)
	}
	if v, err := s.Note(t.Context(), "a/1"); err != nil || v != nil {
		t.Errorf("the second time %q, %v", v, err)
	}
	var got []string
	if err := s.Notes(t.Context(), "a/", "", func(name string, v []byte) bool { got = append(got, name+string(v)); return true }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != "a/3good" || s.Corrupt() != 3 {
		t.Errorf("%q, %d damaged", got, s.Corrupt())
	}
	for _, n := range []string{"a/1", "a/2", "a/4"} {
		if v, err := get(s.db, append([]byte{tableSetAside}, noteKey(nil, n)...)); err != nil || v == nil {
			t.Errorf("%s was not set aside: %v", n, err)
		}
	}
}
