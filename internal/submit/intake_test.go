package submit

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

const full = "Date: x\r\nFrom: y\r\nMessage-ID: <z@y>\r\n"

// sizes are the pieces in which every content is given.
var sizes = []int{0, 1, 2, 3, 7}

// Row 20 of the traps: whatever stands where, the content that is stored is
// the content that was given.
func TestTrap20_DotsAndEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, in, want string }{
		{"headers only", full, full + "\r\n"},
		{"headers only, no line end", strings.TrimSuffix(full, "\r\n"), full + "\r\n"},
		{"headers and empty body", full + "\r\n", full + "\r\n"},
		{"body of one dot", full + "\r\n.\r\n", full + "\r\n.\r\n"},
		{"body of one dot, no line end", full + "\r\n.", full + "\r\n.\r\n"},
		{"two dots", full + "\r\n..\r\n.\r\n", full + "\r\n..\r\n.\r\n"},
		{"no final CRLF", full + "\r\nhello", full + "\r\nhello\r\n"},
		{"empty lines", full + "\r\n\r\n\r\n", full + "\r\n\r\n\r\n"},
		{"dot in front of the header", ".\r\n" + full, "Date: Wed, 4 Mar 2026 11:00:00 +0000\r\nFrom: app@example.com\r\nMessage-ID: <@>\r\n\r\n.\r\n" + full},
		{"empty", "", "Date: Wed, 4 Mar 2026 11:00:00 +0000\r\nFrom: app@example.com\r\nMessage-ID: <@>\r\n\r\n"},
		{"empty header", "\r\nbody\r\n", "Date: Wed, 4 Mar 2026 11:00:00 +0000\r\nFrom: app@example.com\r\nMessage-ID: <@>\r\n\r\nbody\r\n"},
		{"one line end", "\r\n", "Date: Wed, 4 Mar 2026 11:00:00 +0000\r\nFrom: app@example.com\r\nMessage-ID: <@>\r\n\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) { wantContent(t, request(), tc.in, tc.want) })
	}
}

// wantContent submits in pieces of several sizes; "<@>" in want stands for the
// Message-ID that intake made.
func wantContent(t *testing.T, r *Request, in, want string) {
	t.Helper()
	for _, size := range sizes {
		w := newWorld()
		sub, out, err := w.submit(t, r, in, size)
		if err != nil {
			t.Fatalf("pieces of %d: %v", size, err)
		}
		want := strings.ReplaceAll(want, "<@>", "<"+sub.Message.ID.String()+"@out.example.com>")
		if got := cut(t, out); got != want {
			t.Fatalf("pieces of %d:\n got %q\nwant %q", size, got, want)
		}
		if sub.Message.Size != int64(len(out)) {
			t.Errorf("size %d of %d", sub.Message.Size, len(out))
		}
	}
}

// Row 21 of the traps: line ends that smuggle are refused, or repaired where
// the listener says so.
func TestTrap21_BareLineEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, body, repaired, refusal string }{
		{"LF dot LF", "a\n.\nb\r\n", "a\r\n.\r\nb\r\n", "bare LF on line 5"},
		{"CR dot CR", "a\r.\rb\r\n", "a\r\n.\r\nb\r\n", "bare CR on line 5"},
		{"LF dot CRLF", "a\r\nb\n.\r\nc\r\n", "a\r\nb\r\n.\r\nc\r\n", "bare LF on line 6"},
		{"CRLF dot LF", "a\r\n.\nb\r\n", "a\r\n.\r\nb\r\n", "bare LF on line 6"},
		{"CR at the end", "a\r", "a\r\n", "bare CR on line 5"},
		{"LF at the end", "a\n", "a\r\n", "bare LF on line 5"},
		{"CRs before LF are one line end", "a\r\r\nb\r\n", "a\r\nb\r\n", "bare CR on line 5"},
		{"LF CR", "a\n\rb", "a\r\n\r\nb\r\n", "bare LF on line 5"},
		{"two CRs", "a\r\rb\r\n", "a\r\n\r\nb\r\n", "bare CR on line 5"},
		{"many CRs", "a" + strings.Repeat("\r", 20) + "\n", "a" + strings.Repeat("\r\n", 17), "bare CR on line 5"},
		{"LF alone", "\n", "\r\n", "bare LF on line 5"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := request()
			r.LineEnds = RepairBare
			wantContent(t, r, full+"\r\n"+tc.body, full+"\r\n"+tc.repaired)
			for _, size := range sizes {
				_, _, err := newWorld().submit(t, request(), full+"\r\n"+tc.body, size)
				wantRefusal(t, err, 554, "5.6.0", tc.refusal)
				if !strings.Contains(err.Error(), `bare_lf = "repair"`) {
					t.Errorf("the way out is not told: %v", err)
				}
			}
		})
	}
}

