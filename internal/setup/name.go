package setup

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/smtp"
)

func (s *setup) nameStep(ctx context.Context) error {
	s.say("The name that this machine introduces itself with (EHLO). Receivers look it up: its address record must be the address that they see, and the reverse record of that address should be this name. Take a name under a domain of yours, such as mailout.example.com.")
	def := s.draft.cfg.Hostname
	if s.draft.named {
		s.say("Now: %s.", def)
	} else {
		s.say("Now: none.")
		def = ""
		if _, given := s.Answers[Hostname]; !given {
			def = s.guessName(ctx)
		}
	}
	v, err := s.answer(ctx, Question{Flag: Hostname, Prompt: "Host name", Default: def, Example: "mailout.example.com",
		Check: func(v string) error { return s.draft.check(config.Change{Key: keys[Hostname], Value: v}) }})
	if err != nil {
		return err
	}
	if err := s.put(Hostname, config.Change{Key: keys[Hostname], Value: v}); err != nil {
		return err
	}
	s.survey = nil // the name is another, even where the draft is the same
	for _, c := range s.look().Examine(ctx, "name.form").Checks {
		if c.Status != doctor.Pass {
			s.print(s.Style.Check(c))
		}
	}
	return nil
}

// guessName proposes a name: one that the reverse record of the visible address
// leads to, else what the system calls itself, else the reverse record's all
// the same. Names that look made by a machine are only shown.
func (s *setup) guessName(ctx context.Context) string {
	var confirmed, system, reverse []string
	for _, f := range s.strangers().Faces(ctx) {
		if !f.Visible.IsValid() || s.Offline {
			continue
		}
		for _, r := range s.strangers().ReverseNames(ctx, f.Visible) {
			s.say("The reverse record of %s says %s%s.", f.Visible, r.Name, reverseWords(r))
			switch {
			case !usable(r.Name) || r.Generic != "":
			case r.Confirmed:
				confirmed = append(confirmed, r.Name)
			default:
				reverse = append(reverse, r.Name)
			}
		}
	}
	for _, n := range s.Names() {
		if usable(n) && !slices.Contains(system, n) {
			s.say("The system calls this machine %s.", n)
			system = append(system, n)
		}
	}
	if all := slices.Concat(confirmed, system, reverse); len(all) > 0 {
		return all[0]
	}
	return ""
}

// strangers is a survey without a host name: mail servers are not greeted for
// it.
func (s *setup) strangers() *doctor.Survey {
	if s.survey == nil {
		id := s.identity()
		id.Probes = nil
		id.Reflectors = slices.DeleteFunc(slices.Clone(id.Reflectors), func(r string) bool { return strings.HasPrefix(r, "smtp:") })
		s.survey = doctor.NewSurvey(id, s.World, doctor.Options{Offline: s.Offline})
	}
	return s.survey
}

func reverseWords(r doctor.ReverseName) string {
	switch {
	case r.Generic != "":
		return fmt.Sprintf(", which %s: such names are taken for home connections", r.Generic)
	case !r.Confirmed:
		return ", which does not lead back"
	}
	return ", which leads back"
}

// inner are top-level names that no public DNS has.
var inner = []string{".local", ".localdomain", ".internal", ".intranet", ".lan", ".home", ".corp", ".private", ".home.arpa", ".invalid"}

// usable reports whether a name may be proposed.
func usable(name string) bool {
	lower := strings.ToLower(name)
	return smtp.HostnameProblem(name) == "" && !slices.ContainsFunc(inner, func(d string) bool { return strings.HasSuffix(lower, d) })
}
