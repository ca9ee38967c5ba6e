package mtatest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
)

// Bounds of a reply that Client reads.
const (
	maxReplyLines  = 600
	maxReplyOctets = 128 << 10
)

// Client is an SMTP client that does as it is told: whole messages pipelined,
// or single commands, right or wrong.
type Client struct {
	conn net.Conn
	r    *bufio.Reader
	// Greeting is the server's first reply, and Extensions the lines of its
	// EHLO reply behind the first, by upper-case keyword.
	Greeting   Reply
	Extensions map[string]string
}

// Reply is a server's answer as Client read it.
type Reply struct {
	Code  int
	Lines []string // without code and line ends
}

// String gives the reply on one line.
func (r Reply) String() string { return fmt.Sprintf("%d %s", r.Code, strings.Join(r.Lines, " ")) }

// QueueID gives the ID in "250 2.0.0 queued as ID"; empty when there is none.
func (r Reply) QueueID() string {
	if r.Code != 250 || len(r.Lines) == 0 {
		return ""
	}
	_, id, _ := strings.Cut(r.Lines[len(r.Lines)-1], "queued as ")
	id, _, _ = strings.Cut(id, " ")
	return id
}

// RefusedError is a negative reply to a command.
type RefusedError struct {
	Command string
	Reply   Reply
}

// Error implements error.
func (e *RefusedError) Error() string { return e.Command + ": " + e.Reply.String() }

// Dial connects to addr over TCP and reads the greeting.
func Dial(ctx context.Context, addr string) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	return NewClient(conn)
}

// NewClient reads the greeting of a connection; it closes it on an error.
func NewClient(conn net.Conn) (*Client, error) {
	c := &Client{conn: conn, r: bufio.NewReader(conn)}
	var err error
	if c.Greeting, err = c.Read(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	if c.Greeting.Code != 220 {
		conn.Close()
		return nil, &RefusedError{"greeting", c.Greeting}
	}
	return c, nil
}

// Conn is the connection, for deadlines and for what no method offers.
func (c *Client) Conn() net.Conn { return c.conn }

// Read reads one reply.
func (c *Client) Read() (Reply, error) {
	var r Reply
	size := 0
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			return r, err
		}
		size += len(line)
		text := strings.TrimRight(line, "\r\n")
		if len(text) < 3 || len(r.Lines) >= maxReplyLines || size > maxReplyOctets {
			return r, fmt.Errorf("not a reply: %q", text)
		}
		code := 0
		for _, d := range text[:3] {
			if d < '0' || d > '9' {
				return r, fmt.Errorf("not a reply: %q", text)
			}
			code = code*10 + int(d-'0')
		}
		r.Code = code
		if len(text) == 3 {
			r.Lines = append(r.Lines, "")
			return r, nil
		}
		r.Lines = append(r.Lines, text[4:])
		if text[3] != '-' {
			return r, nil
		}
	}
}

// Write sends octets as they are.
func (c *Client) Write(b []byte) (int, error) { return c.conn.Write(b) }

// Cmd sends one command line and reads its reply.
func (c *Client) Cmd(format string, args ...any) (Reply, error) {
	if _, err := fmt.Fprintf(c.conn, format+"\r\n", args...); err != nil {
		return Reply{}, err
	}
	return c.Read()
}

// Hello says EHLO and keeps the extensions. A refusal is a *RefusedError.
func (c *Client) Hello(name string) error {
	r, err := c.Cmd("EHLO %s", name)
	if err != nil {
		return err
	}
	if r.Code != 250 {
		return &RefusedError{"EHLO", r}
	}
	c.Extensions = make(map[string]string)
	for _, line := range r.Lines[1:] {
		word, rest, _ := strings.Cut(line, " ")
		c.Extensions[strings.ToUpper(word)] = rest
	}
	return nil
}

