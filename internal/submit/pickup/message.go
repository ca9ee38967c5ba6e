package pickup

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"mailout/internal/header"
	"mailout/internal/mta"
	"mailout/internal/smtp"
	"mailout/internal/submit"
)

var byteOrderMark = []byte("\xef\xbb\xbf")

// readMessage makes the request with that ID of a file of that size, with the
// envelope that stands beside it, nil when there is none, and gives the content
// to be sent. Errors are ErrForm, or the reader's own.
func readMessage(id mta.ID, file io.ReaderAt, size int64, beside *envelope) (*submit.Request, *io.SectionReader, error) {
	start, err := skipFront(file, size)
	if err != nil {
		return nil, nil, err
	}
	h, _, err := header.Read(io.NewSectionReader(file, start, size-start), size-start, header.Limits{})
	if errors.Is(err, header.ErrTooLarge) {
		return nil, nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	if err != nil {
		return nil, nil, err
	}
	r := &submit.Request{
		ID: id, LineEnds: submit.RepairBare, DeclaredSize: size,
		Origin: mta.Origin{Door: "pickup", Protocol: "LOCAL"},
	}
	top, err := readTop(h, r)
	if err == nil {
		err = address(h, r, top, beside)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrForm, err)
	}
	start += top.size
	return r, io.NewSectionReader(file, start, size-start), nil
}

// skipFront gives the length of what programs put before a message that is no
// part of it: a byte order mark, and the separator line of an mbox file.
func skipFront(file io.ReaderAt, size int64) (int64, error) {
	front := make([]byte, min(size, header.MaxLine))
	if n, err := file.ReadAt(front, 0); n < len(front) {
		return 0, err
	}
	if bytes.HasPrefix(front, []byte("\xff\xfe")) || bytes.HasPrefix(front, []byte("\xfe\xff")) {
		return 0, fmt.Errorf("%w: it is UTF-16; write it as UTF-8", ErrForm)
	}
	rest := bytes.TrimPrefix(front, byteOrderMark)
	if bytes.HasPrefix(rest, []byte("From ")) || bytes.HasPrefix(rest, []byte(">From ")) {
		rest = rest[bytes.IndexByte(rest, '\n')+1:]
	}
	return int64(len(front) - len(rest)), nil
}

// top is what the X-Sender and X-Receiver lines at the top of a file said.
type top struct {
	size      int64 // octets of the lines
	sender    bool
	receivers bool
}

// readTop reads the lines into the request. They have the form of Exchange and
// IIS: an address, and the parameters of MAIL or RCPT behind it. The first other
// field ends them. A receiver behind that is no address of anybody's choice: it
// would be shown to all the others.
func readTop(h *header.Header, r *submit.Request) (t top, err error) {
	over := false
	for f := range h.All() {
		from, to := f.Is("X-Sender"), f.Is("X-Receiver")
		over = over || !from && !to
		switch {
		case over && to:
			return t, errors.New("an X-Receiver line stands behind other fields (such lines are the first ones of the file)")
		case over:
			continue
		case from && t.sender:
			return t, errors.New("it has two X-Sender lines")
		case from:
			t.sender = true
			err = readSender(f.Text(), r)
		default:
			t.receivers = true
			err = readReceiver(f.Text(), r)
		}
		if err != nil {
			return t, err
		}
		t.size += int64(len(f.Raw()))
	}
	return t, nil
}

func readSender(text string, r *submit.Request) error {
	m, err := smtp.ParseMail("FROM:" + withUTF8(text))
	if err != nil {
		return fmt.Errorf("the line X-Sender: %w", err)
	}
	if !m.Sender.IsNull() {
		r.Envelope.Sender = m.Sender.String()
	}
	r.Envelope.Ret, r.Envelope.EnvID, r.Envelope.RequireTLS = m.Ret, m.EnvID, m.RequireTLS
	r.Envelope.Body8Bit = m.Body == smtp.Body8BitMIME
	return nil
}

// withUTF8 lets an address that needs SMTPUTF8 be one without saying so.
func withUTF8(text string) string {
	if strings.IndexFunc(text, func(c rune) bool { return c > '~' }) >= 0 && !strings.Contains(strings.ToUpper(text), " SMTPUTF8") {
		return text + " SMTPUTF8"
	}
	return text
}

func readReceiver(text string, r *submit.Request) error {
	rcpt, err := smtp.ParseRcpt("TO:"+text, true)
	if err == nil {
		err = smtp.CheckRecipient(rcpt.Recipient)
	}
	if err != nil {
		return fmt.Errorf("the line X-Receiver %q: %w", text, err)
	}
	r.Recipients = append(r.Recipients, mta.Recipient{Address: rcpt.Recipient.String(), Notify: rcpt.Notify, ORcpt: rcpt.ORcpt})
	return nil
}

// address completes the envelope from the one beside the message, and from the
// message's own header: recipients that neither it nor X-Receiver lines name are
// those of To, Cc and Bcc, and the return path is who sent the message.
func address(h *header.Header, r *submit.Request, t top, beside *envelope) error {
	if beside != nil {
		if t.size > 0 {
			return errors.New("it has two envelopes: X-Sender or X-Receiver lines, and the .json file beside it")
		}
		if err := beside.apply(r); err != nil {
			return err
		}
	}
	if !t.sender && (beside == nil || beside.From == nil) {
		author, err := h.Author()
		if err != nil {
			return fmt.Errorf("no sender: no X-Sender line, no envelope with \"from\", and %w", err)
		}
		if r.Envelope.Sender, err = sender(author); err != nil {
			return err
		}
	}
	if len(r.Recipients) > 0 {
		return nil
	}
	if beside != nil && beside.To != nil {
		return errors.New(`the "to" of its envelope is empty`)
	}
	named, err := h.Recipients()
	if err != nil {
		return err
	}
	var notify mta.Notify
	if beside != nil {
		if notify, err = notifyOf(beside.Notify); err != nil {
			return err
		}
	}
	if r.Recipients, err = recipients(named, notify); err != nil {
		return err
	}
	if len(r.Recipients) == 0 {
		return errors.New("no recipients: no X-Receiver lines, no envelope with \"to\", and no addresses in To, Cc or Bcc")
	}
	return nil
}
