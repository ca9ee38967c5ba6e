package queue

import (
	"cmp"
	"context"
	"slices"
	"strings"
)

// Load is how busy the sites are, for the metrics: all together, and those with
// the most to do one by one.
type Load struct {
	Connections int64 // open or being opened
	Idle        int64 // of these, without work
	Ready       int64 // deliveries that wait for a connection or a turn
	Unreachable int64 // sites that are probed now and then only
	Busiest     []SiteLoad
}

// SiteLoad is one site × source.
type SiteLoad struct {
	Site        string
	Connections int
	Allowed     int
	Pace        float64 // messages a second that it was found to take; 0: no bound was found
	Ready       int
}

func (s *SiteLoad) work() int { return s.Ready + s.Connections }

// busier orders by work, and by name what has the same.
func busier(a, b SiteLoad) int {
	if c := cmp.Compare(b.work(), a.work()); c != 0 {
		return c
	}
	return strings.Compare(a.Site, b.Site)
}

// Load tells how busy the sites are, at most n of them one by one. The loop
// looks at each site once and makes nothing of those that are not told.
func (q *Queue) Load(ctx context.Context, n int) (Load, error) {
	var out Load
	err := q.ask(ctx, func(l *loop) {
		for _, s := range l.sites {
			out.Connections += int64(s.workers)
			out.Idle += int64(len(s.idle))
			out.Ready += int64(s.ready)
			if !s.ctl.ProbeAt().IsZero() {
				out.Unreachable++
			}
			work := s.workers + s.ready
			if work == 0 || len(out.Busiest) == n && (n == 0 || work < out.Busiest[n-1].work()) {
				continue // as most of very many
			}
			out.Busiest = amongMost(out.Busiest, SiteLoad{Site: s.key, Connections: s.workers, Ready: s.ready}, n)
		}
		for i := range out.Busiest {
			one := &out.Busiest[i]
			one.Allowed, one.Pace = l.sites[one.Site].ctl.Allowed(l.now), l.sites[one.Site].ctl.Pace()
		}
	})
	if err != nil {
		return Load{}, err // the loop may still write to out
	}
	return out, nil
}

// amongMost puts one in its place among the n busiest, or leaves it out.
func amongMost(list []SiteLoad, one SiteLoad, n int) []SiteLoad {
	if len(list) >= n && (n == 0 || busier(list[n-1], one) <= 0) {
		return list
	}
	at, _ := slices.BinarySearchFunc(list, one, busier)
	list = slices.Insert(list, at, one)
	return list[:min(len(list), n)]
}
