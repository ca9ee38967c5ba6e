package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/account"
	"mailout/internal/journal"
	"mailout/internal/mta"
	"mailout/internal/spool"
)

// bookless is a store whose journal cannot be read from its end.
type bookless struct{ spool.Store }

func (bookless) Arrivals(_ context.Context, q spool.ArrivalQuery, _ func(spool.Position, []*mta.Record) bool) (spool.Position, bool, error) {
	return q.Before, false, nil
}

func (bookless) JournalOver(context.Context, int64) (time.Time, bool, error) {
	return time.Time{}, false, nil
}

// ask gives status and body of a GET.
func (o *office) ask(path string) (int, string) {
	o.Helper()
	resp, err := o.client.Get("http://mailout" + path)
	if err != nil {
		o.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		o.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// take puts a message with one recipient into the queue.
func (o *office) take(user, sender, to string) *mta.Delivery {
	o.Helper()
	o.n++
	m := &mta.Message{ID: mta.NewID(time.Now(), [10]byte{o.n}), Stream: mta.DefaultStream, Arrived: time.Now(), Size: 1, Deliveries: 1,
		Envelope: mta.Envelope{Sender: sender}, Origin: mta.Origin{User: user}}
	d := &mta.Delivery{Message: m, Destination: mta.Destination{Domain: "one.example", Stream: m.Stream}, Due: time.Now(), Recipients: []mta.Recipient{{Address: to}}}
	draft, err := o.store.Draft()
	if err != nil {
		o.Fatal(err)
	}
	if _, err := draft.Write([]byte("x")); err != nil {
		o.Fatal(err)
	}
	rec := &mta.Record{Time: time.Now(), Event: mta.EventAccepted, ID: m.ID, Stream: m.Stream, Sender: sender, Recipient: to, Destination: "one.example", User: user}
	if err := o.store.Put(o.Context(), &spool.Submission{Message: m, Content: draft, Deliveries: []*mta.Delivery{d}, Records: []*mta.Record{rec}}); err != nil {
		o.Fatal(err)
	}
	return d
}

// end gives a delivery its end.
func (o *office) end(d *mta.Delivery, e mta.Event) {
	o.Helper()
	rec := &mta.Record{Time: time.Now(), Event: e, ID: d.Message.ID, Stream: d.Destination.Stream, Sender: d.Message.Envelope.Sender,
		Recipient: d.Recipients[0].Address, Destination: "one.example", Attempt: 1, Reply: "550 no"}
	if _, err := o.store.Settle(o.Context(), &spool.Settlement{Delivery: d.Key(), Records: []*mta.Record{rec}}); err != nil {
		o.Fatal(err)
	}
}

func TestSearchAnswersPages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.close()
		var all []*mta.Delivery
		for i := range 5 {
			all = append(all, o.take([]string{"erp", "shop"}[i%2], "s@widget.com", fmt.Sprintf("u%d@one.example", i)))
			time.Sleep(time.Second)
		}
		o.end(all[0], mta.EventFailed)
		find := func(query string) (ids []string) {
			cursor := ""
			for {
				status, body := o.ask("/v1/messages?limit=2&" + query + cursor)
				var page journal.Page
				if err := json.Unmarshal([]byte(body), &page); status != http.StatusOK || err != nil {
					t.Fatalf("%s: %d %s", query, status, body)
				}
				for _, m := range page.Messages {
					ids = append(ids, m.Recipients[0].Address[:2])
				}
				if page.Cursor == "" {
					return ids
				}
				cursor = "&cursor=" + page.Cursor
			}
		}
		for query, want := range map[string]string{
			"": "[u4 u3 u2 u1 u0]", "user=shop": "[u3 u1]", "state=failed": "[u0]", "state=queued&user=erp": "[u4 u2]",
			"recipient=u3@one.example": "[u3]", "sender=%3C%3E": "[]", "sender=s@widget.com": "[u4 u3 u2 u1 u0]",
			"since=2000-01-01T00:00:03Z": "[u4 u3]", "since=2s": "[u4 u3]", "since=1d": "[u4 u3 u2 u1 u0]", "until=2000-01-01T00:00:01Z": "[u0]",
		} {
			if got := fmt.Sprint(find(query)); got != want {
				t.Errorf("%s: %s, want %s", query, got, want)
			}
		}
		for query, field := range map[string]string{
			"limit=0": "limit", "id=x": "id", "limit=1001": "limit", "limit=x": "limit", "cursor=x": "cursor", "state=lost": "state",
			"since=yesterday": "since", "recipent=x": "recipent", "until=1": "until",
		} {
			if status, body := o.ask("/v1/messages?" + query); status != http.StatusBadRequest || !strings.Contains(body, `"field":"`+field+`"`) {
				t.Errorf("%s: %d %s", query, status, body)
			}
		}
		o.user = &account.User{Name: "shop", Scopes: []account.Scope{account.ScopeRead}}
		if got := fmt.Sprint(find("")); got != "[u3 u1]" {
			t.Errorf("shop finds %s", got)
		}
		if status, body := o.ask("/v1/trace?stream=default"); status != http.StatusForbidden || !strings.Contains(body, `"field":"query"`) {
			t.Errorf("shop reads the journal through: %d %s", status, body)
		}
		if got := fmt.Sprint(find("id=" + all[0].Message.ID.String())); got != "[]" {
			t.Errorf("shop finds erp's %s", got)
		}
		if status, _ := o.ask("/v1/messages?user=erp"); status != http.StatusForbidden {
			t.Errorf("shop asks for erp's: %d", status)
		}
		if status, _ := o.ask("/v1/messages/" + all[0].Message.ID.String()); status != http.StatusNotFound {
			t.Errorf("shop sees erp's: %d", status)
		}
	})
}

func TestAMessageThatIsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.close()
		d := o.take("erp", "s@widget.com", "u@one.example")
		o.end(d, mta.EventFailed)
		status, body := o.ask("/v1/messages/" + d.Message.ID.String())
		var m Message
		if err := json.Unmarshal([]byte(body), &m); status != http.StatusOK || err != nil {
			t.Fatalf("%d %s", status, body)
		}
		if m.State != "failed" || len(m.Recipients) != 1 || m.Recipients[0].State != "failed" || m.Attempts != 1 || m.Reply != "550 no" ||
			m.Destination != "one.example" || len(m.History) != 1 || len(m.Status) != 1 || m.Next != "" {
			t.Errorf("%s", body)
		}
		if status, _ := o.ask("/v1/messages/" + mta.NewID(time.Now(), [10]byte{200}).String()); status != http.StatusNotFound {
			t.Error(status)
		}
	})
}

// TestAFollowerRemembersTheLast records, not the first of a busy minute: the
// past and what comes overlap at its end.
func TestAFollowerRemembersTheLast(t *testing.T) {
	t.Parallel()
	f := &tracing{follow: true, begun: time.Now()}
	r := &mta.Record{Time: f.begun}
	for i := range 3 * maxFollowed {
		if f.twice(r, strconv.Itoa(i)) {
			t.Fatal(i)
		}
	}
	for i := 2 * maxFollowed; i < 3*maxFollowed; i++ {
		if !f.twice(r, strconv.Itoa(i)) {
			t.Fatalf("record %d of %d is told twice", i, 3*maxFollowed)
		}
	}
	if n := len(f.told) + len(f.before); n > 2*maxFollowed {
		t.Errorf("%d records are remembered", n)
	}
}

// TestFollowATrace: the past, then what happens, each once; the message's end
// is the end.
func TestFollowATrace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.close()
		d := o.take("erp", "s@widget.com", "u@one.example")
		other := o.take("erp", "s@widget.com", "v@one.example")
		time.Sleep(time.Second)
		open := func(query string) (*bufio.Reader, func()) {
			resp, err := o.client.Get(strings.TrimSuffix("http://mailout/v1/trace?follow=true&"+query, "&"))
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatal(err, resp.Status)
			}
			return bufio.NewReader(resp.Body), func() { resp.Body.Close() }
		}
		next := func(in *bufio.Reader) string {
			t.Helper()
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			var r mta.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			return r.Event.String() + " " + r.Recipient
		}
		one, closeOne := open("query=" + d.Message.ID.String())
		defer closeOne()
		all, closeAll := open("sender=s@widget.com")
		defer closeAll()
		now, closeNow := open("")
		defer closeNow()
		failed, closeFailed := open("event=failed")
		defer closeFailed()
		if got := next(one); got != "accepted u@one.example" {
			t.Error(got)
		}
		if got := next(all) + ", " + next(all); got != "accepted u@one.example, accepted v@one.example" {
			t.Error(got)
		}
		synctest.Wait()
		o.end(other, mta.EventFailed)
		o.end(d, mta.EventDelivered)
		if got := next(one); got != "delivered u@one.example" {
			t.Error(got)
		}
		if rest, err := io.ReadAll(one); err != nil || len(rest) != 0 {
			t.Errorf("%q, %v behind the end", rest, err)
		}
		if got := next(all) + ", " + next(all); got != "failed v@one.example, delivered u@one.example" {
			t.Error(got)
		}
		if got := next(now); got != "failed v@one.example" {
			t.Errorf("%s, of all that happens from now on", got)
		}
		if got := next(failed); got != "failed v@one.example" {
			t.Error(got)
		}
	})
}

func TestTraceRefuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		o := newOffice(t)
		defer o.close()
		for query, field := range map[string]string{
			"": "query", "query=x&since=1": "since", "query=x&form=1": "form", "query=x&until=1": "until", "event=lost": "event", "query=x&limit=-1": "limit",
			"query=x&follow=true&until=2026-01-01T00:00:00Z": "follow",
		} {
			if status, body := o.ask("/v1/trace?" + query); status != http.StatusBadRequest || !strings.Contains(body, `"field":"`+field+`"`) {
				t.Errorf("%q: %d %s", query, status, body)
			}
		}
		for range 3 {
			o.take("erp", "s@widget.com", "u@one.example")
		}
		if _, body := o.ask("/v1/trace?query=u@one.example&limit=2"); strings.Count(body, "\n") != 2 {
			t.Errorf("%s", body)
		}
	})
}
