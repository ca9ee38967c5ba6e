package world

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

var (
	seeds    = flag.Int("seeds", 0, "how many seeds to play; 0: 200, with the race detector 15, with -short 20")
	oneSeed  = flag.Int("seed", -1, "play this seed alone, and tell about it")
	siteFlag = flag.Int("sites", 0, "sites of each world; 0: from the seed")
)

func seedCount() int {
	switch {
	case *seeds > 0:
		return *seeds
	case testing.Short():
		return min(20, defaultSeeds)
	}
	return defaultSeeds
}

// sitesOf is the size of a seed's world: most are small, one in fifty is large.
func sitesOf(seed uint64) int {
	switch {
	case *siteFlag > 0:
		return *siteFlag
	case seed%50 == 49:
		return 400
	}
	return 20 + int(seed*7%41)
}

// TestWorld plays seeds and checks the promises.
func TestWorld(t *testing.T) {
	t.Parallel()
	first, count := uint64(0), seedCount()
	if *oneSeed >= 0 {
		first, count = uint64(*oneSeed), 1
	}
	var total totals
	t.Run("seeds", func(t *testing.T) {
		for seed := first; seed < first+uint64(count); seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				play(t, seed, 0, &total)
			})
		}
	})
	t.Log(total.String())
}

// play is the life of one seed, in a bubble of its own.
func play(t *testing.T, seed uint64, v variant, total *totals) (ends map[string]string) {
	synctest.Test(t, func(t *testing.T) {
		r, err := newRun(seed, sitesOf(seed), v)
		if err != nil {
			t.Fatal(err)
		}
		err = r.live()
		r.world.Close()
		defer os.RemoveAll(r.desk.folder)
		var broken []string
		if err != nil {
			broken = append(broken, err.Error())
		} else {
			broken = r.check()
		}
		total.add(r)
		ends = r.ends()
		if *oneSeed >= 0 {
			t.Log(r.tell())
		}
		if len(broken) == 0 {
			return
		}
		n := len(broken)
		t.Errorf("seed %d breaks promises %d times:\n  %s\nreplay with\n  go test ./test/world -run 'TestWorld$' -seed %d -sites %d -count 10",
			seed, n, strings.Join(broken[:min(n, 6)], "\n  "), seed, r.sites)
	})
	return ends
}

// totals are what all seeds together went through.
type totals struct {
	runs, sites, messages, recipients, arrivals, doubled, uncertain, crashes, restarts, failed, reports atomic.Int64
}

func (t *totals) add(r *run) {
	t.runs.Add(1)
	t.sites.Add(int64(len(r.world.Sites)))
	t.messages.Add(int64(len(r.mu.accepted)))
	t.crashes.Add(int64(len(r.mu.crashes)))
	t.restarts.Add(int64(r.mu.stops))
	seen := map[string]bool{}
	for _, a := range r.world.Arrivals() {
		for _, to := range a.To {
			t.arrivals.Add(1)
			if k := joined(a.MessageID, to); seen[k] {
				t.doubled.Add(1)
			} else {
				seen[k] = true
			}
		}
	}
	for _, rec := range r.journal {
		switch rec.Event {
		case mta.EventAccepted:
			t.recipients.Add(1)
		case mta.EventFailed, mta.EventExpired:
			t.failed.Add(1)
		case mta.EventBounced:
			t.reports.Add(1)
		}
		if rec.Uncertain {
			t.uncertain.Add(1)
		}
	}
}

func (t *totals) String() string {
	return fmt.Sprintf("%d seeds, %d sites: %d messages accepted, %d recipients with their reports, %d arrivals (%d doubled, %d uncertain), %d failed or expired, %d told, %d crashes, %d restarts",
		t.runs.Load(), t.sites.Load(), t.messages.Load(), t.recipients.Load(), t.arrivals.Load(), t.doubled.Load(), t.uncertain.Load(), t.failed.Load(), t.reports.Load(), t.crashes.Load(), t.restarts.Load())
}

// ends are the final states of the application's mail by address, which is
// unique in a run, as far as they depend on no timing.
func (r *run) ends() map[string]string {
	out := map[string]string{}
	if !r.steady() {
		return out
	}
	timely := map[string]bool{} // what an operator or the application did at some moment
	for _, rec := range r.journal {
		timely[rec.Recipient] = timely[rec.Recipient] || isOrder(rec)
	}
	for _, m := range r.plan.mails {
		for _, rcpt := range m.recipients {
			timely[rcpt.Address] = timely[rcpt.Address] || m.expires > 0
		}
	}
	for _, rec := range r.journal {
		end := rec.Event
		switch end {
		case mta.EventRelayed: // delivered, to a host that does not report
			end = mta.EventDelivered
		case mta.EventDelivered, mta.EventFailed, mta.EventExpired, mta.EventCancelled:
		default:
			continue
		}
		local, domain, _ := strings.Cut(rec.Recipient, "@")
		if strings.HasSuffix(rec.MessageID, "@app.world.test>") && !timely[rec.Recipient] && r.world.FateOf(local, domain) != mtatest.FateOpen {
			out[rec.Recipient] = end.String()
		}
	}
	return out
}

// steady reports whether fates hold: mail does not wait for connections until
// it expires, and no clock jump ends its time.
func (r *run) steady() bool { return !r.crowds && len(r.plan.jumps) == 0 }

// tell describes a seed's world.
func (r *run) tell() string {
	var b strings.Builder
	fmt.Fprintf(&b, "limits %+v, in all %d, reply time-out %v, crowded %t\n", r.opts.limits, r.opts.queue.Connections, r.opts.transport.ReplyTimeout, r.crowds)
	fmt.Fprintf(&b, "crashes %+v, restarts %v, jumps %+v\n", r.plan.crashes, r.plan.restarts, r.plan.jumps)
	for _, s := range r.world.Sites {
		fmt.Fprintf(&b, "site %d %v: %s: %s\n", s.Number, s.Domains, strings.Join(s.Faults, ", "), s.Fate)
	}
	return b.String()
}

// TestOtherOptions plays seeds again with other limits, memory, time-outs and
// disk caches: what depends on no timing must end the same way.
func TestOtherOptions(t *testing.T) {
	t.Parallel()
	var total totals
	for seed := uint64(0); seed < uint64(max(seedCount()/20, 1)); seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			first := play(t, seed, 0, &total)
			compared := 0
			for v := variant(1); v <= 2; v++ {
				for address, end := range play(t, seed, v, &total) {
					before, there := first[address]
					if !there {
						continue // its outcome may depend on timing
					}
					if compared++; before != end {
						t.Errorf("%s was %s, and is %s with options %d; replay with\n  go test ./test/world -run 'TestOtherOptions/%d$' -seeds %d", address, before, end, v, seed, 20*(seed+1))
					}
				}
			}
			t.Logf("%d ends compared", compared)
		})
	}
}
