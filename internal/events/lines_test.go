package events

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// logFile is a file of events in a directory of its own.
func logFile(t *testing.T) File {
	return File{Path: filepath.Join(t.TempDir(), "log", "events.jsonl"), Size: 1 << 20, Age: 24 * time.Hour, Keep: 10, KeepSize: 1 << 30}
}

// idsIn reads the events of a file, compressed or not.
func idsIn(t *testing.T, name string) (ids []string) {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var in io.Reader = f
	if strings.HasSuffix(name, compressed) {
		z, err := zstd.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		in = z
	}
	data, err := io.ReadAll(in)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for l := range bytes.Lines(data) {
		var e got
		if err := json.Unmarshal(l, &e); err != nil || l[len(l)-1] != '\n' {
			t.Fatalf("%s: %q: %v", name, l, err)
		}
		ids = append(ids, e.ID)
	}
	return ids
}

// allIn reads the events of the file and of those it was rotated to.
func allIn(t *testing.T, conf File) (ids []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(filepath.Dir(conf.Path), "events-*Z.jsonl*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		ids = append(ids, idsIn(t, name)...)
	}
	return append(ids, idsIn(t, conf.Path)...)
}

func TestFile(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		conf := logFile(t)
		start := h.store.End()
		hub := h.hub(Settings{File: conf})
		for range 5 {
			h.life()
			after(time.Second)
		}
		if got := idsIn(t, conf.Path); !slices.Equal(got, h.journal(start)) {
			t.Errorf("%v, want %v", got, h.journal(start))
		}
		if s := hub.Status()[0]; s.Pending != 0 || s.Sent != 15 || s.Kind != "file" {
			t.Errorf("%+v", s)
		}
		info, err := os.Stat(conf.Path)
		if err != nil || info.Mode().Perm()&0o007 != 0 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		// Whoever moves it away gets no more lines in what was moved.
		if err := os.Rename(conf.Path, conf.Path+".1"); err != nil {
			t.Fatal(err)
		}
		h.life()
		after(time.Second)
		if a, b := idsIn(t, conf.Path+".1"), idsIn(t, conf.Path); len(a) != 15 || len(b) != 3 {
			t.Errorf("%d and %d lines, want 15 and 3", len(a), len(b))
		}
		h.stop(hub)
		h.close()
	})
}

// TestFileAcrossCrashes: what a crash left of the file and of the cursor goes
// together, wherever either stood: every event is in the file, whole, once.
func TestFileAcrossCrashes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		conf := logFile(t)
		conf.Size = 20_000
		start := h.store.End()
		settings := Settings{File: conf}
		hub := h.hub(settings)
		for i := range 30 {
			for range 1 + i%7 {
				h.life()
			}
			after(time.Duration(i*37%400) * time.Millisecond)
			h.crash(hub)
			if i%3 == 0 { // half a line, as a power cut leaves it
				f, err := os.OpenFile(conf.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.WriteString(`{"id":"torn`); err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			hub = h.hub(settings)
		}
		after(time.Minute)
		if got, want := allIn(t, conf), h.journal(start); !slices.Equal(got, want) {
			t.Errorf("%d lines, want %d, each once and in order", len(got), len(want))
		}
		h.stop(hub)
		h.close()
	})
}

