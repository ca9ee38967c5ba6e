package pickup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"mailout/internal/mta"
	"mailout/internal/submit/filedoor"
)

// ErrDirectory says that a directory is not as it must be; its text says what
// to do.
var ErrDirectory = errors.New("pickup directory")

// takenRoom is the private room: messages that nobody else has any more.
const takenRoom = ".taken"

// directory is a pickup directory while a pass lasts. Paths stay inside it.
type directory struct {
	*os.Root
	bad, done string // rooms; done may be empty
}

// open opens the directory. One that is not the one known is checked, and what
// is missing of it made; a nil one is always another.
func open(path, bad, done string, known fs.FileInfo) (d directory, now fs.FileInfo, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w: %w", ErrDirectory, err)
		}
	}()
	root, err := os.OpenRoot(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(path, 0o700); err == nil {
			root, err = os.OpenRoot(path)
		}
	}
	if err != nil {
		return directory{}, nil, err
	}
	d = directory{root, bad, done}
	if now, err = d.Stat("."); err == nil && (known == nil || !os.SameFile(known, now)) {
		err = d.check(now)
	}
	if err != nil {
		root.Close()
		return directory{}, nil, err
	}
	return d, now, nil
}

// check makes the rooms, and refuses a directory in which users could take each
// other's mail away, or that the daemon cannot empty. It changes no mode that
// somebody chose.
func (d directory) check(info fs.FileInfo) (err error) {
	sticky := info.Mode()&fs.ModeSticky != 0
	switch {
	case info.Mode().Perm()&0o002 != 0 && !sticky:
		return fmt.Errorf("in %s one user could remove another's mail: chmod +t %s", d.Name(), d.Name())
	case sticky && !filedoor.Ours(info):
		return fmt.Errorf("%s is sticky and belongs to another user, so the daemon could not take files out of it: chown it", d.Name())
	}
	for _, room := range []string{takenRoom, d.bad, d.done} {
		if err := d.checkRoom(room); room != "" && err != nil {
			return err
		}
	}
	// Whether the daemon may take names out is known when it has done so.
	const probe = takenRoom + ".probe"
	if err := d.Mkdir(probe, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return d.Remove(probe)
}

// checkRoom makes a room if it is missing. What is in it was sent by others than
// those who may look into the directory: nobody else may change the names there.
func (d directory) checkRoom(name string) error {
	err := d.Mkdir(name, 0o700)
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := d.Lstat(name)
	if err != nil {
		return err
	}
	self, err := d.Lstat(".")
	if err != nil {
		return err
	}
	path := filepath.Join(d.Name(), name)
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is no directory: move it away", path)
	case filedoor.Identity(info)[0] != filedoor.Identity(self)[0]:
		return fmt.Errorf("%s is on another file system, where no file can be moved in one step: choose a place in %s", path, d.Name())
	case !filedoor.Ours(info):
		return fmt.Errorf("%s belongs to another user than the daemon's: chown it", path)
	case name == takenRoom && info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s can be written to by others than the daemon: chmod 700 %s", path, path)
	}
	return nil
}

