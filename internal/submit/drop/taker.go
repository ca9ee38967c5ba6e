package drop

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/submit"
	"mailout/internal/submit/filedoor"
)

// Options are what a Taker is made of.
type Options struct {
	Folder Folder
	// Intake takes the messages.
	Intake submit.Acceptor
	// Report tells the sender of a message that intake refuses for good; nil
	// tells nobody but the log.
	Report func(context.Context, *submit.Request, *submit.Refusal) error
	Logger *slog.Logger
	// Poll is the time between looks at the folder where the system signals
	// new files; default 30 s. Elsewhere it is pollBlind at most.
	Poll time.Duration
}

const (
	defaultPoll = 30 * time.Second
	pollBlind   = 2 * time.Second
	// staleAfter is when a file that never got its name is given up.
	staleAfter = 24 * time.Hour
)

// Taker takes messages out of a folder. Start it once, Stop it once.
type Taker struct {
	opts   Options
	log    *slog.Logger
	said   *filedoor.Complaints // files that were complained of and stay
	signal chan struct{}        // files came; one may be pending

	stop    chan struct{}   // closed: take no further file
	base    context.Context // of intake's calls; ends when work is abandoned
	abandon context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended
}

// NewTaker makes a taker; nothing runs before Start.
func NewTaker(o Options) *Taker {
	if o.Poll <= 0 {
		o.Poll = defaultPoll
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Taker{
		opts: o, log: o.Logger, said: filedoor.NewComplaints(o.Logger), signal: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// Start prepares the folder and begins to take in what is there, and what
// comes. ctx gives intake's calls their values; its end does not stop the
// taker, Stop does.
func (t *Taker) Start(ctx context.Context) error {
	if err := t.opts.Folder.Prepare(); err != nil {
		return err
	}
	t.base, t.abandon = context.WithCancel(context.WithoutCancel(ctx))
	unwatch := filedoor.Watch(t.opts.Folder.fresh(), filedoor.Arrived, t.came)
	poll := t.opts.Poll
	if unwatch == nil {
		unwatch, poll = func() {}, min(poll, pollBlind)
	}
	go func() {
		defer close(t.done)
		defer unwatch()
		t.run(poll)
	}()
	return nil
}

// came says that there is something to look at.
func (t *Taker) came(string, filedoor.Event) {
	select {
	case t.signal <- struct{}{}:
	default: // one is pending
	}
}

// Stop ends the taking: no further file is begun, and those under way may end
// until ctx does; then they are given up, and stay in the folder.
func (t *Taker) Stop(ctx context.Context) error {
	if t.base == nil {
		return nil
	}
	close(t.stop)
	select {
	case <-t.done:
	case <-ctx.Done():
		t.abandon()
		<-t.done
	}
	t.abandon()
	return nil
}

// run makes passes over the folder until Stop.
func (t *Taker) run(poll time.Duration) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-timer.C:
		case <-t.signal:
		}
		pause := poll
		if !t.pass() {
			pause = filedoor.RetryAfter
			if !filedoor.Pause(pause, t.stop) {
				return
			}
		}
		timer.Reset(pause)
	}
}

// pass looks at every file once. It ends early, with false, when a message
// cannot be taken at the moment: neither could the others.
func (t *Taker) pass() bool {
	dir, err := os.Open(t.opts.Folder.fresh())
	if err != nil {
		t.complain("", "the drop folder cannot be read", err)
		return false
	}
	defer dir.Close()
	for {
		names, err := dir.Readdirnames(filedoor.PageOfNames)
		slices.Sort(names) // by age, as far as one page goes
		if !filedoor.Each(names, t.stop, t.file) {
			return false
		}
		if errors.Is(err, io.EOF) || filedoor.Closed(t.stop) {
			return true
		}
		if err != nil {
			t.complain("", "the drop folder cannot be read", err)
			return false
		}
	}
}

