//go:build linux

package e2e

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// This file says whether a daemon needs more and more.
//
// Method: a look every second behind the warm-up. The time is cut into blocks,
// and of each block the least value counts: memory just after a collection,
// descriptors between two peaks. A straight line through these (least squares)
// gives the growth over the whole time and, from how far the points lie from
// the line, its standard error. Growth by more than the tolerance and two
// standard errors is a leak. Goroutines cannot be counted from outside without
// ending them: SIGQUIT makes the daemon print them all, once when it is fresh
// and once when it is at rest behind the soak.
// How much of the heap is in use, and the stacks, are what the runtime says of
// each collection (GODEBUG=gctrace=1); resident memory follows that twice over,
// since garbage may grow as large as what is in use.
// Rejected: comparing the medians of two thirds, which takes twice the slope
// and a tenth of the memory besides for the same certainty.
// Limits: memory is not judged over less than soakCertain; a leak that stays under the tolerance for the length of the soak, or
// of something that the load does not use.

// use is what the daemon uses at one moment.
type use struct {
	at             time.Duration // since the soak began
	live           int64         // octets of the heap that the last collection found in use
	stacks         int64         // octets of goroutines' stacks then
	resident       int64         // octets
	files, threads int64         // open file descriptors, threads
	disk           int64         // octets that the spool has on the disk
	delivered      int64         // messages so far, all receivers
}

// Tolerances of a soak: by how much a figure may be more at the end of the
// straight line than at its beginning, two standard errors aside.
const (
	soakBlocks  = 20
	soakMemory  = 8 << 20  // octets of the heap in use, or of stacks
	soakGarbage = 32 << 20 // octets of resident memory
	soakFiles   = 4        // descriptors, those of the store's tables left out: they grow with the journal, to a thousand at most
	soakThreads = 3        // threads
	soakDisk    = 32 << 20 // octets: logs and tables that are about to be merged,
	soakJournal = 400      // and octets a delivered message: its records are kept for weeks, and not all tables are merged
	soakRoutine = 10       // goroutines at rest
	// soakCertain is the time that memory is judged over: caches fill for
	// minutes, and a shorter look takes that for a leak.
	soakCertain = 10 * time.Minute
)

// watch looks until done, and prints a line a minute.
func (s *soakRun) watch(done <-chan struct{}) []use {
	var all []use
	tick := time.NewTicker(soakSample)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return all
		case <-tick.C:
		}
		u, err := s.look()
		if err != nil {
			s.t.Error(err)
			return all
		}
		all = append(all, u)
		if time.Since(s.lined) >= soakLine {
			s.lined = s.lined.Add(soakLine)
			fmt.Printf("%8v  delivered %d  heap in use %d MB  resident %d MB  files %d  threads %d  spool %d MB\n", u.at.Round(time.Second),
				u.delivered, u.live>>20, u.resident>>20, u.files, u.threads, u.disk>>20)
		}
	}
}

func (s *soakRun) look() (u use, err error) {
	u.at = time.Since(s.began)
	u.live, u.stacks = s.collections.live.Load(), s.collections.stacks.Load()
	proc := fmt.Sprintf("/proc/%d/", s.d.process.Pid())
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &u.resident, "Threads": &u.threads}[name]
		if into == nil {
			continue
		}
		if *into, err = strconv.ParseInt(strings.Fields(value)[0], 10, 64); err != nil {
			return u, err
		}
		if name != "Threads" {
			*into <<= 10
		}
	}
	files, err := os.ReadDir(proc + "fd")
	for _, f := range files {
		if to, err := os.Readlink(proc + "fd/" + f.Name()); err == nil && !strings.HasSuffix(to, ".sst") {
			u.files++
		}
	}
	u.disk = diskUse(filepath.Join(s.d.dir, "spool"))
	for _, mx := range append(s.sinks(), s.mails) {
		u.delivered += mx.Stats().Messages
	}
	return u, err
}

// collections knows what the daemon's last collection found.
type collections struct{ live, stacks atomic.Int64 }

// line reads a line of the log, if it is one of a collection: "… 5->6->3 MB, 7
// MB goal, 0 MB stacks, …".
func (c *collections) line(line string) {
	if !strings.HasPrefix(line, "gc ") {
		return
	}
	for part := range strings.SplitSeq(line, ", ") {
		number, what, _ := strings.Cut(strings.TrimSuffix(part, " MB")+" ", " ")
		into := &c.live
		if what = strings.TrimSpace(what); what == "MB stacks" {
			into = &c.stacks
		} else if what != "" || strings.Count(number, "->") != 2 {
			continue
		}
		if mb, err := strconv.ParseInt(number[strings.LastIndexByte(number, '>')+1:], 10, 64); err == nil {
			into.Store(mb << 20)
		}
	}
}

