package events

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// after waits in virtual time.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestWebhookDownForAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		r := h.receiver("a.example")
		r.setDown(true)
		start := h.store.End()
		hub := h.hub(Settings{Webhooks: []Webhook{hook(t, "a")}})
		for range 1000 {
			h.life()
			after(3600 * time.Millisecond)
		}
		if s := hub.Status()[0]; r.got() != 0 || !s.Failing || s.Pending < 2900 || s.Lag < 59*time.Minute || s.Failures == 0 {
			t.Errorf("while the receiver is down: %d events, %+v", r.got(), s)
		}
		if n := hub.Status()[0].Failures; n > 30 {
			t.Errorf("%d tries in an hour", n)
		}
		r.setDown(false)
		after(6*time.Minute + 30*time.Second) // the longest pause with its jitter
		r.complete(h.journal(start))
		if s := hub.Status()[0]; s.Pending != 0 || s.Lag != 0 || s.Failing || s.Sent != 3000 || s.GivenUp != 0 {
			t.Errorf("afterwards: %+v", s)
		}
		if n := len(r.requests()); n > 60 {
			t.Errorf("%d requests for 3000 events", n)
		}
		h.stop(hub)
		h.close()
	})
}

func TestWebhookFailsAtRandom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		r := h.receiver("a.example")
		rng, chance := rand.New(rand.NewPCG(1, 2)), rand.New(rand.NewPCG(2, 2))
		r.answer = func(*request) (int, http.Header) {
			r.mu.Lock()
			n := chance.IntN(10)
			r.mu.Unlock()
			switch n {
			case 0, 1, 2:
				return 500, nil
			case 3:
				return 0, nil
			}
			return 204, nil
		}
		start := h.store.End()
		conf := hook(t, "a")
		conf.Batch = 7
		hub := h.hub(Settings{Webhooks: []Webhook{conf}})
		var open []*mta.Delivery
		for range 300 {
			open = append(open, h.accept("a@one.example").Deliveries[0])
			i := rng.IntN(len(open))
			h.settle(open[i], mta.EventDeferred)
			if rng.IntN(2) == 0 {
				h.settle(open[i], mta.EventDelivered)
				open = append(open[:i], open[i+1:]...)
			}
			after(time.Duration(rng.IntN(1000)) * time.Millisecond)
		}
		after(6 * time.Hour)
		r.complete(h.journal(start))
		if s := hub.Status()[0]; s.Pending != 0 || s.GivenUp != 0 {
			t.Errorf("afterwards: %+v", s)
		}
		h.stop(hub)
		h.close()
	})
}

// TestWebhookAcrossCrashes cuts the power again and again, at any moment, and
// goes on from what the disk has.
func TestWebhookAcrossCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			r := h.receiver("a.example")
			rng := rand.New(rand.NewPCG(3, seed))
			slow := rand.New(rand.NewPCG(4, seed))
			r.answer = func(*request) (int, http.Header) {
				r.mu.Lock()
				wait, status := slow.IntN(400), []int{200, 200, 200, 503}[slow.IntN(4)]
				r.mu.Unlock()
				time.Sleep(time.Duration(wait) * time.Millisecond)
				return status, nil
			}
			start := h.store.End()
			conf := hook(t, "a")
			conf.Batch = 1 + rng.IntN(20)
			settings := Settings{Webhooks: []Webhook{conf}}
			hub := h.hub(settings)
			for range 8 {
				for range 1 + rng.IntN(30) {
					h.life()
					after(time.Duration(rng.IntN(300)) * time.Millisecond)
				}
				h.crash(hub)
				hub = h.hub(settings)
			}
			after(time.Hour)
			r.complete(h.journal(start))
			if s := hub.Status()[0]; s.Pending != 0 {
				t.Errorf("seed %d: afterwards: %+v", seed, s)
			}
			h.stop(hub)
			h.close()
		})
	}
}

