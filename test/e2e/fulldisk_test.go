//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// smallDisk is the size of the file system that is filled up. The log alone can
// take 290 MB of it, in files kept to be written again (docs/spool.md).
const smallDisk = 512 << 20

// fillings is how often it is filled.
const fillings = 3

// TestFullDisk fills the spool's disk under load with somebody else's file,
// to the last block: new mail is refused for now, deliveries go on, and when
// there is room again so does intake. Nothing is lost, and since nothing died,
// nothing comes twice.
func TestFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a small file system can be mounted by root only")
	}
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id"}, "fine.example")
	dead := w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id", Rules: []mtatest.Rule{
		{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "450 4.2.0 later"}}}}, "later.example")
	d := w.daemon("[limits]\nspool_free = \"64MiB\"\n")
	mount(t, filepath.Join(d.dir, "spool"))
	d.start()

	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	loadCtx, endLoad := context.WithCancel(ctx)
	defer endLoad()
	load := fullLoad(loadCtx, d)
	mtatest.Eventually(t, 30*time.Second, "mail flows", func() bool { return mx.Stats().Messages > 500 })

	hog := filepath.Join(d.dir, "spool", "hog")
	for range fillings {
		fill(t, hog)
		d.refuses(ctx, t)
		// Everything that was accepted for the good destination leaves while the
		// disk is full; the clients go on asking and are refused.
		mtatest.Eventually(t, time.Minute, "deliveries go on", func() bool {
			s := d.summary()
			return s["queued"]+s["active"] == 0
		})
		before := mx.Stats().Messages
		if err := os.Remove(hog); err != nil {
			t.Fatal(err)
		}
		mtatest.Eventually(t, time.Minute, "intake resumes", func() bool { return mx.Stats().Messages > before+500 }, d.state)
	}
	endLoad()
	accepted, refused, first := load()
	if refused == 0 || !strings.Contains(first, "452 4.3.1") {
		t.Errorf("%d refusals, the first: %s; want 452 4.3.1", refused, first)
	}
	dead.SetRules()
	d.drain(2 * time.Minute)
	v := newLedger().judge(accepted, mx, dead)
	fmt.Printf("result: full disk: %v (%d refused meanwhile, with %q)\n", v, refused, first)
	if v.lost != 0 || v.doubled != 0 {
		t.Errorf("lost=%d doubled=%d", v.lost, v.doubled)
	}
	d.stop()
}

// state tells what takes the disk, for a test that waits in vain.
func (d *daemon) state() string {
	disk, _ := exec.Command("sh", "-c", "df -k "+d.dir+"/spool; du -ak "+d.dir+"/spool | sort -n | tail -30").Output()
	log := d.log()
	return fmt.Sprintf("%v\n%s%s", d.summary(), disk, log[max(0, len(log)-2000):])
}

// TestKilledOnAFullDisk kills the daemon while its disk is full. It may not
// start before there is room; nothing that was accepted is lost.
func TestKilledOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a small file system can be mounted by root only")
	}
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id"}, "fine.example")
	later := w.mx(mtatest.MXConfig{Discard: true, Remember: "X-Id", Rules: []mtatest.Rule{
		{Stage: mtatest.StageRcpt, Action: mtatest.Action{Reply: "450 4.2.0 later"}}}}, "later.example")
	d := w.daemon("[limits]\nspool_free = \"64MiB\"\n")
	mount(t, filepath.Join(d.dir, "spool"))
	d.start()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	load := fullLoad(ctx, d)
	mtatest.Eventually(t, 30*time.Second, "mail flows", func() bool { return mx.Stats().Messages > 500 })
	hog := filepath.Join(d.dir, "spool", "hog")
	fill(t, hog)
	open := sessionsUntil(d.kill, mx, later)
	cancel()
	accepted, _, _ := load()
	onFull := "it started on the full disk"
	if err := d.tryStart(); err != nil {
		onFull = "it did not start on the full disk"
		if !strings.Contains(err.Error(), "no space left") {
			t.Errorf("starting on a full disk: %v", err)
		}
	}
	if err := os.Remove(hog); err != nil {
		t.Fatal(err)
	}
	if onFull != "it started on the full disk" {
		d.start()
	}
	later.SetRules()
	d.drain(time.Minute)
	v := newLedger().judge(accepted, mx, later)
	fmt.Printf("result: killed on a full disk: %v (%s; %d sessions open at the kill)\n", v, onFull, open)
	if v.lost != 0 || v.doubled > open {
		t.Errorf("lost=%d doubled=%d", v.lost, v.doubled)
	}
	d.stop()
}

// mount puts a small file system at dir for the length of the test.
func mount(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d,mode=0700", smallDisk))
	if errors.Is(err, syscall.EPERM) {
		t.Skip("this system lets root mount nothing")
	}
	if err != nil {
		t.Fatalf("mount a tmpfs: %v", err)
	}
	// Lazy: the daemon is killed only behind this.
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
}

// fullLoad sends small and large mail by SMTP to the good destination and a
// little to one that takes none. Its function waits for the end and gives what
// was accepted, how much was refused, and the first refusal.
func fullLoad(ctx context.Context, d *daemon) func() (map[string]bool, int, string) {
	loads := []*mtatest.Load{
		{Addr: d.smtp, Name: "small", Sessions: 10, Size: inStore, Reconnect: true, To: to("user@fine.example")},
		{Addr: d.smtp, Name: "large", Sessions: 2, Size: inShared, Reconnect: true, To: to("user@fine.example")},
		{Addr: d.smtp, Name: "later", Sessions: 1, Size: inStore, Messages: 200, Reconnect: true, To: to("user@later.example")},
	}
	results := make([]*mtatest.LoadResult, len(loads))
	var wg sync.WaitGroup
	for i, load := range loads {
		wg.Go(func() { results[i] = load.Run(ctx) })
	}
	return func() (map[string]bool, int, string) {
		wg.Wait()
		accepted, refused, first := map[string]bool{}, 0, ""
		for _, r := range results {
			refused += r.Refused
			for id := range r.Accepted {
				accepted[id] = true
			}
			var reply *mtatest.RefusedError
			if first == "" && errors.As(r.First, &reply) {
				first = reply.Reply.String()
			}
		}
		return accepted, refused, first
	}
}

// fill writes a file until not one octet more goes.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 1<<20); len(block) > 0; {
		if _, err := f.Write(block); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			block = block[:len(block)/2]
		}
	}
}

// refuses demands that both doors put new mail off.
func (d *daemon) refuses(ctx context.Context, t *testing.T) {
	t.Helper()
	probes := 0
	mtatest.Eventually(t, 20*time.Second, "new mail is refused with 452", func() bool {
		c := d.client()
		defer c.Close()
		probes++
		out, err := c.Send("a@sender.example", []string{"user@fine.example"}, note(fmt.Sprintf("%s-probe-%d", time.Now().Format(time.StampNano), probes), inStore))
		return err == nil && out.Err() != nil && strings.Contains(out.Err().Error(), "452 4.3.1")
	})
	if _, err := d.poster().post(ctx, "user@fine.example", note("never", inStore)); err == nil || !strings.Contains(err.Error(), "452") {
		t.Errorf("the socket answered %v, want a 452 inside a problem", err)
	}
}