// sync makes the names in the directory and in the private room durable. Network
// file systems that cannot sync a directory keep names at once.
func (d directory) sync() error {
	for _, room := range []string{takenRoom, "."} {
		dir, err := d.Open(room)
		if err != nil {
			return err
		}
		err = dir.Sync()
		if dir.Close(); err != nil && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	return nil
}

// isMessage reports whether a name is one that is picked up; anything else in
// the directory is nobody's business.
func isMessage(name string) bool {
	return !strings.HasPrefix(name, ".") && strings.EqualFold(filepath.Ext(name), ".eml")
}

func stem(name string) string { return strings.TrimSuffix(name, filepath.Ext(name)) }

// besides are the names that the envelope of a message may have.
func besides(name string) []string { return []string{stem(name) + ".json", stem(name) + ".JSON"} }

// item is one message in the private room.
type item struct {
	id     mta.ID
	name   string // of its file before it was taken, cut if it was very long
	file   string // its name in the room; empty: only the envelope is there
	beside string // of its envelope in the room; empty: there is none
	staged bool   // it is not known yet whether it has an envelope
}

// The names in the private room: the ID, a dash, and the name that the file had;
// stagedMark stands behind that of a message whose envelope is to follow.
const (
	stagedMark = "~"
	maxName    = 220 // octets of the name that are kept
)

func takenName(id mta.ID, name string) string {
	if extra := len(name) - maxName; extra > 0 {
		name = stem(name)[:max(0, len(stem(name))-extra)] + filepath.Ext(name)
	}
	return id.String() + "-" + name
}

// takeOver moves a message into the private room, with its envelope if beside
// names one. Then the message is staged at first: its name says so until its
// envelope is there too, so that no crash parts the two.
func (d directory) takeOver(id mta.ID, name, beside string) error {
	target := filepath.Join(takenRoom, takenName(id, name))
	if beside == "" {
		return d.Rename(name, target)
	}
	if err := d.Rename(name, target+stagedMark); err != nil {
		return err
	}
	if d.Rename(beside, filepath.Join(takenRoom, takenName(id, beside))) == nil {
		_ = d.Rename(target+stagedMark, target) // what failed here is completed later, or told then
	}
	return nil
}

// errEnvelopeGone says that a message had an envelope which is not there now.
var errEnvelopeGone = fmt.Errorf("%w: the .json file beside it is gone", ErrForm)

// complete does what a crash left undone of a takeOver.
func (d directory) complete(it *item) error {
	for _, beside := range besides(it.name) {
		if it.beside != "" {
			break
		}
		taken := takenName(it.id, beside)
		err := d.Rename(beside, filepath.Join(takenRoom, taken))
		if err == nil {
			it.beside = taken
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if it.beside == "" {
		return errEnvelopeGone
	}
	whole := strings.TrimSuffix(it.file, stagedMark)
	if err := d.Rename(filepath.Join(takenRoom, it.file), filepath.Join(takenRoom, whole)); err != nil {
		return err
	}
	it.file, it.staged = whole, false
	return d.sync()
}

// conclude ends a message that intake has: the message first, so that an
// envelope alone is that of one which is done with.
func (d directory) conclude(it *item) error {
	for _, name := range []string{it.file, it.beside} {
		if name == "" {
			continue
		}
		from := filepath.Join(takenRoom, name)
		var err error
		if d.done == "" {
			err = d.Remove(from)
		} else {
			err = d.Rename(from, filepath.Join(d.done, name))
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// aside moves a message that cannot become mail to the room for bad ones, and
// gives its path there. The reason is written first. A message with an envelope
// is staged again while both move: a crash then leaves one that lacks its
// envelope, which is bad too, and comes to the same names.
func (d directory) aside(it *item, why error) (string, error) {
	if it.beside != "" && !it.staged {
		staged := it.file + stagedMark
		if err := d.Rename(filepath.Join(takenRoom, it.file), filepath.Join(takenRoom, staged)); err != nil {
			return "", err
		}
		it.file, it.staged = staged, true
	}
	name := it.name
	if _, err := d.Lstat(filepath.Join(d.bad, name)); err == nil {
		name = it.id.String() + "-" + name
	}
	target := filepath.Join(d.bad, name)
	text := fmt.Sprintf("%s: %q: %v\n", time.Now().UTC().Format(time.RFC3339), it.name, why)
	if err := d.writeReason(stem(target)+".reason", text); err != nil {
		return "", err
	}
	if it.beside != "" {
		if err := d.Rename(filepath.Join(takenRoom, it.beside), stem(target)+filepath.Ext(it.beside)); err != nil {
			return "", err
		}
	}
	return filepath.Join(d.Name(), target), d.Rename(filepath.Join(takenRoom, it.file), target)
}

// writeReason writes a file, which its name may not lead elsewhere.
func (d directory) writeReason(name, text string) error {
	if err := d.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := d.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// items gives what is in the private room, by ID, and the names there that are
// nobody's.
func (d directory) items() (all []*item, strays []string, err error) {
	dir, err := d.Open(takenRoom)
	if err != nil {
		return nil, nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, nil, err
	}
	byID := map[mta.ID]*item{}
	for _, name := range names {
		id, rest, ok := splitTaken(name)
		if !ok {
			strays = append(strays, name)
			continue
		}
		it := byID[id]
		if it == nil {
			it = &item{id: id}
			byID[id] = it
			all = append(all, it)
		}
		if strings.EqualFold(filepath.Ext(rest), ".json") {
			it.beside = name
			continue
		}
		it.file = name
		it.name, it.staged = strings.CutSuffix(rest, stagedMark)
	}
	return all, strays, nil
}

// splitTaken takes a name in the private room apart.
func splitTaken(name string) (id mta.ID, rest string, ok bool) {
	text, rest, found := strings.Cut(name, "-")
	id, err := mta.ParseID(text)
	base := strings.TrimSuffix(rest, stagedMark)
	return id, rest, found && err == nil && (isMessage(base) || base == rest && strings.EqualFold(filepath.Ext(rest), ".json"))
}
