package queue

import (
	"maps"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/shape"
)

// What keeps a site from taking mail although it has connections: that it is
// avoided, that a source's quota is used up, and rates.
//
// Avoided and out of quota are a matter of the site and its source: mail that has
// another route takes that. Where all routes are avoided it waits for the one
// whose avoidance ends first; a plan's only route goes on, because who makes the
// plans has given nothing else; but a quota always holds. A rate is a matter of when: mail keeps its route and
// waits, the whole site, one stream there, or one sender's mail. A sender's mail
// goes back to what is due, each delivery with a time of its own at which there
// is a token for it, so that the others of its destination pass it by.

// shut is why something rests, and until when.
type shut struct {
	until millis
	why   string
}

// rest is a rate that is used up until then.
type rest struct {
	until millis
	rate  mta.Rate
}

// shuts are what keeps a site from taking mail.
type shuts struct {
	seed    uint64 // of the source, for the choice of berths
	avoided shut
	avoidAt millis // when an attempt taught it: older plans do not count
	quota   shut
	rate    rest
	allRest millis // all streams with something ready rest until then
	wasShut bool   // has been avoided or out of quota since mail was last passed on
	// streamsAt is when the first of the streams that are out of quota is so no
	// more; 0: none is.
	streamsAt millis
}

// shutUntil is until when mail with another route takes that.
func (s *shuts) shutUntil() millis { return max(s.avoided.until, s.quota.until) }

// shutUntil is until when the berth's mail takes others: also where only its
// stream is out of quota.
func (b *berth) shutUntil() millis {
	at := b.site.shutUntil()
	if st := b.site.byStream[b.way.dest.key.Stream]; st != nil {
		at = max(at, st.quota.until)
	}
	return at
}

// closedUntil is until when nothing is handed out. That the site is avoided is
// no reason: mail without another route goes on.
func (s *shuts) closedUntil() millis { return max(s.quota.until, s.rate.until, s.allRest) }

// seedAvoid takes in what a plan that was asked for at since says of a route.
func (l *loop) seedAvoid(s *site, route *mta.Route, since millis) {
	until := millis(0)
	if !route.AvoidUntil.IsZero() {
		until = route.AvoidUntil.UnixMilli()
	}
	if since <= s.avoidAt && s.avoidAt > 0 || until == s.avoided.until {
		return
	}
	s.avoided = shut{until, route.AvoidWhy}
	l.shutChanged(s)
}

// avoid leaves a site alone until then, because of what an attempt taught.
func (l *loop) avoid(s *site, until time.Time, why string) {
	if !until.After(l.now) {
		return
	}
	s.avoided, s.avoidAt = shut{ms(until), why}, l.nowMS
	l.shutChanged(s)
}

// shutChanged passes on what is ready at a site that shuts, or what waits
// elsewhere when it opens.
func (l *loop) shutChanged(s *site) {
	s.wasShut = s.shutUntil() > l.nowMS
	l.pass(s)
	l.rearm(s)
}

// reopen notices that a site is not shut any more.
func (l *loop) reopen(s *site) {
	if s.wasShut && s.shutUntil() <= l.nowMS {
		s.wasShut = false
		l.pass(s)
	}
	if s.streamsAt == 0 || s.streamsAt > l.nowMS {
		return
	}
	s.streamsAt = 0
	for _, st := range s.byStream {
		s.outOfQuota(st, l.nowMS)
	}
	l.pass(s)
}

// outOfQuota notes when a stream is out of quota no more.
func (s *shuts) outOfQuota(st *stream, now millis) {
	if at := st.quota.until; at > now && (s.streamsAt == 0 || at < s.streamsAt) {
		s.streamsAt = at
	}
}

// openAt is when something of what keeps a site from taking mail ends.
func (l *loop) openAt(s *site) millis {
	at := never
	if until := s.shutUntil(); until > l.nowMS && len(s.shared) > 0 {
		at = until
	}
	if s.streamsAt > l.nowMS && len(s.shared) > 0 {
		at = min(at, s.streamsAt)
	}
	if until := s.closedUntil(); until > l.nowMS && s.ready > 0 {
		at = min(at, until)
	}
	return at
}

// pass has the ways that share a site looked at: what is ready there, or at their
// other sites, may have a better one now.
func (l *loop) pass(s *site) {
	if len(s.shared) > 0 && !s.passing {
		s.passing = true
		l.passing.push(s)
	}
}

// passOn does so. What it dispatches may shut other sites, which then come here
// too; a site that is shut hands nothing out, so that this ends.
func (l *loop) passOn() {
	for l.passing.len() > 0 {
		s := l.passing.pop()
		s.passing = false
		for b := range s.shared {
			moved := l.unpaceWay(b.way)
			if l.rechoose(b.way) || moved {
				l.advance(b.way.dest)
			}
		}
		l.dispatch(s)
	}
}

