package doctor

import (
	"sync"
	"sync/atomic"
)

// group runs parts of a check side by side. When one of them panics, Wait does,
// where conduct makes a finding of it: a goroutine's own panic would end the
// whole process, which may be the daemon.
type group struct {
	wg     sync.WaitGroup
	broken atomic.Pointer[any]
}

// Go runs f in a goroutine of its own.
func (g *group) Go(f func()) {
	g.wg.Go(func() {
		defer func() {
			if r := recover(); r != nil {
				g.broken.CompareAndSwap(nil, &r)
			}
		}()
		f()
	})
}

// Wait waits for all of them.
func (g *group) Wait() {
	g.wg.Wait()
	if r := g.broken.Load(); r != nil {
		panic(*r)
	}
}
