package shape

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

// The pace: how many messages a second go to a site that refuses more.
//
// Goal: at a receiver that counts messages (a bucket, any minute, the clock's
// minute) send at least nine tenths of what it takes, within minutes, and have
// under 2 % refused from then on; a receiver that does not count is not slowed,
// whatever it refuses now and then. A hundred octets a site before the first
// complaint, five hundred after.
//
// Method: measure between two empty moments. A receiver that refuses for the
// rate has nothing left at that moment; so what it took from one complaint to
// the next, over the time between, is its limit, whatever its burst. After a
// complaint nothing is sent for a moment that grows while the one message that
// tries is refused too; then mail goes at 0.96 of the limit. A faster pace is
// tried when a hundred messages went well for each one that the last try cost,
// and not before a hold that doubles while tries gain nothing: by hundredths at
// first, then by tenths, because a limit that has moved may have moved far. What
// such a try finds is tried out, and counts as proven when it has lasted a hold;
// until then the proven limit is the way back.
//
// Rejected: halving at a complaint and growing evenly (three quarters of the
// limit on average, and a refusal each time); the number that a reply may name
// (few do, in many words).
//
// Limits: it counts messages, not recipients. A limit by the hour is found
// within some hours only. Complaints that come as often at ever slower paces
// are not about the pace: then it is let go, for a time.
const (
	under      = 0.96 // of the limit
	roughly    = 0.9  // of the first estimate, which may count a full bucket
	firstPause = time.Second
	longPause  = 270 * time.Second
	roughHold  = 10 * time.Second
	firstHold  = 20 * time.Second
	longHold   = 4 * time.Minute
	perRefusal = 100 // messages that go well before a try, for each that the last one cost
	enough     = 10  // messages that make a measure
	chance     = 500 // messages without a refusal before one that is let pass
	rare       = 200 // messages between complaints that may be chance
	alone      = 20  // the same, to count as single ones
	unmoved    = 3   // single complaints, down to half the pace: it is not the pace
	deafTime   = 10 * time.Minute
	longDeaf   = 2 * time.Hour
	tolerable  = 0.02 // share of refusals that are let pass then
	gentle     = 8    // small steps before large ones
	stepTime   = 5 * time.Second
	farBeyond  = 8 // times the last limit: it is gone
	slowest    = 1.0 / 600
	idleTime   = 5 * time.Second
	recovery   = time.Minute
)

// pacer is the state of a site that has complained about the rate.
type pacer struct {
	rate   float64 // messages a second; 0: not bounded
	limit  float64 // what the site takes, as far as is known
	proven float64 // the limit that lasted a hold; 0: none yet

	base  time.Time // the empty moment from which taken counts
	taken int
	first int // taken before the first complaint, since began
	began time.Time

	paused  bool
	resume  time.Time // when the next message tries, in a pause
	gap     time.Duration
	trialAt time.Time // when it was handed out; zero: none is under way
	next    int64     // Unix nanoseconds: the next message at this pace

	// promises are the limits that the last try of a faster pace made likely, the
	// highest first; the n-th is being tried, or waits until recovered.
	promises  [3]float64
	nth       int8
	waiting   bool
	recovered time.Time

	climbing bool
	before   float64 // the pace of the step before
	bound    bool    // the pace has held a message back since the last step
	step     int
	until    time.Time // of the hold, or the step
	hold     time.Duration
	calm     int // messages since the last refusal or step
	cost     int // refusals that the last try of a faster pace brought

	found    time.Time // the last complaint
	complain string
	quiet    int       // messages since the last complaint
	single   int       // complaints alone among many messages
	at       float64   // the fastest pace of these
	deaf     time.Time // complaints are let pass until then
	deafFor  time.Duration
	share    float64 // of refusals
}

// Take asks to hand out one message at now. It reports false when the site
// would refuse it, and when to ask again. What is taken is to be handed out.
func (c *Controller) Take(now time.Time) (ok bool, again time.Time) {
	switch {
	case c.pace == nil:
		return true, time.Time{}
	case c.pace.paused:
		return c.pace.tryOne(now)
	}
	return c.pace.take(now)
}

// Pace is how many messages a second go to the site; 0 when their number is
// not bounded.
func (c *Controller) Pace() float64 {
	if c.pace == nil {
		return 0
	}
	return c.pace.rate
}

// Hurried tells that the site refused a message because there were too many;
// complaint says it for people.
func (c *Controller) Hurried(now time.Time, complaint string) {
	c.answered()
	if c.pace == nil {
		c.pace = &pacer{hold: roughHold}
		c.pace.quiet, _ = c.recent.count(now)
	}
	c.pace.refused(now, complaint, &c.recent)
}

