package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"mailout/internal/mta"
)

// operator gives orders at random, by what the spool showed a while ago, and
// knows what must follow from them.
type operator struct {
	w     *world
	c     *chance
	many  int // 0: none
	seen  []*mta.Delivery
	holds []Hold

	mu       sync.Mutex
	problems []string
}

// attempted: nothing is begun that the spool has as held or as ended.
func (op *operator) attempted(d *mta.Delivery) {
	now := op.w.store.get(d.Key())
	if now != nil && now.State != mta.Held && len(now.Recipients) == len(d.Recipients) {
		return
	}
	op.mu.Lock()
	defer op.mu.Unlock()
	op.problems = append(op.problems, fmt.Sprintf("%v is attempted, and the spool has %+v", d.Key(), now))
}

// list is what is in the spool now, in its order.
func (op *operator) list() []*mta.Delivery {
	s := op.w.store
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*mta.Delivery
	for _, d := range s.mu.open {
		c := *d
		out = append(out, &c)
	}
	slices.SortFunc(out, order)
	return out
}

func (op *operator) act() {
	for range op.many {
		switch op.c.n(6) {
		case 0:
			op.seen = op.list()
		case 1:
			op.standing()
		case 2, 3, 4:
			op.order(Verb(op.c.n(4)))
		}
	}
}

// standing holds a destination for all mail to come, or ends that.
func (op *operator) standing() {
	if len(op.holds) > 0 && op.c.n(2) == 0 {
		op.holds = op.holds[1:]
	} else {
		op.holds = append(slices.Clone(op.holds), Hold{Destination: fmt.Sprintf("d%d.example", op.c.n(9)), Since: time.Now()})
	}
	op.w.q.SetHolds(op.holds)
}

// order is about a few of what was listed.
func (op *operator) order(verb Verb) {
	if len(op.seen) == 0 {
		return
	}
	from := op.c.n(len(op.seen))
	few := op.seen[from:min(from+1+op.c.n(8), len(op.seen))]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t, again, err := op.w.q.Command(ctx, Order{Verb: verb, Reason: "at random"}, few)
	if n := int(t.Changed+t.Flight+t.Skipped+t.Kept) + len(again); err == nil && n != len(few) {
		op.problems = append(op.problems, fmt.Sprintf("%s of %d is told of %d: %+v %v", verb, len(few), n, t, again))
	}
}

// rest releases everything: what is held now must reach its end.
func (op *operator) rest() {
	op.holds = nil
	op.w.q.SetHolds(nil)
	for i := 0; ; i++ {
		op.w.wait(time.Hour)
		var held []*mta.Delivery
		for _, d := range op.list() {
			if d.State == mta.Held {
				held = append(held, d)
			}
		}
		if len(held) == 0 {
			return
		}
		if i > 20 {
			op.problems = append(op.problems, fmt.Sprintf("%d deliveries stay held", len(held)))
			return
		}
		for some := range slices.Chunk(held, MaxOrder) {
			if _, _, err := op.w.q.Command(context.Background(), Order{Verb: VerbRelease}, some); err != nil {
				op.problems = append(op.problems, err.Error())
			}
		}
	}
}
