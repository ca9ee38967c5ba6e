//go:build linux

package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

var soak = flag.Duration("soak", 0, "how long TestSoak runs; 0 skips it")

// What a soak does, and when.
const (
	soakCycle    = 5 * time.Second  // one load, one set of faults
	soakMessages = 1500             // of a load by SMTP
	soakReload   = 3                // cycles between reloads
	soakOutage   = 4                // cycles between a receiver's death and its return, and back
	soakSample   = 2 * time.Second  // between looks at /proc
	soakLine     = 60 * time.Second // between lines
	shortestSoak = 2 * time.Minute
)

// TestSoak runs a mixed load with faults for a long time: receivers that
// refuse, defer, hang, break and withhold replies, one that dies and returns,
// reloads, and in the first third an orderly restart and a kill. In the last
// third the daemon must not need more than in the middle one, and in the end
// everything that was accepted has arrived or come back.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		t.Skip("a soak takes long: -soak 30m")
	}
	if *soak < shortestSoak {
		t.Fatalf("a soak of %v shows nothing: at least %v", *soak, shortestSoak)
	}
	if *seed == 0 {
		*seed = uint64(time.Now().UnixNano())
	}
	fmt.Printf("soak of %v, seed %d\n", *soak, *seed)
	s := newSoak(t)
	third := *soak / 3
	s.phase(third / 6)
	s.restart("the daemon is restarted in order", s.d.stop)
	s.phase(third / 6)
	s.restart("the daemon is killed", func() { s.bound += sessionsUntil(s.d.kill, s.sinks()...) })
	s.phase(third - third/6*2) // fills buffers and caches
	middle := s.phase(third)
	last := s.phase(third)
	growth := compareUse(middle, last)
	for _, line := range growth {
		t.Error(line)
	}
	s.calm()
	v := s.book.judge(s.accepted, s.sinks()...)
	back := s.bounces.missing(s.refused)
	fmt.Printf("result: soak: %v growth=%d (%d came twice by deaths, %d sessions open at those; %d of %d refused messages did not come back; seed %d)\n",
		v, len(growth), v.unexplained, s.bound, back, len(s.refused), *seed)
	if v.lost != 0 || back != 0 {
		t.Errorf("lost=%d, reports lost=%d", v.lost, back)
	}
	if v.unexplained > s.bound {
		t.Errorf("%d messages came twice without a withheld reply, but only %d sessions were open when a side died", v.unexplained, s.bound)
	}
	s.d.stop()
}

// soakRun is a daemon, its receivers, and what is known of its mail.
type soakRun struct {
	t                           *testing.T
	w                           *world
	d                           *daemon
	random                      *rand.Rand
	fine, faulty, strict, mails *mtatest.MX
	mortal                      []*mtatest.MX // the lives of one receiver; the last may be dead
	alive                       bool
	mortalAddr                  string
	good                        []string // domains of the receivers that take mail
	book                        *ledger
	bounces                     *postbox
	accepted, refused           map[string]bool // by X-Id: to be delivered, to come back
	bound                       int             // sessions that were open when a side died
	cycle                       int
	began, lined                time.Time
}

func newSoak(t *testing.T) *soakRun {
	w := newWorld(t)
	s := &soakRun{t: t, w: w, random: rand.New(rand.NewPCG(*seed, 2)), book: newLedger(), bounces: newPostbox(),
		accepted: map[string]bool{}, refused: map[string]bool{}, began: time.Now(), lined: time.Now()}
	discard := mtatest.MXConfig{Discard: true, Remember: "X-Id"}
	s.fine = w.mx(discard, domains("fine", 20)...)
	cfg := discard
	cfg.OnMessage, cfg.OnEvent = s.book.onMessage, s.book.onEvent
	s.faulty = w.mx(cfg, domains("faulty", 10)...)
	s.strict = w.mx(mtatest.MXConfig{Discard: true, Users: []string{}}, "strict.example")
	s.mails = w.mx(mtatest.MXConfig{Discard: true, OnMessage: s.bounces.onMessage}, "sender.example", "widget.example")
	first := w.mx(discard, domains("mortal", 10)...)
	s.mortal, s.alive = []*mtatest.MX{first}, true
	s.mortalAddr = fmt.Sprintf("127.0.2.%d:%d", w.next-1, w.port)
	s.good = slices.Concat(domains("fine", 20), domains("faulty", 10), domains("mortal", 10))
	s.d = w.daemon("reply_timeout = \"3s\"\nconnections = 20\n").start()
	return s
}

