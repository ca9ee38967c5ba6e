package pickup

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/submit"
	"mailout/internal/submit/filedoor"
)

// Options are what a Taker is made of.
type Options struct {
	Directory string
	Bad       string // name of the room for files that cannot become mail
	Done      string // name of the room for messages that were taken; empty: they are removed
	// Quiet is how long a file that was not renamed into the directory must be
	// unchanged before it is taken; default 5 s.
	Quiet time.Duration
	// Poll is the time between looks at the directory where the system signals
	// new files; default 30 s. Elsewhere it is 2 s at most.
	Poll   time.Duration
	Stream string // of messages that name none
	// User gives whose permissions, stream and rate hold; it is asked for each
	// message. nil, or one that gives nil: only From holds.
	User func() *account.User
	From account.Senders // addresses that may send; nil: any
	// Intake takes the messages.
	Intake submit.Acceptor
	Logger *slog.Logger
	Now    func() time.Time // nil: time.Now
}

const (
	defaultQuiet = 5 * time.Second
	defaultPoll  = 30 * time.Second
	pollBlind    = 2 * time.Second
	// batch is how many messages are taken over at once, for one sync.
	batch = 256
	// linkedFor is how long a file may have a second name: programs that give a
	// file its name by link and unlink need a moment.
	linkedFor = time.Minute
	// gap is the least time between passes that find nothing, however many
	// files are being written.
	gap = 100 * time.Millisecond
)

// Taker takes messages out of one directory. Start it once, Stop it once.
type Taker struct {
	opts   Options
	log    *slog.Logger
	said   *filedoor.Complaints
	signal chan struct{} // files came; one may be pending

	stop    chan struct{}   // closed: take no further file
	base    context.Context // of intake's calls; ends when work is abandoned
	abandon context.CancelFunc
	done    chan struct{} // closed when the goroutine has ended

	// Of the goroutine alone.
	looks   *looks
	known   fs.FileInfo // the directory that was checked, and is watched
	unwatch func()      // nil: it is not watched
	took    bool        // the last pass took something

	again   atomic.Bool // a message stays in the private room for a while
	suspect atomic.Bool // something went wrong: the directory is checked again
}

// NewTaker makes a taker; nothing runs before Start.
func NewTaker(o Options) *Taker {
	if o.Quiet <= 0 {
		o.Quiet = defaultQuiet
	}
	if o.Poll <= 0 {
		o.Poll = defaultPoll
	}
	if len(o.From) == 0 {
		o.From = account.Senders{"*"}
	}
	if o.User == nil {
		o.User = func() *account.User { return nil }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Taker{
		opts: o, log: o.Logger, said: filedoor.NewComplaints(o.Logger), looks: newLooks(o.Now()),
		signal: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
}

// Prepare makes what is missing of the directory and checks it, so that Start
// cannot fail for its sake. The error is ErrDirectory.
func (t *Taker) Prepare() error {
	d, _, err := open(t.opts.Directory, t.opts.Bad, t.opts.Done, nil)
	if err != nil {
		return err
	}
	return d.Close()
}

// Start begins to take in what is in the directory, and what comes. ctx gives
// intake's calls their values; its end does not stop the taker, Stop does.
func (t *Taker) Start(ctx context.Context) {
	t.base, t.abandon = context.WithCancel(context.WithoutCancel(ctx))
	go func() {
		defer close(t.done)
		t.run()
		t.watch(nil)
	}()
}

// Stop ends the taking: no further file is begun, and those under way may end
// until ctx does; then they are given up, and wait in the private room.
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

// run makes passes over the directory until Stop.
func (t *Taker) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-t.stop:
			return
		case <-timer.C:
		case <-t.signal:
		}
		pause, short := t.pass()
		switch {
		case short: // whatever comes meanwhile
			if !filedoor.Pause(pause, t.stop) {
				return
			}
			pause = 0
		case !t.took:
			if !filedoor.Pause(gap, t.stop) {
				return
			}
		}
		timer.Reset(pause)
	}
}

