package main

import (
	"fmt"

	"mailout/internal/account"
)

type configKeyCmd struct{}

// Run makes a key, and prints it and the line for the file; nothing keeps the
// key itself.
func (configKeyCmd) Run(g *globals) error {
	key, hash := account.NewKey()
	fmt.Fprintln(g.Stderr, "The key, which is shown this once (Authorization: Bearer KEY), and its line for [[user]]:")
	_, err := fmt.Fprintf(g.Stdout, "%s\nkey = %q\n", key, hash.String())
	return err
}
