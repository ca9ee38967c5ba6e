package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"mailout/internal/dkim"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/transport"
)

// signing makes what goes out in front of a message: the fields that are added on
// the way, and the signatures over them and the content. transport's workers call
// it.
//
// A message that a key should sign, and for which it cannot, does not go out
// unsigned, which receivers would hold against the domain: it is deferred and
// tried again, like everything that is our own trouble, and the log says so.
type signing struct {
	signer *dkim.Signer
	// added gives the fields that are added to what is about to go out, whole lines,
	// with no From among them; nil: none. It is called by many at once.
	added func(o *transport.Outgoing) ([]byte, *mta.Failure)
	log   *slog.Logger
	told  atomic.Int64 // when an alarm was last logged, in nanoseconds
}

// toldEvery is how often the same trouble is logged.
const toldEvery = time.Minute

func newSigning(keys dkim.Keys, now func() time.Time, log *slog.Logger) *signing {
	return &signing{signer: dkim.NewSigner(keys, now), log: log}
}

// prepare is transport.Options.Prepare.
func (s *signing) prepare(_ context.Context, o *transport.Outgoing) (transport.Prefix, *mta.Failure) {
	var added []byte
	if s.added != nil {
		var failure *mta.Failure
		if added, failure = s.added(o); failure != nil {
			return transport.Prefix{}, failure
		}
	}
	m := o.Delivery.Message
	made, err := s.signer.Sign(&dkim.Outgoing{
		ID: m.ID, Converted: o.Converted, Prefix: added, Content: o.Content,
		Shared: m.Deliveries > 1 || len(o.Recipients) < len(o.Delivery.Recipients),
	})
	if err != nil {
		s.alarm(m, err)
		return transport.Prefix{}, &mta.Failure{Stage: mta.StageData, Cause: mta.CauseLocal, Text: "the message cannot be signed: " + err.Error(), Err: err}
	}
	prefix := transport.Prefix{Fields: made.Fields, Signed: made.Names()}
	if len(added) > 0 {
		prefix.Fields = slices.Concat(made.Fields, added)
	}
	return prefix, nil
}

// DKIMSigned implements admin.Signing.
func (d *Daemon) DKIMSigned() dkim.Counts { return d.signing.signer.Counts() }

// clockCheck is the doctor's check of our clock.
const clockCheck = "clock"

// rightTime gives the time for t= of signatures while the last examination found
// the clock right, and else none: verifiers take a signature from the future for a
// bad one, which a wrong clock of ours must not bring about.
func rightTime(last func() *doctor.Examined) func() time.Time {
	return func() time.Time {
		e := last()
		if e == nil {
			return time.Time{}
		}
		for i := range e.Report.Checks {
			if c := &e.Report.Checks[i]; c.ID == clockCheck {
				if c.Status == doctor.Pass {
					return time.Now()
				}
				break
			}
		}
		return time.Time{}
	}
}

// alarm tells the operator that mail waits for a key.
func (s *signing) alarm(m *mta.Message, err error) {
	now, last := time.Now().UnixNano(), s.told.Load()
	if now-last < int64(toldEvery) && last != 0 || !s.told.CompareAndSwap(last, now) {
		return
	}
	s.log.Error("a message cannot be signed; it waits, and is tried again", mta.KeyID, m.ID.String(), mta.KeyError, fmt.Errorf("DKIM: %w", err))
}
