//go:build linux || darwin || freebsd

package main

import (
	"strings"
	"testing"

	"github.com/creack/pty"
)

// TestDoctorOnATerminal: colour and the terminal's width, unless NO_COLOR.
func TestDoctorOnATerminal(t *testing.T) {
	t.Setenv("NO_COLOR", "")
	t.Setenv("TERM", "xterm")
	master, tty, err := pty.Open()
	if err != nil {
		t.Skip("no pseudo-terminal:", err)
	}
	defer master.Close()
	defer tty.Close()
	for columns, want := range map[uint16]int{60: 60, 10: leastWidth, 500: mostWidth, 0: usualWidth} {
		if err := pty.Setsize(tty, &pty.Winsize{Rows: 24, Cols: columns}); err != nil {
			t.Fatal(err)
		}
		if p := newDoctorPrinter(tty); !p.colour || p.width != want {
			t.Errorf("%d columns: %+v", columns, p)
		}
	}
	if text := newDoctorPrinter(tty).report(shownReport); !strings.Contains(text, "\x1b[31mFAIL") {
		t.Errorf("%q", text)
	}
	t.Setenv("NO_COLOR", "1")
	if p := newDoctorPrinter(tty); p.colour {
		t.Error("coloured in spite of NO_COLOR")
	}
}
