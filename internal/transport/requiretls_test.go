package transport

import (
	"crypto/tls"
	"net"
	"slices"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// hosting adds hosts with a certificate for their own name, and the extension.
func (w *world) hosting(name, addr string, with bool, r ...mtatest.Rule) (*mtatest.MX, *tls.Certificate) {
	w.Helper()
	a := authority(w)
	if w.opt.Settings.RootCAs == nil {
		w.opt.Settings.RootCAs = a.Pool()
	} else {
		w.opt.Settings.RootCAs.AppendCertsFromPEM(a.PEM())
	}
	cert, err := a.Certificate(true, name)
	if err != nil {
		w.Fatal(err)
	}
	cfg := mtatest.MXConfig{Certificate: cert, Rules: r}
	if with {
		cfg.With = []string{"REQUIRETLS"}
	}
	return w.host(name, cfg, addr), cert
}

// TestREQUIRETLS: a message goes with REQUIRETLS, over verified TLS, to a host
// that somebody vouches for, or not at all (RFC 8689 2, 4.2.1). It bounces where
// that is known to be impossible, and waits where it may pass.
func TestREQUIRETLS(t *testing.T) {
	drop := mtatest.Rule{Stage: mtatest.StageHandshake, Action: mtatest.Action{Drop: true}}
	const vouched = "neither signed DNS nor an MTA-STS policy"
	for name, c := range map[string]struct {
		set    func(w *world)
		want   string
		reason string
	}{
		"offered": {func(w *world) { w.hosting("mx1", "192.0.2.1", true) }, "delivered 2.0.0 @mx1", ""},
		"by a record": {func(w *world) {
			_, cert := w.hosting("mx1", "192.0.2.1", true)
			w.opt.Settings.RootCAs = authority(w).Pool()
			w.route.Hosts[0].TLS = &mta.TLSDemand{Requirement: mta.TLSDANE, DANE: daneOf(cert), Authentic: true}
		}, "delivered 2.0.0 @mx1", ""},
		"not offered":                 {func(w *world) { w.hosting("mx1", "192.0.2.1", false) }, "permanent host 5.7.30 @mx1; mx1 mail", "REQUIRETLS, which is not offered"},
		"offered by the second alone": {func(w *world) { w.hosting("mx1", "192.0.2.1", false); w.hosting("mx2", "192.0.2.2", true) }, "delivered 2.0.0 @mx2; mx1 mail; mx2 final", ""},
		"the second is away": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", false)
			w.serve("mx2", func(c net.Conn) { c.Close() }, "192.0.2.2")
		}, "temporary host 4.4.2 @mx2; mx1 mail; mx2 banner", ""},
		"no STARTTLS": {func(w *world) { w.host("mx1", mtatest.MXConfig{With: []string{"REQUIRETLS"}}, "192.0.2.1") }, "permanent host 5.7.10 @mx1; mx1 starttls", "STARTTLS is not offered"},
		"no STARTTLS, where records promise it": {func(w *world) {
			_, cert := w.hosting("mx7", "192.0.2.7", true)
			w.route.Hosts = nil
			w.host("mx1", mtatest.MXConfig{With: []string{"REQUIRETLS"}}, "192.0.2.1")
			w.route.Hosts[0].TLS = &mta.TLSDemand{Requirement: mta.TLSDANE, DANE: daneOf(cert), Authentic: true}
			w.route.Policies = []mta.TLSPolicy{{Type: "tlsa", Domain: "mx1"}}
		}, "temporary host 4.7.4 @mx1; mx1 starttls", ""},
		"no STARTTLS, where a policy promises it": {func(w *world) {
			w.host("mx1", mtatest.MXConfig{With: []string{"REQUIRETLS"}}, "192.0.2.1")
			w.route.Policies = []mta.TLSPolicy{{Type: "sts", Mode: "enforce"}}
		}, "temporary host 4.7.4 @mx1; mx1 starttls", ""},
		"no STARTTLS, and none is promised": {func(w *world) {
			w.host("mx1", mtatest.MXConfig{With: []string{"REQUIRETLS"}}, "192.0.2.1")
			w.route.Policies = []mta.TLSPolicy{{Type: "sts", Mode: "testing"}, {Type: "no-policy-found"}}
		}, "permanent host 5.7.10 @mx1; mx1 starttls", ""},
		"STARTTLS refused": {func(w *world) { w.hosting("mx1", "192.0.2.1", true, on(mtatest.StageStartTLS, "454 4.7.0 no")) }, "temporary host 4.7.0 @mx1; mx1 starttls", "the message asks for REQUIRETLS"},
		"broken handshake": {func(w *world) { w.hosting("mx1", "192.0.2.1", true, drop) }, "temporary host 4.7.5 @mx1; mx1 starttls", "the message asks for REQUIRETLS"},
		"not verified": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", true)
			w.opt.Settings.RootCAs = authority(w).Pool()
		}, "temporary host 4.7.5 @mx1; mx1 starttls", "nobody who is trusted"},
		"EHLO refused": {func(w *world) { w.hosting("mx1", "192.0.2.1", true, on(mtatest.StageHelo, "502 what")) }, "permanent host 5.7.10 @mx1; mx1 starttls", ""},
		"nobody vouches for the host": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", true)
			w.route.Secure = false
		}, "permanent host 5.7.30 @mx1; mx1 route", vouched},
		"a policy vouches for the second": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", true)
			w.hosting("mx2", "192.0.2.2", true)
			w.route.Secure = false
			w.route.Hosts[1].TLS = &mta.TLSDemand{Requirement: mta.TLSRequired, Authentic: true}
		}, "delivered 2.0.0 @mx2; mx1 route; mx2 final", ""},
		"nobody knows who vouches: no DNSSEC here": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", true)
			w.route.Secure = false
			w.route.Unsigned = "no server here checks signatures"
		}, "temporary host 4.7.0 @mx1; mx1 route", "no server here checks signatures"},
		"nobody knows who vouches: no policy": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", true)
			w.route.Secure = false
			w.route.Policies = []mta.TLSPolicy{{Type: "sts", Trouble: "sts-policy-fetch-error", Reason: "the policy cannot be fetched"}}
		}, "temporary host 4.7.0 @mx1; mx1 route", "the policy cannot be fetched"},
		"a router needs nobody": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", true)
			w.route.Secure, w.route.Router = false, "mx1"
		}, "delivered 2.0.0 @mx1", ""},
		"a router that cannot": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", false)
			w.route.Router = "mx1"
		}, "permanent host 5.7.30 @mx1; mx1 mail", "REQUIRETLS, which is not offered"},
		"a router that stands in, and cannot": {func(w *world) {
			w.hosting("mx1", "192.0.2.1", false)
			w.route.Router, w.route.Instead = "mx1", "mx.example.net"
		}, "temporary host 4.7.0 @mx1; mx1 mail", "REQUIRETLS, which is not offered"},
		"a router that stands in, without STARTTLS": {func(w *world) {
			w.host("mx1", mtatest.MXConfig{}, "192.0.2.1")
			w.route.Router, w.route.Instead = "mx1", "mx.example.net"
		}, "temporary host 4.7.0 @mx1; mx1 starttls", "STARTTLS is not offered"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.route.Secure, w.route.TLS = true, mta.TLSOpportunistic
				c.set(w)
				d := w.mail("b@example.net")
				d.Message.Envelope.RequireTLS = true
				got := w.deliver(d)[0]
				w.want(got, c.want)
				if !strings.Contains(got.Results[0].Reason, c.reason) {
					w.Errorf("%q", got.Results[0].Reason)
				}
				taken := 0
				for _, m := range w.mx {
					for _, msg := range m.Messages() {
						taken++
						if msg.TLS == nil || !slices.Contains(strings.Fields(msg.Params), "REQUIRETLS") || got.TLS.Verified == "" {
							w.Errorf("%s had it with %q, verified by %q", m.Hostname(), msg.Params, got.TLS.Verified)
						}
					}
				}
				if delivered := got.Results[0].Class == mta.ClassDelivered; delivered != (taken == 1) {
					w.Errorf("%d taken", taken)
				}
			})
		})
	}
}

