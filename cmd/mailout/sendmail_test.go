package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"mailout/internal/config"
	"mailout/internal/mta"
	"mailout/internal/submit"
	"mailout/internal/submit/drop"
)

func TestSendmailOptions(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, want string }{
		{"a@b", "m [a@b]"}, {"-t", "mt []"}, {"-t -i", "mti []"}, {"-i -t", "mti []"}, {"-ti", "mti []"}, {"-it", "mti []"}, {"-oi -t", "mti []"},
		{"-t -oi -oem -odb", "mti []"}, {"-toi", "mti []"}, {"-o i a", "mi [a]"}, {"-O IgnoreDots=true a", "mi [a]"}, {"-OIgnoreDots=false a", "m [a]"},
		{"-fa@b c", "m f=a@b [c]"}, {"-f a@b c", "m f=a@b [c]"}, {"-ra@b c", "m f=a@b [c]"}, {"-r a@b c", "m f=a@b [c]"}, {"-tfa@b", "mt f=a@b []"},
		{"-f|c", "m f= [c]"}, {"-ifa@b -Fx c", "mi f=a@b F=x [c]"}, {"-F|Full Name|-f|a@b|c", "m f=a@b F=Full Name [c]"},
		{"-t -i -fuser@x", "mti f=user@x []"}, // PHP's mail() with its fifth argument
		{"-FCronDaemon -i -B8BITMIME -oem root", "mi F=CronDaemon 8 [root]"}, {"-B 8BITMIME -B7bit a", "m [a]"},
		{"-oem -oi -f a@b -- c d", "mi f=a@b [c d]"}, {"-i -- -f x", "mi [-f x]"}, {"a -t", "m [a -t]"}, {"- a", "m [- a]"}, {"-- --", "m [--]"},
		{"-bs", "s []"}, {"-bp", "p []"}, {"-bi", "i []"}, {"-I", "i []"}, {"-bm -bp", "p []"}, {"-b m a", "m [a]"},
		{"-q", "q []"}, {"-qI1", "q []"}, {"-qR a", "q [a]"}, {"-qSx", "q []"}, {"-q30m", "q []"}, {"-q1h30m", "q []"},
		{"-N never a", "m N=1 [a]"}, {"-Nsuccess,DELAY a", "m N=10 [a]"}, {"-R hdrs -V id a", "m R=2 V=id [a]"}, {"-Rfull a", "m R=1 [a]"},
		{"-v -d0.1 -dx -h 3 -p SMTP -X log -L tag -m -n -G -U -c -x -em -Ac a", "mv [a]"},
		{"-C/x a", "m C=/x [a]"}, {"--config /x --stream=s a", "m C=/x S=s [a]"},
	} {
		args := strings.Fields(c.args)
		if strings.Contains(c.args, "|") {
			args = strings.Split(strings.TrimSuffix(strings.Replace(c.args, "-f|c", "-f||c", 1), " "), "|")
		}
		o, err := parseSendmail(modeDeliver, args)
		if err != nil {
			t.Errorf("%q: %v", args, err)
			continue
		}
		if got := shownOptions(o); got != c.want {
			t.Errorf("%q: %s, want %s", args, got, c.want)
		}
	}
}

