package main

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/mail"
	"strconv"
	"strings"
	"text/tabwriter"

	"mailout/internal/mtatest"
)

// demoBounce is a report as the sender's server got it.
type demoBounce struct {
	from    string // the envelope's return path
	to      string
	subject string
	auto    string            // Auto-Submitted
	human   string            // the first part
	status  map[string]string // fields of the recipient's block of message/delivery-status, lower-case names
}

// readBounce takes a report apart with the standard library alone.
func readBounce(m *mtatest.Message) (*demoBounce, error) {
	msg, err := mail.ReadMessage(bytes.NewReader(m.Data))
	if err != nil {
		return nil, err
	}
	b := &demoBounce{from: m.From, subject: msg.Header.Get("Subject"), to: msg.Header.Get("To"), auto: msg.Header.Get("Auto-Submitted"), status: map[string]string{}}
	kind, params, err := mime.ParseMediaType(msg.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/report" {
		return nil, fmt.Errorf("its Content-Type is %q, not multipart/report (%v)", msg.Header.Get("Content-Type"), err)
	}
	parts := multipart.NewReader(msg.Body, params["boundary"])
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return b, nil
		}
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(part)
		if err != nil {
			return nil, err
		}
		kind, _, _ := strings.Cut(part.Header.Get("Content-Type"), ";")
		switch strings.ToLower(strings.TrimSpace(kind)) {
		case "text/plain":
			if b.human == "" {
				b.human = string(body)
			}
		case "message/delivery-status":
			b.readStatus(string(body))
		}
	}
}

// readStatus keeps the fields of the blocks behind the first (RFC 3464 2.3).
func (b *demoBounce) readStatus(text string) {
	blocks := strings.Split(strings.TrimSpace(strings.ReplaceAll(text, "\r\n", "\n")), "\n\n")
	for _, block := range blocks[1:] {
		unfolded := strings.NewReplacer("\n ", " ", "\n\t", " ").Replace(block)
		for line := range strings.SplitSeq(unfolded, "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok {
				b.status[strings.ToLower(name)] = strings.TrimSpace(value)
			}
		}
	}
}

// bounce gives the report that the sender's server took; an error says what is
// wrong with it.
func (d *demo) bounce() (*demoBounce, error) {
	got := d.world.server("mx.widget.example").received(demoSender)
	if len(got) != 1 {
		return nil, fmt.Errorf("the sender got %d bounces, expected one", len(got))
	}
	b, err := readBounce(got[0])
	if err != nil {
		return nil, fmt.Errorf("the bounce cannot be read: %w", err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"return path", "<" + b.from + ">", "<>"},
		{"Auto-Submitted", b.auto, "auto-replied"},
		{"Final-Recipient", b.status["final-recipient"], "rfc822; nobody@users.example"},
		{"Action", b.status["action"], "failed"},
		{"Status", b.status["status"], "5.1.1"},
	} {
		if squeeze(c.got) != squeeze(c.want) {
			return nil, fmt.Errorf("the bounce has %s %q, expected %q", c.what, c.got, c.want)
		}
	}
	return b, nil
}

