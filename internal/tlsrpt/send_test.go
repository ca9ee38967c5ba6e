package tlsrpt

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/submit"
)

// The bubble's clock begins at midnight of 1 January 2000, UTC.

// TestDailyReport: the counts of a day go to every receiver, after the day, once.
func TestDailyReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("example.com", "mailto:tls@example.com,https://r.example.com/v1,mailto:tls@third.example")
		r := w.start()
		defer r.Stop(t.Context())
		good := session("example.com", stsPolicy("example.com"))
		for range 7 {
			r.Count(good)
		}
		r.Count(good.failing("certificate-expired", "expired on Monday"))
		r.Count(good.failing("certificate-expired", "expired on Monday"))
		time.Sleep(24*time.Hour - time.Second)
		if len(w.said()) != 0 {
			t.Fatal("a report was sent before the day was over")
		}
		time.Sleep(Spread + time.Minute)
		mails, posts := w.intake.mails(), w.web.got()
		if len(mails) != 2 || len(posts) != 1 {
			t.Fatalf("%d mails and %d posts, want 2 and 1", len(mails), len(posts))
		}
		if posts[0].path != "POST /v1" || posts[0].host != "r.example.com" || posts[0].kind != "application/tlsrpt+gzip" || posts[0].agent != "mailout" {
			t.Errorf("posted to %q of %q as %q by %q", posts[0].path, posts[0].host, posts[0].kind, posts[0].agent)
		}
		text := strictReport(t, unpack(t, posts[0].body))
		want := `{"organization-name":"Sender","date-range":{"start-datetime":"2000-01-01T00:00:00Z","end-datetime":"2000-01-01T23:59:59Z"},"contact-info":"postmaster@sender.example","report-id":"` + text.ID + `",` +
			`"policies":[{"policy":{"policy-type":"sts","policy-string":["version: STSv1","mode: enforce","mx: *.example.com","max_age: 86400"],"policy-domain":"example.com","mx-host":["*.example.com"]},` +
			`"summary":{"total-successful-session-count":7,"total-failure-session-count":2},` +
			`"failure-details":[{"result-type":"certificate-expired","sending-mta-ip":"203.0.113.5","receiving-mx-hostname":"mx.example.com","receiving-mx-helo":"helo.example.com","receiving-ip":"198.51.100.25","failed-session-count":2,"failure-reason-code":"expired on Monday"}]}]}`
		var flat bytes.Buffer
		if err := json.Compact(&flat, unpack(t, posts[0].body)); err != nil || flat.String() != want {
			t.Errorf("the report is\n%s\nwant\n%s", &flat, want)
		}
		for i, to := range []string{"tls@example.com", "tls@third.example"} {
			checkMail(t, mails[i], to, text, posts[0].body)
		}
		said := w.said()
		slices.SortFunc(said, func(a, b Sent) int { return strings.Compare(a.To, b.To) })
		if len(said) != 3 || said[0].To != "https://r.example.com/v1" || said[0].Err != nil || said[0].Success != 7 || said[0].Failure != 2 || said[1].Message.IsZero() {
			t.Fatalf("told %+v", said)
		}
		if want := "TLS report " + text.ID + " about example.com on 2000-01-01 (7 sessions as demanded, 2 failed) was taken by https://r.example.com/v1"; said[0].Words() != want {
			t.Errorf("words: %s", said[0].Words())
		}
		time.Sleep(48 * time.Hour)
		if len(w.said()) != 3 || len(w.web.got()) != 1 {
			t.Error("a report was sent again")
		}
		if left := w.notes.names(); len(left) != 0 {
			t.Errorf("notes are left: %q", left)
		}
	})
}

// TestRecordDecidesAfterTheDay: who is told is what the record says when the
// report is due; whoever asks no more gets none.
func TestRecordDecidesAfterTheDay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("gone.example", "mailto:tls@gone.example")
		w.ask("moved.example", "mailto:old@moved.example")
		w.ask("twice.example", "mailto:tls@twice.example")
		r := w.start()
		defer r.Stop(t.Context())
		for _, d := range []string{"gone.example", "moved.example", "twice.example"} {
			r.Count(session(d))
		}
		time.Sleep(23 * time.Hour)
		w.resolver.set(Label + "gone.example")
		w.ask("moved.example", "mailto:new@moved.example")
		w.resolver.set(Label+"twice.example", "v=TLSRPTv1; rua=mailto:a@twice.example", "v=TLSRPTv1; rua=mailto:b@twice.example")
		time.Sleep(6 * time.Hour)
		mails := w.intake.mails()
		if len(mails) != 1 || mails[0].request.Recipients[0].Address != "new@moved.example" {
			t.Errorf("mails: %+v", mails)
		}
		if left := w.notes.names(); len(left) != 0 {
			t.Errorf("notes are left: %q", left)
		}
	})
}

