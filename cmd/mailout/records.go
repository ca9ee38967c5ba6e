package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"mailout/internal/daemon"
	"mailout/internal/doctor"
)

type recordsCmd struct {
	Zone    bool          `xor:"form" help:"In zone-file form."`
	JSON    bool          `name:"json" xor:"form" help:"As one JSON list."`
	Apply   bool          `xor:"form" help:"Publish what is missing by DNS update (see [identity.dns_update]): shows the difference, asks, publishes, reads back."`
	Yes     bool          `help:"With --apply: do not ask."`
	Timeout time.Duration `default:"20s" help:"Most time for looking up what is published."`
}

// Run prints the records that direct delivery needs, each with whether it is
// published. Without --apply it only asks; what it could not find out is said
// on stderr.
func (cmd *recordsCmd) Run(g *globals) error {
	if cmd.Timeout <= 0 {
		return fail(exitUsage, "--timeout %s is no time to look anything up in (write for example 20s)", cmd.Timeout)
	}
	if cmd.Yes && !cmd.Apply {
		return fail(exitUsage, "--yes answers the question of --apply, which is not there")
	}
	c, err := examined(g)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	world := doctor.SystemWorld(func() []doctor.Learned { return learned(ctx, c.HTTP.Socket) })
	if cmd.Apply {
		return cmd.apply(ctx, g, c, world)
	}
	plan := doctor.PlanRecords(ctx, daemon.Identity(c), world, doctor.Options{Timeout: cmd.Timeout})
	if ctx.Err() != nil {
		return fail(exitTemporary, "interrupted")
	}
	return cmd.print(g, plan)
}

func (cmd *recordsCmd) print(g *globals, plan *doctor.Plan) error {
	switch {
	case cmd.JSON:
		for _, note := range plan.Notes {
			fmt.Fprintln(g.Stderr, clean(note))
		}
		records := plan.All()
		if records == nil {
			records = []doctor.Record{} // a list, also when it is empty
		}
		return writeJSON(g.Stdout, records)
	case cmd.Zone:
		_, err := io.WriteString(g.Stdout, zoneText(plan))
		return err
	}
	_, err := io.WriteString(g.Stdout, newDoctorPrinter(g.Stdout).records(plan))
	return err
}

// zoneText is the plan as part of zone files: what is not to be entered there
// is a comment.
func zoneText(plan *doctor.Plan) string {
	var b strings.Builder
	comment := func(text string) {
		for line := range strings.SplitSeq(text, "\n") {
			b.WriteString("; " + clean(line) + "\n")
		}
	}
	for i, r := range plan.Records {
		if i > 0 {
			b.WriteString("\n")
		}
		comment(r.For + ": " + string(r.Status))
		for _, now := range r.Now {
			comment("in place of: " + doctor.Record{Name: r.Name, Type: r.Type, Value: now}.Zoned())
		}
		b.WriteString(r.Zoned() + "\n")
	}
	for _, r := range plan.Reverse {
		b.WriteString("\n")
		comment(r.For + ": " + string(r.Status))
		comment(r.Zoned())
		if r.Status != doctor.RecordPublished {
			comment(r.Words)
		}
	}
	if len(plan.Notes) > 0 {
		b.WriteString("\n")
		comment(strings.Join(plan.Notes, "\n"))
	}
	return b.String()
}

var recordMarks = map[doctor.RecordStatus]mark{
	doctor.RecordPublished: {"ok", sgrGreen},
	doctor.RecordDiffers:   {"differs", sgrYellow},
	doctor.RecordMissing:   {"missing", sgrRed},
	doctor.RecordUnknown:   {"unknown", sgrCyan},
}

// records lays the plan out for web forms: by domain, the name without it,
// type and value, which is never wrapped, so that it can be copied.
func (p doctorPrinter) records(plan *doctor.Plan) string {
	var b strings.Builder
	for _, zone := range zonesOf(plan) {
		if zone == "" {
			b.WriteString("Records whose domain could not be found in DNS\n")
		} else {
			b.WriteString("Records to enter for the domain " + zone + "\n")
		}
		for _, r := range plan.Records {
			if r.Zone == zone {
				b.WriteString("\n" + p.record(r))
			}
		}
		b.WriteString("\n")
	}
	for _, r := range plan.Reverse {
		m := recordMarks[r.Status]
		fmt.Fprintf(&b, "Reverse record of %s: %s (%s)\n", r.Addr, r.Value, p.paint(m.sgr, m.word))
		if r.Status != doctor.RecordPublished {
			b.WriteString(p.wrap("  ", "  ", clean(r.Words)))
		}
		b.WriteString("\n")
	}
	for _, note := range plan.Notes {
		b.WriteString(p.wrap("", "", clean(note)))
	}
	b.WriteString(p.wrap("", "", planSummary(plan)))
	return b.String()
}

func (p doctorPrinter) record(r doctor.Record) string {
	m := recordMarks[r.Status]
	var b strings.Builder
	fmt.Fprintf(&b, "  %s  %s\n", p.paint(m.sgr, fmt.Sprintf("%-9s", m.word)), r.For)
	fmt.Fprintf(&b, "    name   %s\n    type   %s\n    value  %s\n", clean(r.Relative()), r.Type, clean(r.Entered()))
	for _, now := range r.Now {
		fmt.Fprintf(&b, "    in place of  %s\n", clean(now))
	}
	return b.String()
}

// zonesOf are the zones of a plan in order.
func zonesOf(plan *doctor.Plan) []string {
	var out []string
	seen := map[string]bool{}
	for _, r := range plan.Records {
		if !seen[r.Zone] {
			seen[r.Zone] = true
			out = append(out, r.Zone)
		}
	}
	return out
}

func planSummary(plan *doctor.Plan) string {
	count := map[doctor.RecordStatus]int{}
	for _, r := range plan.All() {
		count[r.Status]++
	}
	total := len(plan.All())
	switch {
	case total == 0:
		return "There is no record to publish."
	case plan.Complete():
		return fmt.Sprintf("All %d records are published.", total)
	}
	var parts []string
	for _, s := range []struct {
		status    doctor.RecordStatus
		one, more string
	}{
		{doctor.RecordPublished, "is published", "are published"}, {doctor.RecordDiffers, "differs", "differ"},
		{doctor.RecordMissing, "is missing", "are missing"}, {doctor.RecordUnknown, "could not be looked up", "could not be looked up"},
	} {
		switch n := count[s.status]; n {
		case 0:
		case 1:
			parts = append(parts, "1 "+s.one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, s.more))
		}
	}
	return fmt.Sprintf("Of %s %s. A name \"@\" is the domain itself; many forms add the domain to names by themselves.",
		counted(int64(total), "record"), strings.Join(parts, ", "))
}
