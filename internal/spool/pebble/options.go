package pebble

import (
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The defaults of Options.
const (
	DefaultFreshBytes  = 64 << 20
	DefaultSharedBytes = 1 << 30
	DefaultCacheBytes  = 16 << 20
	DefaultMinFree     = 100 << 20
	DefaultReserve     = 16 << 20
)

// memTableSize is the size of one memtable; its writes are one log file. What
// is delivered before it is full is not written a second time.
const memTableSize = 32 << 20

// Options say where the store is and what it may use. Only Dir is needed.
type Options struct {
	// Dir is the spool's directory; it is made when it is not there.
	Dir string
	// FS is the file system, for tests; nil is the real one.
	FS vfs.FS
	// Logger gets damage and disk trouble; nil is slog.Default.
	Logger *slog.Logger
	// FreshBytes is the memory for contents that were accepted a moment ago;
	// 0 is DefaultFreshBytes, below 0 none is kept. Half as much again is for
	// those over 64 KiB on their way in.
	FreshBytes int64
	// CacheBytes is the memory for blocks of the store; 0 is DefaultCacheBytes.
	CacheBytes int64
	// SharedBytes is how large the file that contents of middle size share may
	// grow; 0 is DefaultSharedBytes, or a sixteenth of the disk when that is
	// less; below 0 there is none.
	SharedBytes int64
	// MinFree is the free space, in octets, under which new mail is refused; 0
	// is DefaultMinFree, below 0 there is no watermark.
	MinFree int64
	// Reserve is how many octets are kept allocated to finish work on a full
	// disk; 0 is DefaultReserve, below 0 none.
	Reserve int64
	// Now is the clock of the free-space check; nil is time.Now.
	Now func() time.Time

	// blockSize is the size of the blocks of table files; tests of damage make
	// it small. It compresses the journal better than pebble's 4 KiB.
	blockSize int
	// pause is waited before pebble goes on after damage to a file of which it
	// wanted statistics; nil is pauseStatistics. For tests.
	pause func(closing <-chan struct{})
}

// defaultBlockSize is the size of blocks in octets.
const defaultBlockSize = 16 << 10

// defaultShared is how large the shared file may grow on the disk of dir. The
// space that it once took is not given back before a start, so it is little on a
// small disk.
func defaultShared(fs vfs.FS, dir string) int64 {
	u, err := fs.GetDiskUsage(dir)
	for up := fs.PathDir(dir); err != nil && up != dir; up = fs.PathDir(dir) {
		dir = up // not made yet
		u, err = fs.GetDiskUsage(dir)
	}
	if err != nil || u.TotalBytes == 0 {
		return DefaultSharedBytes
	}
	return min(DefaultSharedBytes, int64(u.TotalBytes/16))
}

// withDefaults fills in what was left out; "none" becomes 0.
func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.pause == nil {
		o.pause = pauseStatistics
	}
	if o.blockSize == 0 {
		o.blockSize = defaultBlockSize
	}
	if o.SharedBytes == 0 {
		o.SharedBytes = defaultShared(o.FS, o.Dir)
	}
	for _, v := range []struct {
		field *int64
		def   int64
	}{{&o.FreshBytes, DefaultFreshBytes}, {&o.SharedBytes, 0}, {&o.CacheBytes, DefaultCacheBytes}, {&o.MinFree, DefaultMinFree}, {&o.Reserve, DefaultReserve}} {
		switch {
		case *v.field == 0:
			*v.field = v.def
		case *v.field < 0:
			*v.field = 0
		}
	}
	return o
}