// TestReportsAreSpread: reports do not all go at once, and at the same time
// however often we start.
func TestReportsAreSpread(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.reports()
	if r.due(10957, "example.com") != w.reports().due(10957, "example.com") {
		t.Error("another time after a restart")
	}
	var quarters [4]int
	for i := range 400 {
		name := fmt.Sprintf("d%d.example", i)
		wait := r.due(10957, name).Sub(startOf(10958))
		if wait < 0 || wait >= Spread {
			t.Fatalf("%s waits %s", name, wait)
		}
		quarters[wait*4/Spread]++
	}
	for _, n := range quarters {
		if n < 50 {
			t.Errorf("reports in the quarters of the time: %v", quarters)
		}
	}
}

// TestRetries: a receiver that takes nothing is tried again with growing pauses
// for 24 hours, and does not stop the others.
func TestRetries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("example.com", "https://r.example.com/,https://dead.example/,mailto:tls@example.com")
		w.resolver.addrs["dead.example"] = []netip.Addr{netip.MustParseAddr("198.51.100.99")}
		w.web.will("500 No", "404 Not found", "302 Found\r\nLocation: https://r.example.com/other", "503 Later\r\nRetry-After: 7200")
		r := w.start()
		defer r.Stop(t.Context())
		r.Count(session("example.com"))
		time.Sleep(28 * time.Hour)
		if len(w.intake.mails()) != 1 {
			t.Error("the mail waits for the others")
		}
		time.Sleep(26 * time.Hour)
		posts := w.web.got()
		if len(posts) != 5 {
			t.Fatalf("%d posts, want 5", len(posts))
		}
		for i, least := range []time.Duration{firstPause, 2 * firstPause, 4 * firstPause, 2 * time.Hour} {
			if wait := posts[i+1].at.Sub(posts[i].at); wait < least || wait > least+time.Minute {
				t.Errorf("attempt %d followed after %s, want %s", i+2, wait, least)
			}
		}
		said := map[string]error{}
		for _, s := range w.said() {
			said[s.To] = s.Err
		}
		if len(said) != 3 || said["https://r.example.com/"] != nil || said["mailto:tls@example.com"] != nil || said["https://dead.example/"] == nil {
			t.Errorf("told %v", said)
		}
		dials := 0
		for _, d := range w.net.Dials() {
			if d.Address == "198.51.100.99:443" {
				dials++
			}
		}
		if dials < 6 || dials > 12 {
			t.Errorf("the dead receiver was tried %d times in a day", dials)
		}
		if left := w.notes.names(); len(left) != 0 {
			t.Errorf("notes are left: %q", left)
		}
	})
}

// TestRetriesSurviveRestarts: the schedule goes on where it was.
func TestRetriesSurviveRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("example.com", "https://r.example.com/,mailto:tls@example.com")
		w.web.will(slices.Repeat([]string{"500 No"}, 1000)...)
		r := w.start()
		r.Count(session("example.com"))
		time.Sleep(KeepPace + time.Minute)
		for range 60 { // 52 hours
			w.kill(r)
			r = w.start()
			time.Sleep(52 * time.Minute)
		}
		r.Stop(t.Context())
		if n := len(w.web.got()); n < 5 || n > 12 {
			t.Errorf("%d posts in a day", n)
		}
		if n := len(w.intake.mails()); n != 1 {
			t.Errorf("%d mails", n)
		}
		if said := w.said(); len(said) != 2 {
			t.Errorf("told %+v", said)
		}
		if left := w.notes.names(); len(left) != 0 {
			t.Errorf("notes are left: %q", left)
		}
	})
}

// TestFileAcrossCrashes kills at every write, before and after it took effect, and
// right after a receiver has taken the report. Each mail is made once; a post may
// come twice, with the same ID.
func TestReportAcrossCrashes(t *testing.T) {
	t.Parallel()
	for point := range 12 {
		for _, durable := range []bool{false, true} {
			t.Run(fmt.Sprintf("write %d durable %v", point, durable), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) { crashAt(t, point, durable) })
			})
		}
	}
	t.Run("after a mail", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) { crashAt(t, -1, false) })
	})
}

