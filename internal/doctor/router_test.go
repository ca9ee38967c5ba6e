package doctor

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// fakeRouter answers sessions over pipes.
type fakeRouter struct {
	cert    *tls.Certificate // nil: no STARTTLS
	auth    string           // mechanisms; empty: none
	replies map[string]string
	implied bool // TLS from the first octet

	mu    sync.Mutex
	heard []string // verbs
	names []string // of EHLO
}

func (r *fakeRouter) dial(_ context.Context, _ netip.Addr, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	go r.serve(there)
	return here, nil
}

func (r *fakeRouter) serve(conn net.Conn) {
	defer conn.Close()
	secure := false
	if r.implied {
		conn, secure = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*r.cert}}), true
	}
	in := bufio.NewReader(conn)
	say := func(s string) { fmt.Fprint(conn, s+"\r\n") }
	say(r.reply("banner", "220 smart.example ready"))
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		verb, arg, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		r.note(verb, arg)
		switch verb {
		case "EHLO":
			offer := "250-smart.example"
			if r.cert != nil && !secure {
				offer += "\r\n250-STARTTLS"
			}
			if r.auth != "" {
				offer += "\r\n250-AUTH " + r.auth
			}
			say(r.reply(verb, offer+"\r\n250 SIZE 1000"))
		case "STARTTLS":
			answer := r.reply(verb, "220 go")
			say(answer)
			if answer == "220 go" {
				conn, secure = tls.Server(conn, &tls.Config{Certificates: []tls.Certificate{*r.cert}}), true
				in = bufio.NewReader(conn)
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			if r.replies[verb] == "silence" {
				continue
			}
			say(r.reply(verb, "500 what"))
		}
	}
}

func (r *fakeRouter) reply(verb, usual string) string {
	if s := r.replies[verb]; s != "" {
		return s
	}
	return usual
}

func (r *fakeRouter) note(verb, arg string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = append(r.heard, verb)
	if verb == "EHLO" {
		r.names = append(r.names, arg)
	}
}

// pki is an authority with a router's certificate, and the file of its root.
func pki(t *testing.T) (cert *tls.Certificate, roots string) {
	t.Helper()
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	if cert, err = ca.Certificate(true, "smart.example"); err != nil {
		t.Fatal(err)
	}
	roots = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(roots, ca.PEM(), 0o600); err != nil {
		t.Fatal(err)
	}
	return cert, roots
}

// examineRouter makes one check of the router that smart.example is.
func examineRouter(t *testing.T, r *fakeRouter, change func(*Identity), id string, want Status, seen string) Check {
	t.Helper()
	w := newWorld(t, "smart.example. 60 A 203.0.113.25")
	w.dial = r.dial
	of := goodIdentity()
	of.Router = Router{Host: "smart.example", Port: 25, Use: "always"}
	if change != nil {
		change(&of)
	}
	report := Examine(t.Context(), of, w.world(), Options{Only: []string{id}})
	c := find(t, report, id, "")
	if c.Status != want || !strings.Contains(c.Seen, seen) {
		t.Errorf("%s: %s, want %s with %q", c.Status, c.Seen, want, seen)
	}
	if (c.Status == Fail || c.Status == Warn) != (c.Fix != nil && c.Fix.Text != "" && c.Who != "") {
		t.Errorf("fix: %+v", c)
	}
	for _, verb := range r.heard {
		if !slices.Contains([]string{"EHLO", "HELO", "STARTTLS", "AUTH", "QUIT"}, verb) {
			t.Errorf("the router heard %s", verb)
		}
	}
	return c
}

