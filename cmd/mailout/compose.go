package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"mailout/internal/compose"
	"mailout/internal/config"
	"mailout/internal/header"
	"mailout/internal/smtp"
)

// composeCmd makes a message and hands it over, as SNDSMTPEMM does.
type composeCmd struct {
	From        string   `short:"f" help:"Author; by default the account's name at hostname." placeholder:"ADDRESS"`
	ReturnPath  *string  `help:"Where reports of failure go, when that is not the author; empty for nowhere." placeholder:"ADDRESS"`
	To          []string `short:"t" sep:"none" help:"Recipients, 'Name <address>' or lists of them; may be given several times." placeholder:"ADDRESS"`
	Cc          []string `short:"c" sep:"none" help:"Recipients of a copy." placeholder:"ADDRESS"`
	Bcc         []string `short:"b" sep:"none" help:"Recipients whom nobody sees." placeholder:"ADDRESS"`
	ReplyTo     []string `sep:"none" help:"Where answers go." placeholder:"ADDRESS"`
	Subject     string   `short:"s" help:"Subject."`
	Text        *string  `help:"The text, or @FILE, or - for standard input." placeholder:"TEXT"`
	HTML        *string  `name:"html" help:"The text as HTML, or @FILE, or -; without --text, a plain text is made of it." placeholder:"TEXT"`
	Charset     string   `help:"Character set of texts from files and standard input (ISO-8859-1, IBM037, …)." default:"UTF-8" placeholder:"NAME"`
	Attach      []string `short:"a" sep:"none" help:"File to attach, with ;name=… and ;type=… where they differ." placeholder:"FILE"`
	Inline      []string `sep:"none" help:"File that the HTML shows as cid:NAME; with ;cid=…, ;name=… and ;type=…" placeholder:"FILE"`
	Header      []string `sep:"none" help:"A further header field." placeholder:"'NAME: VALUE'"`
	Importance  string   `enum:"low,normal,high" default:"normal" help:"Importance: low, normal or high."`
	Sensitivity string   `enum:"none,personal,private,confidential" default:"none" help:"Sensitivity: personal, private or confidential."`
	Receipt     bool     `help:"Ask the readers' programs to tell the author that it was read."`
	Stream      string   `help:"Stream of the message."`
	At          string   `help:"When to send: a time (2026-01-10T12:00:00Z), a day, or a span from now (2h, 3d)." placeholder:"TIME"`
	Expire      string   `help:"When to give up: a span (30m, 2d) from the time it is sent, or a time." placeholder:"TIME"`
	RequireTLS  bool     `name:"require-tls" help:"Only over verified TLS, all the way (RFC 8689); come back where that cannot be."`
	Tag         []string `sep:"none" help:"A tag; may be given several times. Tags and metadata come back in events."`
	Meta        []string `sep:"none" help:"Metadata." placeholder:"NAME=VALUE"`
	DryRun      bool     `short:"n" help:"Print the message and send nothing."`
	JSON        bool     `name:"json" help:"Print the whole answer as JSON."`
}

// Run makes the message, hands it over and prints the ID.
func (c *composeCmd) Run(g *globals) error {
	d, err := c.draft(g)
	if err != nil {
		return err
	}
	content, err := d.message.Build()
	if err != nil {
		return d.blame(err)
	}
	if c.DryRun {
		_, err := g.Stdout.Write(content)
		return err
	}
	accepted, err := handRaw(g, d.envelope, bytes.NewReader(content))
	if err != nil {
		return err
	}
	// It is the daemon's from here on: nothing is a failure any more.
	signal.Ignore(syscall.SIGPIPE)
	if c.JSON {
		err = json.NewEncoder(g.Stdout).Encode(accepted)
	} else {
		_, err = fmt.Fprintln(g.Stdout, accepted.ID)
	}
	if err != nil {
		fmt.Fprintf(g.Stderr, "mailout: accepted as %s, but the ID cannot be printed: %v\n", accepted.ID, err)
	}
	return nil
}

