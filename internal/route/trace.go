package route

import (
	"fmt"
	"slices"
	"strings"

	"mailout/internal/mta"
)

// Trace says how the rules are walked through for one message.
type Trace struct {
	// Matched is the rule that decides, with the line of its table; empty when
	// none does, or when only a service knows.
	Matched string
	// PassedOver are the rules before it that would have decided, had the message
	// another sender, stream, user or tags; a sentence each, at most
	// MaxPassedOver.
	PassedOver []string
}

// MaxPassedOver bounds Trace.PassedOver.
const MaxPassedOver = 20

// Trace walks through the rules for a message to a destination. It looks at
// every rule and asks no service. Mail that an operator rerouted meets no rule.
func (p *Planner) Trace(m *mta.Message, d mta.Destination) (t Trace) {
	domain, err := ascii(d.Domain)
	if via, _ := p.rerouted(d); via != "" || err != nil {
		return t
	}
	c := p.settings.Load()
	for i := range c.rules {
		rule := &c.rules[i]
		if !meetsDomain(c.Rules[i].Domains, domain) {
			continue
		}
		if why := rule.against(m, d.Stream); why != "" {
			if len(t.PassedOver) < MaxPassedOver {
				t.PassedOver = append(t.PassedOver, rule.matched+" "+why)
			}
			continue
		}
		switch at := rule.table.(type) {
		case nil:
			t.Matched = rule.matched
			return t
		case *fileTable:
			if line, ok := at.line(m, domain); ok {
				t.Matched = rule.matched + ", " + line
				return t
			}
		default:
			return t // what the service says is not known here
		}
	}
	return t
}

func meetsDomain(patterns []string, domain string) bool {
	return len(patterns) == 0 || eachDomain(domain, func(key string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool {
			k, err := domainKey(p)
			return err == nil && k == key
		})
	})
}

// unknownSender stands for a return path of which nothing is known, in questions.
const unknownSender = "?"

// against says which condition of a rule mail does not meet; empty when it meets
// all.
func (r *compiledRule) against(m *mta.Message, stream string) string {
	switch {
	case !r.meetsStream(stream):
		return fmt.Sprintf("is not for the stream %s", stream)
	case !r.meetsSender(m):
		if m.Envelope.Sender == unknownSender {
			return "is for some senders, and none is known"
		}
		return fmt.Sprintf("is not for the sender <%s>", m.Envelope.Sender)
	case r.users != nil && !r.users.has(m.Origin.User):
		if m.Origin.User == "" {
			return "is for users that signed in"
		}
		return fmt.Sprintf("is not for the user %s", m.Origin.User)
	case !r.meetsTags(m):
		if len(m.Tags) == 0 {
			return "is for mail with tags"
		}
		return fmt.Sprintf("is not for mail with no other tags than %s", strings.Join(m.Tags, ", "))
	}
	return ""
}
