package doctor

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	wire "github.com/miekg/dns"
)

// Block lists (RFC 5782). Before a list is asked about us it is asked about
// the entries that every list has and has not: a list that ended answers
// nothing, or everything, and one that does not like our resolver answers
// 127.255.255.x. None of that is a listing, nor is it a clean bill.

// Test entries of a list of names: what is listed, in the order of how many
// lists know it (RFC 5782 5, then those of the well-known lists), and what is
// not.
var listedNames = []string{"test", "dbltest.com", "test.uribl.com", "surbl-org-permanent-test-point.com"}

const unlistedName = "invalid"

// whyListed is what a listing costs.
const whyListed = "Receivers refuse mail from listed addresses and names: 554 5.7.1 … blocked using …, Outlook's 550 5.7.1 … block list (S3140, S3150)."

func listProbes() []probe {
	return []probe{{ids: []string{"blocklist"}, direct: true, run: blockLists}}
}

// list is one block list.
type list struct {
	zone  string
	names bool // it lists names, not addresses
}

// lists are those of the configuration, each once.
func (x *exam) lists() (addresses, names []list) {
	for _, entry := range x.id.BlockLists {
		zone, ofNames := strings.CutPrefix(entry, "domain:")
		l := list{zone: strings.TrimSuffix(zone, "."), names: ofNames}
		switch {
		case ofNames && !slices.Contains(names, l):
			names = append(names, l)
		case !ofNames && !slices.Contains(addresses, l):
			addresses = append(addresses, l)
		}
	}
	return addresses, names
}

// blockLists asks every list about every visible address, and every list of
// names about the host name and the sender domains: one check for each.
func blockLists(ctx context.Context, x *exam) []Check {
	addresses, names := x.lists()
	if len(addresses)+len(names) == 0 {
		return []Check{{ID: "blocklist", Subject: x.id.Hostname, Status: Skip,
			Asked: "which block lists are configured", Seen: "none ([identity] blocklists)"}}
	}
	health := &listHealth{x: x}
	var out []Check
	if len(addresses) > 0 {
		out = x.listedAddresses(ctx, health, addresses)
	}
	if len(names) > 0 {
		for _, name := range x.judgedNames() {
			out = append(out, judgeListings(name, health.askAll(ctx, names, name, name)))
		}
	}
	return out
}

// listedAddresses makes a check for each visible address.
func (x *exam) listedAddresses(ctx context.Context, health *listHealth, lists []list) []Check {
	var out []Check
	seen := map[string]bool{}
	for _, f := range x.faces(ctx) {
		if subject := f.label(); seen[subject] || !f.Local.IsValid() && !f.Visible.IsValid() {
			continue // this family has no way out: nobody sees it
		}
		seen[f.label()] = true
		if !f.Visible.IsValid() {
			out = append(out, Check{ID: "blocklist", Subject: f.label(), Status: Unknown, Why: whyListed,
				Asked: "whether the visible address is on a block list", Seen: "the visible address is not known"})
			continue
		}
		out = append(out, judgeListings(f.label(), health.askAll(ctx, lists, f.label(), reversed(f.Visible))))
	}
	if len(out) == 0 {
		out = append(out, Check{ID: "blocklist", Subject: x.id.Hostname, Status: Unknown, Why: whyListed,
			Asked: "whether the visible addresses are on a block list", Seen: "no visible address is known"})
	}
	return out
}