func domains(name string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("d%d.%s.example", i, name))
	}
	return all
}

func (s *soakRun) sinks() []*mtatest.MX { return append([]*mtatest.MX{s.fine, s.faulty}, s.mortal...) }

// phase loads the daemon for a time and gives what it used.
func (s *soakRun) phase(length time.Duration) []use {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var uses []use
	var wg sync.WaitGroup
	wg.Go(func() { uses = s.watch(ctx) })
	for ctx.Err() == nil {
		s.faults()
		s.load(ctx)
	}
	wg.Wait()
	return uses
}

// restart ends the daemon under load and starts it again.
func (s *soakRun) restart(what string, end func()) {
	s.t.Helper()
	fmt.Printf("%8v  %s\n", time.Since(s.began).Round(time.Second), what)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s.cycle++
	load := mtatest.Load{Addr: s.d.smtp, Name: fmt.Sprintf("c%d-end", s.cycle), Sessions: 20, Size: inStore, To: s.to}
	done := make(chan *mtatest.LoadResult, 1)
	go func() { done <- load.Run(ctx) }()
	pause(ctx, time.Second)
	end()
	cancel()
	for id := range (<-done).Accepted {
		s.accepted[id] = true
	}
	s.d.start()
}

// faults changes the world for a cycle.
func (s *soakRun) faults() {
	s.cycle++
	some := func() int { return 1 + s.random.IntN(20) }
	rules := []mtatest.Rule{
		{Stage: mtatest.StageConnect, Action: mtatest.Action{Reply: "421 4.3.2 too busy"}},
		{Stage: mtatest.StageConnect, Action: mtatest.Action{Hang: true}},
		{Stage: mtatest.StageMail, Action: mtatest.Action{Reply: "451 4.3.0 not now"}},
		{Stage: mtatest.StageRcpt, Action: mtatest.Action{Greylist: 1}},
		{Stage: mtatest.StageRcpt, Action: mtatest.Action{Drop: true}},
		{Stage: mtatest.StageData, Action: mtatest.Action{Reply: "452 4.3.1 full"}},
		{Stage: mtatest.StageDot, Action: mtatest.Action{Drop: true, Keep: true}},
		{Stage: mtatest.StageDot, Action: mtatest.Action{Hang: true, Keep: true}},
		{Stage: mtatest.StageDot, Action: mtatest.Action{Drop: true, Reset: true}},
		{Stage: mtatest.StageDot, Action: mtatest.Action{Delay: 200 * time.Millisecond}},
	}
	s.random.Shuffle(len(rules), func(i, j int) { rules[i], rules[j] = rules[j], rules[i] })
	for i := range rules {
		rules[i].First, rules[i].Skip = some(), some()
	}
	s.faulty.SetRules(rules[:4]...)
	if s.cycle%soakReload == 0 {
		s.reload()
	}
}

// death ends the mortal receiver, or brings it back.
func (s *soakRun) death() {
	if s.alive {
		mx := s.mortal[len(s.mortal)-1]
		s.bound += sessionsUntil(mx.Stop, mx)
		s.alive = false
		return
	}
	mx := mtatest.NewMX(mtatest.MXConfig{Hostname: s.mortal[0].Hostname(), Discard: true, Remember: "X-Id"})
	if _, err := mx.Listen(s.mortalAddr); err != nil {
		s.t.Error(err)
		return
	}
	s.t.Cleanup(mx.Stop)
	s.mortal, s.alive = append(s.mortal, mx), true
}

func (s *soakRun) reload() {
	old, now := "connections = 20\n", "connections = 15\n"
	if s.cycle%(2*soakReload) == 0 {
		old, now = now, old
	}
	s.d.replace(old, now)
	s.d.must("config", "reload")
}

