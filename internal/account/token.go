package account

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"net/netip"
	"strings"
	"sync"
)

// What one token may cost.
const (
	// maxToken is the longest token that is looked at, in octets: a user's
	// name, a colon and a password.
	maxToken = maxName + 1 + MaxPassword
	// maxTrials bounds the passwords that a token without a name is tried
	// against: users beyond, in the order of the configuration, have to send
	// their name.
	maxTrials = 8
	// maxKnown bounds the tokens that are remembered to be a user's password.
	maxKnown = 256
)

// nameless is under what the guard counts guesses without a name: no user has
// it, so that one device with an old password does not keep the tokens of others
// behind its address out.
const nameless = "\x00"

// known remembers which tokens without a name were whose password. It belongs
// to one set of users: a reload forgets it.
type known struct {
	mu struct {
		sync.Mutex
		users map[[sha256.Size]byte]*User // by keyed hash
	}
}

func (k *known) get(sum [sha256.Size]byte) *User {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.mu.users[sum]
}

func (k *known) put(sum [sha256.Size]byte, u *User) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.mu.users == nil {
		k.mu.users = make(map[[sha256.Size]byte]*User)
	}
	if len(k.mu.users) >= maxKnown {
		for one := range k.mu.users { // any
			delete(k.mu.users, one)
			break
		}
	}
	k.mu.users[sum] = u
}

// SignInToken checks a token, which is the key of a user, NAME:PASSWORD, or
// only the password, if it has no colon, of one of the first 8 users who have
// one. The error is that of SignIn.
//
// A key is not subject to the bound of failures by address: 256 random bits are
// not guessed, and clients behind one proxy have one address.
func (b *Book) SignInToken(ctx context.Context, peer netip.Addr, token string) (*User, error) {
	p := b.current.Load()
	if u := p.byKey(token); u != nil {
		return u, nil
	}
	if name, password, both := strings.Cut(token, ":"); both {
		return b.SignIn(ctx, peer, name, password)
	}
	return b.signInBare(ctx, p, peer, token)
}

// byKey finds the user of a key. The look-up is by the hash of what came, which
// tells an attacker nothing of a key.
func (p *page) byKey(token string) *User {
	if len(p.keys) == 0 || token == "" || len(token) > maxToken {
		return nil
	}
	sum := sha256.Sum256([]byte(token))
	if u := p.keys[sum]; u != nil && u.Key.fits(sum) {
		return u
	}
	return nil
}

// signInBare tries a token as a password. It costs the same whether it fits
// none or the last.
func (b *Book) signInBare(ctx context.Context, p *page, peer netip.Addr, token string) (*User, error) {
	if wait := b.guard.Wait(peer, nameless, b.now()); wait > 0 {
		return nil, &WaitError{wait}
	}
	if token == "" || len(token) > MaxPassword || strings.HasPrefix(token, keyPrefix) || len(p.bare) == 0 {
		b.guard.Failed(peer, nameless, b.now())
		return nil, ErrDenied
	}
	h := hmac.New(sha256.New, b.secret[:])
	h.Write([]byte(token))
	sum := [sha256.Size]byte(h.Sum(nil))
	if u := p.known.get(sum); u != nil {
		return u, nil
	}
	select {
	case b.checks <- struct{}{}:
		defer func() { <-b.checks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if wait := b.guard.Wait(peer, nameless, b.now()); wait > 0 { // others may have failed meanwhile
		return nil, &WaitError{wait}
	}
	var found *User
	for _, u := range p.bare {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if u.Password.Check(token) && found == nil {
			found = u
		}
	}
	if found == nil {
		b.guard.Failed(peer, nameless, b.now())
		return nil, ErrDenied
	}
	p.known.put(sum, found)
	return found, nil
}
