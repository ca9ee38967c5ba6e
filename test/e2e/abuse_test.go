package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// abuseRow is one input that must be refused, and the documented answer: a code
// span of the door's table in docs/refusals.md, in which … stands for anything.
type abuseRow struct {
	door, name, want string
	run              func(a *abuse) string
}

// abuse is the daemon that all rows go against.
type abuse struct {
	*daemon
	t        *testing.T
	ports    map[string]string // address of each [[listen]], and of [http]
	ca       *mtatest.Authority
	next     atomic.Uint32
	sendmail string // the binary by this name
}

// The limits that the rows run into. Times are short, and yet long enough for a
// busy machine to answer in.
const (
	abuseMessage = 20_000_000 // octets
	abuseMemory  = 256 << 20
)

// TestAbuse plays some three hundred abusive inputs against every door at once.
// Each is refused in the documented words; then nothing of them is stored
// anywhere, memory has stayed within its limit by a quarter, and the daemon
// takes and delivers mail as before, also after a restart.
func TestAbuse(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "b.example", "abuse.example", "sender.example", "shop.example")
	a := newAbuse(t, w)
	rows := a.rows()
	if len(rows) < 200 {
		t.Errorf("only %d rows", len(rows))
	}
	a.playAll(rows)
	a.nothingStored(mx)
	a.stillWorks(mx)
	if peak := a.peakMemory(); peak > abuseMemory+abuseMemory/4 {
		t.Errorf("peak resident memory %d MiB at a limit of %d MiB", peak>>20, abuseMemory>>20)
	} else {
		t.Logf("%d rows, peak resident memory %d MiB", len(rows), peak>>20)
	}
	a.stop()
	a.start()
	a.nothingStored(mx)
	a.stillWorks(mx)
	a.stop()
}

func (a *abuse) rows() []abuseRow {
	var rows []abuseRow
	for _, of := range [][]abuseRow{
		abusiveCommands(), abusiveAddresses(), abusiveContent(), abusiveChunks(), abusiveSessions(), abusiveTLS(), abusiveAuth(), abusiveProxy(),
		abusiveSendmail(), abusiveDrops(), abusivePickups(), abusiveRequests(),
	} {
		rows = append(rows, of...)
	}
	return rows
}

func newAbuse(t *testing.T, w *world) *abuse {
	t.Helper()
	a := &abuse{t: t, ports: map[string]string{}, sendmail: sendmailCommand(t)}
	a.daemon = w.daemon(fmt.Sprintf("retry = [\"1h\"]\n\n[limits]\nmessage_size = \"%dB\"\nmemory = \"%dB\"\ncommand_timeout = \"3s\"\ndata_timeout = \"3s\"\nmessage_timeout = \"12s\"\nconnections = 2000\nrecipients = 100\nerrors = 10\ncommands = 200\nhops = 30\n", abuseMessage, abuseMemory))
	a.replace("retry = [\"1s\"]\n", "")
	var err error
	if a.ca, err = mtatest.NewAuthority(); err != nil {
		t.Fatal(err)
	}
	writePair(t, a.ca, a.dir, true, "mailout.sender.example")
	const pair = "cert = \"cert.pem\"\nkey = \"key.pem\"\n"
	var listen strings.Builder
	for name, keys := range map[string]string{
		"users":    "trusted = []\n" + pair,
		"required": "tls = \"required\"\n" + pair,
		"implicit": "trusted = []\ntls = \"implicit\"\n" + pair,
		"clear":    "trusted = []\nauth = \"always\"\n",
		"never":    "auth = \"never\"\ntrusted = []\n",
		"proxy":    "trusted = [\"198.51.100.0/24\"]\nproxy = [\"127.0.0.0/8\"]\n",
		"legacy":   "trusted = [\"10.0.5.0/24\"]\ntls_min = \"1.0\"\n" + pair,
		"peer":     "connections_per_peer = 2\n",
		"few":      "connections = 2\n",
	} {
		a.ports[name] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		fmt.Fprintf(&listen, "[[listen]]\naddress = %q\n%s\n", a.ports[name], keys)
	}
	a.ports["open"] = a.smtp
	for user, keys := range map[string]string{
		"erp":  "from = [\"*@sender.example\"]\n",
		"shop": "from = [\"*@shop.example\"]\nrate = \"1/d\"\n",
		"ops":  "from = [\"*@sender.example\"]\nscopes = [\"read\"]\n",
	} {
		fmt.Fprintf(&listen, "[[user]]\nname = %q\npassword = %q\n%s\n", user, a.hashOf("s3cret", "--scram"), keys)
	}
	a.ports["http"] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	fmt.Fprintf(&listen, "[http]\naddress = %q\nconnections = 200\n\n", a.ports["http"])
	fmt.Fprintf(&listen, "[[pickup]]\ndirectory = \"outbox\"\nuser = \"erp\"\nquiet = \"200ms\"\npoll = \"1s\"\n\n")
	a.replace("[delivery]", listen.String()+"[delivery]")
	a.start()
	return a
}

