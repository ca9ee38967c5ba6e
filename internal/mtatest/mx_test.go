package mtatest

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const mail = "Subject: test\r\nX-Id: one\r\n two\r\n\r\n.dots\r\n..more\r\n.\r\nend\r\n"

// start gives a server and a client that has said EHLO.
func start(t *testing.T, cfg MXConfig) (*MX, *Client) {
	t.Helper()
	m := NewMX(cfg)
	t.Cleanup(m.Stop)
	return m, connect(t, m)
}

func connect(t *testing.T, m *MX) *Client {
	t.Helper()
	conn, err := m.Dial(context.Background(), "tcp", "mx")
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewClient(conn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.Hello("client.example"); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestMXKeepsContentByteForByte(t *testing.T) {
	t.Parallel()
	bodies := map[string]string{
		"dots": mail, "empty": "", "one dot": ".\r\n", "no header": "\r\n.\r\n..\r\n",
		"8 bit":       "Subject: x\r\n\r\ngr\xfc\xdfe\r\n",
		"long line":   "Subject: x\r\n\r\n" + strings.Repeat("a", 990) + "\r\n",
		"buffer wide": strings.Repeat("a", 500) + "\r\n" + strings.Repeat(".b\r\n", 20000),
	}
	for name, body := range bodies {
		for _, chunk := range []int{0, 1 << 20, 1000} {
			m, c := start(t, MXConfig{})
			var o *Outcome
			var err error
			if from := "a@b.example BODY=8BITMIME"; chunk == 0 {
				o, err = c.Send(from, []string{"u@d.example NOTIFY=NEVER"}, []byte(body))
			} else {
				o, err = c.SendChunked(from, []string{"u@d.example NOTIFY=NEVER"}, []byte(body), chunk)
			}
			if err != nil || !o.Accepted() {
				t.Fatalf("%s: %v %v", name, o, err)
			}
			got := m.Messages()[0]
			if string(got.Data) != body {
				t.Errorf("%s, chunk %d: got %d octets, want %d", name, chunk, len(got.Data), len(body))
			}
			if got.From != "a@b.example" || got.Params != "BODY=8BITMIME" || got.To[0] != (Recipient{"u@d.example", "NOTIFY=NEVER"}) ||
				got.Helo != "client.example" || !got.ESMTP || got.Chunked != (chunk > 0) {
				t.Errorf("%s: wrong envelope: %+v", name, got)
			}
			if v := m.Violations(); len(v) > 0 {
				t.Errorf("%s: a correct client is blamed: %q", name, v)
			}
		}
	}
}

// TestMXCutsALineEndInTwo has a CRLF fall on the edge of the read buffer.
func TestMXCutsALineEndInTwo(t *testing.T) {
	t.Parallel()
	for _, length := range []int{readBuffer - 2, readBuffer - 1, readBuffer, readBuffer + 1} {
		for _, size := range []int64{0, 100} { // also when the content is not kept
			m, c := start(t, MXConfig{Size: size})
			body := strings.Repeat("x", length) + "\r\n"
			o, err := c.Send("a@b.example", []string{"u@d.example"}, []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if size == 0 && string(m.Messages()[0].Data) != body {
				t.Errorf("length %d: content changed", length)
			}
			if want := map[int64]int{0: 250, 100: 552}[size]; o.Final.Code != want {
				t.Errorf("length %d: %v, want %d", length, o.Final, want)
			}
			for _, v := range m.Violations() {
				if strings.Contains(v, "bare") {
					t.Errorf("length %d: %s", length, v)
				}
			}
		}
	}
}

func TestMXNotesViolations(t *testing.T) {
	t.Parallel()
	content := func(s string) string {
		return "MAIL FROM:<a@b.example>\r\nRCPT TO:<u@d.example>\r\nDATA\r\n" + s + "\r\n.\r\n"
	}
	cases := []struct{ name, send, want string }{
		{"bare LF in content", content("a\nb"), "bare CR or LF"},
		{"bare CR in content", content("a\rb"), "bare CR or LF"},
		{"LF dot CRLF is no end", content("a\n.\r\nb"), "bare CR or LF"},
		{"dot not doubled", content(".a"), "not doubled"},
		{"NUL", content("a\x00b"), "NUL"},
		{"undeclared 8 bit", content("\xfc"), "BODY=8BITMIME"},
		{"long line", content(strings.Repeat("a", 999)), "a line of content of 1001"},
		{"bare LF in a command", "NOOP\n", "bare LF"},
		{"unknown command", "BLAH\r\n", "unknown command"},
		{"unknown parameter", "MAIL FROM:<a@b.example> FOO=1\r\n", "FOO=1"},
		{"no angle brackets", "MAIL FROM:a@b.example\r\n", "not a return path"},
		{"space behind the colon", "MAIL FROM: <a@b.example>\r\n", "not a return path"},
		{"nested MAIL", "MAIL FROM:<a@b.example>\r\nMAIL FROM:<a@b.example>\r\n", "out of order"},
		{"behind EHLO", "EHLO x.example\r\nNOOP\r\n", "before its reply"},
		{"underscore in the name", "EHLO a_b.example\r\n", "not a host name"},
		{"single label", "EHLO localhost\r\n", "not a fully qualified name"},
		{"UTF-8 address", "MAIL FROM:<\xc3\xbc@b.example>\r\n", "without SMTPUTF8"},
		{"STARTTLS not offered", "STARTTLS\r\n", "not offered"},
		{"bare LF in a chunk", "MAIL FROM:<a@b.example>\r\nRCPT TO:<u@d.example>\r\nBDAT 2 LAST\r\na\n", "chunked content"},
		{"DATA in chunks", "MAIL FROM:<a@b.example>\r\nRCPT TO:<u@d.example>\r\nBDAT 1\r\naDATA\r\n", "DATA inside a BDAT"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, client := start(t, MXConfig{})
			// Send the commands in front of content in step, content at once.
			if _, err := client.Write([]byte(c.send)); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Write([]byte("QUIT\r\n")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(client.Conn()); err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(m.Violations(), func(v string) bool { return strings.Contains(v, c.want) }) {
				t.Errorf("violations %q, want one with %q", m.Violations(), c.want)
			}
		})
	}
}

func TestMXRulesAtEveryStage(t *testing.T) {
	t.Parallel()
	// The first reply that is not as usual, by walking through a session.
	walk := func(m *MX) string {
		conn, err := m.Dial(context.Background(), "tcp", "mx")
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		c, err := NewClient(conn)
		if err != nil {
			return "greeting: " + err.Error()
		}
		for _, step := range []struct{ line, want string }{
			{"EHLO a.example", "250"}, {"MAIL FROM:<a@b.example>", "250"}, {"RCPT TO:<u@d.example>", "250"},
			{"DATA", "354"}, {"x: y\r\n\r\n.", "250"}, {"RSET", "250"}, {"NOOP", "250"}, {"QUIT", "221"},
		} {
			r, err := c.Cmd("%s", step.line)
			if err != nil {
				return step.line + ": " + err.Error()
			}
			if got := r.String(); got[:3] != step.want {
				return got
			}
		}
		return ""
	}
	for stage := range StageClose {
		if stage == StageStartTLS || stage == StageHandshake {
			continue
		}
		m := NewMX(MXConfig{Rules: []Rule{{Stage: stage, Action: Action{Reply: "450 4.9.9 scripted"}}}})
		if got := walk(m); !strings.Contains(got, "450 4.9.9 scripted") {
			t.Errorf("%s: reply: %q", stage, got)
		}
		m.SetRules(Rule{Stage: stage, Action: Action{Drop: true}})
		if got := walk(m); !strings.Contains(got, "EOF") {
			t.Errorf("%s: drop: %q", stage, got)
		}
		m.SetRules(Rule{Stage: stage, Action: Action{Drop: true, Reset: true}})
		if got := walk(m); !strings.Contains(got, "reset") {
			t.Errorf("%s: reset: %q", stage, got)
		}
		m.SetRules(Rule{Stage: stage, Match: "nobody"}, Rule{Stage: stage, Skip: 1, Action: Action{Drop: true}})
		if got := walk(m); got != "" {
			t.Errorf("%s: the first one was to pass: %q", stage, got)
		}
		if n := len(m.Messages()); stage == StageDot && n != 1 {
			t.Errorf("%d messages kept, want only the one accepted", n)
		}
		m.Stop()
	}
}

func TestMXDelayAndHangInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMX(MXConfig{Rules: []Rule{
			{Stage: StageMail, Match: "slow@*", Action: Action{Delay: 5 * time.Minute}},
			{Stage: StageRcpt, Action: Action{Hang: true}},
		}})
		defer m.Stop()
		c := connect(t, m)
		begun := time.Now()
		if r, err := c.Cmd("MAIL FROM:<slow@b.example>"); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		if d := time.Since(begun); d != 5*time.Minute {
			t.Errorf("the reply took %v", d)
		}
		if err := c.Conn().SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Cmd("RCPT TO:<u@d.example>"); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(r, err)
		}
		c.Close()
	})
}

