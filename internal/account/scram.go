package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/xdg-go/scram"
)

// Binding is what ties an exchange to the TLS connection that it comes over.
type Binding struct {
	// Exporter is the value of tls-exporter (RFC 9266), and that SCRAM-SHA-256-PLUS
	// is offered; empty: it is not.
	Exporter []byte
	// Plus says that the client chose SCRAM-SHA-256-PLUS.
	Plus bool
}

// ErrDowngrade is an ErrDenied: the client can bind the exchange to its TLS
// connection and was told that we cannot, though we offered it (RFC 5802 6). So
// somebody stands between us who took it out of the offer.
var ErrDowngrade = fmt.Errorf("%w: somebody between the client and us hid SCRAM-SHA-256-PLUS", ErrDenied)

// SCRAMExchange is one exchange of SCRAM-SHA-256 or SCRAM-SHA-256-PLUS
// (RFC 5802, 7677).
type SCRAMExchange struct {
	book    *Book
	page    *page
	peer    netip.Addr
	binding Binding
	conv    *scram.ServerConversation
	begun   bool // the client's first message has come
	user    *User
	wait    time.Duration
}

// SCRAMSignIn begins an exchange. PLUS without an exporter is ErrDenied.
func (b *Book) SCRAMSignIn(peer netip.Addr, binding Binding) (*SCRAMExchange, error) {
	if binding.Plus && len(binding.Exporter) == 0 {
		return nil, ErrDenied
	}
	x := &SCRAMExchange{book: b, page: b.current.Load(), peer: peer, binding: binding}
	server, err := scram.SHA256.NewServer(x.credentials)
	if err != nil {
		return nil, err
	}
	exporter := scram.ChannelBinding{Type: scram.ChannelBindingTLSExporter, Data: binding.Exporter}
	switch {
	case binding.Plus:
		x.conv = server.NewConversationWithChannelBindingRequired(exporter)
	default: // with an exporter this refuses who was told that there is none
		x.conv = server.NewConversationWithChannelBinding(exporter)
	}
	return x, nil
}

// errPutOff leaves an exchange that the guard puts off.
var errPutOff = errors.New("put off")

// credentials looks a name up for the library. A name that is none gets keys
// that nothing fits, with a salt that stays the same (RFC 5802 9).
func (x *SCRAMExchange) credentials(name string) (scram.StoredCredentials, error) {
	if x.wait = x.book.guard.Wait(x.peer, name, x.book.now()); x.wait > 0 {
		return scram.StoredCredentials{}, errPutOff
	}
	if u := x.page.users[name]; u != nil && u.Password.SCRAM() {
		x.user = u
		return *u.Password.scram, nil
	}
	fake := hmac.New(sha256.New, x.page.salt[:])
	fake.Write([]byte(name))
	sum := fake.Sum(nil)
	iterations := scramIterations
	if x.page.decoy.scram != nil {
		iterations = x.page.decoy.scram.Iters
	}
	return scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(sum[:saltOctets]), Iters: iterations},
		StoredKey:  make([]byte, sha256.Size), ServerKey: make([]byte, sha256.Size),
	}, nil
}

// Step takes a message of the client and gives the answer. The error is
// ErrDenied, maybe as ErrDowngrade, or a *WaitError; a failure that names a
// user counts as its.
func (x *SCRAMExchange) Step(message string) (string, error) {
	first := !x.begun
	x.begun = true
	answer, err := x.conv.Step(message)
	if err == nil && first && !x.binding.Plus && strings.HasPrefix(message, "p=") {
		err = errors.New("a binding without PLUS") // the mechanism and its flag contradict each other
	}
	if err != nil {
		if x.wait > 0 {
			return "", &WaitError{x.wait}
		}
		x.book.guard.Failed(x.peer, x.conv.Username(), x.book.now())
		if first && len(x.binding.Exporter) > 0 && strings.HasPrefix(message, "y,") {
			return "", ErrDowngrade
		}
		return "", ErrDenied
	}
	return answer, nil
}

// Name is the name that the client claims; empty before its first message.
func (x *SCRAMExchange) Name() string { return x.conv.Username() }

// Done gives the user after the last step that was right; else ErrDenied.
func (x *SCRAMExchange) Done() (*User, error) {
	if !x.conv.Valid() || x.user == nil {
		return nil, ErrDenied
	}
	// An identity to act as other than one's own (RFC 5802 5.1) is not given.
	if z := x.conv.AuthzID(); z != "" && z != x.user.Name {
		return nil, ErrDenied
	}
	return x.user, nil
}
