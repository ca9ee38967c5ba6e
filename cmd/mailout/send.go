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
	"os/signal"
	"strings"
	"syscall"

	"mailout/internal/admin"
	"mailout/internal/smtp"
)

// sendCmd has the life cycle of IBM i's QtmmSendMail: a file with a complete
// MIME message, the originator, and recipients that are envelope only. The
// file is removed once the message is on stable storage, never before.
type sendCmd struct {
	From       string   `short:"f" required:"" help:"Return path; empty for none." placeholder:"ADDRESS"`
	Keep       bool     `short:"k" help:"Keep FILE after it was accepted."`
	Stream     string   `help:"Stream of the message."`
	RequireTLS bool     `name:"require-tls" help:"Only over verified TLS, all the way (RFC 8689); come back where that cannot be."`
	JSON       bool     `name:"json" help:"Print the whole answer as JSON."`
	File       string   `arg:"" help:"MIME file, or - for standard input."`
	Rcpt       []string `arg:"" name:"rcpt" help:"Recipients, each with an optional to:, cc: or bcc: in front. The prefix writes no header field."`
}

// Run hands the file to the daemon and prints the ID.
func (c *sendCmd) Run(g *globals) error {
	content, file, err := c.open(g)
	if err != nil {
		return err
	}
	defer content.Close()
	accepted, err := c.post(g, content)
	if err != nil {
		return err
	}
	// From here on the message is the daemon's: the file goes first, and
	// nothing that goes wrong is a failure, or the caller would send it again.
	signal.Ignore(syscall.SIGPIPE) // nobody may read the ID
	if file != nil && !c.Keep {
		if err := c.remove(file); err != nil {
			fmt.Fprintf(g.Stderr, "mailout: accepted as %s, but the file stays: %v\n", accepted.ID, err)
		}
	}
	if err := c.print(g, accepted); err != nil {
		fmt.Fprintf(g.Stderr, "mailout: accepted as %s, but the ID cannot be printed: %v\n", accepted.ID, err)
	}
	return nil
}

// open gives the content, and the file that it is, nil for standard input.
func (c *sendCmd) open(g *globals) (io.ReadCloser, fs.FileInfo, error) {
	if c.File == "-" {
		return io.NopCloser(g.Stdin), nil, nil
	}
	info, err := os.Stat(c.File)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fail(exitNoInput, "%s does not exist", c.File)
		}
		return nil, nil, fail(exitNoInput, "%v", err)
	}
	if !info.Mode().IsRegular() {
		return nil, nil, fail(exitNoInput, "%s is not a regular file", c.File)
	}
	f, err := os.Open(c.File)
	if err != nil {
		return nil, nil, fail(exitNoInput, "%v", err)
	}
	if info, err = f.Stat(); err != nil {
		f.Close()
		return nil, nil, fail(exitNoInput, "%v", err)
	}
	return f, info, nil
}

// remove removes the file that was sent, unless another one has taken its
// place meanwhile: that one was not sent.
func (c *sendCmd) remove(sent fs.FileInfo) error {
	now, err := os.Stat(c.File)
	if err != nil {
		return err
	}
	if !os.SameFile(sent, now) {
		return fmt.Errorf("%s is another file by now", c.File)
	}
	return os.Remove(c.File)
}

func (c *sendCmd) post(g *globals, content io.Reader) (*admin.Accepted, error) {
	query := url.Values{"from": {c.From}}
	if c.Stream != "" {
		query.Set("stream", c.Stream)
	}
	if c.RequireTLS {
		query.Set("require_tls", "true")
	}
	for _, r := range c.Rcpt {
		address, err := envelopeRecipient(r)
		if err != nil {
			return nil, err
		}
		query.Add("to", address)
	}
	return handRaw(g, query, content)
}

// handRaw hands a whole message to the daemon, its envelope in the query.
func handRaw(g *globals, query url.Values, content io.Reader) (*admin.Accepted, error) {
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
		return nil, blamed(err)
	}
	defer body.Close()
	var accepted admin.Accepted
	if err := json.NewDecoder(body).Decode(&accepted); err != nil {
		return nil, fail(exitTemporary, "the daemon's answer broke off (%v): whether the message was accepted is unknown; nothing was removed", err)
	}
	return &accepted, nil
}

// blamed names the option that gave the parameter at fault.
func blamed(err error) error {
	options := map[string]string{"send_at": "--at", "expire": "--expire", "stream": "--stream", "require_tls": "--require-tls", "tag": "--tag", "meta": "--meta"}
	var refusal *exitError
	if errors.As(err, &refusal) && options[refusal.Field] != "" {
		return fail(refusal.Status, "%s: %s", options[refusal.Field], strings.TrimPrefix(refusal.Error(), "mailout: "))
	}
	return err
}

func (c *sendCmd) print(g *globals, accepted *admin.Accepted) error {
	if c.JSON {
		return json.NewEncoder(g.Stdout).Encode(accepted)
	}
	_, err := fmt.Fprintln(g.Stdout, accepted.ID)
	return err
}

// envelopeRecipient takes the distribution type off a recipient.
func envelopeRecipient(arg string) (string, error) {
	for _, prefix := range []string{"to:", "cc:", "bcc:"} {
		if len(arg) > len(prefix) && strings.EqualFold(arg[:len(prefix)], prefix) {
			return arg[len(prefix):], nil
		}
	}
	// A colon stands in quotes or brackets alone, so no address is lost.
	if prefix, address, ok := strings.Cut(arg, ":"); ok && strings.Contains(address, "@") && strings.Trim(strings.ToLower(prefix), "abcdefghijklmnopqrstuvwxyz") == "" {
		return "", fail(exitUsage, "%s: what may stand in front of a recipient is to:, cc: or bcc:", smtp.Harmless(arg))
	}
	return arg, nil
}
