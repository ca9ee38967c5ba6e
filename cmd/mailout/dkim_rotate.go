package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/dkim"
	"mailout/internal/dnsupdate"
	"mailout/internal/doctor"
)

// dkimRotateCmd replaces a domain's keys. What it does is safe to be broken off
// anywhere and to be done again: a key signs when its record is seen and not
// before, and the old one goes on until then (internal/dkim). It only adds keys
// at the front door and takes them out at the back.
type dkimRotateCmd struct {
	Domain string `arg:"" help:"Domain whose keys are replaced."`
	keyShape
	Wait    bool          `help:"Wait until the new keys sign."`
	Timeout time.Duration `default:"15m" help:"Most time to wait."`
	Finish  bool          `help:"Revoke the keys that were replaced, and take them out of the configuration."`
	Keep    string        `placeholder:"7d" help:"With --finish: how long the record of a replaced key stays, for mail under way."`
}

// Run makes new keys, unless some wait for their records already.
func (cmd *dkimRotateCmd) Run(g *globals) error {
	wanted, keep, err := cmd.options()
	if err != nil {
		return err
	}
	c, err := loadConfig(g)
	if err != nil {
		return err
	}
	domain, err := dkimDomain(cmd.Domain)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(c.DKIM, func(k config.DKIMKey) bool { return k.Domain == domain }) {
		return fail(exitFailure, "there is no key for %s to replace (make one: mailout dkim new %s)", domain, domain)
	}
	ctx, stop := interruptible()
	defer stop()
	keys, note := keyStates(ctx, g, c)
	if note != "" {
		fmt.Fprintln(g.Stderr, note+"; so which keys sign is judged by what DNS says now")
	}
	keys = slices.DeleteFunc(keys, func(k shownKey) bool { return k.Domain != domain })
	if cmd.Finish {
		return cmd.finish(ctx, g, c, keys, wanted, keep)
	}
	return cmd.rotate(ctx, g, c, domain, keys, wanted)
}

// keepDefault is how long the record of a replaced key stays.
const keepDefault = "7d"

// options reads the options, and refuses those that would mean nothing.
func (cmd *dkimRotateCmd) options() (wanted []dkim.Algorithm, keep time.Duration, err error) {
	switch {
	case cmd.Finish && (cmd.Selector != "" || cmd.Bits != 0 || cmd.Wait):
		return nil, 0, fail(exitUsage, "--selector, --bits and --wait are for new keys: --finish makes none")
	case !cmd.Finish && cmd.Keep != "":
		return nil, 0, fail(exitUsage, "--keep goes with --finish")
	case cmd.Timeout <= 0:
		return nil, 0, fail(exitUsage, "--timeout %s is no time to wait", cmd.Timeout)
	}
	if wanted, err = algorithms(cmd.Algorithm); err != nil {
		return nil, 0, err
	}
	text := cmp.Or(cmd.Keep, keepDefault)
	if keep, err = config.ParseDuration(text); err != nil || keep < 0 {
		return nil, 0, fail(exitUsage, "--keep %s is no span (write for example 7d)", clean(text))
	}
	return wanted, keep, nil
}

func (cmd *dkimRotateCmd) rotate(ctx context.Context, g *globals, c *config.Config, domain string, keys []shownKey, wanted []dkim.Algorithm) error {
	fresh, waiting, err := toRotate(keys, wanted)
	if err != nil {
		return err
	}
	if !cmd.meant(waiting) {
		return fail(exitFailure, "a key of %s waits for its record already (selector %s): publish that first, or take it out of the configuration", domain, waiting[0].Selector)
	}
	for _, k := range waiting {
		fmt.Fprintf(g.Stdout, "The key with the selector %s waits for its record already: no other one is made.\n", k.Selector)
	}
	made := asMade(waiting)
	if len(fresh) > 0 {
		new, err := makeKeys(g, c, domain, fresh, &cmd.keyShape, time.Now())
		if err != nil {
			return err
		}
		showKeys(g, new)
		made = append(made, new...)
	}
	// Of those that wait, one may be unread: an earlier run was broken off.
	if len(fresh) > 0 || slices.ContainsFunc(waiting, func(k shownKey) bool { return k.unread }) {
		fmt.Fprintln(g.Stdout, reloadFor(g))
	}
	if err := cmd.publishNew(ctx, g, c, made); err != nil {
		return err
	}
	if cmd.Wait {
		return cmd.wait(ctx, g, made)
	}
	if len(fresh) == 0 && len(waiting) == len(keys) {
		fmt.Fprintln(g.Stdout, "\nNo older key is there: mail goes unsigned until every server of the zone has the record.")
		return nil
	}
	fmt.Fprintf(g.Stdout, "\nThe old keys go on signing until every server of the zone has the new records; then the new ones take over by themselves. Leave the old records where they are: mail under way is verified with them. %s after that finish with\n\n  mailout dkim rotate %s --finish\n", keepDefault, domain)
	return nil
}