// TestWebhookBadEvent: one event that the receiver never takes keeps only its
// message's later ones, and is given up in the end, which the journal
// tells.
func TestWebhookBadEvent(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.giveUp = 12 * time.Hour // pebble's own clock makes days dear
		r := h.receiver("a.example")
		var bad string
		r.answer = func(q *request) (int, http.Header) {
			for _, e := range q.events {
				if e.Data.ID == bad && e.Data.Event == "accepted" {
					return 422, nil
				}
			}
			return 200, nil
		}
		start := h.store.End()
		hub := h.hub(Settings{Webhooks: []Webhook{hook(t, "a")}})
		for range 40 {
			h.life()
		}
		bad = h.life().String()
		for range 40 {
			h.life()
		}
		after(5 * time.Minute)
		if n := r.got(); n != 80*3 {
			t.Errorf("%d events arrived beside the bad one, want %d", n, 80*3)
		}
		for range 100 {
			h.life()
			after(time.Second)
		}
		after(10 * time.Minute)
		if n := r.got(); n != 180*3 {
			t.Errorf("%d events arrived beside the bad one, want %d", n, 180*3)
		}
		after(9 * time.Hour)
		if n := r.got(); n != 180*3 {
			t.Errorf("%d events arrived before its time, want %d", n, 180*3)
		}
		r.excuse(bad)
		if s := hub.Status()[0]; s.GivenUp != 0 || s.Pending == 0 {
			t.Errorf("before its time: %+v", s)
		}
		after(7 * time.Hour)
		if s := hub.Status()[0]; s.GivenUp != 1 || s.Pending != 0 || len(h.notes) != 1 {
			t.Errorf("after its time: %+v, notes %q", s, h.notes)
		}
		if want := len(h.journal(start)) - 1; r.got() != want {
			t.Errorf("%d events arrived, want all but one: %d", r.got(), want)
		}
		h.stop(hub)
		h.close()
	})
}

func TestWebhookDeadForLong(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.giveUp = 12 * time.Hour // pebble's own clock makes days dear
		r := h.receiver("a.example")
		r.setDown(true)
		conf := hook(t, "a")
		conf.Batch = 3
		hub := h.hub(Settings{Webhooks: []Webhook{conf}})
		for range 20 {
			h.life()
			after(time.Hour)
		}
		s := hub.Status()[0]
		if s.GivenUp < 6*3 || s.GivenUp > 10*3 || s.Lag > 14*time.Hour {
			t.Errorf("what was given up after 20 hours: %+v", s)
		}
		r.setDown(false)
		after(10 * time.Minute)
		if got := uint64(r.got()) + s.GivenUp; got != 20*3 {
			t.Errorf("%d events arrived or were given up, want %d", got, 20*3)
		}
		if len(h.notes) == 0 || len(h.notes) > 24*5 {
			t.Errorf("%d notes", len(h.notes))
		}
		h.stop(hub)
		h.close()
	})
}

func TestWebhookGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		r := h.receiver("a.example")
		r.answer = func(*request) (int, http.Header) { return http.StatusGone, nil }
		settings := Settings{Webhooks: []Webhook{hook(t, "a")}}
		hub := h.hub(settings)
		h.life()
		after(time.Minute)
		for range 2 {
			if s := hub.Status()[0]; !s.Disabled || s.Pending != 0 || len(r.requests()) != 1 || len(h.notes) != 1 {
				t.Fatalf("after 410: %+v, %d requests, notes %q", s, len(r.requests()), h.notes)
			}
			h.stop(hub)
			hub = h.hub(settings)
			h.life()
			after(time.Hour)
		}
		r.answer = nil
		settings.Webhooks = []Webhook{hook(t, "a")}
		settings.Webhooks[0].URL += "/new"
		start := h.store.End()
		if err := hub.Reconfigure(t.Context(), settings); err != nil {
			t.Fatal(err)
		}
		h.life()
		after(time.Minute)
		r.complete(h.journal(start))
		if s := hub.Status()[0]; s.Disabled || r.got() != 3 {
			t.Errorf("with another URL: %+v, %d events", s, r.got())
		}
		h.stop(hub)
		h.close()
	})
}

