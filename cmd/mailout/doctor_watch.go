package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"mailout/internal/doctor"
)

// change is a finding that is another than the last time.
type change struct {
	Time string `json:"time"`
	// Was is the status before; empty when there was none.
	Was doctor.Status `json:"was,omitempty"`
	doctor.Check
}

// watched is what is remembered of the last examination.
type watched struct {
	found map[findingKey]doctor.Check
	lists time.Time // when the block lists were asked last
}

type findingKey struct{ id, subject string }

// listsID is the check that asks others' servers, and so is made less often.
const listsID = "blocklist"

// watch repeats the examination until ctx ends. What is not fine at the start
// counts as a change.
func (d *examination) watch(ctx context.Context) error {
	last := watched{found: map[findingKey]doctor.Check{}}
	status := 0
	for {
		report := d.again(ctx, &last)
		if ctx.Err() != nil {
			break // half an examination says nothing
		}
		status = report.ExitStatus()
		for _, c := range last.changes(report, d.clock()) {
			if err := d.printChange(c); err != nil {
				return err
			}
		}
		if !pause(ctx, jittered(d.interval)) {
			break
		}
	}
	if status != 0 {
		return &exitError{Status: status}
	}
	return nil
}

// again examines, without the block lists when their time has not come: then
// what they said last still stands.
func (d *examination) again(ctx context.Context, last *watched) *doctor.Report {
	now := d.clock()
	if last.lists.IsZero() || now.Sub(last.lists) >= d.listsInterval {
		last.lists = now
		return d.examine(ctx, d.cmd.Only)
	}
	only := d.cmd.Only
	if len(only) == 0 {
		only = checkIDs()
	}
	only = slices.DeleteFunc(slices.Clone(only), func(id string) bool { return id == listsID })
	report := &doctor.Report{Status: doctor.Pass}
	if len(only) > 0 {
		report = d.examine(ctx, only)
	}
	for _, c := range last.found {
		if c.ID == listsID {
			report.Checks = append(report.Checks, c)
			report.Status = worse(report.Status, c.Status)
		}
	}
	return report
}

// worse sums up as a report does.
func worse(a, b doctor.Status) doctor.Status {
	switch {
	case a == doctor.Fail || b == doctor.Fail:
		return doctor.Fail
	case a == doctor.Warn || b == doctor.Warn || b == doctor.Unknown:
		return doctor.Warn
	}
	return a
}

// changes compares with the last time, and remembers.
func (w *watched) changes(report *doctor.Report, now time.Time) []change {
	stamp := now.UTC().Format("2006-01-02T15:04:05.000Z07:00")
	next := make(map[findingKey]doctor.Check, len(report.Checks))
	var out []change
	for _, c := range report.Checks {
		key := findingKey{c.ID, c.Subject}
		next[key] = c
		old, known := w.found[key]
		if known && !differs(old, c) || !known && (c.Status == doctor.Pass || c.Status == doctor.Skip) {
			continue
		}
		out = append(out, change{Time: stamp, Was: old.Status, Check: c})
	}
	for key, old := range w.found {
		if _, still := next[key]; !still && old.Status != doctor.Skip && old.Status != doctor.Pass {
			out = append(out, change{Time: stamp, Was: old.Status, Check: doctor.Check{
				ID: key.id, Subject: key.subject, Status: doctor.Skip, Seen: "it is not there any more", Why: old.Why}})
		}
	}
	slices.SortStableFunc(out, func(a, b change) int { return strings.Compare(a.ID+" "+a.Subject, b.ID+" "+b.Subject) })
	w.found = next
	return out
}

// differs reports a finding worth a line: another status, or another thing to
// do. What was seen may count seconds, which is no news.
func differs(old, c doctor.Check) bool {
	if old.Status != c.Status || (old.Fix == nil) != (c.Fix == nil) {
		return true
	}
	return c.Fix != nil && (old.Fix.Record != c.Fix.Record || old.Fix.Command != c.Fix.Command)
}

// printChange writes one line.
func (d *examination) printChange(c change) error {
	if d.cmd.JSON {
		return writeJSON(d.out, c)
	}
	p := newDoctorPrinter(d.out)
	m := marks[c.Status]
	line := c.Time + "  " + p.paint(m.sgr, m.word)
	if c.Was != "" {
		line += " (was " + marks[c.Was].word + ")"
	}
	line += "  " + c.ID + "  " + title(c.Check) + ": " + clean(c.Seen)
	if f := c.Fix; f != nil {
		todo := f.Record
		if todo == "" {
			todo = f.Command
		}
		if todo == "" {
			todo = f.Text
		}
		line += "  → " + clean(todo)
	}
	_, err := io.WriteString(d.out, line+"\n")
	if err != nil {
		return fmt.Errorf("mailout: %w", err)
	}
	return nil
}

// pause waits; it reports false when ctx has ended.
func pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// jittered is a time give or take a tenth, so that many machines do not ask at
// once.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}