// rechoose puts back what is ready at berths that mail is to pass over, and
// reports whether there was any. The caller advances the destination.
func (l *loop) rechoose(w *way) (moved bool) {
	if !w.several() || w.plan != planRouted {
		return false
	}
	for b := &w.berth; b != nil; b = b.next {
		if len(b.ready) > 0 && (b.route.HeldBy != "" || b.shutUntil() > l.nowMS || b.site.ctl.Dead()) {
			l.unreadyBerth(b)
			moved = true
		}
	}
	return moved
}

// apply takes in what an attempt taught.
func (l *loop) apply(s *site, w *way, o *outcome) {
	if k := o.lesson; k != nil {
		l.avoid(s, k.Avoid, k.Why)
		if k.Replan {
			l.replanSite(s.name)
			return
		}
	}
	if !o.elsewhere || w.gone || w.plan != planRouted {
		return
	}
	for b := &w.berth; b != nil; b = b.next {
		if b.site != s && l.open(b) {
			return // it takes that
		}
	}
	l.unplan(w)
	l.advance(w.dest)
}

// replan is when a site's routes were last made anew, for the plans that were
// under way then.
type replan struct {
	turn uint64
	at   millis
}

// keepReplanned is how many are remembered before those are dropped that no plan
// under way is older than.
const keepReplanned = 1000

// outdated reports that routes of a plan have been made anew since it was asked
// for. Other plans count: mail to a slow name server must not be planned again
// and again for the sake of what others say.
func (l *loop) outdated(p *mta.Plan, turn uint64) bool {
	for _, r := range p.Routes {
		if l.replanned[r.Site].turn > turn || r.Instead != "" && l.replanned[r.Instead].turn > turn {
			return true
		}
	}
	return false
}

// replanSite plans every way anew that has a berth at a site of that name, from
// whatever source.
func (l *loop) replanSite(name string) {
	l.replans++
	l.replanned[name] = replan{l.replans, l.nowMS}
	if len(l.replanned) > keepReplanned {
		oldest := l.nowMS
		for _, at := range l.planning {
			oldest = min(oldest, at)
		}
		maps.DeleteFunc(l.replanned, func(_ string, r replan) bool { return r.at < oldest })
	}
	for _, d := range l.dests {
		changed := false
		for w := &d.first; w != nil; w = w.next {
			if w.goesTo(name) {
				l.unplan(w)
				changed = true
			}
		}
		if changed {
			l.advance(d)
		}
	}
}

func (w *way) goesTo(site string) bool {
	for b := &w.berth; b != nil && b.site != nil; b = b.next {
		if b.site.name == site {
			return true
		}
	}
	return false
}

// bucketKey names a bucket. Of a rate that is counted by stream or sender each
// has its own.
type bucketKey struct{ name, stream, sender string }

// bucket is what is left of a rate.
type bucket struct {
	shape.Bucket
	count int
	per   time.Duration
	// promised is the time for which the latest delivery was told to come back, of
	// waiting that were. One of them waits for the token that is there at head.
	promised millis
	waiting  int
	head     millis
}

// taken is a token that may be given back.
type taken struct {
	from   *bucket
	before shape.Bucket
}

// maxBuckets bounds the buckets. Full ones are dropped first; of those that are
// dropped beyond, the rate begins anew.
const maxBuckets = 100_000

// verdict says whether a delivery may be handed out.
type verdict uint8

const (
	mayGo       verdict = iota
	senderRests         // and l.paceAt says when it may
	streamRests
	siteRests
)

// may takes a token of each of the route's rates, and one of the source's quota,
// for a delivery that is about to be handed out: all of them or none.
func (l *loop) may(s *site, st *stream, e *entry) verdict {
	route := e.berth.route
	if len(route.Limits.Rates) == 0 && route.Warming == nil {
		if ok, again := s.ctl.Take(l.now); !ok {
			return l.paced(s, again)
		}
		return mayGo
	}
	return l.mayPay(s, st, e, route)
}

// mayPay is may for a route with rates or a quota.
func (l *loop) mayPay(s *site, st *stream, e *entry, route *mta.Route) verdict {
	took := l.took[:0]
	defer func() { l.took = took }()
	for i := range route.Limits.Rates {
		r := &route.Limits.Rates[i]
		b := l.bucket(r, st.name, e.d.Message.Envelope.Sender)
		before := b.Bucket
		ok, again := b.Take(l.now)
		if ok {
			took = append(took, taken{b, before})
			continue
		}
		undo(took)
		return l.rests(s, st, r, b, max(again.UnixMilli(), l.nowMS)+1)
	}
	if ok, again := s.ctl.Take(l.now); !ok {
		undo(took)
		return l.paced(s, again)
	}
	if route.Warming == nil || l.q.opts.Quota == nil {
		return mayGo
	}
	if again, ok := l.q.quota(route, e.d, l.now); !ok {
		undo(took)
		s.ctl.Neutral(l.now)
		until := l.nowMS + time.Second.Milliseconds()
		if !again.IsZero() {
			until = max(until, again.UnixMilli())
		}
		if l.waitsAlone(e) {
			l.paceAt, l.paceFor = until, nil
			return senderRests
		}
		if route.Warming.Second {
			st.quota = shut{until, quotaWhy(route)}
			s.outOfQuota(st, l.nowMS)
			l.pass(s)
			return streamRests
		}
		s.quota = shut{until, quotaWhy(route)}
		l.shutChanged(s)
		return siteRests
	}
	return mayGo
}

