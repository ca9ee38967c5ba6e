package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// newFileMode is the mode of a file that Edit creates: the command line of
// any user reads it to find the socket. Secrets belong in files of their own.
const newFileMode = 0o644

// rewrite changes a file in one step: whoever reads it sees the old content or
// the new, also after a crash, and two that change it at once do so one after
// the other. A symbolic link stays; mode, owner and group stay. Without a file
// change is given nothing, and its result becomes a new file.
func rewrite(path string, change func(old []byte) ([]byte, error)) error {
	for {
		err := rewriteOnce(path, change)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		// Somebody created the file while we were about to: change theirs.
	}
}

func rewriteOnce(path string, change func(old []byte) ([]byte, error)) error {
	file, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return create(path, change)
	}
	if err != nil {
		return writeError(path, err)
	}
	release, err := lockFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return create(path, change)
	}
	if err != nil {
		return writeError(path, err)
	}
	defer release()
	return replace(path, file, change)
}

// replace does the work while the lock is held.
func replace(path, file string, change func(old []byte) ([]byte, error)) error {
	info, err := os.Stat(file)
	if err != nil {
		return writeError(path, err)
	}
	if !info.Mode().IsRegular() {
		return writeError(path, errors.New("it is not a regular file"))
	}
	old, err := readConfig(file)
	if err != nil {
		return err
	}
	data, err := change(old)
	if err != nil || string(data) == string(old) {
		return err
	}
	temp, err := writeBeside(file, data, func(f *os.File) error {
		if err := keepOwner(f, info); err != nil {
			return fmt.Errorf("its owner cannot be kept: %s (run this as its owner or as root)", reason(err))
		}
		return f.Chmod(info.Mode().Perm())
	})
	if err != nil {
		return writeError(path, err)
	}
	if err := os.Rename(temp, file); err != nil {
		os.Remove(temp)
		return writeError(path, err)
	}
	return settled(path, file)
}

// create makes a new file, and fails with fs.ErrExist when there is one by now.
func create(path string, change func(old []byte) ([]byte, error)) error {
	if info, err := os.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return writeError(path, errors.New("it is a symbolic link to nothing"))
	}
	data, err := change(nil)
	if err != nil {
		return err
	}
	temp, err := writeBeside(path, data, func(f *os.File) error { return f.Chmod(newFileMode) })
	if err != nil {
		return writeError(path, err)
	}
	err = os.Link(temp, path) // unlike a rename it never replaces
	os.Remove(temp)
	if errors.Is(err, fs.ErrExist) {
		return err
	}
	if err != nil {
		return writeError(path, err)
	}
	return settled(path, path)
}

// writeBeside writes data to a temporary file in the same directory, on
// stable storage, and gives its name.
func writeBeside(file string, data []byte, prepare func(*os.File) error) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	if err := prepare(f); err != nil {
		return "", err
	}
	if _, err := f.Write(data); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

func settled(path, file string) error {
	if err := syncDir(filepath.Dir(file)); err != nil {
		return Errors{{File: path, Message: "was changed, but a power cut may undo it: " + reason(err), Err: err}}
	}
	return nil
}

func writeError(path string, err error) error {
	return Errors{{File: path, Message: "cannot be changed: " + reason(err), Err: err}}
}
