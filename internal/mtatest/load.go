package mtatest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Load hands many messages over by several sessions and records which ones
// were accepted, so that a crash test can compare with what arrived. Message
// n carries the field "X-Id: NAME-n".
type Load struct {
	Addr       string
	Name       string // default "load"
	Sessions   int    // at once; default 10
	Messages   int    // in all; 0 means until the context ends
	PerSession int    // then QUIT and a new session; default 100
	Size       int    // of the content, about; default 4096
	From       string // default "sender@widget.example"
	// To gives the recipients of message n; default "user@d0.example".
	To func(n int) []string
	// Reconnect goes on after a broken connection or a refusal with the next
	// message; else the session ends.
	Reconnect bool
	// Dial is used instead of net.Dialer.DialContext when set.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// LoadResult is what a Load did.
type LoadResult struct {
	// Accepted has the queue ID of each message that got 250, by its X-Id.
	Accepted map[string]string
	// Unknown are those whose final reply was lost: they may have been taken.
	Unknown []string
	Refused int           // got a negative reply
	Broken  int           // connections that broke
	First   error         // the first refusal or broken connection
	Elapsed time.Duration // from the first session to the end of the last
}

// reconnectPause is waited after a failure before the next connection.
const reconnectPause = 20 * time.Millisecond

type loadRun struct {
	*Load
	next atomic.Int64
	mu   sync.Mutex
	res  LoadResult
}

// Run sends until all messages had their try or ctx ends. Failures are in the
// result; they are not an error of the load.
func (l *Load) Run(ctx context.Context) *LoadResult {
	own := *l
	own.defaults()
	run := &loadRun{Load: &own}
	run.res.Accepted = make(map[string]string)
	start := time.Now()
	var wg sync.WaitGroup
	for range own.Sessions {
		wg.Go(func() { run.worker(ctx) })
	}
	wg.Wait()
	run.res.Elapsed = time.Since(start)
	return &run.res
}

func (l *Load) defaults() {
	if l.Name == "" {
		l.Name = "load"
	}
	if l.Sessions == 0 {
		l.Sessions = 10
	}
	if l.PerSession == 0 {
		l.PerSession = 100
	}
	if l.Size == 0 {
		l.Size = 4096
	}
	if l.From == "" {
		l.From = "sender@widget.example"
	}
	if l.To == nil {
		to := []string{"user@d0.example"}
		l.To = func(int) []string { return to }
	}
	if l.Dial == nil {
		l.Dial = new(net.Dialer).DialContext
	}
}

func (r *loadRun) worker(ctx context.Context) {
	for ctx.Err() == nil {
		more, err := r.session(ctx)
		if !more {
			return
		}
		if err != nil {
			r.broke(err)
			if !r.Reconnect || wait(ctx, reconnectPause) != nil {
				return
			}
		}
	}
}

// session sends up to PerSession messages; more is false when none are left.
func (r *loadRun) session(ctx context.Context) (more bool, err error) {
	if r.Messages > 0 && r.next.Load() >= int64(r.Messages) {
		return false, nil
	}
	conn, err := r.Dial(ctx, "tcp", r.Addr)
	if err != nil {
		return true, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := NewClient(conn)
	if err != nil {
		return true, err
	}
	if err := c.Hello("load.widget.example"); err != nil {
		return true, err
	}
	for range r.PerSession {
		n := r.next.Add(1)
		if ctx.Err() != nil || r.Messages > 0 && n > int64(r.Messages) {
			return false, c.Quit()
		}
		if err := r.one(c, int(n)); err != nil {
			return true, err
		}
	}
	return true, c.Quit()
}

func (r *loadRun) one(c *Client, n int) error {
	id := fmt.Sprintf("%s-%d", r.Name, n)
	o, err := c.Send(r.From, r.To(n), r.content(id))
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case err != nil && o != nil && o.Data.Code == 354 && o.Final.Code == 0:
		r.res.Unknown = append(r.res.Unknown, id)
	case err == nil && o.Accepted():
		r.res.Accepted[id] = o.ID()
	case err == nil:
		r.res.Refused++
		if r.res.First == nil {
			r.res.First = o.Err()
		}
	}
	return err
}

func (r *loadRun) broke(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var refused *RefusedError
	if errors.As(err, &refused) {
		r.res.Refused++
	} else {
		r.res.Broken++
	}
	if r.res.First == nil {
		r.res.First = err
	}
}

// content is a message of about Size octets in lines of 78.
func (r *loadRun) content(id string) []byte {
	b := make([]byte, 0, r.Size+256)
	b = fmt.Appendf(b, "From: <%s>\r\nTo: <%s>\r\nSubject: load %s\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\nMessage-ID: <%s@widget.example>\r\nX-Id: %s\r\n\r\n",
		r.From, r.To(1)[0], id, id, id)
	const line = "The quick brown fox jumps over the lazy dog, again and again and again....\r\n"
	for len(b) < r.Size {
		b = append(b, line...)
	}
	return b
}