// squeeze compares fields without regard to case and spaces.
func squeeze(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

func (d *demo) showBounce() {
	b, err := d.bounce()
	if err != nil {
		d.show.coloured(sgrRed, "demo", err.Error())
		return
	}
	d.show.line("the sender's mailbox", fmt.Sprintf("holds a bounce: %q", b.subject))
	d.show.block(b.human)
	d.show.line("for programs", fmt.Sprintf("Final-Recipient: %s · Action: %s · Status: %s", b.status["final-recipient"], b.status["action"], b.status["status"]))
}

// differences says how a recipient's end differs from what is expected.
func (e *demoExpect) differences(m *demoMessage, w *demoWorld) []string {
	var out []string
	differ := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	r := m.final(e.recipient)
	if r == nil {
		differ("not finished in time")
		return out
	}
	if r.Event != e.final {
		differ("%s (%s), expected %s", r.Event, shownReply(*r), e.final)
	}
	if r.Host != e.host {
		differ("at host %q, expected %s", r.Host, e.host)
	}
	if r.Helo != demoHostname {
		differ("as %q, expected %s", r.Helo, demoHostname)
	}
	if r.Attempt != e.attempts {
		differ("%d attempts, expected %d", r.Attempt, e.attempts)
	}
	if (r.TLS.Version != "") != e.tls {
		differ("TLS %q, expected %v", r.TLS.Version, e.tls)
	}
	if e.code != 0 && r.Code != e.code || e.enhanced != "" && r.Enhanced != e.enhanced {
		differ("reply %d %s, expected %d %s", r.Code, r.Enhanced, e.code, e.enhanced)
	}
	switch before := m.find(e.recipient, "deferred"); {
	case before == nil && e.deferred != 0:
		differ("never deferred")
	case before != nil && before.Code != e.deferred:
		differ("deferred with %d %s", before.Code, shownReply(*before))
	}
	if e.tried != "" && !tried(r, e.tried) {
		differ("the journal does not show that %s was tried", e.tried)
	}
	return append(out, e.atReceiver(m, w)...)
}

func tried(r *demoRecord, host string) bool {
	for _, t := range r.Tries {
		if t.Host == host {
			return true
		}
	}
	return false
}

// atReceiver compares with what the receiving server really got.
func (e *demoExpect) atReceiver(m *demoMessage, w *demoWorld) []string {
	var out []string
	server := w.server(e.host)
	got, want := server.received(e.recipient), 1
	if e.final != "delivered" {
		want = 0
	}
	if len(got) != want {
		out = append(out, fmt.Sprintf("%s holds %d messages for it, expected %d", server.host, len(got), want))
	}
	for _, g := range got {
		if (g.TLS != nil) != e.tls {
			out = append(out, "the receiver saw TLS: "+strconv.FormatBool(g.TLS != nil))
		}
		if !m.report && (g.Header("Subject") != m.subject || !bytes.HasSuffix(g.Data, []byte("\r\n\r\n"+m.body()+"\r\n"))) {
			out = append(out, "the message was changed on the way")
		}
	}
	for _, v := range server.mx.Violations() {
		out = append(out, server.host+" complains: "+v)
	}
	return out
}

// verdict prints the closing table. The error says that something differs.
func (d *demo) verdict() error {
	d.show.title("What became of every recipient", "")
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "  recipient\thost\tattempts\tTLS\tended as\texpected\t")
	var wrong []string
	rows := 0
	for _, m := range d.mail {
		for _, e := range m.expect {
			rows++
			diff := e.differences(m, d.world)
			d.row(t, m, &e, len(diff) == 0)
			for _, text := range diff {
				wrong = append(wrong, e.recipient+": "+text)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	d.show.plain(strings.TrimRight(b.String(), "\n"))
	if _, err := d.bounce(); err != nil {
		wrong = append(wrong, err.Error())
	}
	if rows < demoRecipients {
		wrong = append(wrong, fmt.Sprintf("only %d of %d recipients were reached before the time was over", rows, demoRecipients))
	}
	if len(wrong) == 0 {
		d.show.plain("\n" + d.show.paint(sgrGreen, "Every recipient ended as it should."))
		return nil
	}
	return fail(exitFailure, "demo: not as expected:\n  %s", strings.Join(wrong, "\n  "))
}

// demoRecipients is how many recipients the demonstration has, the bounce
// included.
const demoRecipients = 7

func (d *demo) row(t io.Writer, m *demoMessage, e *demoExpect, ok bool) {
	host, attempts, protected, final, verdict := "–", "–", "–", "not yet", "ok"
	if r := m.find(e.recipient, "deferred"); r != nil {
		final = "still deferred"
	}
	if r := m.final(e.recipient); r != nil {
		host, attempts, final = r.Host, strconv.Itoa(r.Attempt), r.Event
		if r.TLS.Version != "" {
			protected = r.TLS.Version
		}
		if r.Event == "failed" {
			final = fmt.Sprintf("failed %s", r.Enhanced)
		}
	}
	if !ok {
		verdict = "DIFFERS"
	}
	name := e.recipient
	if m.report {
		name += " (bounce)"
	}
	fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", name, host, attempts, protected, final, e, verdict)
}

// String says in words how the recipient must end.
func (e *demoExpect) String() string {
	text := strings.TrimSpace(e.final + " " + e.enhanced)
	if e.tls {
		text += " over TLS"
	}
	if e.deferred != 0 {
		text += fmt.Sprintf(" after a %d", e.deferred)
	}
	if e.tried != "" {
		text += " by the second server"
	}
	return text
}
