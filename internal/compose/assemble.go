package compose

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/textproto"

	mail "github.com/wneessen/go-mail"

	"mailout/internal/header"
)

// assemble has go-mail write Date, Message-ID and the MIME structure behind
// the fields in head:
//
//	mixed( related( alternative( text, HTML ), inline… ), files… )
//
// with each multipart left out that would have one part.
func (c *checked) assemble(head []byte) ([]byte, error) {
	msg := mail.NewMsg(mail.WithNoDefaultUserAgent())
	msg.SetDateWithValue(c.date)
	msg.SetMessageIDWithValue(c.messageID)
	part(msg.SetBodyWriter, mail.TypeTextPlain, c.text)
	if c.html != "" {
		part(msg.AddAlternativeWriter, mail.TypeTextHTML, c.html)
	}
	var related, mixed []*mail.File
	size := len(c.text) + len(c.html)
	for i := range c.files {
		size += len(c.files[i].content)
		if c.files[i].related {
			related = append(related, c.files[i].mail())
		} else {
			mixed = append(mixed, c.files[i].mail())
		}
	}
	msg.SetEmbeds(related)
	msg.SetAttachments(mixed)
	out := bytes.NewBuffer(make([]byte, 0, len(head)+size+size/2+4096))
	out.Write(head)
	if _, err := msg.WriteTo(out); err != nil {
		return nil, err
	}
	if len(related) > 0 {
		return typedRelated(out.Bytes(), len(head)), nil
	}
	return out.Bytes(), nil
}

// typedRelated adds the parameter that multipart/related must have
// (RFC 2387 3.1). Behind the fields in head nothing of the caller's comes
// before that multipart's own header.
func typedRelated(out []byte, head int) []byte {
	const bare, typed = "multipart/related;\r\n", "multipart/related; type=\"multipart/alternative\";\r\n"
	rest := bytes.Replace(out[head:], []byte(bare), []byte(typed), 1)
	return append(out[:head:head], rest...)
}

// part gives a text to go-mail in the shorter encoding.
func part(add func(mail.ContentType, func(io.Writer) (int64, error), ...mail.PartOption), kind mail.ContentType, text string) {
	encoding := mail.EncodingQP
	if high := countHigh(text); high > len(text)/6 {
		encoding = mail.EncodingB64
		text = string(crlf([]byte(text))) // quoted-printable does it by itself
	}
	add(kind, func(w io.Writer) (int64, error) { n, err := io.WriteString(w, text); return int64(n), err },
		mail.WithPartCharset(mail.CharsetUTF8), mail.WithPartEncoding(encoding))
}

// countHigh is how many octets quoted-printable would make three of.
func countHigh(text string) (n int) {
	for i := range len(text) {
		if text[i] > 127 {
			n++
		}
	}
	return n
}

// mail is the file as go-mail takes it. The header is complete, so that
// go-mail adds nothing of its own.
func (f *file) mail() *mail.File {
	h := textproto.MIMEHeader{"Content-Type": {f.kind}, "Content-Disposition": {f.disposition}}
	out := &mail.File{Header: h, Enc: mail.EncodingB64}
	if f.contentID != "" {
		h["Content-Id"] = []string{"<" + f.contentID + ">"}
	}
	if f.asIs {
		// go-mail declares it as 8bit, which 7-bit content is allowed to be.
		out.Enc = mail.NoEncoding
	}
	out.Writer = func(w io.Writer) (int64, error) { n, err := w.Write(f.content); return int64(n), err }
	return out
}

// verify holds what Build promises of its result.
func verify(content []byte, utf8 bool) error {
	for line := range bytes.Lines(content) {
		text, ended := bytes.CutSuffix(line, []byte("\r\n"))
		switch {
		case !ended && bytes.HasSuffix(line, []byte("\n")), bytes.IndexByte(text, '\r') >= 0:
			return errors.New("a line end that is not CRLF")
		case len(text) > header.MaxLine:
			return fmt.Errorf("a line of %d octets", len(text))
		case bytes.IndexByte(text, 0) >= 0:
			return errors.New("a NUL")
		case !utf8 && header.EightBit(text):
			return errors.New("an octet above 127")
		}
	}
	return nil
}
