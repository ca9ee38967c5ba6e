package daemon

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"mailout/internal/config"
	"mailout/internal/doctor"
	"mailout/internal/mta"
	"mailout/internal/oauth"
	"mailout/internal/spool"
)

// secrets is what the files of a router's credentials hold: two that are equal
// are the same credentials.
type secrets struct {
	Config  config.Credentials // with the secrets of files in place
	Refresh string             // the refresh token as it was granted
	Cert    *mta.Certificate   `json:"-"`
	Chain   [][]byte
	CAFile  string
}

// readSecrets reads the files.
func readSecrets(a *config.Credentials, caFile string) (s secrets, err error) {
	s = secrets{Config: *a, CAFile: caFile}
	for _, one := range []struct {
		file string
		to   *string
	}{{a.PasswordFile, &s.Config.Password}, {a.OAuth.ClientSecretFile, &s.Config.OAuth.ClientSecret}, {a.OAuth.RefreshTokenFile, &s.Refresh}} {
		if one.file == "" {
			continue
		}
		if *one.to, err = config.ReadSecret(one.file); err != nil {
			return s, err
		}
	}
	if a.ClientCert == "" {
		return s, nil
	}
	pair, err := config.ReadCertificate(a.ClientCert, a.ClientKey)
	if err != nil {
		return s, err
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok {
		return s, fmt.Errorf("%s holds a key that cannot sign", a.ClientKey)
	}
	s.Chain, s.Cert = pair.Certificate, &mta.Certificate{Chain: pair.Certificate, Key: key}
	return s, nil
}

// print is what tells two secrets apart.
func (s *secrets) print() [sha256.Size]byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // it is made of texts
	}
	return sha256.Sum256(text)
}

// credentials makes what routes carry. tokens is nil without OAuth.
func (s *secrets) credentials(tokens *oauth.Source) *mta.Credentials {
	c := &mta.Credentials{
		Username: s.Config.Username, Password: s.Config.Password, Mechanisms: s.Config.Mechanisms, Certificate: s.Cert,
	}
	if tokens != nil {
		c.Token = tokens.Token
	}
	return c
}

// source makes the source of tokens; nil without OAuth. notes, when set, keep
// refresh tokens that replace the one that was granted.
func (s *secrets) source(ctx context.Context, roots *x509.CertPool, notes spool.Notes, log *slog.Logger) *oauth.Source {
	o := &s.Config.OAuth
	if o.Provider == config.NoOAuth {
		return nil
	}
	opt := oauth.Options{
		TokenURL: o.TokenURL, ClientID: o.ClientID, Secret: o.ClientSecret, Scopes: o.Scopes, RefreshToken: s.Refresh,
		InBody: o.Provider != config.OAuthCustom, Client: oauth.NewClient(roots), Logger: log,
	}
	if s.Refresh != "" && notes != nil {
		k := tokenKeeper{notes: notes, name: s.note(), granted: digest(s.Refresh)}
		if token, err := k.last(ctx); err != nil {
			log.Warn("the last refresh token cannot be read; the one that was granted is used", mta.KeyError, err)
		} else if token != "" {
			opt.RefreshToken = token
		}
		opt.Keep = k.keep
	}
	return oauth.New(opt)
}

// note is the name that a refresh token is kept under.
func (s *secrets) note() string {
	o := &s.Config.OAuth
	return "router/token/" + digest(o.TokenURL+"\x00"+o.ClientID+"\x00"+s.Config.Username)
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// tokenKeeper keeps the refresh token that replaced a granted one. It is of no
// more use once the operator writes another into the file.
type tokenKeeper struct {
	notes         spool.Notes
	name, granted string
}

type keptToken struct {
	Granted string `json:"granted"` // digest of the file's token
	Token   string `json:"token"`
}

func (k tokenKeeper) last(ctx context.Context) (string, error) {
	value, err := k.notes.Note(ctx, k.name)
	if err != nil || value == nil {
		return "", err
	}
	var kept keptToken
	if err := json.Unmarshal(value, &kept); err != nil {
		return "", err
	}
	if kept.Granted != k.granted {
		return "", nil
	}
	return kept.Token, nil
}

func (k tokenKeeper) keep(ctx context.Context, token string) error {
	value, err := json.Marshal(keptToken{Granted: k.granted, Token: token})
	if err != nil {
		return err
	}
	if len(value) > spool.MaxNoteValue {
		return errors.New("it is too long")
	}
	return k.notes.SetNotes(ctx, map[string][]byte{k.name: value})
}

// stampsOf looks at files without reading them.
func stampsOf(files []string) map[string]fileStamp {
	out := map[string]fileStamp{}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			out[file] = fileStamp{info.ModTime(), info.Size()}
		} else {
			out[file] = fileStamp{}
		}
	}
	return out
}

// askRouter gives the doctor of the command line the credentials of [router]. A
// refresh token is left to the daemon: using it here could end it there.
func askRouter(c *config.Config) func() (*mta.Credentials, *doctor.AuthTrouble) {
	a := c.Router.Auth
	if c.Router.Host == "" || !a.Any() {
		return nil
	}
	return func() (*mta.Credentials, *doctor.AuthTrouble) {
		if a.OAuth.RefreshTokenFile != "" {
			return nil, &doctor.AuthTrouble{Why: "only the running daemon may use the refresh token, which may be another after each use; it makes this check, and its findings are in `mailout trace identity` and in the metrics"}
		}
		s, err := readSecrets(&a, c.TLS.CAFile)
		if err != nil {
			return nil, &doctor.AuthTrouble{Why: err.Error(), Known: true}
		}
		pool, err := roots(c)
		if err != nil {
			return nil, &doctor.AuthTrouble{Why: err.Error(), Known: true}
		}
		return s.credentials(s.source(context.Background(), pool, nil, slog.New(slog.DiscardHandler))), nil
	}
}
