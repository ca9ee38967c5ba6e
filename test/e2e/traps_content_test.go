package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// head is a header that intake has nothing to add to, but Received.
const head = "From: a@sender.example\r\nTo: b@fine.example\r\nDate: Mon, 23 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@sender.example>\r\n"

// received is a message without the Received field in front.
func received(t *testing.T, m *mtatest.Message) string {
	t.Helper()
	if !bytes.HasPrefix(m.Data, []byte("Received: ")) {
		t.Fatalf("no Received in front:\n%s", m.Data)
	}
	rest := string(m.Data)
	for first := true; first || rest[0] == ' ' || rest[0] == '\t'; first = false {
		_, rest, _ = strings.Cut(rest, "\r\n")
	}
	return rest
}

// arrive waits for n messages.
func arrive(t *testing.T, mx *mtatest.MX, n int) []*mtatest.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := mx.Wait(ctx, int64(n)); err != nil {
		t.Fatal(err)
	}
	return mx.Messages()
}

func TestTrap20_DotsOnTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	servers := map[string]*mtatest.MX{
		"bdat.example": w.mx(mtatest.MXConfig{}, "bdat.example"),
		"data.example": w.mx(mtatest.MXConfig{Without: []string{"CHUNKING"}}, "data.example"),
	}
	d := w.daemon("").start()
	long := strings.Repeat(".dots\r\n..\r\n.\r\n", 20_000) // from the disk, over several blocks
	for name, c := range map[string]struct{ in, want string }{
		"headers only":    {head, head + "\r\n"},
		"empty body":      {head + "\r\n", head + "\r\n"},
		"one dot":         {head + "\r\n.\r\n", head + "\r\n.\r\n"},
		"dot without end": {head + "\r\n.", head + "\r\n.\r\n"},
		"two dots":        {head + "\r\n..\r\n", head + "\r\n..\r\n"},
		"dot first":       {head + "\r\n.a\r\nb\r\n.", head + "\r\n.a\r\nb\r\n.\r\n"},
		"no final CRLF":   {head + "\r\nlast", head + "\r\nlast\r\n"},
		"empty lines":     {head + "\r\n\r\n\r\n.\r\n\r\n", head + "\r\n\r\n\r\n.\r\n\r\n"},
		"long":            {head + "\r\n" + long, head + "\r\n" + long},
	} {
		for domain, mx := range servers {
			for _, chunked := range []bool{false, true} {
				mx.Reset()
				before := mx.Stats().Messages
				send := (*mtatest.Client).Send
				if chunked {
					send = func(c *mtatest.Client, from string, to []string, data []byte) (*mtatest.Outcome, error) {
						return c.SendChunked(from, to, data, 7000)
					}
				}
				out, err := send(d.client(), "a@sender.example", []string{"b@" + domain}, []byte(c.in))
				if err != nil || !out.Accepted() {
					t.Fatalf("%s: %v %v", name, out, err)
				}
				got := arrive(t, mx, int(before)+1)
				if text := received(t, got[0]); text != c.want {
					t.Errorf("%s by BDAT %v to %s: %.200q, want %.200q", name, chunked, domain, text, c.want)
				}
				noViolations(t, mx)
			}
		}
	}
	d.stop()
}

func TestTrap21_Smuggling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "fine.example")
	repair := freePort(t)
	d := w.daemon(fmt.Sprintf("[[listen]]\naddress = \"127.0.0.1:%d\"\ntrusted = [\"127.0.0.0/8\"]\nbare_lf = \"repair\"\n", repair)).start()
	say := func(addr, smuggle string) string {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		c, err := mtatest.Dial(ctx, addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Hello("app.sender.example"); err != nil {
			t.Fatal(err)
		}
		if r, err := c.Cmd("MAIL FROM:<a@sender.example>"); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		if r, err := c.Cmd("RCPT TO:<b@fine.example>"); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		if r, err := c.Cmd("DATA"); err != nil || r.Code != 354 {
			t.Fatal(r, err)
		}
		evil := "MAIL FROM:<evil@sender.example>\r\nRCPT TO:<b@fine.example>\r\nDATA\r\n" + head + "\r\nsmuggled\r\n.\r\n"
		if _, err := c.Write([]byte(head + "\r\nharmless" + smuggle + evil)); err != nil {
			t.Fatal(err)
		}
		r, err := c.Read()
		if err != nil {
			t.Fatal(err)
		}
		return r.String()
	}
	sequences := []string{"\n.\n", "\r.\r", "\n.\r\n", "\r\n.\n", "\r\n.\r", "\r.\r\n", "\r\n\x00.\r\n"}
	for _, s := range sequences {
		if r := say(d.smtp, s); !strings.HasPrefix(r, "554 5.6.0") {
			t.Errorf("%q by default: %s", s, r)
		}
	}
	taken := 0
	for _, s := range sequences {
		r := say(fmt.Sprintf("127.0.0.1:%d", repair), s)
		if strings.HasPrefix(r, "250") {
			taken++
		} else if !strings.Contains(s, "\x00") {
			t.Errorf("%q to be repaired: %s", s, r)
		}
	}
	for _, m := range arrive(t, mx, taken) {
		if m.From != "a@sender.example" {
			t.Errorf("a smuggled message from %s", m.From)
		}
		clean := strings.ReplaceAll(string(m.Data), "\r\n", "")
		if strings.ContainsAny(clean, "\r\n") {
			t.Errorf("a bare CR or LF on the wire: %q", m.Data)
		}
		if !bytes.Contains(m.Data, []byte("MAIL FROM:<evil@")) { // as content
			t.Errorf("content: %q", m.Data)
		}
	}
	d.stop()
	if n := len(mx.Messages()); n != taken {
		t.Errorf("%d messages of %d", n, taken)
	}
}

