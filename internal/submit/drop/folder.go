package drop

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mailout/internal/submit/filedoor"
)

// ErrFolder says that the folder is not as it must be; its text says what to do.
var ErrFolder = errors.New("drop folder")

// ErrLittleSpace says that the folder's disk is nearly full.
var ErrLittleSpace = errors.New("the disk of the drop folder is nearly full")

// Folder is a drop folder, by the path of its directory.
type Folder string

func (f Folder) fresh() string { return filepath.Join(string(f), "new") }
func (f Folder) bad() string   { return filepath.Join(string(f), "bad") }

// The modes of the rooms. Group may make files in "new" and not list them; the
// set-group-ID bit lets each file have the folder's group, which the daemon is
// in; the sticky bit keeps everybody from others' files.
const (
	freshMode = fs.ModeSetgid | fs.ModeSticky | 0o730
	badMode   = 0o700
)

// Prepare makes what is missing of the folder, for the daemon, and refuses one
// whose rooms are not its own, or open to others' eyes. It changes no mode that
// somebody chose.
func (f Folder) Prepare() error {
	if err := os.MkdirAll(string(f), 0o711); err != nil {
		return fmt.Errorf("%w: %w", ErrFolder, err)
	}
	for _, room := range []struct {
		path string
		mode fs.FileMode
	}{{f.fresh(), freshMode}, {f.bad(), badMode}} {
		if err := prepareRoom(room.path, room.mode); err != nil {
			return fmt.Errorf("%w: %w", ErrFolder, err)
		}
	}
	return nil
}

func prepareRoom(path string, mode fs.FileMode) error {
	err := os.Mkdir(path, 0o700)
	if err == nil {
		err = os.Chmod(path, mode) // beyond the umask
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	perm := info.Mode()
	switch {
	case !perm.IsDir():
		return fmt.Errorf("%s is no directory: move it away", path)
	case !filedoor.Ours(info):
		return fmt.Errorf("%s belongs to another user than the daemon's: chown it", path)
	case mode == badMode && perm.Perm()&0o077 != 0:
		return fmt.Errorf("%s holds others' mail and is open to them: chmod 700 %s", path, path)
	case perm.Perm()&0o004 != 0:
		return fmt.Errorf("%s can be listed by everybody: chmod o-r %s", path, path)
	case perm.Perm()&0o022 != 0 && perm&fs.ModeSticky == 0:
		return fmt.Errorf("in %s one user could remove another's mail: chmod +t %s", path, path)
	}
	return nil
}

// Put leaves a message in the folder: when it returns nil, the message is on
// stable storage under its final name. Less than minFree octets of free space
// behind it is ErrLittleSpace.
//
// A crash before the rename leaves a file with a leading dot, which is no
// message and goes after a day; the file's octets are synced before the rename
// and the name after it, so that no name stands for half a message.
func (f Folder) Put(e *Entry, content io.Reader, minFree int64) error {
	if free, known := freeSpace(f.fresh()); known && free < minFree {
		return ErrLittleSpace
	}
	temp := filepath.Join(f.fresh(), "."+e.ID.String())
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|filedoor.NoFollow, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := f.fill(file, e, content, minFree); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	name := filepath.Join(f.fresh(), e.ID.String())
	if err := os.Rename(temp, name); err != nil {
		return errors.Join(err, os.Remove(temp))
	}
	if err := syncName(f.fresh(), file); err != nil {
		if gone := os.Remove(name); errors.Is(gone, fs.ErrNotExist) {
			return nil // the daemon has taken it in meanwhile
		}
		return err
	}
	return nil
}

// fill writes the file and syncs it.
func (f Folder) fill(file *os.File, e *Entry, content io.Reader, minFree int64) error {
	if err := f.letDaemonRead(file); err != nil {
		return err
	}
	out := bufio.NewWriterSize(file, 64<<10)
	if _, err := e.WriteTo(out); err != nil {
		return err
	}
	if _, err := io.Copy(out, content); err != nil {
		return err
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if free, known := freeSpace(f.fresh()); known && free < minFree {
		return ErrLittleSpace
	}
	return file.Sync()
}

// letDaemonRead opens the file to its group where the daemon, who is taken to
// be the owner of the room, is not its owner and not root.
func (f Folder) letDaemonRead(file *os.File) error {
	room, err := os.Stat(f.fresh())
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return err
	}
	switch readers(room, info) {
	case readByOwner:
		return nil
	case readByGroup:
		return file.Chmod(0o640)
	}
	return fmt.Errorf("%w: files in %s do not get its group, so the daemon could not read them: chmod g+s %s", ErrFolder, f.fresh(), f.fresh())
}

// Count gives how many messages wait in the folder; only its owner may ask.
func (f Folder) Count() (int, error) {
	dir, err := os.Open(f.fresh())
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	n := 0
	for {
		names, err := dir.Readdirnames(filedoor.PageOfNames)
		for _, name := range names {
			if !strings.HasPrefix(name, ".") {
				n++
			}
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}
