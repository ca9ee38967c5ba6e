//go:build linux

package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"mailout/internal/mtatest"
)

var soak = flag.Duration("soak", 0, "how long TestSoak runs; 0 skips it")

// What a soak does, and when.
const (
	soakCycle    = 5 * time.Second  // one load, one set of faults
	soakMessages = 1500             // of a load by SMTP
	soakReload   = 3                // cycles between reloads
	soakOutage   = 4                // cycles between a receiver's death and its return, and back
	soakBacklog  = 2000             // messages for the faulty receiver that may wait
	soakSample   = time.Second      // between looks at /proc
	soakLine     = 60 * time.Second // between lines
	shortestSoak = 2 * time.Minute
)

// TestSoak runs a mixed load with faults for a long time: receivers that
// refuse, defer, greylist, hang, break, break TLS and withhold replies, one
// that dies and returns, one that never answers, name servers that fail,
// reloads, and in the first third an orderly restart and a kill. In the other
// two thirds the daemon must not need more and more; in the end it has no more
// goroutines than when it was fresh, and everything that was accepted has
// arrived or come back.
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
	fresh := s.goroutines()
	s.d.start()
	s.pit()
	warm := *soak / 9
	s.phase(warm)
	s.restart("the daemon is restarted in order", s.d.stop)
	s.phase(warm)
	s.restart("the daemon is killed", func() { s.bound += sessionsUntil(s.d.kill, s.sinks()...) })
	s.phase(warm) // fills buffers and caches
	growth := judgeUse(os.Stdout, s.phase(*soak-3*warm))
	s.calm()
	growth = append(growth, judgeGoroutines(os.Stdout, fresh, s.goroutines())...)
	for _, line := range growth {
		t.Error(line)
	}
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
	s.d.start().stop() // in order, with all that the spool has by now
}

// soakRun is a daemon, its receivers, and what is known of its mail.
type soakRun struct {
	t                           *testing.T
	w                           *world
	d                           *daemon
	random                      *rand.Rand
	fine, faulty, strict, mails *mtatest.MX
	tarpit                      *mtatest.MX   // takes connections and says nothing
	mortal                      []*mtatest.MX // the lives of one receiver; the last may be dead
	alive                       bool
	narrow                      bool // the configuration has the lesser number of connections
	mortalAddr                  string
	good                        []string // domains of the receivers that take mail
	book                        *ledger
	bounces                     *postbox
	accepted, refused           map[string]bool // by X-Id: to be delivered, to come back
	forFaulty                   atomic.Int64    // messages handed over for the faulty receiver
	bound                       int             // sessions that were open when a side died
	cycle                       int
	began, lined                time.Time
	collections                 collections
}

func newSoak(t *testing.T) *soakRun {
	w := newWorld(t)
	s := &soakRun{t: t, w: w, random: rand.New(rand.NewPCG(*seed, 2)), book: newLedger(), bounces: newPostbox(),
		accepted: map[string]bool{}, refused: map[string]bool{}, began: time.Now(), lined: time.Now()}
	discard := mtatest.MXConfig{Discard: true, Remember: "X-Id"}
	s.fine = w.mx(discard, domains("fine", 20)...)
	authority, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cfg := discard
	if cfg.Certificate, err = authority.Certificate(true, "faulty.example"); err != nil {
		t.Fatal(err)
	}
	cfg.OnMessage, cfg.OnEvent = s.book.onMessage, s.book.onEvent
	s.faulty = w.mx(cfg, domains("faulty", 10)...)
	s.strict = w.mx(mtatest.MXConfig{Discard: true, Users: []string{}}, "strict.example")
	s.mails = w.mx(mtatest.MXConfig{Discard: true, OnMessage: s.bounces.onMessage}, "sender.example", "widget.example")
	hanging := discard
	hanging.Rules = []mtatest.Rule{{Stage: mtatest.StageConnect, Action: mtatest.Action{Hang: true}}}
	s.tarpit = w.mx(hanging, domains("tarpit", 5)...)
	first := w.mx(discard, domains("mortal", 10)...)
	s.mortal, s.alive = []*mtatest.MX{first}, true
	s.mortalAddr = fmt.Sprintf("127.0.2.%d:%d", w.next-1, w.port)
	s.good = slices.Concat(domains("fine", 20), domains("faulty", 10), domains("mortal", 10))
	s.d = w.daemon("reply_timeout = \"3s\"\nconnections = 20\n")
	s.d.env, s.d.onLine = []string{"GODEBUG=gctrace=1"}, s.collections.line
	s.d.start()
	return s
}