// hundred is 100 MB in lines; it is made once and shared.
var hundred = sync.OnceValue(func() string { return strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1_000_000) })

// playAll plays the rows, many at a time, and compares what came back.
func (a *abuse) playAll(rows []abuseRow) {
	a.t.Helper()
	documented := refusalsPage(a.t)
	met := map[string]bool{}
	seen := map[string]bool{}
	got := make([]string, len(rows))
	slots := make(chan struct{}, 48) // most rows wait for a time limit, not for a processor
	var all sync.WaitGroup
	large := func(row abuseRow) bool { return strings.Contains(row.name, "100 MB") }
	play := func(i int, row abuseRow) {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			got[i] = row.run(a)
			for n := 0; strings.HasPrefix(got[i], "503 other requests need the memory") && n < 3; n++ {
				got[i] = row.run(a) // as a client does; it has waited already
			}
		})
	}
	for i, row := range rows {
		if !large(row) {
			play(i, row)
		}
	}
	all.Wait()
	for i, row := range rows { // one by one: beside others they run out of the time that a message may take
		if large(row) {
			play(i, row)
			all.Wait()
		}
	}
	for i, row := range rows {
		key := row.door + ": " + row.name
		if seen[key] {
			a.t.Errorf("%s: the name stands twice", key)
		}
		seen[key] = true
		if !spanMatches(row.want, got[i]) {
			a.t.Errorf("%s:\n got %q\nwant %q", key, got[i], row.want)
		}
		if span := row.door + ": " + row.want; !documented[span] {
			a.t.Errorf("%s: docs/refusals.md does not have `%s`", key, row.want)
		} else {
			met[span] = true
		}
	}
	for span := range documented {
		if !met[span] {
			a.t.Errorf("docs/refusals.md: no row is answered %s", span)
		}
	}
}

// spanMatches compares an answer with a pattern: … stands for anything, and
// each " · " parts what has to be there in that order.
func spanMatches(pattern, got string) bool {
	parts := strings.Split(pattern, "…")
	for i, part := range parts {
		switch at := strings.Index(got, part); {
		case at < 0, i == 0 && at != 0:
			return false
		default:
			got = got[at+len(part):]
		}
	}
	return got == "" || strings.HasSuffix(pattern, "…")
}

// refusalsPage reads docs/refusals.md: in the tables below each ## door, the
// code spans of the last column.
func refusalsPage(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../docs/refusals.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	door := ""
	span := regexp.MustCompile("`([^`]+)`")
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "## "); ok {
			door = name
		}
		cells := strings.Split(strings.Trim(line, "|"), " | ")
		if !strings.HasPrefix(line, "| ") || len(cells) < 2 {
			continue
		}
		for _, m := range span.FindAllStringSubmatch(cells[len(cells)-1], -1) {
			out[door+": "+m[1]] = true
		}
	}
	return out
}

// nothingStored looks for traces of what was refused, in every place where a
// message is or could be left over.
func (a *abuse) nothingStored(mx *mtatest.MX) {
	a.t.Helper()
	for _, m := range mx.Messages() {
		for _, to := range m.To {
			if strings.Contains(fmt.Sprint(to), "abuse.example") {
				a.t.Errorf("delivered: %q to %q", m.Data, m.To)
			}
		}
	}
	if s := a.summary(); s["queued"]+s["deferred"]+s["held"] != 0 {
		a.t.Errorf("the queue has %v\n%s", s, a.must("queue", "list"))
	}
	if records := a.trace("victim@abuse.example"); len(records) != 0 {
		a.t.Errorf("the journal has %v", records)
	}
	for _, pattern := range []string{"spool/drop/new/*", "spool/drop/new/.*", "outbox/*.eml", "outbox/*.json", "outbox/.taken/*"} {
		mtatest.Eventually(a.t, 20*time.Second, pattern+" is empty", func() bool {
			left, err := filepath.Glob(filepath.Join(a.dir, pattern))
			return err == nil && len(left) == 0
		})
	}
}

// stillWorks sends by each kind of door.
func (a *abuse) stillWorks(mx *mtatest.MX) {
	a.t.Helper()
	id := a.submit("sender@sender.example", []string{"x@b.example"}, "Subject: plain\r\n\r\nx\r\n")
	a.waitEvent(id, "delivered")
	s := a.open("implicit")
	if got := s.play("AUTH PLAIN AGVycABzM2NyZXQ=", "MAIL FROM:<erp@sender.example>", "RCPT TO:<x@b.example>", "DATA", "From: erp@sender.example\r\n\r\nx\r\n."); !strings.HasPrefix(got, "250 2.0.0 queued as ") {
		a.t.Errorf("a user: %s", got)
	}
	before := len(mx.Messages())
	if stderr, status := a.daemon.sendmail(a.sendmail, "Subject: by sendmail\n\nx\n", "-f", "a@sender.example", "x@b.example"); status != 0 {
		a.t.Errorf("sendmail: %d %s", status, stderr)
	}
	limit, cancel := context.WithTimeout(a.t.Context(), 30*time.Second)
	defer cancel()
	if err := mx.Wait(limit, int64(before+1)); err != nil {
		a.t.Error(err)
	}
	mtatest.Eventually(a.t, 30*time.Second, "all is delivered", func() bool { s := a.summary(); return s["queued"]+s["deferred"] == 0 })
}

