package smtpd

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// FuzzSession plays any octets to a server, cut into any pieces, and then
// closes. The session never panics or hangs, every reply is well-formed, and
// no draft is left open.
func FuzzSession(f *testing.F) {
	for _, s := range seeds(f) {
		f.Add([]byte(s), uint8(0), false)
		f.Add([]byte(s), uint8(2), true)
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint8, repair bool) {
		synctest.Test(t, func(t *testing.T) { playOctets(t, in, int(cut)*16+1, repair) })
	})
}

func playOctets(t *testing.T, in []byte, cut int, repair bool) {
	a := &intake{}
	set := testSettings()
	set.Limits.MessageSize, set.Limits.Line = 300, 512
	if repair {
		set.LineEnds = submit.RepairBare
	}
	s, l := start(t, set, a)
	p := l.dial(t, trustedPeer)
	for len(in) > 0 {
		n := min(cut, len(in))
		if _, err := p.conn.Write(in[:n]); err != nil {
			break // the server has ended the session
		}
		in = in[n:]
	}
	synctest.Wait() // every reply to it has been written
	p.conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Error(err)
	}
	if c := s.Counts(); c.Internal != 0 || c.Active != 0 || a.drafts != a.ended || int(c.Messages) != len(a.messages) {
		t.Errorf("%+v, %d drafts, %d ended, %d messages", c, a.drafts, a.ended, len(a.messages))
	}
	var out strings.Builder
	for line := range p.lines {
		out.WriteString(line)
	}
	checkReplies(t, out.String())
	for _, m := range a.messages {
		if len(m.content) > 300 || len(m.request.Recipients) == 0 {
			t.Errorf("accepted %s", describe(m))
		}
		for _, r := range m.request.Recipients {
			if again, err := smtp.ParseMailbox(r.Address, true); err != nil || again.String() != r.Address {
				t.Errorf("recipient %q is not canonical", r.Address)
			}
		}
	}
}

// checkReplies reads all that a server said as replies.
func checkReplies(t *testing.T, out string) {
	t.Helper()
	if !strings.HasPrefix(out, "220 ") || !strings.HasSuffix(out, "\r\n") || strings.Contains(strings.ReplaceAll(out, "\r\n", ""), "\n") {
		t.Fatalf("replies %q", out)
	}
	for out != "" {
		r, err := smtp.ParseReply(out)
		if err != nil {
			t.Fatalf("malformed reply at %q: %v", out, err)
		}
		lines := strings.Count(r.Text, "\n") + 1
		for range lines {
			i := strings.IndexByte(out, '\n')
			if i+1 > smtp.MaxReplyLine {
				t.Fatalf("a reply line of %d octets", i+1)
			}
			out = out[i+1:]
		}
		if r.Code/100 != 3 && r.Code != 220 && r.Code != 250 && r.Enhanced.IsZero() {
			t.Fatalf("a reply without an enhanced code: %s", r)
		}
	}
}

// seeds are what the clients of all dialogues send, and a few more.
func seeds(f *testing.F) []string {
	files, err := filepath.Glob("testdata/dialogue/*.txt")
	if err != nil || len(files) == 0 {
		f.Fatal("no dialogues to start from")
	}
	out := []string{
		"HELO x\r\n" + openData + "a\r\n..\r\n.\n\r\n.\r\nQUIT\r\nmore",
		"EHLO x\r\n" + openMail + "BDAT 300 LAST\r\n" + strings.Repeat("x", 300) + "NOOP\r\n",
		"EHLO x\r\n" + openMail + "BDAT 301 LAST\r\n" + strings.Repeat("x", 301) + "NOOP\r\n",
		strings.Repeat("A", 600) + "\r\n" + strings.Repeat("\r\n", 30),
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var b bytes.Buffer
		for line := range strings.Lines(string(text)) {
			line = strings.TrimRight(line, "\n")
			switch {
			case strings.HasPrefix(line, "C:"):
				io.WriteString(&b, unescape(line[2:])+"\r\n")
			case strings.HasPrefix(line, "C>"):
				io.WriteString(&b, unescape(line[2:]))
			}
		}
		out = append(out, b.String())
	}
	return out
}

// unescape undoes the escapes that matter to a seed.
func unescape(s string) string {
	return strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\x00`, "\x00", `\xff`, "\xff").Replace(strings.TrimPrefix(s, " "))
}
