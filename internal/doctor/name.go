package doctor

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	wire "github.com/miekg/dns"

	"mailout/internal/smtp"
)

const (
	whyForm  = "Receivers refuse impossible names in EHLO (504 5.5.2 or 501 … HELO command rejected: need fully-qualified hostname), and nobody can look such a name up."
	whyCNAME = "The name in EHLO must be one with address records itself, not an alias (RFC 5321 2.3.5); strict receivers answer 450 or 550 Helo command rejected: Host not found."
)

func nameProbes() []probe {
	return []probe{
		{ids: []string{"name.form"}, offline: true, run: nameForm},
		{ids: []string{"name.cname"}, direct: true, run: nameCNAME},
	}
}

// hostnames are all EHLO names in use, each once, [hostname] first.
func (x *exam) hostnames() []string {
	out := []string{x.id.Hostname}
	for _, s := range x.id.Sources {
		name := cmp.Or(s.Hostname, x.id.Hostname)
		if !slices.ContainsFunc(out, func(o string) bool { return strings.EqualFold(o, name) }) {
			out = append(out, name)
		}
	}
	return out
}

func nameForm(_ context.Context, x *exam) []Check {
	var out []Check
	for _, name := range x.hostnames() {
		out = append(out, judgeForm(name))
	}
	return out
}

// innerDomains are top-level names that no public DNS has (RFC 6761, 6762,
// 8375, 7686, and ICANN's reservation of internal): a name under them means
// nothing to receivers.
var innerDomains = []string{"local", "localdomain", "internal", "intranet", "lan", "home", "corp", "private", "home.arpa", "invalid", "onion"}

// containerID is how container engines name machines: 12 or 64 hexadecimal
// digits.
var containerID = regexp.MustCompile(`^([0-9a-f]{12}|[0-9a-f]{64})$`)

// judgeForm is about the name alone. What the configuration refuses cannot be
// met in `serve`, but in `setup` and in a file that is only being examined.
func judgeForm(name string) Check {
	c := Check{ID: "name.form", Subject: name, Status: Pass, Asked: "whether the name can be introduced to receivers", Seen: "fully qualified", Why: whyForm}
	lower := strings.ToLower(name)
	first, _, _ := strings.Cut(lower, ".")
	problem := smtp.HostnameProblem(name)
	switch {
	case problem != "":
		c.Status, c.Seen = Fail, "the host name "+problem
	case slices.ContainsFunc(innerDomains, func(d string) bool { return strings.HasSuffix(lower, "."+d) }):
		c.Status, c.Seen = Fail, "the name is known in an inner network only: no public DNS has names under "+lower[strings.LastIndexByte(lower, '.')+1:]
	case containerID.MatchString(first) && strings.ContainsAny(first, "0123456789"):
		c.Status, c.Seen = Warn, "the name begins like a container's id, which changes with every container"
	}
	if c.Status != Pass {
		c.Who, c.Fix = You, &Fix{
			Command: "mailout config set hostname mailout.example.com",
			Text:    "Choose a name under a domain of yours, such as mailout.example.com, publish its address record, and set it as hostname.",
		}
	}
	return c
}

// nameCNAME asks whether a host name is an alias.
func nameCNAME(ctx context.Context, x *exam) []Check {
	var out []Check
	for _, name := range x.hostnames() {
		out = append(out, x.judgeCNAME(ctx, name))
	}
	return out
}

func (x *exam) judgeCNAME(ctx context.Context, name string) Check {
	c := Check{ID: "name.cname", Subject: name, Asked: "CNAME records of " + name, Why: whyCNAME}
	if smtp.HostnameProblem(name) != "" {
		c.Status, c.Seen = Skip, "there can be no records for this name (name.form)"
		return c
	}
	a := x.look(ctx, name, wire.TypeCNAME)
	c.Seen = a.said()
	switch {
	case a.err != nil:
		c.Status = Unknown
	case a.missing():
		c.Status = Pass
	default:
		target := strings.TrimSuffix(a.records[0].(*wire.CNAME).Target, ".")
		c.Status, c.Seen, c.Who = Fail, "the name is an alias of "+target, DNSHost
		c.Fix = &Fix{Text: fmt.Sprintf("Replace the CNAME record of %s by address records of its own, or set hostname to %s.", name, target)}
		if want := x.wanted4or6(ctx, name); len(want) > 0 {
			c.Fix.Record = addressRecord(name, want[0])
		}
	}
	return c
}
