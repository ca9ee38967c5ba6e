package daemon

import (
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// timerSlack is how late the kernel may wake a thread that sleeps. The monitor
// of Go's runtime sleeps for 20 µs at a time while threads wait in system calls
// such as fdatasync; with the usual slack of 50 µs that takes a tenth of a busy
// daemon's processor time. Nothing in a mail server needs to be woken within
// half a millisecond. docs/performance.md has the figures.
const timerSlack = 500 * time.Microsecond

// easeTimers gives timerSlack to the threads that there are, the monitor among
// them; those give it to the threads that they start. The kernel lets only
// CAP_SYS_NICE do that. Whoever starts the daemon without it can give it the
// slack before (TimerSlackNSec= of systemd); with neither it costs more, and
// works the same. A slack that is larger already stays.
func easeTimers() {
	now, err := unix.PrctlRetInt(unix.PR_GET_TIMERSLACK, 0, 0, 0, 0)
	if err != nil || time.Duration(now) >= timerSlack {
		return
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	value := strconv.AppendInt(nil, timerSlack.Nanoseconds(), 10)
	for _, thread := range threads {
		// The file is there only under the thread's own number. Opened without
		// O_CREATE, a thread that has ended is no error that matters.
		f, err := os.OpenFile("/proc/"+thread.Name()+"/timerslack_ns", os.O_WRONLY, 0)
		if err != nil {
			continue
		}
		_, _ = f.Write(value)
		_ = f.Close()
	}
}
