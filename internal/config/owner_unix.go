//go:build unix

package config

import (
	"io/fs"
	"os"
	"syscall"
)

// permissionsMean says that mode bits tell who may read a file.
const permissionsMean = true

// keepOwner gives f the owner and group of the file it is to replace.
func keepOwner(f *os.File, old fs.FileInfo) error {
	want, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if have, ok := info.Sys().(*syscall.Stat_t); ok && have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	return f.Chown(int(want.Uid), int(want.Gid))
}

// syncDir makes a rename in the directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// GiveTo gives a file or directory the owner and group of another path, when we
// may: only root gives away, and for all others what they make is theirs.
func GiveTo(f *os.File, like string) error {
	info, err := os.Stat(like)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	return keepOwner(f, info)
}