// TestSendmailRun: what -q is about.
func TestSendmailRun(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-q": "all=true", "-qI01KJMMJG1004A0E0000000000M": "id=01KJMMJG1004A0E0000000000M", "-qRa@b.example": "recipient=a%40b.example",
		"-qRb.example": "destination=b.example", "-qR a@b.example": "recipient=a%40b.example", "-qSc@d.example": "sender=c%40d.example",
		"-qS<>": "sender=%3C%3E", "-q30m": "", "-q1h30m": "", "-qR": "refused",
	} {
		o, err := parseSendmail(modeDeliver, strings.Fields(args))
		if err != nil {
			t.Fatal(err)
		}
		q, err := runSelection(o)
		got := q.Encode()
		if err != nil {
			got = "refused"
		}
		if got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

func shownOptions(o *sendmailOptions) string {
	s := string(o.mode)
	for flag, set := range map[string]bool{"t": o.fromHeader} {
		if set {
			s += flag
		}
	}
	if o.ignoreDots {
		s += "i"
	}
	if o.verbose {
		s += "v"
	}
	if o.sender != nil {
		s += " f=" + *o.sender
	}
	for _, v := range [][2]string{{"F", o.fullName}, {"V", o.envID}, {"C", o.config}, {"S", o.stream}} {
		if v[1] != "" {
			s += " " + v[0] + "=" + v[1]
		}
	}
	if o.eightBit {
		s += " 8"
	}
	if o.notify != 0 {
		s += " N=" + string("0123456789"[o.notify/10%10]) + string("0123456789"[o.notify%10])
		s = strings.Replace(s, "N=0", "N=", 1)
	}
	if o.ret != 0 {
		at := strings.Index(s, " V=")
		if at < 0 {
			at = len(s)
		}
		s = s[:at] + " R=" + string("012"[o.ret]) + s[at:]
	}
	return s + " [" + strings.Join(o.recipients, " ") + "]"
}

func TestSendmailOptionsRefused(t *testing.T) {
	t.Parallel()
	for _, args := range []string{
		"-Z", "-iZ", "-tj a", "--help", "--config", "--", "-f", "-F", "-N", "-N some a", "-N never,delay a", "-R all a", "-B 9BIT a",
		"-bd", "-bD", "-bz", "-bv a", "-b", "-qX", "-q-1", "-V\x01", "-V" + strings.Repeat("x", 101), "-t=1", "-o", "-u root a", "-M x", "-s subject a",
	} {
		fields := strings.Split(args, " ")
		stderr := new(bytes.Buffer)
		status := runInvokedWith(t, "", fields, "Subject: x\n\n", stderr)
		if status != exitUsage || stderr.Len() == 0 {
			t.Errorf("%q: status %d: %s", args, status, stderr)
		}
	}
}

// runInvokedWith runs sendmail with a configuration of its own; no daemon runs.
func runInvokedWith(t *testing.T, spool string, args []string, input string, stderr io.Writer) int {
	t.Helper()
	if spool == "" {
		spool = t.TempDir()
	}
	config := filepath.Join(spool, "mailout.toml")
	text := "hostname = \"mail.example.com\"\nspool = '" + spool + "'\npostmaster = \"ops@example.net\"\n[limits]\nmessage_size = \"10KB\"\nspool_free = \"0B\"\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	g := &globals{Config: config, Stdin: strings.NewReader(input), Stdout: io.Discard, Stderr: stderr}
	return report(runSendmail("sendmail", args, g), stderr)
}

// dropped is what one message looks like in the drop folder.
type dropped struct {
	*submit.Request
	content string
}

func sendDropped(t *testing.T, args []string, input string) (dropped, int, string) {
	t.Helper()
	spool := t.TempDir()
	if err := drop.Folder(filepath.Join(spool, "drop")).Prepare(); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	status := runInvokedWith(t, spool, args, input, &stderr)
	files, err := filepath.Glob(filepath.Join(spool, "drop/new/*"))
	if err != nil || (len(files) == 1) != (status == 0) {
		t.Fatalf("%v: status %d and %d files: %s", err, status, len(files), &stderr)
	}
	if hidden, _ := filepath.Glob(filepath.Join(spool, "drop/new/.*")); len(hidden) > 0 {
		t.Errorf("left behind: %q", hidden)
	}
	if status != 0 {
		return dropped{}, status, stderr.String()
	}
	file, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	r, rest, err := drop.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	content, err := io.ReadAll(rest)
	if err != nil {
		t.Fatal(err)
	}
	if r.ID.String() != filepath.Base(files[0]) {
		t.Errorf("%s in %s", r.ID, files[0])
	}
	return dropped{r, string(content)}, 0, stderr.String()
}

func (d dropped) to() string {
	var out []string
	for _, r := range d.Recipients {
		out = append(out, r.Address)
	}
	return strings.Join(out, " ")
}

func TestTrap28_SendmailReadsRecipientsFromTheHeader(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ args, header, want string }{
		{"-t", "To: a@x.example\nCc: b@x.example,\n  c@x.example\nBcc: d@x.example\n", "a@x.example b@x.example c@x.example d@x.example"},
		{"-t", "TO: Team: a@x.example, \"B, C\" <b@x.example>; (x) d@x.example\n", "a@x.example b@x.example d@x.example"},
		{"-t z@x.example", "To: a@x.example, z@x.example\n", "z@x.example a@x.example"},
		{"-t", "To: undisclosed-recipients:;\nbcc:\n a@x.example\n", "a@x.example"},
		{"-t", "To: root, a@x.example\n", "ops@example.net a@x.example"},
		{"-t", "Resent-To: r@x.example\nResent-Bcc: s@x.example\nReceived: x\nResent-To: old@x.example\nTo: a@x.example\n", "r@x.example s@x.example"},
		{"-t", "Resent-To: r@x.example\nResent-Cc: q@x.example\nResent-To: old@x.example\nTo: a@x.example\n", "r@x.example q@x.example"},
		{"b@x.example", "To: a@x.example\n", "b@x.example"},
		{"-t", "X-To: a@x.example\nTo: A@X.Example\nto: A@x.example\n", "A@x.example"},
		{"-t", "To: \"a b\"@x.example, <@r.example:c@x.example>\n", `"a b"@x.example c@x.example`},
	} {
		d, status, stderr := sendDropped(t, strings.Fields(c.args), c.header+"\nTo: body@x.example\n")
		if status != 0 || d.to() != c.want {
			t.Errorf("%q: status %d, to %q: %s", c.header, status, d.Recipients, stderr)
		}
	}
}

func TestSendmailStatuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args, input string
		want        int
	}{
		{"", "x", exitUsage}, {"-t", "Subject: x\n\n", exitData}, {"-t", "To: a@x.example b@x.example\n\n", exitData}, {"-t", "To: <a@x.example\n\n", exitData},
		{"a@b", "", exitNoUser}, {"-- -a@x.example", "", exitNoUser}, {"a@x..example", "", exitNoUser}, {"a@x.example\nBcc:c@x.example", "", exitNoUser},
		{"-f|a b@x.example|a@x.example", "", exitUsage}, {"-F|a\nBcc: c@x.example|a@x.example", "", exitUsage}, {"-f|a@x.example\nX: y|a@x.example", "", exitUsage},
		{"a@x.example", strings.Repeat("x", 10_001), exitData}, {"-i a@x.example", strings.Repeat("x", 10_000), 0},
		{"a%b@x.example", "", exitNoUser}, {"a@x.example,b", "", 0}, {"|", "", exitData},
	} {
		args := strings.Fields(c.args)
		if strings.Contains(c.args, "|") {
			args = strings.Split(c.args, "|")
		} else if strings.Contains(c.args, "\n") {
			args = []string{c.args}
		}
		if _, status, stderr := sendDropped(t, args, c.input); status != c.want || status != 0 && !strings.HasPrefix(stderr, "mailout: ") {
			t.Errorf("%q: status %d, want %d: %s", c.args, status, c.want, stderr)
		}
	}
}

func TestSendmailCompletesTheHeader(t *testing.T) {
	t.Parallel()
	d, _, _ := sendDropped(t, []string{"-fapp@x.example", "-F", `Jörg "B", x`, "-V", "e", "-R", "hdrs", "-N", "success", "a@x.example"}, "Subject: x\nFrom:\n\nbody\n.\nmore\n")
	if !strings.HasPrefix(d.content, "Date: ") || !strings.Contains(d.content, "\nFrom: =?utf-8?") || !strings.Contains(d.content, "<app@x.example>\r\n") || !strings.HasSuffix(d.content, "Subject: x\nFrom:\n\nbody\n") {
		t.Errorf("%q", d.content)
	}
	if d.Envelope.Sender != "app@x.example" || d.Envelope.EnvID != "e" || d.Envelope.Ret != mta.RetHeaders || d.Recipients[0].Notify != mta.NotifySuccess {
		t.Errorf("%+v", d.Request)
	}
	d, _, _ = sendDropped(t, []string{"-i", "-f", "<>", "a@x.example"}, "From x Mon Jan\nFrom: me@x.example\nDate: now\n\n.\nmore\n")
	if d.content != "From: me@x.example\nDate: now\n\n.\nmore\n" || d.Envelope.Sender != "" {
		t.Errorf("%q from %q", d.content, d.Envelope.Sender)
	}
	d, _, _ = sendDropped(t, []string{"-f", "www-data", "root"}, "no header here\n")
	if d.Envelope.Sender != "www-data@mail.example.com" || !strings.HasSuffix(d.content, "\r\nno header here\n") || d.Recipients[0].ORcpt != "rfc822;root@mail.example.com" {
		t.Errorf("%q from %q: %+v", d.content, d.Envelope.Sender, d.Recipients)
	}
}

