package pebble

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"mailout/internal/spool"
)

// TestReservationIsOneCommitWithItsMessage cuts the power at every operation of
// a Put: what is found afterwards is both or none, and both once Put returned.
func TestReservationIsOneCommitWithItsMessage(t *testing.T) {
	t.Parallel()
	key, now := [16]byte{7}, time.Unix(1e9, 0)
	for cut := 0; ; cut++ {
		f := newFaulty()
		s := mustOpen(t, Options{Dir: "spool", FS: f, Reserve: -1, Logger: quiet})
		sub := testSub(t, s, cut+1, 100, "a@one.example")
		sub.Reserve = &spool.Reservation{Key: key, Made: now}
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
		err := s.Put(t.Context(), sub)
		disk := f.clone()
		f.set(func(errorfs.Op) error { return nil })
		again := mustOpen(t, Options{Dir: "spool", FS: disk, Reserve: -1})
		found, rerr := again.Reserved(t.Context(), key, now)
		if rerr != nil {
			t.Fatal(rerr)
		}
		_, gerr := again.Get(t.Context(), sub.Message.ID)
		if (gerr == nil) != (len(found) == 1) || err == nil && len(found) != 1 {
			t.Errorf("cut at %d: put %v, message %v, reservations %v", cut, err, gerr, found)
		}
		_ = again.Close()
		_ = s.Close()
		if all {
			return
		}
	}
}

// TestDamagedReservationIsSetAside: it answers nobody, and stops nobody.
func TestDamagedReservationIsSetAside(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "spool", FS: vfs.NewMem(), Reserve: -1, Logger: quiet})
	defer s.Close()
	key, now := [16]byte{7}, time.Unix(1e9, 0)
	k := append(reservedPrefix(nil, bucketOf(now), &key), 0, 0, 0, 1)
	if err := s.db.Set(k, []byte("no reservation"), nil); err != nil {
		t.Fatal(err)
	}
	found, err := s.Reserved(t.Context(), key, now)
	if err != nil || len(found) != 0 {
		t.Errorf("%v, %v", found, err)
	}
	if v, err := get(s.db, append([]byte{tableSetAside}, k...)); err != nil || v == nil {
		t.Errorf("not set aside: %v", err)
	}
}
