package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// leave puts a file into a pickup directory as a program should.
func leave(t *testing.T, dir, name, content string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".tmp", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
}

func left(t *testing.T, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// TestPickup: files are taken with each kind of envelope, bad ones are moved
// aside, and a reload begins and ends directories.
func TestPickup(t *testing.T) {
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "to.example")
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	d := w.daemon(fmt.Sprintf("\n[[pickup]]\ndirectory = %q\nquiet = \"100ms\"\npoll = \"1s\"\n", one)).start()
	wait := func(n int64) {
		t.Helper()
		limit, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := mx.Wait(limit, n); err != nil {
			t.Fatalf("%v\n%s", err, d.log())
		}
	}
	leave(t, one, "lines.eml", "X-Sender: bounce@from.example\r\nX-Receiver: b@to.example\r\nFrom: a@from.example\r\nSubject: lines\r\n\r\nGrüße\r\n")
	leave(t, one, "beside.json", `{"from":"","to":"c@to.example"}`)
	leave(t, one, "beside.eml", "From: a@from.example\nSubject: beside\n\ntext\n")
	leave(t, one, "bad.eml", "From: a@from.example\n\ntext\n")
	leave(t, one, "huge.tmp", "From: a@from.example\nTo: d@to.example\n\n")
	if err := errors.Join(os.Truncate(filepath.Join(one, "huge.tmp"), 1<<40), os.Rename(filepath.Join(one, "huge.tmp"), filepath.Join(one, "huge.eml"))); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(one, "plain.eml"), []byte("From: A <a@from.example>\nTo: d@to.example\nBcc: e@to.example\nSubject: plain\n\ntext\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wait(3)
	for _, m := range mx.Messages() {
		var want string
		switch subject, _, _ := strings.Cut(string(m.Data[bytes.Index(m.Data, []byte("Subject: "))+9:]), "\r\n"); subject {
		case "lines":
			want = "bounce@from.example [b@to.example]"
			if !bytes.HasSuffix(m.Data, []byte("\r\n\r\nGrüße\r\n")) || bytes.Contains(m.Data, []byte("X-")) {
				t.Errorf("%q", m.Data)
			}
		case "beside":
			want = " [c@to.example]"
		case "plain":
			want = "a@from.example [d@to.example e@to.example]"
		}
		if got := fmt.Sprint(m.From, " ", addresses(m)); got != want || bytes.Contains(m.Data, []byte("Bcc")) {
			t.Errorf("%s, not %s: %q", got, want, m.Data)
		}
	}
	mtatest.Eventually(t, 10*time.Second, "the directory is empty", func() bool { return len(left(t, one)) == 0 })
	if names := fmt.Sprint(left(t, filepath.Join(one, "bad"))); names != "[bad.eml bad.reason huge.eml huge.reason]" {
		t.Errorf("bad: %s", names)
	}
	if why, err := os.ReadFile(filepath.Join(one, "bad", "huge.reason")); err != nil || !bytes.Contains(why, []byte("552 5.3.4 the message is larger than 50000000 octets")) {
		t.Errorf("%s, %v", why, err)
	}
	d.replace(fmt.Sprintf("directory = %q", one), fmt.Sprintf("directory = %q\ndone = \"done\"", two))
	if out := d.must("config", "reload"); !strings.Contains(out, "pickup.1.directory") {
		t.Errorf("%s", out)
	}
	leave(t, one, "late.eml", "From: a@from.example\nTo: f@to.example\n\ntext\n")
	leave(t, two, "again.eml", "From: a@from.example\nTo: g@to.example\n\ntext\n")
	wait(4)
	if names := left(t, one); len(names) != 1 {
		t.Errorf("left: %q", names)
	}
	mtatest.Eventually(t, 10*time.Second, "the file is moved", func() bool { return len(left(t, filepath.Join(two, "done"))) == 1 })
	id := left(t, filepath.Join(two, "done"))[0][:26]
	if r := d.waitEvent(id, "delivered"); r[0].text("recipient") != "g@to.example" {
		t.Errorf("%v", r)
	}
	// A directory that cannot be used changes nothing.
	d.replace(two, d.config)
	if out, errs, status := d.run("config", "reload"); status == 0 || !strings.Contains(out+errs, "pickup") {
		t.Errorf("status %d: %s%s", status, out, errs)
	}
	leave(t, two, "still.eml", "From: a@from.example\nTo: h@to.example\n\ntext\n")
	wait(5)
	d.stop()
}

// TestPickupAcrossKills: whatever the moment at which the daemon dies, each file
// becomes one message in the queue, with the envelope that stood beside it.
// Nothing is delivered meanwhile, so a second copy could only come from taking a
// file twice.
func TestPickupAcrossKills(t *testing.T) {
	w := newWorld(t)
	dir := filepath.Join(t.TempDir(), "pickup")
	d := w.daemon(fmt.Sprintf("\n[[pickup]]\ndirectory = %q\nquiet = \"100ms\"\npoll = \"100ms\"\n", dir))
	d.replace(`retry = ["1s"]`, `retry = ["1h"]`)
	d.replace("servers = [", `servers = ["127.0.0.1:1"] # [`) // no name server: all is deferred
	d.start()
	const kills, between = 8, 150
	n := 0
	for range kills {
		for range between {
			name := fmt.Sprintf("n%d", n)
			if n%2 == 0 {
				leave(t, dir, name+".json", fmt.Sprintf(`{"to":"%s@to.example"}`, name))
				leave(t, dir, name+".eml", "From: a@from.example\nTo: wrong@to.example\n\ntext\n")
			} else {
				leave(t, dir, name+".eml", "X-Receiver: "+name+"@to.example\nFrom: a@from.example\nTo: wrong@to.example\n\ntext\n")
			}
			n++
		}
		d.kill()
		d.start()
	}
	mtatest.Eventually(t, 60*time.Second, "the directory is empty", func() bool {
		return len(left(t, dir)) == 0 && len(left(t, filepath.Join(dir, ".taken"))) == 0
	})
	found := map[string]int{}
	for line := range strings.Lines(d.must("queue", "list", "--json")) {
		var item struct{ Recipients []struct{ Address string } }
		if err := json.Unmarshal([]byte(line), &item); err != nil {
			t.Fatal(err)
		}
		for _, r := range item.Recipients {
			found[r.Address]++
		}
	}
	for i := range n {
		if to := fmt.Sprintf("n%d@to.example", i); found[to] != 1 {
			t.Errorf("%s: %d times", to, found[to])
		}
	}
	if len(found) != n || len(left(t, filepath.Join(dir, "bad"))) > 0 {
		t.Errorf("%d files, %d recipients in the queue, bad: %q", n, len(found), left(t, filepath.Join(dir, "bad")))
	}
	d.stop()
}

// addresses gives the recipients of a message that arrived.
func addresses(m *mtatest.Message) (all []string) {
	for _, to := range m.To {
		all = append(all, to.Address)
	}
	return all
}