func TestFileIsRotated(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		conf := logFile(t)
		conf.Size, conf.Age, conf.Keep = 2000, time.Hour, 3
		dir := filepath.Dir(conf.Path)
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		stranger := filepath.Join(dir, "events-2026.jsonl") // nothing of ours
		if err := os.WriteFile(stranger, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		rotated := func() []string {
			names, err := filepath.Glob(filepath.Join(dir, "events-*Z.jsonl*"))
			if err != nil {
				t.Fatal(err)
			}
			return names
		}
		start := h.store.End()
		hub := h.hub(Settings{File: conf})
		h.life()
		after(time.Second)
		if n := len(rotated()); n != 0 {
			t.Errorf("%d files too early", n)
		}
		after(2 * time.Hour) // old, and nothing new
		if n := rotated(); len(n) != 1 || !strings.HasSuffix(n[0], ".jsonl.zst") {
			t.Errorf("after its time: %v", n)
		}
		if n := len(idsIn(t, conf.Path)); n != 0 {
			t.Errorf("%d lines in the new file", n)
		}
		for range 10 { // each more than conf.Size
			for range 4 {
				h.life()
			}
			after(time.Second)
		}
		names := rotated()
		if len(names) != conf.Keep {
			t.Errorf("%d rotated files, want %d: %v", len(names), conf.Keep, names)
		}
		all := h.journal(start)
		if got := allIn(t, conf); !slices.Equal(got, all[len(all)-len(got):]) || len(got) < 12*conf.Keep {
			t.Errorf("what is left is not the end of the journal: %d lines", len(got))
		}
		if text, err := os.ReadFile(stranger); err != nil || string(text) != "mine" {
			t.Errorf("a file of somebody else's: %q, %v", text, err)
		}
		conf.KeepSize = 1
		if err := hub.Reconfigure(t.Context(), Settings{File: conf}); err != nil {
			t.Fatal(err)
		}
		after(time.Second)
		if n := rotated(); len(n) != 0 {
			t.Errorf("with no room for any: %v", n)
		}
		h.stop(hub)
		h.close()
	})
}

// TestFileCannotBeWritten: a path that is wrong keeps events in the journal,
// and mail flowing.
func TestFileCannotBeWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		conf := logFile(t)
		if err := os.MkdirAll(conf.Path, 0o750); err != nil {
			t.Fatal(err)
		}
		start := h.store.End()
		hub := h.hub(Settings{File: conf})
		for range 3 {
			h.life()
			after(time.Hour)
		}
		if s := hub.Status()[0]; !s.Failing || s.Pending != 9 || s.Failures == 0 || s.Lag < 2*time.Hour {
			t.Errorf("%+v", s)
		}
		if err := os.Remove(conf.Path); err != nil {
			t.Fatal(err)
		}
		after(2 * time.Minute)
		if got := idsIn(t, conf.Path); !slices.Equal(got, h.journal(start)) {
			t.Errorf("%v, want %v", got, h.journal(start))
		}
		if s := hub.Status()[0]; s.Failing || s.Pending != 0 || s.Lag != 0 {
			t.Errorf("%+v", s)
		}
		h.stop(hub)
		h.close()
	})
}

// TestCompressAgain: what a crash left half compressed is done anew.
func TestCompressAgain(t *testing.T) {
	t.Parallel()
	conf := logFile(t)
	o := &fileOutput{conf: conf}
	if err := o.open(); err != nil {
		t.Fatal(err)
	}
	defer o.close()
	name := o.rotated(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	text := []byte(`{"id":"x"}` + "\n")
	for file, content := range map[string][]byte{name: text, name + compressed + tempSuffix: []byte("half"), name + compressed: []byte("half")} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := o.tidy(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an end in between: %v", err)
	}
	if err := o.tidy(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(filepath.Dir(conf.Path))
	if err != nil || len(entries) != 2 || idsIn(t, name+compressed)[0] != "x" {
		t.Errorf("%v, %v", entries, err)
	}
}

// collector takes lines of syslog.
type collector struct {
	mu    sync.Mutex
	lines []string
}

func (c *collector) add(l string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, l)
}

func (c *collector) get() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.lines)
}