// TestAHungDaemonIsNotWaitedFor: it takes the connection and nothing more, or
// reads and does not answer, or answers half; a large message is as safe as a
// small one.
func TestAHungDaemonIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	for name, serve := range map[string]func(net.Conn){
		"does not read":   func(net.Conn) {},
		"does not answer": func(c net.Conn) { io.Copy(io.Discard, c) },
		"half an answer":  func(c net.Conn) { io.WriteString(c, "HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n{\"id\":") },
	} {
		for _, size := range []int{10, 3 << 20} {
			t.Run(fmt.Sprint(name, " ", size), func(t *testing.T) {
				t.Parallel()
				dir, err := os.MkdirTemp("", "mailout") // a socket's path must be short
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { os.RemoveAll(dir) })
				folder := drop.Folder(filepath.Join(dir, "drop"))
				l, err := net.Listen("unix", filepath.Join(dir, "s"))
				if err = errors.Join(err, folder.Prepare()); err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						defer c.Close()
						go serve(c)
					}
				}()
				content := "Subject: x\r\n\r\n" + strings.Repeat("x\r\n", size/3)
				s := &sendmail{
					globals: &globals{Stdin: strings.NewReader(content), Stdout: io.Discard, Stderr: io.Discard},
					options: &sendmailOptions{recipients: []string{"a@example.com"}, ignoreDots: true},
					config:  &config.Config{Hostname: "mail.example.com", HTTP: config.HTTP{Socket: filepath.Join(dir, "s")}, Sendmail: config.Sendmail{Drop: string(folder)}, Limits: config.Limits{MessageSize: 50e6, Recipients: 10}},
					account: localUser{login: "me"},
					answer:  50 * time.Millisecond,
				}
				if err := s.deliver(); err != nil {
					t.Fatal(err)
				}
				files, _ := filepath.Glob(filepath.Join(string(folder), "new/*"))
				if len(files) != 1 {
					t.Fatalf("%q", files)
				}
				if data, err := os.ReadFile(files[0]); err != nil || !strings.HasSuffix(string(data), content) {
					t.Errorf("%d octets, %v", len(data), err)
				}
			})
		}
	}
}

func TestTrap28_ALoneDotEndsTheInput(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64<<10)
	for _, c := range [][2]string{
		{"", ""}, {".", ""}, {".\n", ""}, {".\r\nx", ""}, {"a\n.\nb", "a\n"}, {"a\r\n.\r\nb", "a\r\n"}, {"a\n.", "a\n"},
		{"..\n.x\n .\n. \nb", "..\n.x\n .\n. \nb"}, {"a.\n", "a.\n"}, {long + ".\nb\n", long + ".\nb\n"}, {long + "\n.\nb", long + "\n"}, {"a\r.\nb", "a\r.\nb"},
	} {
		for _, r := range []io.Reader{strings.NewReader(c[0]), iotest.OneByteReader(strings.NewReader(c[0])), iotest.DataErrReader(strings.NewReader(c[0]))} {
			if got, err := io.ReadAll(newDotEnd(r)); err != nil || string(got) != c[1] {
				t.Errorf("%.40q: %.40q, %v", c[0], got, err)
			}
		}
	}
	broken := errors.New("broken")
	if got, err := io.ReadAll(newDotEnd(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)))); !errors.Is(err, broken) {
		t.Errorf("%q, %v: half a message is not one", got, err)
	}
}

