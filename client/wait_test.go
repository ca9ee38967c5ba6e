package client

import (
	"io"
	"testing"
	"time"
)

// TestWaitsAreBounded whatever was set, and for whichever try.
func TestWaitsAreBounded(t *testing.T) {
	t.Parallel()
	for _, first := range []time.Duration{-1, 0, time.Nanosecond, DefaultWait, time.Hour, 1<<63 - 1} {
		c := &Client{Tries: 100, Wait: first}
		for n := 1; n < 100; n++ {
			wait, ok := c.again(&brokenError{io.ErrUnexpectedEOF}, n)
			if !ok || wait < 0 || wait > longestWait*3/2 {
				t.Fatalf("wait %s first: %s after try %d, %t", first, wait, n, ok)
			}
		}
	}
}
