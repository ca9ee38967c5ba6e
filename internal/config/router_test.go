package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mailout/internal/mta"
)

// noCredentials are those of a file that names none.
var noCredentials = Credentials{Mechanisms: []string{}, OAuth: OAuth{Scopes: []string{}}}

// noCredentialKeys are the keys of them as show has them.
var noCredentialKeys = func() (s string) {
	for _, k := range credentialKeys(nil) {
		def := k.def
		switch k.name {
		case "oauth_token_url":
			def = `""`
		case "oauth_scopes":
			def = "[]"
		}
		s += "\n" + k.name + " = " + def + "  # default"
	}
	return s
}()

var badCredentials = []badFile{
	{"password alone", host + "[router]\nhost = \"r.example\"\npassword = \"p\"\n", []string{`f:2:1: [router] username: is missing beside what proves it`}},
	{"user alone", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\n", []string{`f:2:1: [router] password_file: is missing beside username (write it, or password, or oauth)`}},
	{"two passwords", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\npassword = \"p\"\npassword_file = \"/p\"\n", []string{`f:6:17: [router] password_file: stands beside password (keep one of them)`}},
	{"opportunistic", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\npassword = \"p\"\ntls = \"opportunistic\"\n", []string{`f:6:7: [router] tls: "opportunistic" would show credentials to whoever answers (write "required", or "implicit" for port 465)`}},
	{"clear", host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"10.0.0.1\"\nusername = \"u\"\npassword = \"p\"\ntls = \"none\"\n", []string{`f:7:7: [[route]] tls: "none" would show credentials to whoever answers (write "required", or "implicit" for port 465)`}},
	{"clear certificate", host + "[router]\nhost = \"r.example\"\nclient_cert = \"/c\"\nclient_key = \"/k\"\ntls = \"none\"\n", []string{`f:6:7: [router] tls: "none" would show credentials to whoever answers (write "required", or "implicit" for port 465)`}},
	{"direct", host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"direct\"\nusername = \"u\"\npassword = \"p\"\n", []string{`f:5:12: [[route]] username: is for a host that relays, and this mail does not go to one (write host)`}},
	{"certificate without key", host + "[router]\nhost = \"r.example\"\nclient_cert = \"/c\"\n", []string{`f:4:15: [router] client_cert: needs both client_cert and client_key`}},
	{"unknown mechanism", host + "[router]\nmechanisms = [\"PLANE\"]\n", []string{`f:3:15: [router] mechanisms: "PLANE" is not "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "CRAM-MD5", "PLAIN", "LOGIN", "OAUTHBEARER", "XOAUTH2" or "EXTERNAL" (did you mean "PLAIN"?)`}},
	{"mechanism of tokens", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\npassword = \"p\"\nmechanisms = [\"XOAUTH2\"]\n", []string{`f:6:14: [router] mechanisms: "XOAUTH2" needs oauth`}},
	{"external", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\npassword = \"p\"\nmechanisms = [\"EXTERNAL\"]\n", []string{`f:6:14: [router] mechanisms: "EXTERNAL" needs client_cert`}},
	{"secret without oauth", host + "[router]\nhost = \"r.example\"\noauth_client_secret = \"s\"\n", []string{`f:4:23: [router] oauth_client_secret: is not used without oauth (write oauth = "microsoft", "google" or "custom")`}},
	{"tenant", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\noauth = \"microsoft\"\n", []string{`f:2:1: [router] oauth_tenant: is missing (write your domain at Microsoft 365, such as "example.onmicrosoft.com")`}},
	{"google", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\noauth = \"google\"\noauth_client_id = \"i\"\noauth_client_secret = \"s\"\n", []string{`f:2:1: [router] oauth_refresh_token_file: is missing: Google gives tokens for a mailbox to a refresh token only`}},
	{"custom", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\noauth = \"custom\"\noauth_token_url = \"http://t.example/\"\n", []string{`f:6:19: [router] oauth_token_url: is not a URL of https, and secrets are sent there (write for example "https://login.example.com/oauth2/token")`}},
	{"no secret", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\noauth = \"custom\"\noauth_token_url = \"http://127.0.0.1:1/\"\noauth_client_id = \"i\"\n", []string{`f:2:1: [router] oauth_client_secret_file: is missing (write it, or oauth_refresh_token_file)`}},
	{"oauth and password", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\npassword = \"p\"\noauth = \"google\"\noauth_client_id = \"i\"\noauth_refresh_token_file = \"/t\"\n", []string{`f:6:9: [router] oauth: stands beside a password (keep one of them)`}},
	{"scope", host + "[router]\noauth_scopes = [\"a b\"]\n", []string{`f:3:17: [router] oauth_scopes: "a b" is not a scope (RFC 6749 section 3.3)`}},
	{"a number for a password", host + "[router]\nhost = \"r.example\"\nusername = \"u\"\npassword = 12345\n", []string{`f:5:12: [router] password: is not a text (write it in quotes)`}},
}

func TestBadCredentials(t *testing.T) {
	t.Parallel()
	for _, c := range badCredentials {
		t.Run(c.name, func(t *testing.T) { mustRefuse(t, c.text, c.want) })
	}
}

// TestCredentialsDemandTLS: with credentials TLS is required without a word.
func TestCredentialsDemandTLS(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte(host+"[router]\nhost = \"r.example\"\nusername = \"u\"\npassword = \"p\"\n[[route]]\ndomains = [\"a.example\"]\nhost = \"b.example\"\nusername = \"u\"\npassword = \"p\"\n[[route]]\ndomains = [\"c.example\"]\nhost = \"d.example\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	if c.Router.TLS != mta.TLSRequired || c.Routes[0].TLS != mta.TLSRequired || c.Routes[1].TLS != mta.TLSOpportunistic {
		t.Error(c.Router.TLS, c.Routes[0].TLS, c.Routes[1].TLS)
	}
	if none, err := Parse("f", []byte(host+"[router]\nhost = \"none\"\nusername = \"u\"\npassword = \"p\"\n")); err != nil || none.Router.Host != "" {
		t.Errorf("%v: credentials stay while no router is used", err)
	}
}

// TestOAuthPresets: what the providers document.
func TestOAuthPresets(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]OAuth{
		"oauth = \"microsoft\"\noauth_tenant = \"a b.example\"\noauth_client_id = \"i\"\noauth_client_secret = \"s\"\n": {
			TokenURL: "https://login.microsoftonline.com/a%20b.example/oauth2/v2.0/token", Scopes: []string{"https://outlook.office365.com/.default"},
		},
		"oauth = \"microsoft\"\noauth_tenant = \"common\"\noauth_client_id = \"i\"\noauth_refresh_token_file = \"/t\"\n": {
			TokenURL: "https://login.microsoftonline.com/common/oauth2/v2.0/token", Scopes: []string{"https://outlook.office.com/SMTP.Send", "offline_access"},
		},
		"oauth = \"google\"\noauth_client_id = \"i\"\noauth_client_secret = \"s\"\noauth_refresh_token_file = \"/t\"\n": {
			TokenURL: "https://oauth2.googleapis.com/token", Scopes: []string{},
		},
	} {
		c, err := Parse("f", []byte(host+"[router]\nhost = \"r.example\"\nusername = \"u\"\n"+text))
		if err != nil {
			t.Errorf("%s%v", text, err)
			continue
		}
		if got := c.Router.Auth.OAuth; got.TokenURL != want.TokenURL || !slices.Equal(got.Scopes, want.Scopes) {
			t.Errorf("%s%+v", text, got)
		}
	}
}

// TestCredentialFiles: what is named has to be there, whole and not for
// everybody; and no message shows what is in it.
func TestCredentialFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "mailout.toml")
	config := host + "[router]\nhost = \"r.example\"\nusername = \"u\"\npassword_file = \"pass\"\n"
	for _, c := range []struct {
		content string
		mode    os.FileMode
		want    string
	}{
		{"topsecret\n", 0o600, ""},
		{"topsecret\n", 0o644, "can be read by everybody"},
		{"topsecret\nmore\n", 0o600, "more than one line"},
		{"", 0o600, "is empty"},
	} {
		write(t, path, config)
		file := filepath.Join(dir, "pass")
		os.Remove(file)
		if err := os.WriteFile(file, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := Load(path)
		if c.want == "" {
			if err != nil || got.Router.Auth.PasswordFile != file || got.Router.Auth.Password != "" {
				t.Errorf("%v", err)
			} else if shown := Show(got); strings.Contains(shown, "topsecret") {
				t.Error("the password is shown")
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "topsecret") {
			t.Errorf("%v", err)
		}
	}
}
