package config

import (
	"net/url"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"

	"mailout/internal/events"
	"mailout/internal/mta"
)

// Webhook is a receiver of events by HTTP.
type Webhook struct {
	Name        string
	URL         string
	Secret      events.Secrets // those of SecretFile, when Load has read it
	SecretFile  string         // a secret a line; empty: Secret stands in the file
	Events      []mta.Event    // empty: every one
	Streams     []string       // empty: every one
	Batch       int            // events in one request at most
	Wait        time.Duration  // of an event for others
	Timeout     time.Duration  // of one request
	Concurrency int            // requests at once
}

// Events is where events are written as lines.
type Events struct {
	File       string // absolute; empty: nowhere
	RotateSize int64  // octets
	RotateAge  time.Duration
	Keep       int    // rotated files at most
	KeepSize   int64  // octets of them at most
	Syslog     string // empty: nowhere
	Events     []mta.Event
	Streams    []string
}

func eventsTable() *table {
	at := func(c *Config) *Events { return &c.Events }
	return &table{name: "events", doc: "What happens to mail, as lines in a file or in the system's log.", keys: []*key{
		newKey("file", mapped("path", optionalPath, keep), func(c *Config, _ int) *string { return &at(c).File }).
			is(`""`, "File that gets one JSON object a line; empty: none."),
		newKey("rotate_size", size(1e3, 1<<50, "100MB"), func(c *Config, _ int) *int64 { return &at(c).RotateSize }).
			is(`"100MB"`, "Size at which the file is renamed and compressed."),
		newKey("rotate_age", duration(time.Minute, 10*year, "1d"), func(c *Config, _ int) *time.Duration { return &at(c).RotateAge }).
			is(`"1d"`, "Age of the first line at which it is, too."),
		newKey("keep", integer[int](1, 100000), func(c *Config, _ int) *int { return &at(c).Keep }).
			is(`30`, "Most compressed files that stay; the oldest leave first."),
		newKey("keep_size", size(1e3, 1<<60, "10GB"), func(c *Config, _ int) *int64 { return &at(c).KeepSize }).
			is(`"10GB"`, "Most octets of them that stay."),
		newKey("syslog", text("place", optionalSyslog), func(c *Config, _ int) *string { return &at(c).Syslog }).
			is(`""`, "Where lines of RFC 5424 go: `unix:///dev/log`, `udp://HOST:PORT`, `tcp://HOST:PORT`, or `journald`; empty: nowhere."),
		newKey("events", list(word(eventWords), 0, len(eventWords), `["delivered", "failed"]`), func(c *Config, _ int) *[]mta.Event { return &at(c).Events }).
			is(`[]`, "Events that are written; an empty list means all."),
		newKey("streams", list(text("stream name", checkStream), 0, maxList, `["invoices"]`), func(c *Config, _ int) *[]string { return &at(c).Streams }).
			is(`[]`, "Streams whose events are written; an empty list means all."),
	}}
}

func optionalSyslog(s string) string {
	if s == "" {
		return ""
	}
	if err := events.CheckSyslog(s); err != nil {
		return shown(s) + " " + err.Error()
	}
	return ""
}

// eventWords are the events of the journal.
var eventWords = func() (out words[mta.Event]) {
	for e := range mta.LastEvent + 1 {
		out = append(out, struct {
			word  string
			value mta.Event
		}{e.String(), e})
	}
	return out
}()

