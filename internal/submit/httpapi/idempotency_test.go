package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/account"
	"mailout/internal/mta"
	"mailout/internal/spool"
	"mailout/internal/submit"
)

const batchOfTwo = `{"from":"ann@example.com","subject":"Hi","text":"x","recipients":[{"to":"b@example.net"},{"to":"c@example.net"}]}`

// TestARepeatedRequestIsTakenOnce: also written in another order, and after a
// restart; the answer is the first one.
func TestARepeatedRequestIsTakenOnce(t *testing.T) {
	t.Parallel()
	whole := ask{kind: typeMessage, path: "/v1/messages?from=ann@example.com&to=bob@example.net&tag=x", body: "Subject: x\r\n\r\nx\r\n", key: "k"}
	other := whole
	other.body += "x"
	elsewhere := whole
	elsewhere.path += "&to=carl@example.net"
	secured, unsecured := whole, whole
	secured.path += "&require_tls=true"
	unsecured.path += "&require_tls=false"
	for name, c := range map[string]struct {
		first, same ask
		others      []ask
	}{
		"fields": {
			ask{body: simple, key: "k"},
			ask{body: `{ "text":"Hi", "subject":"Hell\u006f","to":["bob@example.net"],"from":{"name":"Ann","address":"ann@example.com"}}`, key: "k"},
			[]ask{{body: instead("text", `"Ho"`), key: "k"}, {body: with(`"bcc":"x@example.net"`), key: "k"}, {body: with(`"attachments":[{"name":"a","content":""}]`), key: "k"}, {body: with(`"tags":["x"]`), key: "k"}, {body: with(`"expire":"2h"`), key: "k"}, {body: with(`"require_tls":true`), key: "k"}, whole},
		},
		"whole": {whole, unsecured, []ask{other, elsewhere, secured, {body: simple, key: "k"}}},
		"batch": {
			ask{path: "/v1/messages/batch", body: batchOfTwo, key: "k"}, ask{path: "/v1/messages/batch", body: batchOfTwo, key: "k"},
			[]ask{{path: "/v1/messages/batch", body: strings.Replace(batchOfTwo, "c@", "d@", 1), key: "k"}, whole},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDoor(t)
			first := d.do(c.first)
			if first.Code != http.StatusAccepted || first.Header().Get("Idempotency-Replayed") != "" {
				t.Fatalf("%d %s", first.Code, first.Body)
			}
			n := d.count()
			for range 3 {
				again := d.do(c.same)
				if again.Code != http.StatusAccepted || again.Body.String() != first.Body.String() || again.Header().Get("Idempotency-Replayed") != "true" {
					t.Errorf("%d %v %s", again.Code, again.Header(), again.Body)
				}
				d.crash()
			}
			if d.count() != n {
				t.Errorf("%d messages, not %d", d.count(), n)
			}
			for _, o := range c.others {
				d.refused(o, 422, "Idempotency-Key", "another request")
			}
			c.same.user = &account.User{Name: "erp", From: account.Senders{"*"}}
			if again := d.do(c.same); again.Code != http.StatusAccepted || again.Header().Get("Idempotency-Replayed") != "" {
				t.Errorf("another user's key: %d %s", again.Code, again.Body)
			}
		})
	}
}

// TestAKeyIsForgottenAfterADay: and refused requests keep none.
func TestAKeyIsForgottenAfterADay(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	start := time.Now()
	d.refused(ask{body: instead("text", ""), key: "k"}, 422, "text", "")
	first := d.accepted(ask{body: simple, key: "k"})
	for _, after := range []time.Duration{0, KeyLife - time.Minute, KeyLife + time.Minute} {
		now, same := start.Add(after), after < KeyLife
		d.now = func() time.Time { return now }
		if got := d.accepted(ask{body: simple, key: "k"}); (got.ID == first.ID) != same {
			t.Errorf("after %s: %v", after, got.ID)
		}
	}
}

// TestOneKeyAtOnce: of requests at the same moment one is taken, and all are
// told of it.
func TestOneKeyAtOnce(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	var all sync.WaitGroup
	ids := make([]string, 20)
	for i := range ids {
		all.Go(func() {
			w := d.do(ask{body: simple, key: "k"})
			var a Accepted
			if err := json.Unmarshal(w.Body.Bytes(), &a); err == nil && w.Code == http.StatusAccepted {
				ids[i] = a.ID.String()
			}
		})
	}
	all.Wait()
	for _, id := range ids {
		if id == "" || id != ids[0] {
			t.Errorf("%v", ids)
		}
	}
	if d.count() != 1 {
		t.Errorf("%d messages", d.count())
	}
}

// slow is an intake and a spool in one, whose messages take a second to store.
type slow struct {
	swallow
	begun atomic.Int32
	kept  atomic.Pointer[spool.Reservation]
}

func (s *slow) Begin(_ context.Context, r *submit.Request) (submit.Draft, error) {
	s.begun.Add(1)
	return &slowDraft{slow: s, request: r}, nil
}

type slowDraft struct {
	*slow
	request *submit.Request
}

func (d *slowDraft) Commit(context.Context) (mta.ID, error) {
	time.Sleep(time.Second)
	kept := *d.request.Reserve
	kept.Message = mta.ID{1}
	d.kept.Store(&kept)
	return kept.Message, nil
}

