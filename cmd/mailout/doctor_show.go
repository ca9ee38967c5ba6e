package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"mailout/internal/doctor"
)

// checkTitles say in plain words what each check is about.
var checkTitles = map[string]string{
	"router":                "where mail goes",
	"router.name":           "router's address",
	"router.tls":            "router and TLS",
	"router.auth":           "router log-in",
	"resolver.answers":      "DNS server",
	"resolver.external":     "names outside",
	"resolver.tcp":          "DNS over TCP",
	"resolver.edns":         "DNS with EDNS",
	"resolver.honest":       "honest DNS answers",
	"resolver.dnssec":       "DNSSEC",
	"name.form":             "host name",
	"name.cname":            "host name and CNAME",
	"address.public":        "visible address",
	"address.record":        "address record",
	"address.authoritative": "address record at the zone's servers",
	"ptr.exists":            "reverse record",
	"ptr.confirmed":         "reverse record, confirmed forwards",
	"ptr.generic":           "kind of reverse record",
	"ipv6":                  "IPv6",
	"port25":                "port 25 outwards",
	"port25.intercepted":    "interception of port 25",
	"spf.record":            "SPF record",
	"spf.pass":              "SPF for our addresses",
	"spf.host":              "SPF of the host name",
	"dkim.key":              "DKIM key",
	"dkim.record":           "DKIM record",
	"dkim.verifies":         "DKIM signature",
	"dkim.alignment":        "DKIM for sender domains",
	"dmarc.record":          "DMARC record",
	"dmarc.alignment":       "DMARC alignment",
	"records.doubled":       "doubled names",
	"records.conflict":      "conflicting records",
	"bounce.domain":         "bounce address",
	"blocklist":             "block lists",
	"clock":                 "clock",
	"spool.sync":            "disk syncs",
	"spool.space":           "disk space",
	"files.limit":           "open files",
}

// whoWords say who can make a fix.
var whoWords = map[doctor.Who]string{
	doctor.You:             "you, on this machine",
	doctor.DNSHost:         "whoever hosts the zone in DNS",
	doctor.AddressProvider: "whoever gave you the address (hosting or internet provider)",
	doctor.RouterProvider:  "whoever runs the router",
	doctor.ListOperator:    "whoever runs the block list",
}

// mark is a status as shown: its word and colour.
type mark struct{ word, sgr string }

var marks = map[doctor.Status]mark{
	doctor.Pass:    {"ok", sgrGreen},
	doctor.Warn:    {"warn", sgrYellow},
	doctor.Fail:    {"FAIL", sgrRed},
	doctor.Skip:    {"skip", sgrDim},
	doctor.Unknown: {"?", sgrCyan},
}

const sgrYellow = "33"

// doctorPrinter lays findings out: in colour on a terminal unless NO_COLOR
// says otherwise, and within the width of the terminal, or 80 columns.
type doctorPrinter struct {
	colour bool
	width  int
}

// The widths that lines are wrapped to.
const (
	usualWidth = 80
	leastWidth = 40
	mostWidth  = 120 // longer lines are hard to read
)

func newDoctorPrinter(w io.Writer) doctorPrinter {
	p := doctorPrinter{width: usualWidth}
	if !onTerminal(w) {
		return p
	}
	p.colour = os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	if width, _, err := term.GetSize(int(w.(*os.File).Fd())); err == nil && width > 0 {
		p.width = min(max(width, leastWidth), mostWidth)
	}
	return p
}