func TestTrap22_LongLines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "fine.example")
	d := w.daemon("").start()
	words := strings.TrimSpace(strings.Repeat("word ", 600))
	body := strings.Repeat("x", 5000) + "\r\nSubject: in the body\r\n"
	d.submit("a@sender.example", []string{"b@fine.example"}, head+"X-Long: "+words+"\r\n\r\n"+body)
	got := received(t, arrive(t, mx, 1)[0])
	fields, rest, _ := strings.Cut(got, "\r\n\r\n")
	if rest != body {
		t.Errorf("the body changed: %.200q", rest)
	}
	for line := range strings.SplitSeq(fields, "\r\n") {
		if len(line) > 998 {
			t.Errorf("a header line of %d octets", len(line))
		}
	}
	if unfolded := strings.ReplaceAll(fields, "\r\n ", " "); unfolded+"\r\n" != head+"X-Long: "+words+"\r\n" {
		t.Errorf("folding changed the header: %.300q", fields)
	}
	d.stop()
}

func TestTrap23_EightBitContent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	old := w.mx(mtatest.MXConfig{Without: []string{"8BITMIME"}}, "old.example")
	d := w.daemon("").start()
	const mime = head + "MIME-Version: 1.0\r\n"
	plain := mime + "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
	signed := mime + "Content-Type: multipart/signed; boundary=s; protocol=\"application/pgp-signature\"; micalg=pgp-sha256\r\n\r\n" +
		"--s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\nx\r\n--s--\r\n"
	d.submit("a@sender.example", []string{"b@old.example"}, plain)
	if got := received(t, arrive(t, old, 1)[0]); !strings.Contains(got, "Content-Transfer-Encoding: quoted-printable\r\n") || !strings.Contains(got, "Gr=C3=BC=C3=9Fe") {
		t.Errorf("not converted: %q", got)
	}
	d.submit("a@sender.example", []string{"b@old.example"}, signed)
	if got := received(t, arrive(t, old, 2)[1]); got != signed {
		t.Errorf("a signed message was altered: %q", got)
	}
	d.must("config", "set", "delivery.eightbit", "send")
	d.must("config", "reload")
	d.submit("a@sender.example", []string{"b@old.example"}, plain)
	if got := received(t, arrive(t, old, 3)[2]); got != plain {
		t.Errorf("altered although the policy is to send: %q", got)
	}
	d.stop()
}

func TestTrap24_SMTPUTF8(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	home := w.mx(mtatest.MXConfig{}, "sender.example")
	has, lacks := w.mx(mtatest.MXConfig{}, "has.example", "xn--bcher-kva.example"), w.mx(mtatest.MXConfig{Without: []string{"SMTPUTF8"}}, "lacks.example")
	d := w.daemon("").start()
	submit := func(rcpt, content string) string {
		c := d.client()
		for _, cmd := range []string{"MAIL FROM:<a@sender.example> SMTPUTF8", "RCPT TO:<" + rcpt + ">", "DATA"} {
			if r, err := c.Cmd("%s", cmd); err != nil || r.Code/100 > 3 {
				t.Fatalf("%s: %v %v", cmd, r, err)
			}
		}
		r, err := c.Cmd("%s.", content)
		if err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
		return r.QueueID()
	}
	failed := submit("j\u00fcrgen@lacks.example", plainLetter)
	records := d.waitEvent(failed, "failed")
	if last := records[len(records)-1]; last.text("enhanced") != "5.6.7" && records[1].text("enhanced") != "5.6.7" {
		t.Errorf("records: %v", records)
	}
	d.waitEvent(submit("b@lacks.example", plainLetter), "delivered") // asked for by the sender, and not needed
	d.waitEvent(submit("j\u00fcrgen@has.example", plainLetter), "delivered")
	d.waitEvent(submit("b@has.example", strings.Replace(plainLetter, "hello", "gr\u00fcn", 1)), "delivered")
	d.waitEvent(submit("b@b\u00fccher.example", plainLetter), "delivered")
	if n := w.dns.Count("xn--bcher-kva.example", "MX"); n == 0 {
		t.Error("DNS was not asked for the A-label")
	}
	if m := lacks.Messages(); len(m) != 1 || strings.Contains(m[0].Params, "SMTPUTF8") {
		t.Errorf("%d messages", len(m))
	}
	for i, want := range []bool{true, true, false} {
		if m := has.Messages()[i]; strings.Contains(m.Params, "SMTPUTF8") != want {
			t.Errorf("message %d to %v: MAIL parameters %q", i, m.To, m.Params)
		}
	}
	arrive(t, home, 1)
	d.stop()
}