func crashAt(t *testing.T, point int, durable bool) {
	w := newWorld(t)
	w.ask("example.com", "https://r.example.com/,mailto:a@example.com,mailto:b@example.com")
	r := w.start()
	r.Count(session("example.com"))
	time.Sleep(KeepPace + time.Minute) // the counts are kept
	var dead atomic.Bool
	var writes atomic.Int64
	notes := w.notes
	notes.interpose(func(changes map[string][]byte) error {
		if dead.Load() {
			return errDisk
		}
		if writes.Add(1)-1 != int64(point) {
			return nil
		}
		dead.Store(true)
		if durable {
			notes.apply(changes)
		}
		return errDisk
	})
	if point < 0 {
		var once atomic.Bool
		w.intake.mu.Lock()
		w.intake.after = func() error {
			if once.Swap(true) {
				return nil
			}
			dead.Store(true)
			return errors.New("the power is gone")
		}
		w.intake.mu.Unlock()
	}
	for range 29 * 60 {
		if time.Sleep(time.Minute); dead.Load() {
			break
		}
	}
	r.Stop(t.Context())
	notes.interpose(nil)
	r = w.start()
	defer r.Stop(t.Context())
	time.Sleep(55 * time.Hour)
	if n := len(w.intake.mails()); n != 2 {
		t.Errorf("%d mails, want 2", n)
	}
	posts := w.web.got()
	if len(posts) < 1 || len(posts) > 2 {
		t.Errorf("%d posts", len(posts))
	}
	for _, p := range posts {
		text := strictReport(t, unpack(t, p.body))
		if text.ID != strictReport(t, unpack(t, posts[0].body)).ID || *text.Policies[0].Summary.Success != 1 {
			t.Errorf("reports differ: %+v", text)
		}
	}
	told := map[string]bool{}
	for _, s := range w.said() {
		if s.Err != nil {
			t.Errorf("given up: %+v", s)
		}
		told[s.To] = true
	}
	if len(told) != 3 {
		t.Errorf("told of %v", told)
	}
	if left := w.notes.names(); len(left) != 0 {
		t.Errorf("notes are left: %q", left)
	}
}

// TestCountsAcrossRestarts: a stop loses nothing; a crash what was counted since
// the counts were kept.
func TestCountsAcrossRestarts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("example.com", "https://r.example.com/")
		r := w.start()
		o := session("example.com", stsPolicy("example.com"), tlsaPolicy("mx.example.com"))
		r.Count(o)
		r.Stop(t.Context())
		r = w.start()
		r.Count(o)
		r.Count(o.failing("certificate-not-trusted", "x"))
		time.Sleep(KeepPace + time.Minute)
		r.Count(o) // is lost
		w.kill(r)
		r = w.start()
		r.Count(o)
		r.Count(session("example.com"))
		time.Sleep(29 * time.Hour)
		r.Stop(t.Context())
		posts := w.web.got()
		if len(posts) != 1 {
			t.Fatalf("%d posts", len(posts))
		}
		text := strictReport(t, unpack(t, posts[0].body))
		if len(text.Policies) != 2 || *text.Policies[0].Summary.Success != 3 || *text.Policies[0].Summary.Failure != 1 || *text.Policies[1].Summary.Success != 1 {
			t.Errorf("the report says %+v", text.Policies)
		}
	})
}

// TestEachDayHasItsReport: sessions around midnight, a clock that goes back, days
// without sessions.
func TestEachDayHasItsReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("example.com", "https://r.example.com/")
		r := w.reports()
		var back atomic.Int64
		r.now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
		if err := r.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer r.Stop(t.Context())
		o := session("example.com")
		r.Count(o)
		time.Sleep(24*time.Hour - time.Second)
		r.Count(o)
		time.Sleep(2 * time.Minute)        // the day is over
		back.Store(int64(5 * time.Minute)) // it is the day before again, and over all the same
		r.Count(o)
		time.Sleep(10 * time.Minute)
		r.Count(o)
		time.Sleep(4 * 24 * time.Hour)
		r.Count(o)
		time.Sleep(30 * time.Hour)
		var got []string
		for _, p := range w.web.got() {
			text := strictReport(t, unpack(t, p.body))
			got = append(got, fmt.Sprint(text.Range.Start[:10], " ", *text.Policies[0].Summary.Success))
		}
		if want := []string{"2000-01-01 2", "2000-01-02 2", "2000-01-06 1"}; !slices.Equal(got, want) {
			t.Errorf("reports %q, want %q", got, want)
		}
	})
}

