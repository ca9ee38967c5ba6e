package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// localUser is who runs the command.
type localUser struct {
	login string // fit to be a local part
	name  string // of the person, maybe empty
}

// currentUser asks the system; an account without an entry, as containers
// have, goes by its number.
func currentUser() localUser {
	a := localUser{login: "uid" + strconv.Itoa(os.Getuid())}
	u, err := user.Current()
	if err != nil {
		return a
	}
	if _, err := smtp.ParseMailbox(u.Username+"@host.example", false); err == nil {
		a.login = u.Username
	}
	if header.Check("From", u.Name) == nil {
		name := strings.TrimSpace(u.Name)
		a.name = strings.ReplaceAll(name, "&", capital(a.login)) // the convention of passwd(5)
	}
	return a
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// whole is a message as it is handed over: fields that were missing, then the
// content from an offset on.
type whole struct {
	added   []byte
	content *kept
	skip    int
}

func (w *whole) reader() io.Reader {
	return io.MultiReader(bytes.NewReader(w.added), w.content.from(w.skip))
}

// compose makes the envelope and completes the header. Intake adds what else is
// missing, takes Bcc out, and mends line ends.
func (s *sendmail) compose(content *kept) (*submit.Request, *whole, error) {
	w := &whole{content: content, skip: mboxLine(content.mem)}
	h, _, err := header.Parse(content.mem[w.skip:], header.Limits{})
	if err != nil {
		return nil, nil, fail(exitData, "%v", err)
	}
	r, err := s.request()
	if err != nil {
		return nil, nil, err
	}
	to := s.options.recipients
	if s.options.fromHeader {
		named, err := h.Recipients()
		if err != nil {
			return nil, nil, fail(exitData, "%v", err)
		}
		to = append(to[:len(to):len(to)], named...)
	}
	if r.Recipients, err = s.recipients(to); err != nil {
		return nil, nil, err
	}
	w.added, err = s.missing(h, r.Envelope.Sender)
	return r, w, err
}

// mboxLine is the length of an mbox separator at the start of the content, which
// some programs hand over; fields put before it would make it a part of the body.
func mboxLine(content []byte) int {
	if bytes.HasPrefix(content, []byte("From ")) || bytes.HasPrefix(content, []byte(">From ")) {
		return bytes.IndexByte(content, '\n') + 1
	}
	return 0
}

// request is the envelope without its recipients, and with a new ID.
func (s *sendmail) request() (*submit.Request, error) {
	id, err := newID()
	if err != nil {
		return nil, err
	}
	o := s.options
	r := &submit.Request{
		ID: id, Stream: o.stream, LineEnds: submit.RepairBare,
		Origin:   mta.Origin{Door: "sendmail", Protocol: "LOCAL", User: s.account.login},
		Envelope: mta.Envelope{Ret: o.ret, EnvID: o.envID, Body8Bit: o.eightBit},
	}
	r.Envelope.Sender, err = s.sender()
	return r, err
}

func newID() (mta.ID, error) {
	var bits [10]byte
	if _, err := rand.Read(bits[:]); err != nil {
		return mta.ID{}, fail(exitTemporary, "no random bits for a message ID: %v", err)
	}
	return mta.NewID(time.Now(), bits), nil
}

// sender is the return path: -f, or the account at this host. A name without a
// domain is one of this host.
func (s *sendmail) sender() (string, error) {
	if s.options.sender == nil {
		return s.account.login + "@" + s.config.Hostname, nil
	}
	given := strings.TrimSpace(*s.options.sender)
	if given == "" || given == "<>" {
		return "", nil
	}
	list, err := oneLine(given)
	if err == nil && len(list) != 1 {
		err = errors.New("one address is needed")
	}
	if err == nil {
		var m smtp.Mailbox
		if m, err = smtp.ParseMailbox(qualified(list[0], "@"+s.config.Hostname), true); err == nil {
			return m.String(), nil
		}
	}
	return "", fail(exitUsage, "the sender %s: %v", smtp.Harmless(given), err)
}

// oneLine takes addresses out of an argument, or of a field's unfolded text. A
// line end in it is an attempt to smuggle something in.
func oneLine(text string) ([]string, error) {
	if err := header.Check("address", text); err != nil {
		return nil, err
	}
	return header.Mailboxes(text)
}

// qualified adds what is missing of an address that has no domain.
func qualified(address, missing string) string {
	if strings.HasSuffix(address, `"`) || !strings.Contains(address, "@") {
		return address + missing
	}
	return address
}

// recipients parses recipients, each of which may be a list.
func (s *sendmail) recipients(args []string) ([]mta.Recipient, error) {
	var out []mta.Recipient
	seen := map[string]bool{}
	for _, arg := range args {
		list, err := oneLine(arg)
		if err != nil {
			return nil, fail(exitNoUser, "the recipient %s: %v", smtp.Harmless(arg), err)
		}
		for _, address := range list {
			rcpt, err := s.recipient(address)
			if err != nil {
				return nil, err
			}
			if !seen[rcpt.Address] {
				seen[rcpt.Address] = true
				out = append(out, rcpt)
			}
		}
	}
	switch limit := s.config.Limits.Recipients; {
	case len(out) == 0:
		return nil, fail(exitData, "the message names no recipients")
	case len(out) > limit:
		return nil, fail(exitData, "more than %d recipients ([limits] recipients)", limit)
	}
	return out, nil
}

// recipient parses one address. A name without a domain would be a mailbox of
// this host, which has none: its mail goes to the operator's.
func (s *sendmail) recipient(address string) (mta.Recipient, error) {
	original := ""
	if qualified(address, "@") != address {
		m, err := smtp.ParseMailbox(address+"@"+s.config.Hostname, true)
		if err == nil {
			err = smtp.CheckRecipient(m)
		}
		if err != nil {
			return mta.Recipient{}, fail(exitNoUser, "the recipient %s: %v", smtp.Harmless(address), err)
		}
		original, address = "rfc822;"+m.String(), s.config.Sendmail.Local
	}
	m, err := smtp.ParseMailbox(address, true)
	if err == nil {
		err = smtp.CheckRecipient(m)
	}
	if err != nil {
		return mta.Recipient{}, fail(exitNoUser, "the recipient %s: %v", smtp.Harmless(address), err)
	}
	if strings.IndexFunc(original, func(r rune) bool { return r < ' ' || r > '~' }) >= 0 || len(original) > smtp.MaxORcpt {
		original = ""
	}
	return mta.Recipient{Address: m.String(), Notify: s.options.notify, ORcpt: original}, nil
}

// missing makes Date and From where the message has none: the time and the name
// are those of now and here, not those of the daemon that takes it later.
func (s *sendmail) missing(h *header.Header, sender string) ([]byte, error) {
	var date, from bool
	for f := range h.All() {
		date = date || f.Known() == header.Date && !f.Blank()
		from = from || f.Known() == header.From && !f.Blank()
	}
	var out []byte
	if !date {
		out = append(header.AppendDate(append(out, "Date: "...), time.Now()), "\r\n"...)
	}
	if from {
		return out, nil
	}
	if sender == "" {
		sender = s.account.login + "@" + s.config.Hostname
	}
	name := s.options.fullName
	if name == "" && s.options.sender == nil {
		name = s.account.name
	}
	var b header.Builder
	b.AddMailbox("From", name, sender)
	field, err := b.Bytes()
	if err != nil {
		return nil, fail(exitUsage, "the name in -F: %v", err)
	}
	return append(out, field...), nil
}