func TestTrap25_HiddenRecipientsStayHidden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "fine.example")
	d := w.daemon("").start()
	given := "Return-Path: <x@y.example>\r\nSubject: s\r\nbCC: secret1@fine.example,\r\n\tsecret2@fine.example\r\nResent-Bcc: secret3@fine.example\r\n\r\nBcc: in the body\r\n"
	d.submit("a@sender.example", []string{"b@fine.example", "secret1@fine.example"}, given)
	got := received(t, arrive(t, mx, 1)[0])
	if strings.Contains(got, "secret") || strings.Contains(string(mx.Messages()[0].Data), "secret") || strings.Contains(got, "Return-Path") {
		t.Errorf("hidden fields went out:\n%s", got)
	}
	for _, name := range []string{"Date", "Message-ID", "From"} {
		if n := strings.Count(got, "\r\n"+name+": "); n != 1 {
			t.Errorf("%d %s fields:\n%s", n, name, got)
		}
	}
	if !strings.HasSuffix(got, "\r\n\r\nBcc: in the body\r\n") {
		t.Errorf("the body changed:\n%s", got)
	}
	d.stop()
}

func TestTrap26_27_AddressesAtTheDoors(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "fine.example")
	d := w.daemon("").start()
	file := filepath.Join(d.dir, "note.eml")
	if err := os.WriteFile(file, []byte(plainLetter), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"a@sender.example\r\nBcc: x@y.example", "a@sender.example\nX: y", "a\u0085@sender.example", "a@b>\r\nRCPT TO:<x@y.example"} {
		if _, _, status := d.run("send", "-f", bad, file, "to:b@fine.example"); status == 0 {
			t.Errorf("send -f %q was taken", bad)
		}
		if _, _, status := d.run("send", "-f", "a@sender.example", file, "to:"+bad); status == 0 {
			t.Errorf("send to %q was taken", bad)
		}
	}
	c := d.client()
	if r, err := c.Cmd("MAIL FROM:<a@sender.example>"); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	for rcpt, code := range map[string]int{
		`"b"@fine.example`: 250, `"b c"@fine.example`: 250, "@relay.example:source@fine.example": 250,
		"u%other.example@fine.example": 501, "-oQ/tmp@fine.example": 501, "other!u@fine.example": 501,
		strings.Repeat("l", 65) + "@fine.example": 501, "b@" + strings.Repeat("d", 64) + ".example": 550,
	} {
		if r, err := c.Cmd("RCPT TO:<%s>", rcpt); err != nil || r.Code != code {
			t.Errorf("%s: %v %v, want %d", rcpt, r, err, code)
		}
	}
	if r, err := c.Cmd("DATA"); err != nil || r.Code != 354 {
		t.Fatal(r, err)
	}
	if r, err := c.Cmd("%s.", plainLetter); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	got := map[string]bool{}
	for _, r := range arrive(t, mx, 1)[0].To {
		got[r.Address] = true
	}
	if len(got) != 3 || !got["b@fine.example"] || !got[`"b c"@fine.example`] || !got["source@fine.example"] {
		t.Errorf("recipients on the wire: %v", got)
	}
	d.stop()
}

func TestTrap28_SendLeavesNoHalfMessage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.daemon("[limits]\nmessage_size = \"100KB\"\n").start()
	file := filepath.Join(d.dir, "big.eml")
	if err := os.WriteFile(file, []byte(plainLetter+strings.Repeat("0123456789\r\n", 10_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stderr, status := d.run("send", "-f", "a@sender.example", file, "to:b@fine.example")
	if status == 0 || status == 75 || stderr == "" {
		t.Errorf("status %d: %s", status, stderr)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error("the file is gone")
	}
	if s := d.summary(); s["queued"]+s["deferred"] != 0 {
		t.Errorf("%v", s)
	}
	d.stop()
}

func TestTrap29_MailLoop(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.mx(mtatest.MXConfig{}, "fine.example")
	d := w.daemon("").start()
	for hops, code := range map[int]int{100: 250, 101: 554} {
		out, err := d.client().Send("a@sender.example", []string{"b@fine.example"}, []byte(strings.Repeat("Received: from x by y;\r\n\tMon, 23 Nov 2026 10:00:00 +0000\r\n", hops)+plainLetter))
		if err != nil || out.Final.Code != code {
			t.Errorf("%d hops: %v %v", hops, out, err)
		}
	}
	d.stop()
}

func TestTrap37_NoSpaceAtIntake(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.daemon("[limits]\nspool_free = \"900000GB\"\n").start()
	out, err := d.client().Send("a@sender.example", []string{"b@fine.example"}, []byte(plainLetter))
	if err != nil {
		t.Fatal(err)
	}
	if e := out.Err(); e == nil || !strings.Contains(e.Error(), "452 4.3.1") {
		t.Errorf("%v %+v", e, out)
	}
	conn, err := net.Dial("tcp", d.smtp) // and the door stays open
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	d.stop()
}
