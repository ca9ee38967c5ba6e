package tlsrpt

import (
	"context"
	"fmt"
	"slices"
	"time"

	"mailout/internal/mta"
	"mailout/internal/smtp"
)

// attempt is what became of sending a report to one receiver.
type attempt struct {
	message mta.ID        // of the mail; zero: there is none
	err     error         // nil: it is taken
	final   bool          // there is no use in trying again
	after   time.Duration // that the receiver asks us to wait; 0: it does not
}

// Sent is what became of one report at one receiver, for the journal.
type Sent struct {
	Time             time.Time
	Domain           string // that the report is about
	Day              time.Time
	ID               string // report-id
	To               string // URI; empty: nobody could be asked where to
	Message          mta.ID // of the mail, when it is one
	Success, Failure uint64
	Err              error // why it was given up; nil: it was taken
}

// Words say it in one sentence.
func (s *Sent) Words() string {
	what := fmt.Sprintf("TLS report %s about %s on %s (%d sessions as demanded, %d failed)", s.ID, s.Domain, s.Day.Format(dayLayout), s.Success, s.Failure)
	switch {
	case s.Err != nil && s.To == "":
		return smtp.Harmless(fmt.Sprintf("%s is given up: %s", what, s.Err))
	case s.Err != nil:
		return smtp.Harmless(fmt.Sprintf("%s is given up for %s: %s", what, s.To, s.Err))
	case !s.Message.IsZero():
		return smtp.Harmless(fmt.Sprintf("%s goes to %s as message %s", what, s.To, s.Message))
	}
	return smtp.Harmless(fmt.Sprintf("%s was taken by %s", what, s.To))
}

// dispatch has workers carry out what is due.
func (r *Reports) dispatch(ctx context.Context) {
	for {
		select {
		case r.slots <- struct{}{}:
		default:
			return
		}
		j := r.take(r.now())
		if j == nil {
			<-r.slots
			return
		}
		r.running.Go(func() {
			defer func() { <-r.slots }()
			for ; j != nil && ctx.Err() == nil && r.settings.Load().Send; j = r.take(r.now()) {
				r.work(ctx, j)
			}
			if j != nil {
				r.putBack(j, j.next)
			}
		})
	}
}

// work carries a job on as far as it goes now.
func (r *Reports) work(ctx context.Context, j *job) {
	next, err := r.carryOn(ctx, j)
	switch {
	case ctx.Err() != nil:
		return // what is noted says where to go on after a restart
	case err != nil:
		r.opts.Logger.Warn("a TLS report could not be carried on; it is tried again", mta.KeyDestination, j.domain, mta.KeyError, err)
		r.putBack(j, r.now().Add(firstPause))
	case !next.IsZero():
		r.putBack(j, next)
	}
}

// carryOn does what is to be done about a job now. It gives the time of the next
// attempt; zero: the job is over. An error is the spool's.
func (r *Reports) carryOn(ctx context.Context, j *job) (next time.Time, err error) {
	if err := r.read(ctx, j); err != nil {
		return next, err
	}
	now := r.now()
	if j.state.ID == "" {
		next, err := r.begin(ctx, j, now)
		if err != nil || !next.IsZero() || j.state.ID == "" {
			return next, err
		}
	} else if due := time.UnixMilli(j.state.Next); due.After(now) {
		return due, nil // after a restart
	}
	counted, err := r.policies(ctx, j)
	if err != nil {
		return next, err
	}
	if len(counted) == 0 { // forgotten meanwhile
		return next, r.finish(ctx, j)
	}
	s := r.settings.Load()
	m, err := r.build(j, s, counted)
	if err != nil {
		r.tell(ctx, j, &made{id: j.state.ID}, "", attempt{err: err})
		return next, r.finish(ctx, j)
	}
	return r.send(ctx, j, s, m, now)
}

