package pebble

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/spool"
	"mailout/internal/spool/conformance"
)

// opener opens stores in one directory of one file system.
func opener(t *testing.T, o Options) conformance.Opener {
	return func() spool.Store {
		t.Helper()
		s, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}

func TestConformance(t *testing.T) {
	for name, o := range map[string]Options{
		"memory":  {Reserve: -1},
		"nofresh": {Reserve: -1, FreshBytes: -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conformance.Run(t, func(t *testing.T) conformance.Opener {
				own := o
				own.Dir, own.FS = "spool", vfs.NewMem()
				return opener(t, own)
			})
		})
	}
}

// TestConformanceOnDisk runs the suite on the real file system once.
func TestConformanceOnDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("writes to the disk")
	}
	conformance.Run(t, func(t *testing.T) conformance.Opener {
		return opener(t, Options{Dir: t.TempDir(), Reserve: 1 << 20})
	})
}
