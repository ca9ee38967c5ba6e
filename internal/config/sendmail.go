package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// Sendmail is what `mailout sendmail` goes by.
type Sendmail struct {
	Drop  string // absolute path of the drop folder
	Local string // mailbox that gets mail for names without a domain
}

func sendmailTable() *table {
	return &table{name: "sendmail", doc: "The command `mailout sendmail`, which programs know as `sendmail`.", keys: []*key{
		newKey("drop", mapped("path", requiredPath, keep), func(c *Config, _ int) *string { return &c.Sendmail.Drop }).
			derives("`drop` in the directory `spool`", func(c *Config, _ int) { c.Sendmail.Drop = filepath.Join(c.Spool, "drop") }, "Directory in which messages are left for a daemon that does not run, or whose socket the user may not use.").restart(),
		newKey("local", text("mailbox", checkMailbox), func(c *Config, _ int) *string { return &c.Sendmail.Local }).
			derives("`postmaster`", func(c *Config, _ int) { c.Sendmail.Local = c.Postmaster }, "Mailbox that gets what is sent to a name without a domain, such as cron's mail to `root`."),
	}}
}

// ForSender gives the configuration to a program that hands over a message. Of
// a file with errors it takes what such a program needs (hostname, spool,
// postmaster, the socket and [sendmail]) and defaults for the rest: mail must
// not be lost to somebody's last edit. Errors are those of Load.
func ForSender(path string) (*Config, error) {
	data, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(path, data)
	if err == nil {
		return c, nil
	}
	var bare struct {
		Hostname, Spool, Postmaster string
		HTTP                        struct{ Socket string }
		Sendmail                    struct{ Drop, Local string }
	}
	if toml.Unmarshal(data, &bare) != nil {
		return nil, err
	}
	var minimal strings.Builder
	for _, key := range []struct{ name, value string }{
		{"hostname", bare.Hostname}, {"spool", bare.Spool}, {"postmaster", bare.Postmaster},
		{"http.socket", bare.HTTP.Socket}, {"sendmail.drop", bare.Sendmail.Drop}, {"sendmail.local", bare.Sendmail.Local},
	} {
		if key.value != "" {
			fmt.Fprintf(&minimal, "%s = %s\n", key.name, quote(key.value))
		}
	}
	c, lesser := Parse(path, []byte(minimal.String()))
	if lesser != nil {
		return nil, err
	}
	return c, nil
}
