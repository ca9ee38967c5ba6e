package main

import (
	"fmt"
	"runtime"
)

type versionCmd struct{}

// Run prints version, Go version and platform.
func (versionCmd) Run(g *globals) error {
	_, err := fmt.Fprintln(g.Stdout, versionLine())
	return err
}

func versionLine() string {
	return fmt.Sprintf("mailout %s (%s %s/%s)", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
