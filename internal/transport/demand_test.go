package transport

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// What is demanded of a host against what the host does. Each cell says what
// becomes of the mail; what the receiver saw is held to the promise that nothing
// of a message is ever said in clear text, or to a stranger, where that is
// forbidden.

// records keeps what reports on TLS are made of.
type records struct {
	sync.Mutex
	list []TLSOutcome
}

func (r *records) take(_ *mta.Route, _ *mta.Target, o TLSOutcome) {
	r.Lock()
	defer r.Unlock()
	r.list = append(r.list, o)
}

func (r *records) results() (out []string) {
	r.Lock()
	defer r.Unlock()
	for _, o := range r.list {
		if o.Result == "" {
			out = append(out, "ok")
		} else {
			out = append(out, o.Result)
		}
	}
	return out
}

// tapped keeps what a client writes to a connection, octet for octet.
type tapped struct {
	net.Conn
	tap *tap
}

type tap struct {
	sync.Mutex
	b []byte
}

func (c tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.tap.Lock()
	c.tap.b = append(c.tap.b, p[:n]...)
	c.tap.Unlock()
	return n, err
}

func (t *tap) has(words ...string) bool {
	t.Lock()
	defer t.Unlock()
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(string(t.b), w) })
}

// daneOf demands the certificate itself (3 1 1).
func daneOf(c *tls.Certificate) *mta.DANE {
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return &mta.DANE{Records: []mta.TLSA{{Usage: 3, Selector: 1, Matching: 1, Data: sum[:]}}, Names: []string{"mx1"}, Key: string(sum[:])}
}

// server is one way to behave.
type server struct {
	name string
	cfg  func(c certs) mtatest.MXConfig
}

// certs are those that servers show.
type certs struct{ right, wrong, expired, alone *tls.Certificate }

func showing(pick func(certs) *tls.Certificate) func(certs) mtatest.MXConfig {
	return func(c certs) mtatest.MXConfig { return mtatest.MXConfig{Certificate: pick(c)} }
}

func failing(r ...mtatest.Rule) func(certs) mtatest.MXConfig {
	return func(c certs) mtatest.MXConfig { return mtatest.MXConfig{Certificate: c.right, Rules: r} }
}

var servers = []server{
	{"right", showing(func(c certs) *tls.Certificate { return c.right })},
	{"another name", showing(func(c certs) *tls.Certificate { return c.wrong })},
	{"expired", showing(func(c certs) *tls.Certificate { return c.expired })},
	{"self-signed", showing(func(c certs) *tls.Certificate { return c.alone })},
	{"no STARTTLS", func(certs) mtatest.MXConfig { return mtatest.MXConfig{} }},
	{"454", failing(on(mtatest.StageStartTLS, "454 4.7.0 not now"))},
	{"421", failing(on(mtatest.StageStartTLS, "421 4.7.0 bye"))},
	{"octets first", failing(mtatest.Rule{Stage: mtatest.StageStartTLS, Action: mtatest.Action{Reply: "220 go", After: "250 fine\r\n"}})},
	{"closes", failing(mtatest.Rule{Stage: mtatest.StageHandshake, Action: mtatest.Action{Drop: true}})},
	{"hangs", failing(mtatest.Rule{Stage: mtatest.StageHandshake, Action: mtatest.Action{Hang: true}})},
	{"TLS 1.1", func(c certs) mtatest.MXConfig {
		return mtatest.MXConfig{TLS: &tls.Config{Certificates: []tls.Certificate{*c.right}, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}}
	}},
}