// TestTrap36_TroubleOfDNSAtTheEnd: a record that cannot be asked for is no answer.
func TestTrap36_TroubleOfDNSAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, hours := range []int{10, 60} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.ask("example.com", "mailto:tls@example.com")
			r := w.start()
			defer r.Stop(t.Context())
			r.Count(session("example.com"))
			time.Sleep(23 * time.Hour)
			w.resolver.fail(true)
			time.Sleep(time.Duration(hours) * time.Hour)
			w.resolver.fail(false)
			time.Sleep(7 * time.Hour)
			said := w.said()
			if len(said) != 1 || (said[0].Err == nil) != (hours == 10) {
				t.Errorf("after %d hours: told %+v", hours, said)
			}
			if left := w.notes.names(); len(left) != 0 {
				t.Errorf("notes are left: %q", left)
			}
		})
	}
}

// TestWhatTheSpoolCannotKeep waits in memory until it can.
func TestWhatTheSpoolCannotKeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("example.com", "https://r.example.com/")
		r := w.start()
		defer r.Stop(t.Context())
		w.notes.breakWith(errDisk)
		r.Count(session("example.com"))
		time.Sleep(30 * time.Hour)
		if len(w.web.got()) != 0 {
			t.Error("a report was sent whose state is not kept")
		}
		w.notes.breakWith(nil)
		time.Sleep(6 * time.Hour)
		if n := len(w.web.got()); n != 1 {
			t.Errorf("%d posts", n)
		}
	})
}

// TestIntakeRefuses: "try again" is tried again, "no" is final.
func TestIntakeRefuses(t *testing.T) {
	t.Parallel()
	for _, code := range []int{452, 550} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.ask("example.com", "mailto:tls@example.com")
			w.intake.refuse = &submit.Refusal{Reply: mta.Reply{Code: code, Text: "no"}}
			r := w.start()
			defer r.Stop(t.Context())
			r.Count(session("example.com"))
			time.Sleep(29 * time.Hour)
			w.intake.mu.Lock()
			w.intake.refuse = nil
			w.intake.mu.Unlock()
			time.Sleep(7 * time.Hour)
			said := w.said()
			if len(said) != 1 || (said[0].Err == nil) != (code == 452) {
				t.Errorf("after %d: told %+v", code, said)
			}
		})
	}
}

// TestUnsignedReportsStay: receivers must ignore what is not signed (RFC 8460 3),
// so it is not sent by mail.
func TestUnsignedReportsStay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.signs = func(string) bool { return false }
		w.ask("both.example", "mailto:tls@both.example,https://r.example.com/")
		w.ask("mail.example", "mailto:tls@mail.example")
		r := w.start()
		defer r.Stop(t.Context())
		r.Count(session("both.example"))
		r.Count(session("mail.example"))
		time.Sleep(29 * time.Hour)
		if n := len(w.intake.mails()); n != 0 || len(w.web.got()) != 1 || r.Counts().Unsigned != 2 {
			t.Errorf("%d mails, %d posts, counts %+v", n, len(w.web.got()), r.Counts())
		}
		if left := w.notes.names(); len(left) != 0 {
			t.Errorf("notes are left: %q", left)
		}
	})
}

// TestOptOut: with send = false nothing is counted or sent, and what waits goes.
func TestOptOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.ask("example.com", "mailto:tls@example.com,https://r.example.com/")
		r := w.start()
		defer r.Stop(t.Context())
		r.Count(session("example.com"))
		time.Sleep(KeepPace + time.Minute)
		off := w.settings
		off.Send = false
		r.Reconfigure(off)
		r.Count(session("example.com"))
		time.Sleep(48 * time.Hour)
		if left := w.notes.names(); len(left) != 0 || len(w.said()) != 0 || r.Counts().Domains != 0 {
			t.Errorf("left %q, told %v, counts %+v", left, w.said(), r.Counts())
		}
		r.Reconfigure(w.settings)
		r.Count(session("example.com"))
		time.Sleep(29 * time.Hour)
		if n := len(w.said()); n != 2 {
			t.Errorf("%d receivers after it was turned on again", n)
		}
	})
}