func (p *pacer) take(now time.Time) (bool, time.Time) {
	if p.rate == 0 {
		return true, time.Time{}
	}
	at, step := now.UnixNano(), int64(float64(time.Second)/p.rate)
	slack := max(step/4, int64(10*time.Millisecond))
	if p.next > at+step+slack {
		p.next = at + step // the clock went back
	}
	if wait := p.next - at; wait > 0 {
		p.bound = true
		return false, now.Add(time.Duration(wait))
	}
	if idle := time.Duration(at - p.next); idle > idleTime {
		p.base = p.base.Add(idle) // it fills up meanwhile, and is not measured
	}
	p.next = max(p.next, at-slack) + step
	return true, time.Time{}
}

// tryOne lets one message pass in a pause, when its time has come. One whose
// outcome is never told counts as none after a while.
func (p *pacer) tryOne(now time.Time) (bool, time.Time) {
	if wait := p.resume.Sub(now); wait > 0 {
		p.resume = now.Add(min(wait, longPause)) // or the clock went back
		return false, p.resume
	}
	patience := p.gap + time.Minute
	if since := now.Sub(p.trialAt); !p.trialAt.IsZero() && 0 <= since && since < patience {
		return false, p.trialAt.Add(patience)
	}
	p.trialAt = now
	return true, time.Time{}
}

// refused takes a complaint in.
func (p *pacer) refused(now time.Time, complaint string, lately *recent) {
	p.share += (1 - p.share) / 1000
	p.complain = complaint
	if now.Before(p.deaf) {
		if p.share < tolerable {
			return
		}
		p.deaf, p.deafFor = time.Time{}, 0 // it is the pace after all
	}
	switch {
	case p.paused:
		p.refusedAgain(now)
		return
	case p.quiet >= chance:
		p.quiet, p.calm = 0, 0
		p.until = later(p.until, now.Add(stepTime))
		return
	}
	p.quiet = 0
	p.found = now
	if p.notThePace(now) {
		return
	}
	switch n, since := lately.count(now); {
	case p.rate == 0:
		p.first, p.began = n, since
		p.empty(now)
	case p.climbing:
		p.tooFast(now, perSecond(n, now.Sub(since)))
	default:
		p.fallen(now)
	}
	p.rate = under * p.limit
	p.pause(now)
}

// pause begins one.
func (p *pacer) pause(now time.Time) {
	p.paused, p.trialAt, p.gap = true, time.Time{}, firstPause
	if p.rate > 0 {
		p.gap = min(max(p.gap, time.Duration(2*float64(time.Second)/p.rate)), longPause/2)
	}
	p.resume = now.Add(p.gap)
	p.calm, p.step = 0, 0
}

// refusedAgain takes a complaint in a pause: of the message that tries, or of
// one that was on its way before.
func (p *pacer) refusedAgain(now time.Time) {
	if p.climbing {
		p.cost++
	}
	if p.trialAt.IsZero() {
		return
	}
	p.trialAt = time.Time{}
	if p.gap *= 2; p.gap > 8*firstPause {
		p.gap = min(p.gap*5/8, longPause) // a quarter more
	}
	p.resume = now.Add(p.gap)
}

// empty begins a new measure.
func (p *pacer) empty(now time.Time) { p.base, p.taken = now, 0 }

func perSecond(n int, d time.Duration) float64 { return float64(n) / max(d.Seconds(), 0.001) }

// tooFast ends a try of a faster pace. What the limit is depends on how far back
// the receiver counts, so there are three guesses: between the proven limit and
// the last step that went well (it forgets within seconds), what went in the last
// minute, and what went since it was empty last (it forgets nothing).
func (p *pacer) tooFast(now time.Time, lately float64) {
	guess := [3]float64{(p.proven + p.before) / 2, min(lately, p.rate), p.proven}
	if p.taken >= enough {
		guess[2] = min(perSecond(p.taken, now.Sub(p.base)), p.rate)
		p.empty(now)
	}
	slices.SortFunc(guess[:], func(a, b float64) int { return cmp.Compare(b, a) })
	p.promises, p.nth = guess, 0
	if p.hold = min(2*p.hold, longHold); guess[0] > 1.02*p.proven {
		p.hold = recovery + firstHold // a minute is what receivers count
	}
	p.limit, p.cost = max(guess[0], p.proven), 1
}

// fallen takes a complaint about a pace that is no try: the limit is lower than
// it seemed.
func (p *pacer) fallen(now time.Time) {
	measured, most := p.limit, 0.8*p.limit
	switch {
	case p.proven > 0 && p.limit > p.proven:
		p.retreat(now)
		return
	case p.calm >= rare:
		most = 0.95 * p.limit
	}
	if p.taken >= enough {
		measured = perSecond(p.taken, now.Sub(p.base))
		p.empty(now)
	}
	p.waiting = false
	p.limit = max(min(measured, most), 0.1*p.limit, slowest)
	p.proven = min(p.proven, p.limit)
	p.hold, p.cost = max(p.hold, firstHold), 1
	if p.calm < rare {
		p.hold = firstHold
	}
}

