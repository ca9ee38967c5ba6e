//go:build darwin || freebsd

package doctor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

func clockKept() (bool, error) { return false, errors.ErrUnsupported }

func fileSystem(dir string) (FileSystem, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return FileSystem{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	// Signed on some of these systems: what is kept for the superuser may make
	// the number negative.
	return FileSystem{
		Kind: unix.ByteSliceToString(s.Fstypename[:]), Free: uint64(max(int64(s.Bavail), 0)) * uint64(s.Bsize),
		Inodes: s.Files, FreeInodes: uint64(max(int64(s.Ffree), 0)),
	}, nil
}

func openFiles() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	return uint64(r.Cur), nil
}
