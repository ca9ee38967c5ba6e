package lint

import (
	"bytes"
	"mime"
	"net/mail"
	"regexp"
	"strings"
	"time"

	"mailout/internal/header"
)

// wantedLine is the length that a header line should not pass.
const wantedLine = 78

// field judges one header field by its form.
func (l *linter) field(f header.Field, line int) {
	if f.EightBit() {
		l.add("header.8bit", line, "%s holds octets above 127: encode them (RFC 2047)", f.Name())
	}
	if raw := f.Raw(); raw[len(f.Name())] != ':' {
		l.add("header.space", line, "white space stands between %s and its colon", f.Name())
	}
	if !f.Is("DKIM-Signature") && !f.Is("Received") && !strings.HasPrefix(strings.ToLower(f.Name()), "arc-") { // made by servers
		l.encodedWords(f, line)
		l.headerLines(f, line)
	}
}

// headerLines judges a field's lines. Only one finding of each kind a field.
func (l *linter) headerLines(f header.Field, line int) {
	long, blank := false, false
	n := line
	for raw := range bytes.Lines(f.Raw()) {
		text := bytes.TrimRight(raw, "\r\n")
		switch {
		case !blank && n > line && len(bytes.TrimLeft(text, " \t")) == 0:
			blank = true
			l.add("header.blank-fold", n, "a line of %s is white space only", f.Name())
		case !long && len(text) > wantedLine && len(text) <= header.MaxLine && foldable(text):
			long = true
			l.add("line.header-long", n, "a line of %s has %d octets; fold it to at most 78", f.Name(), len(text))
		}
		n++
	}
}

// foldable reports whether a header line has white space at which it could be
// folded, after its name and first word.
func foldable(line []byte) bool {
	text := bytes.TrimLeft(line, " \t")
	if i := bytes.IndexByte(text, ' '); i > 0 && text[i-1] == ':' {
		text = bytes.TrimLeft(text[i:], " \t")
	}
	return bytes.ContainsAny(bytes.TrimRight(text, " \t"), " \t")
}

// wordStart finds what looks like an encoded word; word is a whole one.
var (
	wordStart = regexp.MustCompile(`=\?[A-Za-z0-9_.:*-]+\?[BbQq]\?`)
	word      = regexp.MustCompile(`^=\?[A-Za-z0-9_.:*-]+\?[BbQq]\?[^? \t]*\?=`)
)

const longestWord = 75

// encodedWords judges the encoded words of a field, one finding at most.
func (l *linter) encodedWords(f header.Field, line int) {
	text := f.Text()
	for _, at := range wordStart.FindAllStringIndex(text, -1) {
		w := word.FindString(text[at[0]:])
		switch {
		case w == "":
			l.add("header.encoded-word", line, "%s: %s does not end as an encoded word must, or holds spaces", f.Name(), clip(text[at[0]:]))
			return
		case len(w) > longestWord:
			l.add("header.encoded-word", line, "%s: an encoded word has %d characters; 75 are allowed", f.Name(), len(w))
			return
		case !decodes(w):
			l.add("header.encoded-word", line, "%s: %s cannot be decoded", f.Name(), clip(w))
			return
		}
	}
}

// decodes tells whether the encoding of a word is right; which charsets there
// are is not judged.
func decodes(w string) bool {
	rest := w[2:]
	charset, rest, _ := strings.Cut(rest, "?")
	_, err := new(mime.WordDecoder).Decode("=?iso-8859-1?" + rest)
	return charset != "" && err == nil
}

// once are the fields that stand at most once.
var once = []string{
	"Date", "From", "Sender", "Reply-To", "To", "Cc", "Bcc", "Message-ID", "In-Reply-To", "References", "Subject",
	"MIME-Version", "Content-Type", "Content-Transfer-Encoding", "Content-Disposition", "Content-ID",
	"List-Id", "List-Unsubscribe", "List-Unsubscribe-Post",
}

func (l *linter) doubled() {
	for _, name := range once {
		seen := 0
		for i := range l.fields.Len() {
			if !l.fields.Field(i).Is(name) {
				continue
			}
			if seen++; seen == 2 {
				l.add("field.doubled", l.lines[i], "%s stands %d times; once is allowed", name, l.fields.Count(name))
			}
		}
	}
}

// The bounds of a Date, and of hops.
const (
	mostAhead  = 3 * time.Hour
	mostBehind = 4 * 24 * time.Hour
	mostHops   = 25
	loopOfHops = 100
)

// required judges the fields that have to be there, and those that must not.
func (l *linter) required() {
	for _, need := range []struct{ name, id, mended string }{
		{"From", "from.missing", "mailout adds one of the return path"},
		{"Message-ID", "message-id.missing", "mailout adds one"},
	} {
		if f, line := l.first(need.name); line == 0 {
			l.add(need.id, 0, "there is no %s (%s)", need.name, need.mended)
		} else if f.Blank() {
			l.add(need.id, line, "%s is empty (%s)", need.name, need.mended)
		}
	}
	l.date()
	l.messageID()
	if f, line := l.first("Subject"); line == 0 || f.Blank() {
		l.add("subject.missing", line, "there is no Subject, or an empty one")
	}
	_, to := l.first("To")
	_, cc := l.first("Cc")
	if to == 0 && cc == 0 {
		l.add("to.missing", 0, "there is neither To nor Cc; \"To: undisclosed-recipients:;\" is enough")
	}
	if _, line := l.first("Bcc"); line > 0 {
		l.add("bcc.present", line, "Bcc stands in the message that recipients get (mailout takes it out)")
	}
	if _, line := l.first("Return-Path"); line > 0 {
		l.add("return-path.present", line, "Return-Path is for the last server to add (mailout takes it out)")
	}
	switch hops := l.fields.Count("Received"); {
	case hops >= loopOfHops:
		l.add("received.loop", 0, "%d Received fields: the message goes in a circle", hops)
	case hops > mostHops:
		l.add("received.many", 0, "%d Received fields", hops)
	}
}

func (l *linter) date() {
	f, line := l.first("Date")
	if line == 0 {
		l.add("date.missing", 0, "there is no Date (mailout adds one)")
		return
	}
	date, err := mail.ParseDate(f.Text())
	if err != nil {
		l.add("date.invalid", line, "%q is no date; write \"Mon, 02 Jan 2006 15:04:05 +0000\"", clip(f.Text()))
		return
	}
	if l.opts.Now.IsZero() {
		return
	}
	switch off := date.Sub(l.opts.Now); {
	case off > mostAhead:
		l.add("date.off", line, "the Date is %s ahead", spell(off))
	case off < -mostBehind:
		l.add("date.off", line, "the Date is %s ago", spell(-off))
	}
}

// spell gives a long time for people.
func spell(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= 2*day {
		return strings.TrimSuffix((d/day*time.Hour).String(), "h0m0s") + " days"
	}
	return d.Round(time.Minute).String()
}

// messageForm is a Message-ID as receivers want it.
var messageForm = regexp.MustCompile(`^<[^<>\s@]+@[^<>\s@]+>$`)

func (l *linter) messageID() {
	if f, line := l.first("Message-ID"); line > 0 && !f.Blank() && !messageForm.MatchString(f.Text()) {
		l.add("message-id.invalid", line, "%q is not <left@right>", clip(f.Text()))
	}
}
