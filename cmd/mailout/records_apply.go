package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/dns"
	"mailout/internal/dnsupdate"
	"mailout/internal/doctor"
	"mailout/internal/mta"
)

// publisher is one run of `mailout records --apply`.
type publisher struct {
	updater *dnsupdate.Updater
	server  string // as it is configured
	yes     bool
	in      io.Reader
	out     io.Writer
	print   doctorPrinter
	now     func() time.Time
}

// apply publishes what is missing. What stands in the zones is asked of the
// server that takes the update: a resolver may remember what was before, and
// an SPF record merged with an old one would undo somebody's change.
func (cmd *recordsCmd) apply(ctx context.Context, g *globals, c *config.Config, world doctor.World) error {
	if c.Identity.DNSUpdate.Server == "" {
		return fail(exitConfig, "nothing says where to publish records: set server in [identity.dns_update] (docs/dns-update.md), or enter by hand what \"mailout records\" prints")
	}
	if tty, ok := g.Stdin.(io.Writer); !cmd.Yes && !(ok && onTerminal(tty)) {
		return fail(exitUsage, "--apply asks before it changes anything, and here is no terminal to ask at: give --yes, or look first with \"mailout records\"")
	}
	resolver := daemon.Resolver(c)
	defer resolver.Close()
	u, err := daemon.Updater(c, resolver)
	if err != nil {
		return fail(exitConfig, "%v", err)
	}
	if err := u.Reach(ctx, c.Hostname); err != nil {
		return fail(exitUnavailable, "%v", err)
	}
	id := daemon.Identity(c)
	world.Ask = askAuthority(u, id, world.Ask)
	p := publisher{updater: u, server: c.Identity.DNSUpdate.Server, yes: cmd.Yes,
		in: g.Stdin, out: g.Stdout, print: newDoctorPrinter(g.Stdout), now: time.Now}
	return p.run(ctx, doctor.PlanRecords(ctx, id, world, doctor.Options{Timeout: cmd.Timeout}))
}

// askAuthority puts the questions for the configured resolvers to the primary,
// where it is the authority.
func askAuthority(u *dnsupdate.Updater, id doctor.Identity, ask func(context.Context, dns.Probe) (*dns.ProbeReply, error)) func(context.Context, dns.Probe) (*dns.ProbeReply, error) {
	return func(ctx context.Context, p dns.Probe) (*dns.ProbeReply, error) {
		if slices.Contains(id.Servers, p.Server) && !p.NoRecursion {
			if m := u.Authoritative(ctx, p.Name, p.Type); m != nil {
				return &dns.ProbeReply{Msg: m, TCP: true}, nil
			}
		}
		return ask(ctx, p)
	}
}

// run shows, asks, publishes and reads back. It ends with status 1 when
// something is left to do.
func (p *publisher) run(ctx context.Context, records *doctor.Plan) error {
	changes, guesses, err := changesOf(records)
	if err != nil {
		return fail(exitSoftware, "%v", err)
	}
	plan, err := p.updater.Plan(ctx, changes)
	if err != nil {
		return fail(exitUnavailable, "%v", err)
	}
	plan.ByHand = append(plan.ByHand, guesses...)
	p.show(plan, records)
	left := len(plan.ByHand) > 0 || slices.ContainsFunc(records.Records, func(r doctor.Record) bool { return r.Status == doctor.RecordUnknown })
	if len(plan.Edits) > 0 {
		agree, err := p.publish(ctx, plan.Edits)
		if err != nil {
			return err
		}
		left = left || !agree
	} else {
		p.say("There is nothing to change at %s.", p.server)
	}
	if left {
		return &exitError{Status: exitFailure}
	}
	return nil
}

