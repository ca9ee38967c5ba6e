package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/mail"
	"slices"
	"strings"

	evaluator "blitiri.com.ar/go/spf"
	wire "github.com/miekg/dns"
)

const (
	whyDMARC   = "The record tells receivers what to do with mail that is not authenticated as the From domain's; Gmail, Yahoo and Outlook want one of senders of many messages (550 5.7.26, 550 5.7.515)."
	whyAligned = "DMARC passes only when the return path's domain passes SPF, or the signature's verifies, and that domain belongs to the one in From: 550 5.7.26 at Gmail, 550 5.7.509 at Outlook where the policy is reject."
)

func dmarcProbes() []probe {
	return []probe{
		{ids: []string{"dmarc.record"}, run: dmarcRecords},
		{ids: []string{"dmarc.alignment"}, run: dmarcAlignment},
	}
}

func dmarcRecords(ctx context.Context, x *exam) []Check {
	return sideBySide(x.domains(), func(domain string) []Check {
		c := Check{ID: "dmarc.record", Subject: domain, Why: whyDMARC,
			Asked: "TXT records of _dmarc." + domain + ", and of the names above (RFC 9989)"}
		x.judgeDMARC(ctx, &c, domain, x.policy(ctx, domain))
		return []Check{c}
	})
}

// dmarcWanted is the record for a domain that has none: it watches and
// refuses nothing. Reports go to the postmaster where that needs nobody's
// permission.
func (x *exam) dmarcWanted(ctx context.Context, domain string) string {
	const bare = "v=DMARC1; p=none"
	host := postmasterDomain(x.id.Postmaster)
	if host == "" {
		return bare
	}
	ours, err1 := x.organization(ctx, domain)
	theirs, err2 := x.organization(ctx, host)
	if err1 != nil || err2 != nil || ours != theirs {
		return bare
	}
	return bare + "; rua=mailto:" + x.id.Postmaster
}

// postmasterDomain is the domain of a mailbox; empty when there is none.
func postmasterDomain(mailbox string) string {
	a, err := mail.ParseAddress(mailbox)
	if err != nil {
		return ""
	}
	return strings.ToLower(a.Address[strings.LastIndexByte(a.Address, '@')+1:])
}

func (x *exam) judgeDMARC(ctx context.Context, c *Check, domain string, v policyView) {
	fix := func(at, text string) Fix {
		return Fix{Record: textRecord("_dmarc."+at, x.dmarcWanted(ctx, at)), Text: text}
	}
	switch {
	case v.err != nil:
		c.Status, c.Seen = Unknown, v.err.Error()
	case len(v.texts) == 0:
		c.problem(Warn, DNSHost, "no DMARC record, here or above", fix(domain,
			"Publish this record: it refuses nothing and has reports sent. Tighten p= to quarantine and reject when they show that all your mail passes."))
	case len(v.texts) > 1:
		c.problem(Fail, DNSHost, fmt.Sprintf("%d DMARC records at _dmarc.%s, and receivers take neither: %s", len(v.texts), v.at, strings.Join(v.texts, " and ")), Fix{
			Record: textRecord("_dmarc."+v.at, strictest(v.texts)), Text: "Keep this one alone."})
	case v.wrong != nil:
		c.problem(Fail, DNSHost, v.texts[0]+": "+v.wrong.Error(), fix(v.at, "Correct the record, or publish this one in its place."))
	default:
		x.judgePolicy(ctx, c, domain, v)
	}
}

// strictest is the readable record with the strictest policy: the owner once
// meant it.
func strictest(texts []string) string {
	order := []string{"none", "quarantine", "reject"}
	best, rank := texts[0], -1
	for _, text := range texts {
		if r, err := parseDMARC(text); err == nil && slices.Index(order, r.Policy) > rank {
			best, rank = text, slices.Index(order, r.Policy)
		}
	}
	return best
}

func (x *exam) judgePolicy(ctx context.Context, c *Check, domain string, v policyView) {
	r := v.record
	c.Status, c.Seen = Pass, fmt.Sprintf("%s: the policy for %s is %s", v.texts[0], domain, v.applies)
	if v.at != domain {
		c.Seen += ", by the record of " + v.at
	}
	gone, record, err := x.reportGaps(ctx, v)
	switch {
	case len(gone) > 0:
		c.problem(Warn, DNSHost, c.Seen+"; "+strings.Join(gone, "; "), Fix{Record: record,
			Text: "Have whoever receives the reports publish this record, or name an address in " + v.at + "."})
		if record == "" {
			c.Fix.Text = "Correct the addresses for reports (rua=mailto:ADDRESS)."
		}
	case err != nil:
		c.Status = Unknown
		c.Seen += "; whether reports may go out is not known: " + err.Error()
	case r.Testing:
		c.problem(Warn, DNSHost, c.Seen+"; t=y: it is a test, receivers go one step milder", Fix{Text: "Remove t=y from the record when the reports show that all your mail passes."})
	case v.applies == "none" && len(r.Reports) == 0:
		c.problem(Warn, DNSHost, c.Seen+"; nothing is refused and nobody is told", Fix{
			Record: textRecord("_dmarc."+v.at, x.dmarcWanted(ctx, v.at)), Text: "Have reports sent (rua=mailto:ADDRESS), and tighten p= when they show that all your mail passes."})
	default:
		if v.applies == "none" {
			c.Seen += " (receivers only watch)"
		}
		if len(r.Remarks) > 0 {
			c.Seen += "; " + strings.Join(r.Remarks, "; ")
		}
	}
}

