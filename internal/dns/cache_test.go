package dns

import (
	"fmt"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"pgregory.net/rapid"
)

// The cache never holds more than its bounds, never gives what has expired,
// and never gives another answer than the last one put.
func TestCacheHoldsItsBounds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		maxEntries, maxCost := rapid.IntRange(1, 8).Draw(t, "entries"), rapid.IntRange(500, 5000).Draw(t, "cost")
		c := newCache(maxEntries, maxCost)
		now := time.Unix(0, 0)
		last := map[key]*result{}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				k := drawKey(t)
				r := &result{expires: now.Add(time.Duration(rapid.IntRange(0, 5).Draw(t, "ttl")) * time.Second), canonical: fmt.Sprint(rapid.IntRange(0, 1e9).Draw(t, "canonical"))}
				last[k] = r
				c.put(k, r)
			},
			"get": func(t *rapid.T) {
				k := drawKey(t)
				r := c.get(k, now)
				if r != nil && (r != last[k] || !now.Before(r.expires)) {
					t.Fatalf("%v: expired or not the last one put", k)
				}
			},
			"wait": func(*rapid.T) { now = now.Add(time.Second) },
			"": func(t *rapid.T) {
				if c.len() != len(c.mu.entries) || c.len() > maxEntries || c.mu.cost > maxCost || c.mu.cost < 0 {
					t.Fatalf("%d entries (%d in the map) of %d, cost %d of %d", c.len(), len(c.mu.entries), maxEntries, c.mu.cost, maxCost)
				}
			},
		})
		c.clear()
		if c.len() != 0 || c.mu.cost != 0 {
			t.Fatal("not empty after clear")
		}
	})
}

func drawKey(t *rapid.T) key {
	return key{fmt.Sprintf("d%d.test.", rapid.IntRange(0, 12).Draw(t, "name")), wire.TypeMX}
}

func TestCacheKeepsWhatIsUsed(t *testing.T) {
	t.Parallel()
	c := newCache(2, 1<<20)
	now := time.Unix(0, 0)
	put := func(name string) { c.put(key{name, 1}, &result{expires: now.Add(time.Hour)}) }
	put("a")
	put("b")
	c.get(key{"a", 1}, now)
	put("c")
	if c.get(key{"a", 1}, now) == nil || c.get(key{"b", 1}, now) != nil {
		t.Error("the entry used least recently is not the one that went")
	}
}
