package drop

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

// ContentType names an entry on its way through the control socket.
const ContentType = "application/vnd.mailout.entry"

// maxLine bounds the envelope's line, in octets: twenty thousand recipients
// with long addresses.
const maxLine = 8 << 20

// version is that of the form below.
const version = 1

// ErrForm says that a file is no entry, or that its envelope is impossible:
// trying again is no use.
var ErrForm = errors.New("not an entry")

// Entry is the envelope of a message that is handed over. In a file it is one
// line of JSON, and what follows is the content as the program gave it.
type Entry struct {
	Version    int         `json:"version"`
	ID         mta.ID      `json:"id"`
	Sender     string      `json:"sender"` // empty: the null return path
	Recipients []Recipient `json:"recipients"`
	Ret        string      `json:"ret,omitempty"` // "full" or "hdrs"
	EnvID      string      `json:"envid,omitempty"`
	SMTPUTF8   bool        `json:"smtputf8,omitempty"`
	Body8Bit   bool        `json:"body8bit,omitempty"`
	Stream     string      `json:"stream,omitempty"`
	User       string      `json:"user,omitempty"` // the local account; a file's owner counts more
}

// Recipient is one recipient of an entry.
type Recipient struct {
	Address string     `json:"address"`
	ORcpt   string     `json:"orcpt,omitempty"`
	Notify  mta.Notify `json:"notify,omitempty"`
}

// NewEntry makes the entry of a request that has an ID.
func NewEntry(r *submit.Request) *Entry {
	e := &Entry{
		Version: version, ID: r.ID, Sender: r.Envelope.Sender, EnvID: r.Envelope.EnvID,
		SMTPUTF8: r.Envelope.SMTPUTF8, Body8Bit: r.Envelope.Body8Bit, Stream: r.Stream, User: r.Origin.User,
	}
	switch r.Envelope.Ret {
	case mta.RetFull:
		e.Ret = "full"
	case mta.RetHeaders:
		e.Ret = "hdrs"
	}
	for _, rcpt := range r.Recipients {
		e.Recipients = append(e.Recipients, Recipient{Address: rcpt.Address, ORcpt: rcpt.ORcpt, Notify: rcpt.Notify})
	}
	return e
}

// Read reads an entry and gives its envelope as a request, and the content that
// follows, unread. Every address is parsed anew: whoever could write the file
// wrote what they liked. Errors are ErrForm, or the reader's own.
func Read(r io.Reader) (*submit.Request, io.Reader, error) {
	in := bufio.NewReaderSize(r, 16<<10)
	line, err := readLine(in)
	if err != nil {
		return nil, nil, err
	}
	if !utf8.Valid(line) { // JSON would put another character in its place
		return nil, nil, fmt.Errorf("%w: its first line is not UTF-8", ErrForm)
	}
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, nil, fmt.Errorf("%w: its first line: %w", ErrForm, err)
	}
	request, err := e.request()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	return request, in, nil
}

func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		if len(line)+len(part) > maxLine {
			return nil, fmt.Errorf("%w: its first line is longer than %d octets", ErrForm, maxLine)
		}
		line = append(line, part...)
		switch {
		case err == nil:
			return line, nil
		case errors.Is(err, io.EOF):
			return nil, fmt.Errorf("%w: it ends in its first line", ErrForm)
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// request checks the entry by the rules of every door.
func (e *Entry) request() (*submit.Request, error) {
	if e.Version != version {
		return nil, fmt.Errorf("version %d is not understood, only %d is", e.Version, version)
	}
	r := &submit.Request{
		ID:     e.ID,
		Origin: mta.Origin{Door: "sendmail", Protocol: "LOCAL", User: smtp.Harmless(e.User)},
		Stream: e.Stream, LineEnds: submit.RepairBare,
		Envelope: mta.Envelope{SMTPUTF8: e.SMTPUTF8, Body8Bit: e.Body8Bit},
	}
	if e.ID.IsZero() {
		return nil, errors.New("it has no ID")
	}
	if err := e.reports(&r.Envelope); err != nil {
		return nil, err
	}
	if e.Sender != "" {
		m, err := smtp.ParseMailbox(e.Sender, true)
		if err != nil {
			return nil, fmt.Errorf("sender %q: %w", e.Sender, err)
		}
		r.Envelope.Sender = m.String()
	}
	seen := make(map[string]bool, len(e.Recipients))
	for i := range e.Recipients {
		rcpt, err := e.Recipients[i].recipient()
		if err != nil {
			return nil, fmt.Errorf("recipient %q: %w", e.Recipients[i].Address, err)
		}
		if !seen[rcpt.Address] {
			seen[rcpt.Address] = true
			r.Recipients = append(r.Recipients, rcpt)
		}
	}
	return r, nil
}

// reports checks RET and ENVID.
func (e *Entry) reports(env *mta.Envelope) error {
	switch e.Ret {
	case "":
	case "full":
		env.Ret = mta.RetFull
	case "hdrs":
		env.Ret = mta.RetHeaders
	default:
		return fmt.Errorf("ret %q is neither full nor hdrs", e.Ret)
	}
	if len(e.EnvID) > smtp.MaxEnvID || !printable(e.EnvID) {
		return fmt.Errorf("envid is not at most %d printable characters", smtp.MaxEnvID)
	}
	env.EnvID = e.EnvID
	return nil
}

func (r *Recipient) recipient() (mta.Recipient, error) {
	m, err := smtp.ParseMailbox(r.Address, true)
	if err == nil {
		err = smtp.CheckRecipient(m)
	}
	if err != nil {
		return mta.Recipient{}, err
	}
	const all = mta.NotifySuccess | mta.NotifyFailure | mta.NotifyDelay
	if r.Notify != mta.NotifyNever && r.Notify&^all != 0 {
		return mta.Recipient{}, errors.New("notify is impossible")
	}
	out := mta.Recipient{Address: m.String(), Notify: r.Notify}
	if r.ORcpt != "" {
		if out.ORcpt, err = smtp.ParseORcpt(string(smtp.AppendORcpt(nil, r.ORcpt, true))); err != nil {
			return mta.Recipient{}, err
		}
	}
	return out, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// WriteTo writes the envelope's line; the content is to follow.
func (e *Entry) WriteTo(w io.Writer) (int64, error) {
	line, err := json.Marshal(e)
	if err != nil {
		return 0, err
	}
	n, err := w.Write(append(line, '\n'))
	return int64(n), err
}
