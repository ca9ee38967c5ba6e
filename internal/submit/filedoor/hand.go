package filedoor

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

// Hand gives a whole message to intake. When it returns nil, or
// submit.ErrTaken, the message is on stable storage. An error of the content's
// reader comes back as it is, and nothing is stored.
func Hand(ctx context.Context, intake submit.Acceptor, request *submit.Request, content io.Reader) error {
	draft, err := intake.Begin(ctx, request)
	if err != nil {
		return err
	}
	defer draft.Abort()
	if _, err := io.Copy(draft, content); err != nil {
		return err
	}
	_, err = draft.Commit(ctx)
	return err
}

// tooMany is the enhanced code of too many recipients: in SMTP the client sends
// the others in a second transaction (RFC 5321 4.5.3.1.10), a file cannot.
var tooMany = mta.Enhanced{Class: 4, Subject: 5, Detail: 3}

// Waits reports whether a refusal passes with time, so that the file is to be
// handed over again. refusal is nil when err is none.
func Waits(err error) (refusal *submit.Refusal, waits bool) {
	if !errors.As(err, &refusal) {
		return nil, false
	}
	return refusal, refusal.Reply.Code < 500 && refusal.Reply.Enhanced != tooMany
}

// RetryAfter is the pause after a message that cannot be taken at the moment: a
// full disk, little memory.
const RetryAfter = 5 * time.Second

// Workers is how many files are taken side by side, so that they share syncs.
const Workers = 8

// Each calls do for every item, Workers at a time, and waits for all. It begins
// no more once do has said false or stop is closed; it reports whether do never
// said false.
func Each[T any](items []T, stop <-chan struct{}, do func(T) bool) bool {
	work := make(chan T)
	failed := make(chan struct{})
	var once sync.Once
	var all sync.WaitGroup
	for range min(Workers, len(items)) {
		all.Go(func() {
			for item := range work {
				if !do(item) {
					once.Do(func() { close(failed) })
				}
			}
		})
	}
	feed(items, work, stop, failed)
	close(work)
	all.Wait()
	return !Closed(failed)
}

func feed[T any](items []T, work chan<- T, stop, failed <-chan struct{}) {
	for _, item := range items {
		if Closed(stop) || Closed(failed) {
			return
		}
		select {
		case work <- item:
		case <-stop:
			return
		case <-failed:
			return
		}
	}
}

// Closed reports whether a channel that carries nothing is closed.
func Closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Pause sits out a shortage, whatever comes meanwhile; false when stopped.
func Pause(d time.Duration, stop <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
		return false
	}
}
