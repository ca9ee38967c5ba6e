package doctor

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// machineCase is what one check of the machine sees, and what it is to say.
type machineCase struct {
	want    Status
	says    string
	id      func(*Identity)
	machine Machine
	opts    Options
}

func (c machineCase) run(t *testing.T, check string) Check {
	t.Helper()
	id := goodIdentity()
	id.Spool, id.SpoolFree, id.MaxFiles = t.TempDir(), 1e9, 4096
	if c.id != nil {
		c.id(&id)
	}
	w := newWorld(t).world()
	w.Machine = c.machine
	c.opts.Only = []string{check}
	got := find(t, Examine(t.Context(), id, w, c.opts), check, "")
	if got.Status != c.want || !strings.Contains(got.Seen, c.says) {
		t.Errorf("%+v\nwant %s and %q", got, c.want, c.says)
	}
	if (got.Fix != nil) != (got.Status == Warn || got.Status == Fail) {
		t.Errorf("fix: %+v", got)
	}
	return got
}

func syncTakes(d time.Duration, err error) Machine {
	return Machine{
		SyncTime:   func(context.Context, string) (time.Duration, error) { return d, err },
		FileSystem: func(string) (FileSystem, error) { return FileSystem{Kind: "ext4"}, nil },
	}
}

func onFileSystem(kind string, options ...string) Machine {
	m := syncTakes(time.Millisecond, nil)
	m.FileSystem = func(string) (FileSystem, error) { return FileSystem{Kind: kind, Options: options}, nil }
	return m
}

func TestCheck_spool_sync(t *testing.T) {
	t.Parallel()
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Pass, says: "400µs on ext4", machine: syncTakes(400*time.Microsecond, nil)}.run(t, "spool.sync")
		machineCase{want: Pass, machine: onFileSystem("xfs", "rw", "barrier=1")}.run(t, "spool.sync")
	})
	t.Run("warn", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Warn, says: "no disk is that fast", machine: syncTakes(800*time.Nanosecond, nil)}.run(t, "spool.sync")
		machineCase{want: Warn, says: "waits that long", machine: syncTakes(time.Second, nil)}.run(t, "spool.sync")
		machineCase{want: Warn, says: "tmpfs, in memory", machine: onFileSystem("tmpfs")}.run(t, "spool.sync")
		machineCase{want: Warn, says: "container's own layer", machine: onFileSystem("overlay")}.run(t, "spool.sync")
		machineCase{want: Warn, says: "over a network", machine: onFileSystem("nfs4")}.run(t, "spool.sync")
		machineCase{want: Warn, says: "nobarrier", machine: onFileSystem("ext4", "rw", "nobarrier")}.run(t, "spool.sync")
	})
	t.Run("skip", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Skip, id: func(id *Identity) { id.Spool = "postgres://db/mailout" }}.run(t, "spool.sync")
	})
	t.Run("unknown", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Unknown, says: "permission denied", machine: syncTakes(0, fs.ErrPermission)}.run(t, "spool.sync")
		m := machineCase{want: Unknown, says: "does not exist yet", id: func(id *Identity) { id.Spool += "/a/b" }}
		m.machine.FileSystem = onFileSystem("ext4").FileSystem
		m.run(t, "spool.sync")
	})
}

func withSpace(f FileSystem, err error) Machine {
	return Machine{FileSystem: func(string) (FileSystem, error) { return f, err }}
}

func TestCheck_spool_space(t *testing.T) {
	t.Parallel()
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Pass, says: "50.0 GB free", machine: withSpace(FileSystem{Free: 50e9}, nil)}.run(t, "spool.space")
		machineCase{want: Pass, says: "inodes", machine: withSpace(FileSystem{Free: 50e9, Inodes: 1e6, FreeInodes: 9e5}, nil)}.run(t, "spool.space")
		// A directory that is yet to be made is on its parent's file system.
		machineCase{want: Pass, id: func(id *Identity) { id.Spool += "/a/b"; id.SpoolFree = 1 }, machine: Machine{FileSystem: func(dir string) (FileSystem, error) {
			_, err := os.Stat(dir)
			return FileSystem{Free: 50e9}, err
		}}}.run(t, "spool.space")
	})
	t.Run("warn", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Warn, says: "1.5 GB free", machine: withSpace(FileSystem{Free: 15e8}, nil)}.run(t, "spool.space")
		machineCase{want: Warn, says: "9000 of 1000000 inodes", machine: withSpace(FileSystem{Free: 50e9, Inodes: 1e6, FreeInodes: 9000}, nil)}.run(t, "spool.space")
	})
	t.Run("fail", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Fail, says: "500.0 MB free", machine: withSpace(FileSystem{Free: 5e8}, nil)}.run(t, "spool.space")
		machineCase{want: Fail, says: "20 of", machine: withSpace(FileSystem{Free: 50e9, Inodes: 1e6, FreeInodes: 20}, nil)}.run(t, "spool.space")
		machineCase{want: Fail, says: "0 B free", machine: withSpace(FileSystem{}, nil), id: func(id *Identity) { id.SpoolFree = -1 }}.run(t, "spool.space")
	})
	t.Run("skip", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Skip, id: func(id *Identity) { id.Spool = "" }}.run(t, "spool.space")
	})
	t.Run("unknown", func(t *testing.T) {
		t.Parallel()
		machineCase{want: Unknown, says: "does not tell", machine: withSpace(FileSystem{}, errors.ErrUnsupported)}.run(t, "spool.space")
	})
}