// composed is a message with the envelope's query, and what was given for its
// parts on the command line.
type composed struct {
	message  compose.Message
	envelope url.Values
	given    map[string]string // "attachments[0]" → "--attach report.pdf"
}

func (c *composeCmd) draft(g *globals) (*composed, error) {
	d := &composed{message: compose.Message{Subject: c.Subject, Date: time.Now()}, envelope: url.Values{}, given: map[string]string{}}
	if err := c.address(g, d); err != nil {
		return nil, err
	}
	in := &inputs{globals: g, charset: c.Charset}
	_, err := in.set() // a slip is told although no text may be read
	if err != nil {
		return nil, err
	}
	if d.message.Text, err = in.text("--text", c.Text); err != nil {
		return nil, err
	}
	if d.message.HTML, err = in.text("--html", c.HTML); err != nil {
		return nil, err
	}
	if err := c.files(in, d); err != nil {
		return nil, err
	}
	if c.Text == nil && c.HTML == nil && len(d.message.Attachments) == 0 {
		return nil, fail(exitUsage, "there is nothing to send: give --text, --html or --attach (--text - reads standard input)")
	}
	return d, c.headers(d)
}

// address fills the address fields and the envelope.
func (c *composeCmd) address(g *globals, d *composed) error {
	m := &d.message
	var err error
	if m.From, err = c.author(g); err != nil {
		return err
	}
	var bcc []compose.Address
	for _, list := range []struct {
		flag, field string
		given       []string
		to          *[]compose.Address
		envelope    bool
	}{{"--to", "to", c.To, &m.To, true}, {"--cc", "cc", c.Cc, &m.Cc, true}, {"--bcc", "bcc", c.Bcc, &bcc, true}, {"--reply-to", "reply_to", c.ReplyTo, &m.ReplyTo, false}} {
		for _, text := range list.given {
			found, err := mailboxes(list.flag, text)
			if err != nil {
				return err
			}
			for _, a := range found {
				d.given[fmt.Sprintf("%s[%d]", list.field, len(*list.to))] = list.flag + " " + a.Address
				*list.to = append(*list.to, a)
				if list.envelope {
					d.envelope.Add("to", a.Address)
				}
			}
		}
	}
	if !d.envelope.Has("to") {
		return fail(exitUsage, "no recipients: give --to, --cc or --bcc")
	}
	d.envelope.Set("from", m.From.Address)
	if c.ReturnPath != nil {
		d.envelope.Set("from", *c.ReturnPath)
	}
	return c.facts(d)
}

// facts adds what stands beside the message.
func (c *composeCmd) facts(d *composed) error {
	if c.Stream != "" {
		d.envelope.Set("stream", c.Stream)
	}
	if c.At != "" {
		at, err := parseAhead(c.At, time.Now())
		if err != nil {
			return err
		}
		d.envelope.Set("send_at", at.UTC().Format(time.RFC3339))
	}
	if c.Expire != "" {
		d.envelope.Set("expire", c.Expire)
	}
	if c.RequireTLS {
		d.envelope.Set("require_tls", "true")
	}
	for _, tag := range c.Tag {
		d.envelope.Add("tag", tag)
	}
	for _, pair := range c.Meta {
		if !strings.Contains(pair, "=") {
			return fail(exitUsage, "--meta %s: write NAME=VALUE", smtp.Harmless(pair))
		}
		d.envelope.Add("meta", pair)
	}
	return nil
}

// parseAhead reads a time, a day in local time, or a span from now.
func parseAhead(text string, now time.Time) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, text, time.Local); err == nil {
			return t, nil
		}
	}
	if digits, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			return now.AddDate(0, 0, int(n)), nil
		}
	}
	if span, err := time.ParseDuration(text); err == nil && span >= 0 {
		return now.Add(span), nil
	}
	return time.Time{}, fail(exitUsage, "--at %s is neither a time (2026-01-10T12:00:00Z, 2026-01-10) nor a span (2h, 3d)", smtp.Harmless(text))
}

