package standing

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"mailout/internal/bounce"
	"mailout/internal/mta"
)

// What an attempt teaches.
//
// Another source of the plan comes first, the router second. What is marked
// Elsewhere is tried again at once, so it must end:
//
//   - by another source only when this attempt leaves its source suspended (for
//     MinFor at least) and another of the plan is not: at most one attempt for
//     each source of the plan in that time;
//   - by the router only when the site is the router's after it, from where one
//     delivery comes back to the direct way with each probe, Fallback.Probe apart
//     at least. An attempt by the router is never Elsewhere.
//
// So a delivery makes at most one attempt for each source and one by the router
// before its schedule has the word again, but for the probe that it may be. What
// may have arrived (uncertain) stays where it is.

// Lesson is what an attempt taught. The zero Lesson is nothing.
type Lesson struct {
	Avoid  time.Time // until when the route's source is not used at its site
	Why    string
	Replan bool // routes to the site are to be made anew
}

// general are the rules behind the shipped ones: what blames our address is not
// said of another.
func general() []Rule {
	return []Rule{
		Rule{Name: "our address is blocked", Classes: []bounce.Class{bounce.IPBlocked}, Code: "5", Action: OtherSource}.filled(),
		Rule{Name: "our address is blocked for now", Classes: []bounce.Class{bounce.IPBlocked}, Enhanced: "x.7.*", Action: OtherSource}.filled(),
		Rule{Name: "our address has no reverse DNS", Classes: []bounce.Class{bounce.PTRMissing}, Action: OtherSource}.filled(),
	}
}

// Learn takes in what an attempt of a delivery by a route came to, before that
// is stored, and marks the results that another route may mend.
func (s *Standing) Learn(route *mta.Route, d *mta.Delivery, a *mta.Attempt) Lesson {
	if route.Router != "" {
		s.learnRouter(route, d, a)
		return Lesson{}
	}
	if !slices.ContainsFunc(a.Results, asked) {
		if route.Probe {
			s.GiveBack(route) // the next delivery finds out
		}
		return Lesson{}
	}
	now := s.now()
	if answered(a) {
		s.reached.Store(now.UnixNano())
	}
	set := s.settings.Load()
	hits := set.match(route, a)
	s.mu.Lock()
	defer s.mu.Unlock()
	if good(a) {
		if st := s.mu.sites[route.Site]; st != nil {
			return s.taken(st, route, now)
		}
		return Lesson{}
	}
	l := lecture{s: s, set: set, route: route, d: d, a: a, now: now}
	l.progress()
	if !route.Probe {
		l.rules(hits)
	}
	if route.Fallback && set.fallback.Router != "" {
		l.fallback()
	}
	return l.out
}

// match finds for each result the first rule that its reply fits; nil when none
// does, and no slice when there is nothing to match. One reply to many recipients
// is looked at once.
func (c *settings) match(route *mta.Route, a *mta.Attempt) (hits []*Rule) {
	var last *mta.Result
	var hit *Rule
	for i := range a.Results {
		r := &a.Results[i]
		if r.Class == mta.ClassDelivered || r.Reply.Code == 0 {
			continue
		}
		if last == nil || last.Reply != r.Reply {
			hit = nil
			if at := slices.IndexFunc(c.rules, func(rule Rule) bool { return rule.Fits(route, a.Host, r) }); at >= 0 {
				hit = &c.rules[at]
			}
		}
		last = r
		if hit != nil {
			if hits == nil {
				hits = make([]*Rule, len(a.Results))
			}
			hits[i] = hit
		}
	}
	return hits
}

// good reports that all was taken: what nearly all attempts come to.
func good(a *mta.Attempt) bool {
	return !slices.ContainsFunc(a.Results, func(r mta.Result) bool { return r.Class != mta.ClassDelivered })
}

// taken: the site takes mail from us. Only a probe ends the router's time: what
// was under way when it began says nothing new. s.mu is held.
func (s *Standing) taken(st *site, route *mta.Route, now time.Time) Lesson {
	st.missed, st.idle = 0, time.Time{}
	if !route.Probe || !st.router.on {
		return Lesson{}
	}
	s.direct(st, now, "a delivery was taken directly")
	if f := st.from[route.SourceKey()]; f != nil && !f.hard && now.Before(f.until) {
		f.until = now // the address is not refused any more
	}
	return Lesson{Replan: true}
}

// lecture is one call of Learn. s.mu is held all the while.
type lecture struct {
	s     *Standing
	set   *settings
	route *mta.Route
	d     *mta.Delivery
	a     *mta.Attempt
	now   time.Time
	out   Lesson
}

func (l *lecture) some(what func(*mta.Result) bool) bool {
	for i := range l.a.Results {
		if what(&l.a.Results[i]) {
			return true
		}
	}
	return false
}

// progress notes what an attempt shows that did not go well altogether.
func (l *lecture) progress() {
	st := l.s.find(l.route.Site)
	if st == nil {
		return
	}
	if answered(l.a) {
		st.missed = 0
	}
	if l.some(func(r *mta.Result) bool { return r.Class == mta.ClassDelivered }) {
		st.idle = time.Time{}
	}
}