// file deals with one name; false says that the message must wait.
func (t *Taker) file(name string) bool {
	if strings.HasPrefix(name, ".") {
		t.sweep(name)
		return true
	}
	var request *submit.Request
	err := t.said.Guard(filepath.Join(t.opts.Folder.fresh(), name), func() (err error) {
		request, err = t.take(name)
		return err
	})
	refusal, waits := filedoor.Waits(err)
	switch {
	case err == nil || errors.Is(err, submit.ErrTaken):
		t.remove(name)
		return true
	case errors.Is(err, fs.ErrNotExist): // its owner took it back
		return true
	case errors.Is(err, ErrForm), errors.Is(err, fs.ErrPermission):
		t.aside(name, err)
		return true
	case err != nil && refusal == nil:
		t.complain(name, "a file of the drop folder cannot be read; it stays there", err)
		return true
	case waits:
		t.complain(name, "a message waits in the drop folder", err)
		return false
	}
	if !t.report(name, request, refusal) {
		return false
	}
	t.aside(name, err)
	return true
}

// report tells the sender of a refusal; false when that must wait.
func (t *Taker) report(name string, request *submit.Request, refusal *submit.Refusal) bool {
	if t.opts.Report == nil {
		return true
	}
	if err := t.opts.Report(t.base, request, refusal); err != nil {
		t.complain(name, "a message of the drop folder is refused, and its sender cannot be told at the moment", err)
		return false
	}
	return true
}

// take hands one file to intake.
func (t *Taker) take(name string) (*submit.Request, error) {
	id, err := mta.ParseID(name)
	if err != nil || id.String() != name {
		return nil, fmt.Errorf("%w: its name %q is %w", ErrForm, name, mta.ErrID)
	}
	path := filepath.Join(t.opts.Folder.fresh(), name)
	before, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() { // opening a device would do something
		return nil, fmt.Errorf("%w: it is no regular file", ErrForm)
	}
	file, err := os.OpenFile(path, os.O_RDONLY|filedoor.NoFollow, 0)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	// A second name may be a trick: a file of somebody else's, put here to be
	// mailed or to be removed.
	if !os.SameFile(before, info) || filedoor.Links(info) != 1 {
		return nil, fmt.Errorf("%w: it has other names as well", ErrForm)
	}
	request, content, err := Read(file)
	if err != nil {
		return nil, err
	}
	if request.ID != id {
		return nil, fmt.Errorf("%w: the ID in it, %s, is not its name", ErrForm, request.ID)
	}
	request.Origin.User = filedoor.OwnerOf(info)
	return request, filedoor.Hand(t.base, t.opts.Intake, request, content)
}

// remove ends a file whose message intake has. If it stays, the next pass is
// told submit.ErrTaken.
func (t *Taker) remove(name string) {
	err := os.Remove(filepath.Join(t.opts.Folder.fresh(), name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.complain(name, "a file of the drop folder was taken in and cannot be removed", err)
	}
}

// sweep removes a file that never got its name: its writer has died, and has
// told nobody that the message was accepted.
func (t *Taker) sweep(name string) {
	path := filepath.Join(t.opts.Folder.fresh(), name)
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || time.Since(info.ModTime()) < staleAfter {
		return
	}
	t.remove(name)
}

// aside moves a file that cannot become mail to the room for bad ones. The
// reason is written first: a crash between the two leaves a reason without a
// file, and the file comes again.
func (t *Taker) aside(name string, why error) {
	kept := name
	if _, err := mta.ParseID(name); err != nil {
		sum := sha256.Sum256([]byte(name)) // its own name may have any octets
		kept = "stray-" + hex.EncodeToString(sum[:8])
	}
	target := filepath.Join(t.opts.Folder.bad(), kept)
	text := fmt.Sprintf("%s: %q: %v\n", time.Now().UTC().Format(time.RFC3339), name, why)
	err := os.WriteFile(target+".reason", []byte(text), 0o600)
	if err == nil {
		err = os.Rename(filepath.Join(t.opts.Folder.fresh(), name), target)
	}
	if err != nil {
		t.complain(name, "a file of the drop folder cannot become mail, nor be moved aside", errors.Join(why, err))
		return
	}
	t.log.Error("a file of the drop folder cannot become mail; it was moved aside", mta.KeyPath, target, mta.KeyError, why)
}

// complain says something once for each name.
func (t *Taker) complain(name, what string, err error) {
	t.said.Tell(filepath.Join(t.opts.Folder.fresh(), name), what, err)
}
