package submit

import (
	"slices"
	"strings"
	"time"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// domainOf is the domain of a canonical address: what follows its last "@".
func domainOf(address string) string {
	if i := strings.LastIndexByte(address, '@'); i > 0 {
		return address[i+1:]
	}
	return ""
}

// split groups recipients into deliveries, one for each domain, in the order
// in which domains and recipients first came; a domain with more than limit
// recipients gets several. An address that was given twice gets the message
// once, under the parameters it was first given with. It sets m.Deliveries.
func split(m *mta.Message, rcpts []mta.Recipient, limit int) []*mta.Delivery {
	if len(rcpts) == 1 {
		m.Deliveries = 1
		return []*mta.Delivery{fresh(m, 0, domainOf(rcpts[0].Address), slices.Clone(rcpts))}
	}
	seen := make(map[string]struct{}, len(rcpts))
	open := make(map[string]*mta.Delivery) // the delivery of a domain that has room
	var all []*mta.Delivery
	for _, r := range rcpts {
		if _, twice := seen[r.Address]; twice {
			continue
		}
		seen[r.Address] = struct{}{}
		domain := domainOf(r.Address)
		d := open[domain]
		if d == nil || len(d.Recipients) >= limit {
			d = fresh(m, uint32(len(all)), domain, nil)
			open[domain] = d
			all = append(all, d)
		}
		d.Recipients = append(d.Recipients, r)
	}
	m.Deliveries = len(all)
	return all
}

// fresh is a delivery that was never attempted: due since it arrived, or when
// it may be sent.
func fresh(m *mta.Message, n uint32, domain string, rcpts []mta.Recipient) *mta.Delivery {
	return &mta.Delivery{
		Message: m, N: n, Destination: mta.Destination{Domain: domain, Stream: m.Stream},
		Recipients: rcpts, State: mta.Queued, Due: m.Start(),
	}
}

// taken is the record that a message was accepted for one recipient, as far as that
// is the message's.
func taken(m *mta.Message, at time.Time, recipient, domain string) mta.Record {
	r := mta.Record{
		Time: at, Event: mta.EventAccepted, ID: m.ID, MessageID: m.MessageID, Stream: m.Stream,
		Sender: m.Envelope.Sender, Recipient: recipient, Destination: domain,
		Size: m.Size, User: m.Origin.User, Tags: m.Tags, Metadata: m.Metadata,
	}
	if m.Envelope.RequireTLS {
		r.TLS.Origin = mta.TLSByMessage
	}
	return r
}

// accepted makes the journal records of a submission, one a recipient; at is
// when it is stored, so that records of one address stand in order.
func accepted(sub *spool.Submission, at time.Time) []*mta.Record {
	n := 0
	for _, d := range sub.Deliveries {
		n += len(d.Recipients)
	}
	all := make([]mta.Record, 0, n)
	out := make([]*mta.Record, 0, n)
	m := sub.Message
	for _, d := range sub.Deliveries {
		for i := range d.Recipients {
			all = append(all, taken(m, at, d.Recipients[i].Address, d.Destination.Domain))
			r := &all[len(all)-1]
			r.Next = m.NotBefore
			out = append(out, r)
		}
	}
	return out
}
