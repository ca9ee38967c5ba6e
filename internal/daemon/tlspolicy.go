package daemon

import (
	"cmp"
	"crypto/x509"
	"errors"
	"slices"
	"time"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/dns"
	"mailout/internal/mta"
	"mailout/internal/smtpclient"
	"mailout/internal/tlspolicy"
	"mailout/internal/transport"
)

// What recipient domains demand of TLS: the settings of its parts, and how
// explain tells of it.

func stsSettings(c *config.Config) tlspolicy.Settings {
	s := tlspolicy.Settings{On: c.TLS.STS, Port: c.TLS.STSPort, IPv6: c.Delivery.IPv6, PrivateNetworks: c.Delivery.PrivateNetworks}
	s.Roots, _ = roots(c) // carrierSettings tells what is wrong with them
	return s
}

// newSTS makes what knows the MTA-STS policies; notes are nil without a daemon.
func newSTS(c *config.Config, resolver *dns.Resolver, o tlspolicy.STSOptions) *tlspolicy.STS {
	o.Resolver, o.Settings = resolver, stsSettings(c)
	return tlspolicy.NewSTS(o)
}

func (d *Daemon) meterTLSPolicies() admin.TLSPolicies {
	return admin.TLSPolicies{STS: d.sts.Counts(), DANE: d.planner.DANECounts()}
}

// tls says how much TLS is demanded, of one host or (nil) of the first that is
// tried.
func (e *explainer) tls(r *mta.Route, h *mta.Host, requireTLS bool) admin.ExplainedTLS {
	if h == nil {
		if targets := r.Targets(nil); len(targets) > 0 {
			h = &targets[0].Host
		} else {
			h = &mta.Host{}
		}
	}
	d := transport.Demand(r, h, requireTLS)
	out := admin.ExplainedTLS{Requirement: admin.TLSWord(d.Requirement), Origin: string(d.Origin), Why: d.Why}
	if d.Origin == mta.TLSByOperator || d.Origin == mta.TLSByDefault || d.Origin == "" {
		out.Origin, out.Why = e.tlsOrigin(r), ""
	}
	switch {
	case d.Mismatch:
		out.Testing = "an MTA-STS policy that is being tested does not name the host: mail goes there all the same, and reports tell of it"
	case d.Audit:
		out.Testing = "an MTA-STS policy is being tested: the certificate is looked at for reports, and counts for nothing"
	}
	return out
}

// vouched is a route as mail with REQUIRETLS has it: hosts that nobody vouches for
// get none. With no host left it says what the mail gets.
func vouched(r *mta.Route) (*mta.Route, *mta.Failure) {
	only := *r
	only.Hosts = slices.Clone(r.Hosts)
	var barred *mta.Failure
	left := false
	for i := range only.Hosts {
		h := &only.Hosts[i]
		if h.Failure != nil {
			continue
		}
		if f := transport.Barred(r, h); f != nil {
			h.Addresses, h.Failure, barred = nil, f, f
		} else {
			left = true
		}
	}
	if left {
		return &only, nil
	}
	return &only, cmp.Or(transport.Undecided(r), barred)
}

// policies are what the recipient domain publishes.
func policies(r *mta.Route, now time.Time) []admin.ExplainedPolicy {
	out := []admin.ExplainedPolicy{}
	for i := range r.Policies {
		p := &r.Policies[i]
		one := admin.ExplainedPolicy{Type: p.Type, Domain: p.Domain, ID: p.ID, Mode: p.Mode, Lines: p.Strings, Trouble: p.Trouble, Reason: p.Reason}
		if one.Lines == nil {
			one.Lines = []string{}
		}
		if !p.Fetched.IsZero() {
			one.Age, one.Expires = int64(now.Sub(p.Fetched)/time.Second), mta.FormatTime(p.Expires)
		}
		out = append(out, one)
	}
	return out
}

// unmetPolicies are those that leave mail no host: then they matter most.
func unmetPolicies(failure *mta.Failure, now time.Time) []admin.ExplainedPolicy {
	unmet := new(mta.TLSUnmet)
	errors.As(failure, &unmet)
	return policies(&mta.Route{Policies: unmet.Policies}, now)
}

// demand makes a probe's session keep to what is demanded of a host.
func demand(r *mta.Route, h *mta.Host, requireTLS bool, opt smtpclient.Options) smtpclient.Options {
	d := transport.Demand(r, h, requireTLS)
	opt.TLS = d.Requirement
	if d.DANE != nil {
		opt.Match = func(chain []*x509.Certificate, now time.Time) error { return tlspolicy.Match(d.DANE, chain, now) }
		if len(d.DANE.Names) > 0 {
			opt.ServerName = d.DANE.Names[0] // RFC 7672 8.1
		}
	}
	return opt
}