func TestMXGreylistsEachPair(t *testing.T) {
	t.Parallel()
	m, c := start(t, MXConfig{Rules: []Rule{{Stage: StageRcpt, Match: "*@grey.example", Action: Action{Greylist: 2}}}})
	var codes []int
	for _, rcpt := range []string{"a@grey.example", "a@grey.example", "b@grey.example", "a@grey.example", "x@other.example"} {
		o, err := c.Send("s@b.example", []string{rcpt}, []byte(mail))
		if err != nil {
			t.Fatal(err)
		}
		codes = append(codes, o.Rcpts[0].Code)
	}
	if want := []int{451, 451, 451, 250, 250}; !slices.Equal(codes, want) {
		t.Errorf("replies %v, want %v", codes, want)
	}
	if n := m.Stats().Messages; n != 2 {
		t.Errorf("%d messages", n)
	}
}

func TestMXLosesTheFinalReply(t *testing.T) {
	t.Parallel()
	m, c := start(t, MXConfig{Rules: []Rule{{Stage: StageDot, First: 1, Action: Action{Drop: true, Keep: true}}}})
	o, err := c.Send("s@b.example", []string{"u@d.example"}, []byte(mail))
	if err == nil || o.Final.Code != 0 {
		t.Fatalf("a reply came: %v", o)
	}
	if len(m.Messages()) != 1 {
		t.Error("the message was to be kept")
	}
}