// maxReports bounds how many addresses for reports are looked at.
const maxReports = 5

// reportGaps looks whether reports may go where the record sends them: to
// another organization only with its permission (RFC 9990 4).
func (x *exam) reportGaps(ctx context.Context, v policyView) (gone []string, record string, err error) {
	for i, uri := range v.record.Reports {
		if i == maxReports {
			break
		}
		to, e := reportDomain(uri)
		if e != nil {
			gone = append(gone, e.Error())
			continue
		}
		ours, e1 := x.organization(ctx, v.at)
		theirs, e2 := x.organization(ctx, to)
		if e := errors.Join(e1, e2); e != nil {
			err = e
			continue
		}
		if ours == theirs {
			continue
		}
		name := v.at + "._report._dmarc." + to
		a := x.look(ctx, name, wire.TypeTXT)
		switch {
		case a.err != nil:
			err = a.err
		case !slices.ContainsFunc(a.texts(), isDMARC):
			gone = append(gone, fmt.Sprintf("%s has not allowed reports about %s, so none are sent there", to, v.at))
			record = textRecord(name, "v=DMARC1")
		}
	}
	return gone, record, err
}

// dmarcAlignment asks by which ways mail From a domain passes DMARC when its
// return path is in the domain too.
func dmarcAlignment(ctx context.Context, x *exam) []Check {
	return sideBySide(x.domains(), func(domain string) []Check {
		c := Check{ID: "dmarc.alignment", Subject: domain, Why: whyAligned,
			Asked: "whether a return path in " + domain + " passes SPF from here, and which key counts for it"}
		x.judgeAligned(ctx, &c, domain)
		return []Check{c}
	})
}

func (x *exam) judgeAligned(ctx context.Context, c *Check, domain string) {
	v := x.policy(ctx, domain)
	switch {
	case v.err != nil:
		c.Status, c.Seen = Unknown, v.err.Error()
		return
	case v.record == nil:
		c.Status, c.Seen = Skip, "there is no DMARC record that holds (dmarc.record)"
		return
	}
	signed, signErr := x.signs(ctx, domain, v.record.StrictDKIM)
	named, spfErr := x.spfPasses(ctx, domain)
	fix := Fix{Text: fmt.Sprintf("Let the SPF record of %s name this machine (spf.pass), keep return paths in that domain, and sign with d=%s (dkim.alignment).", domain, domain)}
	switch {
	case signed && named:
		c.Status, c.Seen = Pass, "by SPF (return paths in "+domain+") and by DKIM"
	case signed && x.routed():
		c.Status, c.Seen = Pass, "by DKIM; what SPF says of the router is not known here"
	case x.routed():
		c.Status, c.Seen = Skip, "a router takes all mail: SPF must name it, and it may sign"
	case signErr != nil || spfErr != nil:
		c.Status, c.Seen = Unknown, errors.Join(signErr, spfErr).Error()
	case named:
		c.problem(Warn, You, "by SPF alone: mail with a return path elsewhere, and mail that is forwarded, fails", fix)
	case signed:
		c.problem(Warn, DNSHost, "by DKIM alone: the SPF record does not let this machine send", fix)
	default:
		c.problem(Fail, You, "neither by SPF nor by DKIM; the policy for such mail is "+v.applies, fix)
	}
}

// signs reports a key that counts for the domain under the record.
func (x *exam) signs(ctx context.Context, domain string, strict bool) (bool, error) {
	exact, related, err := x.keysFor(ctx, domain)
	if len(exact) > 0 || len(related) > 0 && !strict {
		return true, nil
	}
	return false, err
}

// spfPasses reports that mail of the domain passes SPF from every visible
// address.
func (x *exam) spfPasses(ctx context.Context, domain string) (bool, error) {
	if x.routed() {
		return false, nil
	}
	known, _ := x.visitors(ctx)
	if len(known) == 0 {
		return false, errors.New("nobody could tell the visible address (address.public)")
	}
	for _, w := range known {
		result, err := x.evaluate(ctx, w.addr, w.hosts[0], domain)
		if result == evaluator.TempError {
			return false, fmt.Errorf("SPF of %s: %w", domain, err)
		}
		if result != evaluator.Pass {
			return false, nil
		}
	}
	return true, nil
}
