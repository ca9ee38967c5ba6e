package main

import (
	"io"
	"os"

	"golang.org/x/term"

	"mailout/internal/setup"
)

// How the questions are put: with a line editor (golang.org/x/term: cursor
// keys, history), and line by line on terminals that can do no more.
//
// Rejected: charmbracelet/huh. Linking it makes every command of the program
// ask the terminal for its background colour at start (an init of bubbletea),
// and wait up to five seconds where nobody answers; and its mode without
// cursor control takes the end of input for Enter.

// terminal is where somebody sits.
type terminal struct {
	in    *os.File
	out   io.Writer
	print doctorPrinter
	raw   bool        // it can be edited on
	was   *term.State // as it was found
}

// openTerminal finds the terminal that questions can be put to.
func openTerminal(g *globals) (*terminal, error) {
	in, ok := g.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, fail(exitUsage, "setup asks questions, and the standard input is no terminal: add --yes, and the answers as flags (mailout setup --help)")
	}
	was, err := term.GetState(int(in.Fd()))
	if err != nil {
		return nil, fail(exitIO, "the terminal: %v", err)
	}
	kind := os.Getenv("TERM")
	return &terminal{
		in: in, out: g.Stdout, print: newDoctorPrinter(g.Stdout), was: was,
		raw: onTerminal(g.Stdout) && kind != "" && kind != "dumb",
	}, nil
}

// close leaves the terminal as it was found, also in the middle of a line.
func (t *terminal) close() { _ = term.Restore(int(t.in.Fd()), t.was) }

// asker puts the questions.
func (t *terminal) asker() setup.Asker {
	lines := &setup.Lines{Out: t.out, Wrong: func(text string) string {
		return t.print.wrap("  "+t.print.paint(sgrRed, "No:")+" ", "      ", clean(text))
	}}
	if t.raw {
		lines.Read = t.editor()
	} else {
		lines.Read = setup.PlainReader(t.in, t.out)
	}
	return lines
}

// editor reads lines that can be edited. Ctrl-C and the end of input are both
// io.EOF. Between the questions the terminal is as it was, so that Ctrl-C is a
// signal there.
func (t *terminal) editor() func(prompt string) (string, error) {
	line := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{t.in, t.out}, "")
	fd := int(t.in.Fd())
	return func(prompt string) (string, error) {
		if _, err := term.MakeRaw(fd); err != nil {
			return "", err
		}
		defer t.close()
		if width, height, err := term.GetSize(fd); err == nil && width > 0 {
			_ = line.SetSize(width, height) // an odd size spoils the looks alone
		}
		line.SetPrompt(prompt)
		text, err := line.ReadLine()
		if err != nil {
			_, _ = io.WriteString(t.out, "\r\n")
		}
		return text, err
	}
}