func TestWebhookRetryAfter(t *testing.T) {
	t.Parallel()
	for _, field := range []string{"600", "date"} {
		synctest.Test(t, func(t *testing.T) {
			h := newHouse(t)
			r := h.receiver("a.example")
			r.answer = func(*request) (int, http.Header) {
				if len(r.requests()) > 1 {
					return 200, nil
				}
				if field == "date" {
					return 429, http.Header{"Retry-After": {time.Now().Add(10 * time.Minute).UTC().Format(http.TimeFormat)}}
				}
				return 503, http.Header{"Retry-After": {field}}
			}
			hub := h.hub(Settings{Webhooks: []Webhook{hook(t, "a")}})
			after(time.Second)
			h.life()
			after(11 * time.Minute)
			q := r.requests()
			if len(q) != 2 {
				t.Fatalf("%d requests", len(q))
			}
			if d := q[1].at.Sub(q[0].at); d < 10*time.Minute-time.Second {
				t.Errorf("came again after %v", d)
			}
			if q[0].header.Get("webhook-id") != q[1].header.Get("webhook-id") || string(q[0].body) != string(q[1].body) {
				t.Error("the second try is not the same request")
			}
			h.stop(hub)
			h.close()
		})
	}
}

// TestWebhooksStandAlone: one that is dead and one that never answers cost a
// third one nothing; a redirect is not followed.
func TestWebhooksStandAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		h.receiver("dead.example").setDown(true)
		h.receiver("slow.example").answer = func(*request) (int, http.Header) {
			time.Sleep(time.Hour)
			return 200, nil
		}
		h.receiver("moved.example").answer = func(*request) (int, http.Header) {
			return 307, http.Header{"Location": {"http://well.example/events"}}
		}
		well := h.receiver("well.example")
		start := h.store.End()
		hub := h.hub(Settings{Webhooks: []Webhook{hook(t, "dead"), hook(t, "slow"), hook(t, "moved"), hook(t, "well")}})
		for range 20 {
			h.life()
			after(2 * time.Second)
		}
		well.complete(h.journal(start))
		for _, q := range well.requests() {
			for _, e := range q.events {
				if late := q.at.Sub(e.Timestamp); late > 2*time.Second {
					t.Errorf("an event came %v late", late)
				}
			}
		}
		if n := well.got(); n != 60 {
			t.Errorf("%d events, want 60", n)
		}
		for _, s := range hub.Status() {
			if well := s.Name == "well"; well != (s.Sent == 60) || !well && (s.Sent != 0 || !s.Failing) {
				t.Errorf("%+v", s)
			}
		}
		begun := time.Now()
		h.stop(hub)
		if d := time.Since(begun); d > 11*time.Second {
			t.Errorf("Stop took %v", d)
		}
		after(2 * time.Hour)
		h.close()
	})
}

func TestWebhookShapes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		one, list := h.receiver("one.example"), h.receiver("list.example")
		a, b := hook(t, "one"), hook(t, "list")
		a.Batch, a.Filter.Events = 1, []mta.Event{mta.EventDelivered}
		b.Filter.Streams = []string{"other"}
		hub := h.hub(Settings{Webhooks: []Webhook{a, b}})
		id := h.life()
		after(time.Minute)
		q := one.requests()
		if len(q) != 1 || q[0].body[0] != '{' || q[0].events[0].Type != "message.delivered" || q[0].events[0].Data.ID != id.String() {
			t.Fatalf("%d requests, %s", len(q), q[0].body)
		}
		if got := q[0].header; got.Get("webhook-id") != q[0].events[0].ID || got.Get("Content-Type") != "application/json" || got.Get("User-Agent") != "mailout/1" {
			t.Errorf("header %v", got)
		}
		if n := len(list.requests()); n != 0 {
			t.Errorf("%d requests of another stream's events", n)
		}
		if s := hub.Status(); s[0].Pending != 0 || s[0].Lag != 0 {
			t.Errorf("what nobody wants counts as pending: %+v", s)
		}
		h.stop(hub)
		h.close()
	})
}

