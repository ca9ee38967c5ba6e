package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/shape"
	"mailout/internal/smtp"
	"mailout/internal/spool"
	"mailout/internal/warmup"
)

// warmupSettings are what the ledger of warming sources is told.
func warmupSettings(c *config.Config) warmup.Settings {
	s := warmup.Settings{Streams: map[string]warmup.Priority{}}
	for i, source := range c.Sources {
		if source.Warmup.Start.IsZero() {
			continue
		}
		s.Sources = append(s.Sources, warmup.Source{
			IP: source.IP, Start: source.Warmup.Start, Plan: c.WarmupPlan(source.Warmup.Plan),
			Origin: fmt.Sprintf("[[source]] %d (line %d)", i+1, source.Line),
		})
	}
	for _, stream := range c.Streams {
		if stream.Warmup != warmup.Any {
			s.Streams[stream.Name] = stream.Warmup
		}
	}
	return s
}

// newLedger makes the ledger; the store is open.
func (d *Daemon) newLedger(c *config.Config) *warmup.Ledger {
	return warmup.New(warmup.Options{Notes: d.store, Settings: warmupSettings(c), Logger: d.log, Stopped: d.warmupStopped})
}

// taught has the ledger learn what the planner learns.
type taught struct {
	queue.Planner
	ledger *warmup.Ledger
}

// Learn implements queue.Planner.
func (t taught) Learn(r *mta.Route, d *mta.Delivery, a *mta.Attempt) queue.Lesson {
	t.ledger.Learn(r, d, a)
	return t.Planner.Learn(r, d, a)
}

// complained has the ledger know of a complaint about mail that was delivered.
// What a router carried says nothing of our source.
func (d *Daemon) complained(delivered *mta.Record) {
	if !strings.HasPrefix(delivered.Site, "router:") {
		d.warmup.Complained(delivered.Source, shape.Provider([]string{delivered.Host}))
	}
}

// warmupStopped writes into the journal that bad signs stopped a source.
func (d *Daemon) warmupStopped(s warmup.Stop) {
	var entropy [10]byte
	_, _ = rand.Read(entropy[:]) // never fails
	sub := &spool.Submission{Message: &mta.Message{ID: mta.NewID(s.At, entropy), Arrived: s.At, Stream: mta.DefaultStream}}
	sub.Records = []*mta.Record{{
		Time: s.At.UTC().Truncate(time.Millisecond), Event: mta.EventStanding, ID: sub.Message.ID,
		Recipient: mta.StandingRecipient, Source: s.Source,
		Reason: smtp.Harmless(fmt.Sprintf("the warm-up of %s stops for today at %s: %s; day %d of the plan, tomorrow is day %d", s.Source, s.Provider, s.Reason, s.Day, s.Next)),
	}}
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	if err := d.store.Put(ctx, sub); err != nil && !errors.Is(err, spool.ErrClosed) {
		d.log.Warn("a stop of a warm-up could not be written to the journal", mta.KeySource, s.Source.String(), mta.KeyError, err)
	}
}

// warmups are the ceilings of the sources that a direct route, or another of its
// pool, may be sent from.
func (e *explainer) warmups(r *mta.Route) []admin.ExplainedLimit {
	if r.Router != "" {
		return nil
	}
	ledger, unsure := e.warmup, ""
	if ledger == nil {
		ledger, unsure = warmup.New(warmup.Options{Settings: warmupSettings(e.config)}), "; what was sent is known to the daemon alone"
	}
	var out []admin.ExplainedLimit
	for _, s := range pooled(e.config, r.Pool) {
		if state, ok := ledger.State(s, r.Provider); ok {
			out = append(out, admin.ExplainedLimit{
				Name: "warmup", Value: state.Ceiling, Origin: state.Origin + ": " + state.String() + unsure,
			})
		}
	}
	return out
}

