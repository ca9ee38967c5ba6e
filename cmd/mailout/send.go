package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"

	"mailout/internal/admin"
)

// sendCmd has the life cycle of IBM i's QtmmSendMail: a file with a complete
// MIME message, the originator, and recipients that are envelope only. The
// file is removed once the message is on stable storage, never before.
type sendCmd struct {
	From   string   `short:"f" required:"" help:"Return path; empty for none." placeholder:"ADDRESS"`
	Keep   bool     `short:"k" help:"Keep FILE after it was accepted."`
	Stream string   `help:"Stream of the message."`
	JSON   bool     `name:"json" help:"Print the whole answer as JSON."`
	File   string   `arg:"" help:"MIME file, or - for standard input."`
	Rcpt   []string `arg:"" name:"rcpt" help:"Recipients, each with an optional to:, cc: or bcc: in front. The prefix writes no header field."`
}

// Run hands the file to the daemon and prints the ID.
func (c *sendCmd) Run(g *globals) error {
	content, err := c.open(g)
	if err != nil {
		return err
	}
	defer content.Close()
	accepted, err := c.post(g, content)
	if err != nil {
		return err
	}
	if err := c.print(g, accepted); err != nil {
		return err
	}
	if c.Keep || c.File == "-" {
		return nil
	}
	if err := os.Remove(c.File); err != nil {
		fmt.Fprintf(g.Stderr, "mailout: accepted as %s, but the file stays: %v\n", accepted.ID, err)
	}
	return nil
}

func (c *sendCmd) open(g *globals) (io.ReadCloser, error) {
	if c.File == "-" {
		return io.NopCloser(g.Stdin), nil
	}
	info, err := os.Stat(c.File)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fail(exitNoInput, "%s does not exist", c.File)
		}
		return nil, fail(exitNoInput, "%v", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fail(exitNoInput, "%s is not a regular file", c.File)
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, fail(exitNoInput, "%v", err)
	}
	return f, nil
}

func (c *sendCmd) post(g *globals, content io.Reader) (*admin.Accepted, error) {
	query := url.Values{"from": {c.From}}
	if c.Stream != "" {
		query.Set("stream", c.Stream)
	}
	for _, r := range c.Rcpt {
		query.Add("to", envelopeRecipient(r))
	}
	daemon, err := connect(g)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, daemon.url("/v1/messages", query), content)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "message/rfc822")
	body, err := daemon.do(req)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var accepted admin.Accepted
	if err := json.NewDecoder(body).Decode(&accepted); err != nil {
		return nil, fail(exitTemporary, "the daemon's answer broke off (%v): whether the message was accepted is unknown; the file stays", err)
	}
	return &accepted, nil
}

func (c *sendCmd) print(g *globals, accepted *admin.Accepted) error {
	if c.JSON {
		return json.NewEncoder(g.Stdout).Encode(accepted)
	}
	_, err := fmt.Fprintln(g.Stdout, accepted.ID)
	return err
}

// envelopeRecipient takes the distribution type off a recipient.
func envelopeRecipient(arg string) string {
	for _, prefix := range []string{"to:", "cc:", "bcc:"} {
		if len(arg) > len(prefix) && strings.EqualFold(arg[:len(prefix)], prefix) {
			return arg[len(prefix):]
		}
	}
	return arg
}
