package daemon

import (
	"runtime"
	"testing"
)

func TestProcessorsAreRaisedOnce(t *testing.T) {
	defer runtime.SetDefaultGOMAXPROCS()
	t.Setenv("GOMAXPROCS", "")
	runtime.SetDefaultGOMAXPROCS()
	before := runtime.GOMAXPROCS(0)
	raiseProcessors()
	raiseProcessors()
	if got := runtime.GOMAXPROCS(0); got != before+besideDisk {
		t.Errorf("GOMAXPROCS is %d after two daemons, want %d", got, before+besideDisk)
	}
}

func TestProcessorsOfTheOperatorStay(t *testing.T) {
	t.Setenv("GOMAXPROCS", "1")
	before := runtime.GOMAXPROCS(0)
	raiseProcessors()
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("GOMAXPROCS became %d, want %d", got, before)
	}
}
