//go:build linux || darwin || freebsd

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/creack/pty"

	"mailout/internal/config"
	"mailout/internal/mtatest"
)

// dialogue is a set-up on a pseudo-terminal.
type dialogue struct {
	t    *testing.T
	cmd  *exec.Cmd
	tty  *os.File
	came chan []byte
	text string // all that came
	seen int    // of it that was waited for
}

// talk starts the program on a terminal of a kind.
func (b *beginner) talk(kind string, more ...string) *dialogue {
	b.t.Helper()
	cmd := exec.Command(b.program.Path, append(b.args, more...)...)
	cmd.Env = append(os.Environ(), "MAILOUT_CONFIG="+b.program.Config, "TERM="+kind)
	tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 50, Cols: 200})
	if err != nil {
		b.t.Skip("no pseudo-terminal:", err)
	}
	d := &dialogue{t: b.t, cmd: cmd, tty: tty, came: make(chan []byte, 64)}
	b.t.Cleanup(func() {
		_ = cmd.Process.Kill() // fails for one that is gone
		tty.Close()
	})
	go func() {
		defer close(d.came)
		for {
			buf := make([]byte, 4096)
			n, err := tty.Read(buf)
			if n > 0 {
				d.came <- buf[:n]
			}
			if err != nil {
				return // also when the program has ended
			}
		}
	}()
	return d
}

// dialogueLimit bounds the wait for the next question.
const dialogueLimit = 30 * time.Second

// until waits for the first of some texts behind what was seen; -1 when the
// program ended first.
func (d *dialogue) until(texts ...string) int {
	d.t.Helper()
	limit := time.NewTimer(dialogueLimit)
	defer limit.Stop()
	for {
		first, which := -1, -1
		for i, text := range texts {
			if at := strings.Index(d.text[d.seen:], text); at >= 0 && (first < 0 || at < first) {
				first, which = at, i
			}
		}
		if which >= 0 {
			d.seen += first + len(texts[which])
			return which
		}
		select {
		case more, ok := <-d.came:
			if !ok {
				return -1
			}
			d.text += string(more)
		case <-limit.C:
			d.t.Fatalf("none of %q in\n%s", texts, d.text)
		}
	}
}

func (d *dialogue) answer(line string) {
	d.t.Helper()
	if _, err := d.tty.WriteString(line); err != nil {
		d.t.Fatalf("%v\n%s", err, d.text)
	}
}

// end waits for the program, and gives its status.
func (d *dialogue) end() int {
	d.t.Helper()
	if d.until("\x00 never") >= 0 {
		d.t.Fatal("a NUL")
	}
	_ = d.cmd.Wait() // the status tells
	return d.cmd.ProcessState.ExitCode()
}

// turn is one question and its answer.
type turn struct{ prompt, answer string }

// turns are all questions of a set-up on a machine without a configuration.
func (b *beginner) turns() []turn {
	return []turn{
		{"Delivery [1]: ", ""},
		{"\nHost name", "mailout.widget.example"},
		{"Public address (list, or \"auto\" to find it out each time) [auto]: ", ""},
		{"What now [1]: ", ""}, // records
		{"Domain to make a key for, or \"none\" [widget.example]: ", ""},
		{"Selector (the record's name is SELECTOR._domainkey.widget.example) [m", ""},
		{"Postmaster [postmaster@widget.example]: ", "ops@widget.example"},
		{"Address and port, or \"none\" [127.0.0.1:25]: ", b.smtp},
		{"Directory [", filepath.Join(b.dir, "spool")},
		{"Write " + b.program.Config + " [1]: ", ""},
	}
}