// TestREQUIRETLSOnAnOpenSession: a session that less was demanded of carries no
// message with REQUIRETLS, and one that is good enough does.
func TestREQUIRETLSOnAnOpenSession(t *testing.T) {
	for name, c := range map[string]struct {
		demand mta.TLSRequirement
		secure bool
		want   string
	}{
		"verified":                    {mta.TLSRequired, true, "delivered 2.0.0 @mx1 reused"},
		"not verified":                {mta.TLSOpportunistic, true, "delivered 2.0.0 @mx1"},
		"verified, nobody vouches":    {mta.TLSRequired, false, "permanent host 5.7.30 @mx1; mx1 route"},
		"not verified, nobody either": {mta.TLSOpportunistic, false, "permanent host 5.7.30 @mx1; mx1 route"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.hosting("mx1", "192.0.2.1", true)
				w.route.TLS, w.route.Secure = c.demand, c.secure
				first, second := w.mail("a@example.net"), w.mail("b@example.net")
				second.Message.Envelope.RequireTLS = true
				got := w.deliver(first, second)
				w.want(got[0], "delivered 2.0.0 @mx1")
				w.want(got[1], c.want)
				w.lenient = true
			})
		})
	}
}

// TestHostsOutsideThePolicyAreTold: a host that a policy forbids gets no session;
// the next is asked, and reports know of it, once an attempt and no more than an
// attempt would have come by.
func TestHostsOutsideThePolicyAreTold(t *testing.T) {
	forbidden := mta.Host{Name: "evil", Failure: &mta.Failure{Stage: mta.StageRoute, Cause: mta.CauseTLSPolicy, Text: "the MTA-STS policy of example.net does not name it"}}
	for name, c := range map[string]struct {
		at   uint16 // the forbidden host's preference
		down bool
		want string
		told string
	}{
		"before":             {5, false, "delivered 2.0.0 @mx1", "validation-failure ok"},
		"behind":             {50, false, "delivered 2.0.0 @mx1", "ok"},
		"before, other down": {5, true, "temporary host 4.7.0 @mx1; mx1 banner", "validation-failure"},
		"behind, other down": {50, true, "temporary host 4.7.0 @mx1; mx1 banner", "validation-failure"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var seen records
				w.opt.Secured = seen.take
				w.hosting("mx1", "192.0.2.1", false)
				if c.down {
					w.route.Hosts = nil
					w.serve("mx1", func(c net.Conn) { c.Close() }, "192.0.2.1")
				}
				w.route.TLS, w.route.Hosts[0].Preference = mta.TLSRequired, 10
				w.route.Policies = []mta.TLSPolicy{{Type: "sts", Domain: "example.net", Strings: []string{"version: STSv1"}}}
				out := forbidden
				if out.Preference = c.at; c.at < 10 {
					w.route.Hosts = slices.Insert(w.route.Hosts, 0, out)
				} else {
					w.route.Hosts = append(w.route.Hosts, out)
				}
				w.want(w.deliver(w.mail("b@example.net"))[0], c.want)
				if got := strings.Join(seen.results(), " "); got != c.told {
					w.Errorf("told %s, want %s", got, c.told)
				}
			})
		})
	}
	t.Run("no host is left", func(t *testing.T) {
		inWorld(t, func(w *world) {
			w.route.Hosts = []mta.Host{forbidden}
			a := w.deliver(w.mail("b@example.net"))[0]
			w.want(a, "temporary host 4.7.0 @")
			if !strings.Contains(a.Results[0].Reason, forbidden.Failure.Text) {
				w.Error(a.Results[0].Reason)
			}
		})
	})
}

