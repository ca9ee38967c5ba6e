package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"mailout/internal/mtatest"
)

// demoPrinter prints who said what, a line each, for many at once. Colour
// only on a terminal, and not with NO_COLOR.
type demoPrinter struct {
	colour bool
	mu     sync.Mutex
	w      io.Writer
}

func newDemoPrinter(w io.Writer) *demoPrinter {
	return &demoPrinter{w: w, colour: isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// SGR codes of the colours used.
const (
	sgrBold  = "1"
	sgrDim   = "2"
	sgrRed   = "31"
	sgrGreen = "32"
	sgrCyan  = "36"
)

func (p *demoPrinter) paint(sgr, text string) string {
	if !p.colour || sgr == "" || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

func (p *demoPrinter) plain(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, text)
}

// title begins a part, with a sentence about it.
func (p *demoPrinter) title(text, about string) {
	text = "\n" + p.paint(sgrBold, text)
	if about != "" {
		text += "\n" + p.paint(sgrDim, about)
	}
	p.plain(text)
}

// whoWidth is the width of the first column.
const whoWidth = 20

// line prints who said what.
func (p *demoPrinter) line(who, what string) { p.coloured("", who, what) }

func (p *demoPrinter) coloured(sgr, who, what string) {
	who += strings.Repeat(" ", max(0, whoWidth-len([]rune(who))))
	p.plain("  " + p.paint(sgrCyan, who) + " " + p.paint(sgr, clean(what)))
}

// block prints lines of text behind a bar.
func (p *demoPrinter) block(text string) {
	for line := range strings.Lines(strings.TrimSpace(text)) {
		p.plain("    │ " + clean(strings.TrimRight(line, "\r\n")))
	}
}

// server prints one step of a session at a receiving server. What goes on
// after a message (RSET, QUIT) is left out.
func (p *demoPrinter) server(host string, e mtatest.Event) {
	reply := strings.Replace(e.Reply, "-", " ", 1)
	if len(e.Reply) < 4 || e.Reply[3] != '-' {
		reply = e.Reply
	}
	switch e.Stage {
	case mtatest.StageConnect:
		p.line(host, "is connected to, and greets: "+reply)
	case mtatest.StageData:
		if strings.HasPrefix(reply, "503") || strings.HasPrefix(reply, "554") {
			reply += " (it was sent along with the recipients, to save a round trip)"
		}
		p.line(host, e.Line+" → "+reply)
	case mtatest.StageHelo, mtatest.StageStartTLS, mtatest.StageMail, mtatest.StageRcpt:
		p.coloured(replyColour(reply), host, e.Line+" → "+reply)
	case mtatest.StageHandshake:
		p.line(host, "TLS handshake: "+e.Note)
	case mtatest.StageDot:
		p.coloured(replyColour(reply), host, "the message, "+e.Note+" → "+reply)
	}
}

func replyColour(reply string) string {
	if reply != "" && reply[0] >= '4' {
		return sgrRed
	}
	return ""
}

// journal prints a record of the daemon's journal.
func (p *demoPrinter) journal(r demoRecord) {
	for _, t := range r.Tries {
		if t.Host != r.Host || t.IP != r.IP {
			p.line("journal", fmt.Sprintf("on the way, %s [%s] at %s: %s", t.Host, t.IP, t.Stage, t.Reply))
		}
	}
	text, sgr := r.Recipient+" "+r.Event, ""
	switch r.Event {
	case "delivered", "relayed":
		sgr = sgrGreen
		text += fmt.Sprintf(" at %s [%s] in attempt %d, %s, as %s", r.Host, r.IP, r.Attempt, protection(r.TLS), r.Helo)
	case "deferred":
		text += fmt.Sprintf(" in attempt %d: %s; next try %s", r.Attempt, shownReply(r), r.Next)
	case "failed", "expired":
		sgr = sgrRed
		text += fmt.Sprintf(" in attempt %d: %s", r.Attempt, shownReply(r))
	case "bounced":
		text += ": the sender is told in message " + r.Report
	case "accepted":
		text += ": on stable storage"
	}
	p.coloured(sgr, "journal", text)
}

func protection(t demoTLS) string {
	if t.Version == "" {
		return "clear text"
	}
	return t.Version + " " + t.Cipher
}

// shownReply is the reply of a record; its reason when it has none.
func shownReply(r demoRecord) string {
	if r.Reply != "" {
		return r.Reply
	}
	return r.Reason
}
