package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailout/internal/mtatest"
)

// runSink runs a sink until hand is done with it, or the sink ends by itself,
// and gives what it printed.
func runSink(t *testing.T, c *sinkCmd, hand func(addr string)) ([]sinkLine, error) {
	t.Helper()
	c.JSON, c.Listen = true, []string{"127.0.0.1:0"}
	r, w := io.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		err := c.run(ctx, &globals{Stdout: w, Stderr: io.Discard})
		w.Close()
		done <- err
	}()
	var lines []sinkLine
	handed := make(chan struct{})
	dec := json.NewDecoder(r)
	for {
		var l sinkLine
		if err := dec.Decode(&l); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		lines = append(lines, l)
		if l.Event == "listening" {
			go func() {
				hand(l.Local)
				if c.MaxMessages == 0 {
					cancel()
				}
				close(handed)
			}()
		}
	}
	cancel()
	<-handed
	return lines, <-done
}

func TestSinkStoresAndReports(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := filepath.Join(dir, "rules")
	if err := os.WriteFile(script, []byte("option hostname mx.try.example\nrcpt no@* 550 5.1.1 no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	store := filepath.Join(dir, "in")
	content := "Subject: a\r\nMessage-ID: <1@a>\r\n\r\n.x\r\n"
	for range 2 { // the second run numbers on
		lines, err := runSink(t, &sinkCmd{Script: script, Dir: store}, func(addr string) {
			c, err := mtatest.Dial(context.Background(), addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if err := c.Hello("a.example"); err != nil {
				t.Error(err)
			}
			if o, err := c.Send("s@a.example", []string{"no@b.example", "yes@b.example"}, []byte(content)); err != nil || !o.Accepted() || o.Rcpts[0].Code != 550 {
				t.Errorf("%v %v", o, err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		last := lines[len(lines)-1]
		if last.Event != "summary" || last.Summary.Messages != 1 || last.Summary.Recipients != 1 || last.Summary.Violations != 0 {
			t.Errorf("summary %+v", last.Summary)
		}
		var message *sinkMsg
		for _, l := range lines {
			if l.Message != nil {
				message = l.Message
			}
		}
		if message == nil || message.From != "s@a.example" || message.MessageID != "<1@a>" || message.To[0].Address != "yes@b.example" {
			t.Errorf("message %+v", message)
		}
	}
	for _, name := range []string{"000001.eml", "000002.eml"} {
		if b, err := os.ReadFile(filepath.Join(store, name)); err != nil || string(b) != content {
			t.Errorf("%s: %q %v", name, b, err)
		}
	}
}

func TestSinkEndsAfterTheLastMessage(t *testing.T) {
	t.Parallel()
	lines, err := runSink(t, &sinkCmd{Count: true, TLS: true, Unique: "X-Id", MaxMessages: 40}, func(addr string) {
		res := (&mtatest.Load{Addr: addr, Sessions: 1, Messages: 40}).Run(context.Background())
		if len(res.Accepted) != 40 {
			t.Errorf("%d accepted, %v", len(res.Accepted), res.First)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) != 2 || *lines[1].Summary.Unique != 40 || *lines[1].Summary.Doubled != 0 {
		t.Errorf("%d lines, last %+v", len(lines), lines[len(lines)-1].Summary)
	}
}

func TestSinkRefusesToStart(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("\nrcpt * maybe\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]*sinkCmd{
		"in use":               {Listen: []string{l.Addr().String()}},
		"bad:2: \"maybe\"":     {Script: bad},
		"no such file":         {Script: bad + "x"},
		"not a directory":      {Dir: filepath.Join(bad, "x")},
		"missing port in addr": {Listen: []string{"127.0.0.1"}},
	} {
		err := c.run(context.Background(), &globals{Stdout: io.Discard})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestSinkPrintsForPeople(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	p := &sinkPrinter{w: &b}
	at := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	p.event(mtatest.Event{Session: 3, Local: at, Remote: at, Stage: mtatest.StageRcpt, Line: "RCPT TO:<\x1b[31m@x>", Reply: "250 ok", Note: "n"})
	if got := b.String()[13:]; got != "#3 127.0.0.1:9 RCPT TO:<?[31m@x> → 250 ok (n)\n" {
		t.Errorf("%q", got)
	}
}
