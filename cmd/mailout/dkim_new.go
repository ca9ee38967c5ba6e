package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"mailout/internal/config"
	"mailout/internal/dkim"
)

// keyShape is what the commands that make keys ask for.
type keyShape struct {
	Selector  string `placeholder:"SELECTOR" help:"Selector of the record's name; by default the year, or more of the date. With two algorithms that of Ed25519 ends in -ed25519."`
	Algorithm string `placeholder:"KIND" help:"rsa, ed25519, or both; by default rsa, or the kinds of the keys that are replaced."`
	Bits      int    `placeholder:"BITS" help:"Of an RSA key: 2048 (the default) to 4096."`
}

type dkimNewCmd struct {
	Domain string `arg:"" help:"Domain that signs; mail of the domains under it is signed too."`
	keyShape
}

// Run makes the key, names it in the configuration, and prints its record.
func (cmd *dkimNewCmd) Run(g *globals) error {
	c, err := loadConfig(g)
	if err != nil {
		return err
	}
	domain, err := dkimDomain(cmd.Domain)
	if err != nil {
		return err
	}
	kinds, err := algorithms(cmd.Algorithm)
	if err != nil {
		return err
	}
	if len(kinds) == 0 {
		kinds = []dkim.Algorithm{dkim.RSA}
	}
	made, err := makeKeys(g, c, domain, kinds, &cmd.keyShape, time.Now())
	if err != nil {
		return err
	}
	showKeys(g, made)
	fmt.Fprintln(g.Stdout, "\nPublish this where the zone of "+domain+" is kept:")
	showRecords(g, made)
	said := reloadFor(g)
	sayReplaced(g, c, domain, made)
	fmt.Fprintf(g.Stdout, "\n%s Each key signs as soon as every server of the zone has its record; see \"mailout dkim list\".\n", said)
	if c.Identity.DNSUpdate.Server != "" {
		fmt.Fprintln(g.Stdout, `"mailout records --apply" publishes it by DNS update.`)
	}
	return nil
}

// sayReplaced tells of a new key that will sign in another one's place.
func sayReplaced(g *globals, c *config.Config, domain string, made []madeKey) {
	for _, m := range made {
		for _, k := range slices.Backward(c.DKIM) {
			old, err := dkim.Load(k.Key)
			if k.Domain != domain || err != nil || old.Algorithm() != m.key.Algorithm() {
				continue
			}
			fmt.Fprintf(g.Stdout, "\n%s has a key of this kind (%s): what signs now goes on until %s takes its place. Leave its record for mail under way; \"mailout dkim rotate %s --finish\" says how long, and revokes it then.\n",
				domain, k.Selector, m.selector, domain)
			break
		}
	}
}

// algorithms are those that an option names; none for the default.
func algorithms(option string) ([]dkim.Algorithm, error) {
	switch option {
	case "":
		return nil, nil
	case "both":
		return []dkim.Algorithm{dkim.RSA, dkim.Ed25519}, nil
	case string(dkim.RSA), string(dkim.Ed25519):
		return []dkim.Algorithm{dkim.Algorithm(option)}, nil
	}
	return nil, fail(exitUsage, "--algorithm must be rsa, ed25519 or both, not %q", clean(option))
}

// madeKey is a new key.
type madeKey struct {
	domain, selector, path string
	key                    *dkim.Key
}

func (m *madeKey) name() string { return dkim.Name(m.selector, m.domain) }

// makeKeys makes a key of each kind, and then, last, the tables of the
// configuration that make them count: at its end, behind older keys. What was
// written before an error is removed again.
func makeKeys(g *globals, c *config.Config, domain string, kinds []dkim.Algorithm, shape *keyShape, now time.Time) (made []madeKey, err error) {
	path := config.Path(g.Config)
	if shape.Bits != 0 && !slices.Contains(kinds, dkim.RSA) {
		return nil, fail(exitUsage, "--bits is for RSA: an Ed25519 key has 256")
	}
	if _, err := config.Apply("", nil, config.Change{Key: "dkim.1.domain", Value: domain}); err != nil {
		return nil, fail(exitUsage, "%v", err)
	}
	defer func() {
		if err == nil {
			return
		}
		for _, m := range made {
			if !named(path, m.path) { // a change that only may not last is one all the same
				err = errors.Join(err, os.Remove(m.path))
			}
		}
	}()
	for _, kind := range kinds {
		m := madeKey{domain: domain}
		if m.selector, err = selectorFor(c, path, domain, kind, len(kinds) > 1, shape.Selector, now); err != nil {
			return made, err
		}
		m.path = keyPath(path, domain, m.selector)
		bits := 0
		if kind == dkim.RSA {
			bits = shape.Bits
		}
		if m.key, err = dkim.Generate(kind, bits); err != nil {
			return made, fail(exitUsage, "%v", err)
		}
		if err = dkim.Create(m.path, m.key, func(f *os.File) error { return config.GiveTo(f, owner(c, path)) }); err != nil {
			return made, fail(writeStatus(err), "%v", err)
		}
		made = append(made, m)
	}
	return made, configError(config.EditBy(path, func(latest *config.Config) (changes []config.Change) {
		for i := range made {
			changes = append(changes, keyChanges(len(latest.DKIM)+i+1, &made[i])...)
		}
		return changes
	}))
}

