package world

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/queue"
	"mailout/internal/retry"
	"mailout/internal/spool"
	"mailout/internal/submit"
	"mailout/internal/transport"
)

// The schedule of the simulation: short, so that virtual days are not needed.
const (
	patience       = 75 * time.Minute
	reportPatience = 30 * time.Minute
	mailingTime    = 20 * time.Minute // during which messages are handed in
	horizon        = 6 * time.Hour    // by then nothing may be left
)

// variant are options that must not change what becomes of mail.
type variant int

// run is the life of one seed.
type run struct {
	seed   uint64
	sites  int
	world  *mtatest.World
	opts   options
	plan   plan
	clock  clock
	log    *slog.Logger
	start  time.Time
	crowds bool // connections in all are so few that mail may wait too long

	dice struct {
		sync.Mutex
		rng *rand.Rand
	}
	mu struct {
		sync.Mutex
		accepted []*accepted
		noted    map[noteKey]note
		stops    int // orderly
		tripped  []string
		crashes  []int
		peaks    map[int]int
	}

	desk     desk
	operated atomic.Bool // the operator has given all commands

	journal []*mta.Record
	left    []string // what is still open at the end
}

// plan is what happens to our side.
type plan struct {
	mails    []mail
	crashes  []crash
	restarts []time.Duration
	jumps    []jump
	orders   []order
}

type mail struct {
	at         time.Duration
	sender     string
	recipients []mta.Recipient
	stream     string
	body       string
	notBefore  time.Duration // since the start; 0: at once
	expires    time.Duration // the same; 0: as the stream
	tags       []string
}

type crash struct {
	at     time.Duration
	writes int // it happens at this write after at, or a little later
	down   time.Duration
	boot   bool // the writes count from the start before: a crash while recovering from another
}

type jump struct{ at, by time.Duration }

// accepted is what the application was told: this message is safe.
type accepted struct {
	id         mta.ID
	messageID  string
	sender     string
	recipients []mta.Recipient
	process    int
}

// noteKey names a journal record; note tells who wrote it, and when in the
// world's time.
type noteKey struct {
	id        mta.ID
	recipient string
	event     mta.Event
	attempt   int
	time      int64
}

type note struct {
	process int
	at      time.Time
}

func keyOf(r *mta.Record) noteKey {
	return noteKey{r.ID, r.Recipient, r.Event, r.Attempt, r.Time.UnixMilli()}
}

func (r *run) note(rec *mta.Record, process int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := keyOf(rec)
	if _, again := r.mu.noted[k]; !again { // a commit that is tried again is the same record
		r.mu.noted[k] = note{process, time.Now()}
	}
}

// newRun makes the world, the operator's options, the mail and the accidents
// of a seed.
func newRun(seed uint64, sites int, v variant) (*run, error) {
	r := &run{seed: seed, sites: sites, log: quiet, start: time.Now()}
	r.mu.noted = make(map[noteKey]note)
	r.mu.peaks = make(map[int]int)
	r.dice.rng = rand.New(rand.NewPCG(seed, 2))
	r.choose(rand.New(rand.NewPCG(seed, 3+100*uint64(v))))
	var err error
	r.world, err = mtatest.NewWorld(mtatest.WorldOptions{
		Seed: seed, Sites: sites, Patience: patience,
		Connections: r.opts.limits.Connections, MessagesPerConnection: r.opts.limits.MessagesPerConnection,
		RecipientsPerMessage: r.opts.limits.RecipientsPerMessage, AllConnections: r.opts.queue.Connections,
	})
	if err != nil {
		return nil, err
	}
	r.write(rand.New(rand.NewPCG(seed, 4)))
	r.trouble(rand.New(rand.NewPCG(seed, 5)))
	r.schedule(rand.New(rand.NewPCG(seed, 6)))
	r.operate(rand.New(rand.NewPCG(seed, 7)))
	r.operated.Store(len(r.plan.orders) == 0)
	if r.desk.folder, err = os.MkdirTemp("", "world"); err != nil {
		return nil, err
	}
	return r, nil
}