// diskUse is what a folder's files take, holes left out.
func diskUse(dir string) (octets int64) {
	filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // files come and go
		}
		if info, err := e.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				octets += st.Blocks * 512
			}
		}
		return nil
	})
	return octets
}

// judgeUse says what grew, and prints the figures.
func judgeUse(out io.Writer, all []use) (growth []string) {
	if len(all) < soakBlocks {
		return []string{"the daemon was not seen often enough"}
	}
	span := all[len(all)-1].at - all[0].at
	fmt.Fprintf(out, "use over the last %v, %d looks; the least of each of %d blocks, and a straight line through them:\n", span.Round(time.Second), len(all), soakBlocks)
	judge := func(what string, tolerated float64, f func(use) int64) {
		start, grown, deviation := trend(lows(all, f))
		verdict := "steady"
		switch {
		case grown <= tolerated+2*deviation:
		case span < soakCertain && slices.Contains([]string{"heap in use", "resident memory"}, what):
			verdict = fmt.Sprintf("not judged, since caches still fill (a soak of %v is enough)", soakCertain*3/2)
		default:
			verdict = "GREW"
			growth = append(growth, fmt.Sprintf("%s grew by %.0f from %.0f in %v; %.0f more are tolerated, and two standard errors of %.0f",
				what, grown, start, span.Round(time.Second), tolerated, deviation))
		}
		fmt.Fprintf(out, "  %-18s %12.0f at first, %+12.0f to the end (± %.0f; %+.0f an hour), tolerated +%.0f: %s\n",
			what, start, grown, deviation, grown/span.Hours(), tolerated, verdict)
	}
	judge("heap in use", soakMemory, func(u use) int64 { return u.live })
	judge("stacks", soakMemory, func(u use) int64 { return u.stacks })
	judge("resident memory", soakGarbage, func(u use) int64 { return u.resident })
	judge("file descriptors", soakFiles, func(u use) int64 { return u.files })
	judge("threads", soakThreads, func(u use) int64 { return u.threads })
	judge("spool on disk", soakDisk+soakJournal*float64(all[len(all)-1].delivered-all[0].delivered), func(u use) int64 { return u.disk })
	return growth
}

// lows gives the least value of each block.
func lows(all []use, f func(use) int64) []float64 {
	low := make([]float64, soakBlocks)
	for i := range low {
		low[i] = math.Inf(1)
		for _, u := range all[i*len(all)/soakBlocks : (i+1)*len(all)/soakBlocks] {
			low[i] = min(low[i], float64(f(u)))
		}
	}
	return low
}

// trend fits a straight line through evenly spaced values: its first value,
// how much more its last one is, and the standard error of that.
func trend(values []float64) (start, grown, deviation float64) {
	n := float64(len(values))
	var mean, slope, xx float64
	for _, v := range values {
		mean += v / n
	}
	for i, v := range values {
		x := float64(i) - (n-1)/2
		slope += x * (v - mean)
		xx += x * x
	}
	slope /= xx
	start = mean - slope*(n-1)/2
	var rest float64
	for i, v := range values {
		d := v - start - slope*float64(i)
		rest += d * d
	}
	return start, slope * (n - 1), math.Sqrt(rest/(n-2)/xx) * (n - 1)
}

// goroutines ends the daemon and gives what its goroutines were, by who
// started them.
func (s *soakRun) goroutines() map[string]int {
	s.t.Helper()
	if err := s.d.process.Signal(syscall.SIGQUIT); err != nil {
		s.t.Fatal(err)
	}
	select {
	case <-s.d.process.Ended():
	case <-time.After(time.Minute):
		s.t.Fatal("the daemon did not end at SIGQUIT")
	}
	return startedBy(s.d.log())
}

// startedBy reads a dump of goroutines.
func startedBy(dump string) map[string]int {
	counts := map[string]int{}
	for block := range strings.SplitSeq("\n"+dump, "\ngoroutine ") {
		number, _, _ := strings.Cut(block, " ")
		if _, err := strconv.Atoi(number); err != nil || number == "0" { // 0 is the scheduler's
			continue
		}
		by := "main"
		if _, rest, ok := strings.Cut(block, "\ncreated by "); ok {
			by, _, _ = strings.Cut(rest, " in goroutine")
			by, _, _ = strings.Cut(by, "\n")
		}
		counts[by]++
	}
	return counts
}

// judgeGoroutines compares two daemons at rest.
func judgeGoroutines(out io.Writer, fresh, after map[string]int) (growth []string) {
	sum := func(m map[string]int) (n int) {
		for _, v := range m {
			n += v
		}
		return n
	}
	a, b, verdict := sum(fresh), sum(after), "steady"
	if a == 0 || b == 0 {
		return []string{"no goroutines were seen"}
	}
	if b > a+soakRoutine {
		verdict = "GREW"
		growth = append(growth, fmt.Sprintf("goroutines grew from %d to %d; %d more are tolerated", a, b, soakRoutine))
	}
	fmt.Fprintf(out, "  %-18s %12d when fresh, %d at rest behind the soak, tolerated +%d: %s\n", "goroutines", a, b, soakRoutine, verdict)
	for _, by := range slices.Sorted(maps.Keys(after)) {
		if after[by] > fresh[by] {
			fmt.Fprintf(out, "    %d instead of %d were started by %s\n", after[by], fresh[by], by)
		}
	}
	return growth
}

