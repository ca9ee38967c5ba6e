package pickup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"mailout/internal/account"
	"mailout/internal/submit"
	"mailout/internal/submit/filedoor"
)

// errChanging says that somebody writes to a file that was taken.
var errChanging = errors.New("somebody still writes to it")

// take hands one message of the private room to intake.
func (t *Taker) take(d directory, it *item) error {
	if it.file == "" { // an envelope whose message is done with
		return nil
	}
	if it.staged {
		if err := d.complete(it); err != nil {
			return err
		}
	}
	var beside *envelope
	if it.beside != "" {
		f, _, err := d.regular(it.beside)
		if err != nil {
			return err
		}
		defer f.Close()
		if beside, err = readEnvelope(f); err != nil {
			return err
		}
	}
	f, info, err := d.regular(it.file)
	if err != nil {
		return err
	}
	defer f.Close()
	request, content, err := readMessage(it.id, f, info.Size(), beside)
	if err != nil {
		return err
	}
	request.Origin.User = filedoor.OwnerOf(info)
	if err := t.permit(request, beside); err != nil {
		return err
	}
	return filedoor.Hand(t.base, t.opts.Intake, request, &unchanged{content, f, info})
}

// permit applies what holds for the directory, and for its user if it has one.
func (t *Taker) permit(r *submit.Request, beside *envelope) error {
	r.Stream = t.opts.Stream
	own := beside != nil && beside.Stream != ""
	if own {
		r.Stream = beside.Stream
	}
	u := t.opts.User()
	if u == nil {
		r.User = &account.User{Name: "this directory", From: t.opts.From}
	} else {
		r.User, r.Origin.User = u, u.Name
		if u.Stream != "" && own && beside.Stream != u.Stream {
			return fmt.Errorf("%w: its stream must be %q, which is the user's", ErrForm, u.Stream)
		}
		if u.Stream != "" {
			r.Stream = u.Stream
		}
	}
	if from := r.Envelope.Sender; from != "" && !r.User.From.Allow(from) {
		return submit.NotPermitted(r.User, "sender", from)
	}
	return nil
}

// regular opens a file of the private room. A second name may be a trick: a file
// of somebody else's, put here to be mailed or to be removed.
func (d directory) regular(name string) (*os.File, fs.FileInfo, error) {
	path := filepath.Join(takenRoom, name)
	before, err := d.Lstat(path)
	if err != nil {
		return nil, nil, err
	}
	if !before.Mode().IsRegular() { // opening a device would do something
		return nil, nil, fmt.Errorf("%w: it is no regular file", ErrForm)
	}
	f, err := d.OpenFile(path, os.O_RDONLY|filedoor.NoFollow, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && (!os.SameFile(before, info) || filedoor.Links(info) != 1) {
		err = fmt.Errorf("%w: it has other names as well", ErrForm)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// unchanged reads a file, and fails at its end if the file is another by then.
type unchanged struct {
	io.Reader
	file *os.File
	info fs.FileInfo
}

// Read implements io.Reader.
func (u *unchanged) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	now, serr := u.file.Stat()
	switch {
	case serr != nil:
		return n, serr
	case now.Size() != u.info.Size() || !now.ModTime().Equal(u.info.ModTime()):
		return n, errChanging
	}
	return n, err
}
