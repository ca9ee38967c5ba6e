package tlsrpt

import (
	"net/netip"
	"slices"

	"mailout/internal/header"
	"mailout/internal/mta"
)

// The bounds of what is counted for one domain on one day.
const (
	MaxPolicies = 8  // that stand apart; with the three that name less, eleven
	MaxDetails  = 50 // kinds of failure of one policy that stand apart

	maxPolicyText = 8 << 10 // octets of the lines of one policy; the rest is left out
	maxReason     = 160     // octets of a failure-reason-code
	maxHelo       = 128
	maxName       = 255
)

// The octets that counts are reckoned at, above their texts.
const (
	domainCost = 300
	policyCost = 250
	detailCost = 250
)

// tally is what happened with one domain on one day. The lock of its shard
// guards it.
type tally struct {
	asks     bool // has a record; false: nobody knows yet
	policies []*policyTally
	cost     int64 // octets, as reckoned
	dirty    bool  // since it was noted
	noted    int   // notes that there are, of the policies from the first on

	asking bool  // a look-up is waiting or under way
	again  int64 // Unix seconds before which there is none
	tries  int   // look-ups that failed
}

// policyTally is what happened under one policy.
type policyTally struct {
	kind    string // policy-type
	domain  string
	lines   []string // policy-string
	hosts   []string // mx-host
	success uint64
	failure uint64
	details map[detailKey]*detail
}

// detailKey tells kinds of failure apart.
type detailKey struct {
	result   string
	host     string
	ip, from netip.Addr
}

// detail is one kind of failure, with what the latest session said of it.
type detail struct {
	count        uint64
	helo, reason string
}

// The policy-types of RFC 8460 4.4.
const (
	typeSTS  = "sts"
	typeTLSA = "tlsa"
	typeNone = "no-policy-found"
)

// General is the result-type of a failure that none of the others names.
const General = "validation-failure"

// results are the result-types of RFC 8460 4.3.
var results = []string{
	"starttls-not-supported", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted", General,
	"tlsa-invalid", "dnssec-invalid", "dane-required",
	"sts-policy-fetch-error", "sts-policy-invalid", "sts-webpki-invalid",
}

// under gives the tally of a policy, new or known; room says whether there may be
// new ones that name all. nil: the policy has a type that nobody knows. Policies
// of one route share their texts, so that comparing them costs little.
func (t *tally) under(p *mta.TLSPolicy, room bool) *policyTally {
	lines, hosts := trimmed(p.Strings), trimmed(p.MXHosts)
	for _, have := range t.policies {
		if have.kind == p.Type && have.domain == p.Domain && slices.Equal(have.lines, lines) && slices.Equal(have.hosts, hosts) {
			return have
		}
	}
	if p.Type != typeSTS && p.Type != typeTLSA && p.Type != typeNone {
		return nil
	}
	if !room || t.apart() >= MaxPolicies {
		return t.rest(p.Type)
	}
	return t.add(&policyTally{kind: p.Type, domain: p.Domain, lines: lines, hosts: hosts})
}

// apart is how many policies stand by themselves.
func (t *tally) apart() (n int) {
	for _, p := range t.policies {
		if p.domain != "" {
			n++
		}
	}
	return n
}

// rest gives the tally of a type's policies that do not stand apart: it has no
// domain of its own.
func (t *tally) rest(kind string) *policyTally {
	for _, have := range t.policies {
		if have.kind == kind && have.domain == "" {
			return have
		}
	}
	return t.add(&policyTally{kind: kind})
}

func (t *tally) add(p *policyTally) *policyTally {
	t.policies = append(t.policies, p)
	t.cost += p.cost()
	return p
}

func (p *policyTally) cost() int64 {
	n := policyCost + len(p.domain)
	for _, s := range p.lines {
		n += 16 + len(s)
	}
	for _, s := range p.hosts {
		n += 16 + len(s)
	}
	return int64(n)
}

// fail counts a kind of failure, and gives the octets that are needed anew. room
// says whether there may be new kinds that name all.
func (p *policyTally) fail(key detailKey, helo, reason string, room bool) (cost int64) {
	if !slices.Contains(results, key.result) {
		key.result = General
	}
	d := p.details[key]
	if d == nil && (!room || len(p.details) >= MaxDetails) {
		key = detailKey{result: key.result}
		helo, reason = "", ""
		d = p.details[key]
	}
	if d == nil {
		if p.details == nil {
			p.details = make(map[detailKey]*detail)
		}
		d = &detail{}
		p.details[key] = d
		cost = detailCost + int64(len(key.host))
	}
	d.count++
	if helo != "" && d.helo != helo {
		helo = header.Harmless(helo, maxHelo)
		cost += int64(len(helo) - len(d.helo))
		d.helo = helo
	}
	if reason != "" && d.reason != reason {
		reason = header.Harmless(reason, maxReason)
		cost += int64(len(reason) - len(d.reason))
		d.reason = reason
	}
	return cost
}

// sessions counts the sessions of all policies.
func (t *tally) sessions() (success, failure uint64) {
	for _, p := range t.policies {
		success += p.success
		failure += p.failure
	}
	return success, failure
}
