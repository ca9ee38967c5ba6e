//go:build !linux

package mtatest

import "os/exec"

// EndTogether does nothing: only Linux ends a child with its parent.
func EndTogether(*exec.Cmd) {}
