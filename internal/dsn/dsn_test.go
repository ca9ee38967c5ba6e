package dsn

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
)

var when = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

const original = "Received: x\r\nFrom: app@example.com\r\nTo: b@example.net\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nMessage-ID: <1@app>\r\n\r\nthe body\r\n.\r\n"

func failure() *Report {
	return &Report{
		ID: mta.NewID(when, [10]byte{1, 2, 3}), Date: when, Hostname: "out.example.com", Postmaster: "postmaster@example.com",
		To: "app@example.com", Sender: "app@example.com", MessageID: "<1@app>", Arrived: when.Add(-time.Hour),
		EnvelopeID: "QQ 314+1=x",
		Recipients: []Recipient{{
			Address: "b@example.net", Original: "rfc822;B+x@Example.net", Action: Failed,
			Status: mta.Enhanced{Class: 5, Subject: 1, Detail: 1}, Remote: "mx.example.net",
			Reply:       mta.Reply{Code: 550, Enhanced: mta.Enhanced{Class: 5, Subject: 1, Detail: 1}, Text: "no such user\nat all"},
			LastAttempt: when.Add(-time.Minute),
		}},
	}
}

func build(t testing.TB, r *Report, content string) (string, Facts) {
	t.Helper()
	var b bytes.Buffer
	facts, err := r.Write(&b, strings.NewReader(content), int64(len(content)))
	if err != nil {
		t.Fatal(err)
	}
	out := b.String()
	if n := strings.Count(out, "\r\n"); n != strings.Count(out, "\r") || n != strings.Count(out, "\n") || !strings.HasSuffix(out, "\r\n") {
		t.Fatal("the report has line ends other than CRLF")
	}
	for line := range strings.SplitSeq(out, "\r\n") {
		if len(line) > header.MaxLine {
			t.Fatalf("a line of %d octets", len(line))
		}
	}
	if facts.EightBit != header.EightBit(b.Bytes()) {
		t.Fatalf("8-bit is said to be %v", facts.EightBit)
	}
	return out, facts
}

// parts reads a report with the standard library.
func parts(t testing.TB, msg string) (*mail.Message, []string, []string) {
	t.Helper()
	m, err := mail.ReadMessage(strings.NewReader(msg))
	if err != nil {
		t.Fatal(err)
	}
	kind, params, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" || params["report-type"] != "delivery-status" {
		t.Fatalf("type %s %v, %v", kind, params, err)
	}
	var types, bodies []string
	r := multipart.NewReader(m.Body, params["boundary"])
	for {
		p, err := r.NextPart()
		if err == io.EOF {
			return m, types, bodies
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(p)
		if err != nil {
			t.Fatal(err)
		}
		types, bodies = append(types, p.Header.Get("Content-Type")), append(bodies, string(b))
	}
}

