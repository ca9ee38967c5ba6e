package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/daemon"
	"mailout/internal/dkim"
	"mailout/internal/doctor"
	"mailout/internal/smtp"
)

// dkimCmd makes, shows and changes DKIM keys. Its commands work on the
// configuration file and on key files; what they want to know of signing they ask
// the running daemon.
type dkimCmd struct {
	New    dkimNewCmd    `cmd:"" help:"Make a key for a domain, write it into the configuration, and print its record."`
	List   dkimListCmd   `cmd:"" help:"The keys: which sign, which wait for their record, which are retired."`
	Record dkimRecordCmd `cmd:"" help:"The DNS records of the keys, in zone-file form."`
	Rotate dkimRotateCmd `cmd:"" help:"Replace a domain's keys: makes new ones, publishes their records, and in the end revokes the old ones."`
}

// dkimPath is where the daemon tells of its keys.
const dkimPath = "/v1/dkim"

// shownKey is one key of the configuration file and where it stands.
type shownKey struct {
	admin.DKIMKey
	Live bool `json:"live"` // the daemon says so; else what DNS says now

	entry  config.DKIMKey
	unread bool // the daemon does not know it
}

// keyStates finds out where the keys of a configuration stand. The daemon knows;
// where none answers, DNS is asked, and note says why. A key that the daemon has
// not read yet is one of which nothing is known.
func keyStates(ctx context.Context, g *globals, c *config.Config) (keys []shownKey, note string) {
	told, err := daemonKeys(g)
	live := err == nil
	if !live {
		note = clean(strings.TrimPrefix(err.Error(), "mailout: "))
		told = admin.ShownKeys(daemon.SurveyDKIM(ctx, c))
	}
	for _, e := range c.DKIM {
		k := shownKey{Live: live, entry: e, unread: true, DKIMKey: admin.DKIMKey{Domain: e.Domain, Selector: e.Selector, File: e.Key,
			State: string(dkim.StatePending), Record: "unknown", Name: dkim.Name(e.Selector, e.Domain), Trouble: "the daemon has not read it yet (mailout config reload)"}}
		i := slices.IndexFunc(told, func(t admin.DKIMKey) bool { return t.Domain == e.Domain && t.Selector == e.Selector })
		if i >= 0 {
			k.DKIMKey, k.unread = told[i], false
		}
		keys = append(keys, k)
	}
	return keys, note
}

// daemonKeys asks the daemon.
func daemonKeys(g *globals) ([]admin.DKIMKey, error) {
	body, err := ask(g, dkimPath, nil)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	var list admin.DKIMKeys
	if err := json.NewDecoder(body).Decode(&list); err != nil {
		return nil, fail(exitSoftware, "the daemon's answer broke off: %v", err)
	}
	return list.Keys, nil
}

// interruptible is a context that ends with the terminal's or the system's wish.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
}

type dkimListCmd struct {
	Domain string `arg:"" optional:"" help:"Only keys of this domain."`
	JSON   bool   `name:"json" help:"One JSON object a line."`
}

// Run lists the keys in the order of the configuration.
func (cmd *dkimListCmd) Run(g *globals) error {
	c, err := loadConfig(g)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	keys, note := keyStates(ctx, g, c)
	if note != "" && len(keys) > 0 {
		fmt.Fprintln(g.Stderr, note+"; so this is what DNS says now, and not what signs")
	}
	if cmd.Domain != "" {
		domain, err := dkimDomain(cmd.Domain)
		if err != nil {
			return err
		}
		keys = slices.DeleteFunc(keys, func(k shownKey) bool { return k.Domain != domain })
		if len(keys) == 0 && !cmd.JSON {
			fmt.Fprintf(g.Stdout, "there is no key for %s (make one: mailout dkim new %s)\n", domain, domain)
			return nil
		}
	}
	if len(keys) == 0 && !cmd.JSON {
		fmt.Fprintln(g.Stdout, "there is no key (make one: mailout dkim new DOMAIN)")
		return nil
	}
	out := &outputWriter{w: g.Stdout}
	for i := range keys {
		if err := cmd.print(out, &keys[i], i); err != nil {
			return out.blame(err)
		}
	}
	return nil
}

func (cmd *dkimListCmd) print(w io.Writer, k *shownKey, i int) error {
	if cmd.JSON {
		return json.NewEncoder(w).Encode(k)
	}
	if i > 0 {
		fmt.Fprintln(w)
	}
	_, err := io.WriteString(w, keyWords(k))
	return err
}

// keyWords tells of one key in some lines.
func keyWords(k *shownKey) string {
	var b strings.Builder
	kind := "not readable"
	if k.Algorithm != "" {
		kind = fmt.Sprintf("%s, %d bits", k.Algorithm, k.Bits)
	}
	state := k.State
	if k.Since != "" {
		state += " since " + k.Since
	}
	fmt.Fprintf(&b, "%s  %s  (%s)  %s\n", k.Domain, k.Selector, kind, state)
	fmt.Fprintf(&b, "  file    %s\n", clean(k.File))
	if k.Trouble != "" {
		fmt.Fprintf(&b, "  trouble %s\n", clean(k.Trouble))
	}
	fmt.Fprintf(&b, "  record  %s\n", clean(recordWords(k)))
	fmt.Fprintf(&b, "  signs   %s\n", signsWords(k))
	return b.String()
}

