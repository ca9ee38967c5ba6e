package admin

import (
	"context"
	"net/http"

	"mailout/internal/mta"
	"mailout/internal/queue"
	"mailout/internal/spool"
)

// Destination is what waits for one recipient domain.
type Destination struct {
	Destination string              `json:"destination"`
	Queued      int64               `json:"queued"`
	Deferred    int64               `json:"deferred"`
	Held        int64               `json:"held"`
	Bytes       int64               `json:"bytes"` // of the messages, each delivery counted
	Streams     []DestinationStream `json:"streams"`
	Holds       []queue.Hold        `json:"holds"`              // of the destination, also for what comes later
	Reroutes    []queue.Reroute     `json:"reroutes,omitempty"` // the same
}

// DestinationStream is what waits in one of its streams, and what holds the
// first of it.
type DestinationStream struct {
	Stream   string `json:"stream"`
	Rerouted string `json:"rerouted,omitempty"` // the route that an operator gave these deliveries
	Queued   int64  `json:"queued"`
	Deferred int64  `json:"deferred"`
	Held     int64  `json:"held"`
	Bytes    int64  `json:"bytes"`
	Site     string `json:"site"`
	Next     string `json:"next,omitempty"`
	Reason   string `json:"reason"`
	Reply    string `json:"reply"`
}

// destination answers GET /v1/queues/{destination}.
func (s *Server) destination(w http.ResponseWriter, r *http.Request) {
	out, err := s.waiting(r.Context(), canonicalDomain(r.PathValue("destination")))
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	writeJSON(w, http.StatusOK, out)
}

func (s *Server) waiting(ctx context.Context, domain string) (*Destination, error) {
	out := &Destination{Destination: domain, Streams: []DestinationStream{}, Holds: []queue.Hold{}}
	var open []mta.Destination
	err := s.opts.Store.Destinations(ctx, func(p spool.Pending) bool {
		if p.Destination.Domain == domain {
			open = append(open, p.Destination)
		}
		return ctx.Err() == nil
	})
	if err == nil {
		err = ctx.Err()
	}
	for _, dest := range open {
		if err != nil {
			break
		}
		err = s.addStream(ctx, out, dest)
	}
	if err != nil {
		return nil, err
	}
	sum, err := s.opts.Queue.Summary(ctx)
	for _, h := range sum.Holds {
		if h.Destination == domain {
			out.Holds = append(out.Holds, h)
		}
	}
	for _, r := range sum.Reroutes {
		if r.Destination == domain {
			out.Reroutes = append(out.Reroutes, r)
		}
	}
	return out, err
}

// addStream adds the counts of one stream, and what holds the first delivery.
func (s *Server) addStream(ctx context.Context, out *Destination, dest mta.Destination) error {
	n, err := s.opts.Store.CountByDestination(ctx, dest)
	if err != nil {
		return err
	}
	one := DestinationStream{Stream: dest.Stream, Rerouted: dest.Via, Queued: n.Queued, Deferred: n.Deferred, Held: n.Held, Bytes: n.Bytes}
	first, err := s.opts.Store.Page(ctx, dest, spool.Cursor{}, 1)
	if err != nil {
		return err
	}
	if len(first) > 0 {
		shown, err := s.show(ctx, first)
		if err != nil {
			return err
		}
		one.Site, one.Next, one.Reason, one.Reply = shown[0].Site, shown[0].Next, shown[0].Reason, shown[0].Reply
	}
	out.Queued, out.Deferred, out.Held, out.Bytes = out.Queued+n.Queued, out.Deferred+n.Deferred, out.Held+n.Held, out.Bytes+n.Bytes
	out.Streams = append(out.Streams, one)
	return nil
}
