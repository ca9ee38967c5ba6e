package daemon

import (
	"cmp"
	"context"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"mailout/internal/config"
	"mailout/internal/dnsupdate"
	"mailout/internal/doctor"
	"mailout/internal/mta"
)

// keeper makes the address records of our names follow the address that the
// world sees ([identity.dns_update] keep_address): the case of a line whose
// address changes. It hears of every examination and acts on addresses that
// are certain alone (doctor.Agreed); each time it asks the zone's primary what
// stands there, so that it also mends what others changed. The set of a name
// and family becomes what is seen; families in which nothing leaves this
// machine are left alone.
//
// A change that the server refused is tried again with the next examination,
// but no sooner than min_interval after the last. What cannot be done is
// logged when the reason changes, not each time.
//
// It owns one goroutine, which Stop ends: an update waits for servers, and the
// watch must not.
type keeper struct {
	log     *slog.Logger
	updater func(c *config.Config) (publishing, error)
	changed func(words []string) // records were changed; may be nil
	seen    chan []doctor.Agreed // holds one: the latest

	cancel context.CancelFunc
	done   chan struct{}

	made, failed atomic.Int64 // updates

	mu struct {
		sync.Mutex
		config *config.Config
		latest []doctor.Agreed
	}

	// Of the goroutine.
	last map[keptName]time.Time // when a change was last made or tried
	told map[complaint]string   // why nothing is done, as last logged
}

// publishing is what publishes: a dnsupdate.Updater, or a test's.
type publishing interface {
	Plan(ctx context.Context, changes []dnsupdate.Change) (dnsupdate.Plan, error)
	Apply(ctx context.Context, edits []dnsupdate.Edit) error
	ReadBack(ctx context.Context, edits []dnsupdate.Edit) []dnsupdate.Seen
}

// keptName is one set of records.
type keptName struct{ name, kind string }

func (n keptName) attrs() []any { return []any{mta.KeyHost, n.name, "type", n.kind} }

// complaint is something that keeps a record, or all of them, from following.
type complaint struct {
	what string
	of   keptName
}

// The complaints.
const (
	doubtful = "the visible address is not certain: its record stays as it is"
	foreign  = "the address record cannot be kept here"
	broken   = "the address records could not be kept equal to the visible address"
)

func newKeeper(c *config.Config, log *slog.Logger, updater func(c *config.Config) (publishing, error), changed func(words []string)) *keeper {
	k := &keeper{log: log, updater: updater, changed: changed, seen: make(chan []doctor.Agreed, 1), done: make(chan struct{}),
		last: map[keptName]time.Time{}, told: map[complaint]string{}}
	k.mu.config = c
	return k
}

// Start begins to act on examinations.
func (k *keeper) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.cancel = cancel
	go func() {
		defer close(k.done)
		for {
			select {
			case names := <-k.seen:
				k.keep(ctx, names)
			case <-ctx.Done():
				return
			}
		}
	}()
}

// Stop breaks off what is under way and waits for it.
func (k *keeper) Stop() {
	if k.cancel != nil {
		k.cancel()
		<-k.done
	}
}

// Configure replaces the configuration, and acts by it on what was seen last.
func (k *keeper) Configure(c *config.Config) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.config = c
	k.offer()
}

// Examined hears of an examination. An earlier one that was not acted on yet
// is out of date.
func (k *keeper) Examined(e *doctor.Examined) {
	if len(e.Names) == 0 {
		return // nobody looked
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.mu.latest = e.Names
	k.offer()
}

// offer hands the latest over and never waits: with k.mu held nobody else
// fills the place that it empties.
func (k *keeper) offer() {
	if k.mu.latest == nil {
		return
	}
	select {
	case <-k.seen:
	default:
	}
	k.seen <- k.mu.latest
}

// keep compares, and publishes what differs.
func (k *keeper) keep(ctx context.Context, names []doctor.Agreed) {
	k.mu.Lock()
	c := k.mu.config
	k.mu.Unlock()
	if !c.Identity.DNSUpdate.KeepAddress {
		return
	}
	var changes []dnsupdate.Change
	for _, n := range names {
		change, due := k.wanted(c, n)
		if due {
			changes = append(changes, change)
		}
	}
	if len(changes) == 0 {
		return
	}
	switch err := k.publish(ctx, c, changes); {
	case err == nil:
		delete(k.told, complaint{what: broken})
	case ctx.Err() == nil:
		k.explain(complaint{what: broken}, mta.KeyError, err.Error())
	}
}

// wanted is the change of one name; due is false when nothing is to be done
// now.
func (k *keeper) wanted(c *config.Config, n doctor.Agreed) (change dnsupdate.Change, due bool) {
	change = dnsupdate.Change{Name: strings.ToLower(n.Hostname), Type: "A", Only: true}
	if n.V6 {
		change.Type = "AAAA"
	}
	key := keptName{change.Name, change.Type}
	if n.Why != "" {
		k.explain(complaint{doubtful, key}, mta.KeyReason, n.Why)
		return change, false
	}
	delete(k.told, complaint{doubtful, key})
	if at, changed := k.last[key]; changed && time.Since(at) < c.Identity.DNSUpdate.MinInterval {
		return change, false
	}
	for _, a := range n.Addrs {
		change.Add = append(change.Add, a.String())
	}
	return change, true
}

func (k *keeper) publish(ctx context.Context, c *config.Config, changes []dnsupdate.Change) error {
	u, err := k.updater(c)
	if err != nil {
		return err
	}
	plan, err := u.Plan(ctx, changes)
	if err != nil {
		return err
	}
	for _, h := range plan.ByHand {
		k.explain(complaint{foreign, keptName{h.Change.Name, h.Change.Type}}, mta.KeyReason, h.Why)
	}
	if len(plan.Edits) == 0 {
		return nil
	}
	for _, e := range plan.Edits {
		k.last[keptName{strings.TrimSuffix(e.Name, "."), e.Type}] = time.Now()
	}
	if err := u.Apply(ctx, plan.Edits); err != nil {
		k.failed.Add(1)
		return err
	}
	k.made.Add(1)
	var words []string
	for _, e := range plan.Edits {
		n, was, now := keptName{strings.TrimSuffix(e.Name, "."), e.Type}, cmp.Or(strings.Join(e.Old, ", "), "nothing"), strings.Join(e.New, ", ")
		delete(k.told, complaint{foreign, n})
		words = append(words, "published "+n.name+" "+n.kind+" "+now+" in place of "+was)
		k.log.Info("the address record follows the visible address", append(n.attrs(), mta.KeyWas, was, "now", now, "ttl", e.TTL.String(), mta.KeyServer, c.Identity.DNSUpdate.Server)...)
	}
	for _, s := range u.ReadBack(ctx, plan.Edits) {
		if !s.Agrees && ctx.Err() == nil {
			k.log.Warn("a name server does not have the new address record yet", mta.KeyServer, s.Server, mta.KeyReason, s.Said)
		}
	}
	if k.changed != nil {
		k.changed(words)
	}
	return nil
}

// explain logs why nothing is done, once for each reason.
func (k *keeper) explain(c complaint, key, why string) {
	if k.told[c] == why {
		return
	}
	k.told[c] = why
	args := []any{key, why}
	if c.of.name != "" {
		args = append(args, c.of.attrs()...)
	}
	k.log.Warn(c.what, args...)
}
