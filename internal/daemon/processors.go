package daemon

import (
	"os"
	"runtime"
)

// besideDisk is how many goroutines may run beyond one a processor. A thread
// that waits in fdatasync keeps its place among the running ones until the
// runtime's monitor looks, up to 10 ms later; with as many places as
// processors, half a machine of two stands still for as long as the disk
// works. docs/performance.md has the figures.
const besideDisk = 2

// raiseProcessors lets the runtime run goroutines while others wait for the
// disk. Who sets $GOMAXPROCS decides alone.
func raiseProcessors() {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	runtime.SetDefaultGOMAXPROCS() // a second daemon of this process must not add again
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + besideDisk)
}