// meant reports whether the keys that wait are those that --selector asks for, as
// when a run that was broken off is done again.
func (cmd *dkimRotateCmd) meant(waiting []shownKey) bool {
	return cmd.Selector == "" || !slices.ContainsFunc(waiting, func(k shownKey) bool {
		return strings.TrimSuffix(k.Selector, ed25519Suffix) != strings.TrimSuffix(strings.ToLower(cmd.Selector), ed25519Suffix)
	})
}

// toRotate are the algorithms to make new keys of, and the keys of those that a
// new one waits for already. Of each algorithm the last key of the configuration
// counts.
func toRotate(keys []shownKey, wanted []dkim.Algorithm) (fresh []dkim.Algorithm, waiting []shownKey, err error) {
	last := map[dkim.Algorithm]shownKey{}
	var there []dkim.Algorithm
	for _, k := range keys {
		a := algorithmOf(&k)
		if a == "" {
			continue
		}
		if !slices.Contains(there, a) {
			there = append(there, a)
		}
		last[a] = k
	}
	if len(there) == 0 {
		return nil, nil, fail(exitFailure, "no key of %s can be read (mailout dkim list)", keys[0].Domain)
	}
	if len(wanted) == 0 {
		wanted = there
	}
	for _, a := range wanted {
		k, ok := last[a]
		switch {
		case !ok:
			return nil, nil, fail(exitFailure, "there is no key of the kind %s for %s to replace (make one: mailout dkim new %s --algorithm %s)", a, keys[0].Domain, keys[0].Domain, a)
		case k.State == string(dkim.StatePending) && !k.Live && k.Record == "unknown":
			return nil, nil, fail(exitTemporary, "nobody can say whether the key with the selector %s signs or still waits for its record: no daemon answers, and DNS does not (start the daemon, or try again later)", k.Selector)
		case k.State == string(dkim.StatePending):
			waiting = append(waiting, k)
		default:
			fresh = append(fresh, a)
		}
	}
	return fresh, waiting, nil
}

// algorithmOf reads the file when the daemon does not know the key yet.
func algorithmOf(k *shownKey) dkim.Algorithm {
	if k.Algorithm != "" {
		return dkim.Algorithm(k.Algorithm)
	}
	if key, err := dkim.Load(k.entry.Key); err == nil {
		return key.Algorithm()
	}
	return ""
}

func asMade(keys []shownKey) []madeKey {
	var out []madeKey
	for _, k := range keys {
		if key, err := dkim.Load(k.entry.Key); err == nil {
			out = append(out, madeKey{k.Domain, k.Selector, k.entry.Key, key})
		}
	}
	return out
}

// publishNew publishes the records, or prints them.
func (cmd *dkimRotateCmd) publishNew(ctx context.Context, g *globals, c *config.Config, made []madeKey) error {
	if c.Identity.DNSUpdate.Server == "" {
		fmt.Fprintln(g.Stdout, "\nPublish this where the zone is kept:")
		showRecords(g, made)
		return nil
	}
	var changes []dnsupdate.Change
	for _, m := range made {
		changes = append(changes, dnsupdate.Change{Name: m.name(), Type: "TXT", Add: []string{m.key.TXT()}})
	}
	left, err := publishChanges(ctx, g, c, changes, func(e *dnsupdate.Edit) string {
		if len(e.Old) > 0 {
			return "there is another record at that name"
		}
		return ""
	})
	if err != nil {
		fmt.Fprintln(g.Stdout, "\nThe records could not be published; publish this by hand, or try again with the same command:")
		showRecords(g, made)
		return err
	}
	if left {
		return fail(exitFailure, "not everything could be published; what is left is shown above")
	}
	return nil
}

