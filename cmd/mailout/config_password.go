package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"mailout/internal/account"
)

type configPasswordCmd struct {
	Scram bool `help:"Make a hash that SCRAM-SHA-256 works with too. It costs whoever steals it less to guess than the default, argon2id."`
}

// Run asks for the password twice at a terminal, else takes the first line of
// standard input, and prints the hash alone.
func (cmd *configPasswordCmd) Run(g *globals) error {
	password, err := readPassword(g)
	if err != nil {
		return err
	}
	hash, err := account.Hash(password, cmd.Scram)
	if err != nil {
		return fail(exitUsage, "%v", err)
	}
	_, err = fmt.Fprintln(g.Stdout, hash)
	return err
}

func readPassword(g *globals) (string, error) {
	in, ok := g.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return firstLine(g.Stdin)
	}
	first, err := askPassword(g, in, "Password: ")
	if err != nil {
		return "", err
	}
	second, err := askPassword(g, in, "Again: ")
	if err == nil && first != second {
		err = fail(exitUsage, "the two are not the same")
	}
	return first, err
}

func askPassword(g *globals, in *os.File, prompt string) (string, error) {
	fmt.Fprint(g.Stderr, prompt)
	b, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(g.Stderr)
	if err != nil {
		return "", fail(exitUsage, "no password: %v", err)
	}
	return string(b), nil
}

// firstLine reads a password from a pipe; a line end is no part of it.
func firstLine(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, account.MaxPassword+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fail(exitUsage, "standard input cannot be read: %v", err)
	}
	return strings.TrimRight(line, "\r\n"), nil
}
