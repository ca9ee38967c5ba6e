package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// ledger knows of each message how often its receiver took it and withheld the
// final reply: so often it may come again. Give its methods to an MXConfig.
type ledger struct {
	mu struct {
		sync.Mutex
		pending  map[int64]string // by session: taken, the reply not sent yet
		withheld map[string]int   // by X-Id
	}
}

func newLedger() *ledger {
	l := &ledger{}
	l.mu.pending, l.mu.withheld = map[int64]string{}, map[string]int{}
	return l
}

func (l *ledger) onMessage(m *mtatest.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.pending[m.Session] = m.Header("X-Id")
}

func (l *ledger) onEvent(e mtatest.Event) {
	if e.Stage != mtatest.StageDot && e.Stage != mtatest.StageData { // the last BDAT is at StageData
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if id, taken := l.mu.pending[e.Session]; taken {
		delete(l.mu.pending, e.Session)
		if e.Reply == "" || e.Reply[0] != '2' {
			l.mu.withheld[id]++
		}
	}
}

// replies is how many final replies were withheld, in all and by message.
func (l *ledger) replies() (all int, byID map[string]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.mu.withheld {
		all += n
	}
	return all, maps.Clone(l.mu.withheld)
}

// verdict compares what was accepted with what arrived.
type verdict struct {
	accepted, lost, doubled int
	uncertain               int // final replies that receivers withheld
	unexplained             int // doubled without a withheld reply: only a kill may do that
}

func (l *ledger) judge(accepted map[string]bool, sinks ...*mtatest.MX) verdict {
	v := verdict{accepted: len(accepted)}
	arrived := map[string]int{}
	for _, mx := range sinks {
		for id, n := range mx.Seen() {
			arrived[id] += n
		}
	}
	for id := range accepted {
		if arrived[id] == 0 {
			v.lost++
		}
	}
	all, withheld := l.replies()
	v.uncertain = all
	for id, n := range arrived {
		v.doubled += n - 1
		v.unexplained += max(0, n-1-withheld[id])
	}
	return v
}

func (v verdict) String() string {
	return fmt.Sprintf("accepted=%d lost=%d doubled=%d uncertain=%d", v.accepted, v.lost, v.doubled, v.uncertain)
}

// note is a message of about size octets that carries its number.
func note(id string, size int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: <app@sender.example>\r\nTo: <user@crash.example>\r\nSubject: note %s\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <%s@sender.example>\r\nX-Id: %s\r\n\r\n", id, id, id)
	for b.Len() < size {
		b.WriteString("What is written here is of no interest to anybody; it only has to arrive...\r\n")
	}
	return b.Bytes()
}

// poster hands messages over on the control socket, one after the other, as
// `mailout send` does.
type poster struct {
	http   *http.Client
	stream string
}

func (d *daemon) poster() *poster {
	socket := filepath.Join(d.dir, "spool", "mailout.sock")
	return &poster{http: &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// post reports the queue ID of a message that was accepted. The error of one
// that was refused holds the daemon's words.
func (p *poster) post(ctx context.Context, to string, content []byte) (string, error) {
	query := url.Values{"from": {"app@sender.example"}, "to": {to}}
	if p.stream != "" {
		query.Set("stream", p.stream)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://mailout/v1/messages?"+query.Encode(), bytes.NewReader(content))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "message/rfc822")
	resp, err := p.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusAccepted {
		return "", fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err != nil {
		return "", nil // the status is the promise
	}
	var answer struct {
		ID string `json:"id"`
	}
	return answer.ID, json.Unmarshal(body, &answer)
}

// doors is load through the control socket and the send command.
type doors struct {
	mu struct {
		sync.Mutex
		accepted map[string]bool
		refused  int
		first    error // the first refusal or broken connection
	}
}

func newDoors() *doors {
	s := &doors{}
	s.mu.accepted = map[string]bool{}
	return s
}

func (s *doors) took(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.accepted[id] = true
}

func (s *doors) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.refused++
	if s.mu.first == nil {
		s.mu.first = err
	}
}

// retryPause is waited after a refusal: the daemon may be down.
const retryPause = 20 * time.Millisecond

// socket posts until ctx ends.
func (s *doors) socket(ctx context.Context, d *daemon, name string, size int, to func(n int) []string) {
	p := d.poster()
	defer p.http.CloseIdleConnections()
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s-%d", name, n)
		if _, err := p.post(ctx, to(n)[0], note(id, size)); err != nil {
			s.failed(err)
			pause(ctx, retryPause)
			continue
		}
		s.took(id)
	}
}

// command runs `mailout send FILE` until ctx ends. A file that is gone was
// accepted, whatever became of the command.
func (s *doors) command(ctx context.Context, t *testing.T, d *daemon, name string, size int, to func(n int) []string) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%s-%d", name, n)
		file := filepath.Join(d.dir, id+".eml")
		if err := os.WriteFile(file, note(id, size), 0o600); err != nil {
			t.Error(err)
			return
		}
		cmd := exec.CommandContext(ctx, binary, "send", "-f", "app@sender.example", file, "to:"+to(n)[0])
		cmd.Env = append(os.Environ(), "MAILOUT_CONFIG="+d.config)
		out, err := cmd.CombinedOutput()
		if _, there := os.Stat(file); os.IsNotExist(there) {
			s.took(id)
			continue
		}
		os.Remove(file)
		if err == nil {
			t.Errorf("send ended with status 0 and left its file: %s", out)
		}
		s.failed(fmt.Errorf("%w: %s", err, strings.TrimSpace(string(out))))
		pause(ctx, retryPause)
	}
}

// pause waits; the daemon gives no signal of being back that could be waited for.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// noViolationsBut fails for what the receiver saw that no client may do, save
// what a kill does to a connection.
func noViolationsBut(t *testing.T, mx *mtatest.MX, allowed string) {
	t.Helper()
	for _, v := range mx.Violations() {
		if !strings.Contains(v, allowed) {
			t.Errorf("breach of the protocol seen by the receiver: %s", v)
		}
	}
}