// demanding are the demands: what they are, and by which outcome each server
// ends, in the order of servers. "clear": delivered in clear text; "any": under
// TLS that proves nothing; "pkix" and "dane": verified; else the status of a
// temporary failure, and the result-type that is told.
var demanding = []struct {
	name   string
	demand func(c certs) mta.TLSDemand
	want   [11]string
	told   [11]string
}{
	{"none", only(mta.TLSNone),
		[11]string{"clear", "clear", "clear", "clear", "clear", "clear", "clear", "clear", "clear", "clear", "clear"},
		[11]string{}},
	{"opportunistic", only(mta.TLSOpportunistic),
		[11]string{"any", "any", "any", "any", "clear", "clear", "4.7.0", "4.5.0", "clear", "clear", "clear"},
		[11]string{"ok", "ok", "ok", "ok", "starttls-not-supported", "starttls-not-supported", "", "validation-failure", "validation-failure", "validation-failure", "validation-failure"}},
	{"audited", func(certs) mta.TLSDemand {
		return mta.TLSDemand{Requirement: mta.TLSOpportunistic, Audit: true}
	},
		[11]string{"any", "any", "any", "any", "clear", "clear", "4.7.0", "4.5.0", "clear", "clear", "clear"},
		[11]string{"ok", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted", "starttls-not-supported", "starttls-not-supported", "", "validation-failure", "validation-failure", "validation-failure", "validation-failure"}},
	{"audited, not named", func(certs) mta.TLSDemand {
		return mta.TLSDemand{Requirement: mta.TLSOpportunistic, Audit: true, Mismatch: true}
	},
		[11]string{"any", "any", "any", "any", "clear", "clear", "4.7.0", "4.5.0", "clear", "clear", "clear"},
		[11]string{"validation-failure", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted", "starttls-not-supported", "starttls-not-supported", "", "validation-failure", "validation-failure", "validation-failure", "validation-failure"}},
	{"encrypted", only(mta.TLSEncrypted),
		[11]string{"any", "any", "any", "any", "4.7.4", "4.7.0", "4.7.0", "4.5.0", "4.7.5", "4.7.5", "4.7.5"},
		[11]string{"ok", "ok", "ok", "ok", "starttls-not-supported", "starttls-not-supported", "", "validation-failure", "validation-failure", "validation-failure", "validation-failure"}},
	{"required", only(mta.TLSRequired),
		[11]string{"pkix", "4.7.5", "4.7.5", "4.7.5", "4.7.4", "4.7.0", "4.7.0", "4.5.0", "4.7.5", "4.7.5", "4.7.5"},
		[11]string{"ok", "certificate-host-mismatch", "certificate-expired", "certificate-not-trusted", "starttls-not-supported", "starttls-not-supported", "", "validation-failure", "validation-failure", "validation-failure", "validation-failure"}},
	{"dane, the right one", dane(func(c certs) *tls.Certificate { return c.right }),
		[11]string{"dane", "4.7.5", "4.7.5", "4.7.5", "4.7.4", "4.7.0", "4.7.0", "4.5.0", "4.7.5", "4.7.5", "4.7.5"},
		[11]string{"ok", "tlsa-invalid", "tlsa-invalid", "tlsa-invalid", "starttls-not-supported", "starttls-not-supported", "", "validation-failure", "validation-failure", "validation-failure", "validation-failure"}},
	{"dane, an expired one", dane(func(c certs) *tls.Certificate { return c.expired }),
		[11]string{"4.7.5", "4.7.5", "dane", "4.7.5", "4.7.4", "4.7.0", "4.7.0", "4.5.0", "4.7.5", "4.7.5", "4.7.5"},
		[11]string{"tlsa-invalid", "tlsa-invalid", "ok", "tlsa-invalid", "starttls-not-supported", "starttls-not-supported", "", "validation-failure", "validation-failure", "validation-failure", "validation-failure"}},
	{"dane, a self-signed one", dane(func(c certs) *tls.Certificate { return c.alone }),
		[11]string{"4.7.5", "4.7.5", "4.7.5", "dane", "4.7.4", "4.7.0", "4.7.0", "4.5.0", "4.7.5", "4.7.5", "4.7.5"},
		[11]string{"tlsa-invalid", "tlsa-invalid", "tlsa-invalid", "ok", "starttls-not-supported", "starttls-not-supported", "", "validation-failure", "validation-failure", "validation-failure", "validation-failure"}},
}

func only(r mta.TLSRequirement) func(certs) mta.TLSDemand {
	return func(certs) mta.TLSDemand {
		return mta.TLSDemand{Requirement: r, Origin: mta.TLSBySTS, Why: "the MTA-STS policy of example.net"}
	}
}

func dane(pick func(certs) *tls.Certificate) func(certs) mta.TLSDemand {
	return func(c certs) mta.TLSDemand {
		return mta.TLSDemand{Requirement: mta.TLSDANE, Origin: mta.TLSByDANE, Why: "the TLSA records of _25._tcp.mx1", DANE: daneOf(pick(c))}
	}
}

// certify makes the certificates, inside the bubble whose time they have.
func (w *world) certify() certs {
	w.Helper()
	ours, theirs := authority(w), authority(w)
	w.opt.Settings.RootCAs = ours.Pool()
	of := func(a *mtatest.Authority, valid bool, name string) *tls.Certificate {
		c, err := a.Certificate(valid, name)
		if err != nil {
			w.Fatal(err)
		}
		return c
	}
	return certs{of(ours, true, "mx1"), of(ours, true, "mx7"), of(ours, false, "mx1"), of(theirs, true, "mx1")}
}

func authority(w *world) *mtatest.Authority {
	a, err := mtatest.NewAuthority()
	if err != nil {
		w.Fatal(err)
	}
	return a
}

// tapHost is host whose octets are kept.
func (w *world) tapHost(name string, cfg mtatest.MXConfig, addr string) (*mtatest.MX, *tap) {
	cfg.Hostname = name
	m, seen := mtatest.NewMX(cfg), &tap{}
	w.mx[name] = m
	w.serve(name, func(c net.Conn) { m.ServeConn(tapped{c, seen}) }, addr)
	return m, seen
}

func TestDemands(t *testing.T) {
	t.Parallel()
	for _, d := range demanding {
		for i, s := range servers {
			t.Run(d.name+"/"+s.name, func(t *testing.T) {
				inWorld(t, func(w *world) {
					c := w.certify()
					var told records
					w.opt.Secured, w.lenient = told.take, true
					mx, seen := w.tapHost("mx1", s.cfg(c), "192.0.2.1")
					demand := d.demand(c)
					w.route.Hosts[0].TLS = &demand
					got := w.deliver(w.mail("b@example.net"))[0]
					if was := became(got, mx); was != d.want[i] {
						w.Errorf("became %s, want %s (%s)", was, d.want[i], got.Results[0].Reason)
					}
					if results := strings.Join(told.results(), ","); results != d.told[i] {
						w.Errorf("told %q, want %q", results, d.told[i])
					}
					clear := d.want[i] == "clear"
					if seen.has("MAIL FROM", "example.net", body) != clear {
						w.Errorf("said in clear text: %q", seen.b)
					}
					if demand.Requirement.Insists() && got.TLS.Origin != demand.Origin {
						w.Errorf("the record names %q", got.TLS.Origin)
					}
					if f := got.Results[0]; demand.Requirement.Insists() && f.Class != mta.ClassDelivered && f.Enhanced.Subject == 7 && s.name != "421" && !strings.Contains(f.Reason, "demanded by "+demand.Why) {
						w.Errorf("%q does not say who demands TLS", f.Reason)
					}
				})
			})
		}
	}
}

// became is what became of a message, as demanding says it.
func became(a *mta.Attempt, mx *mtatest.MX) string {
	r := a.Results[0]
	switch {
	case r.Class == mta.ClassTemporary:
		return r.Enhanced.String()
	case r.Class != mta.ClassDelivered:
		return r.Class.String() + " " + r.Enhanced.String()
	case mx.Messages()[0].TLS == nil && a.TLS.Version == "":
		return "clear"
	case mx.Messages()[0].TLS == nil || a.TLS.Version == "":
		return "contradictory"
	case a.TLS.Verified != "":
		return a.TLS.Verified
	}
	return "any"
}

// TestTrap15_MemoryNeverWeakens: that TLS broke at an address lets opportunistic
// mail alone go in clear text there.
func TestTrap15_MemoryNeverWeakens(t *testing.T) {
	inWorld(t, func(w *world) {
		c := w.certify()
		var told records
		w.opt.Secured = told.take
		w.tapHost("mx1", failing(mtatest.Rule{Stage: mtatest.StageHandshake, Action: mtatest.Action{Drop: true}})(c), "192.0.2.1")
		w.route.TLS = mta.TLSOpportunistic
		w.want(w.deliver(w.mail("b@example.net"))[0], "delivered 2.0.0 @mx1; mx1 starttls; mx1 final")
		for _, r := range []mta.TLSRequirement{mta.TLSEncrypted, mta.TLSRequired, mta.TLSDANE} {
			w.route.Hosts[0].TLS = &mta.TLSDemand{Requirement: r, DANE: daneOf(c.right)}
			w.want(w.deliver(w.mail("b@example.net"))[0], "temporary host 4.7.5 @mx1; mx1 starttls")
		}
		w.route.Hosts[0].TLS = nil
		w.want(w.deliver(w.mail("b@example.net"))[0], "delivered 2.0.0 @mx1")
		w.route.Auth = &mta.Credentials{Username: "u", Password: "p"}
		w.want(w.deliver(w.mail("b@example.net"))[0], "temporary host 4.7.5 @mx1; mx1 starttls")
		if got := strings.Join(told.results(), " "); got != strings.TrimSpace(strings.Repeat("validation-failure ", 6)) { // what is remembered is told, too
			w.Error(got)
		}
	})
}

// TestTrap19_DemandIsInTheKey: a session is used again for mail of which the same
// is demanded, and for none other.
func TestTrap19_DemandIsInTheKey(t *testing.T) {
	type change func(w *world, c certs) mta.TLSDemand
	for name, x := range map[string]struct {
		first, second change
		reused        bool
	}{
		"the same of another domain": {policy("a", mta.TLSRequired, nil), policy("b", mta.TLSRequired, nil), true},
		"more":                       {policy("a", mta.TLSOpportunistic, nil), policy("a", mta.TLSEncrypted, nil), false},
		"less":                       {policy("a", mta.TLSRequired, nil), policy("a", mta.TLSOpportunistic, nil), false},
		"records of the same key":    {policy("a", mta.TLSDANE, daneKey("k")), policy("b", mta.TLSDANE, daneKey("k")), true},
		"other records":              {policy("a", mta.TLSDANE, daneKey("k")), policy("b", mta.TLSDANE, daneKey("l")), false},
		"audited": {policy("a", mta.TLSOpportunistic, nil), func(*world, certs) mta.TLSDemand {
			return mta.TLSDemand{Requirement: mta.TLSOpportunistic, Audit: true}
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				c := w.certify()
				w.host("mx1", mtatest.MXConfig{Certificate: c.right}, "192.0.2.1")
				var routes []*mta.Route
				for _, of := range []change{x.first, x.second} {
					demand, route := of(w, c), *w.route
					route.Hosts = slices.Clone(route.Hosts)
					route.Hosts[0].TLS = &demand
					routes = append(routes, &route)
				}
				got := w.carry(context.Background(), context.Background(), job{d: w.mail("b@x"), route: routes[0]}, job{d: w.mail("b@x"), route: routes[1]})
				if got[0].Results[0].Class != mta.ClassDelivered || got[1].Results[0].Class != mta.ClassDelivered || got[1].Reused != x.reused {
					w.Errorf("%s; %s", told(got[0]), told(got[1]))
				}
				if want := origin(routes[1].Hosts[0].TLS); got[1].TLS.Origin != want { // of this mail, not of the session's first
					w.Errorf("origin %q, want %q", got[1].TLS.Origin, want)
				}
			})
		})
	}
}

func policy(by mta.TLSOrigin, r mta.TLSRequirement, d func(c certs) *mta.DANE) func(*world, certs) mta.TLSDemand {
	return func(_ *world, c certs) mta.TLSDemand {
		demand := mta.TLSDemand{Requirement: r, Origin: by, Why: "x"}
		if d != nil {
			demand.DANE = d(c)
		}
		return demand
	}
}

func daneKey(key string) func(certs) *mta.DANE {
	return func(c certs) *mta.DANE {
		d := daneOf(c.right)
		d.Key = key
		return d
	}
}

// TestTLSSessionsResumed: a ticket saves a handshake only where the same was
// demanded, at the same host and address; and never where a certificate must be
// seen again.
func TestTLSSessionsResumed(t *testing.T) {
	type visit struct {
		demand mta.TLSDemand
		addr   string
	}
	plain := func(r mta.TLSRequirement) visit { return visit{mta.TLSDemand{Requirement: r}, "192.0.2.1"} }
	for name, x := range map[string]struct {
		first, second visit
		resumed       bool
	}{
		"opportunistic":               {plain(mta.TLSOpportunistic), plain(mta.TLSOpportunistic), true},
		"required":                    {plain(mta.TLSRequired), plain(mta.TLSRequired), true},
		"encrypted":                   {plain(mta.TLSEncrypted), plain(mta.TLSEncrypted), true},
		"required after any":          {plain(mta.TLSOpportunistic), plain(mta.TLSRequired), false},
		"any after required":          {plain(mta.TLSRequired), plain(mta.TLSOpportunistic), false},
		"dane":                        {plain(mta.TLSDANE), plain(mta.TLSDANE), false},
		"dane after required":         {plain(mta.TLSRequired), plain(mta.TLSDANE), false},
		"required after dane":         {plain(mta.TLSDANE), plain(mta.TLSRequired), false},
		"audited":                     {visit{mta.TLSDemand{Audit: true}, "192.0.2.1"}, visit{mta.TLSDemand{Audit: true}, "192.0.2.1"}, false},
		"audited after opportunistic": {plain(mta.TLSOpportunistic), visit{mta.TLSDemand{Audit: true}, "192.0.2.1"}, false},
		"another address":             {plain(mta.TLSRequired), visit{mta.TLSDemand{Requirement: mta.TLSRequired}, "192.0.2.2"}, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(fmt.Sprintf("%s, %s", name, tls.VersionName(version)), func(t *testing.T) {
				inWorld(t, func(w *world) {
					c := w.certify()
					m := w.host("mx1", mtatest.MXConfig{TLS: &tls.Config{Certificates: []tls.Certificate{*c.right}, MaxVersion: version}}, "192.0.2.1")
					w.net.Handle(netip.MustParseAddrPort("192.0.2.2:25"), m.ServeConn)
					host := w.route.Hosts[0]
					for _, v := range []visit{x.first, x.second} {
						d := v.demand
						if d.Requirement == mta.TLSDANE {
							d.DANE = daneOf(c.right)
						}
						host.TLS, host.Addresses = &d, []netip.Addr{netip.MustParseAddr(v.addr)}
						w.route.Hosts = []mta.Host{host}
						if got := w.deliver(w.mail("b@example.net"))[0]; got.Results[0].Class != mta.ClassDelivered {
							w.Fatal(told(got))
						}
					}
					messages := m.Messages()
					if messages[0].TLS.DidResume || messages[1].TLS.DidResume != x.resumed {
						w.Errorf("resumed %v %v", messages[0].TLS.DidResume, messages[1].TLS.DidResume)
					}
				})
			})
		}
	}
}