// watch begins to watch the directory, instead of another one.
func (t *Taker) watch(directory fs.FileInfo) {
	if t.unwatch != nil {
		t.unwatch()
		t.unwatch = nil
	}
	t.looks.forget()
	if t.known = directory; directory != nil {
		t.unwatch = filedoor.Watch(t.opts.Directory, filedoor.Arrived|filedoor.Written|filedoor.Changed, t.seen)
	}
}

// seen is told what happens to names; it runs in the watch's goroutine.
func (t *Taker) seen(name string, what filedoor.Event) {
	switch {
	case what == filedoor.Changed:
		t.looks.change(name)
		return
	case what != filedoor.Missed && !isMessage(name):
		return
	case what == filedoor.Arrived:
		t.looks.arrive(name)
	}
	select {
	case t.signal <- struct{}{}:
	default: // one is pending
	}
}

// pass looks at every file, until one pass finds nothing to take. It gives the
// time to the next; short says that no message can be taken before.
func (t *Taker) pass() (pause time.Duration, short bool) {
	known := t.known
	if t.suspect.Swap(false) {
		known = nil
	}
	d, now, err := open(t.opts.Directory, t.opts.Bad, t.opts.Done, known)
	if err != nil {
		t.tell("", "a pickup directory cannot be used at the moment", err)
		return max(filedoor.RetryAfter, min(t.opts.Poll, time.Minute)), true
	}
	defer d.Close()
	if t.known == nil || !os.SameFile(t.known, now) {
		t.watch(now)
	}
	t.again.Store(false)
	t.took = false
	if !t.handOver(d) { // what a crash or a shortage left
		return filedoor.RetryAfter, true
	}
	for more := true; more && !filedoor.Closed(t.stop); {
		var wait time.Duration
		more, wait = t.scan(d)
		if t.took = t.took || more; wait > 0 {
			return wait, true
		}
	}
	pause = t.opts.Poll
	if t.unwatch == nil {
		pause = min(pause, pollBlind)
	}
	if t.looks.next > 0 {
		pause = min(pause, t.looks.next)
	}
	if t.again.Load() {
		pause = min(pause, t.opts.Quiet)
	}
	return pause, false
}

// scan goes through the directory once, and takes what is complete. wait says
// that no message can be taken for that time.
func (t *Taker) scan(d directory) (took bool, wait time.Duration) {
	dir, err := d.Open(".")
	if err != nil {
		t.tell("", "a pickup directory cannot be read", err)
		return false, filedoor.RetryAfter
	}
	defer dir.Close()
	t.looks.begin()
	for {
		names, err := dir.Readdirnames(filedoor.PageOfNames)
		names = slices.DeleteFunc(names, func(name string) bool { return !isMessage(name) })
		slices.Sort(names)
		for part := range slices.Chunk(names, batch) {
			n, wait := t.gather(d, part)
			if took = took || n > 0; n > 0 && !t.handOver(d) {
				return took, filedoor.RetryAfter
			}
			if wait > 0 {
				return took, wait
			}
		}
		if errors.Is(err, io.EOF) || filedoor.Closed(t.stop) {
			return took, 0
		}
		if err != nil {
			t.tell("", "a pickup directory cannot be read", err)
			return took, filedoor.RetryAfter
		}
	}
}

// gather takes over those of the files that are complete. When intake would
// refuse, or the rate is used up, they stay.
func (t *Taker) gather(d directory, names []string) (n int, wait time.Duration) {
	for _, name := range names {
		info, err := d.Lstat(name)
		if err != nil || filedoor.Closed(t.stop) {
			continue // its owner took it back
		}
		beside, complete := t.complete(d, name, info)
		if !complete {
			continue
		}
		if wait = t.mustWait(); wait > 0 {
			break
		}
		id, err := newID(t.opts.Now())
		if err == nil {
			err = d.takeOver(id, name, beside)
		}
		switch {
		case err == nil:
			n++
			t.looks.drop(name, beside)
		case !errors.Is(err, fs.ErrNotExist):
			t.tell(name, "a file of a pickup directory cannot be taken; it stays there", err)
		}
	}
	return n, wait
}