// TestSyslogStream: lines over a connection that breaks now and then.
func TestSyslogStream(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		var c collector
		broken := 0
		dial := func(_ context.Context, network, address string) (net.Conn, error) {
			if network != "tcp" || address != "logs.example:514" {
				t.Errorf("dialled %s %s", network, address)
			}
			if broken++; broken < 4 {
				return nil, errors.New("refused")
			}
			client, server := net.Pipe()
			go func() {
				in := bufio.NewReader(server)
				for range 5 { // and then it breaks
					size, err := in.ReadString(' ')
					if err != nil {
						return
					}
					n, err := strconv.Atoi(strings.TrimSpace(size))
					if err != nil {
						t.Error(err)
						return
					}
					text := make([]byte, n)
					if _, err := io.ReadFull(in, text); err != nil {
						t.Error(err)
						return
					}
					c.add(string(text))
				}
				server.Close()
			}()
			return client, nil
		}
		start := h.store.End()
		hub := NewHub(Options{Feed: h.store, Logger: quiet, Hostname: "mailout.example", Dial: dial, Settings: Settings{Syslog: Syslog{URL: "tcp://logs.example"}}})
		if err := hub.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 10 {
			h.life()
			after(time.Minute)
		}
		after(time.Hour)
		var ids []string
		for _, l := range c.get() {
			f := strings.SplitN(l, " ", 8)
			if len(f) != 8 || f[2] != "mailout.example" || f[3] != "mailout" || f[6] != "-" {
				t.Fatalf("not a line of RFC 5424: %s", l)
			}
			var e got
			if err := json.Unmarshal([]byte(f[7]), &e); err != nil {
				t.Fatalf("%s: %v", l, err)
			}
			if want := map[string]string{"accepted": "<22>1", "deferred": "<21>1", "delivered": "<22>1"}[f[5]]; f[0] != want {
				t.Errorf("%s of %s, want %s", f[0], f[5], want)
			}
			ids = append(ids, e.ID)
		}
		if want := h.journal(start); !slices.Equal(slices.Compact(ids), want) {
			t.Errorf("%d lines, want %d", len(ids), len(want))
		}
		h.stop(hub)
		h.close()
	})
}

// TestSyslogDatagrams: a real socket as /dev/log is one.
func TestSyslogDatagrams(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "mo") // the path of a socket is short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "log")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	f, err := newSyslogFollower(&Options{Logger: quiet, Hostname: "h.example"}, Syslog{URL: "unix://" + path})
	if err != nil {
		t.Fatal(err)
	}
	o := f.out.(*syslogOutput)
	defer o.close()
	r := &mta.Record{Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Event: mta.EventFailed, ID: mta.ID{1}, Recipient: "a@one.example", Reply: strings.Repeat("é\n", 20000)}
	text, err := o.render(spool.Position{Entry: 7}, r)
	if err != nil || len(text) > syslogOctets {
		t.Fatalf("%d octets, %v", len(text), err)
	}
	if n, err := o.write(t.Context(), []line{{text: text}, {text: text}}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	buf := make([]byte, 64<<10)
	for range 2 {
		n, err := l.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), "<20>1 2026-03-01T12:00:00.000Z h.example mailout ") || bytes.IndexByte(buf[:n], '\n') >= 0 {
			t.Errorf("%q, %v", buf[:n], err)
		}
	}
}