// named reports whether the configuration names a key's file.
func named(file, key string) bool {
	c, err := config.Load(file)
	return err == nil && slices.ContainsFunc(c.DKIM, func(k config.DKIMKey) bool { return k.Key == key })
}

// writeStatus is the exit status for a file that was not written.
func writeStatus(err error) int {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return exitNoPermission
	case errors.Is(err, fs.ErrExist):
		return exitFailure
	}
	return exitIO
}

// owner is a path that belongs to the daemon's user, as far as one can tell: the
// spool, else the configuration.
func owner(c *config.Config, path string) string {
	if info, err := os.Stat(c.Spool); err == nil && info.IsDir() {
		return c.Spool
	}
	return path
}

// keyPath is where a key is kept: beside the configuration.
func keyPath(file, domain, selector string) string {
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		dir = filepath.Dir(file)
	}
	return filepath.Join(dir, "dkim", domain+"."+selector+".pem")
}

// aside is what a key's file is called once it is revoked.
func aside(path string) string { return path + ".revoked" }

func keyChanges(n int, m *madeKey) []config.Change {
	table := fmt.Sprintf("dkim.%d.", n)
	return []config.Change{
		{Key: table + "domain", Value: m.domain},
		{Key: table + "selector", Value: quoteTOML(m.selector)}, // which may be a number
		{Key: table + "key", Value: m.path},
	}
}

func quoteTOML(s string) string { return `"` + s + `"` }

// ed25519Suffix ends the selector of an Ed25519 key beside one of RSA.
const ed25519Suffix = "-ed25519"

// selectorFor is the one that was asked for, or one that was never used.
func selectorFor(c *config.Config, file, domain string, kind dkim.Algorithm, several bool, wanted string, now time.Time) (string, error) {
	suffix := ""
	if kind == dkim.Ed25519 && (several || wanted == "") {
		suffix = ed25519Suffix
	}
	taken := func(s string) string {
		if slices.ContainsFunc(c.DKIM, func(k config.DKIMKey) bool { return k.Domain == domain && k.Selector == s }) {
			return "there is a key with the selector " + s + " for " + domain + " already"
		}
		for _, path := range []string{keyPath(file, domain, s), aside(keyPath(file, domain, s))} {
			if _, err := os.Lstat(path); err == nil {
				return path + " is there already: it is not overwritten"
			}
		}
		return ""
	}
	if wanted != "" {
		s := strings.ToLower(wanted) + suffix
		if why := selectorProblem(s); why != "" {
			return "", fail(exitUsage, "%s", why)
		}
		if why := taken(s); why != "" {
			return "", fail(exitFailure, "%s", why)
		}
		return s, nil
	}
	for _, s := range selectorNames(now) {
		if taken(s+suffix) == "" {
			return s + suffix, nil
		}
	}
	return "", fail(exitFailure, "every selector that could be made of today's date is taken: give one with --selector")
}

// selectorNames are the names to choose from: the shortest that is free.
func selectorNames(now time.Time) []string {
	day := now.Format("m20060102")
	names := []string{now.Format("m2006"), now.Format("m200601"), day}
	for c := 'b'; c <= 'z'; c++ {
		names = append(names, day+string(c))
	}
	return names
}

// selectorProblem is what the configuration would say of a selector; before it
// becomes part of a file's name.
func selectorProblem(s string) string {
	_, err := config.Apply("", nil, config.Change{Key: "dkim.1.selector", Value: quoteTOML(s)})
	if err != nil {
		return fmt.Sprintf("--selector %s: %v", clean(s), err)
	}
	return ""
}

func showKeys(g *globals, made []madeKey) {
	for _, m := range made {
		fmt.Fprintf(g.Stdout, "A new key for %s: selector %s (%s, %d bits), in %s\n", m.domain, m.selector, m.key.Algorithm(), m.key.Bits(), m.path)
	}
}

func showRecords(g *globals, made []madeKey) {
	fmt.Fprintln(g.Stdout)
	for _, m := range made {
		fmt.Fprintln(g.Stdout, zoned(m.name(), m.key.TXT()))
	}
}

// reloadFor makes the daemon read the configuration, and says what came of it.
func reloadFor(g *globals) string {
	err := (&configReloadCmd{JSON: true}).Run(&globals{Config: g.Config, Stdin: g.Stdin, Stdout: io.Discard, Stderr: g.Stderr})
	switch {
	case err == nil:
		return "The daemon has read the configuration."
	case noDaemon(err):
		return "No daemon could be told: it reads the configuration at its start, or with \"mailout config reload\"."
	}
	return "The daemon has not taken the configuration (" + clean(strings.TrimPrefix(err.Error(), "mailout: ")) + ")."
}
