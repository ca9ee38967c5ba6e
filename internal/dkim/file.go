package dkim

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// The modes of what Create makes.
const (
	fileMode = 0o600
	dirMode  = 0o700
)

// Create writes a private key to a new file that only its owner reads, all of it
// or nothing, and never over another. A missing directory is made, not those
// above it. own gives file and directory to the one who is to read them; nil:
// they stay ours.
func Create(path string, k *Key, own func(*os.File) error) (err error) {
	text, err := k.PEM()
	if err != nil {
		return err
	}
	if own == nil {
		own = func(*os.File) error { return nil }
	}
	dir := filepath.Dir(path)
	if err := makeDir(dir, own); err != nil {
		return fmt.Errorf("the directory %s cannot be made: %w", dir, reason(err))
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*.tmp")
	if err == nil {
		defer os.Remove(f.Name())
		err = errors.Join(f.Chmod(fileMode), own(f))
		if err == nil {
			_, err = f.Write(text)
		}
		if err == nil {
			err = f.Sync()
		}
		err = errors.Join(err, f.Close())
	}
	if err == nil {
		err = os.Link(f.Name(), path) // unlike a rename it never replaces
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("%s cannot be written: %w", path, reason(err))
	}
	return nil
}

func makeDir(dir string, own func(*os.File) error) error {
	err := os.Mkdir(dir, dirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil // whatever it is: writing into it says so
	}
	if err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(own(d), d.Close(), syncDir(filepath.Dir(dir)))
}

// syncDir makes a new name durable. Systems that cannot sync a directory say so,
// and need not.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}

// reason is an error of the file system without operation and path, which the
// message has already.
func reason(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}

// Revocation is the text of the record that withdraws a key (RFC 6376 3.6.1).
func Revocation(a Algorithm) string { return "v=DKIM1; k=" + string(a) + "; p=" }