func TestCheck_router(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*Identity)
		want   string
	}{
		"pass direct": {func(id *Identity) { id.Router = Router{} }, "no router is set: mail is delivered directly to the mail servers of each recipient's domain"},
		"pass all":    {func(id *Identity) { id.Router.Line = 7 }, "all mail goes to the router smart.example:25 (line 7), which delivers it: receivers see the router's name and address"},
		"pass some":   {func(id *Identity) { id.Router.Use = "unresolved" }, "mail is delivered directly; only what is for domains whose mail servers cannot be found in DNS goes to the router smart.example:25"},
		"pass last":   {func(id *Identity) { id.Router.Use = "fallback" }, "mail is delivered directly, and goes to the router smart.example:25 when that fails"},
		"pass routes": {func(id *Identity) {
			id.Router = Router{}
			id.Routes = []Route{{Domains: []string{"a.example", "*.b.example"}, Host: "10.1.2.3", Port: 2525, Line: 3},
				{Domains: []string{"1.example", "2.example", "3.example", "4.example", "5.example", "6.example", "7.example"}, Port: 25}}
		}, "each recipient's domain; mail for a.example, *.b.example goes to 10.1.2.3:2525 (line 3); mail for 1.example, 2.example, 3.example, 4.example, 5.example, 2 more goes directly"},
		"pass conditions": {func(id *Identity) {
			id.Router = Router{}
			id.Routes = []Route{{Of: "of tags urgent", Host: "10.1.2.3", Port: 25}, {Domains: []string{"a.example"}, Way: "is held", Line: 9}}
		}, "; mail of tags urgent goes to 10.1.2.3:25; mail for a.example is held (line 9)"},
		"pass many": {func(id *Identity) { id.Router, id.Routes = Router{}, make([]Route, 25) }, "; mail goes directly; and 5 more [[route]]"},
	} {
		t.Run(name, func(t *testing.T) { examineRouter(t, &fakeRouter{}, c.change, "router", Pass, c.want) })
	}
}

// TestCheck_router_offline: what the configuration says needs no network.
func TestCheck_router_offline(t *testing.T) {
	t.Parallel()
	r := Examine(t.Context(), goodIdentity(), newWorld(t).world(), Options{Only: []string{"router"}, Offline: true})
	if find(t, r, "router", "").Status != Pass || find(t, r, "router.tls", "").Status != Skip {
		t.Errorf("%+v", r.Checks)
	}
}

func TestCheck_router_name(t *testing.T) {
	t.Parallel()
	const id = "router.name"
	host := func(name string) func(*Identity) { return func(id *Identity) { id.Router.Host = name } }
	t.Run("pass", func(t *testing.T) {
		examineRouter(t, &fakeRouter{}, nil, id, Pass, "203.0.113.25 (from DNS)")
	})
	t.Run("pass address", func(t *testing.T) {
		examineRouter(t, &fakeRouter{}, host("192.0.2.99"), id, Pass, "192.0.2.99 (from the configuration)")
	})
	t.Run("pass hosts file", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "hosts")
		if err := os.WriteFile(file, []byte("192.0.2.98 inner\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		examineRouter(t, &fakeRouter{}, func(of *Identity) { of.Router.Host, of.HostsFile = "inner", file }, id, Pass, "192.0.2.98 (from "+file+")")
	})
	t.Run("fail", func(t *testing.T) {
		examineRouter(t, &fakeRouter{}, host("gone.example"), id, Fail, "unknown host")
	})
	t.Run("fail other family", func(t *testing.T) {
		examineRouter(t, &fakeRouter{}, func(of *Identity) { of.Router.Host, of.IPv6 = "2001:db8::1", false }, id, Fail, "IPv6 is off")
	})
	t.Run("unknown", func(t *testing.T) {
		examineRouter(t, &fakeRouter{}, func(of *Identity) { of.Servers = []netip.AddrPort{second} }, id, Unknown, "no answer")
	})
	t.Run("skip", func(t *testing.T) { examineRouter(t, &fakeRouter{}, host(""), id, Skip, "no router") })
}

