package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/doctor"
)

// runDoctor executes "mailout doctor" with a file of this text.
func runDoctor(t *testing.T, text string, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mailout.toml")
	if text != "" {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var out, errs bytes.Buffer
	status = run(append([]string{"doctor", "--config", file}, args...), strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), status
}

const doctorConfig = "hostname = \"mailout.example.com\"\nspool = \"spool\"\n"

func TestDoctorNamesSetupWithoutAConfiguration(t *testing.T) {
	t.Parallel()
	out, errs, status := runDoctor(t, "")
	if status != exitConfig || out != "" || !strings.Contains(errs, "mailout setup") || strings.Count(errs, "\n") != 1 {
		t.Errorf("%d %q %q", status, out, errs)
	}
}

func TestDoctorUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text   string
		args   []string
		status int
		says   string
	}{
		{doctorConfig + "nonsense = 1\n", nil, exitConfig, "mailout.toml:3:1: nonsense: unknown key"},
		{doctorConfig, []string{"--only", "spam"}, exitUsage, "--only spam: there is no such check"},
		{doctorConfig, []string{"--only", "addr"}, exitUsage, "--only addr: there is no such check"},
		{doctorConfig, []string{"--timeout", "0s"}, exitUsage, "--timeout 0s"},
		{doctorConfig, []string{"--source", "here"}, exitUsage, "--source: \"here\" is not an IP address"},
		{doctorConfig, []string{"--source", ""}, exitUsage, "--source names no address"},
		{doctorConfig, []string{"--only", ""}, exitUsage, "--only names no check"},
		{doctorConfig + "[[source]]\nip = \"2001:db8::1\"\n[delivery]\nipv6 = false\n", []string{"--source", "2001:db8::1"}, exitUsage, "--source 2001:db8::1: mail does not go out from it, but from no address"},
		{doctorConfig + "[[source]]\nip = \"192.0.2.10\"\n", []string{"--source", "192.0.2.11"}, exitUsage, "--source 192.0.2.11: mail does not go out from it, but from 192.0.2.10"},
	} {
		out, errs, status := runDoctor(t, c.text, c.args...)
		if status != c.status || out != "" || !strings.Contains(errs, c.says) {
			t.Errorf("%v: %d %q %q", c.args, status, out, errs)
		}
	}
}

// TestDoctorMendsTheFileThatItExamined: the command that it prints names the
// file, where that is not the usual one.
func TestDoctorMendsTheFileThatItExamined(t *testing.T) {
	t.Parallel()
	text := strings.Replace(doctorConfig, "mailout.example.com", "mailout.local", 1)
	out, _, status := runDoctor(t, text, "--json", "--offline", "--only", "name.form")
	var r doctor.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 2 || len(r.Checks) != 1 || r.Checks[0].Fix == nil {
		t.Fatal(status, err, out)
	}
	if c := r.Checks[0].Fix.Command; !strings.Contains(c, "mailout config set hostname") || !strings.Contains(c, " --config ") || !strings.HasSuffix(c, "mailout.toml") {
		t.Errorf("%q", c)
	}
	if f := configFlag(defaultConfig); f != "" {
		t.Errorf("%q", f)
	}
}

// TestDoctorJSON: the shape that programs read.
func TestDoctorJSON(t *testing.T) {
	t.Parallel()
	out, errs, status := runDoctor(t, doctorConfig, "--json", "--offline", "--only", "router", "--only", "name.form")
	if status != 0 || errs != "" {
		t.Fatal(status, errs)
	}
	var r map[string]any
	if err := json.Unmarshal([]byte(out), &r); err != nil || strings.Count(out, "\n") != 1 {
		t.Fatal(err, out)
	}
	first := r["checks"].([]any)[0].(map[string]any)
	for _, key := range []string{"id", "subject", "status", "asked", "seen", "why"} {
		if _, ok := first[key].(string); !ok {
			t.Errorf("%s is %v", key, first[key])
		}
	}
	if r["status"] != "pass" || first["id"] != "router" || first["fix"] != nil || first["who"] != nil {
		t.Error(out)
	}
	whole, err := json.Marshal(doctor.Check{ID: "address.record", Status: doctor.Fail, Fix: &doctor.Fix{Record: "a. IN A 192.0.2.1", Text: "Publish it."}, Who: doctor.DNSHost})
	if want := `{"id":"address.record","subject":"","status":"fail","asked":"","seen":"","why":"","fix":{"record":"a. IN A 192.0.2.1","text":"Publish it."},"who":"dns"}`; err != nil || string(whole) != want {
		t.Errorf("%s", whole)
	}
}

