package doctor

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// zoneView is what the servers of a claim's zone say.
type zoneView struct {
	err     error // they could not be found
	replies []zoneReply
}

// zoneReply is one server's.
type zoneReply struct {
	server nameServer
	answer answer
	got    compared
}

// askZone asks all of the zone's servers side by side. A host name that is an
// alias is judged at its end.
func (x *exam) askZone(ctx context.Context, c claim, resolved answer) zoneView {
	name := c.host
	if n := len(resolved.aliases); n > 0 {
		name = resolved.aliases[n-1]
	}
	cut := x.authorities(ctx, name)
	if cut.err != nil {
		return zoneView{err: cut.err}
	}
	v := zoneView{replies: make([]zoneReply, len(cut.servers))}
	var wg group
	for i, s := range cut.servers {
		wg.Go(func() {
			a := x.askAuthority(ctx, s, name, addressType(c.v6))
			v.replies[i] = zoneReply{s, a, compare(a.addrs(), c.addrs)}
		})
	}
	wg.Wait()
	return v
}

// count sorts the replies.
func (v zoneView) count() (right, wrong, mute int) {
	for _, r := range v.replies {
		switch {
		case r.answer.err != nil:
			mute++
		case r.got.equal():
			right++
		default:
			wrong++
		}
	}
	return right, wrong, mute
}

// right reports that every server that answers has exactly what is wanted.
func (v zoneView) right() bool {
	right, wrong, _ := v.count()
	return v.err == nil && right > 0 && wrong == 0
}

// partly reports that some servers have what is wanted and others do not yet.
func (v zoneView) partly() bool {
	right, wrong, _ := v.count()
	return right > 0 && wrong > 0
}

// firstWrong is the comparison at the first server that differs.
func (v zoneView) firstWrong() compared {
	for _, r := range v.replies {
		if r.answer.err == nil && !r.got.equal() {
			return r.got
		}
	}
	return compared{}
}

// said tells each server's answer.
func (v zoneView) said() string {
	var out []string
	for _, r := range v.replies {
		out = append(out, r.server.name+": "+r.answer.said())
	}
	return strings.Join(out, "; ")
}

// stale says for how long the resolver goes on with an old answer.
func stale(resolved answer) string {
	held := resolved.said()
	if resolved.ttl <= 0 {
		return fmt.Sprintf("published, caches still hold the old one (%s)", held)
	}
	return fmt.Sprintf("published, caches still hold the old one (%s) for %d s", held, resolved.ttl/time.Second)
}

// judgeZone is about what the zone's own servers say.
func judgeZone(out *Check, c claim, resolved answer, zone zoneView) {
	right, wrong, mute := zone.count()
	cached := resolved.err == nil && !compare(resolved.addrs(), c.addrs).equal()
	out.Seen = zone.said()
	switch {
	case zone.err != nil:
		out.Status, out.Seen = Unknown, zone.err.Error()
	case len(c.addrs) == 0:
		out.Status = Unknown
		out.Seen += "; nobody could tell the visible address (address.public)"
	case right+wrong == 0:
		out.problem(Unknown, DNSHost, out.Seen, Fix{Text: "None of the zone's own servers answers this machine: if that is so from everywhere, the zone is down."})
	case wrong == 0 && cached:
		out.problem(Warn, DNSHost, stale(resolved), Fix{Text: "Nothing is to be done: wait until caches have forgotten the old one."})
	case wrong == 0 && mute > 0:
		out.problem(Warn, DNSHost, out.Seen, Fix{Text: "One of the zone's servers does not answer for it: receivers that ask it wait, or fail. Mend it, or remove its NS record."})
	case wrong == 0:
		out.Status = Pass
	case right > 0:
		out.problem(Warn, DNSHost, out.Seen, Fix{Text: "The zone's servers differ: a secondary has not fetched the new zone yet. Wait; if it lasts, see that the serial of the SOA record was raised and that the transfer works."})
	default:
		notPublished(out, c, resolved, zone.firstWrong(), cached)
	}
}

// notPublished is the finding when no server of the zone has what is wanted.
func notPublished(out *Check, c claim, resolved answer, got compared, cached bool) {
	if !cached && resolved.err == nil && resolved.ttl > 0 {
		out.Seen += fmt.Sprintf("; caches still hold the right one for %d s", resolved.ttl/time.Second)
	}
	if len(got.missing) > 0 {
		out.problem(Fail, DNSHost, out.Seen, missingFix(c, got))
		return
	}
	out.problem(Warn, DNSHost, out.Seen, Fix{
		Text: "Remove " + addressList(c.host, got.wrong) + ": no mail of this machine comes from there. Keep it if another machine has the same name."})
}
