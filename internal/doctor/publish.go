package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/smtp"
)

// RecordStatus is how a record to publish compares with what is published.
type RecordStatus string

// The statuses. RecordUnknown: DNS did not answer, or the record's value
// depends on something that nobody could tell.
const (
	RecordPublished RecordStatus = "published"
	RecordDiffers   RecordStatus = "differs"
	RecordMissing   RecordStatus = "missing"
	RecordUnknown   RecordStatus = "unknown"
)

// Record is one record to publish.
type Record struct {
	Name   string       `json:"name"`  // absolute, without the final dot
	Type   string       `json:"type"`  // "A", "AAAA", "TXT", "MX", "PTR"
	Value  string       `json:"value"` // of TXT the whole text, unquoted; of others as in a zone file, without final dots
	For    string       `json:"for"`   // what needs it, for people
	Status RecordStatus `json:"status"`

	Zone string   `json:"-"` // that the name is in, without the final dot; empty: not known
	Now  []string `json:"-"` // what stands there and is to go, as Value
}

// Zoned is the record in zone-file form, the name absolute, long texts split.
func (r Record) Zoned() string {
	value := r.Value
	switch r.Type {
	case "TXT":
		value = quoted(r.Value)
	case "MX", "PTR", "CNAME":
		value += "."
	}
	return r.Name + ". IN " + r.Type + " " + value
}

// Relative is the name as web forms want it: without the domain, "@" for the
// domain itself.
func (r Record) Relative() string {
	if r.Zone == "" {
		return r.Name
	}
	if r.Name == r.Zone {
		return "@"
	}
	return strings.TrimSuffix(r.Name, "."+r.Zone)
}

// Entered is the value as web forms want it: a long text in several quoted
// strings.
func (r Record) Entered() string {
	if r.Type == "TXT" && len(r.Value) > 255 {
		return quoted(r.Value)
	}
	return r.Value
}

// Reverse is a reverse record to ask for: only the owner of the address can
// make it.
type Reverse struct {
	Record
	Addr  netip.Addr
	Who   Who    // AddressProvider, or DNSHost where the owner has delegated it (RFC 2317)
	Words string // to send to whoever makes it
}

// Plan is the complete set of records.
type Plan struct {
	Records []Record
	Reverse []Reverse
	Notes   []string // what could not be planned, and why; sentences
}

// RecordChange is what turns the records of one name and type into the planned ones.
type RecordChange struct {
	Name, Type string
	Zone       string   // without the final dot; empty: not known
	Want       []string // values to be there, as Record.Value
	Gone       []string // values to go; others of that type stay
}

// PlanRecords finds the records that direct delivery as this identity needs,
// and whether they are published. It only asks.
func PlanRecords(ctx context.Context, id Identity, world World, opts Options) *Plan {
	if opts.Timeout <= 0 {
		opts.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, opts.Timeout)
	defer cancel()
	x := &exam{id: id, world: id.throughTLS(world), opts: opts}
	return x.plan(ctx)
}

func (x *exam) plan(ctx context.Context) *Plan {
	p := new(Plan)
	if x.routed() {
		p.Notes = append(p.Notes, "A router takes all mail: receivers see the router, so the host name needs no records; ask who runs the router for the term that SPF records need.")
	} else {
		x.planHosts(ctx, p)
	}
	for _, d := range x.returnPaths() {
		x.planSPF(ctx, p, d, false)
	}
	x.planKeys(ctx, p)
	for _, d := range x.domains() {
		x.planPolicy(ctx, p, d)
	}
	x.planBounces(ctx, p)
	for i, r := range p.Records {
		p.Records[i].Zone = strings.TrimSuffix(x.authorities(ctx, r.Name).zone, ".")
	}
	return p
}

// planHosts is about every name in EHLO and every visible address.
func (x *exam) planHosts(ctx context.Context, p *Plan) {
	for _, c := range x.claims(ctx) {
		switch {
		case smtp.HostnameProblem(c.host) != "":
			p.Notes = append(p.Notes, fmt.Sprintf("No record can be published for %s: the host name %s.", c.host, smtp.HostnameProblem(c.host)))
			continue
		case len(c.addrs) == 0:
			p.Notes = append(p.Notes, fmt.Sprintf("The %s record of %s is left out: nobody could tell the visible address (mailout doctor --only address.public).", addressKind(c.v6), c.host))
			continue
		}
		p.Records = append(p.Records, planAddresses(c, x.look(ctx, c.host, addressType(c.v6)), x.wholly(ctx, c))...)
	}
	for _, host := range x.hostnames() {
		if host = strings.ToLower(host); smtp.HostnameProblem(host) == "" && !slices.Contains(x.returnPaths(), host) {
			x.planSPF(ctx, p, host, true)
		}
	}
	x.planReverse(ctx, p)
}

// wholly reports that all addresses of a claim are known: only then is any
// other one out of place.
func (x *exam) wholly(ctx context.Context, c claim) bool {
	if len(x.opts.Sources) > 0 {
		return false
	}
	return !slices.ContainsFunc(x.faces(ctx), func(f face) bool {
		return strings.EqualFold(f.Hostname, c.host) && f.V6 == c.v6 && !f.Visible.IsValid()
	})
}