// TestDoctorExitStatus: 0 fine, 1 warnings, 2 failures.
func TestDoctorExitStatus(t *testing.T) {
	t.Parallel()
	for want, c := range map[int]struct{ text, only string }{
		0: {doctorConfig, "router"},
		1: {doctorConfig + "[dns]\nservers = [\"127.0.0.1:1\"]\n", "resolver.external"},
		2: {doctorConfig + "[dns]\nservers = [\"127.0.0.1:1\"]\n", "resolver.answers"},
	} {
		if out, errs, status := runDoctor(t, c.text, "--only", c.only, "--timeout", "5s"); status != want || errs != "" {
			t.Errorf("%s: %d, want %d\n%s%s", c.only, status, want, out, errs)
		}
	}
}

func TestEveryCheckHasATitle(t *testing.T) {
	t.Parallel()
	for _, e := range doctor.IDs {
		if checkTitles[e.ID] == "" {
			t.Error(e.ID)
		}
	}
	if len(checkTitles) != len(doctor.IDs) {
		t.Error("a title of no check")
	}
}

var shownReport = &doctor.Report{Status: doctor.Fail, Checks: []doctor.Check{
	{ID: "router", Subject: "none", Status: doctor.Pass, Seen: "no router is set"},
	{ID: "router.tls", Subject: "none", Status: doctor.Skip, Seen: "no router is set"},
	{ID: "resolver.tcp", Subject: "a.example", Status: doctor.Skip, Seen: "needs the network"},
	{ID: "resolver.edns", Subject: "a.example", Status: doctor.Skip, Seen: "needs the network"},
	{ID: "resolver.dnssec", Subject: "b.example", Status: doctor.Skip, Seen: "needs the network"},
	{ID: "address.record", Subject: "mailout.ofc.widget.com", Status: doctor.Fail, Seen: "192.0.2.1",
		Asked: "A records of mailout.ofc.widget.com", Why: "Receivers compare, and answer 450 4.7.1 when they find another.",
		Fix: &doctor.Fix{Record: "mailout.ofc.widget.com. IN A 203.0.113.5 ; " + strings.Repeat("x", 60), Text: "Publish this\x1b[2J record."}, Who: doctor.DNSHost},
	{ID: "address.record", Subject: "other.widget.com", Status: doctor.Unknown, Seen: "no answer",
		Why: "Receivers compare, and answer 450 4.7.1 when they find another."},
	{ID: "clock", Subject: "mailout.ofc.widget.com", Status: doctor.Warn, Seen: "no time service keeps it right",
		Fix: &doctor.Fix{Command: "timedatectl set-ntp true", Text: "Let one do it."}, Who: doctor.You},
}}

const shownText = `1. Mail router
  ok    where mail goes: no router is set
  skip  router and TLS: no router is set

2. DNS servers
  skip  DNS over TCP; DNS with EDNS (a.example): needs the network
  skip  DNSSEC (b.example): needs the network

3. Host name and visible address
  FAIL  address record (mailout.ofc.widget.com): 192.0.2.1
        asked   A records of mailout.ofc.widget.com
        why     Receivers compare, and answer 450 4.7.1 when they find another.
        do      Publish this?[2J record.
        record  mailout.ofc.widget.com. IN A 203.0.113.5 ; xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        who     whoever hosts the zone in DNS
        check   address.record
  ?     address record (other.widget.com): no answer
        check   address.record

What receivers also want
  warn  clock (mailout.ofc.widget.com): no time service keeps it right
        do      Let one do it.
        run     timedatectl set-ntp true
        who     you, on this machine
        check   clock

1 failure, 1 warning, 1 could not be found out, 1 fine, 4 skipped. Receivers
will refuse mail, or it will not leave, until the failures are mended.
`