func recordWords(k *shownKey) string {
	words := map[string]string{
		"published": "is there", "absent": "is not there", "differs": "is not the key's", "withdrawn": "says that the key is revoked", "unknown": "could not be looked at",
	}[k.Record]
	if k.Said != "" {
		words += " (" + k.Said + ")"
	}
	if k.Checked != "" {
		words += ", last seen " + k.Checked
	}
	return words
}

// signsWords says what a key is for now.
func signsWords(k *shownKey) string {
	mail := "mail from " + k.Domain + " and the domains under it"
	switch dkim.State(k.State) {
	case dkim.StateActive:
		if !k.Live {
			return "would sign " + mail
		}
		return mail
	case dkim.StatePending:
		return "nothing, until every server of the zone has the record: mailout dkim record " + k.Selector
	case dkim.StateStandby:
		return "nothing: a later key signs " + mail
	case dkim.StateRetired:
		return "nothing any more; leave the record where it is, for mail under way (then: mailout dkim rotate " + k.Domain + " --finish)"
	case dkim.StateGone:
		return "nothing: its record is gone (publish it again: mailout dkim record " + k.Selector + ")"
	case dkim.StateRevoked:
		return "nothing: it is revoked (take it out: mailout dkim rotate " + k.Domain + " --finish)"
	}
	return "nothing: its file cannot be used"
}

type dkimRecordCmd struct {
	Which string `arg:"" optional:"" help:"Only keys of this domain, or of this selector."`
	JSON  bool   `name:"json" help:"As one JSON list."`
}

// keyRecord is one record as --json prints it.
type keyRecord struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Value     string `json:"value"`
	For       string `json:"for"`
	Domain    string `json:"domain"`
	Selector  string `json:"selector"`
	Algorithm string `json:"algorithm"`
}

// Run prints the records. It asks neither DNS nor the daemon. The status is 1
// when a key's file cannot be read, or there is no such key.
func (cmd *dkimRecordCmd) Run(g *globals) error {
	c, err := loadConfig(g)
	if err != nil {
		return err
	}
	var records []keyRecord
	var bad []string
	found := false
	for _, e := range c.DKIM {
		if !cmd.means(e) {
			continue
		}
		found = true
		k, err := dkim.Load(e.Key)
		if err != nil {
			bad = append(bad, err.Error())
			continue
		}
		records = append(records, keyRecord{dkim.Name(e.Selector, e.Domain), "TXT", k.TXT(), "DKIM: the public key of selector " + e.Selector, e.Domain, e.Selector, string(k.Algorithm())})
	}
	if err := cmd.print(g, records); err != nil {
		return err
	}
	switch {
	case len(bad) > 0:
		return fail(exitFailure, "%s", clean(strings.Join(bad, "; ")))
	case !found && cmd.Which != "":
		return fail(exitFailure, "no [[dkim]] has the domain or the selector %s", clean(cmd.Which))
	case !found:
		return fail(exitFailure, "there is no key (make one: mailout dkim new DOMAIN)")
	}
	return nil
}

func (cmd *dkimRecordCmd) means(e config.DKIMKey) bool {
	which := strings.ToLower(strings.TrimSuffix(cmd.Which, "."))
	if which == "" || which == e.Domain || which == e.Selector || which == dkim.Name(e.Selector, e.Domain) {
		return true
	}
	domain, err := smtp.ParseDomain(which, true)
	return err == nil && domain == e.Domain
}

func (cmd *dkimRecordCmd) print(g *globals, records []keyRecord) error {
	if cmd.JSON {
		if records == nil {
			records = []keyRecord{}
		}
		return writeJSON(g.Stdout, records)
	}
	for _, r := range records {
		if _, err := fmt.Fprintln(g.Stdout, zoned(r.Name, r.Value)); err != nil {
			return err
		}
	}
	return nil
}

// zoned is a TXT record in zone-file form.
func zoned(name, text string) string {
	return doctor.Record{Name: name, Type: "TXT", Value: text}.Zoned()
}

// dkimDomain reads a domain of the command line: lower-case A-labels.
func dkimDomain(s string) (string, error) {
	domain, err := smtp.ParseDomain(strings.TrimSuffix(s, "."), true)
	if err != nil || strings.HasPrefix(domain, "[") {
		return "", fail(exitUsage, "%q is no domain", clean(s))
	}
	return domain, nil
}

// noDaemon reports that no daemon could be asked, for whatever reason.
func noDaemon(err error) bool {
	var exit *exitError
	return errors.As(err, &exit) && (exit.Status == exitTemporary || exit.Status == exitNoPermission)
}