func TestCheck_router_tls(t *testing.T) {
	t.Parallel()
	const id = "router.tls"
	cert, roots := pki(t)
	demand := func(tls mta.TLSRequirement, ca string) func(*Identity) {
		return func(of *Identity) { of.Router.TLS, of.TrustedCA = tls, ca }
	}
	for _, c := range []struct {
		name   string
		router *fakeRouter
		change func(*Identity)
		want   Status
		seen   string
	}{
		{"pass", &fakeRouter{cert: cert}, demand(mta.TLSRequired, roots), Pass, "certificate that fits smart.example"},
		{"pass implicit", &fakeRouter{cert: cert, implied: true}, demand(mta.TLSImplicit, roots), Pass, "certificate that fits"},
		{"pass more than demanded", &fakeRouter{cert: cert}, demand(mta.TLSOpportunistic, roots), Pass, "would work too"},
		{"pass clear", &fakeRouter{}, demand(mta.TLSNone, ""), Pass, "in clear text as configured"},
		{"warn unused", &fakeRouter{cert: cert}, demand(mta.TLSNone, ""), Warn, "leaves it unused"},
		{"warn unverified", &fakeRouter{cert: cert}, demand(mta.TLSOpportunistic, ""), Warn, "might be anybody"},
		{"warn clear", &fakeRouter{}, demand(mta.TLSOpportunistic, ""), Warn, "STARTTLS is not offered"},
		{"warn refused", &fakeRouter{cert: cert, replies: map[string]string{"STARTTLS": "454 4.7.0 no"}}, demand(mta.TLSOpportunistic, roots), Warn, "454 4.7.0 no"},
		{"fail not offered", &fakeRouter{}, demand(mta.TLSRequired, roots), Fail, "demands it"},
		{"fail unverified", &fakeRouter{cert: cert}, demand(mta.TLSRequired, ""), Fail, "certificate"},
		{"fail greeting", &fakeRouter{replies: map[string]string{"banner": "554 5.7.1 go away"}}, nil, Fail, "at banner it answered 554 5.7.1 go away"},
		{"fail name", &fakeRouter{replies: map[string]string{"EHLO": "550 5.7.1 not you", "HELO": "550 5.7.1 not you"}}, demand(mta.TLSNone, ""), Fail, "at ehlo it answered 550 5.7.1 not you"},
		{"fail no SMTP", &fakeRouter{replies: map[string]string{"banner": "SSH-2.0"}}, nil, Fail, "banner"},
		{"unknown roots", &fakeRouter{}, demand(mta.TLSNone, "/nowhere/ca.pem"), Unknown, "ca_file"},
		{"unknown name", &fakeRouter{}, func(of *Identity) { of.Router.Host = "gone.example" }, Unknown, "see router.name"},
		{"skip", &fakeRouter{}, func(of *Identity) { of.Router = Router{} }, Skip, "no router"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			examineRouter(t, c.router, c.change, id, c.want, c.seen)
		})
	}
	t.Run("fail", func(t *testing.T) {
		w := newWorld(t, "smart.example. 60 A 203.0.113.25")
		w.dial = func(_ context.Context, source netip.Addr, network, address string) (net.Conn, error) {
			if source != netip.MustParseAddr("192.0.2.10") || network != "tcp4" || address != "203.0.113.25:25" {
				t.Error(source, network, address)
			}
			return nil, errors.New("connection refused")
		}
		of := goodIdentity()
		of.Router = Router{Host: "smart.example", Port: 25, Use: "always"}
		c := find(t, Examine(t.Context(), of, w.world(), Options{Only: []string{id}}), id, "smart.example:25")
		if c.Status != Fail || c.Seen != "connect to 203.0.113.25:25: connection refused" || c.Who != You {
			t.Errorf("%+v", c)
		}
	})
	t.Run("says its own name", func(t *testing.T) {
		r := &fakeRouter{}
		examineRouter(t, r, func(of *Identity) { of.Sources[0].Hostname = "other.widget.com" }, id, Warn, "")
		if len(r.names) == 0 || r.names[0] != "other.widget.com" {
			t.Error(r.names)
		}
	})
}

