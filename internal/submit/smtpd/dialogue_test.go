package smtpd

import (
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"mailout/internal/submit"
)

// TestDialogues plays the files in testdata/dialogue against a server. Lines:
//
//	# comment
//	@ends repair | @size N | @recipients N | @errors N | @commands N | @line N
//	@users argon|scram | @auth always|tls|never | @tls offered|required|implicit
//	@peer ADDRESS | @postmaster none | @refuse STEP REPLY   (before the first C or S)
//	C: text    send text and CRLF; Go's escapes, and {N} for N letters x
//	C> text    send text alone
//	S: line    the next reply line; "*" at its end stands for anything
//	S.         the server has closed
//	M: ...     the next accepted message, as describe writes it
//
// At the end there are no more replies and no more messages.
func TestDialogues(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("testdata/dialogue/*.txt")
	if len(files) < 10 {
		t.Fatalf("only %d dialogues", len(files))
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { play(t, string(text)) })
		})
	}
}

// dialogue is a file being played.
type dialogue struct {
	t      *testing.T
	set    Settings
	from   string
	intake *intake
	server *Server
	peer   *peer
	seen   int // messages looked at
}

func play(t *testing.T, text string) {
	d := &dialogue{t: t, set: testSettings(), from: trustedPeer, intake: &intake{fail: map[string]error{}}}
	for i, line := range strings.Split(text, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if line[0] == '@' {
			d.directive(strings.SplitN(line[1:], " ", 3))
			continue
		}
		d.begin()
		t.Logf("%d: %.100s", i+1, line)
		d.step(line)
	}
	d.begin()
	d.peer.conn.Close()
	stopNow(t, d.server, d.intake)
	for line := range d.peer.lines {
		t.Errorf("one more reply: %q", line)
	}
	if n := len(d.intake.taken()); n != d.seen {
		t.Errorf("%d messages, %d expected", n, d.seen)
	}
}

func (d *dialogue) begin() {
	if d.server == nil {
		var l *listener
		d.server, l = start(d.t, d.set, d.intake)
		d.peer = l.dial(d.t, d.from)
	}
}

func (d *dialogue) directive(words []string) {
	n, _ := strconv.Atoi(words[1])
	switch words[0] {
	case "ends":
		d.set.LineEnds = submit.RepairBare
	case "size":
		d.set.Limits.MessageSize = int64(n)
	case "recipients":
		d.set.Limits.Recipients = n
	case "errors":
		d.set.Limits.Errors = n
	case "commands":
		d.set.Limits.Commands = n
	case "line":
		d.set.Limits.Line = n
	case "peer":
		d.from = netip.MustParseAddr(words[1]).String()
	case "postmaster":
		d.set.Postmaster = ""
	case "users":
		d.set.Users = testUsers(d.t, words[1] == "scram")
	case "auth":
		d.set.Auth = map[string]AuthMode{"tls": AuthTLS, "always": AuthAlways, "never": AuthNever}[words[1]]
	case "tls":
		d.set.TLS, _ = testTLS(d.t)
		d.set.TLSMode = map[string]TLSMode{"offered": TLSOffered, "required": TLSRequired, "implicit": TLSImplicit}[words[1]]
	case "refuse":
		d.intake.fail[words[1]] = refusal(words[2])
	default:
		d.t.Fatalf("unknown directive %q", words)
	}
}

func (d *dialogue) step(line string) {
	d.t.Helper()
	if line == "S." {
		d.peer.wantClosed()
		return
	}
	kind, rest := line[:2], strings.TrimPrefix(line[2:], " ")
	switch kind {
	case "C:":
		d.peer.send(expand(d.t, rest) + "\r\n")
	case "C>":
		d.peer.send(expand(d.t, rest))
	case "S:":
		d.peer.want(rest)
	case "M:":
		synctest.Wait()
		m := d.intake.taken()
		if d.seen >= len(m) {
			d.t.Fatalf("no message; want %s", rest)
		}
		if got := describe(m[d.seen]); got != rest {
			d.t.Fatalf("message %s\nwant    %s", got, rest)
		}
		d.seen++
	default:
		d.t.Fatalf("unknown step %q", line)
	}
}

// expand undoes Go's escapes and {N}.
func expand(t *testing.T, s string) string {
	out, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%q: %v", s, err)
	}
	before, rest, found := strings.Cut(out, "{")
	number, after, closed := strings.Cut(rest, "}")
	if n, err := strconv.Atoi(number); found && closed && err == nil {
		return before + strings.Repeat("x", n) + after
	}
	return out
}