// TestSetupOnATerminal: with a line editor and without.
func TestSetupOnATerminal(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"xterm", "dumb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			b := newWorld(t).beginner()
			d := b.talk(kind)
			for _, turn := range b.turns() {
				if d.until(turn.prompt) < 0 {
					t.Fatalf("no %q in\n%s", turn.prompt, d.text)
				}
				if strings.Contains(turn.prompt, "Host name") {
					d.until(": ")
					d.answer("mail_out.widget.example\r")
					d.until("underscore")
				}
				d.answer(turn.answer + "\r")
			}
			if status := d.end(); status != 0 || !strings.Contains(d.text, "What mailout doctor says") {
				t.Fatalf("status %d\n%s", status, d.text)
			}
			if strings.Contains(d.text, "\x1b]") {
				t.Errorf("the terminal was asked something:\n%q", d.text)
			}
			c, err := config.Load(b.program.Config)
			if err != nil || c.Hostname != "mailout.widget.example" || c.Postmaster != "ops@widget.example" || len(c.DKIM) != 1 ||
				len(c.Listen) != 1 || c.Listen[0].Address.String() != b.smtp {
				t.Errorf("%v %+v", err, c)
			}
		})
	}
}

// TestSetupInterruptedAtEachQuestion: Ctrl-C leaves nothing behind, on either
// kind of terminal, and the terminal as it was.
func TestSetupInterruptedAtEachQuestion(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"xterm", "dumb"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			b := w.beginner()
			for stop, turns := 0, b.turns(); stop < len(turns); stop++ {
				d := b.talk(kind)
				for i, turn := range turns[:stop+1] {
					if d.until(turn.prompt) < 0 {
						t.Fatalf("no %q in\n%s", turn.prompt, d.text)
					}
					if i == stop {
						d.answer("half a li\x03")
					} else {
						d.answer(turn.answer + "\r")
					}
				}
				if status := d.end(); status != 75 || !strings.Contains(d.text, "stopped: nothing was written") {
					t.Fatalf("at %q: status %d\n%s", turns[stop].prompt, status, d.text)
				}
				if left := b.files(); left != "" {
					t.Fatalf("at %q there stays\n%s", turns[stop].prompt, left)
				}
			}
		})
	}
}

// TestSetupInterruptedWhileLooking: Ctrl-C also ends the wait for an answer of
// others.
func TestSetupInterruptedWhileLooking(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.beginner()
	w.dns.Script("*", 0, mtatest.Script{Silent: true})
	d := b.talk("xterm", "--router", "none")
	d.until("Asking for outside.example")
	d.answer("\x03")
	if status := d.end(); status != 75 || !strings.Contains(d.text, "stopped: nothing was written") || b.files() != "" {
		t.Errorf("status %d\n%s\n%s", status, d.text, b.files())
	}
}

// TestSetupAgainOnATerminal: Enter everywhere changes nothing; one answer
// changes one thing.
func TestSetupAgainOnATerminal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	b := w.beginner()
	b.args = append(b.args, "--offline")
	text := fmt.Sprintf("# by hand\nhostname = \"mailout.widget.example\" # ours\npostmaster = \"a@widget.example\"\nspool = %q\n\n[[listen]]\naddress = %q\n",
		filepath.Join(b.dir, "spool"), b.smtp)
	if err := os.MkdirAll(filepath.Dir(b.program.Config), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.program.Config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.args = []string{"setup", "--offline"}
	again := regexp.MustCompile(`\[[^\]]*\]: $`)
	for _, change := range []string{"", "b@widget.example"} {
		d := b.talk("dumb")
		for {
			which := d.until("]: ", "What mailout doctor says")
			if which != 0 {
				break
			}
			prompt := again.FindString(d.text[:d.seen])
			line := ""
			if prompt == "[a@widget.example]: " {
				line = change
			}
			d.answer(line + "\r")
		}
		if status := d.end(); status != 0 {
			t.Fatalf("status %d\n%s", status, d.text)
		}
		want := text
		if change != "" {
			want = strings.Replace(text, "a@widget.example", change, 1)
		}
		if got, err := os.ReadFile(b.program.Config); err != nil || string(got) != want {
			t.Errorf("%v\n%s", err, got)
		}
	}
}
