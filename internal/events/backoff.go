package events

import (
	"math/rand/v2"
	"time"
)

// batchWaits are the waits of one batch between its tries, the last repeating.
var batchWaits = []time.Duration{
	5 * time.Second, 30 * time.Second, 2 * time.Minute, 5 * time.Minute, 15 * time.Minute,
	30 * time.Minute, time.Hour, 2 * time.Hour, 4 * time.Hour,
}

// gateWaits are the waits of a receiver that fails, between requests of any
// kind. The last is short, so that one that is back gets its events soon.
var gateWaits = []time.Duration{
	200 * time.Millisecond, time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
}

// wait gives the n-th wait (from 1) with 20 % of jitter.
func wait(table []time.Duration, n int) time.Duration {
	d := table[min(max(n, 1), len(table))-1]
	return d - d/5 + rand.N(2*d/5+1)
}