// Row 41 of the traps: what keeps reports from going in circles stands in them.
func TestTrap41_ReportNamesItselfAutomatic(t *testing.T) {
	t.Parallel()
	out, _ := build(t, failure(), original)
	m, _, _ := parts(t, out)
	for name, want := range map[string]string{
		"Auto-Submitted": "auto-replied", "From": "Mail Delivery System <MAILER-DAEMON@out.example.com>", "To": "<app@example.com>",
		"In-Reply-To": "<1@app>", "References": "<1@app>", "Mime-Version": "1.0", "Date": "Wed, 4 Mar 2026 05:06:07 +0000",
		"Message-ID": "<" + failure().ID.String() + "@out.example.com>", "Subject": "Your message could not be delivered",
	} {
		if got := m.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	notice := failure()
	notice.Notice, notice.Sender = true, ""
	out, _ = build(t, notice, original)
	if m, _, _ = parts(t, out); m.Header.Get("Auto-Submitted") != "auto-generated" {
		t.Error("a notice answers nobody")
	}
}

func TestFailureReport(t *testing.T) {
	t.Parallel()
	out, facts := build(t, failure(), original)
	if facts.EightBit || facts.UTF8 {
		t.Errorf("%+v of an ASCII report", facts)
	}
	_, types, bodies := parts(t, out)
	if got := strings.Join(types, "|"); got != "text/plain; charset=utf-8|message/delivery-status|message/rfc822" {
		t.Errorf("types %s", got)
	}
	status := "Reporting-MTA: dns; out.example.com\r\nOriginal-Envelope-Id: QQ 314+1=x\r\nArrival-Date: Wed, 4 Mar 2026 04:06:07 +0000\r\n\r\n" +
		"Original-Recipient: rfc822; B+x@Example.net\r\nFinal-Recipient: rfc822; b@example.net\r\nAction: failed\r\nStatus: 5.1.1\r\n" +
		"Remote-MTA: dns; mx.example.net\r\nDiagnostic-Code: smtp; 550 5.1.1 no such user at all\r\nLast-Attempt-Date: Wed, 4 Mar 2026 05:05:07 +0000\r\n"
	if bodies[1] != status {
		t.Errorf("status\n%s\nwant\n%s", bodies[1], status)
	}
	if bodies[2] != original {
		t.Errorf("original %q", bodies[2])
	}
	for _, want := range []string{"b@example.net", "(sent to B+x@Example.net)", "mx.example.net said: 550 5.1.1 no such user at all", "Please check the part", "Subject:    Grüße", "postmaster@example.com", "The message itself is attached."} {
		if !strings.Contains(bodies[0], want) {
			t.Errorf("the text does not say %q:\n%s", want, bodies[0])
		}
	}
}

// Row 42 of the traps: RET, ENVID and ORCPT as RFC 3461 says.
func TestTrap42_WhatIsReturned(t *testing.T) {
	t.Parallel()
	big := original + strings.Repeat("0123456789\r\n", DefaultFull/12+1)
	huge := original + strings.Repeat("0123456789\r\n", MaxFull/12+1)
	for _, tc := range []struct {
		name    string
		ret     mta.Ret
		action  Action
		content string
		change  func(*Report)
		want    string
	}{
		{"default, small", mta.RetDefault, Failed, original, nil, "message/rfc822"},
		{"default, big", mta.RetDefault, Failed, big, nil, "text/rfc822-headers"},
		{"default, big, limit raised", mta.RetDefault, Failed, big, func(r *Report) { r.FullLimit = 1 << 20 }, "message/rfc822"},
		{"RET=HDRS", mta.RetHeaders, Failed, original, nil, "text/rfc822-headers"},
		{"RET=FULL, big", mta.RetFull, Failed, big, nil, "message/rfc822"},
		{"RET=FULL, huge", mta.RetFull, Failed, huge, nil, "text/rfc822-headers"},
		{"RET=FULL, delay", mta.RetFull, Delayed, original, nil, "text/rfc822-headers"},
		{"RET=FULL, relayed", mta.RetFull, Relayed, original, nil, "text/rfc822-headers"},
		{"RET=FULL, REQUIRETLS", mta.RetFull, Failed, original, func(r *Report) { r.HeadersOnly = true }, "text/rfc822-headers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := failure()
			r.Ret, r.Recipients[0].Action = tc.ret, tc.action
			if tc.change != nil {
				tc.change(r)
			}
			out, _ := build(t, r, tc.content)
			_, types, bodies := parts(t, out)
			if types[2] != tc.want {
				t.Errorf("returned as %s", types[2])
			}
			if tc.want == "message/rfc822" && bodies[2] != tc.content || tc.want != "message/rfc822" && bodies[2] != original[:strings.Index(original, "\r\n\r\n")+2] {
				t.Error("what is returned is not what was given")
			}
		})
	}
	r := failure()
	r.EnvelopeID, r.Recipients[0].Original = "", ""
	out, _ := build(t, r, original)
	if strings.Contains(out, "Original-Envelope-Id") || strings.Contains(out, "Original-Recipient") {
		t.Error("ENVID or ORCPT that nobody gave")
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		rc     Recipient
		fields string
	}{
		{"5xx without enhanced code", Recipient{Action: Failed, Remote: "mx", Reply: mta.Reply{Code: 554, Text: "no"}},
			"Action: failed\r\nStatus: 5.0.0\r\nRemote-MTA: dns; mx\r\nDiagnostic-Code: smtp; 554 no\r\n"},
		{"no such domain", Recipient{Action: Failed, Status: mta.Enhanced{Class: 5, Subject: 1, Detail: 2}, Reason: "example.net does not exist"},
			"Action: failed\r\nStatus: 5.1.2\r\nDiagnostic-Code: x-mailout; example.net does not exist\r\n"},
		{"expired, with the last real reply", Recipient{Action: Failed, Status: mta.Enhanced{Class: 5, Subject: 4, Detail: 7}, Remote: "mx", Reply: mta.Reply{Code: 451, Enhanced: mta.Enhanced{Class: 4, Subject: 7, Detail: 1}, Text: "greylisted"}},
			"Action: failed\r\nStatus: 5.4.7\r\nRemote-MTA: dns; mx\r\nDiagnostic-Code: smtp; 451 4.7.1 greylisted\r\n"},
		{"delayed", Recipient{Action: Delayed, LastAttempt: when, RetryUntil: when.Add(time.Hour)},
			"Action: delayed\r\nStatus: 4.0.0\r\nLast-Attempt-Date: Wed, 4 Mar 2026 05:06:07 +0000\r\nWill-Retry-Until: Wed, 4 Mar 2026 06:06:07 +0000\r\n"},
		{"relayed", Recipient{Action: Relayed}, "Action: relayed\r\nStatus: 2.0.0\r\n"},
		{"delivered", Recipient{Action: Delivered, RetryUntil: when}, "Action: delivered\r\nStatus: 2.0.0\r\n"},
	} {
		tc.rc.Address = "a@b"
		got, err := tc.rc.fields(false)
		if want := "Final-Recipient: rfc822; a@b\r\n" + tc.fields; err != nil || string(got) != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", tc.name, err, got, want)
		}
	}
}

