package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/dnssec"
	"mailout/internal/mta"
)

// Checking signatures in this process: the state of it between self-tests, the
// questions that it asks, and what becomes of its verdicts.

const (
	maxAnchorFile = 1 << 20 // octets
	// chainQueries bounds the time of the questions for one answer's chain, in
	// time-outs of a query.
	chainQueries = 4
)

// here is what one generation has for checking signatures.
type here struct {
	file      string // of trust anchors; empty: built in
	private   []string
	text      []byte // of the file, as it was read last
	anchors   dnssec.Anchors
	validator *dnssec.Validator // by anchors
	unchecked bool              // it asks with CD
	worked    bool              // the last test, or one of the few before it, succeeded
	doubts    int               // tests that failed since
}

// load reads the anchors again when they changed. What cannot be read leaves
// those in use that were read before.
func (h *here) load(r *Resolver, s *settings) error {
	if h.file == "" {
		if h.validator == nil {
			h.anchors = dnssec.BuiltIn()
			h.validator = h.asking(r, s, h.unchecked)
		}
		return nil
	}
	anchors, text, err := ReadAnchors(h.file)
	if err != nil || h.validator != nil && bytes.Equal(text, h.text) {
		return err
	}
	h.worked = h.worked && bytes.Equal(text, h.text)
	h.text, h.anchors = text, anchors
	h.validator = h.asking(r, s, h.unchecked)
	return nil
}

// asking makes a validator that asks with CD, or without.
func (h *here) asking(r *Resolver, s *settings, unchecked bool) *dnssec.Validator {
	return dnssec.New(dnssec.Options{Anchors: h.anchors, Source: r.evidence(s, unchecked), Private: h.private})
}

// ReadAnchors reads a file of trust anchors: DS or DNSKEY records in the form of
// zone files, at most 1 MiB.
func ReadAnchors(file string) (dnssec.Anchors, []byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, nil, err
	}
	if info.Size() > maxAnchorFile {
		return nil, nil, fmt.Errorf("%s is longer than %d octets", file, maxAnchorFile)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	anchors, err := dnssec.ParseAnchors(bytes.NewReader(text))
	return anchors, text, err
}

// testHere finds out whether signatures can be checked here, and puts what does
// it into the finding. It gives the reason why not, or why that is in doubt.
func (r *Resolver) testHere(ctx context.Context, s *settings, f *finding) (why string) {
	h := &s.trust.here
	heard := s.heard.Swap(false)
	if err := h.load(r, s); err != nil {
		s.log.Warn("cannot read the trust anchors", mta.KeyPath, h.file, mta.KeyError, err)
		if h.validator == nil {
			f.next = min(f.next, testDoubtful)
			return "the trust anchors cannot be read: " + err.Error()
		}
	}
	err := h.try(ctx, r, s)
	if err == nil {
		h.worked, h.doubts = true, 0
		h.serve(f)
		return ""
	}
	f.next = min(f.next, testDoubtful)
	switch {
	case dnssec.StatusOf(err) == dnssec.Indeterminate && !(h.worked && heard):
		// No answer proves nothing, while there is none to other questions either.
		f.next = min(f.next, testAgain)
	case h.worked:
		h.doubts++
		h.worked = h.doubts < maxDoubts
	}
	if h.worked {
		h.serve(f)
	}
	return err.Error()
}

// try tests both ways to ask. Some servers give signatures only to those who say
// that they check them (systemd-resolved, as most systems have it): CD, RFC 6840
// 5.9. Where that has not been of use before it gets little time: others may not
// answer such questions at all.
func (h *here) try(ctx context.Context, r *Resolver, s *settings) error {
	plain, needed := h.way(r, s, false), h.unchecked
	err := h.test(ctx, s, plain)
	if err == nil {
		h.validator, h.unchecked = plain, false
		return nil
	}
	if !needed && dnssec.StatusOf(err) == dnssec.Indeterminate {
		return err
	}
	if !needed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.timeout/2)
		defer cancel()
	}
	unchecked := h.way(r, s, true)
	other := h.test(ctx, s, unchecked)
	switch {
	case other == nil:
		h.validator, h.unchecked = unchecked, true
		return nil
	case needed:
		return other
	}
	return err
}

