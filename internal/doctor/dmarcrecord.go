package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"net/url"
	"slices"
	"strings"

	wire "github.com/miekg/dns"
	"golang.org/x/net/publicsuffix"
)

// dmarcRecord is a DMARC policy record (RFC 9989 4.7).
type dmarcRecord struct {
	Policy, Subdomains string // p=, sp=: "none", "quarantine", "reject"; Subdomains is Policy when not said
	StrictDKIM         bool   // adkim=s
	StrictSPF          bool   // aspf=s
	Testing            bool   // t=y
	Reports            []string
	PSD                string   // psd=: "y", "n" or "u"
	Remarks            []string // what receivers ignore, one sentence each
}

// isDMARC reports whether a TXT record is one: "v=DMARC1" first, with that case.
func isDMARC(text string) bool {
	name, value, ok := strings.Cut(first(text), "=")
	return ok && strings.TrimSpace(name) == "v" && strings.TrimSpace(value) == "DMARC1"
}

func first(text string) string {
	field, _, _ := strings.Cut(text, ";")
	return field
}

// parseDMARC reads a record. Receivers ignore tags that they do not know, and
// take a record without a valid p= for p=none when it names where reports go,
// else for none at all (RFC 9989 4.7); the error is that case, and tags that
// cannot be read.
func parseDMARC(text string) (*dmarcRecord, error) {
	r := &dmarcRecord{PSD: "u"}
	seen := map[string]bool{}
	policies := []string{"none", "quarantine", "reject"}
	for i, field := range strings.Split(text, ";") {
		if strings.TrimSpace(field) == "" {
			continue
		}
		name, value, ok := strings.Cut(field, "=")
		name, value = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(value)
		if !ok || name == "" {
			return nil, fmt.Errorf("%q is no TAG=VALUE", strings.TrimSpace(field))
		}
		if seen[name] {
			return nil, fmt.Errorf("the tag %s= stands there twice", name)
		}
		seen[name] = true
		lower := strings.ToLower(value)
		switch name {
		case "v":
			if i != 0 || value != "DMARC1" {
				return nil, errors.New("the record does not begin with v=DMARC1")
			}
		case "p", "sp", "np":
			if !slices.Contains(policies, lower) {
				return nil, fmt.Errorf("%s=%s is no policy (none, quarantine, reject)", name, value)
			}
			switch name {
			case "p":
				r.Policy = lower
			case "sp":
				r.Subdomains = lower
			}
		case "adkim", "aspf":
			if lower != "r" && lower != "s" {
				return nil, fmt.Errorf("%s=%s is neither r nor s", name, value)
			}
			if name == "adkim" {
				r.StrictDKIM = lower == "s"
			} else {
				r.StrictSPF = lower == "s"
			}
		case "t":
			r.Testing = lower == "y"
		case "psd":
			r.PSD = lower
		case "rua":
			for uri := range strings.SplitSeq(value, ",") {
				r.Reports = append(r.Reports, strings.TrimSpace(uri))
			}
		case "pct", "rf", "ri":
			if name == "pct" && value != "100" {
				r.Remarks = append(r.Remarks, "pct="+value+" is no longer part of DMARC (RFC 9989): some receivers apply the policy to all mail")
			}
		}
	}
	if r.Policy == "" {
		if len(r.Reports) == 0 {
			return nil, errors.New("the record has no policy (p=)")
		}
		r.Policy = "none"
		r.Remarks = append(r.Remarks, "there is no policy (p=), so it counts as none")
	}
	if r.Subdomains == "" {
		r.Subdomains = r.Policy
	}
	return r, nil
}

// reportDomain is where an address for reports is, or an error.
func reportDomain(uri string) (string, error) {
	u, err := url.Parse(uri)
	if err != nil || !strings.EqualFold(u.Scheme, "mailto") {
		return "", fmt.Errorf("%q is not mailto:ADDRESS", uri)
	}
	address, _, _ := strings.Cut(u.Opaque, "!") // a size limit of old (RFC 7489)
	a, err := mail.ParseAddress(address)
	if err != nil {
		return "", fmt.Errorf("%q is not mailto:ADDRESS", uri)
	}
	return strings.ToLower(a.Address[strings.LastIndexByte(a.Address, '@')+1:]), nil
}

// policyView is the DMARC record that holds for a domain.
type policyView struct {
	err     error    // nothing is known
	at      string   // domain that has it; empty: nowhere
	texts   []string // the records there, several when they make each other void
	record  *dmarcRecord
	wrong   error  // it cannot be read
	applies string // policy for the domain in question
}

// dmarcAt gives the DMARC records of one name.
func (x *exam) dmarcAt(ctx context.Context, domain string) ([]string, error) {
	a := x.look(ctx, "_dmarc."+domain, wire.TypeTXT)
	if a.err != nil {
		return nil, a.err
	}
	var out []string
	for _, text := range a.texts() {
		if isDMARC(text) {
			out = append(out, text)
		}
	}
	return out, nil
}

// walk is the names that a DNS tree walk asks, from the domain up: of a long
// one only the last seven labels after itself (RFC 9989 4.10).
func walk(domain string) []string {
	labels := strings.Split(domain, ".")
	out := []string{domain}
	next := labels[1:]
	if len(labels) >= 8 {
		next = labels[len(labels)-7:]
	}
	for i := range next {
		out = append(out, strings.Join(next[i:], "."))
	}
	return out
}

// treeWalk finds the organizational domain of a name, and whether records
// decided that (RFC 9989 4.10.2).
func (x *exam) treeWalk(ctx context.Context, domain string) (org string, decided bool, err error) {
	below := domain
	for _, name := range walk(domain) {
		texts, err := x.dmarcAt(ctx, name)
		if err != nil {
			return "", false, err
		}
		if len(texts) == 1 {
			r, err := parseDMARC(texts[0])
			switch {
			case err != nil:
			case r.PSD == "n":
				return name, true, nil
			case r.PSD == "y" && name != domain:
				return below, true, nil
			default:
				org, decided = name, true
			}
			if err == nil && r.PSD == "y" {
				break
			}
		}
		below = name
	}
	if !decided {
		org = domain
	}
	return org, decided, nil
}

// organization is the organizational domain. Where no record says it, that of
// the public suffix list, which receivers went by before RFC 9989.
func (x *exam) organization(ctx context.Context, domain string) (string, error) {
	org, decided, err := x.treeWalk(ctx, domain)
	if err != nil || decided {
		return org, err
	}
	if e, err := publicsuffix.EffectiveTLDPlusOne(domain); err == nil {
		return e, nil
	}
	return domain, nil
}

// policy finds the record that holds for a domain: its own, or that of its
// organizational domain (RFC 9989 4.10.1).
func (x *exam) policy(ctx context.Context, domain string) policyView {
	v := x.policyAt(ctx, domain)
	if v.err != nil || len(v.texts) > 0 {
		if v.record != nil {
			v.applies = v.record.Policy
		}
		return v
	}
	org, decided, err := x.treeWalk(ctx, domain)
	if err != nil || !decided || org == domain {
		return policyView{err: err}
	}
	v = x.policyAt(ctx, org)
	if v.record != nil {
		v.applies = v.record.Subdomains
	}
	return v
}

func (x *exam) policyAt(ctx context.Context, domain string) policyView {
	v := policyView{at: domain}
	v.texts, v.err = x.dmarcAt(ctx, domain)
	if v.err == nil && len(v.texts) == 1 {
		v.record, v.wrong = parseDMARC(v.texts[0])
	}
	return v
}