func TestKeptGivesBackWhatWasWritten(t *testing.T) {
	t.Parallel()
	want := bytes.Repeat([]byte("0123456789abcdef"), inMemory/16+1000)
	k := newKept(int64(len(want)))
	defer k.Close()
	if _, err := io.Copy(k, iotest.HalfReader(bytes.NewReader(want))); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := io.ReadAll(k.from(5)); err != nil || !bytes.Equal(got, want[5:]) {
			t.Errorf("%d octets, %v", len(got), err)
		}
	}
	if _, err := k.Write([]byte("x")); !errors.Is(err, errTooLarge) {
		t.Errorf("%v", err)
	}
}

func TestLineEndsByTheFirstLine(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]string{
		{"a\nb\r\n\n", "a\r\nb\r\n\r\n"}, {"a\r\nb\n.\n", "a\r\nb\n.\n"}, {"", ""}, {"\n", "\r\n"}, {"a", "a"},
	} {
		for _, r := range []io.Reader{strings.NewReader(c[0]), iotest.OneByteReader(strings.NewReader(c[0]))} {
			if got, err := io.ReadAll(newLineEnds(r)); err != nil || string(got) != c[1] {
				t.Errorf("%q: %q, %v", c[0], got, err)
			}
		}
	}
}

func TestSendmailSpeaksSMTP(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"\n", "\r\n"} {
		spool := t.TempDir()
		if err := drop.Folder(filepath.Join(spool, "drop")).Prepare(); err != nil {
			t.Fatal(err)
		}
		config := filepath.Join(spool, "mailout.toml")
		text := "hostname = \"mail.example.com\"\nspool = '" + spool + "'\n[limits]\nspool_free = \"0B\"\n"
		if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		lines := "EHLO me|MAIL FROM:<a@x.example> BODY=8BITMIME|RCPT TO:<-b@x.example>|RCPT TO:<b@x.example> NOTIFY=NEVER|DATA|Subject: x||..|x|.|MAIL FROM:<>|RCPT TO:<c@x.example>|DATA|.|"
		var stdout, stderr bytes.Buffer
		g := &globals{Config: config, Stdin: strings.NewReader(strings.ReplaceAll(lines, "|", end)), Stdout: &stdout, Stderr: &stderr}
		if err := runSendmail("sendmail", []string{"-bs"}, g); err != nil {
			t.Fatal(err)
		}
		out := stdout.String()
		if strings.Count(out, "250 2.0.0 queued as ") != 2 || strings.Count(out, "\r\n501 5.1.3") != 1 {
			t.Errorf("%s", out)
		}
		files, _ := filepath.Glob(filepath.Join(spool, "drop/new/*"))
		slices.Sort(files)
		if len(files) != 2 {
			t.Fatalf("%q", files)
		}
		data, err := os.ReadFile(files[0])
		if err != nil || !strings.Contains(string(data), `"recipients":[{"address":"b@x.example","notify":1}]`) || !strings.HasSuffix(string(data), "Subject: x\r\n\r\n.\r\nx\r\n") {
			t.Errorf("%q, %v", data, err)
		}
	}
}

func TestSendmailNames(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{"/usr/sbin/sendmail": "sendmail", "mailq": "mailq", "x/newaliases": "newaliases", "/usr/bin/mailout": "", "sendmail.exe": "sendmail"} {
		if got := invokedName(path); got != want {
			t.Errorf("%s: %q", path, got)
		}
	}
	var stderr bytes.Buffer
	if status := run([]string{"sendmail", "-I", "--", "x"}, nil, io.Discard, &stderr); status != 0 {
		t.Errorf("%d: %s", status, &stderr)
	}
	if status := run([]string{"sendmail", "-Z"}, nil, io.Discard, &stderr); status != exitUsage {
		t.Errorf("%d: %s", status, &stderr)
	}
}