// choose draws the operator's options.
func (r *run) choose(rng *rand.Rand) {
	o := &r.opts
	o.limits = mta.Limits{Connections: 1 + rng.IntN(6), MessagesPerConnection: 1 + rng.IntN(8), RecipientsPerMessage: 1 + rng.IntN(4)}
	o.queue = queue.Limits{Connections: 2 * r.sites}
	if rng.IntN(6) == 0 {
		o.queue.Connections, r.crowds = 4+rng.IntN(8), true
	}
	if rng.IntN(3) == 0 {
		o.queue.PerDestination, o.queue.InMemory = 2+rng.IntN(3), 8
		if rng.IntN(2) == 0 { // destinations are forgotten too, and looked for again
			o.queue.IdleDestinations, o.queue.RestingDestinations = 3, 4
		}
	}
	o.transport = transport.Settings{ConnectTimeout: 10 * time.Second, ReplyTimeout: []time.Duration{0, 0, 20 * time.Second, 2 * time.Minute}[rng.IntN(4)]}
	o.fresh = []int64{-1, 4 << 10, 1 << 20}[rng.IntN(3)]
	o.schedules = retry.Schedules{
		Default: retry.Schedule{Intervals: []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute, 8 * time.Minute}, Expire: patience, DelayNotice: 15 * time.Minute},
		Streams: map[string]retry.Schedule{submit.BounceStream: {Intervals: []time.Duration{time.Minute, 3 * time.Minute}, Expire: reportPatience, DelayNotice: -1}},
	}
}

// write makes the mail.
func (r *run) write(rng *rand.Rand) {
	var domains []string
	for _, s := range r.world.Sites {
		domains = append(domains, s.Domains...)
	}
	for n := range 3 * r.sites / 2 {
		m := mail{at: time.Duration(rng.Int64N(int64(mailingTime))), sender: fmt.Sprintf("sender%d@d0-0.example", n)}
		if n%10 == 0 { // a burst
			m.at = time.Minute
		}
		switch rng.IntN(10) {
		case 0:
			m.sender = ""
		case 1, 2:
			m.sender = fmt.Sprintf("sender%d@%s", n, domains[rng.IntN(len(domains))])
		}
		seen := map[string]bool{}
		domain := domains[rng.IntN(len(domains))]
		for range 1 + rng.IntN(2)*rng.IntN(5) {
			if rng.IntN(2) == 0 {
				domain = domains[rng.IntN(len(domains))]
			}
			local := []string{"u", "u", "u", "u", "u", "u", "u", mtatest.WorldNobody, mtatest.WorldFull}[rng.IntN(9)]
			address := fmt.Sprintf("%s%d-%d@%s", local, n, len(seen), domain)
			notify := []mta.Notify{0, 0, 0, 0, 0, 0, mta.NotifyNever, mta.NotifyFailure, mta.NotifySuccess, mta.NotifySuccess | mta.NotifyFailure, mta.NotifyDelay}[rng.IntN(11)]
			m.recipients = append(m.recipients, mta.Recipient{Address: address, Notify: notify})
			seen[address] = true
		}
		if rng.IntN(4) == 0 {
			m.stream = "alerts"
		}
		size := 1 + rng.IntN(40)
		switch rng.IntN(30) {
		case 0:
			size = 1200 // in the spool's shared file
			if rng.IntN(4) == 0 {
				size = 15_000 // a file of its own
			}
		case 1:
			size = 600
		}
		m.body = strings.Repeat(".A line that begins with a dot, and is long enough to count for something.\r\n", size)
		r.plan.mails = append(r.plan.mails, m)
	}
	sort.SliceStable(r.plan.mails, func(i, j int) bool { return r.plan.mails[i].at < r.plan.mails[j].at })
}

