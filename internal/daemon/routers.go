package daemon

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/oauth"
	"mailout/internal/route"
	"mailout/internal/spool"
)

// routers gives routes the credentials of their routers, follows the files that
// they stand in, and tells once when a router cannot be used (routeralarm.go).
//
// Credentials are one object while nothing about them changes, so that sessions
// and doctors compare pointers. A file that cannot be read leaves what was read
// before in force.
type routers struct {
	log    *slog.Logger
	notes  spool.Notes
	alarms *routerAlarms

	mu struct {
		sync.Mutex
		keys   map[[sha256.Size]byte]*routerKey
		used   map[*config.Credentials]*mta.Credentials // of the configuration in force
		router *mta.Credentials                         // of [router]; nil: none
		stamps map[string]fileStamp
		told   map[string]bool // files whose trouble was told, joined
		some   bool            // the last read had credentials that could be read
	}
}

// routerKey is one set of credentials and where its tokens come from.
type routerKey struct {
	credentials *mta.Credentials
	tokens      *oauth.Source // nil: it has a password
}

func newRouters(log *slog.Logger, notes spool.Notes, alarms *routerAlarms) *routers {
	r := &routers{log: log, notes: notes, alarms: alarms}
	r.mu.keys, r.mu.told = map[[sha256.Size]byte]*routerKey{}, map[string]bool{}
	return r
}

// places are the credentials of a configuration in use, in their order in
// route.Settings: [router] first.
func routerPlaces(c *config.Config) []*config.Credentials {
	var out []*config.Credentials
	if c.Router.Host != "" && c.Router.Auth.Any() {
		out = append(out, &c.Router.Auth)
	}
	for i := range c.Routes {
		if c.Routes[i].Auth.Any() {
			out = append(out, &c.Routes[i].Auth)
		}
	}
	return out
}

// settings are those of a configuration, with credentials. What was got for an
// earlier configuration and is used no more is closed by settle.
func (r *routers) settings(ctx context.Context, c *config.Config) route.Settings {
	s := routeSettings(c)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.read(ctx, c)
	s.Router.Auth = r.mu.router
	for i := range c.Routes {
		s.Rules[i].Auth = r.mu.used[&c.Routes[i].Auth]
	}
	return s
}

// read makes the credentials of c. r.mu is held.
func (r *routers) read(ctx context.Context, c *config.Config) {
	places := routerPlaces(c)
	var files []string
	for _, a := range places {
		files = append(files, a.Files()...)
	}
	r.mu.stamps = stampsOf(files) // before reading: a change meanwhile is seen next time
	before := r.mu.used
	r.mu.used, r.mu.router, r.mu.some = map[*config.Credentials]*mta.Credentials{}, nil, false
	for _, a := range places {
		r.mu.used[a] = r.credentials(ctx, c, a, before[a])
		r.mu.some = r.mu.some || len(a.Files()) > 0 && !r.mu.told[place(a)]
	}
	if c.Router.Host != "" {
		r.mu.router = r.mu.used[&c.Router.Auth]
	}
}

// place names credentials by their files.
func place(a *config.Credentials) string { return strings.Join(a.Files(), "\n") }

// readSome reports whether any credentials could be read when they last were.
func (r *routers) readSome() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.mu.some
}

// credentials gives those of one place; last are what it had before.
func (r *routers) credentials(ctx context.Context, c *config.Config, a *config.Credentials, last *mta.Credentials) *mta.Credentials {
	place := place(a)
	s, err := readSecrets(a, c.TLS.CAFile)
	if err == nil {
		print := s.print()
		key := r.mu.keys[print]
		if key == nil {
			var tokens *oauth.Source
			if tokens, err = r.source(ctx, c, &s); err == nil {
				key = &routerKey{credentials: s.credentials(tokens), tokens: tokens}
				r.mu.keys[print] = key
			}
		}
		if err == nil {
			delete(r.mu.told, place)
			return key.credentials
		}
	}
	if !r.mu.told[place] {
		r.mu.told[place] = true
		r.log.Error("credentials of a router cannot be read; what was read before stays in force", "username", a.Username, mta.KeyError, err)
	}
	if last != nil {
		return last
	}
	return &mta.Credentials{Username: a.Username, Trouble: err.Error()}
}

func (r *routers) source(ctx context.Context, c *config.Config, s *secrets) (*oauth.Source, error) {
	if s.Config.OAuth.Provider == config.NoOAuth {
		return nil, nil
	}
	pool, err := roots(c)
	if err != nil {
		return nil, err
	}
	return s.source(ctx, pool, r.notes, r.log), nil
}

// settle ends the token sources of credentials that are used no more.
func (r *routers) settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	inUse := map[*mta.Credentials]bool{}
	for _, c := range r.mu.used {
		inUse[c] = true
	}
	for print, key := range r.mu.keys {
		if !inUse[key.credentials] {
			delete(r.mu.keys, print)
			if key.tokens != nil {
				key.tokens.Close()
			}
		}
	}
}

// close ends all token sources.
func (r *routers) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.mu.used = nil
	for _, key := range r.mu.keys {
		if key.tokens != nil {
			key.tokens.Close()
		}
	}
}

// current is what [router] is signed in to with now: the doctor of the daemon.
func (r *routers) current() (*mta.Credentials, *doctor.AuthTrouble) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c := r.mu.router; c != nil && c.Trouble != "" {
		return nil, &doctor.AuthTrouble{Why: c.Trouble, Known: true}
	}
	return r.mu.router, nil
}

// changed reports whether a file of the credentials in use is another than when
// it was read.
func (r *routers) changed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	files := make([]string, 0, len(r.mu.stamps))
	for f := range r.mu.stamps {
		files = append(files, f)
	}
	return !maps.Equal(r.mu.stamps, stampsOf(files))
}

// routersEvery is how often the files of credentials are looked at.
const routersEvery = 2 * time.Second

// watchRouters takes changed files until ctx ends.
func (d *Daemon) watchRouters(ctx context.Context) {
	every(ctx, routersEvery, func() {
		if d.routers.changed() {
			d.renewRouters(ctx)
		}
	})
}

// renewRouters reads the files again, and lets what waits for a router try with
// what they say now.
func (d *Daemon) renewRouters(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.planner.Reconfigure(d.routers.settings(ctx, d.mu.config)); err != nil {
		d.log.Error("changed credentials cannot be used", mta.KeyError, err) // the configuration was good before
		return
	}
	d.routers.settle()
	d.queue.Replan()
	if d.routers.readSome() { // else the trouble was told
		d.log.Info("credentials of routers read again")
	}
}