func TestJournalEntry(t *testing.T) {
	t.Parallel()
	r := &mta.Record{Event: mta.EventBounced, ID: mta.ID{1}, Recipient: "a\nPRIORITY=0"}
	got := string(journalEntry(spool.Position{Entry: 3}, r, []byte(`{"x":1}`)))
	want := "MESSAGE={\"x\":1}\nPRIORITY=4\nSYSLOG_FACILITY=2\nSYSLOG_IDENTIFIER=mailout\nMAILOUT_CURSOR=3\nMAILOUT_EVENT=bounced\nMAILOUT_ID=" +
		r.ID.String() + "\nMAILOUT_RECIPIENT\n\x0c\x00\x00\x00\x00\x00\x00\x00a\nPRIORITY=0\n"
	if got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestCheckSyslog(t *testing.T) {
	t.Parallel()
	for place, want := range map[string]string{
		"journald": "journald " + journaldSocket, "unix:///dev/log": "unix /dev/log", "udp://192.0.2.1": "udp 192.0.2.1:514",
		"tcp://[2001:db8::1]:601": "tcp [2001:db8::1]:601", "tcp://logs.example:514/": "tcp logs.example:514",
		"": "", "/dev/log": "", "unix://dev/log": "", "http://x": "", "tcp://": "", "tcp://x:0": "", "tcp://x:99999": "", "udp://u@x": "", "tcp://x/y": "",
	} {
		network, address, err := syslogAddress(place)
		if got := strings.TrimSpace(network + " " + address); got != want || (err == nil) != (want != "") || (CheckSyslog(place) == nil) != (want != "") {
			t.Errorf("%q: %q, %v, want %q", place, got, err, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	const a, b = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
	for text, want := range map[string]string{
		a: a, strings.TrimPrefix(a, "whsec_"): a, a + "\n" + b + "\n": a + " " + b, "  " + b + "\r\n" + a: b + " " + a,
	} {
		s, err := ParseSecrets(text)
		if err != nil || s.String() != want || strings.Contains(fmt.Sprint(s.LogValue()), "MfKQ") {
			t.Errorf("%q: %q, %v", text, s, err)
		}
		header := map[string][]string{"Webhook-Id": {"id"}, "Webhook-Timestamp": {strconv.FormatInt(time.Now().Unix(), 10)}}
		sig, err := s.sign("id", time.Now(), []byte("body"))
		if err != nil {
			t.Fatal(err)
		}
		header["Webhook-Signature"] = []string{sig}
		if strings.Contains(want, a) {
			if err := verify(header, []byte("body")); err != nil {
				t.Errorf("%q: %v", text, err)
			}
			if verify(header, []byte("other")) == nil {
				t.Error("another body verifies")
			}
		}
	}
	for _, text := range []string{"", " \n", "whsec_", "whsec_AAAA", "whsec_!!!!" + strings.Repeat("A", 40), a + " short", strings.Repeat(a+" ", maxSecrets+1), "whsec_" + strings.Repeat("A", 100)} {
		if s, err := ParseSecrets(text); err == nil || strings.Contains(err.Error(), "AAAA") && text != "" && strings.Contains(text, "AAAA") && strings.Contains(err.Error(), text) {
			t.Errorf("%q: %v, %v", text, s, err)
		}
	}
}

func TestRetryAfterField(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for field, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "-5": 0, "x": 0, "1.5": 0, "999999999": maxRetryAfter, "99999999999999999999": 0,
		"Sun, 01 Mar 2026 12:10:00 GMT": 10 * time.Minute, "Sun, 01 Mar 2026 11:00:00 GMT": 0, "Sun, 01 Mar 2076 11:00:00 GMT": maxRetryAfter,
	} {
		if got := retryAfter(field, now); got != want {
			t.Errorf("%q: %v, want %v", field, got, want)
		}
	}
}

// TestFileOfSomebodyElse: what is not of our making is not cut off.
func TestFileOfSomebodyElse(t *testing.T) {
	t.Parallel()
	for before, want := range map[string]string{
		"": "", "a line\n": "a line\n", "no line end": "no line end\n", "x\n{\"id\":\"torn": "x\n", "{\"i": "", "x\n{\"name\":1}": "x\n{\"name\":1}\n",
	} {
		conf := logFile(t)
		if err := os.MkdirAll(filepath.Dir(conf.Path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(conf.Path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		o := &fileOutput{conf: conf}
		if err := o.open(); err != nil {
			t.Fatal(err)
		}
		if at := o.last(); at != (spool.Position{}) {
			t.Errorf("%q: the last position is %s", before, at)
		}
		o.close()
		if got, err := os.ReadFile(conf.Path); err != nil || string(got) != want {
			t.Errorf("%q became %q, want %q, %v", before, got, want, err)
		}
	}
}