// trouble draws crashes, restarts and clock jumps. One seed in six is calm.
func (r *run) trouble(rng *rand.Rand) {
	if rng.IntN(6) == 0 {
		return
	}
	at := time.Duration(0)
	for range rng.IntN(4) {
		at += time.Duration(rng.Int64N(int64(15 * time.Minute)))
		r.plan.crashes = append(r.plan.crashes, crash{at: at, writes: rng.IntN(40), down: time.Duration(rng.Int64N(int64(3 * time.Minute)))})
	}
	for i := 0; i < len(r.plan.crashes); i++ {
		if c := r.plan.crashes[i]; !c.boot && rng.IntN(3) == 0 {
			again := crash{at: c.at, writes: rng.IntN(25), boot: true}
			r.plan.crashes = slices.Insert(r.plan.crashes, i+1, again)
		}
	}
	for range rng.IntN(2) {
		r.plan.restarts = append(r.plan.restarts, time.Duration(rng.Int64N(int64(40*time.Minute))))
	}
	if rng.IntN(6) == 0 {
		for range 1 + rng.IntN(2) {
			r.plan.jumps = append(r.plan.jumps, jump{time.Duration(rng.Int64N(int64(40 * time.Minute))), time.Duration(rng.Int64N(int64(60*time.Minute))) - 30*time.Minute})
		}
	}
}

// live plays the seed. It must run in a bubble.
func (r *run) live() error {
	for _, j := range r.plan.jumps {
		defer time.AfterFunc(j.at, func() { r.clock.ahead.Add(int64(j.by)) }).Stop()
	}
	mem := vfs.NewCrashableMem()
	var current struct {
		sync.Mutex
		p *process
	}
	ended := make(chan struct{})
	var clients sync.WaitGroup
	alive := func() *process {
		current.Lock()
		defer current.Unlock()
		return current.p
	}
	for i, m := range r.plan.mails {
		clients.Go(func() { r.application(i, m, ended, alive) })
	}
	clients.Go(func() { r.operator(ended, alive) })
	defer clients.Wait()
	defer close(ended)
	var shadows sync.WaitGroup
	defer shadows.Wait()
	crashes, restarts := r.plan.crashes, r.plan.restarts
	for number := 0; ; number++ {
		arm := -1
		if len(crashes) > 0 && crashes[0].boot {
			arm = crashes[0].writes
		}
		p, err := r.boot(number, mem, arm)
		if err != nil {
			return fmt.Errorf("start %d: %w", number, err)
		}
		current.Lock()
		current.p = p
		current.Unlock()
		next := r.rest(p, &crashes, &restarts)
		current.Lock()
		current.p = nil
		current.Unlock()
		r.mu.Lock()
		r.mu.peaks[number] = p.machine.Peak()
		r.mu.Unlock()
		switch next {
		case atCrash:
			r.mu.Lock()
			r.mu.crashes = append(r.mu.crashes, number)
			down := r.plan.crashes[len(r.mu.crashes)-1].down
			r.mu.Unlock()
			mem, r.desk.files = p.bomb.disk, p.bomb.orders
			shadows.Go(func() { _ = p.end(0) }) // nobody hears what it says
			<-time.After(down)                  // virtual time
		case atRestart:
			if err := p.end(time.Duration(r.float() * float64(20*time.Second))); err != nil && !p.bomb.dead.Load() {
				return fmt.Errorf("stop %d: %w", number, err)
			}
			r.mu.stops++
			r.desk.take(p.desk)
		case atEnd:
			err := r.read(p)
			return errors.Join(err, p.end(time.Minute))
		}
	}
}

type ending int

const (
	atEnd ending = iota
	atCrash
	atRestart
)

