package route

import (
	"context"
	"math"
	"net/netip"
	"sort"
	"strings"
	"sync"
	"time"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

// byRelay makes the route to the hosts of a router. Whatever is wrong with them
// is the operator's to mend, so every failure has CauseRouter, which defers mail
// (TRAPS 34).
func (q *plan) byRelay(ctx context.Context, to *relay, matched string) (*mta.Route, *mta.Failure) {
	found := q.lookPeers(ctx, to)
	expires := q.now.Add(maxLife)
	var hosts []mta.Host
	var worst *mta.Failure
	usable := false
	for _, f := range found {
		expires = earlier(expires, f.expires)
		for _, h := range f.hosts {
			hosts = append(hosts, h)
			if h.Failure == nil {
				usable = true
			} else if worst == nil {
				worst = h.Failure
			}
		}
	}
	if worst != nil && (usable || q.p.unresolved == nil) {
		q.alarm(to, worst)
	}
	if !usable {
		if q.p.unresolved != nil {
			q.p.unresolved(to.text, worst)
		}
		return nil, worst
	}
	r := q.route(matched, hosts, to.port)
	r.Router, r.Protocol, r.Auth = to.text, to.protocol, to.auth
	r.TLS, r.TLSOrigin, r.TLSWhy = to.tls, mta.TLSByOperator, matched
	r.Site = to.site(q.c)
	if to.helo != "" {
		r.Sources = []mta.Source{{Hostname: to.helo}}
	}
	to.limit(r)
	return q.finish(r, expires)
}

// limit puts a router's own limits in place of what holds for all.
func (r *relay) limit(to *mta.Route) {
	l := &to.Limits
	if n := r.limits.Connections; n > 0 {
		l.Connections, l.From.Connections = n, to.Matched
	}
	if n := r.limits.MessagesPerConnection; n > 0 {
		l.MessagesPerConnection, l.From.MessagesPerConnection = n, to.Matched
	}
	for _, rate := range r.limits.Rates {
		rate.Bucket, rate.Origin = "router "+to.Site, to.Matched
		l.Rates = append(l.Rates[:len(l.Rates):len(l.Rates)], rate)
	}
}

// peered are the hosts that one peer stands for: itself, or those of its MX
// records.
type peered struct {
	hosts   []mta.Host
	expires time.Time
}

// lookPeers looks all peers up at once, and numbers their preferences: those of
// the configuration first, those of MX records inside them.
func (q *plan) lookPeers(ctx context.Context, to *relay) []peered {
	out := make([]peered, len(to.peers))
	var wg sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for i, p := range to.peers {
		if p.name == "" || len(to.peers) == 1 {
			out[i] = q.lookPeer(ctx, to, p)
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			out[i] = q.lookPeer(ctx, to, p)
			<-slots
		})
	}
	wg.Wait()
	return ranked(to.peers, out)
}

// ranked gives the hosts preferences that rise over all peers. Peers of one rank
// share them: the first preference of each is one, the second, and so on.
func ranked(peers []peer, found []peered) []peered {
	next := 0
	for from := 0; from < len(peers); {
		to, deepest := from, 0
		for ; to < len(peers) && peers[to].rank == peers[from].rank; to++ {
			step, last := -1, -1
			for i := range found[to].hosts {
				h := &found[to].hosts[i]
				if int(h.Preference) != last {
					last = int(h.Preference)
					step++
				}
				h.Preference = uint16(min(next+step, math.MaxUint16))
			}
			deepest = max(deepest, step)
		}
		sortRank(found[from:to])
		next += deepest + 1
		from = to
	}
	return found
}

// sortRank puts the hosts of peers of one rank in the order of their
// preferences: all into the first peer.
func sortRank(same []peered) {
	if len(same) < 2 {
		return
	}
	first := &same[0]
	for i := 1; i < len(same); i++ {
		first.hosts = append(first.hosts, same[i].hosts...)
		same[i].hosts = nil
	}
	sort.SliceStable(first.hosts, func(i, j int) bool { return first.hosts[i].Preference < first.hosts[j].Preference })
}

