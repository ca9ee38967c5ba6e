package dns

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	wire "github.com/miekg/dns"
)

// maxUnderWay bounds the queries that wait for a server at once.
const maxUnderWay = 512

// partialTTL bounds how long the addresses of one family are believed to be
// all when nobody knows about the other. Asking again may take as long as all
// servers' time-outs, so it is not done for each message.
const partialTTL = 5 * time.Minute

// Resolver asks questions. It is safe for concurrent use. Make one with New,
// end it with Close.
type Resolver struct {
	settings atomic.Pointer[settings]
	cache    *cache
	slots    chan struct{} // one token a query under way
	counts   counts

	life context.Context // ends in Close
	end  context.CancelFunc
	wg   sync.WaitGroup // the flights

	mu struct {
		sync.Mutex
		flights map[key]*flight
		closed  bool
	}
}

// New makes a resolver. Nothing is asked or read yet.
func New(o Options) *Resolver {
	size := o.CacheSize
	if size <= 0 {
		size = DefaultCacheSize
	}
	r := &Resolver{cache: newCache(size, maxCacheCost), slots: make(chan struct{}, maxUnderWay)}
	r.life, r.end = context.WithCancel(context.Background())
	r.mu.flights = make(map[key]*flight)
	r.settings.Store(newSettings(o))
	return r
}

// Reconfigure replaces everything but CacheSize, and empties the cache.
// Look-ups under way end by the old options; what they find is not kept.
func (r *Resolver) Reconfigure(o Options) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := newSettings(o)
	s.trust.inherit(r.settings.Load().trust)
	before := r.settings.Swap(s)
	before.close()
	clear(r.mu.flights)
	r.cache.clear()
	if before.trust != nil && before.trust.begun {
		r.watchLocked(s)
	}
}

// Flush empties the cache.
func (r *Resolver) Flush() { r.cache.clear() }

// Close ends the look-ups under way and waits for them. Later calls of the
// look-up methods fail with a Temporary error.
func (r *Resolver) Close() error {
	r.mu.Lock()
	r.mu.closed = true
	r.settings.Load().close()
	r.mu.Unlock()
	r.end()
	r.wg.Wait()
	return nil
}

// Servers gives the servers in use, in their configured order.
func (r *Resolver) Servers() []netip.AddrPort { return slices.Clone(r.settings.Load().configured()) }

// MX gives the mail exchangers of a domain as published, in the server's order:
// sorting them, and the meaning of "." and of NoData, are the caller's business
// (RFC 5321 5.1, RFC 7505). The hosts file is not looked at. The error is an
// *Error, as that of all methods.
func (r *Resolver) MX(ctx context.Context, domain string) (Answer[MX], error) {
	res, err := r.lookup(ctx, domain, wire.TypeMX)
	return answer(res, err, func(r *result) []MX { return r.mx })
}

// A gives the IPv4 addresses of a host: the hosts file's, else DNS's.
func (r *Resolver) A(ctx context.Context, host string) (Answer[netip.Addr], error) {
	res, err := r.lookup(ctx, host, wire.TypeA)
	return answer(res, err, func(r *result) []netip.Addr { return r.addrs })
}

// AAAA gives the IPv6 addresses of a host: the hosts file's, else DNS's.
func (r *Resolver) AAAA(ctx context.Context, host string) (Answer[netip.Addr], error) {
	res, err := r.lookup(ctx, host, wire.TypeAAAA)
	return answer(res, err, func(r *result) []netip.Addr { return r.addrs })
}

// TXT gives the text records of a name, the strings of each joined without a
// space (RFC 7208 3.3), as octets.
func (r *Resolver) TXT(ctx context.Context, name string) (Answer[string], error) {
	res, err := r.lookup(ctx, name, wire.TypeTXT)
	return answer(res, err, func(r *result) []string { return r.texts })
}

// PTR gives the names that an address's reverse record claims, unverified.
func (r *Resolver) PTR(ctx context.Context, addr netip.Addr) (Answer[string], error) {
	res, err := r.lookup(ctx, reverse(addr), wire.TypePTR)
	return answer(res, err, func(r *result) []string { return r.texts })
}

// Alias gives the name that a name is another name of (CNAME), one step, and
// whether signed DNS vouches for that step alone. It fails as NoData when the
// name is none.
func (r *Resolver) Alias(ctx context.Context, name string) (Answer[string], error) {
	res, err := r.lookup(ctx, name, wire.TypeCNAME)
	return answer(res, err, func(r *result) []string { return r.texts })
}

// TLSA gives the certificate associations of a name such as
// "_25._tcp.mx.example.net", as published: whether they are usable is the
// caller's business (RFC 7672). Without Secure they mean nothing.
func (r *Resolver) TLSA(ctx context.Context, name string) (Answer[TLSA], error) {
	res, err := r.lookup(ctx, name, wire.TypeTLSA)
	return answer(res, err, func(r *result) []TLSA { return r.tlsa })
}

// Addresses asks for IPv4 and IPv6 addresses at once; IPv4 come first. When one
// family is known and nobody knows about the other, the known ones are given,
// with an Expires within five minutes. Secure means that all answers are
// authenticated, a denial of one family included; nobody can take it from the
// addresses of one family by having the other's look-up fail. It fails as NXDomain
// when both families do, as Temporary or Bogus when no address is known and either
// is that, else as NoData.
func (r *Resolver) Addresses(ctx context.Context, host string) (Answer[netip.Addr], error) {
	k4, bad := r.question(host, wire.TypeA)
	if bad != nil {
		return Answer[netip.Addr]{}, bad
	}
	k6 := key{k4.name, wire.TypeAAAA}
	// Both are begun before either is waited for; no goroutine is needed here.
	w4, w6 := r.begin(k4), r.begin(k6)
	v4, err4 := r.wait(ctx, w4)
	v6, err6 := r.wait(ctx, w6)
	return bothFamilies(v4, err4, v6, err6, time.Now())
}

func bothFamilies(v4 *result, err4 *Error, v6 *result, err6 *Error, now time.Time) (Answer[netip.Addr], error) {
	all := func(r *result) []netip.Addr { return r.addrs }
	switch {
	case err4 != nil && err6 != nil:
		return Answer[netip.Addr]{}, neither(err4, err6)
	case err6 != nil:
		a, _ := answer(v4, nil, all)
		return a.without(err6, now), nil
	case err4 != nil:
		a, _ := answer(v6, nil, all)
		return a.without(err4, now), nil
	}
	a, _ := answer(v4, nil, all)
	a.Records = append(a.Records, v6.addrs...)
	a.Secure = a.Secure && v6.secure
	a.Expires = earlier(a.Expires, v6.expires)
	return a, nil
}

// without completes the answer of one family with the failure of the other.
func (a Answer[T]) without(other *Error, now time.Time) Answer[T] {
	if other.Temporary() {
		a.Expires = earlier(a.Expires, now.Add(partialTTL))
		return a
	}
	a.Secure = a.Secure && other.Secure
	a.Expires = earlier(a.Expires, other.Expires)
	return a
}

// neither chooses the error when both families failed: not knowing beats
// knowing, and "no record" beats "no name", which some broken servers say of
// the type they were not made for.
func neither(e4, e6 *Error) *Error {
	first := *e4
	switch {
	case e4.Temporary():
	case e6.Temporary():
		first = *e6
	case e6.Kind == NoData && e4.Kind == NXDomain:
		first = *e6
	}
	first.Type = "A and AAAA"
	first.Secure = e4.Secure && e6.Secure
	first.Expires = earlier(e4.Expires, e6.Expires)
	return &first
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
