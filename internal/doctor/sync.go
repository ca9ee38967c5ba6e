package doctor

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"
)

// How a sync is measured: so often, a block each time.
const (
	syncTries = 9
	syncBlock = 4096
)

// syncTime writes and syncs a file of its own in a directory and removes it.
// The file grows each time, so that its length has to reach the disk as well.
func syncTime(ctx context.Context, dir string) (took time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".mailout-doctor-*")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	block := make([]byte, syncBlock)
	for i := range block {
		block[i] = byte(i) // not zeros, which may be stored as a hole
	}
	var times []time.Duration
	for len(times) < syncTries && (ctx.Err() == nil || len(times) == 0) {
		if _, err := f.Write(block); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := f.Sync(); err != nil {
			return 0, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times[len(times)/2], nil
}