func webhookTable() *table {
	at := func(c *Config, i int) *Webhook { return &c.Webhooks[i] }
	return &table{name: "webhook", array: true, live: true,
		count: func(c *Config) int { return len(c.Webhooks) },
		grow:  func(c *Config) { c.Webhooks = append(c.Webhooks, Webhook{}) },
		doc:   "Web servers that are told what happens to mail.", keys: []*key{
			newKey("name", text("name", checkWebhookName), func(c *Config, i int) *string { return &at(c, i).Name }).
				needs(`name = "crm"`, "Name of the webhook, under which it is remembered how far it has got."),
			newKey("url", text("URL", checkWebhookURL), func(c *Config, i int) *string { return &at(c, i).URL }).
				needs(`url = "https://crm.example.com/mail-events"`, "Where events are sent, by POST: `https://`, or `http://` in networks of your own."),
			secretKey(newKey("secret", webhookSecrets(), func(c *Config, i int) *events.Secrets { return &at(c, i).Secret })).
				is(`""`, "Secret that signs, as `whsec_` and base64 of 24 to 64 octets. Several, separated by spaces, sign each: for a change of secrets."),
			newKey("secret_file", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).SecretFile }).
				is(`""`, "File with one secret a line, instead of `secret`; not readable by everybody."),
			newKey("events", list(word(eventWords), 0, len(eventWords), `["delivered", "failed"]`), func(c *Config, i int) *[]mta.Event { return &at(c, i).Events }).
				is(`[]`, "Events that are sent; an empty list means all."),
			newKey("streams", list(text("stream name", checkStream), 0, maxList, `["invoices"]`), func(c *Config, i int) *[]string { return &at(c, i).Streams }).
				is(`[]`, "Streams whose events are sent; an empty list means all."),
			newKey("batch", integer[int](1, events.MaxBatch), func(c *Config, i int) *int { return &at(c, i).Batch }).
				is(`100`, "Most events in one request, as a list; with `1` every request is one event."),
			newKey("wait", duration(0, time.Hour, "1s"), func(c *Config, i int) *time.Duration { return &at(c, i).Wait }).
				is(`"1s"`, "How long an event waits for others."),
			newKey("timeout", duration(briefly, 10*time.Minute, "30s"), func(c *Config, i int) *time.Duration { return &at(c, i).Timeout }).
				is(`"30s"`, "Time for one request."),
			newKey("concurrency", integer[int](1, events.MaxConcurrency), func(c *Config, i int) *int { return &at(c, i).Concurrency }).
				is(`4`, "Most requests at once. Events of one message are never sent at once."),
		}}
}

func webhookSecrets() kind[events.Secrets] {
	return scalar("secret", func(v *value) (events.Secrets, string) {
		if v.kind != unstable.String {
			return events.Secrets{}, "is not a text" // without it: it may be a secret
		}
		if v.text == "" {
			return events.Secrets{}, ""
		}
		s, err := events.ParseSecrets(v.text)
		if err != nil {
			return s, err.Error()
		}
		return s, ""
	}, events.Secrets.String)
}

// checkWebhookName says why s is not a webhook's name; empty when it is one.
func checkWebhookName(s string) string {
	if checkStream(s) != "" {
		return shown(s) + " is not a name (1 to 64 letters, digits, and . _ -)"
	}
	return ""
}

// checkWebhookURL says why s is no place to send events to; empty when it is one.
func checkWebhookURL(s string) string {
	const sample = ` (write for example "https://crm.example.com/mail-events")`
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "":
		return "is not a URL" + sample
	case u.Scheme != "https" && u.Scheme != "http":
		return "is not a URL of http or https" + sample
	case u.User != nil:
		return "holds a user name, which is not sent (the signature proves who sends)"
	case u.Fragment != "":
		return `has a part behind "#", which is not sent`
	}
	return ""
}

// webhooksComplete: each webhook has a name of its own, and a secret.
func (l *loader) webhooksComplete() {
	tbl := findTable("webhook")
	first := map[string]int{}
	for i, w := range l.cfg.Webhooks {
		full := tbl.full(i)
		if l.sound(full + ".name") {
			if j, twice := first[w.Name]; twice {
				line, _ := l.doc.position(l.at(tbl.key("name"), j))
				l.accuse("webhook", "name", i, quote(w.Name)+" stands twice, first on line "+itoa(line))
			} else {
				first[w.Name] = i
			}
		}
		switch {
		case !l.sound(full+".secret", full+".secret_file"):
		case !w.Secret.Empty() && w.SecretFile != "":
			l.accuse("webhook", "secret_file", i, "stands beside secret (keep one of them)")
		case w.Secret.Empty() && w.SecretFile == "":
			l.accuse("webhook", "secret", i, `is missing (write "whsec_" and what openssl rand -base64 32 prints)`)
		}
	}
}

// readWebhookSecrets takes the secrets of secret_file.
func (l *loader) readWebhookSecrets() {
	for i := range l.cfg.Webhooks {
		w := &l.cfg.Webhooks[i]
		if w.SecretFile == "" || !l.sound(findTable("webhook").full(i)+".secret_file") {
			continue
		}
		data, err := readPrivate(w.SecretFile)
		if err == nil {
			w.Secret, err = events.ParseSecrets(string(data))
			if err != nil {
				l.accuse("webhook", "secret_file", i, quote(w.SecretFile)+" "+err.Error())
				continue
			}
		}
		if err != nil {
			l.accuse("webhook", "secret_file", i, err.Error())
		}
	}
}
