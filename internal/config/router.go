package config

import (
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"

	"mailout/internal/mta"
	"mailout/internal/smtpclient"
)

// Credentials are what a [router] or [[route]] is signed in to with. What stands
// in files is read from them when it is used, and again when they change; Load
// only looks whether it can be.
type Credentials struct {
	Username     string
	Password     string // empty with PasswordFile
	PasswordFile string
	Mechanisms   []string // empty: the strongest that is offered
	OAuth        OAuth
	ClientCert   string // PEM file of a certificate for TLS; empty: none
	ClientKey    string // PEM file of its private key
}

// Any reports whether there is something to prove who we are with.
func (c *Credentials) Any() bool { return c.Username != "" || c.ClientCert != "" }

// OAuth is how access tokens are got (RFC 6749).
type OAuth struct {
	Provider         OAuthProvider
	Tenant           string // of Microsoft
	TokenURL         string
	Scopes           []string
	ClientID         string
	ClientSecret     string // empty with ClientSecretFile, and for a public client
	ClientSecretFile string
	RefreshTokenFile string // empty: by client credentials
}

// OAuthProvider is who gives access tokens.
type OAuthProvider uint8

// The providers.
const (
	NoOAuth OAuthProvider = iota
	OAuthMicrosoft
	OAuthGoogle
	OAuthCustom
)

// String gives the word of the configuration file.
func (p OAuthProvider) String() string { return oauthProviders.word(p) }

var oauthProviders = words[OAuthProvider]{{"none", NoOAuth}, {"microsoft", OAuthMicrosoft}, {"google", OAuthGoogle}, {"custom", OAuthCustom}}

var mechanismWords = func() (w words[string]) {
	for _, m := range smtpclient.Mechanisms {
		w = append(w, struct{ word, value string }{m, m})
	}
	return w
}()

// credentialKeys are the keys of Credentials, for [router] and [[route]].
func credentialKeys(at func(c *Config, i int) *Credentials) []*key {
	oauth := func(c *Config, i int) *OAuth { return &at(c, i).OAuth }
	return []*key{
		newKey("username", text("user name", credential), func(c *Config, i int) *string { return &at(c, i).Username }).
			is(`""`, "Name to sign in with (AUTH), over TLS with a verified certificate only. Empty: without signing in."),
		newKey("password", secretWord("password"), func(c *Config, i int) *string { return &at(c, i).Password }).
			is(`""`, "Password of `username`.").hides(),
		newKey("password_file", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).PasswordFile }).
			is(`""`, "File whose only line is the password, instead of `password`; not readable by everybody. A changed file is taken within seconds."),
		newKey("mechanisms", list(word(mechanismWords), 0, len(mechanismWords), `["SCRAM-SHA-256", "PLAIN"]`), func(c *Config, i int) *[]string { return &at(c, i).Mechanisms }).
			is(`[]`, "SASL mechanisms that may be used, in the order of preference; an empty list means the strongest that is offered."),
		newKey("oauth", word(oauthProviders), func(c *Config, i int) *OAuthProvider { return &oauth(c, i).Provider }).
			is(`"none"`, "Sign in with an OAuth 2.0 access token instead of a password, from `microsoft` (Microsoft 365), `google` or a `custom` token server."),
		newKey("oauth_tenant", text("tenant", credential), func(c *Config, i int) *string { return &oauth(c, i).Tenant }).
			is(`""`, "Tenant of Microsoft 365: its domain or its ID."),
		newKey("oauth_client_id", text("client ID", credential), func(c *Config, i int) *string { return &oauth(c, i).ClientID }).
			is(`""`, "ID of the application that is registered with the provider."),
		newKey("oauth_client_secret", secretWord("secret"), func(c *Config, i int) *string { return &oauth(c, i).ClientSecret }).
			is(`""`, "Secret of the application. Empty: a public client, which has none.").hides(),
		newKey("oauth_client_secret_file", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &oauth(c, i).ClientSecretFile }).
			is(`""`, "File whose only line is the secret, instead of `oauth_client_secret`; not readable by everybody."),
		newKey("oauth_refresh_token_file", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &oauth(c, i).RefreshTokenFile }).
			is(`""`, "File whose only line is the refresh token that was granted; not readable by everybody. One that the provider gives in its place is kept in the spool. Empty: the application has rights of its own (client credentials)."),
		newKey("oauth_token_url", text("URL", checkTokenURL), func(c *Config, i int) *string { return &oauth(c, i).TokenURL }).
			derives("the provider's", oauthURL(oauth), "Where tokens are asked for: `https://`, or `http://` on this machine."),
		newKey("oauth_scopes", list(text("scope", checkScope), 0, 32, `["https://mail.example.com/.default"]`), func(c *Config, i int) *[]string { return &oauth(c, i).Scopes }).
			derives("the provider's", oauthScopes(oauth), "Scopes that are asked for."),
		newKey("client_cert", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).ClientCert }).
			is(`""`, "PEM file of a certificate that is shown in the TLS handshake, followed by those that lead to its root. A changed file is taken within seconds."),
		newKey("client_key", mapped("path", optionalPath, keep), func(c *Config, i int) *string { return &at(c, i).ClientKey }).
			is(`""`, "PEM file of the certificate's private key; not readable by everybody."),
	}
}