// StartTLS upgrades the connection; say Hello again afterwards.
func (c *Client) StartTLS(cfg *tls.Config) error {
	r, err := c.Cmd("STARTTLS")
	if err != nil {
		return err
	}
	if r.Code != 220 {
		return &RefusedError{"STARTTLS", r}
	}
	conn := tls.Client(c.conn, cfg)
	if err := conn.Handshake(); err != nil {
		return err
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

// Outcome is what became of one message that Client sent.
type Outcome struct {
	Mail  Reply
	Rcpts []Reply
	Data  Reply
	Final Reply // code 0 when no content was sent
}

// ID is the queue ID of an accepted message; empty otherwise.
func (o *Outcome) ID() string { return o.Final.QueueID() }

// Accepted reports a positive final reply.
func (o *Outcome) Accepted() bool { return o.Final.Code == 250 }

// Err is the first refusal that kept the whole message out, or nil.
func (o *Outcome) Err() error {
	if o.Accepted() {
		return nil
	}
	for _, step := range []struct {
		name  string
		reply Reply
		want  int
	}{{"MAIL", o.Mail, 250}, {"DATA", o.Data, 354}, {"content", o.Final, 250}} {
		if step.reply.Code != step.want {
			if step.name == "DATA" && len(o.Rcpts) > 0 && o.Rcpts[0].Code >= 400 {
				return &RefusedError{"RCPT", o.Rcpts[0]}
			}
			return &RefusedError{step.name, step.reply}
		}
	}
	return nil
}

// Send hands over one message: MAIL, RCPT and DATA in one write, then the
// content, dot-stuffed; a content without a final CRLF gets one. from and to
// are written between angle brackets; what follows a space in them comes
// behind, as parameters: "a@b.example NOTIFY=NEVER". The error is the
// connection's; refusals are in the outcome.
func (c *Client) Send(from string, to []string, data []byte) (*Outcome, error) {
	var b bytes.Buffer
	writePath(&b, "MAIL FROM:", from)
	for _, rcpt := range to {
		writePath(&b, "RCPT TO:", rcpt)
	}
	b.WriteString("DATA\r\n")
	if _, err := c.conn.Write(b.Bytes()); err != nil {
		return nil, err
	}
	o, err := c.readEnvelope(len(to))
	if err != nil {
		return o, err
	}
	if o.Data, err = c.Read(); err != nil {
		return o, err
	}
	if o.Data.Code != 354 {
		return o, c.Reset()
	}
	b.Reset()
	Stuff(&b, data)
	if _, err := c.conn.Write(b.Bytes()); err != nil {
		return o, err
	}
	o.Final, err = c.Read()
	return o, err
}

// readEnvelope reads the replies to MAIL and to so many RCPTs; on an error the
// outcome has those that came.
func (c *Client) readEnvelope(rcpts int) (o *Outcome, err error) {
	o = &Outcome{}
	if o.Mail, err = c.Read(); err != nil {
		return o, err
	}
	for range rcpts {
		r, err := c.Read()
		if err != nil {
			return o, err
		}
		o.Rcpts = append(o.Rcpts, r)
	}
	return o, nil
}

// SendChunked is Send by BDAT with chunks of at most size octets.
func (c *Client) SendChunked(from string, to []string, data []byte, size int) (*Outcome, error) {
	var b bytes.Buffer
	writePath(&b, "MAIL FROM:", from)
	for _, rcpt := range to {
		writePath(&b, "RCPT TO:", rcpt)
	}
	if _, err := c.conn.Write(b.Bytes()); err != nil {
		return nil, err
	}
	o, err := c.readEnvelope(len(to))
	if err != nil {
		return o, err
	}
	for {
		n, last := min(size, len(data)), ""
		if n == len(data) {
			last = " LAST"
		}
		b.Reset()
		fmt.Fprintf(&b, "BDAT %d%s\r\n", n, last)
		b.Write(data[:n])
		if _, err := c.conn.Write(b.Bytes()); err != nil {
			return o, err
		}
		r, err := c.Read()
		if err != nil {
			return o, err
		}
		o.Final = r
		if last != "" {
			return o, nil
		}
		if r.Code != 250 {
			return o, c.Reset()
		}
		data = data[n:]
	}
}

// Reset says RSET.
func (c *Client) Reset() error {
	r, err := c.Cmd("RSET")
	if err == nil && r.Code != 250 {
		err = &RefusedError{"RSET", r}
	}
	return err
}

// Quit says QUIT and closes. The reply does not matter.
func (c *Client) Quit() error {
	_, err := c.Cmd("QUIT")
	return errors.Join(err, c.conn.Close())
}

// Close closes without QUIT.
func (c *Client) Close() error { return c.conn.Close() }

func writePath(b *bytes.Buffer, command, path string) {
	path, params, _ := strings.Cut(path, " ")
	b.WriteString(command)
	b.WriteByte('<')
	b.WriteString(path)
	b.WriteByte('>')
	if params != "" {
		b.WriteByte(' ')
		b.WriteString(params)
	}
	b.WriteString("\r\n")
}

// Stuff appends content as DATA carries it: dots at line starts doubled, and
// the final dot.
func Stuff(b *bytes.Buffer, data []byte) {
	b.Grow(len(data) + 64)
	for len(data) > 0 {
		if data[0] == '.' {
			b.WriteByte('.')
		}
		line := data
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			line = data[:i+1]
		}
		b.Write(line)
		data = data[len(line):]
	}
	if n := b.Len(); n > 0 && !bytes.HasSuffix(b.Bytes(), []byte("\r\n")) {
		b.WriteString("\r\n")
	}
	b.WriteString(".\r\n")
}

// wait is a pause between two tries to connect; the context ends it.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