func wantRefusal(t *testing.T, err error, code int, enhanced, text string) {
	t.Helper()
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("no refusal: %v", err)
	}
	if r.Reply.Code != code || r.Reply.Enhanced.String() != enhanced || !strings.Contains(r.Reply.Text, text) {
		t.Fatalf("refused with %v, want %d %s %s", r, code, enhanced, text)
	}
}

// A file of an IBM i: bare LF everywhere, and a header that stays a header.
func TestRepairedHeader(t *testing.T) {
	t.Parallel()
	r := request()
	r.LineEnds = RepairBare
	wantContent(t, r, strings.ReplaceAll(full+"Subject: a\r\n b\r\n\r\nx\r\n", "\r\n", "\n"), full+"Subject: a\r\n b\r\n\r\nx\r\n")
	wantContent(t, r, strings.ReplaceAll(full+"Subject: a\r\n\r\nx\r\n", "\r\n", "\r\r\n"), full+"Subject: a\r\n\r\nx\r\n")
	wantContent(t, r, strings.ReplaceAll(full+"\r\nx\r\n", "\r\n", "\r"), full+"\r\nx\r\n")
}

func TestNULIsRefused(t *testing.T) {
	t.Parallel()
	for _, ends := range []LineEnds{RefuseBare, RepairBare} {
		for _, size := range sizes {
			r := request()
			r.LineEnds = ends
			_, _, err := newWorld().submit(t, r, full+"\r\na\r\nb\x00c\r\n", size)
			wantRefusal(t, err, 554, "5.6.0", "NUL on line 6")
		}
	}
}

// Row 22 of the traps: long lines are defined; body never becomes header, nor
// header body.
func TestTrap22_LongLinesAndWhatIsHeader(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("y", 5000)
	words := strings.TrimSuffix(strings.Repeat("0123456789 ", 180), " ")
	fold := strings.LastIndexByte(words[:998-len("X: ")+1], ' ') // the last white space within 998 octets
	added := "Date: Wed, 4 Mar 2026 11:00:00 +0000\r\nFrom: app@example.com\r\nMessage-ID: <@>\r\n\r\n"
	for _, tc := range []struct{ name, in, want string }{
		{"long line in the body", full + "\r\n" + long + "\r\n", full + "\r\n" + long + "\r\n"},
		{"long field without white space", full + "X:" + long + "\r\n\r\n", full + "X:" + long + "\r\n\r\n"},
		{"long field", full + "X: " + words + "\r\n\r\n", full + "X: " + words[:fold] + "\r\n" + words[fold:] + "\r\n\r\n"},
		{"no field in the header", full + "no field\r\nBcc: kept@body\r\n\r\nx\r\n", full + "\r\nno field\r\nBcc: kept@body\r\n\r\nx\r\n"},
		{"no header at all", "hello\r\nworld\r\n", added + "hello\r\nworld\r\n"},
		{"no header, one word", "hello", added + "hello\r\n"},
		{"starts with a space", " x: y\r\n\r\nz\r\n", added + " x: y\r\n\r\nz\r\n"},
		{"mbox line", "From app Mon Nov 23 2026\r\n" + full + "\r\nx\r\n", full + "\r\nx\r\n"},
		{"quoted mbox line", ">From app Mon Nov 23 2026\r\n" + full + "\r\nx\r\n", full + "\r\nx\r\n"},
		{"a second mbox line is body", "From a b\r\nFrom c d\r\nx\r\n", added + "From c d\r\nx\r\n"},
		{"mbox line alone", "From a b", added},
		{"From in the body stays", full + "\r\nFrom a b\r\n", full + "\r\nFrom a b\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			wantContent(t, request(), tc.in, tc.want)
		})
	}
}

