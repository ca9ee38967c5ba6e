package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"mailout/internal/smtp"
	"mailout/internal/suppress"
)

type suppressImportCmd struct {
	File    string `arg:"" help:"The file; - is the standard input."`
	Stream  string `help:"Stream of entries that name none."`
	Reason  string `help:"Reason of entries that name none." default:"manual"`
	Expires string `help:"End of entries that name none: a time, or a span from now (90d)." placeholder:"WHEN"`
	Skip    bool   `help:"Leave lines that are wrong out, and import the others."`
	DryRun  bool   `help:"Only check the file."`
}

// toldLines is how many wrong lines are told one by one.
const toldLines = 100

// Run imports a file. It is read twice: when a line is wrong, nothing is
// imported. The standard input can be read once only: then lines before a wrong
// one may have been imported.
func (c *suppressImportCmd) Run(g *globals) error {
	now := time.Now()
	defaults := suppress.Suppression{Stream: c.Stream, Reason: c.Reason}
	var err error
	if defaults.Expires, err = expiry(c.Expires, now); err != nil {
		return err
	}
	if _, err := suppress.ParseReason(c.Reason); err != nil {
		return fail(exitUsage, "--reason %s", smtp.Harmless(err.Error()))
	}
	im := &importing{cmd: c, g: g, now: now, defaults: defaults, name: c.File}
	if c.File == "-" {
		im.name = "standard input"
		return im.only(g.Stdin)
	}
	f, err := os.Open(c.File)
	if err != nil {
		return fail(exitNoInput, "%v", err)
	}
	defer f.Close()
	return im.both(f)
}

// importing is one import.
type importing struct {
	cmd      *suppressImportCmd
	g        *globals
	now      time.Time
	defaults suppress.Suppression
	name     string
	wrong    int // lines
	good     int // entries
	sum      suppress.Added
}

// both checks a file, and then imports it.
func (im *importing) both(f io.ReadSeeker) error {
	if err := im.read(f, func(suppress.Entry) error { return nil }, true); err != nil {
		return err
	}
	switch {
	case im.wrong > 0 && !im.cmd.Skip:
		return fail(exitData, "%s has wrong lines (%d): nothing was imported (--skip leaves them out)", im.name, im.wrong)
	case im.cmd.DryRun:
		fmt.Fprintf(im.g.Stdout, "%d entries are fine\n", im.good)
		return nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return fail(exitIO, "%s cannot be read a second time (import it from the standard input): %v", im.name, err)
	}
	return im.send(f, false)
}

// only imports what can be read once.
func (im *importing) only(r io.Reader) error {
	if im.cmd.DryRun {
		if err := im.read(r, func(suppress.Entry) error { return nil }, true); err != nil {
			return err
		}
		fmt.Fprintf(im.g.Stdout, "%d entries are fine\n", im.good)
	} else if err := im.send(r, true); err != nil {
		return err
	}
	if im.wrong > 0 && !im.cmd.Skip {
		return fail(exitData, "%s has wrong lines (%d); they were left out", im.name, im.wrong)
	}
	return nil
}

// send imports in batches, a batch held at a time.
func (im *importing) send(r io.Reader, tell bool) error {
	d, err := connect(im.g)
	if err != nil {
		return err
	}
	im.good = 0
	batch := make([]suppress.Suppression, 0, suppress.MaxBatch)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		a, err := d.suppress(batch)
		if err != nil {
			return im.brokeOff(err)
		}
		im.sum.Added, im.sum.Changed = im.sum.Added+a.Added, im.sum.Changed+a.Changed
		batch = batch[:0]
		if onTerminal(im.g.Stderr) {
			fmt.Fprintf(im.g.Stderr, "\r\x1b[K%d so far", im.sum.Added+im.sum.Changed)
		}
		return nil
	}
	err = im.read(r, func(e suppress.Entry) error {
		batch = append(batch, e.Show())
		if len(batch) == suppress.MaxBatch {
			return flush()
		}
		return nil
	}, tell)
	if err == nil {
		err = flush()
	}
	if onTerminal(im.g.Stderr) {
		fmt.Fprint(im.g.Stderr, "\r\x1b[K")
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(im.g.Stdout, addedWords(im.sum))
	return nil
}

// brokeOff says how far an import came: the same command does the rest.
func (im *importing) brokeOff(err error) error {
	if im.sum.Added+im.sum.Changed > 0 {
		fmt.Fprintf(im.g.Stderr, "mailout: the import broke off behind %d entries; the same command does the rest\n", im.sum.Added+im.sum.Changed)
	}
	return err
}

// read calls f for each entry, and tells wrong lines.
func (im *importing) read(r io.Reader, f func(suppress.Entry) error, tell bool) error {
	in := suppress.NewReader(r, im.now)
	in.Defaults = im.defaults
	for {
		e, _, err := in.Read()
		var line *suppress.LineError
		var head *suppress.HeaderError
		switch {
		case err == nil:
			im.good++
			if err := f(e); err != nil {
				return err
			}
		case errors.Is(err, io.EOF):
			if more := im.wrong - toldLines; tell && more > 0 {
				fmt.Fprintf(im.g.Stderr, "and %d more lines of %s are wrong\n", more, im.name)
			}
			return nil
		case errors.As(err, &line):
			if tell {
				if im.wrong++; im.wrong <= toldLines {
					fmt.Fprintf(im.g.Stderr, "%s:%s\n", im.name, err)
				}
			}
		case errors.As(err, &head):
			return fail(exitData, "%s:%s", im.name, head)
		default:
			return fail(exitIO, "%s: %v", im.name, err)
		}
	}
}