// Row 2 of the traps, as far as it is about reports: a reply makes no line of
// its own, whatever it holds.
func TestTrap02_HostileReply(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"a\r\nStatus: 2.0.0\r\n\r\nFinal-Recipient: rfc822; x@y", "\x00\x1b[2J\xff\xfe", strings.Repeat("x", 70_000), strings.Repeat("ü ", 30_000), "--=_mailout_" + failure().ID.String() + "--", "\u2028\u0085"} {
		r := failure()
		r.Recipients[0].Reply.Text, r.Recipients[0].Reason = text, text
		r.Recipients[0].Remote = "mx\r\nX: y"
		r.EnvelopeID = "a\r\nb"
		out, _ := build(t, r, original)
		_, types, bodies := parts(t, out)
		if len(types) != 3 {
			t.Fatalf("%d parts", len(types))
		}
		if strings.Count(bodies[1], "\r\nStatus:") != 1 || header.EightBit([]byte(bodies[1])) {
			t.Errorf("status part:\n%s", bodies[1])
		}
		for part := range bodies[:2] {
			if strings.ContainsAny(bodies[part], "\x00\x1b") {
				t.Errorf("control characters in part %d", part)
			}
		}
		n, err := Parse([]byte(out))
		if err != nil || len(n.Statuses) != 1 || n.Statuses[0].Final.Value != "b@example.net" {
			t.Errorf("%+v, %v", n, err)
		}
	}
}

func TestInternationalReport(t *testing.T) {
	t.Parallel()
	r := failure()
	r.To, r.Sender = "ä@example.com", "ä@example.com"
	r.Recipients[0].Address, r.Recipients[0].Original = "köln@xn--kln-sna.example", "utf-8;köln@köln.example"
	out, facts := build(t, r, "Subject: grün\r\nMessage-ID: <1@app>\r\n\r\nweiß\r\n")
	if !facts.UTF8 || !facts.EightBit {
		t.Errorf("%+v", facts)
	}
	_, types, bodies := parts(t, out)
	if types[1] != "message/global-delivery-status" || types[2] != "message/global" {
		t.Errorf("types %v", types)
	}
	if !strings.Contains(bodies[1], "Final-Recipient: utf-8; köln@xn--kln-sna.example\r\n") || !strings.Contains(bodies[1], "Original-Recipient: utf-8; köln@köln.example\r\n") {
		t.Errorf("%s", bodies[1])
	}
	n, err := Parse([]byte(out))
	if err != nil || n.Statuses[0].Final != (Typed{"utf-8", "köln@xn--kln-sna.example"}) {
		t.Errorf("%+v %v", n, err)
	}
	r.Ret = mta.RetHeaders
	out, _ = build(t, r, "Subject: grün\r\n\r\nweiß\r\n")
	if _, types, _ = parts(t, out); types[2] != "message/global-headers" {
		t.Errorf("types %v", types)
	}
}

