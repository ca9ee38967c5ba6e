package setup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"mailout/internal/config"
	"mailout/internal/dkim"
	"mailout/internal/doctor"
)

// keyFile is a private key to be written.
type keyFile struct {
	path string
	text []byte
}

func (s *setup) dkimStep(ctx context.Context) error {
	s.say("A DKIM signature shows that mail comes from the domain in From, and large receivers want one. Mail is signed as soon as every server of the zone has the key's record; until then it goes out unsigned.")
	s.say("Now: %s.", s.keysNow())
	domain, err := s.answer(ctx, Question{Flag: DKIMDomain, Prompt: "Domain to make a key for, or \"none\"", Default: s.keyDefault(), Check: s.checkKeyDomain})
	if err != nil || domain == words[DKIMDomain] {
		return err
	}
	def := fmt.Sprintf("m%d", s.Now().Year())
	given, selected := s.Answers[DKIMSelector]
	if i := s.keyOf(domain, given, selected); i >= 0 {
		s.say("There is a key for %s already (selector %s): it stays.", domain, s.draft.cfg.DKIM[i].Selector)
		return nil
	}
	selector, err := s.answer(ctx, Question{Flag: DKIMSelector, Prompt: "Selector (the record's name is SELECTOR._domainkey." + domain + ")", Default: def,
		Check: func(v string) error { return s.draft.check(s.keyChanges(domain, v)...) }})
	if err != nil {
		return err
	}
	return s.addKey(domain, selector)
}

func (s *setup) keysNow() string {
	var all []string
	for _, k := range s.draft.cfg.DKIM {
		all = append(all, k.Domain+" (selector "+k.Selector+")")
	}
	if len(all) == 0 {
		return "no key"
	}
	return strings.Join(all, ", ")
}

// keyDefault proposes a key where nothing was set up yet; else what is there
// stays as it is.
func (s *setup) keyDefault() string {
	if d := s.domain(); s.draft.fresh && len(s.draft.cfg.DKIM) == 0 && s.checkKeyDomain(d) == nil {
		return d
	}
	return words[DKIMDomain]
}

func (s *setup) checkKeyDomain(v string) error {
	if v == words[DKIMDomain] {
		return nil
	}
	return s.draft.check(s.keyChanges(v, "setup")...)
}

// keyOf finds a key of a domain, and of a selector if it is wanted; -1: none.
func (s *setup) keyOf(domain, selector string, selected bool) int {
	for i, k := range s.draft.cfg.DKIM {
		if strings.EqualFold(k.Domain, domain) && (!selected || strings.EqualFold(k.Selector, selector)) {
			return i
		}
	}
	return -1
}

// keyPath is where a key is kept: beside the configuration.
func (s *setup) keyPath(domain, selector string) string {
	dir, err := filepath.Abs(filepath.Dir(s.Path))
	if err != nil {
		dir = filepath.Dir(s.Path)
	}
	return filepath.Join(dir, "dkim", strings.ToLower(domain+"."+selector)+".pem")
}

func (s *setup) keyChanges(domain, selector string) []config.Change {
	table := fmt.Sprintf("dkim.%d.", len(s.draft.cfg.DKIM)+1)
	return []config.Change{
		{Key: table + "domain", Value: domain},
		{Key: table + "selector", Value: selector},
		{Key: table + "key", Value: s.keyPath(domain, selector)},
	}
}

// addKey makes a key, or takes the one whose file is there, and shows its
// record.
func (s *setup) addKey(domain, selector string) error {
	path := s.keyPath(domain, selector)
	key, err := dkim.Load(path)
	switch {
	case err == nil:
		s.say("The key in %s is there already, and is used.", path)
	case !errors.Is(err, fs.ErrNotExist):
		return s.refused(DKIMDomain, err)
	default:
		if key, err = s.makeKey(path); err != nil {
			return err
		}
	}
	if err := s.put(DKIMDomain, s.keyChanges(domain, selector)...); err != nil {
		return err
	}
	record := doctor.Record{Name: dkim.Name(strings.ToLower(selector), strings.ToLower(domain)), Type: "TXT", Value: key.TXT()}
	s.say("Publish this record:")
	s.print("  " + record.Zoned() + "\n")
	return nil
}

func (s *setup) makeKey(path string) (*dkim.Key, error) {
	kind := dkim.RSA
	if v, given := s.Answers[DKIMKind]; given {
		kind = dkim.Algorithm(v)
	}
	key, err := dkim.Generate(kind, 0)
	if err != nil {
		return nil, err
	}
	text, err := key.PEM()
	if err != nil {
		return nil, err
	}
	s.keys = append(s.keys, keyFile{path, text})
	return key, nil
}

func (s *setup) postmasterStep(ctx context.Context) error {
	s.say("The mailbox of whoever looks after this machine. It gets what can be returned to nobody, so it must be one that is read, on another mail server.")
	c := s.draft.cfg
	def := c.Postmaster
	switch {
	case c.Given(keys[Postmaster]) || !s.draft.fresh:
		s.say("Now: %s.", def)
	default:
		s.say("Now: none.")
		def = "postmaster@" + s.domain()
	}
	v, err := s.answer(ctx, Question{Flag: Postmaster, Prompt: "Postmaster", Default: def,
		Check: func(v string) error { return s.draft.check(config.Change{Key: keys[Postmaster], Value: v}) }})
	if err != nil {
		return err
	}
	return s.put(Postmaster, config.Change{Key: keys[Postmaster], Value: v})
}

// exists reports whether there is something at a path.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
