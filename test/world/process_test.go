package world

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"mailout/internal/control"
	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/mtatest"
	"mailout/internal/queue"
	"mailout/internal/retry"
	"mailout/internal/route"
	"mailout/internal/spool"
	"mailout/internal/spool/pebble"
	"mailout/internal/submit"
	"mailout/internal/transport"
)

// Names of our side.
const (
	hostname   = "out.world.test"
	postmaster = "postmaster@d0-0.example" // at the site that has no faults
)

// options are what the operator chose; they follow from the seed.
type options struct {
	limits    mta.Limits
	queue     queue.Limits
	transport transport.Settings
	fresh     int64
	schedules retry.Schedules
}

// process is one run of the process: the parts as internal/daemon joins them,
// on a machine's network and disk.
type process struct {
	number   int
	machine  *mtatest.Machine
	mem      *vfs.MemFS
	bomb     *bomb
	store    *watched
	resolver *dns.Resolver
	queue    *queue.Queue
	intake   *submit.Intake
	control  *control.Controller
	desk     string // folder of the operator's files
}

// lateReporter closes the circle between queue and intake.
type lateReporter struct{ queue.Reporter }

// boot starts a process on what the disk holds. With arm not below 0 the bomb
// is armed before the spool is opened.
func (r *run) boot(number int, mem *vfs.MemFS, arm int) (*process, error) {
	p := &process{number: number, machine: r.world.Machine(number), mem: mem}
	p.bomb = &bomb{p: p, rng: rand.New(rand.NewPCG(r.seed, uint64(1000+number))), gone: make(chan struct{})}
	if arm >= 0 {
		p.bomb.arm(arm)
	}
	store, err := pebble.Open(context.Background(), pebble.Options{
		Dir: "spool", FS: errorfs.Wrap(mem, p.bomb), MinFree: -1, Reserve: -1,
		FreshBytes: r.opts.fresh, CacheBytes: 1 << 20, Logger: r.log,
	})
	if err != nil {
		return nil, err
	}
	p.store = &watched{Store: store, run: r, p: p}
	p.resolver = dns.New(dns.Options{
		Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53"), netip.MustParseAddrPort("192.0.2.54:53")},
		Timeout: 2 * time.Second, Dialer: p.machine.DialDNS, Logger: r.log,
	})
	planner, err := route.New(route.Options{
		Resolver:   p.resolver,
		Settings:   route.Settings{Hostname: hostname, Limits: r.opts.limits},
		Interfaces: func() ([]netip.Addr, error) { return nil, nil },
		Logger:     r.log,
	})
	if err != nil {
		return nil, err
	}
	if p.desk, err = r.desk.lay(number); err != nil {
		return nil, err
	}
	orders, err := ordered(p.desk, r.log)
	if err != nil {
		return nil, err
	}
	carrier := transport.New(transport.Options{Content: p.store, Dial: p.machine.Dial, Shuffle: r.shuffle, Settings: r.opts.transport})
	reporter := &lateReporter{}
	p.queue = queue.New(queue.Options{
		Store: p.store, Planner: transport.NewPlanner(planner), Carrier: carrier, Reporter: reporter,
		Schedules: r.opts.schedules, Limits: r.opts.queue, Logger: r.log, Hostname: hostname, Now: r.clock.now, Rand: r.float,
		Holds: control.Active(orders.Holds, r.clock.now()), Reroutes: control.ActiveRoutes(orders.Reroutes, r.clock.now()),
	})
	orders.Store, orders.Queue, orders.Now = p.store, ruled{p.queue, planner}, r.clock.now
	p.control = control.New(orders)
	planner.Reroute(rules(control.ActiveRoutes(orders.Reroutes, r.clock.now())))
	p.intake = submit.NewIntake(submit.Options{
		Store: p.store, Queue: p.queue, Settings: submit.Settings{Hostname: hostname, Postmaster: postmaster, MaxPerDelivery: 3}, Now: r.clock.now,
	})
	reporter.Reporter = submit.NewReporter(p.intake)
	if err := p.queue.Start(context.Background()); err != nil {
		return nil, err
	}
	p.control.Start(context.Background())
	return p, nil
}

// end stops a process in order, with the given patience.
func (p *process) end(patience time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	p.control.Stop()
	err := p.queue.Stop(ctx)
	if cerr := p.resolver.Close(); err == nil {
		err = cerr
	}
	if cerr := p.store.Close(); err == nil {
		err = cerr
	}
	return err
}

// bomb is the end of a process without warning: at one of its operations on
// the disk, or at a moment when it does none. What follows in the dead process
// is a shadow: it is off the network, and writes to a disk that nobody reads.
type bomb struct {
	p     *process
	rng   *rand.Rand
	armed atomic.Bool
	left  atomic.Int64 // writes until it goes off
	once  sync.Once
	dead  atomic.Bool // from here on nothing that the process says counts
	gone  chan struct{}
	disk  *vfs.MemFS // what the next process finds; set before gone is closed
	// orders are the operator's files, the same.
	orders map[string][]byte
}

// MaybeError implements errorfs.Injector: it never injects an error.
func (b *bomb) MaybeError(op errorfs.Op) error {
	if b.armed.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite && b.left.Add(-1) < 0 {
		b.explode()
	}
	return nil
}

// String implements errorfs.Injector.
func (b *bomb) String() string { return "power cut" }

// arm makes the bomb go off at the n-th write from now.
func (b *bomb) arm(n int) {
	b.left.Store(int64(n))
	b.armed.Store(true)
}

func (b *bomb) explode() {
	b.once.Do(func() {
		b.armed.Store(false)
		b.dead.Store(true)
		b.disk = b.p.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[b.rng.IntN(3)], RNG: b.rng})
		var left desk
		left.take(b.p.desk)
		b.orders = left.files
		b.p.machine.Cut()
		close(b.gone)
	})
}

// watched is the store, and notes when and by which process a record was
// settled.
type watched struct {
	*pebble.Store
	run *run
	p   *process
}

var _ spool.Store = (*watched)(nil)

// Settle implements spool.Store.
func (w *watched) Settle(ctx context.Context, list ...*spool.Settlement) ([]mta.DeliveryKey, error) {
	for _, s := range list {
		for _, r := range s.Records {
			w.run.note(r, w.p.number)
		}
	}
	return w.Store.Settle(ctx, list...)
}

// clock is the wall clock of our machine, which may jump.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (r *run) shuffle(n int, swap func(i, j int)) {
	r.dice.Lock()
	defer r.dice.Unlock()
	r.dice.rng.Shuffle(n, swap)
}

func (r *run) float() float64 {
	r.dice.Lock()
	defer r.dice.Unlock()
	return r.dice.rng.Float64()
}

var quiet = slog.New(slog.DiscardHandler)
