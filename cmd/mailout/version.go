package main

import (
	"fmt"
	"runtime"
)

type versionCmd struct{}

// Run prints version, Go version and platform.
func (versionCmd) Run(g *globals) error {
	_, err := fmt.Fprintf(g.Stdout, "mailout %s (%s %s/%s)\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return err
}