// way is a validator that asks with CD, or without: the one in use, if it does.
func (h *here) way(r *Resolver, s *settings, unchecked bool) *dnssec.Validator {
	if h.validator != nil && h.unchecked == unchecked {
		return h.validator
	}
	return h.asking(r, s, unchecked)
}

// serve has a finding check signatures.
func (h *here) serve(f *finding) {
	f.validator, f.unchecked, f.anchors = h.validator, h.unchecked, h.text
}

// test is dnssec's, guarded.
func (h *here) test(ctx context.Context, s *settings, v *dnssec.Validator) (err error) {
	defer func() {
		if p := recover(); p != nil { // over a stranger's octets
			s.log.Error("the self-test of DNSSEC panicked", mta.KeyError, fmt.Sprint(p))
			err = errors.New("internal error, see the log")
		}
	}()
	return v.Test(ctx)
}

// evidence asks the servers for what a chain is made of: over all of them, until
// one gives what fits; twice, when none answers. unchecked tells them not to check
// signatures.
func (r *Resolver) evidence(s *settings, unchecked bool) dnssec.Source {
	return func(ctx context.Context, name string, qtype uint16, good func(*wire.Msg) bool) error {
		k := key{name, qtype}
		var last *Error
		for range rounds {
			heard := false
			for _, server := range s.servers(time.Now()) {
				m, err := r.ask(ctx, s, server, k, unchecked)
				switch {
				case err != nil:
					last = err
				case m.Rcode != wire.RcodeSuccess && m.Rcode != wire.RcodeNameError:
					_, last = understand(m, k, 0)
				default:
					heard = true
					s.heard.Store(true)
					if good(m) {
						return nil
					}
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
			}
			if heard {
				return nil
			}
		}
		if last == nil {
			return errors.New("no name server is configured")
		}
		return last
	}
}

// unsigned reports a message without any signature.
func unsigned(m *wire.Msg) bool {
	is := func(rr wire.RR) bool { return rr.Header().Rrtype == wire.TypeRRSIG }
	return !slices.ContainsFunc(m.Answer, is) && !slices.ContainsFunc(m.Ns, is)
}

// judge decides by what was found whether a reading is secure; f is nil before the
// first test has ended. The error says that it must not be used: its signatures are
// wrong, or nobody knows.
func (r *Resolver) judge(ctx context.Context, s *settings, f *finding, server netip.AddrPort, m *wire.Msg, k key, a *reading) *Error {
	switch {
	case f == nil && s.trust.past != nil && s.trust.past.On():
		return k.failure(Temporary, "the self-test of DNSSEC after a reload has not ended")
	case f == nil:
		a.secure, a.ttl = false, min(a.ttl, testAtOnce) // nothing is known yet, but soon
		return nil
	case f.believed[server]:
		return nil // the AD bit it is
	}
	a.secure = false
	if f.validator == nil {
		if f.next <= testAgain && time.Since(f.Tested) >= testAtOnce {
			s.trust.retest() // the test met silence, and now there is an answer
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, chainQueries*s.timeout)
	defer cancel()
	switch v := f.validator.Validate(ctx, m, k.name, k.qtype); v.Status {
	case dnssec.Secure:
		a.secure, a.ttl = true, min(a.ttl, max(time.Until(v.Until), minTTL))
	case dnssec.Bogus:
		err := k.failure(Bogus, v.Why)
		if unsigned(m) {
			err.Text += "; a zone that servers inside speak for belongs into dns.private"
		}
		err.here, err.had = true, a.verdict == found
		return err
	case dnssec.Indeterminate:
		return k.failure(Temporary, "its signatures cannot be checked now: "+v.Why)
	}
	return nil
}