// TestOutcomesAreOfRecipientsHosts: a report has the host's own words for itself
// and our address, and says nothing of routers, of sockets, or of sessions that
// never came to TLS.
func TestOutcomesAreOfRecipientsHosts(t *testing.T) {
	inWorld(t, func(w *world) {
		var seen records
		w.opt.Secured = seen.take
		w.hosting("mx1", "192.0.2.1", false)
		w.route.TLS = mta.TLSRequired
		w.route.Router = "mx1"
		w.want(w.deliver(w.mail("b@example.net"))[0], "delivered 2.0.0 @mx1")
		w.route.Router = ""
		w.mx["mx1"].SetRules(on(mtatest.StageConnect, "554 no"))
		w.want(w.deliver(w.mail("b@example.net"))[0], "permanent host 5.3.2 @mx1; mx1 banner")
		if len(seen.list) != 0 {
			w.Errorf("%+v", seen.list)
		}
		w.mx["mx1"].SetRules()
		w.deliver(w.mail("b@example.net"), w.mail("c@example.net")) // one session
		if len(seen.list) != 1 || seen.list[0].Helo != "mx1" || !seen.list[0].Local.IsValid() || seen.list[0].Demand.Requirement != mta.TLSRequired {
			w.Errorf("%+v", seen.list)
		}
		// The handshake was made, and what came after it is another matter.
		w.mx["mx1"].SetRules(mtatest.Rule{Stage: mtatest.StageHelo, Skip: 1, Action: mtatest.Action{Reply: "451 later"}})
		w.deliver(w.mail("b@example.net"))
		if len(seen.list) != 2 || seen.list[1].Result != "" {
			w.Errorf("%+v", seen.list)
		}
	})
}