// publishChanges makes changes by DNS update. refuse says why one is not made;
// left reports that something is for people to do.
func publishChanges(ctx context.Context, g *globals, c *config.Config, changes []dnsupdate.Change, refuse func(*dnsupdate.Edit) string) (left bool, err error) {
	resolver := daemon.Resolver(c)
	defer resolver.Close()
	u, err := daemon.Updater(c, resolver)
	if err != nil {
		return false, fail(exitConfig, "%v", err)
	}
	plan, err := u.Plan(ctx, changes)
	if err != nil {
		return false, fail(exitUnavailable, "%v", err)
	}
	edits := plan.Edits[:0]
	for _, e := range plan.Edits {
		if why := refuse(&e); why != "" {
			plan.ByHand = append(plan.ByHand, dnsupdate.ByHand{Change: dnsupdate.Change{Name: e.Name, Type: e.Type, Add: e.Added(), Remove: e.Removed()}, Why: why})
			continue
		}
		edits = append(edits, e)
	}
	plan.Edits = edits
	p := publisher{updater: u, server: c.Identity.DNSUpdate.Server, yes: true, in: g.Stdin, out: g.Stdout, print: newDoctorPrinter(g.Stdout), now: time.Now}
	p.show(plan, new(doctor.Plan))
	if len(plan.Edits) == 0 {
		return len(plan.ByHand) > 0, nil
	}
	_, err = p.publish(ctx, plan.Edits)
	return len(plan.ByHand) > 0, err
}

// wait asks the daemon until the new keys sign.
func (cmd *dkimRotateCmd) wait(ctx context.Context, g *globals, made []madeKey) error {
	ctx, cancel := context.WithTimeout(ctx, cmd.Timeout)
	defer cancel()
	fmt.Fprintln(g.Stdout, "\nWaiting until every server of the zone has the records …")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	said := ""
	for {
		pending, err := stillPending(g, made)
		if err != nil {
			return err
		}
		if pending == "" {
			for _, m := range made {
				fmt.Fprintf(g.Stdout, "%s signs now.\n", m.selector)
			}
			return nil
		}
		if pending != said {
			said = pending
			fmt.Fprintln(g.Stdout, "  "+clean(said))
		}
		select {
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fail(exitTemporary, "the new keys do not sign yet; they will as soon as every server of the zone has their records (mailout dkim list)")
			}
			return fail(exitTemporary, "interrupted: the new keys sign as soon as every server of the zone has their records")
		case <-tick.C:
		}
	}
}

// stillPending says which new key does not sign yet, and why; empty when all do.
func stillPending(g *globals, made []madeKey) (string, error) {
	keys, err := daemonKeys(g)
	if err != nil {
		return "", err
	}
	for _, m := range made {
		i := slices.IndexFunc(keys, func(k admin.DKIMKey) bool { return k.Domain == m.domain && k.Selector == m.selector })
		switch {
		case i < 0:
			return m.selector + ": the daemon has not read it yet (mailout config reload)", nil
		case keys[i].State != string(dkim.StateActive):
			return m.selector + ": " + keys[i].State + strings.TrimSuffix("; "+keys[i].Said, "; "), nil
		}
	}
	return "", nil
}

// finish revokes the keys that were replaced.
func (cmd *dkimRotateCmd) finish(ctx context.Context, g *globals, c *config.Config, keys []shownKey, wanted []dkim.Algorithm, keep time.Duration) error {
	old, blocked := replaced(keys, wanted, keep, time.Now())
	for _, why := range blocked {
		fmt.Fprintln(g.Stdout, why)
	}
	switch {
	case len(old) == 0 && len(blocked) > 0:
		return &exitError{Status: exitTemporary}
	case len(old) == 0:
		fmt.Fprintln(g.Stdout, "There is no key that was replaced.")
		return nil
	}
	if err := cmd.revoke(ctx, g, c, old); err != nil {
		return err
	}
	if err := takeOut(g, old); err != nil {
		return err
	}
	fmt.Fprintln(g.Stdout, reloadFor(g))
	return nil
}