// author is --from, or the account at this host as `mailout sendmail` has it.
func (c *composeCmd) author(g *globals) (compose.Address, error) {
	if c.From == "" {
		cfg, err := config.ForSender(config.Path(g.Config))
		if err != nil {
			return compose.Address{}, configError(err)
		}
		account := currentUser()
		return compose.Address{Name: account.name, Address: account.login + "@" + cfg.Hostname}, nil
	}
	list, err := mailboxes("--from", c.From)
	if err != nil {
		return compose.Address{}, err
	}
	if len(list) != 1 {
		return compose.Address{}, fail(exitUsage, "--from takes one address, not %d", len(list))
	}
	return list[0], nil
}

// mailboxes reads one or several addresses, with or without names.
func mailboxes(flag, text string) ([]compose.Address, error) {
	if err := header.Check(flag, text); err != nil {
		return nil, fail(exitUsage, "%v", err)
	}
	// A bare address is the common case, and net/mail knows fewer of them (no
	// address literals).
	if m, err := smtp.ParseMailbox(strings.TrimSpace(text), true); err == nil {
		return []compose.Address{{Address: m.String()}}, nil
	}
	list, err := mail.ParseAddressList(text)
	if err != nil {
		return nil, fail(exitUsage, "%s %s: %s", flag, smtp.Harmless(text), strings.TrimPrefix(err.Error(), "mail: "))
	}
	out := make([]compose.Address, len(list))
	for i, a := range list {
		quoted := strings.Trim((&mail.Address{Address: a.Address}).String(), "<>") // net/mail takes the quotes off
		out[i] = compose.Address{Name: a.Name, Address: quoted}
	}
	return out, nil
}

// headers adds --header and the fields of the conveniences.
func (c *composeCmd) headers(d *composed) error {
	m := &d.message
	for _, text := range c.Header {
		name, value, ok := strings.Cut(text, ":")
		if !ok {
			return fail(exitUsage, "--header %s: write 'Name: value'", smtp.Harmless(text))
		}
		d.given["headers["+strconv.Itoa(len(m.Headers))+"]"] = "--header " + smtp.Harmless(name)
		m.Headers = append(m.Headers, compose.Header{Name: name, Value: value})
	}
	switch c.Importance {
	case "high":
		m.Headers = append(m.Headers, compose.Header{Name: "Importance", Value: "high"}, compose.Header{Name: "X-Priority", Value: "1 (Highest)"})
	case "low":
		m.Headers = append(m.Headers, compose.Header{Name: "Importance", Value: "low"}, compose.Header{Name: "X-Priority", Value: "5 (Lowest)"})
	}
	switch c.Sensitivity { // RFC 2156 2.4
	case "personal":
		m.Headers = append(m.Headers, compose.Header{Name: "Sensitivity", Value: "Personal"})
	case "private":
		m.Headers = append(m.Headers, compose.Header{Name: "Sensitivity", Value: "Private"})
	case "confidential":
		m.Headers = append(m.Headers, compose.Header{Name: "Sensitivity", Value: "Company-Confidential"})
	}
	if c.Receipt { // RFC 8098 2.1
		d.given["headers["+strconv.Itoa(len(m.Headers))+"]"] = "--receipt"
		m.Headers = append(m.Headers, compose.Header{Name: "Disposition-Notification-To", Value: "<" + m.From.Address + ">"})
	}
	return nil
}

// blame tells a refused part by the option that gave it.
func (d *composed) blame(err error) error {
	var bad *compose.FieldError
	if !errors.As(err, &bad) {
		return fail(exitSoftware, "%v", err)
	}
	part, _, _ := strings.Cut(bad.Field, ".")
	option := d.given[part]
	if option == "" {
		option = "--" + strings.ReplaceAll(part, "_", "-")
	}
	return fail(exitData, "%s: %s", option, bad.Problem)
}