func mayOpen(n uint64, err error) Machine {
	return Machine{OpenFiles: func() (uint64, error) { return n, err }}
}

func TestCheck_files_limit(t *testing.T) {
	t.Parallel()
	for _, c := range []machineCase{
		{want: Pass, says: "the limit is 4096", machine: mayOpen(4096, nil)},
		{want: Warn, says: "the limit is 1024", machine: mayOpen(1024, nil)},
		{want: Fail, says: "the limit is 256", machine: mayOpen(256, nil)},
		{want: Skip, machine: mayOpen(0, errors.ErrUnsupported)},
		{want: Unknown, says: "does not tell", machine: mayOpen(0, errors.New("getrlimit: operation not permitted"))},
		{want: Unknown, says: "not known", machine: mayOpen(256, nil), id: func(id *Identity) { id.MaxFiles = 0 }},
	} {
		t.Run(string(c.want), func(t *testing.T) {
			t.Parallel()
			c.run(t, "files.limit")
		})
	}
}

// clockAt is a web server whose clock is ahead of the fake world's by some
// time, and the identity that names it.
func clockAt(t *testing.T, ahead time.Duration) (Identity, World) {
	t.Helper()
	w := newWorld(t, "clock.example. 60 A 192.0.2.80")
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodHead {
			t.Errorf("%s was asked for", r.Method)
		}
		rw.Header().Set("Date", w.now.Add(ahead).Format(http.TimeFormat))
		http.Redirect(rw, r, "http://elsewhere.example/", http.StatusFound) // not to be followed
	}))
	t.Cleanup(s.Close)
	w.dial = func(ctx context.Context, _ netip.Addr, network, address string) (net.Conn, error) {
		if address != "192.0.2.80:80" {
			return nil, errors.New("connection refused")
		}
		return new(net.Dialer).DialContext(ctx, network, s.Listener.Addr().String())
	}
	id := goodIdentity()
	id.Reflectors = []string{"dns:myip.example/A@192.0.2.1", "http://clock.example/ip", "http://silent.example/"}
	return id, w.world()
}

func kept(is bool, err error) Machine {
	return Machine{ClockKept: func() (bool, error) { return is, err }}
}

func TestCheck_clock(t *testing.T) {
	t.Parallel()
	none := errors.ErrUnsupported
	cases := []struct {
		want    Status
		says    string
		ahead   time.Duration
		machine Machine
		alone   bool // without a reflector that answers
		offline bool
	}{
		{want: Pass, says: "right to the minute; a time service", machine: kept(true, nil)},
		{want: Pass, says: "no time service", ahead: -30 * time.Second, machine: kept(false, nil)},
		{want: Pass, says: "does not tell", machine: kept(false, none)},
		{want: Pass, says: "a time service", machine: kept(true, nil), alone: true},
		{want: Pass, says: "a time service", ahead: time.Hour, machine: kept(true, nil), offline: true},
		{want: Warn, says: "behind", ahead: 2 * time.Minute, machine: kept(true, nil)},
		{want: Warn, says: "no time service", machine: kept(false, nil), alone: true},
		{want: Fail, says: "59m59s ahead", ahead: -time.Hour, machine: kept(true, nil)},
		{want: Fail, says: "1h0m0s behind", ahead: time.Hour, machine: kept(false, none)},
		{want: Unknown, machine: kept(false, none), alone: true},
	}
	for _, c := range cases {
		t.Run(string(c.want), func(t *testing.T) {
			t.Parallel()
			id, w := clockAt(t, c.ahead)
			w.Machine = c.machine
			if c.alone {
				id.Reflectors = []string{"http://silent.example/"}
			}
			got := find(t, Examine(t.Context(), id, w, Options{Only: []string{"clock"}, Offline: c.offline}), "clock", "")
			if got.Status != c.want || !strings.Contains(got.Seen, c.says) {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestOffset(t *testing.T) {
	t.Parallel()
	date := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct{ before, after, want time.Duration }{
		{0, 0, 0}, {999 * time.Millisecond, time.Second, 0}, {-2 * time.Second, time.Second, 0},
		{3 * time.Second, 4 * time.Second, 2 * time.Second}, {-5 * time.Second, -3 * time.Second, -3 * time.Second},
	} {
		if got := offset(date, date.Add(c.before), date.Add(c.after)); got != c.want {
			t.Errorf("%v..%v: %v, want %v", c.before, c.after, got, c.want)
		}
	}
}

// TestSyncTimeLeavesNothing runs the real measurement.
func TestSyncTimeLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if took, err := syncTime(t.Context(), dir); err != nil || took <= 0 {
		t.Fatal(took, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
	if _, err := syncTime(t.Context(), filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestTheSystemTells runs the system's own answers, where there are any.
func TestTheSystemTells(t *testing.T) {
	t.Parallel()
	m := Machine{}.fill()
	if f, err := m.FileSystem(t.TempDir()); err != nil && !errors.Is(err, errors.ErrUnsupported) || err == nil && f.Free == 0 {
		t.Errorf("%+v %v", f, err)
	}
	if n, err := m.OpenFiles(); err != nil && !errors.Is(err, errors.ErrUnsupported) || err == nil && n == 0 {
		t.Error(n, err)
	}
}