// rules does what the rules say, each once an attempt, and marks the results
// whose replies suspended the source where another of the plan may be used.
func (l *lecture) rules(hits []*Rule) {
	var last *Rule
	for i, rule := range hits {
		if rule != nil && rule != last {
			l.apply(rule, &l.a.Results[i])
			last = rule
		}
	}
	if !l.another() {
		return
	}
	for i, rule := range hits {
		if rule != nil && !rule.Site && (rule.Action == OtherSource || rule.Action == Suspend) {
			elsewhere(&l.a.Results[i])
		}
	}
}

func (l *lecture) apply(rule *Rule, r *mta.Result) {
	if rule.Action == Nothing {
		return
	}
	key := l.route.SourceKey()
	if rule.Site {
		key = ""
	}
	f := l.s.make(l.route.Site).of(key, l.now)
	if f == nil {
		return
	}
	why := cut(r.Reason+" ("+rule.Name+")", maxWhy)
	if rule.Action == Slow {
		l.slow(f, rule, key, why)
	} else {
		l.suspend(f, rule, key, why)
	}
}

func (l *lecture) suspend(f *source, rule *Rule, key, why string) {
	hard := rule.Action == Suspend
	if !hard && len(l.route.Others) == 0 {
		return // the source goes on: there is no other
	}
	if l.now.Before(f.until) && (f.hard || !hard) {
		// It is so already: what was under way says it again.
		l.avoid(f)
		return
	}
	if l.now.Before(f.until.Add(memory)) && f.wait > 0 {
		f.wait = min(max(2*f.wait, rule.For), rule.Most)
	} else {
		f.wait = rule.For
	}
	f.wait = max(f.wait, MinFor)
	f.until, f.hard, f.why = l.now.Add(f.wait), hard, why
	l.avoid(f)
	l.s.keeper.mark(l.route.Site)
	l.s.counts.suspensions.Add(1)
	l.tell(key, fmt.Sprintf("%s until %s: %s", l.rests(key, hard), mta.FormatTime(f.until), why), true)
	l.out.Replan = l.out.Replan || hard
}

func (l *lecture) avoid(f *source) {
	if f.until.After(l.out.Avoid) {
		l.out.Avoid, l.out.Why = f.until, f.why
	}
}

// rests says what a suspension keeps from being done.
func (l *lecture) rests(key string, hard bool) string {
	site := l.route.Site
	switch {
	case !hard:
		return "the source " + key + " is not used at " + site
	case key == "":
		return "nothing is sent to " + site
	}
	return "nothing is sent to " + site + " from " + key
}

func (l *lecture) slow(f *source, rule *Rule, key, why string) {
	if l.now.Sub(f.slowed) < quiet && f.factor < 1 {
		return
	}
	f.factor = max(f.share(l.now)*float64(rule.Percent)/100, leastFactor)
	f.slowed, f.half, f.slowWhy = l.now, rule.For, why
	l.out.Replan = true
	l.s.counts.slowings.Add(1)
	l.s.keeper.mark(l.route.Site)
	words := "from all sources"
	if key != "" {
		words = "from the source " + key
	}
	l.tell(key, fmt.Sprintf("%s gets %.0f %% of connections and rates %s, half of the difference back each %s: %s", l.route.Site, f.factor*100, words, f.half, why), true)
}

func (l *lecture) tell(key, words string, worse bool) {
	l.s.keeper.tell(Change{Time: l.now, Site: l.route.Site, Source: key, Words: words, Worse: worse})
}

// another reports that this route's source is suspended at the site now, and
// one of the plan's others is not.
func (l *lecture) another() bool {
	st := l.s.mu.sites[l.route.Site]
	free := func(key string) bool { return st.avoid(key, l.now).Until.IsZero() }
	return st != nil && !free(l.route.SourceKey()) && slices.ContainsFunc(l.route.Others, free)
}

// elsewhere marks a result, unless the mail may have arrived.
func elsewhere(r *mta.Result) {
	if r.Class != mta.ClassDelivered && r.Class != mta.ClassUncertain {
		r.Elsewhere = true
	}
}

// learnRouter adds to a router's refusal what the receiver had said itself.
func (s *Standing) learnRouter(route *mta.Route, d *mta.Delivery, a *mta.Attempt) {
	if route.Instead == "" {
		return
	}
	before := ""
	for i := range a.Results {
		r := &a.Results[i]
		if r.Class != mta.ClassPermanent {
			continue
		}
		if before == "" {
			_, before, _ = s.Fallback(route.Instead)
			if d.Last.Site == route.Instead && d.Last.Result.Reason != "" {
				before = d.Last.Result.Reason
			}
		}
		if before != "" {
			r.Reason += "; directly before: " + cut(strings.TrimSuffix(before, "; "+mta.DetourWords), maxWhy)
		}
	}
}

func exp2(x float64) float64 { return math.Exp2(x) }

// cut shortens a text to n octets, at the border of a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n] + "…"
}
