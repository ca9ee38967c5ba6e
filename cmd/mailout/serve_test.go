package main

import (
	"os"
	"syscall"
	"testing"
)

// TestEndSignalsAreNotDisplaced: SIGTERM after a burst of SIGHUP that nobody
// has had the time to obey still arrives.
func TestEndSignalsAreNotDisplaced(t *testing.T) {
	var sig signals
	defer sig.listen()()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for range cap(sig.reload) {
		sig.reload <- syscall.SIGHUP
	}
	self.Signal(syscall.SIGHUP)
	self.Signal(syscall.SIGTERM)
	if s := <-sig.end; s != syscall.SIGTERM {
		t.Errorf("%v came instead", s)
	}
}
