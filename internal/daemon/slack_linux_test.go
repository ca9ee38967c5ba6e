package daemon

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEveryThreadGetsTimerSlack(t *testing.T) {
	t.Parallel()
	easeTimers()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		text, err := os.ReadFile("/proc/" + thread.Name() + "/timerslack_ns")
		if err != nil {
			t.Skip("without CAP_SYS_NICE there is nothing to see: ", err)
		}
		ns, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil || time.Duration(ns) < timerSlack {
			t.Errorf("thread %s of %d has %q ns, %v", thread.Name(), len(threads), text, err)
		}
	}
}