// Row 25 of the traps.
func TestTrap25_HeaderIsCompleted(t *testing.T) {
	t.Parallel()
	const d, f, m = "Date: Wed, 4 Mar 2026 11:00:00 +0000\r\n", "From: app@example.com\r\n", "Message-ID: <@>\r\n"
	for _, tc := range []struct{ name, in, want string }{
		{"all there", full + "\r\n", full + "\r\n"},
		{"in any case", "DATE: x\r\nfrom: y\r\nMessage-Id: <z>\r\n\r\n", "DATE: x\r\nfrom: y\r\nMessage-Id: <z>\r\n\r\n"},
		{"none there", "Subject: x\r\n\r\n", "Subject: x\r\n" + d + f + m + "\r\n"},
		{"Date missing", "From: y\r\nMessage-ID: <z>\r\n\r\n", "From: y\r\nMessage-ID: <z>\r\n" + d + "\r\n"},
		{"From missing, Sender there", "Date: x\r\nSender: y\r\nMessage-ID: <z>\r\n\r\n", "Date: x\r\nSender: y\r\nMessage-ID: <z>\r\n" + f + "\r\n"},
		{"no value is none", "Date: \r\n \r\nFrom:\r\nMessage-ID: \t\r\n\r\n", d + f + m + "\r\n"},
		{"twice stays twice", full + full + "\r\n", full + full + "\r\n"},
		{"Bcc", full + "Bcc: a@b\r\nTo: c@d\r\n\r\n", full + "To: c@d\r\n\r\n"},
		{"Bcc in any case, folded", full + "bCC: a@b,\r\n c@d,\r\n\te@f\r\nTo: x\r\n\r\n", full + "To: x\r\n\r\n"},
		{"Bcc with white space before the colon", full + "Bcc : a@b\r\n\r\n", full + "\r\n"},
		{"Bcc last and cut off", full + "Bcc: a@b", full + "\r\n"},
		{"Resent-Bcc", full + "RESENT-bcc: a@b\r\nBcc-Note: kept\r\n\r\n", full + "Bcc-Note: kept\r\n\r\n"},
		{"Return-Path", "Return-Path: <a@b>\r\n" + full + "return-path:\r\n <c@d>\r\n\r\n", full + "\r\n"},
		{"Bcc in the body stays", full + "\r\nBcc: a@b\r\n", full + "\r\nBcc: a@b\r\n"},
	} {
		t.Run(tc.name, func(t *testing.T) { wantContent(t, request(), tc.in, tc.want) })
	}
	null := request()
	null.Envelope.Sender = ""
	wantContent(t, null, "Date: x\r\nMessage-ID: <z>\r\n\r\n", "Date: x\r\nMessage-ID: <z>\r\nFrom: MAILER-DAEMON@out.example.com\r\n\r\n")
}

// Row 26 of the traps, at the last door: an envelope sender that no grammar
// should have let through makes no header field.
func TestTrap26_SenderMakesNoField(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a@b\r\nBcc: x", "a\u0085@b", "a@b\x00"} {
		r := request()
		r.Envelope.Sender = bad
		wantContent(t, r, "Date: x\r\nMessage-ID: <z>\r\n\r\n", "Date: x\r\nMessage-ID: <z>\r\nFrom: MAILER-DAEMON@out.example.com\r\n\r\n")
	}
}

// Row 29 of the traps.
func TestTrap29_TooManyReceived(t *testing.T) {
	t.Parallel()
	hops := func(n int) string {
		return strings.Repeat("received: x\r\n y\r\n", n) + full + "\r\nReceived: body\r\n"
	}
	if _, _, err := newWorld().submit(t, request(), hops(100), 0); err != nil {
		t.Errorf("100 hops: %v", err)
	}
	_, _, err := newWorld().submit(t, request(), hops(101), 0)
	wantRefusal(t, err, 554, "5.4.6", "loop")
	w := newWorld(func(o *Options) { o.Settings.MaxHops = 2 })
	_, _, err = w.submit(t, request(), hops(3), 5)
	wantRefusal(t, err, 554, "5.4.6", "loop")
}

// Row 24 of the traps, its first half: what needs SMTPUTF8 is known at arrival.
func TestTrap24_MessageFacts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, in       string
		eight, utf8    bool
		messageID      string
		sender, stream string
	}{
		{"ASCII", full + "\r\nx\r\n", false, false, "<z@y>", "app@example.com", ""},
		{"8-bit body", full + "\r\n\xe4\r\n", true, false, "<z@y>", "app@example.com", "news"},
		{"UTF-8 header", full + "Subject: ä\r\n\r\nx\r\n", true, true, "<z@y>", "app@example.com", ""},
		{"header neither ASCII nor UTF-8", full + "Subject: \xe4\r\n\r\nx\r\n", true, false, "<z@y>", "app@example.com", ""},
		{"sender not ASCII", "Subject: x\r\n\r\n", true, true, "", "ä@example.com", ""},
		{"folded Message-ID", "Message-ID:\r\n <a\x01@b>\r\n\r\n", false, false, "<a?@b>", "app@example.com", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld()
			r := request()
			r.Envelope.Sender, r.Stream = tc.sender, tc.stream
			sub, _, err := w.submit(t, r, tc.in, 0)
			if err != nil {
				t.Fatal(err)
			}
			m := sub.Message
			if m.EightBit != tc.eight || m.UTF8 != tc.utf8 {
				t.Errorf("eight bits %v, UTF-8 %v", m.EightBit, m.UTF8)
			}
			if tc.messageID != "" && m.MessageID != tc.messageID {
				t.Errorf("Message-ID %q", m.MessageID)
			}
			want := tc.stream
			if want == "" {
				want = mta.DefaultStream
			}
			if m.Stream != want || sub.Deliveries[0].Destination.Stream != want {
				t.Errorf("stream %q", m.Stream)
			}
			if !m.Arrived.Equal(m.ID.Time()) || m.Arrived.Nanosecond()%1e6 != 0 || m.Arrived.Location().String() != "UTC" || !sub.Deliveries[0].Due.Equal(m.Arrived) {
				t.Errorf("arrived %v, ID of %v, due %v", m.Arrived, m.ID.Time(), sub.Deliveries[0].Due)
			}
			if len(w.queue.added) != 1 || w.queue.added[0] != sub.Deliveries[0] {
				t.Error("the queue was not told")
			}
		})
	}
}

