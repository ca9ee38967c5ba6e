package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/mta"
)

// flight is one look-up under way, shared by everyone who asks the same.
type flight struct {
	key    key
	done   chan struct{} // closed when result is set
	result *result
	cancel context.CancelFunc
	// waiters is owned by Resolver.mu. At zero the flight is cancelled.
	waiters int
}

// failure makes the error of a question.
func (k key) failure(kind Kind, text string) *Error {
	return &Error{Kind: kind, Name: plain(k.name), Type: wire.TypeToString[k.qtype], Text: text}
}

// question checks a name and gives the key to ask for it by.
func (r *Resolver) question(name string, qtype uint16) (key, *Error) {
	full, ok := fqdn(name)
	if !ok {
		return key{}, &Error{Kind: BadName, Name: name, Type: wire.TypeToString[qtype]}
	}
	return key{full, qtype}, nil
}

// lookup answers one question from the hosts file, the cache or the servers.
// Exactly one of result and error is nil.
func (r *Resolver) lookup(ctx context.Context, name string, qtype uint16) (*result, *Error) {
	k, bad := r.question(name, qtype)
	if bad != nil {
		return nil, bad
	}
	return r.wait(ctx, r.begin(k))
}

// begin gives the flight for a question: a landed one when the answer is known
// here, the one under way when somebody asked before, else a new one. Each call
// must be followed by one of wait.
func (r *Resolver) begin(k key) *flight {
	s := r.settings.Load()
	if s.system != nil && s.system.takeChange() {
		r.cache.clear()
		if s.trust != nil {
			s.trust.retest()
		}
	}
	now := time.Now()
	if known := s.local(k, now); known != nil {
		r.counts.hosts.Add(1)
		return &flight{result: known}
	}
	if known := r.cache.get(k, now); known != nil {
		r.counts.cached.Add(1)
		return &flight{result: known}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.mu.closed {
		err := k.failure(Temporary, "the resolver is closed")
		err.Err = net.ErrClosed
		return &flight{result: &result{err: err}}
	}
	if f := r.mu.flights[k]; f != nil {
		f.waiters++
		r.counts.joined.Add(1)
		return f
	}
	r.counts.asked.Add(1)
	ctx, cancel := context.WithCancel(r.life)
	f := &flight{key: k, done: make(chan struct{}), cancel: cancel, waiters: 1}
	r.mu.flights[k] = f
	s = r.settings.Load() // again: Reconfigure holds the lock
	r.wg.Go(func() { r.fly(ctx, s, f) })
	return f
}

// wait gives the flight's outcome, or a Temporary error when ctx ends first.
func (r *Resolver) wait(ctx context.Context, f *flight) (*result, *Error) {
	if f.done == nil {
		return f.result, f.result.err
	}
	select {
	case <-f.done:
	case <-ctx.Done():
		select {
		case <-f.done: // both at once: the answer counts
		default:
			r.leave(f)
			err := f.key.failure(Temporary, "given up: "+context.Cause(ctx).Error())
			err.Err = ctx.Err()
			return nil, err
		}
	}
	return f.result, f.result.err
}

// leave takes one caller off a flight; the last one ends it.
func (r *Resolver) leave(f *flight) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.waiters--
	if f.waiters > 0 {
		return
	}
	f.cancel()
	if r.mu.flights[f.key] == f {
		delete(r.mu.flights, f.key) // a later caller starts anew
	}
}

// fly carries a flight out and keeps its result, unless it was given up or the
// options changed meanwhile.
func (r *Resolver) fly(ctx context.Context, s *settings, f *flight) {
	defer f.cancel()
	f.result = r.resolveSafely(ctx, s, f.key)
	if ctx.Err() == nil { // else nobody waits for it any more
		r.counts.ended(f.result)
	}
	r.mu.Lock()
	if r.mu.flights[f.key] == f {
		delete(r.mu.flights, f.key)
		if ctx.Err() == nil {
			r.cache.put(f.key, f.result)
		}
	}
	r.mu.Unlock()
	close(f.done)
}

// resolveSafely turns a panic over a stranger's octets into a failed look-up:
// the goroutine is ours, so nobody above could.
func (r *Resolver) resolveSafely(ctx context.Context, s *settings, k key) (res *result) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a look-up panicked", "type", wire.TypeToString[k.qtype], mta.KeyError, fmt.Sprint(p), "stack", string(debug.Stack()))
			res = failed(k.failure(Temporary, "internal error, see the log"))
		}
	}()
	return r.resolve(ctx, s, k)
}

// resolve asks, and asks again for the target when a server gives only a CNAME.
func (r *Resolver) resolve(ctx context.Context, s *settings, k key) *result {
	if s.trust != nil {
		r.watch(s)
	}
	res := &result{secure: true, canonical: plain(k.name)}
	ttl := maxTTL
	name := k.name
	for aliases := 0; ; {
		a, err := r.query(ctx, s, key{name, k.qtype}, MaxAliases-aliases)
		if err != nil {
			err.Name = plain(k.name)
			return failed(err)
		}
		aliases += a.aliases
		ttl = min(ttl, a.ttl)
		res.secure = res.secure && a.secure
		res.canonical = plain(a.name)
		switch a.verdict {
		case found:
			res.records = a.records
			res.expires = time.Now().Add(ttl)
			return res
		case nxdomain, nodata:
			return denied(k, a, res, ttl)
		case alias:
			name = a.name
			continue
		}
		err = k.failure(Temporary, fmt.Sprintf("its CNAMEs go in a circle or are more than %d", MaxAliases))
		err.Server = a.server
		return failed(err)
	}
}