// worthAnother reports whether one more connection would carry more: not where
// a rate holds the site up, and those that are there serve it.
func (l *loop) worthAnother(s *site) bool {
	if s.workers == 0 {
		return true
	}
	if pace := s.ctl.Pace(); pace > 0 && float64(s.workers) > 1+pace*s.pace/1000 {
		return false
	}
	for i := range s.rates {
		r := &s.rates[i]
		if r.ByStream || r.BySender || r.Apart {
			continue
		}
		b := l.bucket(r, "", "").Bucket // a copy
		if ok, again := b.Take(l.now); !ok {
			s.rate = rest{max(again.UnixMilli(), l.nowMS) + 1, *r}
			return false
		}
	}
	return true
}

// quota asks for one message of a source's quota. After a panic there is none.
func (q *Queue) quota(route *mta.Route, d *mta.Delivery, now time.Time) (again time.Time, ok bool) {
	defer q.caught("asking for a source's quota")
	return q.opts.Quota.Take(route, d, now)
}

// paced has a site wait for the pace that its controller has found.
func (l *loop) paced(s *site, again time.Time) verdict {
	s.rate = rest{max(again.UnixMilli(), l.nowMS) + 1, mta.Rate{}}
	return siteRests
}

func undo(took []taken) {
	for _, t := range took {
		t.from.Bucket = t.before
	}
}

// rests notes that a rate is used up until then.
func (l *loop) rests(s *site, st *stream, r *mta.Rate, b *bucket, until millis) verdict {
	switch {
	case r.BySender, r.Apart:
		l.paceAt, l.paceFor = b.promise(until), b
		return senderRests
	case r.ByStream:
		st.rested = rest{until, *r}
		return streamRests
	}
	s.rate = rest{until, *r}
	return siteRests
}

// promise gives the time for which one more delivery is told to come back, with
// the next token there at until: that, when nobody waits for it (who came back a
// moment before it keeps the turn, or the token would be lost each time that a
// timer was late), else behind those that wait, but not behind times for which
// nobody waits any more.
func (b *bucket) promise(until millis) millis {
	if until > b.head {
		b.head = until
		b.promised = max(b.promised, until)
		return until
	}
	step := max(int64(b.per)/int64(max(b.count, 1))/int64(time.Millisecond), 1)
	b.promised = max(until, min(b.promised+step, until+int64(b.waiting)*step))
	return b.promised
}

// pace puts an entry back until paceAt: until there is a token of its sender's
// rate, or a route that is not avoided (rate is nil).
func (l *loop) pace(e *entry, rate *bucket) {
	w := e.way
	if e.rate = rate; rate != nil {
		rate.waiting++
	}
	e.phase, e.berth, e.due, e.paced = phaseDue, nil, l.paceAt, true
	w.due.push(e)
	w.dest.paced++
	if a := &w.dest.alarm; a.index < 0 || a.at > e.due {
		l.setAlarm(a, e.due)
	}
}

// unpaceWay lets what was put back ask anew, and reports whether there was any.
func (l *loop) unpaceWay(w *way) (any bool) {
	if w.dest.paced == 0 {
		return false
	}
	for _, e := range append([]*entry(nil), w.due...) {
		if e.paced {
			any = true
			if e.rate != nil {
				e.rate.promised, e.rate.head = 0, 0 // its time is free again
			}
			l.unpace(e)
			l.hasten(e)
		}
	}
	return any
}

// bucket gives a rate's bucket, new or old, with the rate of now.
func (l *loop) bucket(r *mta.Rate, stream, sender string) *bucket {
	key := bucketKey{name: r.Bucket}
	if r.ByStream {
		key.stream = stream
	}
	if r.BySender {
		key.sender = sender
	}
	b := l.buckets[key]
	if b == nil {
		if len(l.buckets) >= maxBuckets {
			l.dropBuckets()
		}
		key.stream, key.sender = strings.Clone(key.stream), strings.Clone(key.sender)
		b = &bucket{Bucket: *shape.NewBucket(r.Count, r.Per, l.now), count: r.Count, per: r.Per}
		l.buckets[key] = b
	}
	if b.count != r.Count || b.per != r.Per {
		b.Configure(r.Count, r.Per, l.now)
		b.count, b.per, b.promised, b.head = r.Count, r.Per, 0, 0
	}
	return b
}

// dropBuckets makes room: the full ones go, and where that is not enough others
// until a tenth is free.
func (l *loop) dropBuckets() {
	maps.DeleteFunc(l.buckets, func(_ bucketKey, b *bucket) bool { return b.Full(l.now) })
	for key := range l.buckets {
		if len(l.buckets) <= maxBuckets*9/10 {
			return
		}
		delete(l.buckets, key)
	}
}