// planAddresses compares the addresses of a name with what is published.
func planAddresses(c claim, published answer, wholly bool) []Record {
	have := published.addrs()
	got := compare(have, c.addrs)
	var out []Record
	for i, a := range c.addrs {
		r := Record{Name: strings.ToLower(c.host), Type: addressKind(c.v6), Value: a.String(), For: "host name: its address as receivers see it", Status: RecordMissing}
		switch {
		case published.err != nil:
			r.Status = RecordUnknown
		case slices.Contains(have, a):
			r.Status = RecordPublished
		case len(have) > 0:
			r.Status = RecordDiffers
		}
		if i == 0 && wholly && published.err == nil && len(published.aliases) == 0 {
			for _, wrong := range got.wrong {
				r.Now = append(r.Now, wrong.String())
			}
			if len(r.Now) > 0 {
				r.Status = RecordDiffers
			}
		}
		out = append(out, r)
	}
	return out
}

// planSPF is the record of a sender domain or of a name in EHLO.
func (x *exam) planSPF(ctx context.Context, p *Plan, domain string, host bool) {
	addrs := x.visibleAddrs(ctx)
	what := "SPF: who may send for the domain"
	if host {
		addrs, what = x.wanted4or6(ctx, domain), "SPF of the host name, which bounces are judged by"
	}
	v := x.spfOf(ctx, domain, addrs, host)
	r := Record{Name: domain, Type: "TXT", Value: v.want, For: what, Status: RecordMissing}
	switch {
	case v.err != nil:
		p.Notes = append(p.Notes, fmt.Sprintf("The SPF record of %s is left out: %v.", domain, v.err))
		return
	case v.unsure != nil:
		p.Notes = append(p.Notes, fmt.Sprintf("The SPF record of %s is left out: whether it lets this machine send could not be found out (%v).", domain, v.unsure))
		return
	case v.bad != nil:
		p.Notes = append(p.Notes, fmt.Sprintf("The SPF record of %s cannot be read and must be corrected by hand: %v.", domain, v.bad))
		return
	case v.want == "":
		if !x.routed() {
			p.Notes = append(p.Notes, fmt.Sprintf("The SPF record of %s is left out: nobody could tell the visible address (mailout doctor --only address.public).", domain))
		}
		return
	case len(v.texts) == 1 && len(v.missing) == 0 && v.records[0].String() == v.want:
		r.Value, r.Status = v.texts[0], RecordPublished // as it is written, spaces and all
	case len(v.texts) > 0:
		r.Status, r.Now = RecordDiffers, v.texts
	}
	p.Records = append(p.Records, r)
}

// planKeys is the record of every DKIM key that can be used.
func (x *exam) planKeys(ctx context.Context, p *Plan) {
	if len(x.id.DKIM) == 0 {
		p.Notes = append(p.Notes, "No DKIM key is configured, so there is no record for one.")
	}
	for _, k := range x.id.DKIM {
		key := x.publishedKey(ctx, k)
		if key.want == "" {
			p.Notes = append(p.Notes, fmt.Sprintf("The record of the DKIM key %s is left out: the key cannot be used (mailout doctor --only dkim.key).", k.Path))
			continue
		}
		c := Check{}
		judgeKeyRecord(&c, key)
		if key.revoked() {
			p.Notes = append(p.Notes, fmt.Sprintf("The record of the DKIM key with the selector %s is left out: it says that the key is revoked, so take the key out (mailout dkim rotate %s --finish).", k.Selector, k.Domain))
			continue
		}
		r := Record{Name: strings.ToLower(key.name), Type: "TXT", Value: key.want, For: "DKIM: the public key of selector " + k.Selector}
		texts := key.answer.texts()
		switch {
		case c.Status == Unknown:
			r.Status = RecordUnknown
		case c.Status == Pass:
			r.Status, r.Value = RecordPublished, texts[0]
		case len(texts) == 0:
			r.Status = RecordMissing
		default:
			r.Status, r.Now = RecordDiffers, slices.DeleteFunc(texts, func(s string) bool { return s == key.want })
		}
		p.Records = append(p.Records, r)
	}
}

// planPolicy is the DMARC record of a sender domain: what holds stays,
// wherever it stands.
func (x *exam) planPolicy(ctx context.Context, p *Plan, domain string) {
	v := x.policy(ctx, domain)
	r := Record{Name: "_dmarc." + domain, Type: "TXT", For: "DMARC: what receivers do with mail that is not ours", Status: RecordMissing}
	if v.err != nil {
		p.Notes = append(p.Notes, fmt.Sprintf("The DMARC record of %s is left out: %v.", domain, v.err))
		return
	}
	if v.at != "" {
		r.Name = "_dmarc." + v.at
	}
	if slices.ContainsFunc(p.Records, func(o Record) bool { return o.Name == r.Name }) {
		return // that of another sender domain of the same organization
	}
	switch {
	case len(v.texts) == 0:
		r.Value = x.dmarcWanted(ctx, domain)
	case v.record != nil:
		r.Value, r.Status = v.texts[0], RecordPublished
	case len(v.texts) > 1:
		r.Value, r.Status = strictest(v.texts), RecordDiffers
		r.Now = slices.DeleteFunc(slices.Clone(v.texts), func(s string) bool { return s == r.Value })
	default:
		r.Value, r.Status, r.Now = x.dmarcWanted(ctx, v.at), RecordDiffers, v.texts
	}
	p.Records = append(p.Records, r)
}

