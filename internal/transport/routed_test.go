package transport

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"strings"
	"testing"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// router makes the world's route that of a router with users; told are the
// facts about it.
func (w *world) router(sasl *mtatest.SASL, rules ...mtatest.Rule) (told *[]string) {
	w.Helper()
	authority, err := mtatest.NewAuthority()
	if err != nil {
		w.Fatal(err)
	}
	cert, err := authority.Certificate(true, "smart.example.org")
	if err != nil {
		w.Fatal(err)
	}
	w.opt.Settings.RootCAs = authority.Pool()
	told = &[]string{}
	w.opt.Routed = func(r *mta.Route, f *mta.Failure) {
		if r.Router != "smart.example.org" {
			w.Errorf("told of %q", r.Router)
		}
		word := "took us"
		if f != nil {
			word = f.Stage.String() + " " + f.Cause.String()
		}
		*told = append(*told, word)
	}
	w.host("smart.example.org", mtatest.MXConfig{Certificate: cert, SASL: sasl, Rules: rules}, "192.0.2.1")
	w.route.Router, w.route.TLS, w.route.Auth = "smart.example.org", mta.TLSRequired, &mta.Credentials{Username: "widget", Password: "right"}
	return told
}

func users(list map[string]string, mechanisms ...string) *mtatest.SASL {
	return &mtatest.SASL{Mechanisms: mechanisms, Password: func(u string) (string, bool) { p, ok := list[u]; return p, ok }}
}

// TestTrap16_Credentials: what routers do with credentials, and what becomes of
// the mail.
func TestTrap16_Credentials(t *testing.T) {
	good := map[string]string{"widget": "right"}
	for name, c := range map[string]struct {
		sasl   *mtatest.SASL
		rules  []mtatest.Rule
		change func(w *world)
		want   string
		told   string
	}{
		"known":          {sasl: users(good, "PLAIN"), want: "delivered 2.0.0 @smart.example.org", told: "took us"},
		"known by scram": {sasl: users(good, "PLAIN", "SCRAM-SHA-256"), want: "delivered 2.0.0 @smart.example.org", told: "took us"},
		"refused":        {sasl: users(map[string]string{}, "LOGIN"), want: "temporary local 5.7.8 @smart.example.org; smart.example.org auth", told: "auth reply"},
		"for a while": {sasl: &mtatest.SASL{Mechanisms: []string{"PLAIN"}, Refuse: func() string { return "454 4.7.0 later" }},
			want: "temporary local 4.7.0 @smart.example.org; smart.example.org auth", told: "auth reply"},
		"no mechanism": {sasl: users(good, "GSSAPI"), want: "temporary local 4.7.4 @smart.example.org; smart.example.org auth", told: "auth need"},
		"no token": {sasl: users(good, "XOAUTH2"), change: func(w *world) {
			w.route.Auth = &mta.Credentials{Username: "widget", Token: func(context.Context, bool) (string, error) { return "", errors.New("invalid_grant") }}
		}, want: "temporary local 4.7.0 @smart.example.org; smart.example.org auth", told: "auth router"},
		"without credentials": {sasl: users(good, "PLAIN"), change: func(w *world) { w.route.Auth = nil },
			want: "temporary local 5.7.0 @smart.example.org; smart.example.org mail", told: "mail reply"},
		"never in clear": {sasl: users(good, "PLAIN"), change: func(w *world) { w.route.TLS = mta.TLSNone }, want: "delivered 2.0.0 @smart.example.org", told: "took us"},
		"never to a stranger": {sasl: users(good, "PLAIN"), change: func(w *world) { w.opt.Settings.RootCAs, w.route.TLS = nil, mta.TLSOpportunistic },
			want: "temporary host 4.7.5 @smart.example.org; smart.example.org starttls", told: "starttls tls"},
		"sender refused": {sasl: users(good, "PLAIN"), rules: []mtatest.Rule{on(mtatest.StageMail, "550 5.7.1 sender not owned by user")},
			want: "permanent message 5.7.1 @smart.example.org; smart.example.org mail", told: "took us"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				told := w.router(c.sasl, c.rules...)
				if c.change != nil {
					c.change(w)
				}
				got := w.deliver(w.mail("b@example.net"))[0]
				w.want(got, c.want)
				if s := strings.Join(*told, ", "); s != c.told {
					w.Errorf("told %q, want %q", s, c.told)
				}
				if strings.Contains(got.Results[0].Reason, "right") {
					w.Errorf("the reason tells the password: %s", got.Results[0].Reason)
				}
			})
		})
	}
}