func TestCheck_router_auth(t *testing.T) {
	t.Parallel()
	const id = "router.auth"
	cert, roots := pki(t)
	user := func(of *Identity) {
		of.Router.Auth, of.Router.TLS, of.TrustedCA = &mta.Credentials{Username: "widget", Password: "secret"}, mta.TLSRequired, roots
	}
	with := func(own *mta.Certificate, name string) func(*Identity) {
		return func(of *Identity) {
			user(of)
			of.Router.Auth.Username, of.Router.Auth.Certificate = name, own
		}
	}
	said := func(reply string) *fakeRouter {
		return &fakeRouter{cert: cert, auth: "PLAIN", replies: map[string]string{"AUTH": reply}}
	}
	for _, c := range []struct {
		name   string
		router *fakeRouter
		change func(*Identity)
		want   Status
		seen   string
	}{
		{"pass", said("235 2.7.0 ok"), user, Pass, "it knows widget"},
		{"fail", said("535 5.7.8 wrong"), user, Fail, "535 5.7.8 wrong"},
		{"fail without mechanism", &fakeRouter{cert: cert, auth: "GSSAPI"}, user, Fail, "AUTH GSSAPI"},
		{"fail in clear", &fakeRouter{auth: "PLAIN"}, func(of *Identity) { user(of); of.Router.TLS = mta.TLSNone }, Fail, "never sent without verified TLS"},
		{"unknown", said("454 4.7.0 later"), user, Unknown, "454 4.7.0 later"},
		{"unknown session", &fakeRouter{auth: "PLAIN"}, user, Unknown, "see router.tls"},
		{"fail token", &fakeRouter{cert: cert, auth: "XOAUTH2"}, func(of *Identity) {
			user(of)
			of.Router.Auth = &mta.Credentials{Username: "widget", Token: func(context.Context, bool) (string, error) {
				return "", errors.New("the token server says invalid_grant")
			}}
		}, Fail, "invalid_grant"},
		{"fail file", said("235 2.7.0 ok"), func(of *Identity) {
			user(of)
			of.Router.Auth, of.Router.AuthTrouble = nil, &AuthTrouble{Why: "the file is empty", Known: true}
		}, Fail, "the file is empty"},
		{"unknown token", said("235 2.7.0 ok"), func(of *Identity) {
			user(of)
			of.Router.Auth, of.Router.AuthTrouble = nil, &AuthTrouble{Why: "the daemon has it"}
		}, Unknown, "the daemon has it"},
		{"pass certificate", said("235 2.7.0 ok"), with(certificate(t, -time.Hour, 90*24*time.Hour), ""), Pass, "client certificate, which is valid until"},
		{"warn certificate", said("235 2.7.0 ok"), with(certificate(t, -time.Hour, time.Hour), "widget"), Warn, "it knows widget; the client certificate expires"},
		{"fail certificate", said("235 2.7.0 ok"), with(certificate(t, -2*time.Hour, -time.Hour), "widget"), Fail, "has expired"},
		{"fail early certificate", said("235 2.7.0 ok"), with(certificate(t, time.Hour, 2*time.Hour), "widget"), Fail, "not valid before"},
		{"skip", &fakeRouter{auth: "PLAIN"}, nil, Skip, "offers AUTH PLAIN"},
		{"skip without a session", &fakeRouter{replies: map[string]string{"banner": "554 no"}}, nil, Skip, "no user name"},
		{"skip without a router", &fakeRouter{}, func(of *Identity) { of.Router = Router{} }, Skip, "no router"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			found := examineRouter(t, c.router, c.change, id, c.want, c.seen)
			if strings.Contains(fmt.Sprint(found), "secret") {
				t.Errorf("the password is shown: %+v", found)
			}
			if c.name == "fail in clear" && slices.Contains(c.router.heard, "AUTH") {
				t.Error("AUTH in clear text")
			}
		})
	}
}

// certificate makes a client certificate with dates around now.
func certificate(t *testing.T, from, until time.Duration) *mta.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := newWorld(t).now
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(from), NotAfter: now.Add(until)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &mta.Certificate{Chain: [][]byte{der}, Key: key}
}