// TestSoakSeesGrowth: the verdict of a soak is worth something. The figures
// are those of 20 minutes: memory like saw teeth, and a leak in it.
func TestSoakSeesGrowth(t *testing.T) {
	t.Parallel()
	const looks, mb = 1200, 1 << 20
	cases := map[string]struct {
		leak func(u *use, i int64) // i of 1,200 looks
		want int
	}{
		"nothing":             {func(*use, int64) {}, 0},
		"less and less":       {func(u *use, i int64) { u.resident -= i * mb / 100; u.files -= i / 100 }, 0},
		"a little":            {func(u *use, i int64) { u.live += i * 5 * mb / looks; u.files += i * 3 / looks }, 0},
		"60 octets a message": {func(u *use, i int64) { u.resident += 120 * u.delivered; u.live += 60 * u.delivered }, 2},
		"a file in 2 minutes": {func(u *use, i int64) { u.files += i / 120 }, 1},
		"stacks":              {func(u *use, i int64) { u.stacks += i * 10 * mb / looks }, 1},
		"threads":             {func(u *use, i int64) { u.threads += i / 200 }, 1},
		"a journal":           {func(u *use, i int64) { u.disk += 300 * u.delivered }, 0},
		"a file in 100 stays": {func(u *use, i int64) { u.disk += 300*u.delivered + u.delivered/100*100_000 }, 1},
		"a step at the end":   {func(u *use, i int64) { u.live += i / 900 * 40 * mb }, 1},
	}
	for name, c := range cases {
		var all []use
		for i := range int64(looks) {
			u := use{at: time.Duration(i) * time.Second, resident: 150*mb + i%37*mb, live: 60*mb + i%41*mb, stacks: mb, files: 60 + i%13, threads: 12 + i%3,
				disk: 100*mb + i%60*mb/2, delivered: 300 * i}
			c.leak(&u, i)
			all = append(all, u)
		}
		if got := judgeUse(io.Discard, all); len(got) != c.want {
			t.Errorf("%s: %d complaints, want %d: %v", name, len(got), c.want, got)
		}
	}
	var short []use
	for i := range int64(120) {
		short = append(short, use{at: time.Duration(i) * time.Second, resident: i * mb, live: i * mb, files: i})
	}
	if got := judgeUse(io.Discard, short); len(got) != 1 || !strings.Contains(got[0], "descriptors") {
		t.Errorf("two minutes of filling caches, and of open files: %v", got)
	}
	if got := judgeUse(io.Discard, nil); len(got) != 1 {
		t.Errorf("a daemon that was not seen: %v", got)
	}
}

func TestSoakReadsCollections(t *testing.T) {
	t.Parallel()
	var c collections
	c.line("gc 5 @1.6s 2%: 0.026+0.39+0.10 ms clock, 0.21+0.88/0.52/0+0.83 ms cpu, 40->45->23 MB, 46 MB goal, 2 MB stacks, 0 MB globals, 2 P")
	c.line("level=INFO msg=\"1->2->3 MB, 9 MB stacks\"")
	if c.live.Load() != 23<<20 || c.stacks.Load() != 2<<20 {
		t.Errorf("%d in use, %d of stacks", c.live.Load(), c.stacks.Load())
	}
}

func TestSoakCountsGoroutines(t *testing.T) {
	t.Parallel()
	const dump = `level=INFO msg=ready
SIGQUIT: quit

goroutine 0 gp=0x1 m=0 mp=0x1 [idle]:
runtime.futex()

goroutine 1 gp=0x2 m=nil [select]:
main.main()

goroutine 7 gp=0x3 m=nil [chan receive, 2 minutes]:
a.b()
created by mailout/internal/queue.(*Queue).Start in goroutine 1
	/x.go:1 +0x1

goroutine 8 gp=0x4 m=nil [select]:
created by mailout/internal/queue.(*Queue).Start in goroutine 1
`
	got := startedBy(dump)
	if !maps.Equal(got, map[string]int{"main": 1, "mailout/internal/queue.(*Queue).Start": 2}) {
		t.Errorf("%v", got)
	}
	if bad := judgeGoroutines(io.Discard, got, map[string]int{"main": 1, "leak": 12}); bad != nil {
		t.Error(bad)
	}
	for _, c := range []map[string]int{{"main": 1, "leak": 13}, {}} {
		if bad := judgeGoroutines(io.Discard, got, c); len(bad) != 1 {
			t.Errorf("%v: %v", c, bad)
		}
	}
}
