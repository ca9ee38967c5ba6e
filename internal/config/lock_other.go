//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// lockFile keeps other processes from changing the file, and gives what ends
// that. Without flock(2) a second file stands for the lock; whoever finds it
// does not wait. It gives fs.ErrNotExist when there is no file.
func lockFile(path string) (release func(), err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	lock := path + ".lock"
	f, err := os.OpenFile(lock, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("another mailout is changing it, or died doing so (then remove %s)", lock)
	}
	if err != nil {
		return nil, err
	}
	f.Close()
	return func() { os.Remove(lock) }, nil
}