func TestMXLimits(t *testing.T) {
	t.Parallel()
	m, c := start(t, MXConfig{MaxRecipients: 2, MaxMessages: 1, MaxSessions: 1, Users: []string{"u@d.example", "v@d.example", "w@d.example"}, Size: 1000})
	o, err := c.Send("s@b.example", []string{"u@d.example", "nobody@d.example", "V@d.example", "w@d.example"}, []byte(mail))
	if err != nil {
		t.Fatal(err)
	}
	var codes []int
	for _, r := range o.Rcpts {
		codes = append(codes, r.Code)
	}
	if want := []int{250, 550, 250, 452}; !slices.Equal(codes, want) || !o.Accepted() {
		t.Errorf("replies %v, want %v", codes, want)
	}
	conn, err := m.Dial(context.Background(), "tcp", "mx")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := NewClient(conn); err == nil || !strings.Contains(err.Error(), "421 4.3.2") {
		t.Errorf("second connection: %v", err)
	}
	if r, err := c.Cmd("MAIL FROM:<s@b.example> SIZE=1001"); err != nil || r.Code != 421 {
		t.Errorf("second message: %v %v", r, err)
	}
	if s := m.Stats(); s.Sessions != 2 || s.MaxOpen != 2 || s.Messages != 1 || s.Recipients != 2 {
		t.Errorf("stats %+v", s)
	}
}

