package queue

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// A walk keeps the earliest, and nothing that is due at its cut.
func TestWalkKeepsTheEarliest(t *testing.T) {
	t.Parallel()
	at := func(i int) spool.Pending {
		return spool.Pending{Destination: mta.Destination{Domain: fmt.Sprint(i)}, Due: time.UnixMilli(int64(1000 + i))}
	}
	for name, c := range map[string]struct {
		dues []int
		want string
		cut  millis
	}{
		"few":          {[]int{3, 1, 2}, "3 1 2", never},
		"full":         {[]int{4, 3, 1, 2}, "4 3 1 2", never},
		"one too many": {[]int{5, 4, 3, 1, 2}, "1 2 3 4", 1005},
		"many":         {[]int{9, 8, 7, 6, 5, 4, 3, 2, 1, 10, 11}, "1 2 3 4", 1005},
		"a tie":        {[]int{1, 2, 3, 5, 5, 5}, "1 2 3", 1005},
		"all the same": {[]int{5, 5, 5, 5, 5, 5, 5, 5, 5}, "", 1005},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := walk{keep: 4, cut: never}
			for _, i := range c.dues {
				w.take(nil, at(i))
			}
			w.cutDown()
			var got []string
			for _, p := range w.kept {
				got = append(got, p.Destination.Domain)
			}
			if strings.Join(got, " ") != c.want || w.cut != c.cut || w.told != int64(len(c.dues)) {
				t.Errorf("kept %v, cut %d, told %d", got, w.cut, w.told)
			}
			if !slices.IsSortedFunc(w.kept, func(a, b spool.Pending) int { return a.Due.Compare(b.Due) }) && c.cut != never {
				t.Error("not in order")
			}
		})
	}
}