// changesOf gives what the plan of records wants of the zones. An MX record is
// never published by itself: to which server it leads is a guess.
func changesOf(records *doctor.Plan) (out []dnsupdate.Change, guesses []dnsupdate.ByHand, err error) {
	for _, c := range records.Changes() {
		change := dnsupdate.Change{Name: c.Name, Type: c.Type}
		for to, values := range map[*[]string][]string{&change.Add: c.Want, &change.Remove: c.Gone} {
			for _, v := range values {
				rr, err := c.RR(v, 0)
				if err != nil {
					return nil, nil, fmt.Errorf("%s %s %s: %w", c.Name, c.Type, v, err)
				}
				*to = append(*to, strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
		}
		if inner := innerAddress(change); inner != "" {
			guesses = append(guesses, dnsupdate.ByHand{Change: change, Why: inner})
			continue
		}
		if change.Type == "MX" {
			guesses = append(guesses, dnsupdate.ByHand{Change: change, Why: "it is a guess: name the server that takes the domain's mail"})
			continue
		}
		out = append(out, change)
	}
	return out, guesses, nil
}

// innerAddress says why an address is not published by itself: nobody outside has
// seen such a one, and it would take the place of what receivers see.
func innerAddress(c dnsupdate.Change) string {
	for _, v := range c.Add {
		if a, err := netip.ParseAddr(v); err == nil && !mta.NetworkOf(a).Global() {
			return v + " is " + mta.NetworkOf(a).String() + ", which receivers never see: find out the visible one first (mailout doctor --only address.public)"
		}
	}
	return ""
}

func (p *publisher) say(format string, args ...any) {
	io.WriteString(p.out, p.print.wrap("", "", fmt.Sprintf(format, args...))) //nolint:errcheck // a closed output ends in nothing seen
}

// show lays out the difference, records in zone-file form and never wrapped.
func (p *publisher) show(plan dnsupdate.Plan, records *doctor.Plan) {
	zone := ""
	for _, e := range plan.Edits {
		if e.Zone != zone {
			zone = e.Zone
			p.say("Changes in the zone %s at %s:", strings.TrimSuffix(zone, "."), p.server)
			fmt.Fprintln(p.out)
		}
		for _, v := range e.Removed() {
			fmt.Fprintln(p.out, p.print.paint(sgrRed, fmt.Sprintf("  − %s %d IN %s %s", e.Name, e.OldTTL/time.Second, e.Type, v)))
		}
		for _, v := range e.Added() {
			fmt.Fprintln(p.out, p.print.paint(sgrGreen, fmt.Sprintf("  + %s %d IN %s %s", e.Name, e.TTL/time.Second, e.Type, v)))
		}
	}
	if zone != "" {
		fmt.Fprintln(p.out)
	}
	if len(plan.ByHand) > 0 {
		p.say("To publish by hand:")
		fmt.Fprintln(p.out)
		for _, h := range plan.ByHand {
			p.byHand(h)
		}
		fmt.Fprintln(p.out)
	}
	for _, note := range records.Notes {
		p.say("%s", clean(note))
	}
}

func (p *publisher) byHand(h dnsupdate.ByHand) {
	line := func(sign, value string) {
		fmt.Fprintf(p.out, "  %s %s. IN %s %s\n", sign, strings.TrimSuffix(h.Change.Name, "."), h.Change.Type, value)
	}
	for _, v := range h.Change.Remove {
		line("−", v)
	}
	for _, v := range h.Change.Add {
		line("+", v)
	}
	io.WriteString(p.out, p.print.wrap("    ", "    ", h.Why+".")) //nolint:errcheck // as in say
}

// publish asks, makes the changes and reads them back; agree reports that all
// of the zones' servers have them.
func (p *publisher) publish(ctx context.Context, edits []dnsupdate.Edit) (agree bool, err error) {
	if !p.yes {
		if err := p.confirm(ctx); err != nil {
			return false, err
		}
	}
	if err := p.updater.Apply(ctx, edits); err != nil {
		return false, fail(exitUnavailable, "%v", err)
	}
	p.say("Published at %s. Asking the zone's own servers …", p.server)
	seen := p.updater.ReadBack(ctx, edits)
	for _, s := range seen {
		m := mark{"ok", sgrGreen}
		if !s.Agrees {
			m = mark{"waits", sgrYellow}
		}
		io.WriteString(p.out, p.print.wrap("  "+p.print.paint(m.sgr, fmt.Sprintf("%-6s", m.word)), "        ", strings.TrimSuffix(s.Server+": "+s.Said, ": "))) //nolint:errcheck // as in say
	}
	agree = dnsupdate.Agree(seen)
	if !agree {
		p.say("Not every server has the new records yet. A secondary fetches them when it is told or by the zone's refresh time; look again with \"mailout doctor --only address\" or \"mailout records\".")
	}
	if longest := oldest(edits); longest > 0 {
		p.say("Caches may hold the old records until %s (%d s): until then some receivers see those.",
			p.now().Add(longest).Format("2006-01-02 15:04:05 MST"), longest/time.Second)
	}
	return agree, nil
}

// oldest is for how long caches may keep what was there before.
func oldest(edits []dnsupdate.Edit) time.Duration {
	var longest time.Duration
	for _, e := range edits {
		longest = max(longest, e.OldTTL)
	}
	return longest
}

// confirm asks; only yes is yes.
func (p *publisher) confirm(ctx context.Context) error {
	fmt.Fprint(p.out, "Publish this? (y/N) ")
	answer := make(chan string, 1)
	go func() { // ends with the program when nobody answers
		line, _ := bufio.NewReader(p.in).ReadString('\n') //nolint:errcheck // what was not said is no
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(p.out)
		return fail(exitTemporary, "interrupted: nothing was changed")
	case a := <-answer:
		if a == "y" || a == "yes" {
			return nil
		}
	}
	return fail(exitFailure, "nothing was changed")
}