// TestSNI: a server is told the TLSA base domain with DANE, and its name
// otherwise (RFC 7672 8.1); no protocol is negotiated.
func TestSNI(t *testing.T) {
	for name, c := range map[string]struct {
		names []string
		dane  bool
		want  string
	}{
		"by name":      {nil, false, "mx1"},
		"base domain":  {[]string{"base.example", "mx1"}, true, "base.example"},
		"without base": {nil, true, "mx1"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				var hello *tls.ClientHelloInfo
				certs := w.certify()
				w.host("mx1", mtatest.MXConfig{TLS: &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
					hello = h
					return certs.right, nil
				}}}, "192.0.2.1")
				demand := mta.TLSDemand{Requirement: mta.TLSRequired}
				if c.dane {
					demand.Requirement, demand.DANE = mta.TLSDANE, daneOf(certs.right)
					demand.DANE.Names = c.names
				}
				w.route.Hosts[0].TLS = &demand
				w.want(w.deliver(w.mail("b@example.net"))[0], "delivered 2.0.0 @mx1")
				if hello.ServerName != c.want || len(hello.SupportedProtos) != 0 {
					w.Errorf("SNI %q, ALPN %q", hello.ServerName, hello.SupportedProtos)
				}
			})
		})
	}
}

// TestMinTLS: what is older than the least version is not spoken, and only
// opportunistic mail goes in clear text instead.
func TestMinTLS(t *testing.T) {
	for name, c := range map[string]struct {
		least, has uint16
		demand     mta.TLSRequirement
		want       string
	}{
		"1.2 of 1.2, by default":      {0, tls.VersionTLS12, mta.TLSRequired, "delivered 2.0.0 @mx1"},
		"less cannot be said":         {tls.VersionTLS10, tls.VersionTLS11, mta.TLSRequired, "temporary host 4.7.5 @mx1; mx1 starttls"},
		"1.2 of 1.3":                  {tls.VersionTLS13, tls.VersionTLS12, mta.TLSRequired, "temporary host 4.7.5 @mx1; mx1 starttls"},
		"1.2 of 1.3, opportunistic":   {tls.VersionTLS13, tls.VersionTLS12, mta.TLSOpportunistic, "delivered 2.0.0 @mx1; mx1 starttls; mx1 final"},
		"1.3 of 1.3":                  {tls.VersionTLS13, tls.VersionTLS13, mta.TLSRequired, "delivered 2.0.0 @mx1"},
		"1.1 by default, opportunist": {0, tls.VersionTLS11, mta.TLSOpportunistic, "delivered 2.0.0 @mx1; mx1 starttls; mx1 final"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				certs := w.certify()
				w.opt.Settings.MinTLS = c.least
				w.host("mx1", mtatest.MXConfig{TLS: &tls.Config{Certificates: []tls.Certificate{*certs.right}, MinVersion: tls.VersionTLS10, MaxVersion: c.has}}, "192.0.2.1")
				w.route.TLS = c.demand
				w.want(w.deliver(w.mail("b@example.net"))[0], c.want)
			})
		})
	}
}
