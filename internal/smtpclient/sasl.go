package smtpclient

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // CRAM-MD5 is made of it
	"encoding/hex"
	"errors"
	"strconv"
	"strings"

	"mailout/internal/mta"
)

// The SASL mechanisms, as AUTH names them.
const (
	Plain       = "PLAIN"              // RFC 4616
	Login       = "LOGIN"              // draft-murchison-sasl-login
	CramMD5     = "CRAM-MD5"           // RFC 2195
	Scram       = "SCRAM-SHA-256"      // RFC 5802, 7677
	ScramPlus   = "SCRAM-SHA-256-PLUS" // bound to the TLS connection (RFC 5929, 9266)
	XOAuth2     = "XOAUTH2"            // Google's and Microsoft's
	OAuthBearer = "OAUTHBEARER"        // RFC 7628
	External    = "EXTERNAL"           // the client certificate (RFC 4422 appendix A)
)

// Mechanisms are all that Authenticate knows. EXTERNAL is used only where the
// operator names it.
var Mechanisms = []string{ScramPlus, Scram, CramMD5, Plain, Login, OAuthBearer, XOAuth2, External}

// What is tried where the operator names nothing, the strongest first: over
// verified TLS that is what keeps the password from the server.
var (
	passwordMechanisms = []string{ScramPlus, Scram, CramMD5, Plain, Login}
	tokenMechanisms    = []string{OAuthBearer, XOAuth2}
)

// byToken reports the mechanisms that carry an access token.
func byToken(name string) bool { return name == OAuthBearer || name == XOAuth2 }

// mechanism is one exchange of a mechanism.
type mechanism interface {
	// first gives the initial response; without one the server speaks first.
	first() (response []byte, speaks bool, err error)
	// next answers a challenge; an error ends the exchange and the session.
	next(challenge []byte) ([]byte, error)
	// proven says after 235 whether the server had to prove something and did not.
	proven() error
	// detail is what the server said in a challenge about a refusal.
	detail() string
	// deaf reports that challenges mean nothing, so that any will do.
	deaf() bool
}

func (s *Session) newMechanism(name string, c *mta.Credentials, token string) (mechanism, error) {
	if strings.ContainsRune(c.Username+c.Password, 0) {
		return nil, errors.New("the user name or the password has a NUL in it")
	}
	switch name {
	case Plain:
		return &spoken{response: "\x00" + c.Username + "\x00" + c.Password}, nil
	case External:
		return &spoken{response: c.Username}, nil
	case Login:
		return &login{answers: []string{c.Username, c.Password}}, nil
	case CramMD5:
		return &cram{username: c.Username, password: c.Password}, nil
	case Scram, ScramPlus:
		return s.newScram(name, c)
	case XOAuth2, OAuthBearer:
		return s.newBearer(name, c.Username, token)
	}
	return nil, errors.New("the mechanism " + name + " is not known")
}

// talk is what most mechanisms do not need.
type talk struct{}

func (talk) proven() error  { return nil }
func (talk) detail() string { return "" }
func (talk) deaf() bool     { return false }

// spoken is a mechanism of one message: PLAIN, EXTERNAL.
type spoken struct {
	talk
	response string
}

func (x *spoken) first() ([]byte, bool, error) { return []byte(x.response), true, nil }

func (x *spoken) next([]byte) ([]byte, error) {
	return nil, errors.New("the server asks for more than the mechanism has")
}

// login answers two questions, whatever their words are.
type login struct {
	talk
	answers []string
}

func (x *login) first() ([]byte, bool, error) { return nil, false, nil }
func (x *login) deaf() bool                   { return true }

func (x *login) next([]byte) ([]byte, error) {
	if len(x.answers) == 0 {
		return nil, errors.New("the server asks for more than the mechanism has")
	}
	answer := x.answers[0]
	x.answers = x.answers[1:]
	return []byte(answer), nil
}

// cram is CRAM-MD5.
type cram struct {
	talk
	username, password string
	answered           bool
}

func (x *cram) first() ([]byte, bool, error) { return nil, false, nil }

func (x *cram) next(challenge []byte) ([]byte, error) {
	if x.answered || len(challenge) == 0 {
		return nil, errors.New("the server's challenge is not one of CRAM-MD5")
	}
	x.answered = true
	mac := hmac.New(md5.New, []byte(x.password))
	mac.Write(challenge)
	return []byte(x.username + " " + hex.EncodeToString(mac.Sum(nil))), nil
}

// bearer is XOAUTH2 or OAUTHBEARER. A refusal comes as a challenge in JSON that
// has to be answered before the reply follows.
type bearer struct {
	talk
	response string
	dummy    string
	said     string
}

func (s *Session) newBearer(name, username, token string) (mechanism, error) {
	if token == "" || strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return nil, errors.New("the access token is not one that AUTH can carry")
	}
	if name == XOAuth2 {
		return &bearer{response: "user=" + username + "\x01auth=Bearer " + token + "\x01\x01"}, nil
	}
	// RFC 7628 section 3.1; the name's "=" and "," are written as in RFC 5801.
	user := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(username)
	response := "n,a=" + user + ",\x01"
	if host := s.opt.Host; host != "" {
		response += "host=" + host + "\x01"
	}
	if port := s.port(); port != 0 {
		response += "port=" + strconv.Itoa(port) + "\x01"
	}
	return &bearer{response: response + "auth=Bearer " + token + "\x01\x01", dummy: "\x01"}, nil
}

func (x *bearer) first() ([]byte, bool, error) { return []byte(x.response), true, nil }
func (x *bearer) detail() string               { return x.said }

func (x *bearer) next(challenge []byte) ([]byte, error) {
	if x.said != "" || len(challenge) == 0 {
		return nil, errors.New("the server asks for more than the mechanism has")
	}
	x.said = string(challenge)
	return []byte(x.dummy), nil
}
