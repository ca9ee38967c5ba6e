package queue

import (
	"fmt"
	"strings"
	"time"

	"mailout/internal/mta"
)

// Sentences about what keeps a site from taking mail.

func (s *site) avoidedWhy() string {
	return because(s.name+" is left alone"+s.from()+" until "+mta.FormatTime(time.UnixMilli(s.avoided.until)), s.avoided.why)
}

// from names the site's source, if it has one of its own.
func (s *site) from() string {
	if _, source, ok := strings.Cut(s.key, "|"); ok {
		return " from " + source
	}
	return ""
}

func because(what, why string) string {
	if why == "" {
		return what
	}
	return what + ": " + why
}

// rateWords is a rate as people write it, with where it comes from.
func rateWords(r *mta.Rate) string {
	s := fmt.Sprintf("%d messages in %s", r.Count, perWords(r.Per))
	if r.Origin != "" {
		s += " (" + r.Origin + ")"
	}
	return s
}

func perWords(d time.Duration) string {
	for _, unit := range []struct {
		d    time.Duration
		name string
	}{{24 * time.Hour, "a day"}, {time.Hour, "an hour"}, {time.Minute, "a minute"}, {time.Second, "a second"}} {
		if d == unit.d {
			return unit.name
		}
	}
	return d.String()
}

// whyPaced explains what was put back: all routes are avoided, or it waits for a
// rate of part of the mail.
func (l *loop) whyPaced(x *Explanation, e *entry) {
	if w := e.way; w.plan == planRouted && w.several() {
		if b := l.leastShut(w, pairHash(e.d)); b.site.avoided.until > l.nowMS {
			x.Site, x.Limit, x.Reason = b.site.name, "avoided", b.site.avoidedWhy()
			return
		}
	}
	if r := e.way.berth.route; e.rate == nil && r != nil && r.Warming != nil {
		x.Site, x.Limit = e.way.berth.site.name, "quota"
		x.Reason = quotaWhy(r) + fmt.Sprintf(", to %d recipients at once", len(e.d.Recipients))
		return
	}
	x.Limit = "rate"
	x.Reason = "waits for a rate of its own"
	for b := &e.way.berth; b != nil && b.route != nil; b = b.next {
		for i := range b.route.Limits.Rates {
			switch r := &b.route.Limits.Rates[i]; {
			case r.BySender:
				x.Reason = b.site.name + " takes " + rateWords(r) + " of the sender " + e.d.Message.Envelope.Sender
				return
			case r.Apart:
				x.Reason = b.site.name + " takes " + rateWords(r) + " of " + e.way.mailFor()
				return
			}
		}
	}
}

// quotaWhy says what keeps a route's source from sending more.
func quotaWhy(route *mta.Route) string {
	what := "mail"
	if route.Warming.Second {
		what = "mail that does not come first"
	}
	why := fmt.Sprintf("the warm-up of the source %s lets no more %s go to %s now", route.SourceKey(), what, route.Warming.Provider)
	if route.Warming.Origin != "" {
		why += " (" + route.Warming.Origin + ")"
	}
	return why
}

// mailFor names a way's mail.
func (w *way) mailFor() string {
	variant, released := strings.CutPrefix(w.variant, mta.VariantReleased)
	s := "mail for " + w.dest.key.Domain
	if rest, is := strings.CutPrefix(variant, mta.VariantRequireTLS); is {
		s, variant = s+" with REQUIRETLS", rest
	} else if rest, is := strings.CutPrefix(variant, mta.VariantAnyTLS); is {
		s, variant = s+" with TLS-Required: No", rest
	}
	if variant != "" {
		s += " under the rules " + variant
	}
	if released {
		s += " that was released"
	}
	return s
}

// wayFor finds the way of a variant; nil when there is none.
func (d *dest) wayFor(variant string) *way {
	for w := &d.first; w != nil; w = w.next {
		if w.variant == variant {
			return w
		}
	}
	return nil
}

func (o *Order) owner() string {
	if o.rule {
		return "a rule's "
	}
	return "an operator's "
}