// own gives each row an address of its own to come from, so that none meets the
// limits of another.
func (a *abuse) own() netip.Addr {
	n := a.next.Add(1)
	return netip.AddrFrom4([4]byte{127, 9, byte(n >> 8), byte(n)})
}

// talk is one connection to an SMTP door.
type talk struct {
	a    *abuse
	conn net.Conn
	in   *bufio.Reader
	err  error // of connecting
}

// rowTime bounds a row; it is far beyond every limit of the daemon's.
const rowTime = 40 * time.Second

// dial connects, and says nothing.
func (a *abuse) dial(door string) *talk { return a.dialFrom(a.own(), door) }

func (a *abuse) dialFrom(from netip.Addr, door string) *talk {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), Timeout: rowTime}
	conn, err := d.Dial("tcp", a.ports[door])
	if err != nil {
		return &talk{err: err}
	}
	conn.SetDeadline(time.Now().Add(rowTime))
	return &talk{a: a, conn: conn, in: bufio.NewReader(conn)}
}

// rules are those of a client that verifies.
func (a *abuse) rules() *tls.Config {
	return &tls.Config{RootCAs: a.ca.Pool(), ServerName: "mailout.sender.example"}
}

func (t *talk) secure(rules *tls.Config) error {
	conn := tls.Client(t.conn, rules)
	if err := conn.Handshake(); err != nil {
		return err
	}
	t.conn, t.in = conn, bufio.NewReader(conn)
	return nil
}

// open connects to a door, under TLS where the door is so, and says EHLO.
func (a *abuse) open(door string) *talk {
	t := a.dial(door)
	if t.err == nil && door == "implicit" {
		t.err = t.secure(a.rules())
	}
	if t.err == nil {
		if r := t.read(); !strings.HasPrefix(r, "220 ") {
			t.err = errors.New(r)
		}
	}
	if t.err == nil {
		if r := t.say("EHLO client.example"); !strings.HasPrefix(r, "250 ") {
			t.err = errors.New(r)
		}
	}
	return t
}

// read gives the next reply, its lines parted by |; "closed" when the daemon
// has ended the connection without a word.
func (t *talk) read() string {
	var out strings.Builder
	for {
		line, err := t.in.ReadString('\n')
		var late net.Error
		switch {
		case errors.As(err, &late) && late.Timeout():
			return "no answer"
		case err != nil:
			return "closed"
		}
		line = strings.TrimRight(line, "\r\n")
		if out.Len() == 0 {
			out.WriteString(line[:min(3, len(line))] + " ")
		} else {
			out.WriteByte('|')
		}
		out.WriteString(line[min(4, len(line)):])
		if len(line) < 4 || line[3] != '-' {
			return out.String()
		}
	}
}

// say writes a line and gives its reply.
func (t *talk) say(line string) string {
	io.WriteString(t.conn, line+"\r\n")
	return t.read()
}

// play says the lines in turn, all but the last answered with 2xx or 3xx, and
// gives the answer to the last. A "?" in front takes any answer, and "<" reads
// one more. The connection is closed then.
func (t *talk) play(lines ...string) string {
	if t.err != nil {
		return t.err.Error()
	}
	defer t.conn.Close()
	for i, line := range lines {
		line, any := strings.CutPrefix(line, "?")
		r := ""
		if line == "<" {
			r = t.read()
		} else {
			r = t.say(line)
		}
		if i == len(lines)-1 {
			return r
		}
		if r == "" || r[0] != '2' && r[0] != '3' {
			if any || lines[i+1] == "<" {
				continue
			}
			return fmt.Sprintf("%.40q was answered %s", line, r)
		}
		if line == "STARTTLS" {
			if err := t.secure(t.a.rules()); err != nil {
				return err.Error()
			}
		}
	}
	return ""
}

// over makes a row of lines said behind EHLO.
func over(door, name, want string, lines ...string) abuseRow {
	return abuseRow{"SMTP", name, want, func(a *abuse) string { return a.open(door).play(lines...) }}
}

// raw makes a row of octets said right after the greeting, which ends at the
// first reply.
func raw(door, name, want, octets string) abuseRow {
	return abuseRow{"SMTP", name, want, func(a *abuse) string {
		t := a.dial(door)
		if t.err != nil {
			return t.err.Error()
		}
		defer t.conn.Close()
		if r := t.read(); !strings.HasPrefix(r, "220 ") {
			return r
		}
		io.WriteString(t.conn, octets)
		return t.read()
	}}
}
