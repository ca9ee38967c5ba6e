package filedoor

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"

	"mailout/internal/mta"
)

// maxTold bounds the complaints that are not repeated.
const maxTold = 1000

// Complaints says each thing about each path once, as long as not more than
// 1,000 others came between. The zero value is not usable; see NewComplaints.
type Complaints struct {
	log *slog.Logger
	mu  struct {
		sync.Mutex
		told map[[2]string]struct{}
	}
}

// NewComplaints makes one that writes to the log given.
func NewComplaints(log *slog.Logger) *Complaints {
	c := &Complaints{log: log}
	c.mu.told = map[[2]string]struct{}{}
	return c
}

// Guard runs f and turns a panic into an error, which the log gets with where it
// was: one file must not end the daemon, and again after each start.
func (c *Complaints) Guard(path string, f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("internal error: %v", p)
			c.Tell(path, "taking a file in broke off; this is a bug", fmt.Errorf("%w\n%s", err, debug.Stack()))
		}
	}()
	return f()
}

// Tell logs an error about a path.
func (c *Complaints) Tell(path, what string, err error) {
	key := [2]string{path, what}
	c.mu.Lock()
	_, before := c.mu.told[key]
	if len(c.mu.told) >= maxTold {
		clear(c.mu.told)
	}
	c.mu.told[key] = struct{}{}
	c.mu.Unlock()
	if !before {
		c.log.Error(what, mta.KeyPath, path, mta.KeyError, err)
	}
}
