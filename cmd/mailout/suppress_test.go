package main

import (
	"bytes"
	"strings"
	"testing"

	"mailout/internal/suppress"
)

// A list without entries says so to people, and nothing to programs.
func TestSuppressListOfNothing(t *testing.T) {
	t.Parallel()
	w := newExplained(t, 45)
	w.start()
	for want, args := range map[string][]string{
		"nothing is listed\n": {"suppress", "list", "--config", w.config},
		"":                    {"suppress", "list", "--config", w.config, "--json"},
	} {
		var out, errs bytes.Buffer
		if status := run(args, nil, &out, &errs); status != 0 || out.String() != want {
			t.Errorf("status %d, %q, %q", status, out.String(), errs.String())
		}
	}
}

// Of an entry that ends on the day of its beginning the time is told.
func TestShownSuppression(t *testing.T) {
	t.Parallel()
	for want, s := range map[string]suppress.Suppression{
		"a@b.example  dead  since 2026-11-23 until 2027-02-21\n":                             {Expires: "2027-02-21T14:51:41.000Z"},
		"a@b.example  dead  since 2026-11-23\n":                                              {},
		"a@b.example  dead  since 2026-11-23T14:51:41.790Z until 2026-11-23T15:51:41.000Z\n": {Expires: "2026-11-23T15:51:41.000Z"},
	} {
		s.Address, s.Reason, s.Since = "a@b.example", "dead", "2026-11-23T14:51:41.790Z"
		var out strings.Builder
		if err := new(suppressListCmd).print(&out, &s); err != nil || out.String() != want {
			t.Errorf("%q, %v", out.String(), err)
		}
	}
}