func TestDoctorShows(t *testing.T) {
	t.Parallel()
	if got := newDoctorPrinter(io.Discard).report(shownReport); got != shownText {
		t.Errorf("got\n%s\nwant\n%s", got, shownText)
	}
	narrow := doctorPrinter{width: leastWidth}.report(shownReport)
	for line := range strings.Lines(narrow) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > leastWidth && !strings.Contains(line, "record") && !strings.Contains(line, "run") {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	colour := doctorPrinter{width: usualWidth, colour: true}.report(shownReport)
	if !strings.Contains(colour, "\x1b[31mFAIL\x1b[0m") || !strings.Contains(colour, "\x1b[32mok\x1b[0m") {
		t.Errorf("%q", colour)
	}
}

func TestDoctorSummary(t *testing.T) {
	t.Parallel()
	for want, statuses := range map[string][]doctor.Status{
		"nothing was examined.":                             nil,
		"2 fine. Everything that was examined is in order.": {doctor.Pass, doctor.Pass},
		"1 skipped.": {doctor.Skip},
		"2 warnings. No failure was found; what is not fine may c": {doctor.Warn, doctor.Warn},
	} {
		r := &doctor.Report{Status: doctor.Pass}
		for _, s := range statuses {
			r.Checks = append(r.Checks, doctor.Check{Status: s})
		}
		if got := summary(r); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// watching is an examination whose DNS server answers as told, round by round;
// it is interrupted after the last.
func watching(t *testing.T, cmd *doctorCmd, rounds ...bool) (out string, err error) {
	t.Helper()
	var b bytes.Buffer
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		round := 0
		d := &examination{
			cmd: cmd, out: &b, progress: io.Discard, clock: time.Now, interval: time.Minute, listsInterval: time.Hour,
			id: doctor.Identity{Hostname: "mailout.example.com", Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}},
			world: doctor.World{Now: time.Now, Ask: func(_ context.Context, p dns.Probe) (*dns.ProbeReply, error) {
				if round >= len(rounds) {
					cancel()
					return nil, context.Canceled
				}
				answers := rounds[round]
				round++
				if !answers {
					return nil, errors.New("i/o timeout")
				}
				return &dns.ProbeReply{Msg: new(wire.Msg).SetQuestion(".", wire.TypeNS)}, nil
			}},
		}
		err = d.watch(ctx)
	})
	return b.String(), err
}