// judgedNames are those that receivers may look up in lists of names.
func (x *exam) judgedNames() []string {
	var out []string
	for _, n := range append([]string{x.id.Hostname}, x.id.Domains...) {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// reversed is an address as lists are asked about it: octets, or for IPv6
// nibbles, the last first (RFC 5782 2.1, 2.4).
func reversed(a netip.Addr) string {
	arpa, err := wire.ReverseAddr(a.Unmap().WithZone("").String())
	if err != nil {
		return a.String()
	}
	return strings.TrimSuffix(strings.TrimSuffix(arpa, ".in-addr.arpa."), ".ip6.arpa.")
}

// listing is what one list said of one address or name.
type listing struct {
	list   list
	status Status // Pass, Fail or Unknown
	said   string
	policy bool // not for bad mail, but for the kind of address it is
	// refused says that the list does not answer our resolver.
	refused bool
}

// listHealth remembers which lists can be believed.
type listHealth struct {
	x      *exam
	tested memo[list, verdict]
}

// verdict is what a list's own test entries showed; empty: it can be believed.
type verdict struct {
	problem string
	refused bool
}

// askAll asks lists side by side; they are strangers to one another.
func (h *listHealth) askAll(ctx context.Context, lists []list, what, query string) []listing {
	out := make([]listing, len(lists))
	var wg group
	for i, l := range lists {
		wg.Go(func() { out[i] = h.ask(ctx, l, what, query) })
	}
	wg.Wait()
	return out
}

// ask asks one list, after its own test.
func (h *listHealth) ask(ctx context.Context, l list, what, query string) listing {
	if v := h.tested.get(l, func() verdict { return h.test(ctx, l) }); v.problem != "" {
		return listing{list: l, status: Unknown, said: v.problem, refused: v.refused}
	}
	a := h.x.look(ctx, query+"."+l.zone, wire.TypeA)
	codes, refusal := listCodes(a)
	switch {
	case a.err != nil:
		return listing{list: l, status: Unknown, said: "no answer: " + a.err.Error()}
	case refusal != "":
		return listing{list: l, status: Unknown, said: refusal, refused: true}
	case len(codes) == 0 && a.found():
		return listing{list: l, status: Unknown, said: "answered " + a.said() + ", which is no block list's answer"}
	case len(codes) == 0:
		return listing{list: l, status: Pass, said: "not listed"}
	}
	found := listing{list: l, status: Fail, said: what + " is listed (" + join(codes) + ")", policy: isPolicy(l, codes)}
	if reason := h.x.look(ctx, query+"."+l.zone, wire.TypeTXT).texts(); len(reason) > 0 {
		found.said += ": " + strings.Join(reason, "; ")
	}
	return found
}

// test asks a list about what it must and must not hold.
func (h *listHealth) test(ctx context.Context, l list) verdict {
	listed, unlisted := []string{"2.0.0.127"}, "1.0.0.127"
	if l.names {
		listed, unlisted = append(slices.Clone(listedNames), "2.0.0.127"), unlistedName
	}
	var last answer
	alive := false
	for _, point := range listed {
		last = h.x.look(ctx, point+"."+l.zone, wire.TypeA)
		codes, refusal := listCodes(last)
		if last.err != nil {
			return verdict{problem: "the list could not be asked: " + last.err.Error()}
		}
		if refusal != "" {
			return verdict{refusal, true}
		}
		if alive = len(codes) > 0; alive {
			break
		}
	}
	if !alive {
		return verdict{problem: fmt.Sprintf("the list does not hold its own test entry (%s.%s: %s), so its silence says nothing", listed[0], l.zone, last.said())}
	}
	none := h.x.look(ctx, unlisted+"."+l.zone, wire.TypeA)
	switch codes, _ := listCodes(none); {
	case none.err != nil:
		return verdict{problem: "the list could not be asked: " + none.err.Error()}
	case len(codes) > 0:
		return verdict{problem: fmt.Sprintf("the list lists everything, even %s.%s, so a listing says nothing", unlisted, l.zone)}
	}
	return verdict{}
}

// listCodes are the answers that mean "listed", or why the list does not want
// to answer. What is outside 127.0.0.0/8 is no answer of a list (RFC 5782 2.1).
func listCodes(a answer) (codes []netip.Addr, refusal string) {
	for _, addr := range a.addrs() {
		b := addr.As4()
		switch {
		case b[0] != 127:
		case b[1] == 255 && b[2] == 255:
			return nil, "the list refuses to answer our DNS server (" + addr.String() + refusalWords(b[3]) + "); this is no listing"
		case b == [4]byte{127, 0, 0, 1}:
			return nil, "the list refuses to answer our DNS server (127.0.0.1); this is no listing"
		case b == [4]byte{127, 0, 1, 255}: // a list of names, asked about an address
		default:
			codes = append(codes, addr)
		}
	}
	return codes, ""
}

// refusalWords tells the codes that lists share.
func refusalWords(code byte) string {
	switch code {
	case 252:
		return ": the list's name is misspelt"
	case 254:
		return ": asked through a public resolver"
	case 255:
		return ": too many queries"
	}
	return ""
}

// isPolicy tells the codes by which Spamhaus lists address ranges that are not
// meant to send mail at all (PBL), whatever they have sent.
func isPolicy(l list, codes []netip.Addr) bool {
	spamhaus := strings.HasSuffix(l.zone, "spamhaus.org") || strings.HasSuffix(l.zone, "spamhaus.net")
	return spamhaus &&
		!slices.ContainsFunc(codes, func(a netip.Addr) bool { b := a.As4(); return b[3] != 10 && b[3] != 11 })
}

func join(addrs []netip.Addr) string {
	var out []string
	for _, a := range addrs {
		out = append(out, a.String())
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// judgeListings makes one check of what all lists said of one subject.
func judgeListings(subject string, all []listing) Check {
	c := Check{ID: "blocklist", Subject: subject, Status: Pass, Why: whyListed}
	var zones, said, advice []string
	for _, l := range all {
		zones = append(zones, l.list.zone)
		switch {
		case l.status == Fail:
			c.Status = Fail
			advice = append(advice, delisting(l))
		case l.status == Unknown && c.Status == Pass:
			c.Status = Unknown
		}
		if l.status != Pass {
			said = append(said, l.list.zone+": "+l.said)
		}
	}
	c.Asked = "the block lists " + strings.Join(zones, ", ")
	c.Seen = strings.Join(said, "; ")
	if c.Status == Pass {
		c.Seen = "not listed"
	}
	switch {
	case c.Status == Fail:
		c.Fix, c.Who = &Fix{Text: strings.Join(advice, " ")}, ListOperator
	case slices.ContainsFunc(all, func(l listing) bool { return l.refused }):
		c.Fix, c.Who = &Fix{Text: "Ask through a resolver of your own (dns.servers): most lists do not answer the public ones, nor those of large providers."}, You
	}
	return c
}

// removal is where lists take requests, by the end of their zones' names.
var removal = []struct{ zone, page string }{
	{"spamhaus.org", "https://check.spamhaus.org/"},
	{"spamhaus.net", "https://check.spamhaus.org/"},
	{"spamcop.net", "https://www.spamcop.net/bl.shtml"},
	{"barracudacentral.org", "https://www.barracudacentral.org/rbl/removal-request"},
	{"surriel.com", "https://psbl.org/"},
	{"uceprotect.net", "https://www.uceprotect.net/en/rblcheck.php"},
	{"mailspike.net", "https://www.mailspike.org/"},
	{"surbl.org", "https://surbl.org/surbl-analysis"},
	{"uribl.com", "https://lookup.uribl.com/"},
}

// delisting says how to get off a list.
func delisting(l listing) string {
	if l.policy {
		return fmt.Sprintf("%s lists this address because its owner says that no mail servers are in its range, not for mail that was sent: ask for its removal at https://check.spamhaus.org/, ask the address provider for an address meant for servers, or send through a router.", l.list.zone)
	}
	where := "the page that its answer names, or the list's own site"
	for _, r := range removal {
		if l.list.zone == r.zone || strings.HasSuffix(l.list.zone, "."+r.zone) {
			where = r.page
		}
	}
	return fmt.Sprintf("Find and end the cause first (mail to people who did not ask for it, a stolen account, another machine behind the same address), then ask for removal from %s at %s.", l.list.zone, where)
}