func domains(name string, n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprintf("d%d.%s.example", i, name))
	}
	return all
}

// sinks are the receivers of what is to be delivered.
func (s *soakRun) sinks() []*mtatest.MX {
	return append([]*mtatest.MX{s.fine, s.faulty, s.tarpit}, s.mortal...)
}

// pit sends mail that waits at the tar pit, with one connection or more, until
// the end.
func (s *soakRun) pit() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	names := domains("tarpit", 5)
	load := mtatest.Load{Addr: s.d.smtp, Name: "pit", Messages: 100, Size: inStore, To: func(n int) []string { return []string{"user@" + names[n%len(names)]} }}
	result := load.Run(ctx)
	for id := range result.Accepted {
		s.accepted[id] = true
	}
	if len(result.Accepted) != load.Messages {
		s.t.Fatalf("%d of %d taken for the tar pit: %v", len(result.Accepted), load.Messages, result.First)
	}
}

// phase loads the daemon for a time and gives what it used.
func (s *soakRun) phase(length time.Duration) []use {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	var uses []use
	var wg sync.WaitGroup
	wg.Go(func() { uses = s.watch(ctx.Done()) })
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
		{Stage: mtatest.StageStartTLS, Action: mtatest.Action{Reply: "454 4.7.0 not now"}},
		{Stage: mtatest.StageHandshake, Action: mtatest.Action{Drop: true}},
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
	s.faulty.SetRules(rules[:5]...)
	s.w.dns.Unscript() // a name server that fails for one name, and one that says nothing of another
	s.w.dns.Script(fmt.Sprintf("d%d.faulty.example", s.random.IntN(10)), 0, mtatest.Script{Rcode: dns.RcodeServerFailure})
	s.w.dns.Script(fmt.Sprintf("d%d.faulty.example", s.random.IntN(10)), 0, mtatest.Script{Silent: true, Times: some()})
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
	if s.narrow {
		old, now = now, old
	}
	s.narrow = !s.narrow
	s.d.replace(old, now)
	s.d.must("config", "reload")
}

// to gives recipients at all receivers that take mail. The faulty one gets no
// more than it takes in the long run: a backlog that grows all the time would
// hide everything else that does.
func (s *soakRun) to(n int) []string {
	domain := s.good[n%len(s.good)]
	if strings.HasSuffix(domain, ".faulty.example") {
		if s.forFaulty.Load()-s.faulty.Stats().Messages > soakBacklog {
			domain = s.good[n%10] // of the fine
		} else {
			s.forFaulty.Add(1)
		}
	}
	return []string{"user@" + domain}
}

// load is one cycle's mail: the same every time, so that what the daemon uses
// can be compared.
func (s *soakRun) load(ctx context.Context) {
	end := time.NewTimer(soakCycle)
	defer end.Stop()
	strict := func(n int) []string { // no such user, no such domain
		return []string{fmt.Sprintf("nobody%d@%s.example", n, []string{"strict", "gone"}[n%2])}
	}
	loads := []*mtatest.Load{
		{Name: "small", Sessions: 10, Messages: soakMessages, Size: inStore, To: s.to},
		{Name: "large", Sessions: 2, Messages: soakMessages / 50, Size: inShared, To: s.to},
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
	s.tarpit.SetRules()
	s.w.dns.Unscript()
	if !s.alive {
		s.death()
	}
	s.d.drain(5 * time.Minute)
	mtatest.Eventually(s.t, 2*time.Minute, "every session to the receivers has ended", func() bool {
		for _, mx := range append(s.sinks(), s.strict, s.mails) {
			if mx.Stats().Open > 0 {
				return false
			}
		}
		return true
	})
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