// replaced are the keys that a later one of their kind has taken the place of for
// long enough, and why others are not ready.
func replaced(keys []shownKey, wanted []dkim.Algorithm, keep time.Duration, now time.Time) (old []shownKey, blocked []string) {
	for i, k := range keys {
		a := algorithmOf(&k)
		if len(wanted) > 0 && !slices.Contains(wanted, a) {
			continue
		}
		successor := slices.IndexFunc(keys[i+1:], func(l shownKey) bool { return a != "" && algorithmOf(&l) == a && l.State == string(dkim.StateActive) })
		switch why := notYet(&k, successor >= 0, keep, now); {
		case why != "":
			blocked = append(blocked, why)
		case successor >= 0:
			old = append(old, k)
		}
	}
	return old, blocked
}

// notYet says why a key may not be revoked now; empty also for one that is not
// to be revoked at all.
func notYet(k *shownKey, successor bool, keep time.Duration, now time.Time) string {
	state := dkim.State(k.State)
	if !successor || state != dkim.StateRetired && state != dkim.StateStandby {
		return ""
	}
	since, err := time.Parse(time.RFC3339, k.Since)
	switch {
	case keep == 0:
		return ""
	case !k.Live || err != nil:
		return fmt.Sprintf("%s: since when it does not sign any more is known to the daemon alone, and none answers (--keep 0s revokes it all the same).", k.Selector)
	case now.Before(since.Add(keep)):
		return fmt.Sprintf("%s: it is %s since %s, and its record stays until %s, for mail under way (--keep says how long).", k.Selector, k.State, k.Since, since.Add(keep).UTC().Format(time.RFC3339))
	}
	return ""
}

// revoke publishes that the keys are withdrawn, or prints what to publish. A
// record that is not there, or is withdrawn already, stays as it is.
func (cmd *dkimRotateCmd) revoke(ctx context.Context, g *globals, c *config.Config, old []shownKey) error {
	var changes []dnsupdate.Change
	for _, k := range old {
		if state := dkim.State(k.State); state != dkim.StateRetired && state != dkim.StateStandby {
			continue
		}
		changes = append(changes, dnsupdate.Change{Name: k.Name, Type: "TXT", Add: []string{dkim.Revocation(dkim.Algorithm(k.Algorithm))}, Only: true})
	}
	if len(changes) == 0 {
		return nil
	}
	if c.Identity.DNSUpdate.Server == "" {
		fmt.Fprintln(g.Stdout, "Publish this in place of the old records: it withdraws the keys. After some weeks the records may go altogether.")
		fmt.Fprintln(g.Stdout)
		for _, change := range changes {
			fmt.Fprintln(g.Stdout, zoned(change.Name, change.Add[0]))
		}
		fmt.Fprintln(g.Stdout)
		return nil
	}
	left, err := publishChanges(ctx, g, c, changes, func(*dnsupdate.Edit) string { return "" })
	if err == nil && left {
		err = fail(exitFailure, "not everything could be published; what is left is shown above, and nothing was taken out of the configuration")
	}
	return err
}

// takeOut removes the keys from the configuration, the last first so that the
// numbers of the others stay, and keeps their files aside.
func takeOut(g *globals, old []shownKey) error {
	same := func(a, b config.DKIMKey) bool {
		return a.Domain == b.Domain && a.Selector == b.Selector && a.Key == b.Key
	}
	var before []config.DKIMKey
	err := config.EditBy(config.Path(g.Config), func(c *config.Config) (changes []config.Change) {
		before = c.DKIM
		for i := len(before) - 1; i >= 0; i-- {
			if slices.ContainsFunc(old, func(k shownKey) bool { return same(k.entry, before[i]) }) {
				changes = append(changes, config.Change{Key: fmt.Sprintf("dkim.%d", i+1), Unset: true})
			}
		}
		return changes
	})
	if err != nil {
		return configError(err)
	}
	for _, k := range old {
		fmt.Fprintf(g.Stdout, "The key with the selector %s was taken out of the configuration.\n", k.Selector)
		used := slices.ContainsFunc(before, func(e config.DKIMKey) bool { return e.Key == k.entry.Key && !same(e, k.entry) })
		if _, err := os.Lstat(k.entry.Key); err != nil || used {
			continue
		}
		if err := os.Rename(k.entry.Key, aside(k.entry.Key)); err != nil {
			fmt.Fprintf(g.Stderr, "the key's file stays where it is: %v\n", err)
			continue
		}
		fmt.Fprintf(g.Stdout, "Its file is kept as %s.\n", aside(k.entry.Key))
	}
	return nil
}
