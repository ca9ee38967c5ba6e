package main

import (
	"bytes"
	"strings"
	"testing"
)

// The version is asked for in two ways, with one answer, and without a
// configuration file.
func TestVersion(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"version"}, {"--version"}, {"--version", "serve"}, {"--config", "/nonexistent", "--version"}} {
		var out, errs bytes.Buffer
		if status := run(args, nil, &out, &errs); status != 0 || errs.Len() > 0 {
			t.Errorf("%v: status %d: %s", args, status, &errs)
		}
		if out.String() != versionLine()+"\n" || !strings.HasPrefix(out.String(), "mailout "+version+" (go") {
			t.Errorf("%v: %q", args, out.String())
		}
	}
}