// begin finds out where the report goes, and makes the job's state. With neither
// an error nor a next time the job has an ID, or is over.
func (r *Reports) begin(ctx context.Context, j *job, now time.Time) (next time.Time, err error) {
	counted, err := r.policies(ctx, j)
	if err != nil {
		return next, err
	}
	if len(counted) == 0 {
		return next, r.finish(ctx, j)
	}
	list, found, trouble := r.targetsOf(ctx, j.domain)
	switch {
	case ctx.Err() != nil:
		return next, ctx.Err()
	case found == findNone:
		return next, r.finish(ctx, j)
	case found == findTrouble && now.Sub(later(r.due(j.day, j.domain), r.started)) < GiveUp:
		wait := pause(firstPause, lastPause, j.asked)
		j.asked++
		return now.Add(wait), nil
	case found == findTrouble:
		r.tell(ctx, j, &made{id: r.reportID(j, r.settings.Load().submitter())}, "", attempt{err: fmt.Errorf("who asks for it cannot be found out: %w", trouble)})
		return next, r.finish(ctx, j)
	}
	fresh := &state{ID: r.reportID(j, r.settings.Load().submitter()), First: now.UnixMilli()}
	why := r.unsigned(r.settings.Load().From)
	for _, t := range list {
		if t.Mail != "" && why != "" {
			r.counter.counts.unsigned.Add(1)
			r.warned.Do(func() { r.opts.Logger.Warn("TLS reports are not sent by mail", mta.KeyReason, why) })
			continue
		}
		fresh.To = append(fresh.To, receiving{Target: t})
	}
	if len(fresh.To) == 0 {
		return next, r.finish(ctx, j)
	}
	j.state = fresh
	return next, nil
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// send makes an attempt at each receiver that has not taken the report. The time
// of the next attempt is durable before anything is sent.
func (r *Reports) send(ctx context.Context, j *job, s *Settings, m *made, now time.Time) (next time.Time, err error) {
	st := j.state
	wait := pause(firstPause, lastPause, st.Tries)
	st.Tries++
	st.Next = now.Add(wait).UnixMilli()
	if err := r.save(ctx, j); err != nil {
		st.Tries--
		return next, err
	}
	last := now.Add(wait).After(time.UnixMilli(st.First).Add(GiveUp))
	life, end := context.WithCancel(ctx)
	defer end()
	client := r.newClient(life, s)
	for i := range st.To {
		to := &st.To[i]
		if to.Done {
			continue
		}
		a := r.attempt(ctx, client, j, s, m, to.Target)
		if ctx.Err() != nil && a.err != nil {
			return next, ctx.Err()
		}
		if a.err == nil || a.final || last {
			to.Done = true
			r.tell(ctx, j, m, to.Target.String(), a)
			if err := r.save(ctx, j); err != nil {
				return next, err
			}
			continue
		}
		r.opts.Logger.Info("a TLS report was not taken; it is tried again", mta.KeyDestination, j.domain, mta.KeySubject, to.Target.String(), mta.KeyError, smtp.Harmless(a.err.Error()))
		wait = max(wait, a.after)
	}
	if !slices.ContainsFunc(st.To, func(t receiving) bool { return !t.Done }) {
		return next, r.finish(ctx, j)
	}
	return now.Add(wait), nil
}

// attempt sends the report to one receiver.
func (r *Reports) attempt(ctx context.Context, c *client, j *job, s *Settings, m *made, to Target) attempt {
	if to.Mail != "" {
		return r.mail(ctx, m, s, to.Mail, r.mailID(j, to))
	}
	return c.post(ctx, m, to.URL, r.opts.Agent, r.now())
}

// tell counts and records what became of a report at a receiver.
func (r *Reports) tell(ctx context.Context, j *job, m *made, to string, a attempt) {
	byMail := !a.message.IsZero()
	switch {
	case a.err != nil:
		r.counter.counts.givenUp.Add(1)
	case byMail:
		r.counter.counts.mailed.Add(1)
	default:
		r.counter.counts.posted.Add(1)
	}
	if r.opts.Told != nil {
		r.opts.Told(ctx, &Sent{
			Time: r.now(), Domain: j.domain, Day: startOf(j.day), ID: m.id, To: to, Message: a.message, Success: m.success, Failure: m.failure, Err: a.err,
		})
	}
}
