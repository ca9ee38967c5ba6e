package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"mailout/internal/lint"
	"mailout/internal/smtp"
)

// lintCmd says what receivers will dislike in a message. It asks no network and
// needs no daemon.
type lintCmd struct {
	From string `short:"f" help:"Return path that the message will have." placeholder:"ADDRESS"`
	JSON bool   `name:"json" help:"Print a list of objects."`
	File string `arg:"" help:"MIME file, or - for standard input."`
}

// maxLint bounds what is read: ten times what any receiver takes.
const maxLint = 256 << 20

// Run prints the findings; status 1 when there are warnings, 2 with errors.
func (c *lintCmd) Run(g *globals) error {
	if from := strings.Trim(c.From, "<> "); from != "" {
		if _, err := smtp.ParseMailbox(from, true); err != nil {
			return fail(exitUsage, "--from: %v", err)
		}
	}
	content, err := c.read(g)
	if err != nil {
		return err
	}
	found := lint.Check(content, lint.Options{From: c.From, Now: time.Now()})
	if err := c.print(g, found); err != nil {
		return fail(exitIO, "writing the findings: %v", err)
	}
	if worst := lint.Worst(found); worst > 0 {
		return &exitError{Status: worst}
	}
	return nil
}

func (c *lintCmd) read(g *globals) ([]byte, error) {
	in := g.Stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, fail(exitNoInput, "%v", err)
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, maxLint+1))
	if err == nil && len(content) > maxLint {
		err = errors.New("it is larger than 256 MB; no receiver takes that")
	}
	if err != nil {
		return nil, fail(exitNoInput, "reading %s: %v", c.File, err)
	}
	return content, nil
}

func (c *lintCmd) print(g *globals, found []lint.Finding) error {
	if c.JSON {
		if found == nil {
			found = []lint.Finding{}
		}
		return json.NewEncoder(g.Stdout).Encode(found)
	}
	for _, f := range found {
		where := c.File
		if f.Line > 0 {
			where = fmt.Sprintf("%s:%d", c.File, f.Line)
		}
		if _, err := fmt.Fprintf(g.Stdout, "%s: %s: %s [%s; %s]\n", where, f.Severity, f.Text, f.ID, f.Source); err != nil {
			return err
		}
	}
	return nil
}
