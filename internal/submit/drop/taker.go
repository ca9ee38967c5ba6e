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
	"sync"
	"time"

	"mailout/internal/mta"
	"mailout/internal/submit"
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
	// retryAfter is the pause after a message that cannot be taken at the
	// moment: a full disk, little memory.
	retryAfter = 5 * time.Second
	// staleAfter is when a file that never got its name is given up.
	staleAfter = 24 * time.Hour
	// workers take messages side by side, so that they share syncs.
	workers = 8
	// maxTold bounds the names that a complaint is not repeated for.
	maxTold = 1000
)

// Taker takes messages out of a folder. Start it once, Stop it once.
type Taker struct {
	opts   Options
	log    *slog.Logger
	signal chan struct{} // files came; one may be pending

	stop    chan struct{}   // closed: take no further file
	base    context.Context // of intake's calls; ends when work is abandoned
	abandon context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended

	mu struct {
		sync.Mutex
		told map[string]struct{} // names that were complained of and stay
	}
}

// NewTaker makes a taker; nothing runs before Start.
func NewTaker(o Options) *Taker {
	if o.Poll <= 0 {
		o.Poll = defaultPoll
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Taker{
		opts: o, log: o.Logger, signal: make(chan struct{}, 1),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	t.mu.told = map[string]struct{}{}
	return t
}

// Start prepares the folder and begins to take in what is there, and what
// comes. ctx gives intake's calls their values; its end does not stop the
// taker, Stop does.
func (t *Taker) Start(ctx context.Context) error {
	if err := t.opts.Folder.Prepare(); err != nil {
		return err
	}
	t.base, t.abandon = context.WithCancel(context.WithoutCancel(ctx))
	unwatch := watch(t.opts.Folder.fresh(), t.signal)
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
			pause = retryAfter
			if !t.wait(retryAfter) {
				return
			}
		}
		timer.Reset(pause)
	}
}

// wait sits out a shortage, whatever comes meanwhile; false when stopped.
func (t *Taker) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.stop:
		return false
	}
}

func (t *Taker) stopping() bool {
	select {
	case <-t.stop:
		return true
	default:
		return false
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
		names, err := dir.Readdirnames(pageOfNames)
		slices.Sort(names) // by age, as far as one page goes
		if !t.page(names) {
			return false
		}
		if errors.Is(err, io.EOF) || t.stopping() {
			return true
		}
		if err != nil {
			t.complain("", "the drop folder cannot be read", err)
			return false
		}
	}
}

// page takes the files named, workers at a time.
func (t *Taker) page(names []string) bool {
	var all sync.WaitGroup
	work := make(chan string)
	var mu sync.Mutex
	short := false
	isShort := func() bool { mu.Lock(); defer mu.Unlock(); return short }
	for range min(workers, len(names)) {
		all.Go(func() {
			for name := range work {
				if !t.file(name) {
					mu.Lock()
					short = true
					mu.Unlock()
				}
			}
		})
	}
	for _, name := range names {
		if isShort() || t.stopping() {
			break
		}
		work <- name
	}
	close(work)
	all.Wait()
	return !short
}

// file deals with one name; false says that the message must wait.
func (t *Taker) file(name string) bool {
	if strings.HasPrefix(name, ".") {
		t.sweep(name)
		return true
	}
	request, err := t.take(name)
	var refusal *submit.Refusal
	switch {
	case err == nil || errors.Is(err, submit.ErrTaken):
		t.remove(name)
		return true
	case errors.Is(err, fs.ErrNotExist): // its owner took it back
		return true
	case errors.Is(err, ErrForm), errors.Is(err, fs.ErrPermission):
		t.aside(name, err)
		return true
	case !errors.As(err, &refusal):
		t.complain(name, "a file of the drop folder cannot be read; it stays there", err)
		return true
	case refusal.Reply.Code < 500 && refusal.Reply.Enhanced != tooMany:
		t.complain(name, "a message waits in the drop folder", err)
		return false
	}
	if !t.report(name, request, refusal) {
		return false
	}
	t.aside(name, err)
	return true
}

// tooMany is the enhanced code of too many recipients: in SMTP the client sends
// the others in a second transaction (RFC 5321 4.5.3.1.10), a file cannot.
var tooMany = mta.Enhanced{Class: 4, Subject: 5, Detail: 3}

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
	file, err := os.OpenFile(path, os.O_RDONLY|noFollow, 0)
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
	if !os.SameFile(before, info) || links(info) != 1 {
		return nil, fmt.Errorf("%w: it has other names as well", ErrForm)
	}
	request, content, err := Read(file)
	if err != nil {
		return nil, err
	}
	if request.ID != id {
		return nil, fmt.Errorf("%w: the ID in it, %s, is not its name", ErrForm, request.ID)
	}
	request.Origin.User = ownerOf(info)
	return request, t.hand(request, content)
}

func (t *Taker) hand(request *submit.Request, content io.Reader) error {
	draft, err := t.opts.Intake.Begin(t.base, request)
	if err != nil {
		return err
	}
	defer draft.Abort()
	if _, err := io.Copy(draft, content); err != nil {
		return err
	}
	_, err = draft.Commit(t.base)
	return err
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
	key := name + "\x00" + what
	t.mu.Lock()
	_, before := t.mu.told[key]
	if len(t.mu.told) >= maxTold {
		clear(t.mu.told)
	}
	t.mu.told[key] = struct{}{}
	t.mu.Unlock()
	if !before {
		t.log.Error(what, mta.KeyPath, filepath.Join(t.opts.Folder.fresh(), name), mta.KeyError, err)
	}
}
