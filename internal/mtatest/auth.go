package mtatest

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // CRAM-MD5 is made of it
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"

	"github.com/xdg-go/scram"
)

// SASL is how an MX knows its clients: by PLAIN, LOGIN, CRAM-MD5, SCRAM-SHA-256,
// XOAUTH2 and OAUTHBEARER. Its functions are called by many sessions at once.
type SASL struct {
	Mechanisms []string
	// Password gives a user's password.
	Password func(user string) (password string, known bool)
	// Token says whether an access token is good for a user now.
	Token func(user, token string) bool
	// Refuse, when set, may answer AUTH at once: "454 4.7.0 later".
	Refuse func() string
}

var errSASL = errors.New("refused")

// auth serves AUTH (RFC 4954). Nothing of what is sent becomes an event.
func (s *session) auth(rest string) error {
	sasl := s.mx.cfg.SASL
	name, initial, given := strings.Cut(rest, " ")
	switch {
	case sasl == nil || s.tls == nil || s.user != "":
		s.violate("AUTH %s although it is not offered", name)
		return s.say(StageNoop, "AUTH "+name, "503 5.5.1 not now")
	case sasl.Refuse != nil:
		if reply := sasl.Refuse(); reply != "" {
			return s.say(StageNoop, "AUTH "+name, reply)
		}
	}
	user, err := s.signIn(name, initial, given)
	reply := "235 2.7.0 welcome"
	switch {
	case errors.Is(err, errSASL):
		reply = "535 5.7.8 authentication credentials invalid"
	case err != nil:
		return err
	}
	s.user = user
	return s.say(StageNoop, "AUTH "+name, reply)
}

func (s *session) signIn(name, initial string, given bool) (user string, err error) {
	sasl := s.mx.cfg.SASL
	first := func() (string, error) {
		switch {
		case !given:
			return s.challenge("")
		case initial == "=":
			return "", nil
		}
		return unbase64(initial)
	}
	switch name {
	case "PLAIN":
		text, err := first()
		parts := strings.Split(text, "\x00")
		if err != nil || len(parts) != 3 {
			return "", errors.Join(err, errSASL)
		}
		return sasl.check(parts[1], func(p string) bool { return p == parts[2] })
	case "LOGIN":
		user, err := s.challenge("Username:")
		if err != nil {
			return "", err
		}
		password, err := s.challenge("Password:")
		if err != nil {
			return "", err
		}
		return sasl.check(user, func(p string) bool { return p == password })
	case "CRAM-MD5":
		return s.cramMD5()
	case "SCRAM-SHA-256":
		text, err := first()
		if err != nil {
			return "", err
		}
		return s.scram(text)
	case "XOAUTH2", "OAUTHBEARER":
		text, err := first()
		if err != nil {
			return "", err
		}
		return s.bearer(name, text)
	}
	return "", errSASL
}

func (a *SASL) check(user string, right func(password string) bool) (string, error) {
	if password, known := a.Password(user); known && right(password) {
		return user, nil
	}
	return "", errSASL
}

// challenge asks and reads the answer.
func (s *session) challenge(text string) (string, error) {
	if _, err := s.w.WriteString("334 " + base64.StdEncoding.EncodeToString([]byte(text)) + "\r\n"); err != nil {
		return "", err
	}
	line, err := s.readLine()
	if err != nil {
		return "", err
	}
	return unbase64(line)
}

func unbase64(text string) (string, error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return "", errSASL
	}
	return string(b), nil
}

func (s *session) cramMD5() (string, error) {
	const challenge = "<1.2@mx.test.example>"
	answer, err := s.challenge(challenge)
	if err != nil {
		return "", err
	}
	space := strings.LastIndexByte(answer, ' ')
	if space < 0 {
		return "", errSASL
	}
	return s.mx.cfg.SASL.check(answer[:space], func(password string) bool {
		mac := hmac.New(md5.New, []byte(password))
		mac.Write([]byte(challenge))
		return hex.EncodeToString(mac.Sum(nil)) == answer[space+1:]
	})
}

func (s *session) scram(first string) (string, error) {
	server, err := scram.SHA256.NewServer(func(user string) (scram.StoredCredentials, error) {
		password, known := s.mx.cfg.SASL.Password(user)
		if !known {
			return scram.StoredCredentials{}, errSASL
		}
		client, err := scram.SHA256.NewClient(user, password, "")
		if err != nil {
			return scram.StoredCredentials{}, err
		}
		return client.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "salt", Iters: 4096})
	})
	if err != nil {
		return "", err
	}
	conv := server.NewConversation()
	for text := first; ; {
		message, err := conv.Step(text)
		if err != nil {
			return "", errSASL
		}
		if text, err = s.challenge(message); err != nil {
			return "", err
		}
		if conv.Valid() {
			return conv.Username(), nil
		}
	}
}

func (s *session) bearer(name, text string) (string, error) {
	user, token := "", ""
	for _, field := range strings.Split(text, "\x01") {
		if v, ok := strings.CutPrefix(field, "auth=Bearer "); ok {
			token = v
		}
		if v, ok := strings.CutPrefix(field, "user="); ok {
			user = v
		}
		if v, ok := strings.CutPrefix(field, "n,a="); ok {
			user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(strings.TrimSuffix(v, ","))
		}
	}
	if s.mx.cfg.SASL.Token(user, token) {
		return user, nil
	}
	dummy, err := s.challenge(`{"status":"invalid_token","schemes":"bearer"}`)
	if err != nil {
		return "", err
	}
	if want := map[string]string{"OAUTHBEARER": "\x01"}[name]; dummy != want {
		s.violate("%s: the challenge of an error was answered with %q", name, dummy)
	}
	return "", errSASL
}