func (s *slow) Reserved(context.Context, [16]byte, time.Time) ([]spool.Reservation, error) {
	if r := s.kept.Load(); r != nil {
		return []spool.Reservation{*r}, nil
	}
	return nil, nil
}

// TestARepetitionWaits: a request with the key of one that is being stored is
// held back until that is done, in fields and as a whole.
func TestARepetitionWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		null := ""
		m := &Message{ReturnPath: &null, To: []Address{{Address: "bob@example.net"}}, Raw: []byte("Subject: x\r\n\r\nx")}
		for name, send := range map[string]func(*Sender) (Result, error){
			"fields": func(s *Sender) (Result, error) {
				results, err := s.Send(t.Context(), nil, "k", m)
				return append(results, Result{})[0], err
			},
			"whole": func(s *Sender) (Result, error) {
				return s.SendWhole(t.Context(), nil, "k", m, bytes.NewReader(m.Raw), 0)
			},
		} {
			store := &slow{}
			s := NewSender(Options{Intake: store, Reservations: store, Limits: func() Limits { return Limits{MessageSize: 1000, Recipients: 9} }})
			var all sync.WaitGroup
			var repeated atomic.Int32
			for range 3 {
				all.Go(func() {
					result, err := send(s)
					if err != nil {
						t.Error(name, err)
					}
					if result.Repeated {
						repeated.Add(1)
					}
				})
			}
			all.Wait()
			if store.begun.Load() != 1 || repeated.Load() != 2 {
				t.Errorf("%s: %d begun, %d repeated", name, store.begun.Load(), repeated.Load())
			}
		}
	})
}

// TestAKeyThatIsBusy: whoever waits too long for another request with the key
// is told to try again.
func TestAKeyThatIsBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var k keyLocks
		unlock, err := k.lock(t.Context(), [16]byte{1})
		if err != nil {
			t.Fatal(err)
		}
		if free, err := k.lock(t.Context(), [16]byte{2}); err != nil {
			t.Error(err)
		} else {
			free()
		}
		start := time.Now()
		_, err = k.lock(t.Context(), [16]byte{1})
		if p := problemOf(err); p.Status != http.StatusConflict || p.Retry == 0 || time.Since(start) != keyWait {
			t.Errorf("%+v after %s", p, time.Since(start))
		}
		unlock()
		if free, err := k.lock(t.Context(), [16]byte{1}); err != nil {
			t.Error(err)
		} else {
			free()
		}
		if len(k.mu.held) != 0 {
			t.Error("locks are left")
		}
	})
}

// brokenIntake lets so many messages in and fails then.
type brokenIntake struct {
	submit.Acceptor
	left int
}

func (b *brokenIntake) Begin(ctx context.Context, r *submit.Request) (submit.Draft, error) {
	if b.left--; b.left < 0 {
		return nil, &submit.Refusal{Reply: mta.Reply{Code: 452, Enhanced: mta.Enhanced{Class: 4, Subject: 3, Detail: 1}, Text: "storage is nearly full, try again later"}, Err: errors.New("the disk")}
	}
	return b.Acceptor.Begin(ctx, r)
}

// TestAHalfTakenBatchIsCompleted: what could not be taken is told one by one,
// and the same request with the same key takes the rest.
func TestAHalfTakenBatchIsCompleted(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	real := d.sender.opts.Intake
	large := strings.Repeat("x", 2*smallMessage/3) // one after the other, so that the first is the first
	body := strings.Replace(batchOfTwo, `"x"`, `"`+large+large+`"`, 1)
	d.sender.opts.Intake = &brokenIntake{real, 0}
	d.refused(ask{path: "/v1/messages/batch", body: body, key: "k"}, 503, "", "nearly full")
	d.sender.opts.Intake = &brokenIntake{real, 1}
	var first, second acceptedBatch
	w := d.do(ask{path: "/v1/messages/batch", body: body, key: "k"})
	if err := json.Unmarshal(w.Body.Bytes(), &first); err != nil || w.Code != http.StatusAccepted || first.Accepted != 1 || first.Refused != 1 || first.Messages[1].Problem == nil || first.Messages[1].ID != "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	d.sender.opts.Intake = real
	w = d.do(ask{path: "/v1/messages/batch", body: body, key: "k"})
	if err := json.Unmarshal(w.Body.Bytes(), &second); err != nil || second.Accepted != 2 || second.Messages[0].ID != first.Messages[0].ID || w.Header().Get("Idempotency-Replayed") != "" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if d.count() != 2 {
		t.Errorf("%d messages", d.count())
	}
}

// TestAWholeMessageThatBreaksOff: leaves neither message nor key.
func TestAWholeMessageThatBreaksOff(t *testing.T) {
	t.Parallel()
	d := newDoor(t)
	null := ""
	m := &Message{ReturnPath: &null, To: []Address{{Address: "bob@example.net"}}}
	broken := io.MultiReader(strings.NewReader("Subject: x\r\n\r\nhalf a mess"), &failing{})
	for _, key := range []string{"", "k"} {
		if _, err := d.sender.SendWhole(t.Context(), nil, key, m, broken, 0); err == nil {
			t.Error("half a message is taken")
		}
	}
	if d.count() != 0 {
		t.Error("half a message is stored")
	}
	if r, err := d.sender.SendWhole(t.Context(), nil, "k", m, strings.NewReader("Subject: x\r\n\r\nwhole"), 0); err != nil || r.Repeated {
		t.Errorf("%+v, %v", r, err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, fmt.Errorf("the line is dead") }
