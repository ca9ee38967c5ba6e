package account

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// User is one who may send after signing in. It is never changed.
type User struct {
	Name     string
	Password Verifier
	From     Senders // of the envelope and of the From field
	Stream   string  // of its messages; empty: the door's
	Rate     Rate    // messages; zero: no bound
	Key      Key     // of HTTP, and instead of the password; zero: none
	Scopes   []Scope // what may be done over HTTP

	limiter *rate.Limiter
	proof   *atomic.Pointer[[sha256.Size]byte]
}

// ErrDenied says that user and password do not fit, not which of them is wrong.
var ErrDenied = errors.New("user name or password is wrong")

// WaitError says that there were too many failures from an address; the
// password was not looked at.
type WaitError struct{ After time.Duration }

// Error implements error.
func (e *WaitError) Error() string {
	return "too many failed sign-ins, try again in " + seconds(e.After)
}

func seconds(d time.Duration) string {
	return (max(d, time.Second) + time.Second - 1).Truncate(time.Second).String()
}

// maxName is the longest name of a user, in octets.
const maxName = 128

// maxChecks bounds the passwords that are checked at once: each takes the
// memory and a core that its hash asks for.
const maxChecks = 2

// Book holds the users. One serves all doors, so that rates and failures count
// wherever a user comes in.
type Book struct {
	guard   *Guard
	now     func() time.Time
	secret  [32]byte // keys what is remembered of good passwords
	checks  chan struct{}
	current atomic.Pointer[page]
	writing sync.Mutex // one Configure at a time
}

// page is one immutable set of users.
type page struct {
	users map[string]*User
	keys  map[[sha256.Size]byte]*User // by the hash of their key
	bare  []*User                     // the first with a password, for tokens without a name
	known known                       // such tokens that were right
	scram bool                        // every user with a password can use SCRAM
	decoy Verifier                    // what an unknown name is checked against
	salt  [32]byte                    // makes the salts of unknown names, the same after a restart
}

// NewBook makes an empty Book; now is the clock, nil: time.Now.
func NewBook(now func() time.Time) *Book {
	b := &Book{guard: NewGuard(), now: now, checks: make(chan struct{}, maxChecks)}
	if b.now == nil {
		b.now = time.Now
	}
	rand.Read(b.secret[:]) // never fails (crypto/rand)
	b.Configure(nil)
	return b
}

// Configure replaces the users. One whose rate is as before goes on with what
// is left of it.
func (b *Book) Configure(users []User) {
	b.writing.Lock()
	defer b.writing.Unlock()
	next := &page{users: make(map[string]*User, len(users)), keys: make(map[[sha256.Size]byte]*User)}
	old := b.current.Load()
	seed := sha256.New()
	for i := range users {
		u := users[i]
		u.limiter, u.proof = u.Rate.limiter(), new(atomic.Pointer[[sha256.Size]byte])
		if old != nil {
			if before := old.users[u.Name]; before != nil && before.Rate == u.Rate {
				u.limiter = before.limiter
			}
		}
		next.add(&u)
		seed.Write([]byte(u.Password.String()))
	}
	seed.Sum(next.salt[:0])
	b.current.Store(next)
}

// add takes a user into a page that nobody reads yet.
func (p *page) add(u *User) {
	p.users[u.Name] = u
	if !u.Key.IsZero() {
		p.keys[u.Key.hash] = u
	}
	if u.Password.String() == "" {
		return
	}
	if len(p.bare) < maxTrials {
		p.bare = append(p.bare, u)
	}
	if p.decoy.String() == "" {
		p.decoy, p.scram = u.Password, true
	}
	p.scram = p.scram && u.Password.SCRAM()
}

// Len is how many users there are.
func (b *Book) Len() int { return len(b.current.Load().users) }

// SCRAM reports whether SCRAM-SHA-256 works for every user: only then it may be
// offered, for a client takes the strongest that is offered, and would fail for
// the others.
func (b *Book) SCRAM() bool { return b.current.Load().scram }

// User gives a user by name as it is now; nil when there is none.
func (b *Book) User(name string) *User { return b.current.Load().users[name] }

// Still gives what a user who signed in earlier is now; nil when it is gone or
// has another password or key.
func (b *Book) Still(u *User) *User {
	now := b.User(u.Name)
	if now == nil || now.Password.String() != u.Password.String() || now.Key != u.Key {
		return nil
	}
	return now
}

// SignIn checks a password, or a key in its place. The error is ErrDenied, a *WaitError, or that of
// ctx, which bounds the wait for others' checks.
func (b *Book) SignIn(ctx context.Context, peer netip.Addr, name, password string) (*User, error) {
	p := b.current.Load()
	u := p.users[name]
	if u != nil && p.byKey(password) == u { // see SignInToken why before the guard
		return u, nil
	}
	if len(name) > maxName || len(password) > MaxPassword {
		name, u = nameless, nil // the guard must not keep it
	}
	if wait := b.guard.Wait(peer, name, b.now()); wait > 0 {
		return nil, &WaitError{wait}
	}
	if u != nil && u.remembers(b.proof(u, password)) {
		return u, nil
	}
	select {
	case b.checks <- struct{}{}:
		defer func() { <-b.checks }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Others may have failed while this one waited for its turn.
	if wait := b.guard.Wait(peer, name, b.now()); wait > 0 {
		return nil, &WaitError{wait}
	}
	verifier := p.decoy
	has := u != nil && u.Password.String() != ""
	if has {
		verifier = u.Password
	}
	if !verifier.Check(password) || !has { // the same work for a name that is none
		b.guard.Failed(peer, name, b.now())
		return nil, ErrDenied
	}
	proof := b.proof(u, password)
	u.proof.Store(&proof)
	return u, nil
}

// proof is a keyed hash of a password, for remembering that it was good without
// keeping it: a busy client signs in for each connection, and an argon2id hash
// takes 20 ms.
func (b *Book) proof(u *User, password string) (sum [sha256.Size]byte) {
	h := hmac.New(sha256.New, b.secret[:])
	h.Write([]byte(u.Password.String()))
	h.Write([]byte{0})
	h.Write([]byte(password))
	h.Sum(sum[:0])
	return sum
}

func (u *User) remembers(proof [sha256.Size]byte) bool {
	good := u.proof.Load()
	return good != nil && hmac.Equal(good[:], proof[:])
}

// Spend takes one message of the user's rate. When none is left it gives the
// time until there is, and takes nothing.
func (u *User) Spend(now time.Time) (wait time.Duration) {
	wait, _ = u.SpendN(now, 1)
	return wait
}

// SpendN is Spend for several messages: all or none. It is false when the rate
// never allows as many at once.
func (u *User) SpendN(now time.Time, n int) (wait time.Duration, ok bool) {
	if u.limiter == nil {
		return 0, true
	}
	r := u.limiter.ReserveN(now, n)
	if !r.OK() {
		return 0, false
	}
	if wait = r.DelayFrom(now); wait > 0 {
		r.CancelAt(now)
	}
	return wait, true
}

// Left is the time until the user may send again; 0: now.
func (u *User) Left(now time.Time) time.Duration {
	if u.limiter == nil {
		return 0
	}
	missing := 1 - u.limiter.TokensAt(now)
	if missing <= 0 {
		return 0
	}
	return max(time.Nanosecond, time.Duration(missing/float64(u.limiter.Limit())*float64(time.Second)))
}