func TestEightBitOriginal(t *testing.T) {
	t.Parallel()
	out, facts := build(t, failure(), "Subject: x\r\n\r\n\xe4\r\n")
	_, types, _ := parts(t, out)
	if !facts.EightBit || facts.UTF8 || types[2] != "message/rfc822" || !strings.Contains(out, "message/rfc822\r\nContent-Transfer-Encoding: 8bit\r\n") {
		t.Errorf("%+v %v", facts, types)
	}
	out, _ = build(t, failure(), "Subject: \xe4\r\n\r\nx\r\n")
	if _, types, _ = parts(t, out); types[2] != "message/rfc822" {
		t.Errorf("a header that is no UTF-8 came as %s", types[2])
	}
}

// The boundary is in no part, even where somebody knew it before.
func TestBoundaryIsUnique(t *testing.T) {
	t.Parallel()
	id := failure().ID.String()
	for _, fill := range []int{0, scanChunk - 20, scanChunk - 5, 2*scanChunk - 30} {
		evil := original + strings.Repeat("x", fill%50) + strings.Repeat("\r\n"+strings.Repeat("x", 48), fill/50) + "\r\n--=_mailout_" + id + "\r\n--=_mailout_" + id + "_1\r\n"
		out, _ := build(t, failure(), evil)
		_, types, bodies := parts(t, out)
		if len(types) != 3 || bodies[2] != evil {
			t.Errorf("%d parts with %d octets before the boundary", len(types), fill)
		}
	}
}

func TestLongHeaderIsCut(t *testing.T) {
	t.Parallel()
	r := failure()
	r.Ret = mta.RetHeaders
	out, _ := build(t, r, strings.Repeat("X: "+strings.Repeat("x", 90)+"\r\n", 2000)+"\r\n")
	_, _, bodies := parts(t, out)
	if len(bodies[2]) > MaxHeaders || len(bodies[2]) < MaxHeaders-100 || !strings.HasSuffix(bodies[2], "x\r\n") || !strings.Contains(bodies[0], "beginning of its header") {
		t.Errorf("%d octets of header\n%s", len(bodies[2]), bodies[0])
	}
}

