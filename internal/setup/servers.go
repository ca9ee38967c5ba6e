package setup

import (
	"context"
	"strings"

	"mailout/internal/config"
	"mailout/internal/doctor"
)

func (s *setup) serversStep(ctx context.Context) error {
	s.say("DNS tells which servers take a recipient's mail. A server that does not know outside names (\"Unknown host\") stops all of it, and one that answers wrongly sends it astray.")
	for {
		s.say("Now: %s.", s.serversNow())
		v, err := s.answer(ctx, Question{Flag: Servers, Prompt: "DNS servers (list, or \"system\")", Default: s.serversDefault(),
			Check: func(v string) error { return s.draft.check(serversChange(v)) }})
		if err != nil {
			return err
		}
		if err := s.put(Servers, serversChange(v)); err != nil {
			return err
		}
		again, err := s.tryServers(ctx)
		if err != nil || !again {
			return err
		}
		delete(s.Answers, Servers) // it did not do: this time it is asked for
	}
}

// tryServers asks the servers for outside names, and what to do when they do
// not answer well.
func (s *setup) tryServers(ctx context.Context) (again bool, err error) {
	if s.Offline {
		s.say("Not tried: this is a set-up without network.")
		return false, nil
	}
	names := strings.Join(s.draft.cfg.Identity.ExternalNames, ", ")
	for s.examine(ctx, "Asking for "+names, "resolver.answers", "resolver.external", "resolver.honest") == doctor.Fail {
		next, err := s.choose(ctx, "What now", "on",
			Choice{"on", "go on with these servers"}, Choice{"again", "try again"}, Choice{"other", "name other servers"})
		if err != nil || next == "on" {
			return false, err
		}
		s.survey = nil
		if next == "other" {
			return true, nil
		}
	}
	return false, ctx.Err()
}

// serversNow tells those in use, and that the system's are a guess.
func (s *setup) serversNow() string {
	id := s.identity()
	if id.SystemServers {
		return listed(id.Servers) + " (the system's)"
	}
	return listed(id.Servers)
}

func (s *setup) serversDefault() string {
	if servers := s.draft.cfg.DNS.Servers; len(servers) > 0 {
		return listed(servers)
	}
	return words[Servers]
}

func serversChange(v string) config.Change {
	if v == words[Servers] {
		return config.Change{Key: keys[Servers], Unset: true}
	}
	return config.Change{Key: keys[Servers], Value: strings.Join(fields(v), ",")}
}

func (s *setup) addressStep(ctx context.Context) error {
	if s.routed() {
		s.say("Not needed: receivers see the router.")
		return nil
	}
	s.say("Receivers judge mail by the address that they see it come from. Behind NAT that is not the address of this machine, so mail servers and reflectors are asked.")
	s.say("Now: %s.", s.publicNow())
	for _, f := range s.look().Faces(ctx) {
		s.say("%s: %s.", family(f), faceWords(f))
		s.remember(f.Visible)
	}
	q := Question{Flag: PublicIP, Prompt: "Public address (list, or \"auto\" to find it out each time)", Default: s.publicDefault(),
		Check: func(v string) error { return s.draft.check(publicChange(v)) }}
	v, err := s.answer(ctx, q)
	if err != nil {
		return err
	}
	if v == words[PublicIP] && !s.draft.cfg.Given(keys[PublicIP]) {
		return nil
	}
	if err := s.put(PublicIP, publicChange(v)); err != nil {
		return err
	}
	s.visible = nil
	for _, f := range s.look().Faces(ctx) {
		s.remember(f.Visible)
	}
	return nil
}

func (s *setup) publicNow() string {
	if given := s.draft.cfg.Identity.PublicIP; len(given) > 0 {
		return "said to be " + listed(given)
	}
	return "found out each time"
}

func (s *setup) publicDefault() string {
	if given := s.draft.cfg.Identity.PublicIP; len(given) > 0 {
		return listed(given)
	}
	return words[PublicIP]
}

func publicChange(v string) config.Change {
	if v == words[PublicIP] {
		return config.Change{Key: keys[PublicIP], Unset: true}
	}
	return config.Change{Key: keys[PublicIP], Value: strings.Join(fields(v), ",")}
}

func family(f doctor.Face) string {
	if f.V6 {
		return "IPv6"
	}
	return "IPv4"
}

func faceWords(f doctor.Face) string {
	switch {
	case !f.Local.IsValid():
		return "there is no way out to the internet"
	case !f.Visible.IsValid():
		return "mail leaves from " + f.Local.String() + ", and " + f.Said
	case f.Local == f.Visible:
		return "seen as " + f.Said
	}
	return "mail leaves from " + f.Local.String() + " and is seen as " + f.Said
}

func (s *setup) recordsStep(ctx context.Context) error {
	s.say("These records in DNS make the name, the address and the sender domain belong together. Whoever hosts the domain publishes them; the reverse record comes from whoever gave you the address. The key of a later step has a record of its own.")
	for {
		plan := s.plan(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.Offline {
			plan.Notes = nil // each says only that nothing was asked
		}
		s.print(s.Style.Plan(plan))
		if plan.Complete() || s.Offline || s.Asker == nil {
			return nil
		}
		next, err := s.choose(ctx, "What now", "on",
			Choice{"on", "go on, and publish them later (\"mailout records\" shows them again)"}, Choice{"again", "look whether they are published now"})
		if err != nil || next == "on" {
			return err
		}
	}
}

// plan finds the records, each time anew, for the address that was found: mail
// servers are not greeted again for it.
func (s *setup) plan(ctx context.Context) *doctor.Plan {
	id := s.identity()
	if len(s.visible) > 0 {
		id.PublicIP, id.Probes, id.Reflectors = s.visible, nil, nil
	}
	world := s.World
	if len(s.visible) > 0 {
		world.Learned = nil
	}
	return doctor.PlanRecords(ctx, id, world, doctor.Options{Offline: s.Offline})
}