// lookPeer finds the hosts of one peer, sorted by preference. Each has addresses,
// a socket, or a Failure; there is at least one.
func (q *plan) lookPeer(ctx context.Context, to *relay, p peer) peered {
	own := peered{expires: q.now.Add(maxLife)}
	switch {
	case p.socket != "":
		own.hosts = []mta.Host{{Name: p.text(), Socket: p.socket}}
		return own
	case p.addr.IsValid():
		own.hosts = []mta.Host{{Name: p.addr.String(), Addresses: []netip.Addr{p.addr}}}
	case p.mx:
		own = q.lookMX(ctx, to, p.name)
	default:
		own.hosts = []mta.Host{{Name: p.name}}
	}
	at := q.c.listening(to.portOf(p), q.p.interfaces)
	for i := range own.hosts {
		h := &own.hosts[i]
		if to.portOf(p) != to.port {
			h.Port = to.portOf(p)
		}
		if h.Failure == nil {
			own.expires = earlier(own.expires, q.relayHost(ctx, to, h, at))
		}
	}
	return own
}

// lookMX finds the mail servers of a router that is named by its domain, as for
// a recipient's domain (RFC 5321 5.1), but all that is wrong is the router's.
func (q *plan) lookMX(ctx context.Context, to *relay, name string) peered {
	mx, err := q.p.resolver.MX(ctx, name)
	broken := func(f *mta.Failure, expires time.Time) peered {
		f.Cause = mta.CauseRouter
		f.Text = "router " + to.text + ": " + f.Text
		return peered{[]mta.Host{{Name: name, Failure: f}}, expires}
	}
	switch e := dns.AsError(err); {
	case e != nil && e.Kind == dns.NoData:
		return peered{[]mta.Host{{Name: name}}, e.Expires}
	case e != nil && e.Temporary():
		return broken(fail(mta.CauseRouter, e, "%v", e), q.now.Add(partialLife))
	case e != nil:
		return broken(fail(mta.CauseRouter, e, "%v", e), e.Expires)
	}
	hosts, failure := candidates(name, mx.Records)
	if failure != nil {
		return broken(failure, mx.Expires)
	}
	hosts, cut := q.cutOurNames(hosts)
	if len(hosts) == 0 {
		return broken(fail(mta.CauseRouter, nil, "we are its best mail server: %s", cut), mx.Expires)
	}
	return peered{hosts[:min(len(hosts), maxPeers)], mx.Expires}
}

// relayHost fills in the addresses of one host of a router, or its Failure.
func (q *plan) relayHost(ctx context.Context, to *relay, h *mta.Host, at listening) (expires time.Time) {
	expires = q.now.Add(maxLife)
	if h.Addresses == nil {
		a, err := q.addresses(ctx, h.Name)
		if err != nil {
			h.Failure = fail(mta.CauseRouter, err, "router %s does not resolve: %v", to.text, err)
			if err.Temporary() {
				return q.now.Add(partialLife)
			}
			return err.Expires
		}
		h.Addresses, h.Secure, expires = a.Records, a.Secure, a.Expires
	}
	var why string
	h.Addresses, why = keep(h.Addresses, func(a netip.Addr) string {
		if at.has(a) {
			return "where we listen ourselves"
		}
		return refused(a, true)
	})
	if why != "" {
		h.Failure = fail(mta.CauseRouter, nil, "router %s: %s", to.text, why)
	}
	return expires
}

// alarm tells the operator, not more than once a minute, that a host of a router
// cannot be found: when it is the last one, mail waits and nothing else would
// say so.
func (q *plan) alarm(to *relay, f *mta.Failure) {
	last := to.warned.Load()
	if q.now.UnixNano()-last < int64(warnEvery) || !to.warned.CompareAndSwap(last, q.now.UnixNano()) {
		return
	}
	err := strings.TrimPrefix(f.Text, "router "+to.text+": ")
	if len(to.peers) == 1 {
		q.p.log.Warn("the router's name does not resolve; its mail waits", mta.KeyHost, to.text, mta.KeyError, err)
		return
	}
	q.p.log.Warn("a host of the router cannot be found", mta.KeyHost, to.text, mta.KeyError, err)
}