// to gives recipients at all receivers that take mail.
func (s *soakRun) to(n int) []string { return []string{"user@" + s.good[n%len(s.good)]} }

// load is one cycle's mail: the same every time, so that what the daemon uses
// can be compared.
func (s *soakRun) load(ctx context.Context) {
	end := time.NewTimer(soakCycle)
	defer end.Stop()
	strict := func(n int) []string { return []string{fmt.Sprintf("nobody%d@strict.example", n)} }
	loads := []*mtatest.Load{
		{Name: "small", Sessions: 10, Messages: soakMessages, Size: inStore, To: s.to},
		{Name: "large", Sessions: 2, Messages: soakMessages / 50, Size: inFile, To: s.to},
		{Name: "strict", Sessions: 1, Messages: soakMessages / 50, Size: 2000, From: "app@sender.example", To: strict},
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	results := make([]*mtatest.LoadResult, len(loads))
	var wg sync.WaitGroup
	for i, load := range loads {
		load.Addr, load.Name = s.d.smtp, fmt.Sprintf("c%d-%s", s.cycle, load.Name)
		wg.Go(func() { results[i] = load.Run(limit) })
	}
	sent, posted := newDoors(), s.d.poster()
	defer posted.http.CloseIdleConnections()
	wg.Go(func() {
		for n := range soakMessages / 30 {
			id := fmt.Sprintf("c%d-socket-%d", s.cycle, n)
			if _, err := posted.post(limit, s.to(n)[0], note(id, inStore)); err != nil {
				sent.failed(err)
				continue
			}
			sent.took(id)
		}
	})
	if s.cycle%soakOutage == 0 { // in the middle of the load
		pause(limit, soakCycle/10)
		s.death()
	}
	wg.Wait()
	for i, r := range results {
		into := s.accepted
		if i == len(results)-1 {
			into = s.refused
		}
		for id := range r.Accepted {
			into[id] = true
		}
		if r.Refused+r.Broken > 0 {
			s.t.Errorf("%s: %d refused, %d connections broke, first: %v", loads[i].Name, r.Refused, r.Broken, r.First)
		}
	}
	if sent.mu.first != nil {
		s.t.Errorf("the socket refused %d, first: %v", sent.mu.refused, sent.mu.first)
	}
	maps.Copy(s.accepted, sent.mu.accepted)
	<-end.C
}

// calm ends the faults and waits until nothing is left.
func (s *soakRun) calm() {
	s.t.Helper()
	s.faulty.SetRules()
	if !s.alive {
		s.death()
	}
	s.d.drain(5 * time.Minute)
}

// postbox notes which messages came back.
type postbox struct {
	mu struct {
		sync.Mutex
		back map[string]int
	}
}

func newPostbox() *postbox {
	p := &postbox{}
	p.mu.back = map[string]int{}
	return p
}

func (p *postbox) onMessage(m *mtatest.Message) {
	_, rest, found := bytes.Cut(m.Data, []byte("\r\nX-Id: "))
	id, _, whole := bytes.Cut(rest, []byte("\r\n"))
	if found && whole {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.mu.back[string(id)]++
	}
}

func (p *postbox) missing(ids map[string]bool) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range ids {
		if p.mu.back[id] == 0 {
			n++
		}
	}
	return n
}

// use is what the daemon uses at one moment. Goroutines cannot be counted from
// outside without ending them; each has its stack in the anonymous memory.
type use struct {
	resident, anonymous int64 // octets; the second is heap and stacks
	files, threads      int64 // open file descriptors, threads
	disk                int64 // octets in the spool
	delivered           int64 // messages so far, all receivers
}

// watch looks until ctx ends, and prints a line a minute.
func (s *soakRun) watch(ctx context.Context) []use {
	var all []use
	tick := time.NewTicker(soakSample)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
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
			fmt.Printf("%8v  delivered %d  resident %d MB  anonymous %d MB  files %d  threads %d  spool %d MB\n", time.Since(s.began).Round(time.Second),
				u.delivered, u.resident>>20, u.anonymous>>20, u.files, u.threads, u.disk>>20)
		}
	}
}