// onTerminal reports whether somebody sees what is written.
func onTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func (p doctorPrinter) paint(sgr, text string) string {
	if !p.colour || sgr == "" || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// report lays out all findings under their headings, and sums up.
func (p doctorPrinter) report(r *doctor.Report) string {
	var b strings.Builder
	var heading doctor.Group
	told := map[string]bool{}
	for i := 0; i < len(r.Checks); i++ {
		c := r.Checks[i]
		same := skippedAlike(r.Checks[i:])
		if c.Status != doctor.Pass && c.Status != doctor.Skip {
			if told[c.Why] {
				c.Why = "" // once is enough
			}
			told[c.Why] = true
		}
		if g := groupOf(c.ID); g != heading {
			if heading != "" {
				b.WriteByte('\n')
			}
			heading = g
			b.WriteString(p.paint(sgrBold, string(g)) + "\n")
		}
		if len(same) > 1 {
			b.WriteString(p.skipped(same))
			i += len(same) - 1
			continue
		}
		b.WriteString(p.check(c))
	}
	b.WriteString("\n" + p.wrap("", "", summary(r)))
	return b.String()
}

// skippedAlike are the checks from the first one on that stand under one heading
// and are skipped for one reason: one line tells all of them.
func skippedAlike(checks []doctor.Check) []doctor.Check {
	first := checks[0]
	n := 0
	for n < len(checks) && checks[n].Status == doctor.Skip && checks[n].Seen == first.Seen &&
		checks[n].Subject == first.Subject && groupOf(checks[n].ID) == groupOf(first.ID) {
		n++
	}
	return checks[:n]
}

// skipped is the line of several checks that are skipped for one reason.
func (p doctorPrinter) skipped(checks []doctor.Check) string {
	c := checks[0]
	titles := make([]string, len(checks))
	for i := range checks {
		titles[i] = title(doctor.Check{ID: checks[i].ID})
	}
	if c.Subject != "" && c.Subject != "none" {
		titles[len(titles)-1] += " (" + clean(c.Subject) + ")"
	}
	return p.line(c.Status, strings.Join(titles, "; ")+": "+clean(c.Seen))
}

func groupOf(id string) doctor.Group {
	for _, e := range doctor.IDs {
		if e.ID == id {
			return e.Group
		}
	}
	return doctor.GroupRest
}

// check is a line, and under one that is not fine what there is to know.
func (p doctorPrinter) check(c doctor.Check) string {
	line := title(c)
	if seen := clean(c.Seen); seen != "" {
		line += ": " + seen
	}
	s := p.line(c.Status, line)
	if c.Status == doctor.Pass || c.Status == doctor.Skip {
		return s
	}
	return s + p.details(c)
}

// line is a text behind the word of a status.
func (p doctorPrinter) line(s doctor.Status, text string) string {
	m := marks[s]
	head := fmt.Sprintf("  %-4s  ", m.word)
	return strings.Replace(p.wrap(head, strings.Repeat(" ", len(head)), text), m.word, p.paint(m.sgr, m.word), 1)
}

// title is what a check is about, and of whom.
func title(c doctor.Check) string {
	t := checkTitles[c.ID]
	if t == "" {
		t = c.ID
	}
	if c.Subject != "" && c.Subject != "none" {
		t += " (" + clean(c.Subject) + ")"
	}
	return t
}

// details are what was asked, why it matters, and what mends it. Records and
// commands are not wrapped: they are there to be copied.
func (p doctorPrinter) details(c doctor.Check) string {
	var b strings.Builder
	item := func(label, text string) {
		if text != "" {
			b.WriteString(p.wrap(p.label(label), strings.Repeat(" ", detailIndent), clean(text)))
		}
	}
	whole := func(label, text string) {
		if text != "" {
			b.WriteString(p.label(label) + p.paint(sgrBold, clean(text)) + "\n")
		}
	}
	item("asked", c.Asked)
	item("why", c.Why)
	if c.Fix != nil {
		item("do", c.Fix.Text)
		whole("record", c.Fix.Record)
		whole("run", c.Fix.Command)
		item("who", whoWords[c.Who])
	}
	item("check", c.ID)
	return b.String()
}

const detailIndent = 16

func (p doctorPrinter) label(s string) string {
	return p.paint(sgrDim, fmt.Sprintf("        %-6s  ", s))
}

// wrap breaks text at spaces so that no line is longer than the width, unless
// a single word is; first and rest stand before the first and other lines.
func (p doctorPrinter) wrap(first, rest, text string) string {
	var b strings.Builder
	b.WriteString(first)
	indent := len(rest)
	room := p.width - indent
	used := 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case used == 0:
		case used+1+n > room:
			b.WriteString("\n" + rest)
			used = 0
		default:
			b.WriteByte(' ')
			used++
		}
		b.WriteString(word)
		used += n
	}
	b.WriteByte('\n')
	return b.String()
}

// summary counts, and says what it means.
func summary(r *doctor.Report) string {
	counts := map[doctor.Status]int64{}
	for _, c := range r.Checks {
		counts[c.Status]++
	}
	var parts []string
	for _, s := range []struct {
		status doctor.Status
		noun   string
	}{{doctor.Fail, "failure"}, {doctor.Warn, "warning"}} {
		if n := counts[s.status]; n > 0 {
			parts = append(parts, counted(n, s.noun))
		}
	}
	for _, s := range []struct {
		status doctor.Status
		words  string
	}{{doctor.Unknown, "could not be found out"}, {doctor.Pass, "fine"}, {doctor.Skip, "skipped"}} {
		if n := counts[s.status]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, s.words))
		}
	}
	text := strings.Join(parts, ", ")
	if text == "" {
		text = "nothing was examined"
	}
	switch {
	case r.Status == doctor.Fail:
		text += ". Receivers will refuse mail, or it will not leave, until the failures are mended."
	case counts[doctor.Warn]+counts[doctor.Unknown] > 0:
		text += ". No failure was found; what is not fine may cost some of the mail."
	case counts[doctor.Pass] > 0:
		text += ". Everything that was examined is in order."
	default:
		text += "."
	}
	return text
}