// TestDoctorWatch: a line when something changes, and none when nothing does.
func TestDoctorWatch(t *testing.T) {
	t.Parallel()
	cmd := &doctorCmd{Watch: true, Only: []string{"resolver.answers"}, Timeout: time.Second}
	out, err := watching(t, cmd, true, true, false, false, true)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if err != nil || len(lines) != 2 || !strings.Contains(lines[0], "Z  FAIL (was ok)  resolver.answers  DNS server (192.0.2.53): no answer: i/o timeout  → Name DNS servers that answer") ||
		!strings.Contains(lines[1], "Z  ok (was FAIL)  resolver.answers  DNS server (192.0.2.53): it answers") {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = watching(t, cmd, false)
	var exit *exitError
	if !errors.As(err, &exit) || exit.Status != 2 || !strings.Contains(out, "Z  FAIL  resolver.answers") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDoctorWatchJSON(t *testing.T) {
	t.Parallel()
	out, _ := watching(t, &doctorCmd{Watch: true, JSON: true, Only: []string{"resolver.answers"}, Timeout: time.Second}, true, false)
	var c struct{ Time, ID, Subject, Status, Was, Seen string }
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatal(err, out)
	}
	if _, err := time.Parse(time.RFC3339, c.Time); err != nil || c.ID != "resolver.answers" || c.Subject != "192.0.2.53" || c.Status != "fail" || c.Was != "pass" {
		t.Errorf("%v %+v", err, c)
	}
}

// TestWatchChanges: what counts as a change.
func TestWatchChanges(t *testing.T) {
	t.Parallel()
	bad := func(seen, record string) doctor.Check {
		return doctor.Check{ID: "address.record", Subject: "h", Status: doctor.Fail, Seen: seen, Fix: &doctor.Fix{Record: record}}
	}
	var w watched
	for i, c := range []struct {
		checks []doctor.Check
		want   int
	}{
		{[]doctor.Check{{ID: "clock", Status: doctor.Pass}, bad("for 9 s", "a")}, 1}, // what is fine at the start is no news
		{[]doctor.Check{{ID: "clock", Status: doctor.Pass}, bad("for 8 s", "a")}, 0}, // seconds are none either
		{[]doctor.Check{{ID: "clock", Status: doctor.Pass}, bad("for 8 s", "b")}, 1}, // another record is
		{[]doctor.Check{{ID: "clock", Status: doctor.Unknown}}, 2},                   // one is gone
		{nil, 1},
	} {
		if got := w.changes(&doctor.Report{Checks: c.checks}, time.Unix(0, 0)); len(got) != c.want {
			t.Errorf("%d: %+v", i, got)
		}
	}
}

// TestWatchAsksListsLessOften: block lists are others' servers.
func TestWatchAsksListsLessOften(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	d := &examination{
		cmd: &doctorCmd{Only: []string{"blocklist"}, Timeout: time.Second}, clock: func() time.Time { return now }, listsInterval: time.Hour,
		id:    doctor.Identity{Hostname: "mailout.example.com", BlockLists: []string{"domain:bl.example"}, Servers: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.53:53")}},
		world: doctor.World{Now: func() time.Time { return now }},
	}
	asked := 0
	d.world.Ask = func(context.Context, dns.Probe) (*dns.ProbeReply, error) {
		asked++
		return nil, errors.New("i/o timeout")
	}
	w := watched{found: map[findingKey]doctor.Check{}}
	w.changes(d.again(t.Context(), &w), now)
	first := asked
	now = now.Add(time.Minute)
	if r := d.again(t.Context(), &w); asked != first || first == 0 || len(r.Checks) != 1 || r.Status != doctor.Warn {
		t.Errorf("asked %d, then %d: %+v", first, asked, r)
	}
	now = now.Add(time.Hour)
	if d.again(t.Context(), &w); asked == first {
		t.Error("not asked again")
	}
}

// TestDoctorAsksTheDaemon: what receivers said is the daemon's to know.
func TestDoctorAsksTheDaemon(t *testing.T) {
	t.Parallel()
	socket := filepath.Join(t.TempDir(), "s")
	if got := learned(t.Context(), socket); got != nil {
		t.Error("learnt from nobody:", got)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	answer := `{"status":"pass","checks":[],"learned":[{"source":"192.0.2.10","visible":"203.0.113.5","from":"mx.example.net","time":"2026-03-01T12:00:00Z"}]}`
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/doctor" || r.Method != http.MethodGet {
			t.Error(r.Method, r.URL)
		}
		io.WriteString(w, answer)
	})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	got := learned(t.Context(), socket)
	if len(got) != 1 || got[0].Visible != netip.MustParseAddr("203.0.113.5") || got[0].From != "mx.example.net" || got[0].Time.IsZero() {
		t.Errorf("%+v", got)
	}
	answer = "nonsense"
	if got := learned(t.Context(), socket); got != nil {
		t.Error(got)
	}
}