func TestMXTakeoverAndHeloOnly(t *testing.T) {
	t.Parallel()
	m, c := start(t, MXConfig{Rules: []Rule{{Stage: StageNoop, Action: Action{Takeover: func(conn net.Conn, _ []byte) {
		_, _ = io.WriteString(conn, "250 mine\r\n")
	}}}, {Stage: StageHelo, Skip: 1, Action: Action{Reply: "502 5.5.1 no EHLO\nhere"}}}})
	r, err := c.Cmd("EHLO again.example")
	if err != nil || r.String() != "502 5.5.1 no EHLO here" || len(r.Lines) != 2 {
		t.Errorf("%q %v", r.Lines, err)
	}
	if r, err := c.Cmd("NOOP"); err != nil || r.String() != "250 mine" {
		t.Errorf("%v %v", r, err)
	}
	if _, err := c.Read(); err == nil {
		t.Error("the session goes on")
	}
	_ = m
}

func TestMXWithoutExtensions(t *testing.T) {
	t.Parallel()
	words := []string{"PIPELINING", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING", "SIZE", "ENHANCEDSTATUSCODES"}
	_, all := start(t, MXConfig{With: []string{"LIMITS MAILMAX=5"}})
	m, none := start(t, MXConfig{Without: words})
	for _, w := range words {
		if _, ok := all.Extensions[w]; !ok {
			t.Errorf("%s is not offered", w)
		}
		if _, ok := none.Extensions[w]; ok {
			t.Errorf("%s is offered", w)
		}
	}
	if all.Extensions["LIMITS"] != "MAILMAX=5" {
		t.Error("LIMITS is missing")
	}
	for i, from := range []string{"a@b.example SIZE=1", "a@b.example BODY=8BITMIME", "a@b.example SMTPUTF8", "a@b.example RET=HDRS"} {
		if r, err := none.Cmd("MAIL FROM:<%s", strings.Replace(from, " ", "> ", 1)); err != nil || r.Code != 555 || len(m.Violations()) != i+1 {
			t.Errorf("%s: %v %v %q", from, r, err, m.Violations())
		}
	}
}

func TestMXWaitAndRemember(t *testing.T) {
	t.Parallel()
	m, c := start(t, MXConfig{Discard: true, Remember: "x-id"})
	if _, err := c.Send("a@b.example", []string{"u@d.example"}, []byte(mail)); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(context.Background(), 1); err != nil {
		t.Fatal(err)
	}
	if got := m.Seen(); got["one two"] != 1 || len(got) != 1 || len(m.Messages()) != 0 {
		t.Errorf("seen %v", got)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Wait(ctx, 2); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v", err)
	}
}

// TestMXFinishSendsTheReplyItOwes ends the server from inside the last
// message, before its reply.
func TestMXFinishSendsTheReplyItOwes(t *testing.T) {
	t.Parallel()
	var m *MX
	ended := make(chan struct{})
	m = NewMX(MXConfig{OnMessage: func(*Message) {
		begun := make(chan struct{})
		go func() {
			close(begun)
			m.Finish()
			close(ended)
		}()
		<-begun
		<-m.done
	}})
	idle, busy := connect(t, m), connect(t, m)
	if o, err := busy.Send("a@b.example", []string{"u@d.example"}, []byte(mail)); err != nil || !o.Accepted() {
		t.Errorf("%v %v", o, err)
	}
	<-ended
	if _, err := idle.Read(); err == nil {
		t.Error("an idle session goes on")
	}
}

// TestMXSeesABareCRAtTheBuffersEdge has a CR end a full buffer without being
// half a CRLF.
func TestMXSeesABareCRAtTheBuffersEdge(t *testing.T) {
	t.Parallel()
	m, c := start(t, MXConfig{})
	body := strings.Repeat("x", readBuffer-1) + "\rx\r\n"
	if o, err := c.Send("a@b.example", []string{"u@d.example"}, []byte(body)); err != nil || !o.Accepted() {
		t.Fatal(o, err)
	}
	if v := strings.Join(m.Violations(), "\n"); !strings.Contains(v, "bare CR") {
		t.Errorf("violations %q", v)
	}
}
