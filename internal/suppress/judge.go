package suppress

import (
	"regexp"
	"strings"

	"mailout/internal/bounce"
)

// Whether a reply says that an address is dead, and how surely.
//
// Servers lie: a host under attack answers 550 to everything, a firewall says
// "user unknown" where it means us, a migration forgets half of the mailboxes for
// an afternoon. So a reply is believed at once only when its enhanced code and
// its words, each read without the other, both say that the address is dead. When
// only the two together say it, it has to be said on several days.
//
// Only the classes whose action is to remove count: never a full mailbox, nor
// anything about policy, content, reputation or our set-up.

// sureness is how surely a reply speaks of a dead address.
type sureness uint8

const (
	nothing   sureness = iota // it says nothing of the kind
	unsure                    // to be heard several times
	sure                      // to be believed at once
	ifNoSuch                  // the domain is said to be gone: to be believed when DNS says so
	codeGroup = `(?:\b[245]\d\d[ -])?\b[245]\.\d{1,3}\.\d{1,3}\b|\b[245]\d\d\b`
)

var codes = regexp.MustCompile(codeGroup)

// judge reads a reply that refused a recipient for good.
func judge(c *bounce.Classifier, r bounce.Reply) (bounce.Class, sureness) {
	class := c.Classify(r)
	switch {
	case class.Action() != bounce.Remove:
		return class, nothing
	case class == bounce.DomainUnknown:
		return class, ifNoSuch
	case r.Enhanced == "" || !strings.HasPrefix(r.Enhanced, "5."):
		return class, unsure
	}
	words := strings.TrimSpace(codes.ReplaceAllString(r.Text, " "))
	byCode := c.Classify(bounce.Reply{Code: r.Code, Enhanced: r.Enhanced})
	byWords := c.Classify(bounce.Reply{Text: words})
	if dead(byCode) && dead(byWords) {
		return class, sure
	}
	return class, unsure
}

// dead reports whether a class says of a mailbox that it is none any more.
func dead(c bounce.Class) bool { return c.Action() == bounce.Remove && c != bounce.DomainUnknown }