func TestSplitIntoDeliveries(t *testing.T) {
	t.Parallel()
	w := newWorld(func(o *Options) { o.Settings.MaxPerDelivery = 2 })
	r := request("a@x", "b@y", "c@x", "a@x", "d@x", "A@x", `"e@f"@y`, "g@[192.0.2.1]")
	sub, out, err := w.submit(t, r, full, 0)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out, "for <") {
		t.Error("a recipient is named though there are several")
	}
	r.Recipients[0].Address = "the door uses its memory again"
	var got []string
	for i, d := range sub.Deliveries {
		if int(d.N) != i || d.Message != sub.Message || d.State != mta.Queued {
			t.Errorf("delivery %d: %+v", i, d)
		}
		var rcpts []string
		for _, rc := range d.Recipients {
			rcpts = append(rcpts, rc.Address)
		}
		got = append(got, d.Destination.Domain+"="+strings.Join(rcpts, ","))
	}
	want := `x=a@x,c@x y=b@y,"e@f"@y x=d@x,A@x [192.0.2.1]=g@[192.0.2.1]`
	if strings.Join(got, " ") != want || sub.Message.Deliveries != 4 {
		t.Errorf("got  %s (%d)\nwant %s", strings.Join(got, " "), sub.Message.Deliveries, want)
	}
	if len(sub.Records) != 7 {
		t.Fatalf("%d records", len(sub.Records))
	}
	rec := sub.Records[3]
	if rec.Event != mta.EventAccepted || rec.Recipient != `"e@f"@y` || rec.Destination != "y" || rec.ID != sub.Message.ID || rec.MessageID != "<z@y>" || rec.Sender != "app@example.com" || rec.Size != sub.Message.Size || !rec.Time.Equal(sub.Message.Arrived) {
		t.Errorf("record %+v", rec)
	}
}