func TestOriginalThatCannotBeRead(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	if _, err := failure().Write(&b, nil, 0); err != nil {
		t.Fatal(err)
	}
	_, types, bodies := parts(t, b.String())
	if len(types) != 2 || !strings.Contains(bodies[0], "could not be read back") {
		t.Errorf("%v\n%s", types, bodies[0])
	}
	b.Reset()
	if _, err := failure().Write(&b, strings.NewReader(original), 10_000); err != nil {
		t.Fatal(err)
	}
	if _, types, _ = parts(t, b.String()); len(types) != 2 {
		t.Errorf("content that is shorter than it should be gave %v", types)
	}
	broken := errors.New("disk")
	if _, err := failure().Write(iotest.TruncateWriter(failing{broken}, 0), strings.NewReader(original), 5); !errors.Is(err, broken) && err != nil {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

func TestTexts(t *testing.T) {
	t.Parallel()
	say := func(change func(*Report)) string {
		r := failure()
		change(r)
		out, _ := build(t, r, original)
		_, _, bodies := parts(t, out)
		return bodies[0]
	}
	for _, tc := range []struct {
		change func(*Report)
		want   []string
	}{
		{func(r *Report) {
			r.Recipients[0].Action, r.Recipients[0].RetryUntil = Delayed, when.Add(48*time.Hour)
		}, []string{"no need to send it again", "We give up on Friday, 6 March 2026, 05:06 UTC."}},
		{func(r *Report) { r.Recipients[0].Action = Relayed }, []string{"does not confirm delivery"}},
		{func(r *Report) { r.Recipients[0].Action = Delivered }, []string{"was delivered to one address"}},
		{func(r *Report) { r.Notice, r.Sender = true, "" }, []string{"without a return path", "you, the postmaster"}},
		{func(r *Report) { r.Notice, r.Sender = true, "x" }, []string{"<x> cannot be used"}},
		{func(r *Report) {
			for range 60 {
				r.Recipients = append(r.Recipients, r.Recipients[0])
			}
		}, []string{"61 addresses", "and 11 more"}},
		{func(r *Report) { r.Recipients[0].Status = mta.Enhanced{Class: 5, Subject: 2, Detail: 2} }, []string{"mailbox is full"}},
		{func(r *Report) { r.Recipients[0].Status = mta.Enhanced{Class: 5, Subject: 7, Detail: 26} }, []string{"by its own rules"}},
		{func(r *Report) { // a rule of ours
			r.Recipients[0].Status, r.Recipients[0].Reply, r.Recipients[0].Remote = mta.Enhanced{Class: 5, Subject: 7, Detail: 1}, mta.Reply{}, ""
		}, []string{"No other server was asked"}},
	} {
		got := strings.Join(strings.Fields(say(tc.change)), " ")
		for _, w := range tc.want {
			if !strings.Contains(got, w) {
				t.Errorf("%q is not in\n%s", w, got)
			}
		}
	}
}

func TestHostileAddressIsAnError(t *testing.T) {
	t.Parallel()
	r := failure()
	r.To = "a@b\r\nBcc: x"
	var b bytes.Buffer
	var unsafe *header.UnsafeError
	if _, err := r.Write(&b, nil, 0); !errors.As(err, &unsafe) || b.Len() > 0 {
		t.Errorf("%v, wrote %q", err, b.String())
	}
}

func TestParseWhatWeWrite(t *testing.T) {
	t.Parallel()
	r := failure()
	r.Recipients = append(r.Recipients, Recipient{Address: "c@example.org", Action: Delayed, RetryUntil: when})
	out, _ := build(t, r, original)
	n, err := Parse([]byte(out))
	if err != nil {
		t.Fatal(err)
	}
	if n.ReportingMTA != (Typed{"dns", "out.example.com"}) || n.EnvelopeID != r.EnvelopeID || !n.Arrived.Equal(r.Arrived) || n.MessageID != "<1@app>" || n.Original == nil || len(n.Statuses) != 2 {
		t.Errorf("%+v", n)
	}
	want := Status{Original: Typed{"rfc822", "B+x@Example.net"}, Final: Typed{"rfc822", "b@example.net"}, Action: Failed, Status: r.Recipients[0].Status,
		Remote: Typed{"dns", "mx.example.net"}, Diagnostic: Typed{"smtp", "550 5.1.1 no such user at all"}, LastAttempt: r.Recipients[0].LastAttempt}
	if n.Statuses[0] != want {
		t.Errorf("got  %+v\nwant %+v", n.Statuses[0], want)
	}
	if s := n.Statuses[1]; s.Action != Delayed || s.Final.Value != "c@example.org" || !s.RetryUntil.Equal(when) {
		t.Errorf("%+v", s)
	}
}

func TestParseWhatOthersWrite(t *testing.T) {
	t.Parallel()
	const top = "Subject: x\nIn-Reply-To: <9@x>\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: text/plain\n\nsorry\n--b\n"
	for _, tc := range []struct{ name, in, final, status, messageID string }{
		{"bare LF, no close", top + "Content-Type: MESSAGE/Delivery-Status\n\nReporting-MTA: dns;x\n\nFinal-recipient: RFC822; <a@b>\nAction: Failed (x)\nstatus: 5.2.2 (full)\n", "a@b", "5.2.2", "<9@x>"},
		{"one group", top + "Content-Type: message/delivery-status\n\nReporting-MTA: dns;x\nFinal-Recipient: rfc822;a@b\nAction: failed\nStatus: 5.1.1\n--b--\n", "a@b", "5.1.1", "<9@x>"},
		{"base64", top + "Content-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n\nRmluYWwtUmVjaXBpZW50OiByZmM4MjI7IGFAYgpBY3Rpb246IGZhaWxlZAo=\n--b--\n", "a@b", "", "<9@x>"},
		{"quoted-printable", top + "Content-Type: message/delivery-status\nContent-Transfer-Encoding: quoted-printable\n\nFinal-Recipient: rfc822;=20a@=\nb\nStatus: 4=2E0.0\n--b--\n", "a@b", "4.0.0", "<9@x>"},
		{"rubbish line", top + "Content-Type: message/delivery-status\n\nReporting-MTA: dns;x\nrubbish here\nFinal-Recipient: a@b\nStatus: 9.1.1\n--b--\n", "a@b", "", "<9@x>"},
		{"original first", top + "Content-Type: text/rfc822-headers\n\nMessage-Id: <1@y>\n--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822;a@b\n--b--\n", "a@b", "", "<1@y>"},
		{"wrapped", "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: rfc822;a@b\n--b--\n--a--\n", "a@b", "", ""},
		{"escaped address", top + "Content-Type: message/delivery-status\n\nFinal-Recipient: utf-8; k\\x{F6}ln@b\n--b--\n", "köln@b", "", "<9@x>"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			n, err := Parse([]byte(tc.in))
			if err != nil {
				t.Fatal(err)
			}
			if s := n.Statuses[0]; len(n.Statuses) != 1 || s.Final.Value != tc.final || s.Status.String() != tc.status || n.MessageID != tc.messageID {
				t.Errorf("%+v, Message-ID %q", n.Statuses, n.MessageID)
			}
		})
	}
	for _, in := range []string{"", "Subject: x\r\n\r\nhello", "Content-Type: multipart/report\r\n\r\n", "Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; x\r\n",
		strings.Repeat("Content-Type: multipart/mixed; boundary=a\n\n--a\n", 50)} {
		if _, err := Parse([]byte(in)); !errors.Is(err, ErrNotReport) {
			t.Errorf("%.40q: %v", in, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	out, _ := build(f, failure(), original)
	f.Add([]byte(out))
	f.Add([]byte("Content-Type: multipart/report; boundary=b\n\n--b\nContent-Type: message/delivery-status\n\nFinal-Recipient: utf-8;k\\x{F6}@b\nStatus: 5..1\nArrival-Date: x\n"))
	f.Add([]byte("Content-Type: message/delivery-status\nContent-Transfer-Encoding: base64\n\n!!!!"))
	f.Add([]byte("Content-Type: multipart/x; boundary=\"\n\n\n--\n--"))
	f.Fuzz(func(t *testing.T, in []byte) {
		n, err := Parse(in)
		if err == nil && (len(n.Statuses) == 0 || len(n.Statuses) > maxParts*maxGroups) {
			t.Fatalf("%d statuses", len(n.Statuses))
		}
	})
}

// FuzzWrite gives hostile replies and originals: the report keeps its three
// parts and its one recipient.
func FuzzWrite(f *testing.F) {
	f.Add("550 no\r\n", "Subject: x\r\n\r\ny\r\n", "=?x?= \xff")
	f.Add("--=_mailout_", "--=_mailout_\r\n\r\n", "")
	f.Fuzz(func(t *testing.T, reply, body, orcpt string) {
		r := failure()
		r.Recipients[0].Reply.Text, r.Recipients[0].Reason = reply, reply
		r.Recipients[0].Original = "rfc822;" + orcpt
		content := "Subject: x\r\n\r\n" + strings.NewReplacer("\r", "", "\n", "\r\n").Replace(body)
		var b bytes.Buffer
		if _, err := r.Write(&b, strings.NewReader(content), int64(len(content))); err != nil {
			t.Fatal(err)
		}
		_, types, bodies := parts(t, b.String())
		if len(types) != 3 || bodies[2] != content {
			t.Fatalf("%d parts, original %q", len(types), bodies[len(bodies)-1])
		}
		if n, err := Parse(b.Bytes()); err != nil || len(n.Statuses) != 1 || n.Statuses[0].Action != Failed {
			t.Fatalf("%+v %v", n, err)
		}
	})
}

// TestPythonReadsIt asks Python's email package, where there is one.
func TestPythonReadsIt(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here")
	}
	out, _ := build(t, failure(), original)
	cmd := exec.CommandContext(t.Context(), python, "-c", `
import email, email.policy, sys
m = email.message_from_binary_file(sys.stdin.buffer, policy=email.policy.SMTP)
assert m.get_content_type() == "multipart/report" and not m.defects, m.defects
text, status, orig = m.get_payload()
groups = status.get_payload()
print(groups[0]["Reporting-MTA"], groups[1]["Final-Recipient"], groups[1]["Status"], orig.get_payload()[0]["Message-ID"], sep="|")
`)
	cmd.Stdin = strings.NewReader(out)
	got, err := cmd.CombinedOutput()
	if want := "dns; out.example.com|rfc822; b@example.net|5.1.1|<1@app>\n"; err != nil || string(got) != want {
		t.Errorf("%v: %s", err, got)
	}
}
