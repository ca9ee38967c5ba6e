package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	evaluator "blitiri.com.ar/go/spf"
)

const whyIPv6 = "Gmail refuses mail over IPv6 without a reverse record or authentication: 550 5.7.1 … does not meet IPv6 sending guidelines regarding PTR records and authentication. Over IPv4 the same mail passes."

// noIPv6 is the other way out, which always works.
const noIPv6 = "mailout config set delivery.ipv6 false"

// ipv6Check: half-configured IPv6 is worse than none, because delivery prefers
// it.
func ipv6Check(ctx context.Context, x *exam) []Check {
	c := Check{ID: "ipv6", Subject: x.id.Hostname, Why: whyIPv6, Asked: "whether IPv6, where it is used, has all that receivers want of it"}
	if !x.id.IPv6 {
		c.Status, c.Seen = Skip, "delivery.ipv6 = false: mail goes over IPv4 only"
		return []Check{c}
	}
	var out []Check
	faces := x.faces(ctx)
	for _, f := range faces {
		if f.V6 {
			c.Subject = subject(f, faces)
			out = append(out, x.judgeIPv6(ctx, f, c))
		}
	}
	if len(out) == 0 {
		c.Status, c.Seen = Skip, "this machine has no way out over IPv6: mail goes over IPv4"
		out = append(out, c)
	}
	return out
}

// judgeIPv6 gathers what is missing of one face.
func (x *exam) judgeIPv6(ctx context.Context, f face, c Check) Check {
	if x.leadsNowhere(ctx, f) {
		c.problem(Warn, You, "this machine has an IPv6 address, but no mail server can be reached with it", Fix{
			Command: noIPv6, Text: "Mend IPv6, or set delivery.ipv6 = false, so that deliveries do not wait for it."})
		return c
	}
	if !f.Visible.IsValid() {
		c.problem(Unknown, You, "nobody could tell the visible address (address.public)", Fix{
			Command: noIPv6, Text: "Find out the visible IPv6 address, or set delivery.ipv6 = false."})
		return c
	}
	missing, unsure, record := x.ipv6Gaps(ctx, f)
	switch {
	case len(missing) > 0:
		c.problem(Fail, DNSHost, f.Visible.String()+" works, but: "+strings.Join(missing, ", "), Fix{
			Record: record, Command: noIPv6, Text: "Set these (ptr.exists, address.record and spf.pass say how), or delivery.ipv6 = false."})
	case len(unsure) > 0:
		c.Status, c.Seen = Unknown, strings.Join(unsure, "; ")
	default:
		c.Status, c.Seen = Pass, f.Visible.String()+" has a reverse record that leads back, an AAAA record and SPF"
	}
	return c
}

// ipv6Gaps are the records that an IPv6 face lacks, those that could not be
// looked up, and the first to publish.
func (x *exam) ipv6Gaps(ctx context.Context, f face) (missing, unsure []string, record string) {
	v := x.reverse(ctx, f.Visible)
	switch {
	case v.answer.err != nil || len(v.confirmed) == 0 && len(v.unsure) > 0:
		unsure = append(unsure, "the reverse record could not be looked up")
	case len(v.confirmed) == 0:
		missing = append(missing, "no reverse record that leads back")
		_, fix := x.askFor(ctx, visitor{f.Visible, []string{f.Hostname}}, v)
		record = fix.Record
	}
	a := x.look(ctx, f.Hostname, addressType(true))
	switch {
	case a.err != nil:
		unsure = append(unsure, "the AAAA record could not be looked up")
	case len(compare(a.addrs(), []netip.Addr{f.Visible}).missing) > 0:
		missing = append(missing, "no AAAA record")
		record = addressRecord(f.Hostname, f.Visible)
	}
	for _, domain := range x.domains() {
		switch result, err := x.evaluate(ctx, f.Visible, f.Hostname, domain); result {
		case evaluator.Pass:
		case evaluator.TempError:
			unsure = append(unsure, fmt.Sprintf("SPF of %s could not be evaluated: %v", domain, err))
		default:
			missing = append(missing, fmt.Sprintf("SPF of %s says %s", domain, result))
		}
	}
	return missing, unsure, record
}

// leadsNowhere reports that mail servers have IPv6 addresses and none can be
// reached from this face, while the same servers are over IPv4.
func (x *exam) leadsNowhere(ctx context.Context, f face) bool {
	tried := 0
	for _, g := range x.greetAll(ctx, f) {
		switch {
		case g.open || errors.Is(ctx.Err(), context.Canceled):
			return false
		case !g.lookup:
			tried++
		}
	}
	return tried > 0 && x.fourWorks(ctx)
}

// fourWorks reports that a mail server is reached over IPv4.
func (x *exam) fourWorks(ctx context.Context) bool {
	for _, f := range x.faces(ctx) {
		if f.V6 {
			continue
		}
		for _, g := range x.greetAll(ctx, f) {
			if g.open {
				return true
			}
		}
	}
	return false
}