// failed makes the result of a look-up that nobody could answer.
func failed(err *Error) *result {
	err.Expires = time.Now().Add(failureTTL)
	return &result{err: err, expires: err.Expires}
}

// denied makes the result of a look-up that was answered with "no".
func denied(k key, a reading, res *result, ttl time.Duration) *result {
	kind := NoData
	if a.verdict == nxdomain {
		kind = NXDomain
	}
	err := k.failure(kind, "")
	if a.name != k.name {
		err.Text = "it is an alias of " + plain(a.name)
	}
	err.Server, err.Secure = a.server, res.secure
	err.Expires = time.Now().Add(min(ttl, maxNegativeTTL))
	res.err, res.expires = err, err.Expires
	return res
}

// query goes over the servers, twice, until one answers yes or no. At most
// limit CNAMEs are followed.
func (r *Resolver) query(ctx context.Context, s *settings, k key, limit int) (reading, *Error) {
	last := k.failure(Temporary, "no name server is configured")
	for range rounds {
		for _, server := range s.servers(time.Now()) {
			a, err := r.queryOne(ctx, s, server, k, limit)
			if err == nil && last.had && a.denies() {
				// One server has records without signatures, another one proves that
				// there are none: an inner zone that the outer ones do not know. Nobody
				// gets mail back because the two do not agree.
				continue
			}
			if err == nil {
				return a, nil
			}
			err.Server = server.String()
			if err.Kind == Bogus && !err.here || ctx.Err() != nil {
				return reading{}, err
			}
			if !last.here { // what was found wrong here says more than a later silence
				last = err
			}
		}
		if last.here {
			break
		}
	}
	return reading{}, last
}

// queryOne asks one server, reads its answer, and judges it.
func (r *Resolver) queryOne(ctx context.Context, s *settings, server netip.AddrPort, k key, limit int) (reading, *Error) {
	unchecked := s.trust.known().unchecks(server)
	for range 2 {
		m, err := r.ask(ctx, s, server, k, unchecked)
		if err != nil {
			return reading{}, err
		}
		a, err := understand(m, k, limit)
		if err != nil {
			return reading{}, err
		}
		s.heard.Store(true)
		a.server = server.String()
		if s.trust == nil {
			return a, nil
		}
		f := s.trust.await(ctx, s.timeout)
		if f.unchecks(server) == unchecked {
			return a, r.judge(ctx, s, f, server, m, k, &a)
		}
		unchecked = !unchecked // a self-test has ended meanwhile: it must be asked otherwise
	}
	return reading{}, k.failure(Temporary, "who checks signatures has changed again and again")
}

// ask puts the question to one server when a slot is free; unchecked tells it not
// to check signatures.
func (r *Resolver) ask(ctx context.Context, s *settings, server netip.AddrPort, k key, unchecked bool) (*wire.Msg, *Error) {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		err := k.failure(Temporary, "given up")
		err.Err = ctx.Err()
		return nil, err
	}
	m, err := s.ask(ctx, server.String(), asked{k.name, k.qtype, unchecked})
	if err == nil {
		s.answered(server)
		return m, nil
	}
	if ctx.Err() == nil && !errors.Is(err, errMalformed) {
		s.silent(server, err)
	}
	e := k.failure(Temporary, err.Error())
	e.Err = err
	if op := (*net.OpError)(nil); errors.As(err, &op) && op.Err != nil {
		e.Text = op.Err.Error() // without the random local port
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		e.Text = "no answer within " + s.timeout.String()
	}
	return nil, e
}

// understand reads a message that answers the question with yes or no; for any
// other it gives the reason to go to the next server.
func understand(m *wire.Msg, k key, limit int) (reading, *Error) {
	if m.Rcode == wire.RcodeSuccess || m.Rcode == wire.RcodeNameError {
		a := read(m, k.name, k.qtype, limit)
		if a.verdict == referral {
			return a, k.failure(Temporary, "the server only refers to others")
		}
		return a, nil
	}
	text := wire.RcodeToString[m.Rcode]
	if text == "" {
		text = fmt.Sprintf("response code %d", m.Rcode)
	}
	kind := Temporary
	if ede := extended(m); ede != nil {
		if ede.InfoCode >= wire.ExtendedErrorCodeDNSBogus && ede.InfoCode <= wire.ExtendedErrorCodeNSECMissing {
			kind = Bogus
		}
		text += ", " + wire.ExtendedErrorCodeToString[ede.InfoCode]
	}
	return reading{}, k.failure(kind, text)
}

// extended gives the message's first extended error (RFC 8914). Its free text is
// not used: it would carry a stranger's words into logs and reports.
func extended(m *wire.Msg) *wire.EDNS0_EDE {
	opt := m.IsEdns0()
	if opt == nil {
		return nil
	}
	for _, o := range opt.Option {
		if ede, ok := o.(*wire.EDNS0_EDE); ok {
			return ede
		}
	}
	return nil
}
