package route

import (
	"errors"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// Prepared are settings that a planner may change to.
type Prepared struct {
	planner *Planner
	fresh   *compiled
}

// Prepare reads settings that Apply makes those of the planner. It fails when a
// rule, the router, or a table that is new and in a file cannot be understood;
// nothing has changed then.
func (p *Planner) Prepare(s Settings) (*Prepared, error) {
	c, err := p.compile(s)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range c.tables.now {
		if f, ok := t.(*fileTable); ok && !f.file.Ready() {
			if _, err := f.file.Refresh(); err != nil {
				errs = append(errs, err)
			} else if err := f.file.Err(); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return &Prepared{p, c}, nil
}

// Apply makes the settings hold for the calls that follow.
func (r *Prepared) Apply() { r.planner.use(r.fresh) }

// Reconfigure replaces the settings for the calls that follow. On an error the
// old ones stay.
func (p *Planner) Reconfigure(s Settings) error {
	r, err := p.Prepare(s)
	if err != nil {
		return err
	}
	r.Apply()
	return nil
}

// use changes to settings. Some of those before are kept for mail that was
// looked at under them.
func (p *Planner) use(c *compiled) {
	before := p.settings.Load()
	c.past.Store(before)
	p.settings.Store(c)
	for last, n := c, 0; last != nil; last, n = last.past.Load(), n+1 {
		if n == pastRules {
			last.past.Store(nil)
		}
	}
	if before == nil {
		return
	}
	for id, t := range before.tables.now {
		if remote, ok := t.(*httpTable); ok && c.tables.now[id] != t {
			remote.http.Close()
		}
	}
}

// Refresh looks whether tables in files are to be read again, and says in the
// log, once, which tables cannot be used. It reports whether plans are to be
// made anew: for that, or because answers of DNS are authenticated now. It is to
// be called every few seconds, by one at a time; a large file takes its time.
func (p *Planner) Refresh() (changed bool) {
	c := p.settings.Load()
	for id, t := range c.tables.now {
		switch t := t.(type) {
		case *fileTable:
			changed = p.refreshFile(t) || changed
		case *httpTable:
			changed = p.watchService(id, t) || changed
		}
	}
	return p.signed() || changed
}

// signed reports that plans were made without DANE while nobody authenticated
// answers, and that somebody does now.
func (p *Planner) signed() bool {
	return p.unsigned.Load() && p.resolver.Status() > dns.SecureOff && p.unsigned.Swap(false)
}

func (p *Planner) refreshFile(t *fileTable) bool {
	ready := t.file.Ready()
	changed, err := t.file.Refresh()
	switch {
	case err != nil && ready:
		p.log.Error("a table of routes cannot be read; what it said before holds", mta.KeyPath, t.path, mta.KeyError, err)
	case err != nil:
		p.log.Error("a table of routes cannot be read; mail that it may know waits", mta.KeyPath, t.path, mta.KeyError, err)
	case changed:
		p.log.Info("a table of routes was read", mta.KeyPath, t.path, mta.KeyCount, t.file.Len())
	}
	return changed
}

// watchService tells once that a service is in trouble, and once that it is out
// of it again: mail that waits for it is looked at anew then.
func (p *Planner) watchService(id string, t *httpTable) bool {
	err := t.http.Err()
	had := p.trouble[id]
	switch {
	case err != nil && !had:
		p.trouble[id] = true
		p.log.Error("a table of routes gives no answers; old ones hold, and mail without one waits", mta.KeyServer, t.name, mta.KeyError, err)
	case err == nil && had:
		delete(p.trouble, id)
		p.log.Info("a table of routes gives answers again", mta.KeyServer, t.name)
		return true
	}
	return false
}

// Close ends the connections to services. The planner may still be asked.
func (p *Planner) Close() {
	for _, t := range p.settings.Load().tables.now {
		if remote, ok := t.(*httpTable); ok {
			remote.http.Close()
		}
	}
}

// Check reports what New would refuse in settings.
func Check(s Settings) error {
	_, err := compile(s, tables{secret: noSecret}, 0)
	return err
}

// CheckTables reads the tables that settings have in files, and reports what is
// wrong in them.
func CheckTables(s Settings) error {
	p, err := New(Options{Settings: Settings{Hostname: s.Hostname}, Secret: noSecret})
	if err == nil {
		_, err = p.Prepare(s)
	}
	return err
}

func noSecret(string) (string, error) { return "", nil }