// retreat goes back from a limit that was promised to the proven one. What was
// sent in the try may still count at the receiver, so the next promise is kept
// for a minute later.
func (p *pacer) retreat(now time.Time) {
	failed := p.limit
	p.limit, p.waiting = p.proven, false
	p.cost++
	p.empty(now)
	for p.nth++; int(p.nth) < len(p.promises); p.nth++ {
		if next := p.promises[p.nth]; next > 1.02*p.proven && (next < 0.98*failed || p.nth == 1) {
			p.waiting, p.recovered = true, now.Add(recovery)
			return
		}
	}
	p.hold = min(2*p.hold, longHold)
}

// notThePace reports that complaints come on at half the pace as they came
// before, each alone among many messages: then the pace is not what they are
// about.
func (p *pacer) notThePace(now time.Time) bool {
	if p.rate == 0 || p.climbing || p.calm < alone {
		return false
	}
	p.at = max(p.at, p.rate)
	if p.single++; p.single < unmoved || p.rate > p.at/2 {
		return false
	}
	p.single, p.at, p.share = 0, 0, 0
	p.deafFor = min(max(2*p.deafFor, deafTime), longDeaf)
	p.deaf = now.Add(p.deafFor)
	p.rate, p.limit, p.proven, p.waiting, p.cost = 0, 0, 0, false, 0
	return true
}

// went takes in that the site answered a message as it should. It reports that
// nothing of the pace needs to be kept.
func (p *pacer) went(now time.Time) (gone bool) {
	p.taken++
	if p.quiet++; p.quiet == chance {
		p.single, p.at = 0, 0
	}
	p.share -= p.share / 1000
	if p.paused {
		if !p.trialAt.IsZero() {
			p.goOn(now)
		}
		return false
	}
	p.calm++
	switch {
	case p.rate == 0:
		return false // what was learnt of its moods is kept
	case p.climbing:
		p.climb(now)
		return p.rate > farBeyond*p.limit
	}
	if p.waiting {
		p.advance(now)
	} else {
		p.consider(now)
	}
	return false
}

// advance tries the next promise.
func (p *pacer) advance(now time.Time) {
	if now.Before(p.recovered) {
		return
	}
	p.waiting = false
	p.limit = p.promises[p.nth]
	p.rate = under * p.limit
	p.bound, p.calm, p.until = false, 0, now.Add(p.hold)
}

// goOn ends a pause.
func (p *pacer) goOn(now time.Time) {
	p.paused, p.trialAt, p.bound, p.climbing = false, time.Time{}, false, false
	if p.limit == 0 {
		p.limit = max(perSecond(max(p.first, 1), max(now.Sub(p.began), firstPause)), slowest)
		p.rate, p.hold = roughly*p.limit, roughHold
	}
	p.until = now.Add(p.hold)
	p.next = now.UnixNano() + int64(float64(time.Second)/p.rate)
}

// consider begins to try a faster pace when enough went well, and only while
// the pace is what bounds us.
func (p *pacer) consider(now time.Time) {
	if !p.bound || now.Before(p.until) || p.calm < perRefusal*max(p.cost, 1) {
		return
	}
	p.proven, p.before = p.limit, p.rate
	p.climbing, p.bound, p.until, p.calm = true, false, now, 0
}

// climb goes on to the next step.
func (p *pacer) climb(now time.Time) {
	if !p.bound || now.Before(p.until) || p.calm < enough {
		return
	}
	lift := 1.015
	if p.step >= gentle {
		lift = 1.1
	}
	p.step++
	p.before = p.rate
	p.rate *= lift
	p.bound, p.calm = false, 0
	p.until = now.Add(stepTime)
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// nothing tells that a message came to nothing that concerns the site; the one
// that tries in a pause is to be followed by another.
func (p *pacer) nothing(now time.Time) {
	if p.paused && !p.trialAt.IsZero() {
		p.trialAt = time.Time{}
		p.resume = now.Add(p.gap)
	}
}

// explain says why the pace is what it is.
func (p *pacer) explain(now time.Time) string {
	switch {
	case p.paused:
		return "a pause, one message tries at " + clock(p.resume) + ": " + p.complain
	case now.Before(p.deaf):
		return "no pace, complaints came as often at slower ones, the last at " + clock(p.found) + ": " + p.complain
	case p.rate == 0:
		return ""
	case p.climbing:
		return "trying " + Rate(p.rate) + ", the limit found at " + clock(p.found) + " was " + Rate(p.limit) + ": " + p.complain
	}
	return Rate(p.rate) + ", just under the limit of " + Rate(p.limit) + " found at " + clock(p.found) + ": " + p.complain
}

// Rate gives messages a second in words for people, by the second, minute or
// hour.
func Rate(perSecond float64) string {
	switch {
	case perSecond >= 2:
		return number(perSecond) + " messages a second"
	case perSecond*60 >= 2:
		return number(perSecond*60) + " messages a minute"
	}
	return number(perSecond*3600) + " messages an hour"
}

func number(n float64) string {
	digits := 0
	if n < 20 {
		digits = 1
	}
	return strconv.FormatFloat(n, 'f', digits, 64)
}