// complete reports whether a file is one that nobody writes to any more, and
// gives the name of its envelope, empty when there is none.
func (t *Taker) complete(d directory, name string, info fs.FileInfo) (beside string, ok bool) {
	now := t.opts.Now()
	if !info.Mode().IsRegular() {
		return "", true // to be moved aside
	}
	quiet := t.opts.Quiet
	if filedoor.Links(info) > 1 {
		quiet = max(quiet, linkedFor)
	}
	ok = t.looks.settled(name, info, now, quiet)
	renamed := quiet == t.opts.Quiet && t.looks.renamed(name)
	for _, beside := range besides(name) {
		if info, err := d.Lstat(beside); err == nil {
			still := t.looks.settled(beside, info, now, quiet)
			return beside, renamed || ok && still
		}
	}
	return "", renamed || ok
}

// mustWait tells for how long no message may be taken: intake would refuse each,
// or the user's rate is used up.
func (t *Taker) mustWait() time.Duration {
	if err := t.opts.Intake.Check(t.base, &submit.Request{}); err != nil {
		t.tell("", "messages wait in a pickup directory", err)
		return filedoor.RetryAfter
	}
	u := t.opts.User()
	if u == nil {
		return 0
	}
	return min(u.Spend(t.opts.Now()), time.Minute) // a reload may change the rate
}

func newID(now time.Time) (mta.ID, error) {
	var bits [10]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return mta.ID{}, err
	}
	return mta.NewID(now, bits), nil
}

// handOver gives everything in the private room to intake, once it is durable
// that it is there: else a power cut could bring a message that was stored back
// as a file. false says that something must wait, and so must all else.
func (t *Taker) handOver(d directory) bool {
	all, strays, err := d.items()
	if err != nil {
		t.tell("", "a pickup directory cannot be read", err)
		return false
	}
	for _, name := range strays {
		t.tell(filepath.Join(takenRoom, name), "this file is none that the daemon put there; it is left alone", ErrForm)
	}
	if len(all) == 0 {
		return true
	}
	if err := d.sync(); err != nil {
		t.tell("", "a pickup directory cannot be synced; nothing is taken from it", err)
		return false
	}
	slices.SortFunc(all, func(a, b *item) int { return slices.Compare(a.id[:], b.id[:]) })
	return filedoor.Each(all, t.stop, func(it *item) bool { return t.one(d, it) })
}

// one deals with one message of the private room; false says that it must wait.
func (t *Taker) one(d directory, it *item) bool {
	err := t.said.Guard(filepath.Join(t.opts.Directory, it.name), func() error { return t.take(d, it) })
	refusal, waits := filedoor.Waits(err)
	switch {
	case err == nil || errors.Is(err, submit.ErrTaken):
		if err := d.conclude(it); err != nil {
			t.tell(it.name, "a file of a pickup directory was taken in and cannot be removed", err)
		}
	case waits:
		t.tell(it.name, "a message of a pickup directory waits", err)
		return false
	case refusal != nil, errors.Is(err, ErrForm), errors.Is(err, fs.ErrPermission):
		t.aside(d, it, err)
	default:
		t.again.Store(true)
		t.tell(it.name, "a file of a pickup directory cannot be read; it is tried again", err)
	}
	return true
}

func (t *Taker) aside(d directory, it *item, why error) {
	path, err := d.aside(it, why)
	if err != nil {
		t.tell(it.name, "a file of a pickup directory cannot become mail, nor be moved aside", errors.Join(why, err))
		return
	}
	t.log.Error("a file of a pickup directory cannot become mail; it was moved aside", mta.KeyPath, path, mta.KeyError, why)
}

func (t *Taker) tell(name, what string, err error) {
	t.suspect.Store(true)
	t.said.Tell(filepath.Join(t.opts.Directory, name), what, err)
}