// planBounces is an MX for domains of return paths that nothing can be sent
// to; the others need no record.
func (x *exam) planBounces(ctx context.Context, p *Plan) {
	domains := x.returnPaths()
	if d := postmasterDomain(x.id.Postmaster); d != "" && !slices.Contains(domains, d) {
		domains = append(domains, d)
	}
	planned := func(d string) bool { // the host name, whose address is about to be published
		return slices.ContainsFunc(p.Records, func(r Record) bool { return r.Name == d && (r.Type == "A" || r.Type == "AAAA") })
	}
	for _, d := range domains {
		t := x.takers(ctx, d)
		r := Record{Name: d, Type: "MX", Value: "10 " + x.bounceHost(ctx, d), For: "bounces: where mail to return paths in the domain goes", Status: RecordMissing}
		switch {
		case t.err != nil:
			p.Notes = append(p.Notes, fmt.Sprintf("Whether %s needs an MX record is not known: %v.", d, t.err))
			continue
		case t.null:
			r.Status, r.Now = RecordDiffers, []string{"0 "}
		case len(t.hosts) > 0 || planned(d):
			continue
		}
		p.Records = append(p.Records, r)
		if d == x.id.Returns {
			continue
		}
		p.Notes = append(p.Notes, fmt.Sprintf("The MX record of %s must lead to a server that takes the domain's mail; %s is a guess.", d, strings.TrimPrefix(r.Value, "10 ")))
	}
}

// planReverse is the reverse record of every visible address.
func (x *exam) planReverse(ctx context.Context, p *Plan) {
	known, _ := x.visitors(ctx)
	for _, w := range known {
		if innerNetwork(w.addr) != "" {
			p.Notes = append(p.Notes, fmt.Sprintf("%s is %s: it has no public reverse record.", w.addr, innerNetwork(w.addr)))
			continue
		}
		v := x.reverse(ctx, w.addr)
		host := strings.ToLower(strings.TrimSuffix(w.hosts[0], "."))
		r := Reverse{Addr: w.addr, Record: Record{Name: v.owner(), Type: "PTR", Value: host, For: "reverse record of " + w.addr.String(), Status: RecordMissing}}
		switch {
		case v.answer.err != nil:
			r.Status = RecordUnknown
		case len(v.names) == 1 && strings.EqualFold(v.names[0], host):
			r.Status = RecordPublished
		case len(v.names) > 0:
			r.Status = RecordDiffers
			r.Now = slices.DeleteFunc(slices.Clone(v.names), func(n string) bool { return strings.EqualFold(n, host) })
		}
		var fix Fix
		r.Who, fix = x.askFor(ctx, w, v)
		r.Words = fix.Text
		p.Reverse = append(p.Reverse, r)
	}
}

// All is the records and the reverse ones: what `mailout records --json` lists.
func (p *Plan) All() []Record {
	out := slices.Clone(p.Records)
	for _, r := range p.Reverse {
		out = append(out, r.Record)
	}
	return out
}

// Complete reports that every record is published.
func (p *Plan) Complete() bool {
	return !slices.ContainsFunc(p.All(), func(r Record) bool { return r.Status != RecordPublished })
}

// Changes are what is to be done in the zones, by name and type; the reverse
// records are not among them, for they are in others' zones.
func (p *Plan) Changes() []RecordChange {
	var out []RecordChange
	for _, r := range p.Records {
		if r.Status != RecordMissing && r.Status != RecordDiffers {
			continue
		}
		same := func(c RecordChange) bool {
			return c.Name == r.Name && c.Type == r.Type && c.Type != "TXT" // texts of one name are of different kinds
		}
		i := slices.IndexFunc(out, same)
		if i < 0 {
			i = len(out)
			out = append(out, RecordChange{Name: r.Name, Type: r.Type, Zone: r.Zone})
		}
		out[i].Want = append(out[i].Want, r.Value)
		for _, gone := range r.Now {
			if !slices.Contains(out[i].Want, gone) {
				out[i].Gone = append(out[i].Gone, gone)
			}
		}
	}
	return out
}

// RR makes a resource record of one of a RecordChange's values.
func (c RecordChange) RR(value string, ttl time.Duration) (wire.RR, error) {
	r := Record{Name: c.Name, Type: c.Type, Value: value}
	rr, err := wire.NewRR(r.Zoned())
	if err != nil {
		return nil, err
	}
	if rr == nil {
		return nil, errors.New("there is no record in " + r.Zoned())
	}
	rr.Header().Ttl = uint32(ttl / time.Second)
	return rr, nil
}
