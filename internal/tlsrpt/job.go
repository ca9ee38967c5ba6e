package tlsrpt

import (
	"container/heap"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"mailout/internal/mta"
)

// What is to be sent, and how far it is.
//
// A report is due some time within Spread after its day, the same time however
// often we start: it follows from day, domain and sender. Its state is a note
//
//	tlsrpt/job/2026-11-22/example.com
//
// which is written before the first attempt, before each further one (with the
// time of the next, so that a crash at each attempt follows the schedule), and
// when a receiver has taken it. It is removed with the counts, after which the
// report does not exist. Crash points:
//
//   - before the state is written: nothing was sent; all begins anew.
//   - between intake's commit of a mail and the note: the mail has an ID made of
//     the report's and the receiver's; intake says that it has it.
//   - between a receiver's answer by HTTPS and the note: it is sent once more with
//     the same report-id, by which receivers know what they have (RFC 8460 5.3).

// The bounds of sending.
const (
	MaxJobs = 50_000        // reports that wait; those of further domains are not made
	Spread  = 4 * time.Hour // within which the reports of a day begin to be sent (RFC 8460 4.1)
	GiveUp  = 24 * time.Hour

	firstPause = 5 * time.Minute // after an attempt that failed; twice as long after each
	lastPause  = 6 * time.Hour
	workers    = 16 // reports under way at a time
)

// job is one report that waits or is under way. Its worker owns it while it is
// not in the heap.
type job struct {
	day    int64
	domain string
	next   time.Time
	asked  int    // questions to DNS that failed
	state  *state // nil: not read yet
}

// state is what is kept of a job.
type state struct {
	ID    string      `json:"id"`    // report-id
	First int64       `json:"first"` // Unix milliseconds
	Next  int64       `json:"next"`
	Tries int         `json:"tries"`
	To    []receiving `json:"to"`
}

// receiving is one receiver of a report.
type receiving struct {
	Target Target `json:"target"`
	Done   bool   `json:"done,omitempty"`
}

func (j *job) key() string { return dayName(j.day) + "/" + j.domain }

// jobs are those that wait, the earliest first.
type jobs []*job

// Len implements heap.Interface, like the others.
func (q jobs) Len() int           { return len(q) }
func (q jobs) Less(a, b int) bool { return q[a].next.Before(q[b].next) }
func (q jobs) Swap(a, b int)      { q[a], q[b] = q[b], q[a] }
func (q *jobs) Push(x any)        { *q = append(*q, x.(*job)) }
func (q *jobs) Pop() any {
	old := *q
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return j
}

// schedule has the report of a day that is over made and sent, once.
func (r *Reports) schedule(day int64, domain string) {
	j := &job{day: day, domain: domain, next: r.due(day, domain)}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.mu.known[j.key()]; known {
		return
	}
	if len(r.mu.known) >= MaxJobs {
		r.counter.counts.unmade.Add(1)
		return
	}
	r.mu.known[j.key()] = struct{}{}
	heap.Push(&r.mu.waiting, j)
}

// due is when the report of a day is first sent.
func (r *Reports) due(day int64, domain string) time.Time {
	sum := r.digest(dayName(day), domain)
	n := uint64(sum[0])<<24 | uint64(sum[1])<<16 | uint64(sum[2])<<8 | uint64(sum[3])
	return startOf(day + 1).Add(time.Duration(n%uint64(Spread/time.Millisecond)) * time.Millisecond)
}

// digest mixes texts with who we are.
func (r *Reports) digest(texts ...string) [32]byte {
	return sha256.Sum256([]byte(r.settings.Load().Hostname + "\x00" + strings.Join(texts, "\x00")))
}

// reportID names a report for ever: day, domain and sender.
func (r *Reports) reportID(j *job, submitter string) string {
	sum := r.digest(dayName(j.day), j.domain)
	return fmt.Sprintf("%s.%s.%s@%s", startOf(j.day).Format("20060102"), j.domain, hex.EncodeToString(sum[:4]), submitter)
}

// mailID is the ID of a report's message to one receiver: the same however often
// it is made.
func (r *Reports) mailID(j *job, t Target) mta.ID {
	sum := r.digest(j.state.ID, t.String())
	return mta.NewID(r.due(j.day, j.domain), [10]byte(sum[:10]))
}

// take gives the earliest job whose time has come; nil: there is none.
func (r *Reports) take(now time.Time) *job {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.mu.waiting) == 0 || r.mu.waiting[0].next.After(now) {
		return nil
	}
	return heap.Pop(&r.mu.waiting).(*job)
}

// putBack lets a job wait for its next time.
func (r *Reports) putBack(j *job, next time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j.next = next
	heap.Push(&r.mu.waiting, j)
}

// read gets a job's state; one that does not exist yet has no ID.
func (r *Reports) read(ctx context.Context, j *job) error {
	if j.state != nil {
		return nil
	}
	value, err := r.opts.Notes.Note(ctx, jobPrefix+j.key())
	if err != nil {
		return err
	}
	s := &state{}
	if value != nil {
		if err := json.Unmarshal(value, s); err != nil {
			r.opts.Logger.Warn("the state of a TLS report is damaged; the report begins anew", mta.KeyDestination, j.domain, mta.KeyError, err)
			s = &state{}
		}
	}
	j.state = s
	return nil
}

// save makes a job's state durable.
func (r *Reports) save(ctx context.Context, j *job) error {
	value, err := json.Marshal(j.state)
	if err != nil {
		return err
	}
	return r.set(ctx, map[string][]byte{jobPrefix + j.key(): value})
}

// finish forgets a job: its counts and its state.
func (r *Reports) finish(ctx context.Context, j *job) error {
	changes := map[string][]byte{jobPrefix + j.key(): nil}
	err := r.opts.Notes.Notes(ctx, dayPrefix+j.key()+"/", "", func(name string, _ []byte) bool {
		changes[name] = nil
		return true
	})
	if err == nil {
		err = r.set(ctx, changes)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mu.known, j.key())
	return nil
}

// policies reads what was counted.
func (r *Reports) policies(ctx context.Context, j *job) (out []notedPolicy, err error) {
	err = r.opts.Notes.Notes(ctx, dayPrefix+j.key()+"/", "", func(_ string, value []byte) bool {
		var n notedPolicy
		if json.Unmarshal(value, &n) == nil {
			out = append(out, n)
		}
		return true
	})
	return out, err
}