// What the providers document for SMTP.
const (
	microsoftURL    = "https://login.microsoftonline.com/"
	microsoftScope  = "https://outlook.office365.com/.default" // of client credentials
	microsoftSend   = "https://outlook.office.com/SMTP.Send"   // of a user
	offlineAccess   = "offline_access"
	googleURL       = "https://oauth2.googleapis.com/token"
	maxCredentials  = 1024
	microsoftSuffix = "/oauth2/v2.0/token"
)

func oauthURL(at func(c *Config, i int) *OAuth) func(c *Config, i int) {
	return func(c *Config, i int) {
		switch o := at(c, i); o.Provider {
		case OAuthMicrosoft:
			if o.Tenant != "" {
				o.TokenURL = microsoftURL + url.PathEscape(o.Tenant) + microsoftSuffix
			}
		case OAuthGoogle:
			o.TokenURL = googleURL
		}
	}
}

func oauthScopes(at func(c *Config, i int) *OAuth) func(c *Config, i int) {
	return func(c *Config, i int) {
		o := at(c, i)
		o.Scopes = []string{}
		switch {
		case o.Provider == OAuthMicrosoft && o.RefreshTokenFile == "":
			o.Scopes = []string{microsoftScope}
		case o.Provider == OAuthMicrosoft:
			o.Scopes = []string{microsoftSend, offlineAccess}
		}
	}
}

// credential says why s cannot be a name or password.
func credential(s string) string {
	switch {
	case len(s) > maxCredentials:
		return "is longer than " + itoa(maxCredentials) + " octets"
	case strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f }):
		return "contains a control character"
	}
	return ""
}

// secretWord is a text that stands in no message.
func secretWord(name string) kind[string] {
	of := text(name, credential)
	read := of.read
	of.read = func(v *value) (string, []complaint) {
		if v.kind != unstable.String {
			return "", one(v, "is not a text (write it in quotes)")
		}
		return read(v)
	}
	return of
}

func checkTokenURL(s string) string {
	const sample = ` (write for example "https://login.example.com/oauth2/token")`
	if s == "" {
		return ""
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.User != nil || u.Fragment != "":
		return "is not the URL of a token server" + sample
	case u.Scheme == "http" && (u.Hostname() == "localhost" || slices.ContainsFunc(loopbackOr(u.Hostname()), netip.Addr.IsLoopback)):
		return ""
	case u.Scheme != "https":
		return "is not a URL of https, and secrets are sent there" + sample
	}
	return ""
}

func checkScope(s string) string {
	if s == "" || len(s) > maxCredentials || strings.ContainsFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '\\' }) {
		return shown(s) + " is not a scope (RFC 6749 section 3.3)"
	}
	return ""
}

// routerTLS is the default of tls: credentials demand a verified router.
func routerTLS(c *Config, _ int) {
	if c.Router.Auth.Any() {
		c.Router.TLS = mta.TLSRequired
	}
}

// credentialPaths are the files, for resolve.
func (c *Config) credentialPaths() (paths []*string) {
	for _, a := range c.credentials() {
		paths = append(paths, &a.auth.PasswordFile, &a.auth.OAuth.ClientSecretFile, &a.auth.OAuth.RefreshTokenFile, &a.auth.ClientCert, &a.auth.ClientKey)
	}
	return paths
}

// credentialPlace is where credentials stand.
type credentialPlace struct {
	auth   *Credentials
	table  string
	i      int
	host   string // empty: direct, or none
	tls    mta.TLSRequirement
	direct bool // mail goes directly, and nobody could be signed in to
}

func (c *Config) credentials() []credentialPlace {
	places := []credentialPlace{{auth: &c.Router.Auth, table: "router", host: c.Router.Host, tls: c.Router.TLS}}
	for i := range c.Routes {
		r := &c.Routes[i]
		places = append(places, credentialPlace{auth: &r.Auth, table: "route", i: i, host: r.Host, tls: r.TLS, direct: !r.To()})
	}
	return places
}

// credentialsComplete: what proves who we are is whole, and goes to a verified
// router only.
func (l *loader) credentialsComplete() {
	for _, p := range l.cfg.credentials() {
		full := findTable(p.table).full(p.i)
		if slices.ContainsFunc(credentialNames, func(name string) bool { return l.bad[full+"."+name] }) {
			continue
		}
		accuse := func(name, message string) { l.accuse(p.table, name, p.i, message) }
		passwordComplete(p.auth, accuse)
		oauthComplete(&p.auth.OAuth, accuse)
		switch {
		case (p.auth.ClientCert == "") != (p.auth.ClientKey == ""):
			accuse("client_cert", "needs both client_cert and client_key")
		case !p.auth.Any():
		case p.direct:
			accuse("username", "is for a host that relays, and this mail does not go to one (write host)")
		case !l.sound(full+".tls", full+".host"):
		case p.tls == mta.TLSOpportunistic || p.tls == mta.TLSNone:
			accuse("tls", quote(peerTLS.word(p.tls))+` would show credentials to whoever answers (write "required", or "implicit" for port 465)`)
		}
	}
}

