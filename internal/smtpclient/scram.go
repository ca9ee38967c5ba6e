package smtpclient

import (
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"

	"mailout/internal/mta"
)

// The iterations that a server may ask for: fewer make a stolen exchange easy
// to try passwords on (RFC 7677 section 4), more would keep a processor busy.
const (
	minIterations = 4096
	maxIterations = 1_000_000
)

// scramMechanism is SCRAM-SHA-256, with or without channel binding. The server
// proves that it knows the password too, before we believe its 235.
type scramMechanism struct {
	talk
	conv *scram.ClientConversation
	step int
	said string
}

// newScram prepares name and password (RFC 4013). Where the server does not
// offer PLUS though we could bind, it is told so, and so finds out when
// somebody between us took it away (RFC 5802 section 6).
func (s *Session) newScram(name string, c *mta.Credentials) (mechanism, error) {
	client, err := scram.SHA256.NewClient(c.Username, c.Password, "")
	if err != nil {
		return nil, errors.New("the user name or the password cannot be used with SCRAM: a character is not allowed (RFC 4013)")
	}
	client.WithMinIterations(minIterations)
	x := &scramMechanism{}
	binding := s.binding()
	switch {
	case name == ScramPlus:
		x.conv = client.NewConversationWithChannelBinding(binding)
	case binding.Type != "" && !slices.Contains(s.caps.Auth, ScramPlus):
		x.conv = client.NewConversationAdvertisingChannelBinding()
	default:
		x.conv = client.NewConversation()
	}
	return x, nil
}

// binding is what ties an exchange to this TLS connection; without Type there
// is nothing.
func (s *Session) binding() scram.ChannelBinding {
	conn, ok := s.conn.(*tls.Conn)
	if !ok {
		return scram.ChannelBinding{}
	}
	state := conn.ConnectionState()
	if state.Version >= tls.VersionTLS13 {
		if b, err := scram.NewTLSExporterBinding(&state); err == nil {
			return b
		}
		return scram.ChannelBinding{}
	}
	if len(state.TLSUnique) > 0 {
		return scram.NewTLSUniqueBinding(state.TLSUnique)
	}
	return scram.ChannelBinding{}
}

func (x *scramMechanism) first() ([]byte, bool, error) {
	message, err := x.conv.Step("")
	return []byte(message), true, err
}

// next answers the server's first message with our proof, and its last one with
// nothing.
func (x *scramMechanism) next(challenge []byte) ([]byte, error) {
	text := string(challenge)
	x.step++
	switch {
	case x.step == 1 && iterations(text) > maxIterations:
		return nil, errors.New("the server asks for more than a million iterations")
	case x.step == 2:
		if refusal, ok := strings.CutPrefix(text, "e="); ok {
			x.said = refusal // the reply that refuses us follows
			return nil, nil
		}
	case x.step > 2:
		return nil, errors.New("the server asks for more than the mechanism has")
	}
	answer, err := x.conv.Step(text)
	return []byte(answer), err
}

// iterations reads the count of the server's first message; 0 when there is
// none, which the library refuses.
func iterations(message string) int {
	for field := range strings.SplitSeq(message, ",") {
		if count, ok := strings.CutPrefix(field, "i="); ok {
			if n, err := strconv.Atoi(count); err == nil {
				return n
			}
			if count != "" && strings.Trim(count, "0123456789") == "" {
				return maxIterations + 1 // more digits than a number has
			}
		}
	}
	return 0
}

func (x *scramMechanism) detail() string { return x.said }

func (x *scramMechanism) proven() error {
	if !x.conv.Valid() {
		return errors.New("the server did not prove that it knows the password")
	}
	return nil
}

// port is the server's; 0 when the connection has none.
func (s *Session) port() int {
	if a, ok := s.raw.RemoteAddr().(*net.TCPAddr); ok {
		return a.Port
	}
	return 0
}
