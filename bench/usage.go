package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// cgroup counts the processor time of a relay's processes, also of those that
// have ended (Exim starts some for each message). dir is empty where control
// groups cannot be made.
type cgroup struct {
	dir string
	v1  bool
}

var cgroups = []cgroup{{"/sys/fs/cgroup/cpuacct", true}, {"/sys/fs/cgroup", false}}

func newCgroup() cgroup {
	for _, c := range cgroups {
		c.dir = filepath.Join(c.dir, fmt.Sprintf("mailout-bench-%d", os.Getpid()))
		if err := os.MkdirAll(c.dir, 0o755); err == nil {
			if _, err := os.Stat(filepath.Join(c.dir, "cgroup.procs")); err == nil {
				return c
			}
			_ = os.Remove(c.dir)
		}
	}
	return cgroup{}
}

func (c cgroup) remove() {
	if c.dir == "" {
		return
	}
	for range 50 { // its processes are gone when they are gone
		if os.Remove(c.dir) == nil {
			return
		}
		_ = pause(context.Background(), 10*time.Millisecond)
	}
}

// cpu is the processor time used so far.
func (c cgroup) cpu() (time.Duration, bool) {
	if c.dir == "" {
		return 0, false
	}
	if c.v1 {
		b, err := os.ReadFile(filepath.Join(c.dir, "cpuacct.usage"))
		n, perr := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
		return time.Duration(n), err == nil && perr == nil
	}
	b, err := os.ReadFile(filepath.Join(c.dir, "cpu.stat"))
	return time.Duration(field(b, "usage_usec")) * time.Microsecond, err == nil
}

// usage is what a relay has used up to now.
type usage struct {
	cpu     time.Duration
	written int64 // by its processes, as they account for it; ended ones count when their parent waited for them
	disk    int64 // written to the device, by everybody
}

func (r *process) usage() usage {
	var u usage
	var ticks int64
	for _, pid := range r.pids() {
		b, err := os.ReadFile("/proc/" + pid + "/io")
		if err == nil {
			u.written += field(b, "write_bytes:")
		}
		ticks += cpuTicks(pid)
	}
	var ok bool
	if u.cpu, ok = r.cgroup.cpu(); !ok {
		u.cpu = time.Duration(ticks) * (time.Second / 100) // USER_HZ
	}
	u.disk = diskWritten()
	return u
}

// pids are the relay's processes now.
func (r *process) pids() []string {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if name := e.Name(); name[0] >= '0' && name[0] <= '9' {
			if ns, err := os.Readlink("/proc/" + name + "/ns/pid"); err == nil && ns == r.ns {
				out = append(out, name)
			}
		}
	}
	return out
}

// cpuTicks is the time of a process and of the children it has waited for.
func cpuTicks(pid string) int64 {
	b, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var sum int64
	for _, s := range f[11:15] { // utime, stime, cutime, cstime
		n, _ := strconv.ParseInt(s, 10, 64) // the kernel's own number
		sum += n
	}
	return sum
}

// memory is what the relay's processes have for themselves: pages that are
// not of a file. Program text, which they share, is left out.
func (r *process) memory() int64 {
	var sum int64
	for _, pid := range r.pids() {
		if b, err := os.ReadFile("/proc/" + pid + "/status"); err == nil {
			sum += (field(b, "RssAnon:") + field(b, "RssShmem:")) << 10
		}
	}
	return sum
}

// sampleEvery is coarse because a look at 200 processes costs milliseconds of
// the processors that are being measured.
const sampleEvery = 250 * time.Millisecond

// sampler watches the memory of a relay until it is told to stop.
type sampler struct {
	end  context.CancelFunc
	wg   sync.WaitGroup
	peak int64
}

func (r *process) sample(ctx context.Context) *sampler {
	ctx, cancel := context.WithCancel(ctx)
	s := &sampler{end: cancel}
	s.wg.Go(func() {
		for {
			s.peak = max(s.peak, r.memory())
			if pause(ctx, sampleEvery) != nil {
				return
			}
		}
	})
	return s
}

// stop gives the peak.
func (s *sampler) stop() int64 {
	s.end()
	s.wg.Wait()
	return s.peak
}

// diskWritten is how much the device of the spools has been made to write, in
// octets; 0 when it has no such count.
func diskWritten() int64 {
	b, err := os.ReadFile(deviceDir() + "/stat")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	n, _ := strconv.ParseInt(f[6], 10, 64) // the kernel's own number
	return n * 512
}

// deviceDir is the folder of the spools' device in /sys.
func deviceDir() string {
	var st syscall.Stat_t
	if err := syscall.Stat(base+"/spool", &st); err != nil {
		return ""
	}
	d := uint64(st.Dev)
	return fmt.Sprintf("/sys/dev/block/%d:%d", d>>8&0xfff|d>>32&^0xfff, d&0xff|d>>12&0xffffff00)
}

// flushDisk makes the file system of the spools write what it has.
func flushDisk() { syscall.Sync() }

// field is the number behind a word at the beginning of a line; 0 without it.
func field(b []byte, word string) int64 {
	for line := range bytes.Lines(b) {
		f := strings.Fields(string(line))
		if len(f) > 1 && f[0] == word {
			n, _ := strconv.ParseInt(f[1], 10, 64) // the kernel's own number
			return n
		}
	}
	return 0
}
