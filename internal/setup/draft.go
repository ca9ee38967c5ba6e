package setup

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"mailout/internal/config"
)

// draft is the configuration as it will be: the file as it is, and changes. The
// file is read again when it is written, so what somebody else changes in the
// meantime stays.
type draft struct {
	path    string
	base    []byte // the file, or what a new one begins with
	exists  bool
	fresh   bool // there is no host name in it: nothing was set up yet
	changes []config.Change
	cfg     *config.Config // in force, with a placeholder for the host name
	named   bool           // the host name is known
}

// beginning is what a new file begins with.
const beginning = `# The configuration of mailout, written by "mailout setup". Run it again to
# change something, or edit this file: "mailout config show" prints every setting
# with its default, and "mailout config check" finds mistakes.

`

// placeholder is the host name of a draft that has none.
const placeholder = "unnamed.invalid"

// open reads the file, if there is one. A file with mistakes is refused: they
// must not be hidden behind new ones.
func open(path string) (*draft, error) {
	d := &draft{path: path, base: []byte(beginning)}
	text, err := os.ReadFile(path)
	switch {
	case err == nil:
		d.base, d.exists = text, true
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	cfg, err := config.Parse(path, d.base)
	if err == nil {
		d.cfg, d.named = cfg, true
		return d, nil
	}
	if err := d.unnamed(); err != nil {
		return nil, err
	}
	d.fresh = true
	return d, nil
}

// unnamed reads a file whose only fault is to have no host name.
func (d *draft) unnamed() error {
	if _, err := config.Parse(d.path, d.base); !onlyMissing(err) {
		return err
	}
	cfg, _, err := d.render(nil)
	d.cfg = cfg
	return err
}

// onlyMissing reports that nothing is wrong but that there is no host name:
// putting one in must not hide that the one which is there is impossible.
func onlyMissing(err error) bool {
	var all config.Errors
	return errors.As(err, &all) && len(all) == 1 && all[0].Key == "hostname" && all[0].Line == 1 && all[0].Column == 1
}

// set makes changes, all or none, and tells whether anything differs then. What
// is in force already is not written again, except into a new file, which is to
// say what was answered.
func (d *draft) set(changes ...config.Change) (changed bool, err error) {
	all := append(slices.Clone(d.changes), changes...)
	cfg, named, err := d.render(all)
	if err != nil {
		return false, err
	}
	applied, restart := config.Diff(d.cfg, cfg)
	changed = len(applied)+len(restart) > 0
	if changed || named != d.named || d.fresh {
		d.changes, d.cfg, d.named = all, cfg, named
	}
	return changed, nil
}

// check tells whether changes are possible, and makes none.
func (d *draft) check(changes ...config.Change) error {
	_, _, err := d.render(append(slices.Clone(d.changes), changes...))
	return err
}

// render is the configuration after changes.
func (d *draft) render(changes []config.Change) (cfg *config.Config, named bool, err error) {
	named = d.named || slices.ContainsFunc(changes, func(c config.Change) bool { return c.Key == "hostname" })
	if !named {
		changes = append(slices.Clone(changes), config.Change{Key: "hostname", Value: placeholder})
	}
	text, err := config.Apply(d.path, d.base, changes...)
	if err != nil {
		return nil, false, err
	}
	cfg, err = config.Parse(d.path, text)
	return cfg, named, err
}

// touches reports whether a key is among the changes.
func (d *draft) touches(key string) bool {
	return slices.ContainsFunc(d.changes, func(c config.Change) bool { return c.Key == key })
}

// text is the file as it will be.
func (d *draft) text() ([]byte, error) { return config.Apply(d.path, d.base, d.changes...) }