// pooled gives the addresses of a pool's sources, as a route names it.
func pooled(c *config.Config, pool string) []netip.Addr {
	if pool == "" {
		pool = config.DefaultPool
	}
	sources := c.Sources
	if i := slices.IndexFunc(c.Pools, func(p config.Pool) bool { return p.Name == pool }); i >= 0 {
		sources = c.Members(&c.Pools[i])
	}
	out := make([]netip.Addr, len(sources))
	for i := range sources {
		out[i] = sources[i].IP
	}
	return out
}

// WarmupID is the id of the check of a source that is being warmed up. Only such
// sources have one.
const WarmupID = "warmup"

// WarmupChecks says for each warming source how far it is. states are the
// daemon's; without a daemon what the file alone says is taken.
func WarmupChecks(c *config.Config, states []warmup.State, daemon bool) []doctor.Check {
	if !daemon {
		states = warmup.New(warmup.Options{Settings: warmupSettings(c)}).States()
	}
	all := states
	var out []doctor.Check
	for len(states) > 0 {
		n := slices.IndexFunc(states, func(s warmup.State) bool { return s.Source != states[0].Source })
		if n < 0 {
			n = len(states)
		}
		check := warmupCheck(states[:n], daemon)
		if alone := aloneIn(c, states[0].Source, all); check.Status == doctor.Pass && alone != "" {
			check.Status, check.Who = doctor.Warn, doctor.You
			check.Seen += "; no source of " + alone + " is warm"
			check.Why = "mail beyond the ceilings has no other way: it waits for the next day, and is returned when its time is over"
			check.Fix = &doctor.Fix{Text: "Add a source that is warm to " + alone + ", or a [router] until the warm-up has ended."}
		}
		out = append(out, check)
		states = states[n:]
	}
	return out
}

// warmupChecks are those for GET /v1/doctor.
func (d *Daemon) warmupChecks() []doctor.Check {
	d.mu.Lock()
	c := d.mu.config
	d.mu.Unlock()
	return WarmupChecks(c, d.warmup.States(), true)
}

// warmupCheck joins what one source has at each provider.
func warmupCheck(states []warmup.State, daemon bool) doctor.Check {
	c := doctor.Check{
		ID: WarmupID, Subject: states[0].Source.String(), Status: doctor.Pass,
		Asked: states[0].Origin + ", plan " + states[0].Plan,
		Why:   "receivers take much mail from an address that they do not know for an attack",
	}
	var seen []string
	for _, s := range states {
		text := fmt.Sprintf("%s: day %d of %d, %d of %d recipients today", s.Provider, s.Day, s.Days, s.Sent, s.Ceiling)
		switch {
		case s.Day == 0:
			text = s.Provider + ": not begun"
		case !daemon:
			text = fmt.Sprintf("%s: day %d of %d, if nothing went wrong, with %d recipients", s.Provider, s.Day, s.Days, s.Ceiling)
		case s.Stopped != "":
			text += ", stopped for today: " + s.Stopped
			c.Status, c.Who = doctor.Warn, doctor.You
			c.Fix = &doctor.Fix{Text: "See what the receiver says (`mailout trace standing`, docs/warmup.md); the warm-up goes on tomorrow, some days back."}
		}
		seen = append(seen, text)
	}
	c.Seen = strings.Join(seen, "; ")
	return c
}

// aloneIn names a pool in which the source is, and no source is warm; empty:
// there is none. A source is not warm while states say that it is not.
func aloneIn(c *config.Config, source netip.Addr, states []warmup.State) string {
	if c.Router.Host != "" && c.Router.Use == config.UseAlways {
		return ""
	}
	warm := func(a netip.Addr) bool {
		return !slices.ContainsFunc(states, func(s warmup.State) bool { return s.Source == a })
	}
	pools := []string{config.DefaultPool}
	for _, p := range c.Pools {
		if p.Name != config.DefaultPool {
			pools = append(pools, p.Name)
		}
	}
	for _, pool := range pools {
		if members := pooled(c, pool); slices.Contains(members, source) && !slices.ContainsFunc(members, warm) {
			return "pool " + pool
		}
	}
	return ""
}