// TestWebhookComesAndGoes: a new one gets what happens from then on; one that
// is taken out is forgotten, and keeps no records.
func TestWebhookComesAndGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		r := h.receiver("a.example")
		h.life()
		hub := h.hub(Settings{})
		with := Settings{Webhooks: []Webhook{hook(t, "a")}}
		for i := range 3 {
			if err := hub.Reconfigure(t.Context(), with); err != nil {
				t.Fatal(err)
			}
			h.life()
			after(time.Minute)
			if n := r.got(); n != 3*(i+1) {
				t.Errorf("%d events, want %d", n, 3*(i+1))
			}
			if err := hub.Reconfigure(t.Context(), Settings{}); err != nil {
				t.Fatal(err)
			}
			if f, err := h.store.Followers(t.Context()); err != nil || len(f) != 0 {
				t.Errorf("%v, %v", f, err)
			}
			h.life()
			after(time.Minute)
		}
		h.stop(hub)
		h.close()
	})
}

// TestWebhookOtherBatches: another size of batches loses nothing.
func TestWebhookOtherBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		r := h.receiver("a.example")
		r.setDown(true)
		start := h.store.End()
		conf := hook(t, "a")
		hub := h.hub(Settings{Webhooks: []Webhook{conf}})
		for range 50 {
			h.life()
		}
		after(time.Minute)
		conf.Batch = 1
		if err := hub.Reconfigure(t.Context(), Settings{Webhooks: []Webhook{conf}}); err != nil {
			t.Fatal(err)
		}
		r.setDown(false)
		after(10 * time.Minute)
		r.complete(h.journal(start))
		h.stop(hub)
		h.close()
	})
}

func TestTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		r := h.receiver("a.example")
		o := Options{Dial: h.dial, Version: "1"}
		conf := hook(t, "a")
		for _, conf.Batch = range []int{1, 100} {
			trial, err := Try(t.Context(), o, Settings{}, conf)
			if err != nil || !trial.OK || trial.Answer != "200 OK" {
				t.Errorf("%+v, %v", trial, err)
			}
		}
		q := r.requests()
		if len(q) != 2 || q[0].body[0] != '{' || q[1].body[0] != '[' || q[1].events[0].Type != "server.test" {
			t.Errorf("%d requests: %s", len(q), q[1].body)
		}
		r.answer = func(*request) (int, http.Header) { return 403, nil }
		if trial, err := Try(t.Context(), o, Settings{}, conf); err != nil || trial.OK || trial.Answer != "403 Forbidden" {
			t.Errorf("%+v, %v", trial, err)
		}
		r.setDown(true)
		conf.URL += "?token=hidden"
		if trial, err := Try(t.Context(), o, Settings{}, conf); err != nil || trial.OK || trial.Status != 0 || strings.Contains(trial.Answer, "hidden") {
			t.Errorf("%+v, %v", trial, err)
		}
		h.close()
	})
}

// TestCursorBeyondTheJournal: an older copy of the spool was put back.
func TestCursorBeyondTheJournal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t)
		r := h.receiver("a.example")
		w := newWebhook(&Options{Feed: h.store, Logger: quiet}, &Settings{}, hook(t, "a"))
		w.read = spool.Position{Entry: 1 << 40}
		if err := w.save(t.Context()); err != nil {
			t.Fatal(err)
		}
		hub := h.hub(Settings{Webhooks: []Webhook{hook(t, "a")}})
		h.life()
		after(time.Minute)
		if r.got() != 3 {
			t.Errorf("%d events, want 3", r.got())
		}
		h.stop(hub)
		h.close()
	})
}