var credentialNames = func() (names []string) {
	for _, k := range credentialKeys(nil) {
		names = append(names, k.name)
	}
	return names
}()

// passwordComplete: one way to sign in, and mechanisms that serve it.
func passwordComplete(c *Credentials, accuse func(name, message string)) {
	byPassword := c.Password != "" || c.PasswordFile != ""
	byToken := c.OAuth.Provider != NoOAuth
	external := slices.Contains(c.Mechanisms, smtpclient.External)
	switch {
	case c.Password != "" && c.PasswordFile != "":
		accuse("password_file", "stands beside password (keep one of them)")
	case byPassword && byToken:
		accuse("oauth", "stands beside a password (keep one of them)")
	case c.Username == "" && (byPassword || byToken):
		accuse("username", "is missing beside what proves it")
	case c.Username != "" && !byPassword && !byToken && !(external && c.ClientCert != ""):
		accuse("password_file", "is missing beside username (write it, or password, or oauth)")
	case external && c.ClientCert == "":
		accuse("mechanisms", `"EXTERNAL" needs client_cert`)
	}
	for _, m := range c.Mechanisms {
		tokens := m == smtpclient.XOAuth2 || m == smtpclient.OAuthBearer
		switch {
		case tokens && !byToken:
			accuse("mechanisms", quote(m)+" needs oauth")
		case !tokens && m != smtpclient.External && byToken:
			accuse("mechanisms", quote(m)+" does not carry the tokens of oauth")
		}
	}
}

// oauthComplete: what the token server asks for is there.
func oauthComplete(o *OAuth, accuse func(name, message string)) {
	secret := o.ClientSecret != "" || o.ClientSecretFile != ""
	if o.Provider == NoOAuth {
		for name, there := range map[string]bool{
			"oauth_client_id": o.ClientID != "", "oauth_client_secret": o.ClientSecret != "", "oauth_client_secret_file": o.ClientSecretFile != "",
			"oauth_refresh_token_file": o.RefreshTokenFile != "", "oauth_tenant": o.Tenant != "",
		} {
			if there {
				accuse(name, `is not used without oauth (write oauth = "microsoft", "google" or "custom")`)
			}
		}
		return
	}
	switch {
	case o.Provider == OAuthMicrosoft && o.Tenant == "" && o.TokenURL == "":
		accuse("oauth_tenant", `is missing (write your domain at Microsoft 365, such as "example.onmicrosoft.com")`)
	case o.Provider == OAuthCustom && o.TokenURL == "":
		accuse("oauth_token_url", "is missing: a custom token server has no default")
	case o.ClientID == "":
		accuse("oauth_client_id", "is missing beside oauth")
	case o.ClientSecret != "" && o.ClientSecretFile != "":
		accuse("oauth_client_secret_file", "stands beside oauth_client_secret (keep one of them)")
	case o.Provider == OAuthGoogle && o.RefreshTokenFile == "":
		accuse("oauth_refresh_token_file", "is missing: Google gives tokens for a mailbox to a refresh token only")
	case o.RefreshTokenFile == "" && !secret:
		accuse("oauth_client_secret_file", "is missing (write it, or oauth_refresh_token_file)")
	}
}

// checkCredentialFiles: what is named can be read now. The daemon reads it again.
func (l *loader) checkCredentialFiles() {
	for _, p := range l.cfg.credentials() {
		for name, file := range map[string]string{
			"password_file": p.auth.PasswordFile, "oauth_client_secret_file": p.auth.OAuth.ClientSecretFile, "oauth_refresh_token_file": p.auth.OAuth.RefreshTokenFile,
		} {
			if file == "" || !l.sound(findTable(p.table).full(p.i)+"."+name) {
				continue
			}
			if _, err := ReadSecret(file); err != nil {
				l.accuse(p.table, name, p.i, err.Error())
			}
		}
		if p.auth.ClientCert == "" || p.auth.ClientKey == "" {
			continue
		}
		if _, err := ReadCertificate(p.auth.ClientCert, p.auth.ClientKey); err != nil {
			l.accuse(p.table, "client_cert", p.i, err.Error())
		}
	}
}

// Files are those whose change means other credentials.
func (c *Credentials) Files() []string {
	var out []string
	for _, f := range []string{c.PasswordFile, c.OAuth.ClientSecretFile, c.OAuth.RefreshTokenFile, c.ClientCert, c.ClientKey} {
		if f != "" {
			out = append(out, filepath.Clean(f))
		}
	}
	return out
}
