package dns

import "sync/atomic"

// Counts are numbers of look-ups since the start, for the metrics.
type Counts struct {
	// Look-ups by where their answer came from: the hosts file, the cache, one
	// that was under way already, the servers.
	Hosts, Cached, Joined, Asked int64
	// What the servers said, or did not.
	Found, NoData, NXDomain, Temporary, Bogus int64
	// Entries is how many answers the cache has now.
	Entries int64
}

// counts is Counts in the making.
type counts struct {
	hosts, cached, joined, asked              atomic.Int64
	found, noData, nxDomain, temporary, bogus atomic.Int64
}

// ended counts the outcome of a look-up that was asked.
func (c *counts) ended(r *result) {
	if r.err == nil {
		c.found.Add(1)
		return
	}
	switch r.err.Kind {
	case NoData:
		c.noData.Add(1)
	case NXDomain:
		c.nxDomain.Add(1)
	case Bogus:
		c.bogus.Add(1)
	default:
		c.temporary.Add(1)
	}
}

// Counts gives the numbers of look-ups since the start.
func (r *Resolver) Counts() Counts {
	c := &r.counts
	return Counts{
		Hosts: c.hosts.Load(), Cached: c.cached.Load(), Joined: c.joined.Load(), Asked: c.asked.Load(),
		Found: c.found.Load(), NoData: c.noData.Load(), NXDomain: c.nxDomain.Load(), Temporary: c.temporary.Load(), Bogus: c.bogus.Load(),
		Entries: int64(r.cache.len()),
	}
}