func TestForNamesTheOnlyRecipient(t *testing.T) {
	t.Parallel()
	r := request("a@example.net")
	r.Envelope.SMTPUTF8 = true
	sub, out, err := newWorld().submit(t, r, full, 0)
	if err != nil || !strings.Contains(out, "with UTF8SMTP id "+sub.Message.ID.String()+"\r\n\tfor <a@example.net>;\r\n") {
		t.Errorf("%q, %v", out, err)
	}
	r.Recipients[0].Address = "later"
	if sub.Deliveries[0].Recipients[0].Address != "a@example.net" {
		t.Error("the delivery shares the door's memory")
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	small := func(o *Options) { o.Settings.MaxSize, o.Settings.MaxRecipients = 100, 2 }
	exact := full + "\r\n" + strings.Repeat("x", 100-len(full)-4) + "\r\n"
	if _, _, err := newWorld(small).submit(t, request(), exact, 9); err != nil {
		t.Errorf("a message of exactly the limit: %v", err)
	}
	_, _, err := newWorld(small).submit(t, request(), exact+"x", 9)
	wantRefusal(t, err, 552, "5.3.4", "larger than 100")
	declared := request()
	declared.DeclaredSize = 101
	wantRefusal(t, newWorld(small).Check(t.Context(), declared), 552, "5.3.4", "larger")
	declared.DeclaredSize = 100
	if err := newWorld(small).Check(t.Context(), declared); err != nil {
		t.Error(err)
	}
	_, _, err = newWorld(small).submit(t, request("a@x", "b@x", "c@x"), full, 0)
	wantRefusal(t, err, 452, "4.5.3", "more than 2")
	none := request()
	none.Recipients = nil
	_, _, err = newWorld().submit(t, none, full, 0)
	wantRefusal(t, err, 554, "5.5.1", "no recipients")
	_, _, err = newWorld().submit(t, request("nodomain"), full, 0)
	wantRefusal(t, err, 550, "5.1.3", "no domain")
	for _, head := range []string{strings.Repeat("X:\r\n", 10_001), "X: " + strings.Repeat("x", 1<<20)} {
		_, _, err = newWorld().submit(t, request(), head+"\r\n\r\n", 0)
		wantRefusal(t, err, 552, "5.3.4", "header")
	}
}

func TestOwnTroubleIsTemporary(t *testing.T) {
	t.Parallel()
	full := fmt.Errorf("a write: %w", spool.ErrFull)
	disk := errors.New("input/output error")
	for _, tc := range []struct {
		name     string
		options  func(*Options)
		code     int
		enhanced string
	}{
		{"memory", func(o *Options) { o.Busy = func() bool { return true } }, 452, "4.3.1"},
		{"space known before", func(o *Options) { o.Full = func() bool { return true } }, 452, "4.3.1"},
		{"space at the draft", func(o *Options) { o.Store.(*memStore).draftErr = full }, 452, "4.3.1"},
		{"space at writing", func(o *Options) { o.Store.(*memStore).writeErr = full }, 452, "4.3.1"},
		{"space at storing", func(o *Options) { o.Store.(*memStore).putErr = full }, 452, "4.3.1"},
		{"disk at the draft", func(o *Options) { o.Store.(*memStore).draftErr = disk }, 451, "4.3.0"},
		{"disk at writing", func(o *Options) { o.Store.(*memStore).writeErr = disk }, 451, "4.3.0"},
		{"disk at storing", func(o *Options) { o.Store.(*memStore).putErr = disk }, 451, "4.3.0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(tc.options)
			_, _, err := w.submit(t, request(), "Subject: x\r\n\r\nbody\r\n", 4)
			wantRefusal(t, err, tc.code, tc.enhanced, "try again later")
			if strings.Contains(err.Error(), "input/output") {
				t.Error("our trouble is shown to the peer")
			}
			if len(w.queue.added) > 0 {
				t.Error("the queue was told of a message that is not stored")
			}
		})
	}
}

// A sender that goes away before Commit gets no message stored; one that goes
// away while it is being stored does not keep it from the queue.
func TestCancelledContext(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d, err := w.Begin(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = d.Commit(ctx)
	wantRefusal(t, err, 451, "4.3.0", "")
	if len(w.store.put) > 0 || w.store.live != 0 {
		t.Error("something was stored, or leaks")
	}
	if _, err := w.Begin(ctx, request()); err == nil {
		t.Error("a dead context began a message")
	}
	ctx, w.store.onPut = withCancel(t)
	if d, err = w.Begin(ctx, request()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(ctx); err != nil || len(w.queue.added) != 1 {
		t.Errorf("a sender that left while its message was stored: %v, %d in the queue", err, len(w.queue.added))
	}
}

func withCancel(t *testing.T) (context.Context, func()) {
	return context.WithCancel(t.Context())
}

func TestDraftEndsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d, err := w.Begin(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.Abort()
	if _, err := d.Write([]byte("x")); err == nil {
		t.Error("wrote after Commit")
	}
	if _, err := d.Commit(t.Context()); err == nil {
		t.Error("committed twice")
	}
	if len(w.store.put) != 1 {
		t.Errorf("%d messages", len(w.store.put))
	}
	d, _ = w.Begin(t.Context(), request())
	d.Abort()
	d.Abort()
	if _, err := d.Commit(t.Context()); err == nil || len(w.store.put) != 1 {
		t.Error("committed what was aborted")
	}
}

func TestConfigureWhileReceiving(t *testing.T) {
	t.Parallel()
	w := newWorld()
	d, err := w.Begin(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	w.Configure(Settings{Hostname: "new.example.com", MaxSize: 1})
	if _, err := d.Write([]byte(full)); err != nil {
		t.Errorf("a message in progress fell under new settings: %v", err)
	}
	if _, err := d.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	_, _, err = w.submit(t, request(), full, 0)
	wantRefusal(t, err, 552, "5.3.4", "")
}

func TestIDsDiffer(t *testing.T) {
	t.Parallel()
	w := newWorld()
	seen := map[mta.ID]bool{}
	for range 2000 {
		id, err := w.newID(noon)
		if err != nil || seen[id] {
			t.Fatal("an ID came twice", err)
		}
		seen[id] = true
	}
}
