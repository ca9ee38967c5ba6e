package setup

import (
	"context"
	"errors"
	"net"
	"strconv"

	"mailout/internal/config"
	"mailout/internal/doctor"
)

// withoutAuth is what is not asked for.
const withoutAuth = "Here it is used without a user name and password; where it wants them, write username and password_file below [router] afterwards."

func (s *setup) routerStep(ctx context.Context) error {
	s.say("Without a mail router (smart host, relay), mail goes straight to the recipients' own servers, and you see what they answer. A router is needed where port 25 is closed or a provider insists on its own. %s", withoutAuth)
	s.say("Now: %s.", s.routerNow())
	_, host := s.Answers[Router]
	_, use := s.Answers[RouterUse]
	_, tls := s.Answers[RouterTLS]
	if s.Asker == nil || host || use || tls {
		return s.routerGiven()
	}
	return s.askRouter(ctx, s.routerUse())
}

// routerUse is the use of the router now; "none" without one.
func (s *setup) routerUse() string {
	if r := s.draft.cfg.Router; r.Host != "" {
		return r.Use.String()
	}
	return "none"
}

func (s *setup) routerNow() string {
	switch r := s.draft.cfg.Router; {
	case r.Host == "":
		return "none, mail is delivered directly"
	case r.Use == config.UseAlways:
		return "all mail goes to " + routerAddress(r)
	default:
		return "mail for domains whose servers cannot be found goes to " + routerAddress(r)
	}
}

// routerAddress is where the router is.
func routerAddress(r config.Router) string {
	return net.JoinHostPort(r.Host, strconv.Itoa(int(r.Port)))
}

// routerDefault is the router now as one types it. A port that follows from the
// encryption is left out: it follows again.
func (s *setup) routerDefault() string {
	c := s.draft.cfg
	if c.Router.Host == "" || !c.Given("router.port") {
		return c.Router.Host
	}
	return routerAddress(c.Router)
}

// routerGiven takes over what was given beforehand.
func (s *setup) routerGiven() error {
	if host, given := s.Answers[Router]; given {
		if err := s.putRouter(host); err != nil {
			return err
		}
	}
	for _, flag := range []string{RouterUse, RouterTLS} {
		v, given := s.Answers[flag]
		if !given {
			continue
		}
		if s.draft.cfg.Router.Host == "" {
			return s.refused(flag, errors.New("there is no router (give --router HOST too)"))
		}
		if err := s.put(flag, config.Change{Key: keys[flag], Value: v}); err != nil {
			return err
		}
	}
	s.say("Router: %s", s.routerNow())
	return nil
}

// putRouter sets or removes the router.
func (s *setup) putRouter(host string) error {
	if host == "none" && s.draft.cfg.Router.Host == "" {
		return nil
	}
	return s.put(Router, config.Change{Key: "router", Value: host})
}

// askRouter asks which mail goes to a router, and to which. def is what Enter
// gives.
func (s *setup) askRouter(ctx context.Context, def string) error {
	use, err := s.answer(ctx, Question{Prompt: "Delivery", Default: def, Choices: []Choice{
		{"none", "directly to the recipients' servers"},
		{"always", "all mail through a router"},
		{"unresolved", "directly, and through a router where a domain's servers cannot be found"},
	}})
	if err != nil {
		return err
	}
	if use == "none" {
		return s.putRouter("none")
	}
	host, err := s.answer(ctx, Question{Flag: Router, Prompt: "Router (HOST or HOST:PORT)", Example: "smtp.provider.example:587", Default: s.routerDefault(), Check: s.checkRouter})
	if err != nil {
		return err
	}
	tls, err := s.answer(ctx, Question{Flag: RouterTLS, Prompt: "Encryption", Default: s.tlsWord(), Choices: []Choice{
		{"opportunistic", "when the router offers it (STARTTLS), with any certificate"},
		{"required", "always (STARTTLS), with a certificate that fits the name"},
		{"implicit", "always, from the first octet (port 465)"},
		{"none", "never"},
	}})
	if err != nil {
		return err
	}
	return s.put(Router, config.Change{Key: "router", Value: host}, config.Change{Key: keys[RouterUse], Value: use}, config.Change{Key: keys[RouterTLS], Value: tls})
}

func (s *setup) checkRouter(v string) error {
	if v == "none" {
		return errors.New(`"none" is no router`)
	}
	return s.draft.check(config.Change{Key: "router", Value: v})
}

// tlsWord is the router's encryption now.
func (s *setup) tlsWord() string {
	v, err := config.Get(s.draft.cfg, "router.tls")
	if err != nil {
		return "opportunistic"
	}
	return v
}

// portStep tries what mail will need: port 25 of the receivers, or the router.
func (s *setup) portStep(ctx context.Context) error {
	if s.routed() {
		s.say("Not needed: all mail goes to the router, which is tried instead. It hears a greeting and a goodbye, never mail.")
	} else {
		s.say("Mail servers take mail at port 25. Many providers close it for new customers, and mail then waits until it expires. What is tried here is a greeting and a goodbye, never mail.")
	}
	if s.Offline {
		s.say("Not tried: this is a set-up without network. \"mailout doctor\" tries it later.")
		return nil
	}
	for {
		if s.draft.cfg.Router.Host != "" {
			s.examine(ctx, "Trying the router", "router")
		}
		if s.routed() {
			return nil
		}
		blocked := s.blocked(ctx)
		if ctx.Err() != nil || !blocked {
			return ctx.Err()
		}
		s.say("Port 25 is closed outwards. Ask the provider to open it, or deliver through a router (a smart host at another port).")
		if s.Asker == nil {
			s.say("The configuration is written for direct delivery all the same; --router HOST:PORT sets a router.")
			return nil
		}
		next, err := s.choose(ctx, "What now", "on",
			Choice{"on", "go on: port 25 will be opened"}, Choice{"again", "try again"}, Choice{"router", "set a router"})
		if err != nil || next == "on" {
			return err
		}
		if next == "router" {
			delete(s.Answers, Router) // "none" did not do
			if err := s.askRouter(ctx, "always"); err != nil {
				return err
			}
		}
		s.survey = nil
	}
}

// blocked tries port 25, and tells whether it is closed in every family.
func (s *setup) blocked(ctx context.Context) bool {
	s.say("Trying port 25 …")
	r := s.look().Examine(ctx, "port25")
	s.show(r)
	failed, others := 0, 0
	for _, c := range r.Checks {
		switch {
		case c.ID != "port25":
		case c.Status == doctor.Fail:
			failed++
		default:
			others++
		}
	}
	return failed > 0 && others == 0
}