func (s *soakRun) look() (u use, err error) {
	proc := fmt.Sprintf("/proc/%d/", s.d.process.Pid())
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		into := map[string]*int64{"VmRSS": &u.resident, "RssAnon": &u.anonymous, "Threads": &u.threads}[name]
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
	u.files = int64(len(files))
	filepath.WalkDir(filepath.Join(s.d.dir, "spool"), func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return nil // files come and go
		}
		if info, err := e.Info(); err == nil {
			u.disk += info.Size()
		}
		return nil
	})
	for _, mx := range []*mtatest.MX{s.fine, s.faulty, s.mails} {
		u.delivered += mx.Stats().Messages
	}
	return u, err
}

// Tolerances of a soak: what the median of the last third may be above that of
// the middle third.
const (
	soakMemory  = 16 << 20 // octets, and a tenth: what a collection leaves differs
	soakFiles   = 16       // descriptors, and a tenth: connections and table files come and go
	soakThreads = 5
	soakDisk    = 64 << 20 // octets: four logs and tables that are about to be merged, and
	soakJournal = 600      // octets a delivered message: its records are kept for weeks
)

// compareUse says what grew from one phase to the next.
func compareUse(before, after []use) (growth []string) {
	middle := func(all []use, f func(use) int64) int64 {
		var v []int64
		for _, u := range all {
			v = append(v, f(u))
		}
		slices.Sort(v)
		if len(v) == 0 {
			return 0
		}
		return v[len(v)/2]
	}
	if len(before) == 0 || len(after) == 0 {
		return []string{"nothing was seen of the daemon"}
	}
	judge := func(what string, slack func(before int64) int64, f func(use) int64) {
		a, b := middle(before, f), middle(after, f)
		verdict := "steady"
		if b > a+slack(a) {
			verdict = "GREW"
			growth = append(growth, fmt.Sprintf("%s grew from %d to %d; %d more are tolerated", what, a, b, slack(a)))
		}
		fmt.Printf("%-20s median of the middle third %12d, of the last %12d, tolerated +%d: %s\n", what, a, b, slack(a), verdict)
	}
	tenth := func(plus int64) func(int64) int64 { return func(v int64) int64 { return v/10 + plus } }
	judge("resident memory", tenth(soakMemory), func(u use) int64 { return u.resident })
	judge("heap and stacks", tenth(soakMemory), func(u use) int64 { return u.anonymous })
	judge("file descriptors", tenth(soakFiles), func(u use) int64 { return u.files })
	judge("threads", func(int64) int64 { return soakThreads }, func(u use) int64 { return u.threads })
	delivered := func(u use) int64 { return u.delivered }
	journal := soakJournal * (middle(after, delivered) - middle(before, delivered))
	judge("spool on disk", func(int64) int64 { return soakDisk + journal }, func(u use) int64 { return u.disk })
	return growth
}

// TestSoakSeesGrowth: the verdict of a soak is worth something.
func TestSoakSeesGrowth(t *testing.T) {
	t.Parallel()
	steady := use{resident: 100 << 20, anonymous: 80 << 20, files: 60, threads: 12, disk: 100 << 20, delivered: 1000}
	cases := map[string]struct {
		change func(*use)
		want   int
	}{
		"nothing":       {func(*use) {}, 0},
		"a little":      {func(u *use) { u.resident += 20 << 20; u.files += 10; u.threads += 5 }, 0},
		"memory":        {func(u *use) { u.resident += 30 << 20; u.anonymous += 30 << 20 }, 2},
		"files":         {func(u *use) { u.files += 30 }, 1},
		"threads":       {func(u *use) { u.threads += 6 }, 1},
		"disk":          {func(u *use) { u.disk += 80 << 20 }, 1},
		"a journal":     {func(u *use) { u.disk += 80 << 20; u.delivered += 100_000 }, 0},
		"less than ago": {func(u *use) { u.resident, u.files = 1, 1 }, 0},
	}
	for name, c := range cases {
		after := steady
		c.change(&after)
		if got := compareUse([]use{steady, steady}, []use{after, after}); len(got) != c.want {
			t.Errorf("%s: %d complaints, want %d: %v", name, len(got), c.want, got)
		}
	}
}