// rest waits for the end of a process: a crash, a restart, or nothing left to do.
func (r *run) rest(p *process, crashes *[]crash, restarts *[]time.Duration) ending {
	look := time.NewTicker(15 * time.Second)
	defer look.Stop()
	armed := len(*crashes) > 0 && (*crashes)[0].boot
	for {
		var blow, again <-chan time.Time
		age := time.Since(r.start)
		if len(*crashes) > 0 {
			blow = time.After((*crashes)[0].at - age)
		}
		if armed { // no write came
			blow = time.After(20 * time.Second)
		}
		if len(*restarts) > 0 && !armed {
			again = time.After((*restarts)[0] - age)
		}
		select {
		case <-p.bomb.gone:
			*crashes = (*crashes)[1:]
			return atCrash
		case <-blow:
			if armed {
				p.bomb.explode()
				continue
			}
			armed = true
			p.bomb.arm((*crashes)[0].writes)
		case <-again:
			*restarts = (*restarts)[1:]
			return atRestart
		case <-look.C:
			if age > horizon || !armed && len(*crashes)+len(*restarts) == 0 && age > mailingTime+5*time.Minute && r.operated.Load() && r.empty(p) {
				return atEnd
			}
		}
	}
}

func (r *run) empty(p *process) bool {
	s, err := p.store.Stats(context.Background())
	return err == nil && s.Queued+s.Deferred+s.Held == 0
}

// application hands one message in, again and again until it is told that the
// message is safe. Each try has a Message-ID of its own, for after an error the
// message may have been taken all the same.
func (r *run) application(n int, m mail, ended <-chan struct{}, current func() *process) {
	wait := time.After(m.at)
	for try := 0; ; try++ {
		select {
		case <-wait:
		case <-ended:
			return
		}
		if p := current(); p != nil && r.hand(p, n, try, m) {
			return
		}
		wait = time.After(20 * time.Second)
	}
}

// hand gives one message to a process and reports whether that told that it is
// safe.
func (r *run) hand(p *process, n, try int, m mail) bool {
	ctx := context.Background()
	messageID := fmt.Sprintf("<m%d.%d@app.world.test>", n, try)
	d, err := p.intake.Begin(ctx, &submit.Request{
		Origin: mta.Origin{Door: "smtp", Protocol: "ESMTP", Helo: "app.world.test"}, Envelope: mta.Envelope{Sender: m.sender},
		Recipients: append([]mta.Recipient(nil), m.recipients...), Stream: m.stream, Tags: m.tags,
		NotBefore: r.moment(m.notBefore), Expires: r.moment(m.expires), Metadata: metadata(m.tags),
	})
	var refused *submit.Refusal
	if errors.As(err, &refused) && refused.Field == "expire" {
		return true // its time was over before it could be handed in
	}
	if err != nil {
		return false
	}
	defer d.Abort()
	content := "From: app@world.test\r\nDate: Sat, 1 Jan 2000 00:00:00 +0000\r\nSubject: x\r\nMessage-ID: " + messageID + "\r\n\r\n" + m.body + mtatest.WorldMark
	if _, err := d.Write([]byte(content)); err != nil {
		return false
	}
	id, err := d.Commit(ctx)
	if err != nil || p.bomb.dead.Load() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.accepted = append(r.mu.accepted, &accepted{id, messageID, m.sender, m.recipients, p.number})
	return true
}

// moment is a time of the plan by our machine's clock.
func (r *run) moment(since time.Duration) time.Time {
	if since == 0 {
		return time.Time{}
	}
	return r.start.Add(since)
}

// metadata goes with tags.
func metadata(tags []string) map[string]string {
	if tags == nil {
		return nil
	}
	return map[string]string{"number": tags[1]}
}

// read takes what the store says at the end.
func (r *run) read(p *process) error {
	ctx, s := context.Background(), p.store
	err := s.Records(ctx, spool.RecordFilter{}, func(rec *mta.Record) bool {
		c := *rec
		r.journal = append(r.journal, &c)
		return true
	})
	if err != nil {
		return err
	}
	return s.List(ctx, spool.Filter{}, func(d *mta.Delivery) bool {
		why, err := p.queue.Why(ctx, d)
		r.left = append(r.left, fmt.Sprintf("%s/%d to %s by %q: %s, due %s, %d attempts, last: %s; %s %v", d.Message.ID, d.N, d.Destination, d.Destination.Via, d.State,
			d.Due.Format(time.TimeOnly), d.Attempts, d.Last.Result.Reason, why.Reason, err))
		return true
	})
}
