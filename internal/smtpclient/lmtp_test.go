package smtpclient

import (
	"net"
	"testing"
	"time"

	"mailout/internal/mta"
)

const lmtp = "S: 220 store LMTP\nC: LHLO out.example.org\nS: 250-store\nS: 250-PIPELINING\nS: 250 CHUNKING\n"

func lmtpOptions() Options {
	o := plain
	o.LMTP = true
	return o
}

// TestLMTP: each recipient has the answer of its own after the content; who has
// none is uncertain (RFC 2033 4.2).
func TestLMTP(t *testing.T) {
	three := to("b@example.net", "c@example.net", "d@example.net")
	head := lmtp + "C: MAIL FROM:<a@example.org>\nC: RCPT TO:<b@example.net>\nC: RCPT TO:<c@example.net>\nC: RCPT TO:<d@example.net>\nC: DATA\nS: 250 ok\n"
	all := "S: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\n"
	for _, c := range []sent{
		{name: "all taken", usable: true, script: head + all + "data\nS: 250 2.0.0 b\nS: 250 2.0.0 c\nS: 250 2.0.0 d",
			want: "delivered 250 2.0.0 b | delivered 250 2.0.0 c | delivered 250 2.0.0 d", data: note},
		{name: "each another", usable: true, script: head + all + "data\nS: 250 2.0.0 b\nS: 452 4.2.2 full\nS: 550 5.1.1 gone",
			want: "delivered 250 2.0.0 b | failed final: 452 4.2.2 full | failed final: 550 5.1.1 gone"},
		{name: "bare 452 and 552 are no invitation", usable: true, script: head + all + "data\nS: 250 b\nS: 452 full\nS: 552 full",
			want: "delivered 250 b | failed final: 452 full | failed final: 552 full"},
		{name: "one refused at RCPT", usable: true, script: head + "S: 250 ok\nS: 550 5.1.1 gone\nS: 250 ok\nS: 354 go\ndata\nS: 250 b\nS: 250 d",
			want: "delivered 250 b | failed rcpt: 550 5.1.1 gone | delivered 250 d"},
		{name: "closed after one answer", script: head + all + "data\nS: 250 b\nclose",
			want: "delivered 250 b | failed final: connection closed at the end of the message | failed final: connection closed at the end of the message"},
		{name: "421 for one", script: head + all + "data\nS: 250 b\nS: 421 4.3.2 bye\nclose",
			want: "delivered 250 b | failed final: 421 4.3.2 bye | failed final: connection closed at the end of the message"},
		{name: "no time for the last", took: 10 * time.Minute, script: head + all + "data\nS: 250 b\nS: 250 c\nstall",
			want: "delivered 250 b | delivered 250 c | failed final: no answer to the end of the message in time"},
		{name: "nonsense for one", script: head + all + "data\nS: 250 b\nS: 354 more\nS: 250 d",
			want: "delivered 250 b | failed final: the message was answered 354 more | delivered 250 d"},
		{name: "nobody accepted", usable: true, script: head + "S: 550 no\nS: 550 no\nS: 550 no\nS: 503 5.5.1 no recipients",
			want: "failed rcpt: 550 no | failed rcpt: 550 no | failed rcpt: 550 no"},
		{name: "nobody accepted, and 354", script: head + "S: 550 no\nS: 550 no\nS: 550 no\nS: 354 go",
			want: "failed rcpt: 550 no | failed rcpt: 550 no | failed rcpt: 550 no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.tx = three
			play(t, c.script, func(t *testing.T, conn net.Conn) {
				s := opened(t, conn, lmtpOptions())
				start := time.Now()
				o := s.Send(c.tx)
				if got := lmtpOutcome(&o); got != c.want {
					t.Errorf("\n got %s\nwant %s", got, c.want)
				}
				for i := range o.Verdicts {
					v := &o.Verdicts[i]
					lost := v.Failure != nil && v.Failure.Stage == mta.StageFinal && v.Failure.Cause != mta.CauseReply
					if lost && !v.Failure.Sent || !lost && v.Failure != nil && v.Failure.Sent {
						t.Errorf("recipient %d: %+v", i, v.Failure)
					}
					if v.Failure != nil && v.Failure.Cause == mta.CauseReply && v.Failure.Each != (v.Failure.Stage == mta.StageFinal) {
						t.Errorf("recipient %d: %+v", i, v.Failure)
					}
				}
				if s.Usable() != c.usable || time.Since(start) != c.took {
					t.Errorf("usable %t after %v", s.Usable(), time.Since(start))
				}
				s.Close()
			})
		})
	}
}

// TestLMTPSecond: a second message of the session, after one that was taken for
// some only.
func TestLMTPSecond(t *testing.T) {
	script := lmtp + "C: MAIL FROM:<a@example.org>\nC: RCPT TO:<b@example.net>\nC: RCPT TO:<c@example.net>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 250 ok\nS: 354 go\ndata\nS: 250 b\nS: 450 later\n" +
		"C: MAIL FROM:<a@example.org>\nC: RCPT TO:<c@example.net>\nC: DATA\nS: 250 ok\nS: 250 ok\nS: 354 go\ndata\nS: 250 c"
	play(t, script, func(t *testing.T, conn net.Conn) {
		s := opened(t, conn, lmtpOptions())
		first := s.Send(to("b@example.net", "c@example.net"))
		if got := lmtpOutcome(&first); got != "delivered 250 b | failed final: 450 later" {
			t.Error(got)
		}
		second := s.Send(to("c@example.net"))
		if got := lmtpOutcome(&second); got != "delivered 250 c" {
			t.Error(got)
		}
		s.Close()
	})
}

// TestLHLORefused: there is no HELO in LMTP.
func TestLHLORefused(t *testing.T) {
	play(t, "S: 220 store\nC: LHLO out.example.org\nS: 500 what\nC: QUIT\nS: 221 bye", func(t *testing.T, conn net.Conn) {
		if _, f := Open(t.Context(), conn, lmtpOptions()); f == nil || f.Stage != mta.StageEhlo || f.Reply.Code != 500 {
			t.Errorf("%v", f)
		}
	})
}

// lmtpOutcome is an outcome in one line, with each recipient's own reply.
func lmtpOutcome(o *Outcome) string {
	out := ""
	for i, v := range o.Verdicts {
		if i > 0 {
			out += " | "
		}
		switch v.Fate {
		case Delivered:
			r := o.ReplyTo(i)
			out += "delivered " + r.String()
		case Failed:
			out += "failed " + v.Failure.Error()
		default:
			out += "untried"
		}
	}
	return out
}
