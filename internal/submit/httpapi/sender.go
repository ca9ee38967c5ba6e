package httpapi

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/rest"
	"mailout/internal/spool"
	"mailout/internal/submit"
)

// Options are what a Sender stands on. All are needed, but for Memory and Now.
type Options struct {
	Intake       submit.Acceptor
	Reservations spool.Reservations
	Limits       func() Limits // asked for each request
	// Memory bounds the octets that requests hold at once; default
	// DefaultMemory. A request that needs more has it for itself alone.
	Memory int64
	Now    func() time.Time // nil: time.Now
}

// DefaultMemory is the default of Options.Memory.
const DefaultMemory = 256 << 20

// Sender hands messages to intake for doors that speak HTTP. It is safe for
// concurrent use and starts no goroutine that outlives a call.
type Sender struct {
	opts   Options
	memory memory
	keys   keyLocks
}

// NewSender makes a Sender.
func NewSender(o Options) *Sender {
	if o.Memory <= 0 {
		o.Memory = DefaultMemory
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Sender{opts: o}
	s.memory.total = o.Memory
	return s
}

// Send takes messages. All are checked before the first is taken; what is wrong
// is told as a *rest.Problem, whose field begins with "messages[i]." when there
// are several. Then each is taken by itself: a result with an ID is a message
// on stable storage, one with Err could not be taken (a disk that fills up). The
// error is not nil when none was taken.
//
// user is who sends, nil whoever may do everything. key is the Idempotency-Key,
// or empty: with the same key, user and messages a message is taken once within
// KeyLife, and the results are those of the first time. Requests to be seen as
// the same must come with the same messages in the same order.
func (s *Sender) Send(ctx context.Context, user *account.User, key string, messages ...*Message) ([]Result, error) {
	return s.send(ctx, user, key, listed(messages))
}

// SendBatch takes the messages of a batch, as Send does.
func (s *Sender) SendBatch(ctx context.Context, user *account.User, key string, b *Batch) ([]Result, error) {
	if b.Messages != nil {
		return s.send(ctx, user, key, listed(b.Messages))
	}
	t, err := b.templates(s.opts.Limits())
	if err != nil {
		return nil, err
	}
	release, err := s.holdExcess(ctx, t)
	if err != nil {
		return nil, err
	}
	defer release()
	return s.send(ctx, user, key, source{n: len(b.Recipients), message: t.message, field: t.field})
}

// source gives the messages of a call one by one: those of a batch are large
// together, and each is written when it is needed.
type source struct {
	n       int
	message func(i int) (*Message, error)
	field   func(i int, field string) string // where the caller has written a field of message i
}

func listed(messages []*Message) source {
	return source{
		n:       len(messages),
		message: func(i int) (*Message, error) { return messages[i], nil },
		field: func(i int, field string) string {
			if len(messages) == 1 {
				return field
			}
			at := fmt.Sprintf("messages[%d]", i)
			if field != "" {
				at += "." + field
			}
			return at
		},
	}
}

// locate names in a problem where its field is in the request.
func (src *source) locate(i int, err error) error {
	p := problemOf(err)
	p.Field = src.field(i, p.Field)
	return p
}

// call is one request under way.
type call struct {
	sender *Sender
	ctx    context.Context // of the request
	user   *account.User
	src    source
	limits Limits
	now    time.Time
	origin mta.Origin

	key     [16]byte // zero: none
	request [16]byte // hash of what is asked, when there is a key
	built   [][]byte // content of each message; nil where it is to be built anew
	kept    []func() // give back the memory of what is built
	taken   map[uint32]mta.ID
}

func (s *Sender) newCall(ctx context.Context, user *account.User, src source) *call {
	return &call{sender: s, ctx: ctx, user: user, src: src, limits: s.opts.Limits(), now: s.opts.Now(), origin: originOf(ctx, user)}
}

func (s *Sender) send(ctx context.Context, user *account.User, key string, src source) ([]Result, error) {
	if src.n == 0 || src.n > MaxBatch {
		return nil, invalid("messages", "1 to %d messages are taken at once", MaxBatch)
	}
	c := s.newCall(ctx, user, src)
	defer c.forget()
	if err := c.check(key != ""); err != nil {
		return nil, err
	}
	unlock, err := c.reserve(key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := c.spend(src.n - len(c.taken)); err != nil {
		return nil, err
	}
	return c.takeAll()
}

// reserve finds out what an earlier call with the key has taken, and keeps
// other calls with it waiting until unlock.
func (c *call) reserve(key string) (unlock func(), err error) {
	if key == "" {
		return func() {}, nil
	}
	if c.key, err = hashKey(c.user, key); err != nil {
		return nil, err
	}
	if unlock, err = c.sender.keys.lock(c.ctx, c.key); err != nil {
		return nil, err
	}
	if err := c.lookUp(); err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// lookUp reads what was taken, and refuses a key that was used for something
// else.
func (c *call) lookUp() error {
	found, err := c.sender.opts.Reservations.Reserved(c.ctx, c.key, c.now)
	if err != nil {
		return err
	}
	for _, r := range found {
		if r.Request != c.request {
			return keyReused()
		}
		if c.taken == nil {
			c.taken = make(map[uint32]mta.ID, len(found))
		}
		c.taken[r.Part] = r.Message
	}
	return nil
}

func keyReused() *rest.Problem {
	return &rest.Problem{
		Status: http.StatusUnprocessableEntity, Field: "Idempotency-Key",
		Detail: "this key was used for another request in the last 24 hours: a repeated request must be the same, and another one needs another key",
	}
}

// spend takes n messages of the user's rate.
func (c *call) spend(n int) error {
	if c.user == nil || n == 0 {
		return nil
	}
	wait, ok := c.user.SpendN(c.now, n)
	switch {
	case !ok:
		return invalid("", "%s may send %s: these %d messages are too many at once; make more requests of them", c.user.Name, c.user.Rate, n)
	case wait > 0:
		return &rest.Problem{
			Status: http.StatusTooManyRequests, Retry: wait,
			Detail: fmt.Sprintf("%s has sent its %s, try again in %s", c.user.Name, c.user.Rate, max(wait.Round(time.Second), time.Second)),
		}
	}
	return nil
}

const (
	// keepBuilt bounds the content that is kept from its check until it is
	// taken; what is more is built twice.
	keepBuilt = 16 << 20
	// takers is how many messages of one call are taken side by side, so that
	// they share syncs; those over smallMessage go one by one.
	takers       = 8
	smallMessage = 256 << 10
)

// check looks at every message, and builds it once to do so.
func (c *call) check(hash bool) error {
	c.built = make([][]byte, c.src.n)
	total, most := int64(0), MaxBatchFactor*c.limits.MessageSize
	d := newDigest(hash)
	for i := range c.src.n {
		m, err := c.src.message(i)
		if err != nil {
			return err
		}
		p, err := c.prepare(m)
		if err == nil && m.Raw != nil && len(m.Raw) == 0 {
			err = invalid("raw", "the message is empty")
		}
		if err == nil {
			err = c.sender.opts.Intake.Check(c.ctx, &p.request)
		}
		if err != nil {
			return c.src.locate(i, err)
		}
		d.add(m)
		size := m.size()
		if size > c.limits.MessageSize { // before it is made even larger
			return c.src.locate(i, tooLarge(c.limits.MessageSize, most, 0))
		}
		if p.compose != nil {
			content, err := p.compose.Build()
			if err != nil {
				return c.src.locate(i, err)
			}
			if c.keep(total, content) {
				c.built[i] = content
			}
			size = int64(len(content))
		}
		if total += size; size > c.limits.MessageSize || total > most {
			return c.src.locate(i, tooLarge(c.limits.MessageSize, most, total))
		}
	}
	c.request = d.sum()
	return nil
}

// keep reports whether content may stay in memory until it is taken; total is
// what is built already. The messages of a batch may share texts and files, so
// that together they are much larger than the request that holds memory.
func (c *call) keep(total int64, content []byte) bool {
	if c.src.n == 1 {
		return true
	}
	if total+int64(len(content)) > keepBuilt {
		return false
	}
	release, ok := c.sender.memory.try(int64(cap(content)))
	if ok {
		c.kept = append(c.kept, release)
	}
	return ok
}

// forget gives back the memory of what was built.
func (c *call) forget() {
	for _, release := range c.kept {
		release()
	}
}

func tooLarge(size, most, total int64) *rest.Problem {
	p := &rest.Problem{Status: http.StatusRequestEntityTooLarge, Detail: fmt.Sprintf("the message is larger than %d octets", size)}
	if total > most {
		p.Detail = fmt.Sprintf("the messages of one request may have %d octets together; make more requests of them", most)
	}
	return p
}

// takeAll takes what was not taken before.
func (c *call) takeAll() ([]Result, error) {
	results := make([]Result, c.src.n)
	if c.takers() == 1 {
		for i := range results {
			results[i] = c.takeOne(i)
		}
	} else {
		c.takeTogether(results)
	}
	for i := range results {
		if results[i].Err == nil {
			return results, nil
		}
	}
	return nil, results[0].Err
}

// takeTogether takes messages side by side.
func (c *call) takeTogether(results []Result) {
	next := make(chan int)
	var all sync.WaitGroup
	for range c.takers() {
		all.Go(func() {
			for i := range next {
				results[i] = c.takeOne(i)
			}
		})
	}
	for i := range results {
		next <- i
	}
	close(next)
	all.Wait()
}

func (c *call) takers() int {
	largest := 0
	for _, b := range c.built {
		if b == nil {
			return 1
		}
		largest = max(largest, len(b))
	}
	if largest > smallMessage {
		return 1
	}
	return min(takers, c.src.n)
}

func (c *call) takeOne(i int) Result {
	m, err := c.src.message(i)
	if err != nil {
		return Result{Err: c.src.locate(i, err)}
	}
	p, err := c.prepare(m)
	if err != nil {
		return Result{Err: c.src.locate(i, err)}
	}
	id, repeated := c.taken[uint32(i)]
	if !repeated {
		if id, err = c.take(p, uint32(i)); err != nil {
			return Result{Err: c.src.locate(i, err)}
		}
	}
	return accepted(id, &p.request, repeated)
}

func accepted(id mta.ID, r *submit.Request, repeated bool) Result {
	out := Result{ID: id, Repeated: repeated, Recipients: make([]Recipient, len(r.Recipients))}
	for i := range r.Recipients {
		out.Recipients[i] = Recipient{Address: r.Recipients[i].Address, State: mta.Queued.String()}
		if r.Stopped(r.Recipients[i].Address) {
			out.Recipients[i].State = mta.Failed.String()
		}
	}
	return out
}

// take hands one message to intake.
func (c *call) take(p *prepared, part uint32) (mta.ID, error) {
	content := c.built[part]
	switch {
	case p.compose == nil:
		content = p.raw
	case content == nil:
		var err error
		if content, err = p.compose.Build(); err != nil {
			return mta.ID{}, err
		}
	}
	if c.key != [16]byte{} {
		p.request.Reserve = c.reservation(part)
	}
	p.request.DeclaredSize = int64(len(content))
	draft, err := c.sender.opts.Intake.Begin(c.ctx, &p.request)
	if err != nil {
		return mta.ID{}, err
	}
	defer draft.Abort()
	if _, err := draft.Write(content); err != nil {
		return mta.ID{}, err
	}
	return draft.Commit(c.ctx)
}

func (c *call) reservation(part uint32) *spool.Reservation {
	return &spool.Reservation{Key: c.key, Part: part, Request: c.request, Made: c.now}
}
