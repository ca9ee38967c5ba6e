package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// MaxReport bounds a report before compression, in octets; what the bounds of
// counting let through is less.
const MaxReport = 2 << 20

// The report, as RFC 8460 4.4 writes it.
type report struct {
	Organization string   `json:"organization-name"`
	Range        span     `json:"date-range"`
	Contact      string   `json:"contact-info"`
	ID           string   `json:"report-id"`
	Policies     []policy `json:"policies"`
}

type span struct {
	Start string `json:"start-datetime"`
	End   string `json:"end-datetime"`
}

type policy struct {
	Policy  applied   `json:"policy"`
	Summary summary   `json:"summary"`
	Details []failure `json:"failure-details,omitempty"`
}

type applied struct {
	Type   string   `json:"policy-type"`
	String []string `json:"policy-string,omitempty"`
	Domain string   `json:"policy-domain"`
	MXHost []string `json:"mx-host,omitempty"`
}

type summary struct {
	Success uint64 `json:"total-successful-session-count"`
	Failure uint64 `json:"total-failure-session-count"`
}

type failure struct {
	Result string     `json:"result-type"`
	From   netip.Addr `json:"sending-mta-ip,omitzero"`
	Host   string     `json:"receiving-mx-hostname,omitempty"`
	Helo   string     `json:"receiving-mx-helo,omitempty"`
	IP     netip.Addr `json:"receiving-ip,omitzero"`
	Count  uint64     `json:"failed-session-count"`
	Reason string     `json:"failure-reason-code,omitempty"`
}

// made is a report, ready to be sent.
type made struct {
	domain    string
	day       int64
	id        string
	submitter string
	success   uint64
	failure   uint64
	packed    []byte // the JSON text, compressed (RFC 8460 5.2)
}

// build makes the report of a domain on a day.
func (r *Reports) build(j *job, s *Settings, counted []notedPolicy) (*made, error) {
	m := &made{domain: j.domain, day: j.day, id: j.state.ID, submitter: s.submitter()}
	begin := startOf(j.day)
	text := report{
		Organization: s.Organization, Contact: s.Contact, ID: m.id,
		Range: span{begin.Format(time.RFC3339), begin.Add(24*time.Hour - time.Second).Format(time.RFC3339)},
	}
	for i := range counted {
		n := &counted[i]
		m.success += n.Success
		m.failure += n.Failure
		text.Policies = append(text.Policies, r.describe(n, j.domain))
	}
	var plain bytes.Buffer
	enc := json.NewEncoder(&plain)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(&text); err != nil {
		return nil, err
	}
	if plain.Len() > MaxReport {
		return nil, fmt.Errorf("the report has %d octets, more than %d", plain.Len(), MaxReport)
	}
	var err error
	m.packed, err = pack(plain.Bytes())
	return m, err
}

// describe puts the counts of one policy into the words of the report.
func (r *Reports) describe(n *notedPolicy, domain string) policy {
	if n.Domain != "" {
		domain = n.Domain
	}
	p := policy{
		Policy:  applied{Type: n.Type, String: n.Lines, Domain: domain, MXHost: n.Hosts},
		Summary: summary{n.Success, n.Failure},
	}
	for i := range n.Details {
		d := &n.Details[i]
		p.Details = append(p.Details, failure{
			Result: d.Result, From: r.seenAs(d.From), Host: d.Host, Helo: d.Helo, IP: d.IP.Unmap(), Count: d.Count, Reason: d.Reason,
		})
	}
	return p
}

// seenAs is the address that receivers see a session of ours from.
func (r *Reports) seenAs(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if r.opts.Seen != nil && a.IsValid() {
		return r.opts.Seen(a)
	}
	return a
}

// pack compresses; the same text gives the same octets.
func pack(plain []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(plain); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// filename names the report's file (RFC 8460 5.1).
func (m *made) filename() string {
	begin := startOf(m.day).Unix()
	left, _, _ := strings.Cut(m.id, "@")
	unique := left[strings.LastIndexByte(left, '.')+1:]
	return fmt.Sprintf("%s!%s!%d!%d!%s.json.gz", m.submitter, m.domain, begin, begin+86400-1, unique)
}
