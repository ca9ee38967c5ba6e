package dns

import (
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mtatest"
)

// withholding is a server like systemd-resolved, as most systems have it: nothing
// of DNSSEC, but to those who say that they check for themselves. It counts the
// questions of others.
func withholding(tree *mtatest.Tree, plain *atomic.Int64) handler {
	full := passing(tree, nil)
	return func(network string, q *wire.Msg) (*wire.Msg, []byte) {
		m, raw := full(network, q)
		if !q.CheckingDisabled {
			plain.Add(1)
			strip(m)
		}
		return m, raw
	}
}

// stub is a resolver behind a server on this machine that is withholding.
type stub struct {
	*Resolver
	net   *fakeNet
	tree  *mtatest.Tree
	plain atomic.Int64 // questions without CD
	o     Options
}

func newStub(t *testing.T) *stub {
	t.Helper()
	w := &stub{net: newFakeNet(t)}
	w.tree, w.o.TrustAnchors = signedWorld(t)
	w.o.DNSSEC, w.o.Servers, w.o.BogusName, w.o.Dialer = DNSSECAuto, []netip.AddrPort{loopback}, "wrong.test", w.net.dial
	w.net.serve(loopback, withholding(w.tree, &w.plain))
	w.Resolver = w.net.newResolver(w.o)
	return w
}

// TestServersThatGiveSignaturesOnlyUnchecked: they are asked with CD, also for a
// question that was asked before the first self-test had ended; and no longer, when
// a server that needs none takes their place.
func TestServersThatGiveSignaturesOnlyUnchecked(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newStub(t)
		mx, err := r.MX(t.Context(), "good.test")
		if check(t, mx.Records, err, []MX{{10, "mx.good.test"}}); !mx.Secure {
			t.Error("the first answer is not secure")
		}
		if st := r.DNSSEC(t.Context()); st.Status != SecureHere {
			t.Errorf("%+v", st)
		}
		before := r.plain.Load()
		if _, err := r.MX(t.Context(), "gone.good.test"); AsError(err).Kind != NXDomain || !AsError(err).Secure {
			t.Errorf("%v", err)
		}
		if _, err := r.MX(t.Context(), "wrong.test"); AsError(err).Kind != Bogus {
			t.Errorf("%v", err)
		}
		wantMX(t, r.Resolver, "free.test", false)
		if r.plain.Load() != before {
			t.Error("asked without CD")
		}
		// A server that needs no CD takes its place.
		var unchecked atomic.Int64
		r.net.serve(loopback, func(network string, q *wire.Msg) (*wire.Msg, []byte) {
			if q.CheckingDisabled {
				unchecked.Add(1)
			}
			return passing(r.tree, nil)(network, q)
		})
		time.Sleep(testEvery + time.Second)
		if mx, err := r.MX(t.Context(), "later.test"); err != nil || !mx.Secure || unchecked.Load() != 0 {
			t.Errorf("%+v %v, asked %d times with CD", mx, err, unchecked.Load())
		}
	})
}

// TestTheMarkOfAnUncheckedAnswerCountsForNothing: an answer to a question with CD is
// never believed for its mark, also when the server is believed by the time that it
// comes.
func TestTheMarkOfAnUncheckedAnswerCountsForNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newStub(t)
		wantMX(t, r.Resolver, "good.test", true)
		// It begins to check, and while the test is under way answers a question with CD.
		forged := 0
		r.net.serve(loopback, func(network string, q *wire.Msg) (*wire.Msg, []byte) {
			if q.Question[0].Name == "later.test." && q.Question[0].Qtype == wire.TypeMX && q.CheckingDisabled {
				forged++
				time.Sleep(4 * time.Second)
				return reply(q, wire.RcodeSuccess, true, "later.test. 60 IN MX 1 evil.test."), nil
			}
			if q.Question[0].Name == "wrong.test." {
				return servfail(q), nil
			}
			m, raw := passing(r.tree, nil)(network, q)
			m.AuthenticatedData = true
			return m, raw
		})
		r.settings.Load().trust.retest()
		time.Sleep(testAtOnce - 2*time.Second)
		mx, err := r.MX(t.Context(), "later.test")
		check(t, mx.Records, err, []MX{{10, "mx.later.test"}})
		if st := r.DNSSEC(t.Context()); forged != 1 || st.Status != SecureTrusted {
			t.Errorf("the test shows nothing: %d questions with CD, %+v", forged, st)
		}
	})
}

// TestReloadKeepsTheWayToAsk: after a reload that falls into a silence answers are
// secure as soon as there are any.
func TestReloadKeepsTheWayToAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newStub(t)
		wantMX(t, r.Resolver, "good.test", true)
		r.net.serve(loopback, silence)
		r.Reconfigure(r.o)
		if mx, err := r.MX(t.Context(), "good.test"); err == nil || !AsError(err).Temporary() {
			t.Errorf("%+v %v", mx, err)
		}
		time.Sleep(2 * maxTestTime)
		r.net.serve(loopback, withholding(r.tree, &r.plain))
		wantMX(t, r.Resolver, "later.test", true)
	})
}

// TestServersThatDropUncheckedQuestions: the trial costs little time, and is not held
// against them.
func TestServersThatDropUncheckedQuestions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tree, anchors := signedWorld(t)
		n := newFakeNet(t)
		var plain atomic.Int64
		bare := withholding(tree, &plain)
		n.serve(elsewhere, func(network string, q *wire.Msg) (*wire.Msg, []byte) {
			if q.CheckingDisabled {
				return nil, nil
			}
			return bare(network, q)
		})
		var log strings.Builder
		r := n.newResolver(Options{
			DNSSEC: DNSSECAuto, Servers: []netip.AddrPort{elsewhere}, TrustAnchors: anchors, Timeout: 4 * time.Second,
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		begin := time.Now()
		wantMX(t, r, "good.test", false)
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the first look-up took %v", took)
		}
		if st := r.DNSSEC(t.Context()); st.On() || !strings.Contains(st.Why, "have no signature") {
			t.Errorf("%+v", st)
		}
		if strings.Contains(log.String(), "no answer") {
			t.Errorf("%s", log.String())
		}
	})
}
