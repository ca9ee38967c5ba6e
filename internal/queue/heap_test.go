package queue

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// A heap gives its elements in order whatever was pushed, moved or removed,
// and every element knows its place.
func TestHeap(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var h heap[*alarm]
		var in []*alarm
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			at := rapid.Int64Range(0, 50).Draw(t, "at")
			pick := 0
			if len(in) > 0 {
				pick = rapid.IntRange(0, len(in)-1).Draw(t, "pick")
			}
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				a := &alarm{at: at, index: -1}
				h.push(a)
				in = append(in, a)
			case 2:
				if len(in) > 0 {
					h.remove(in[pick])
					if in[pick].index != -1 {
						t.Fatal("a removed element has a place")
					}
					in = slices.Delete(in, pick, pick+1)
				}
			case 3:
				if len(in) > 0 {
					in[pick].at = at
					h.fix(int(in[pick].index))
				}
			}
			for i, a := range h {
				if int(a.index) != i {
					t.Fatal("an element does not know its place")
				}
			}
		}
		last := int64(-1)
		for len(h) > 0 {
			a := h.pop()
			if a.at < last {
				t.Fatal("out of order")
			}
			last = a.at
		}
	})
}

func TestRing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var r ring[int]
		var want []int
		for i := range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1, 2:
				r.push(i)
				want = append(want, i)
			case 3:
				if len(want) > 0 {
					if got := r.pop(); got != want[0] {
						t.Fatalf("got %d, want %d", got, want[0])
					}
					want = want[1:]
				}
			case 5:
				if last := len(want) - 1; last >= 0 {
					if got := r.popLast(); got != want[last] {
						t.Fatalf("got %d, want %d", got, want[last])
					}
					want = want[:last]
				}
			case 4:
				odd := func(x int) bool { return x%2 == 1 }
				r.drop(odd)
				want = slices.DeleteFunc(want, odd)
			}
			if r.len() != len(want) {
				t.Fatalf("%d in the ring, want %d", r.len(), len(want))
			}
			for i, w := range want {
				if r.at(i) != w {
					t.Fatalf("at %d: %d, want %d", i, r.at(i), w)
				}
			}
		}
	})
}