// TestTrap19_Credentials: a session serves only mail with the same credentials.
func TestTrap19_Credentials(t *testing.T) {
	inWorld(t, func(w *world) {
		told := w.router(users(map[string]string{"widget": "right", "other": "one"}, "PLAIN"))
		other, same := *w.route, *w.route
		other.Auth = &mta.Credentials{Username: "other", Password: "one"}
		got := w.carry(context.Background(), context.Background(), job{d: w.mail("b@x")}, job{d: w.mail("b@x"), route: &same}, job{d: w.mail("b@x"), route: &other})
		if !got[1].Reused || got[2].Reused {
			w.Errorf("reused: %v %v", got[1].Reused, got[2].Reused)
		}
		for i, m := range w.mx["smart.example.org"].Messages() {
			if want := []string{"widget", "widget", "other"}[i]; m.User != want {
				w.Errorf("message %d came from %q, want %q", i, m.User, want)
			}
		}
		if len(*told) != 2 {
			w.Errorf("told %q: a session in use tells nothing new", *told)
		}
	})
}

// TestClientCertificate: it is shown, and no session of another is resumed.
func TestClientCertificate(t *testing.T) {
	inWorld(t, func(w *world) {
		authority, err := mtatest.NewAuthority()
		if err != nil {
			w.Fatal(err)
		}
		cert, err := authority.Certificate(true, "smart.example.org")
		if err != nil {
			w.Fatal(err)
		}
		w.opt.Settings.RootCAs = authority.Pool()
		w.host("smart.example.org", mtatest.MXConfig{TLS: &tls.Config{Certificates: []tls.Certificate{*cert}, ClientAuth: tls.RequireAnyClientCert}}, "192.0.2.1")
		w.route.Router, w.route.TLS = "smart.example.org", mta.TLSRequired
		names := []string{"one.example.org", "two.example.org"}
		for _, name := range names {
			pair, err := authority.Certificate(true, name)
			if err != nil {
				w.Fatal(err)
			}
			route := *w.route
			route.Auth = &mta.Credentials{Certificate: &mta.Certificate{Chain: pair.Certificate, Key: pair.PrivateKey.(crypto.Signer)}}
			w.want(w.carry(context.Background(), context.Background(), job{d: w.mail("b@x"), route: &route})[0], "delivered 2.0.0 @smart.example.org")
		}
		for i, m := range w.mx["smart.example.org"].Messages() {
			if got := m.TLS.PeerCertificates[0].Subject.CommonName; got != names[i] || m.TLS.DidResume {
				w.Errorf("message %d: %s, resumed %v", i, got, m.TLS.DidResume)
			}
		}
	})
}

// TestForgotten: a router that wants to know again who we are gets a new session
// at once, and only one.
func TestForgotten(t *testing.T) {
	for name, c := range map[string]struct {
		rule mtatest.Rule
		want string
	}{
		"once":        {mtatest.Rule{Stage: mtatest.StageMail, Skip: 1, First: 1, Action: mtatest.Action{Reply: "530 5.7.0 your token has expired"}}, "delivered 2.0.0 @smart.example.org"},
		"for good":    {mtatest.Rule{Stage: mtatest.StageMail, Skip: 1, Action: mtatest.Action{Reply: "535 5.7.8 no more"}}, "temporary local 5.7.8 @smart.example.org; smart.example.org mail"},
		"and hung up": {mtatest.Rule{Stage: mtatest.StageMail, Skip: 1, First: 1, Action: mtatest.Action{Reply: "530 5.7.0 sign in", Drop: true}}, "delivered 2.0.0 @smart.example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				w.router(users(map[string]string{"widget": "right"}, "PLAIN"), c.rule)
				got := w.deliver(w.mail("b@example.net"), w.mail("c@example.net"))
				w.want(got[0], "delivered 2.0.0 @smart.example.org")
				w.want(got[1], c.want)
				w.sessions("smart.example.org", 2)
			})
		})
	}
}
