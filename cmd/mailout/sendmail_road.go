package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"time"

	"mailout/internal/admin"
	"mailout/internal/submit"
	"mailout/internal/submit/drop"
)

// answerTime is how long the daemon may take to read more of the message, and
// to answer once it has the whole; then it is taken for hung, and the message
// goes into the drop folder.
const answerTime = time.Minute

// handOver gives the message to the daemon, or when that does not work to the
// drop folder. Both get the same ID, so that a message whose answer was lost is
// not taken twice.
func (s *sendmail) handOver(r *submit.Request, w *whole) error {
	road, err := s.hand(r, w)
	if err == nil && s.options.verbose {
		fmt.Fprintf(s.Stdout, "%s as %s\n", road, r.ID)
	}
	return err
}

// hand tells on which road the message went.
func (s *sendmail) hand(r *submit.Request, w *whole) (string, error) {
	entry := drop.NewEntry(r)
	refusal, unreachable := s.post(entry, w)
	if unreachable == nil {
		return "queued", refusal
	}
	err := drop.Folder(s.config.Sendmail.Drop).Put(entry, w.reader(), s.config.Limits.SpoolFree)
	switch {
	case err == nil:
		return "left for the daemon", nil
	case errors.Is(err, drop.ErrFolder):
		return "", fail(exitConfig, "the daemon cannot be asked (%v), and %v", unreachable, err)
	case errors.Is(err, fs.ErrPermission):
		return "", fail(exitNoPermission, "the daemon cannot be asked (%v), and no message may be left in %s (%v): see docs/sendmail.md on who may send", unreachable, s.config.Sendmail.Drop, err)
	}
	return "", fail(exitTemporary, "the daemon cannot be asked (%v), and no message can be left for it: %v", unreachable, err)
}

// post tries the socket. unreachable says that the daemon did not answer:
// whether it has the message is unknown then. A refusal is the daemon's answer.
func (s *sendmail) post(entry *drop.Entry, w *whole) (refusal, unreachable error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	patience := time.AfterFunc(s.answer, func() { cancel(errors.New("it does not answer")) })
	defer patience.Stop()
	head, body := io.Pipe()
	go func() {
		out := &progress{body, patience, s.answer}
		_, err := entry.WriteTo(out)
		if err == nil {
			_, err = io.Copy(out, w.reader())
		}
		body.CloseWithError(err)
	}()
	defer head.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, socketHost+"/v1/handover", head)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", drop.ContentType)
	resp, err := socketClient(s.config.HTTP.Socket).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		if resp.StatusCode == http.StatusNotFound { // a daemon from before this command
			return nil, errors.New("the daemon is older than this program: restart it")
		}
		return refused(resp), nil
	}
	var accepted admin.Accepted
	if err := json.NewDecoder(resp.Body).Decode(&accepted); err != nil || accepted.ID != entry.ID {
		return nil, fmt.Errorf("its answer broke off: %v", err)
	}
	return nil, nil
}

// progress starts a timer anew with each part that is written.
type progress struct {
	io.Writer
	timer *time.Timer
	limit time.Duration
}

// Write implements io.Writer.
func (p *progress) Write(b []byte) (int, error) {
	n, err := p.Writer.Write(b)
	p.timer.Reset(p.limit)
	return n, err
}
