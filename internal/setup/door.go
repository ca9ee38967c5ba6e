package setup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"

	"mailout/internal/config"
)

// usualListen is where applications look for a mail server.
const usualListen = "127.0.0.1:25"

func (s *setup) listenStep(ctx context.Context) error {
	s.say("Applications hand mail over by SMTP to an address of this machine. 127.0.0.1 takes it from this machine alone; for others give an address that they reach, and say who may send.")
	c := s.draft.cfg
	s.say("Now: %s.", listenersWords(c))
	if len(c.Listen) > 1 && s.Answers[Listen] == "" {
		s.say("There are several; change them in the file or with \"mailout config set\".")
		return s.trustedGiven()
	}
	v, err := s.answer(ctx, Question{Flag: Listen, Prompt: "Address and port, or \"none\"", Default: s.listenDefault(),
		Check: func(v string) error { return s.draft.check(listenChange(v)) }})
	if err != nil {
		return err
	}
	if v == words[Listen] {
		return s.put(Listen, listenChange(v))
	}
	before := c.Listen
	if err := s.put(Listen, listenChange(v)); err != nil {
		return err
	}
	if now := s.draft.cfg.Listen[0].Address; len(before) == 0 || before[0].Address != now {
		s.tryListen(now)
	}
	return s.askTrusted(ctx)
}

func listenersWords(c *config.Config) string {
	var all []string
	for _, l := range c.Listen {
		all = append(all, l.Address.String())
	}
	if len(all) == 0 {
		return "none: only \"mailout send\" on this machine"
	}
	return strings.Join(all, ", ")
}

// listenDefault: a door is proposed to whoever is asked, and to a new
// configuration; nobody gets one unasked.
func (s *setup) listenDefault() string {
	c := s.draft.cfg
	switch {
	case len(c.Listen) > 0:
		return c.Listen[0].Address.String()
	case s.Asker == nil && !s.draft.fresh:
		return words[Listen]
	}
	return usualListen
}

func listenChange(v string) config.Change {
	if v == words[Listen] {
		return config.Change{Key: "listen", Unset: true}
	}
	return config.Change{Key: keys[Listen], Value: v}
}

// tryListen says when the address cannot be had. It is no reason to refuse: what
// is in the way may be gone when the daemon starts.
func (s *setup) tryListen(a netip.AddrPort) {
	l, err := net.Listen("tcp", a.String())
	switch {
	case err == nil:
		l.Close()
	case errors.Is(err, syscall.EADDRINUSE):
		s.say("Note: something listens at %s already. If it is another mail system, stop it before \"mailout serve\", or take another port.", a)
	case errors.Is(err, syscall.EACCES):
		s.say("Note: this user may not listen at port %d; the daemon needs root or CAP_NET_BIND_SERVICE.", a.Port())
	default:
		s.say("Note: %s cannot be listened at now: %v.", a, err)
	}
}

// askTrusted asks who may send, where others than this machine can.
func (s *setup) askTrusted(ctx context.Context) error {
	l := s.draft.cfg.Listen[0]
	if l.Address.Addr().IsLoopback() {
		return s.trustedGiven()
	}
	v, err := s.answer(ctx, Question{Flag: Trusted, Prompt: "Networks whose machines may send to anybody", Default: listed(l.Trusted),
		Check: func(v string) error { return s.draft.check(trustedChange(v)) }})
	if err != nil {
		return err
	}
	return s.put(Trusted, trustedChange(v))
}

// trustedGiven takes over what was given beforehand.
func (s *setup) trustedGiven() error {
	v, given := s.Answers[Trusted]
	switch {
	case !given:
		return nil
	case len(s.draft.cfg.Listen) == 0:
		return s.refused(Trusted, errors.New("there is no address that takes mail (give --listen IP:PORT too)"))
	}
	return s.put(Trusted, trustedChange(v))
}

func trustedChange(v string) config.Change {
	return config.Change{Key: keys[Trusted], Value: strings.Join(fields(v), ",")}
}

func (s *setup) spoolStep(ctx context.Context) error {
	s.say("Mail that was accepted is kept in this directory until it is delivered. It must be on a disk of this machine; nothing else writes there.")
	s.say("Now: %s.", s.spoolNow())
	v, err := s.answer(ctx, Question{Flag: Spool, Prompt: "Directory", Default: s.spoolDefault(), Check: s.checkSpool})
	if err != nil {
		return err
	}
	return s.put(Spool, config.Change{Key: keys[Spool], Value: v})
}

func (s *setup) spoolNow() string {
	if s.draft.fresh && !s.draft.cfg.Given(keys[Spool]) {
		return "none"
	}
	return s.draft.cfg.Spool
}

// spoolDefault is the usual place, or one beside the configuration where this
// user may not write there.
func (s *setup) spoolDefault() string {
	spool := s.draft.cfg.Spool
	if s.draft.fresh && !s.draft.cfg.Given(keys[Spool]) && canMake(spool) != nil {
		if dir, err := filepath.Abs(filepath.Dir(s.Path)); err == nil {
			return filepath.Join(dir, "spool")
		}
	}
	return spool
}

func (s *setup) checkSpool(v string) error {
	if err := s.draft.check(config.Change{Key: keys[Spool], Value: v}); err != nil {
		return err
	}
	if v == s.draft.cfg.Spool && !s.draft.fresh {
		return nil // it is there, or a daemon of another user makes it
	}
	dir := v
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(filepath.Dir(s.Path), dir)
	}
	if err := canMake(dir); err != nil {
		return fmt.Errorf("%q cannot be used: %w", v, err)
	}
	return nil
}
