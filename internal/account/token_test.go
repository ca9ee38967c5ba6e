package account

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestKey: what NewKey makes is found by its hash, in the form of the
// configuration, and nothing near it is.
func TestKey(t *testing.T) {
	t.Parallel()
	text, hash := NewKey()
	again, _ := NewKey()
	if text == again || len(text) < 50 || !strings.HasPrefix(text, "mo_") {
		t.Errorf("%q, %q", text, again)
	}
	read, err := ParseKey(hash.String())
	if err != nil || read != hash || hash.IsZero() {
		t.Errorf("%s: %v", hash, err)
	}
	for _, bad := range []string{"", text, "sha256:", "sha256:00", hash.String() + "0", strings.ToUpper(hash.String())[:70], "md5:" + hash.String()[7:]} {
		if k, err := ParseKey(bad); err == nil || !k.IsZero() || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if (Key{}).String() != "" || !(Key{}).IsZero() {
		t.Error("the zero key is a key")
	}
}

func ctxOf(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// TestSignInToken: each form of a token is its user's, and no other's.
func TestSignInToken(t *testing.T) {
	t.Parallel()
	key, hash := NewKey()
	b := NewBook(nil)
	b.Configure([]User{
		{Name: "web", Key: hash},
		{Name: "erp", Password: cheap(t, "pencil")},
		{Name: "shop", Password: cheap(t, "rubber:band")},
	})
	for _, c := range []struct{ token, user string }{
		{key, "web"}, {"erp:pencil", "erp"}, {"pencil", "erp"}, {"shop:rubber:band", "shop"}, {"web:" + key, "web"},
		{"", ""}, {"pencil ", ""}, {"erp:", ""}, {":pencil", ""}, {"shop:pencil", ""}, {"web:pencil", ""}, {"web:", ""},
		{"rubber:band", ""}, // a colon divides
		{hash.String(), ""}, // the hash is no key
		{key + "x", ""}, {key[3:], ""}, {strings.ToUpper(key), ""},
		{"erp:" + key, ""},
		{strings.Repeat("x", 100_000), ""}, {"erp:" + strings.Repeat("x", 100_000), ""}, {strings.Repeat("n", 100_000) + ":x", ""},
	} {
		b.guard = NewGuard()
		for range 2 { // the second time from memory
			u, err := b.SignInToken(ctxOf(t), peer, c.token)
			switch {
			case c.user == "" && !errors.Is(err, ErrDenied):
				t.Errorf("%.80q: %v, %v", c.token, u, err)
			case c.user != "" && (err != nil || u.Name != c.user):
				t.Errorf("%.80q is %v, %v", c.token, u, err)
			}
		}
	}
	if n := len(b.guard.mu.entries); n > 2 {
		t.Error(n, "entries")
	}
	for k := range b.guard.mu.entries {
		if len(k.user) > maxName {
			t.Error("the guard keeps a name of", len(k.user), "octets")
		}
	}
}

// TestKeyWorksAsPassword: SMTP clients that only know name and password can use
// a key.
func TestKeyWorksAsPassword(t *testing.T) {
	t.Parallel()
	key, hash := NewKey()
	b := NewBook(nil)
	b.Configure([]User{{Name: "web", Key: hash}, {Name: "erp", Password: cheap(t, "pencil")}})
	if u, err := b.SignIn(ctxOf(t), peer, "web", key); err != nil || u.Name != "web" {
		t.Error(u, err)
	}
	for _, c := range [][2]string{{"erp", key}, {"web", "pencil"}, {"web", ""}, {"nobody", key}} {
		if u, err := b.SignIn(ctxOf(t), peer, c[0], c[1]); !errors.Is(err, ErrDenied) {
			t.Error(c, u, err)
		}
	}
	if b.SCRAM() {
		t.Error("SCRAM is offered for argon2id")
	}
}

// TestBareTokensAreBounded: a token without a name costs at most eight checks,
// and what was right is remembered without bound in time but in number, until a
// reload.
func TestBareTokensAreBounded(t *testing.T) {
	t.Parallel()
	b := NewBook(nil)
	var users []User
	for i := range maxTrials + 1 {
		users = append(users, User{Name: fmt.Sprint("u", i), Password: cheap(t, fmt.Sprint("pw", i))})
	}
	b.Configure(users)
	for i := range maxTrials {
		if u, err := b.SignInToken(ctxOf(t), peer, fmt.Sprint("pw", i)); err != nil || u.Name != fmt.Sprint("u", i) {
			t.Error(i, u, err)
		}
	}
	beyond := fmt.Sprint("pw", maxTrials)
	if _, err := b.SignInToken(ctxOf(t), peer, beyond); !errors.Is(err, ErrDenied) {
		t.Error("more than", maxTrials, "passwords were tried:", err)
	}
	if u, err := b.SignInToken(ctxOf(t), peer, fmt.Sprintf("u%d:%s", maxTrials, beyond)); err != nil || u.Name != fmt.Sprint("u", maxTrials) {
		t.Error(u, err)
	}
	var k known
	for i := range 3 * maxKnown {
		k.put([32]byte{byte(i), byte(i >> 8)}, &User{})
	}
	if n := len(k.mu.users); n != maxKnown {
		t.Error(n, "tokens are remembered")
	}

	// A password that was changed is not remembered.
	users[0].Password = cheap(t, "new")
	b.Configure(users)
	if u, err := b.SignInToken(ctxOf(t), peer, "pw0"); !errors.Is(err, ErrDenied) {
		t.Error("the old password still opens:", u, err)
	}
	if u, err := b.SignInToken(ctxOf(t), peer, "new"); err != nil || u.Name != "u0" {
		t.Error(u, err)
	}
}

// TestTokensAreGuarded: guessing is put off as at the SMTP door, for every form
// but the key, which cannot be guessed and must not be locked out by others.
func TestTokensAreGuarded(t *testing.T) {
	t.Parallel()
	key, hash := NewKey()
	c := &clock{at: time.Unix(1e9, 0)}
	b := NewBook(c.now)
	b.Configure([]User{{Name: "web", Key: hash}, {Name: "erp", Password: cheap(t, "pencil")}})
	for range guardByUser { // as many as one name gets, which keeps nobody else out
		if _, err := b.SignInToken(ctxOf(t), peer, "web:old"); !errors.Is(err, ErrDenied) {
			t.Fatal(err)
		}
	}
	for i := range guardByUser {
		if _, err := b.SignInToken(ctxOf(t), peer, fmt.Sprint("guess", i)); !errors.Is(err, ErrDenied) {
			t.Fatal(i, err)
		}
	}
	var wait *WaitError
	if u, err := b.SignInToken(ctxOf(t), peer, "erp:pencil"); err != nil || u.Name != "erp" {
		t.Error("guesses without a name lock out who has one:", err)
	}
	for i := range guardByPeer - 2*guardByUser {
		_, _ = b.SignInToken(ctxOf(t), peer, fmt.Sprintf("n%d:x", i))
	}
	for _, token := range []string{"pencil", "erp:pencil", "guess"} {
		if _, err := b.SignInToken(ctxOf(t), peer, token); !errors.As(err, &wait) || wait.After <= 0 {
			t.Errorf("%q is looked at: %v", token, err)
		}
	}
	if u, err := b.SignInToken(ctxOf(t), peer, key); err != nil || u.Name != "web" {
		t.Error("the key is locked out:", err)
	}
	other := peer.Next()
	if u, err := b.SignInToken(ctxOf(t), other, "pencil"); err != nil || u.Name != "erp" {
		t.Error("another address is locked out:", err)
	}
	c.at = c.at.Add(guardLeak + time.Second)
	if u, err := b.SignInToken(ctxOf(t), peer, "pencil"); err != nil || u.Name != "erp" {
		t.Error("never let in again:", err)
	}
}

// TestStillKnowsKeys: a session does not outlive its key.
func TestStillKnowsKeys(t *testing.T) {
	t.Parallel()
	_, one := NewKey()
	_, two := NewKey()
	b := NewBook(nil)
	b.Configure([]User{{Name: "web", Key: one}})
	u := b.User("web")
	b.Configure([]User{{Name: "web", Key: one}})
	if b.Still(u) == nil {
		t.Error("a reload without a change ends sessions")
	}
	b.Configure([]User{{Name: "web", Key: two}})
	if b.Still(u) != nil {
		t.Error("the session outlives its key")
	}
}

func TestScopes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		has  []Scope
		may  []Scope
		cant []Scope
	}{
		{nil, []Scope{ScopeSend}, []Scope{ScopeRead, ScopeControl, ScopeAdmin}},
		{[]Scope{ScopeRead}, []Scope{ScopeRead}, []Scope{ScopeSend, ScopeControl, ScopeAdmin, ""}},
		{[]Scope{ScopeAdmin}, []Scope{ScopeSend, ScopeRead, ScopeControl, ScopeAdmin}, nil},
	} {
		u := &User{Scopes: c.has}
		for _, s := range c.may {
			if !u.May(s) {
				t.Error(c.has, "may not", s)
			}
		}
		for _, s := range c.cant {
			if u.May(s) {
				t.Error(c.has, "may", s)
			}
		}
	}
	ctx := WithUser(t.Context(), &User{Name: "erp"})
	if UserOf(ctx) == nil || UserOf(ctx).Name != "erp" || UserOf(t.Context()) != nil {
		t.Error("the user is not in the context")
	}
}
