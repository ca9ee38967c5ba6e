package account

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"
	"golang.org/x/crypto/argon2"
)

var peer = netip.MustParseAddr("192.0.2.1")

func cheap(t testing.TB, password string) Verifier {
	t.Helper()
	salt := []byte("saltsaltsaltsalt")
	enc := base64.RawStdEncoding.EncodeToString
	v, err := ParseVerifier("$argon2id$v=19$m=8,t=1,p=1$" + enc(salt) + "$" + enc(argon2.IDKey([]byte(password), salt, 1, 8, 1, 32)))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestHash: both forms fit their password and no other, and no two are alike.
func TestHash(t *testing.T) {
	t.Parallel()
	for _, forSCRAM := range []bool{false, true} {
		v, err := Hash("correct horse é", forSCRAM)
		if err != nil {
			t.Fatal(err)
		}
		again, _ := Hash("correct horse é", forSCRAM)
		if v.String() == again.String() || v.SCRAM() != forSCRAM {
			t.Errorf("%s, %s", v, again)
		}
		read, err := ParseVerifier(v.String())
		if err != nil || !read.Check("correct horse é") {
			t.Errorf("%s: %v", v, err)
		}
		for _, wrong := range []string{"", "correct horse", "correct horse é ", strings.Repeat("x", MaxPassword+1)} {
			if read.Check(wrong) {
				t.Errorf("%q fits", wrong)
			}
		}
	}
	if (Verifier{}).Check("") || (Verifier{}).Check("x") {
		t.Error("the zero verifier fits")
	}
	for _, bad := range []string{"", strings.Repeat("x", MaxPassword+1), "a\x00b"} {
		if _, err := Hash(bad, false); err == nil {
			t.Errorf("%q has a hash", bad)
		}
	}
}

// TestPublishedVectors: a hash that the reference argon2 made, and the keys of
// RFC 7677's example.
func TestPublishedVectors(t *testing.T) {
	t.Parallel()
	salt, err := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := scramKeys("pencil", scram.KeyFactors{Salt: string(salt), Iters: 4096})
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawStdEncoding.EncodeToString
	v, err := ParseVerifier(fmt.Sprintf("$scram-sha-256$i=4096$%s$%s$%s", enc(salt), enc(keys.StoredKey), enc(keys.ServerKey)))
	if err != nil || !v.Check("pencil") || v.Check("Pencil") {
		t.Error(err)
	}
	// As in PostgreSQL's storage of the same example.
	if got := base64.StdEncoding.EncodeToString(keys.StoredKey); got != "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=" {
		t.Errorf("StoredKey %s", got)
	}
	if got := base64.StdEncoding.EncodeToString(keys.ServerKey); got != "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=" {
		t.Errorf("ServerKey %s", got)
	}
}

var badVerifiers = []string{
	"", "secret", "$", "$argon2id", "$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "$argon2id$v=18$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
	"$argon2id$v=19$m=8,t=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "$argon2id$v=19$m=0,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
	"$argon2id$v=19$m=4000000,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "$argon2id$v=19$m=8,t=99,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA",
	"$argon2id$v=19$m=8,t=1,p=1$$c2FsdHNhbHRzYWx0c2FsdA", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$", "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$!!",
	"$scram-sha-256$i=1$c2FsdHNhbHQ$a$b", "$scram-sha-256$i=4096$c2FsdHNhbHQ$c2FsdHNhbHQ$c2FsdHNhbHQ", "$2y$10$abcdefghijklmnopqrstuv",
}

// TestBadVerifiers: none of them is repeated in its error, for it may be a
// password that was written by mistake.
func TestBadVerifiers(t *testing.T) {
	t.Parallel()
	for _, s := range badVerifiers {
		if _, err := ParseVerifier(s); err == nil {
			t.Errorf("%q is taken", s)
		} else if s == "secret" && strings.Contains(err.Error(), s) {
			t.Errorf("%v", err)
		}
	}
}

// FuzzParseVerifier: what is read is written the same, and is no panic.
func FuzzParseVerifier(f *testing.F) {
	for _, s := range badVerifiers {
		f.Add(s)
	}
	f.Add(cheap(f, "x").String())
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVerifier(s)
		if err == nil && v.String() != s {
			t.Errorf("%q became %q", s, v)
		}
	})
}

func TestSenders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, address string
		want             bool
	}{
		{"*@example.com", "a@example.com", true},
		{"*@Example.COM", "A@EXAMPLE.com", true},
		{"*@example.com", "a@sub.example.com", false},
		{"*@example.com", "a@badexample.com", false},
		{"*@example.com", `"x@example.com"@evil.example`, false},
		{"*@example.com", "@example.com", false},
		{"*@example.com", "", false},
		{"*@*.example.com", "a@sub.example.com", true},
		{"*@*.example.com", "a@x.y.example.com", true},
		{"*@*.example.com", "a@example.com", false},
		{"*@*.example.com", "a@.example.com", false},
		{"*@*.example.com", "a@badexample.com", false},
		{"erp@example.com", "erp@example.com", true},
		{"erp@example.com", "ERP@example.com", true},
		{"erp@example.com", "erp2@example.com", false},
		{"erp@*.example.com", "erp@a.example.com", true},
		{"erp@*.example.com", "x@a.example.com", false},
		{"*@bücher.example", "a@xn--bcher-kva.example", true},
		{"*", "anybody@anywhere.example", true},
	} {
		p, err := ParseSender(c.pattern)
		if err != nil {
			t.Errorf("%s: %v", c.pattern, err)
			continue
		}
		if got := (Senders{p}).Allow(c.address); got != c.want {
			t.Errorf("%s allows %s: %v", c.pattern, c.address, got)
		}
	}
	for _, bad := range []string{"", "example.com", "*.example.com", "@example.com", "*@*", "a*@example.com", "a@*example.com", "a@b.*.example", "a@", "a b@example.com", "a@exa mple.com", "a@example.com\r\nx"} {
		if p, err := ParseSender(bad); err == nil {
			t.Errorf("%q is taken as %q", bad, p)
		}
	}
	if (Senders{}).Allow("a@b.example") || (Senders)(nil).Allow("a@b.example") {
		t.Error("no pattern allows an address")
	}
	many := Senders(strings.Fields(strings.Repeat("*@example.com ", 1000)))
	if len(many.String()) > 2*maxTold {
		t.Errorf("%d octets are told", len(many.String()))
	}
}

func TestRate(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "1/s", "60/m", "1000/h", "5/d"} {
		if r, err := ParseRate(s); err != nil || r.String() != s {
			t.Errorf("%q: %v %v", s, r, err)
		}
	}
	for _, s := range []string{"1", "1/", "/h", "0/h", "-1/h", "+1/h", "01/h", "1/w", "1 /h", "1.5/h", "9999999999/h", "1000000001/h"} {
		if r, err := ParseRate(s); err == nil {
			t.Errorf("%q is %v", s, r)
		}
	}
	b := NewBook(nil)
	users := []User{{Name: "erp", Rate: Rate{60, time.Hour}}}
	b.Configure(users)
	now := time.Now()
	for range 60 {
		if wait := b.User("erp").Spend(now); wait != 0 {
			t.Fatal("waits early:", wait)
		}
	}
	if wait := b.User("erp").Spend(now).Round(time.Second); wait != time.Minute {
		t.Errorf("waits %v", wait)
	}
	b.Configure(users) // a reload gives nothing back
	if wait := b.User("erp").Left(now).Round(time.Second); wait != time.Minute {
		t.Errorf("after a reload %v", wait)
	}
	if b.User("erp").Spend(now.Add(time.Minute+time.Second)) != 0 {
		t.Error("a minute later none is free")
	}
}

// clock is a time that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func TestSignIn(t *testing.T) {
	t.Parallel()
	c := &clock{time.Unix(1e9, 0)}
	b := NewBook(c.now)
	ctx := context.Background()
	if _, err := b.SignIn(ctx, peer, "erp", "secret"); !errors.Is(err, ErrDenied) {
		t.Error("an empty book:", err)
	}
	b = NewBook(c.now)
	b.Configure([]User{{Name: "erp", Password: cheap(t, "secret")}, {Name: "shop", Password: cheap(t, "other")}})
	u, err := b.SignIn(ctx, peer, "erp", "secret")
	if err != nil || u.Name != "erp" {
		t.Fatal(err)
	}
	// The decoy of names that are none is the first user's hash: its password
	// opens nothing.
	if _, err = b.SignIn(ctx, netip.MustParseAddr("192.0.2.3"), "nobody", "secret"); !errors.Is(err, ErrDenied) {
		t.Error("nobody, with the password of the decoy:", err)
	}
	for range 2 { // and from memory
		if u, err = b.SignIn(ctx, peer, "erp", "secret"); err != nil {
			t.Fatal(err)
		}
	}
	for range guardByUser {
		if _, err := b.SignIn(ctx, peer, "erp", "wrong"); !errors.Is(err, ErrDenied) {
			t.Fatal(err)
		}
	}
	var wait *WaitError
	if _, err := b.SignIn(ctx, peer, "erp", "secret"); !errors.As(err, &wait) || wait.After != guardLeak {
		t.Errorf("after %d failures: %v", guardByUser, err)
	}
	if _, err := b.SignIn(ctx, peer, "shop", "other"); err != nil {
		t.Error("another user of the address:", err)
	}
	if _, err := b.SignIn(ctx, netip.MustParseAddr("192.0.2.2"), "erp", "secret"); err != nil {
		t.Error("another address:", err)
	}
	c.at = c.at.Add(guardLeak)
	if _, err := b.SignIn(ctx, peer, "erp", "secret"); err != nil {
		t.Error("after the wait:", err)
	}
	b.Configure([]User{{Name: "erp", Password: cheap(t, "new")}})
	if b.Still(u) != nil {
		t.Error("a changed password leaves the session")
	}
	if _, err := b.SignIn(ctx, netip.MustParseAddr("192.0.2.2"), "erp", "secret"); !errors.Is(err, ErrDenied) {
		t.Error("the old password is remembered:", err)
	}
}

// TestGuard: the address has its own bound, IPv6 by /64, and the table its size.
func TestGuard(t *testing.T) {
	t.Parallel()
	g, now := NewGuard(), time.Unix(1e9, 0)
	six := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n)) }
	for n := range guardByPeer {
		if g.Wait(six(n), fmt.Sprint(n), now) != 0 {
			t.Fatalf("put off after %d", n)
		}
		g.Failed(six(n), fmt.Sprint(n), now)
	}
	if g.Wait(six(999), "fresh", now) == 0 || g.Wait(netip.MustParseAddr("2001:db8:0:1::"), "fresh", now) != 0 {
		t.Error("the /64 is not what counts")
	}
	if g.Wait(six(0), "fresh", now.Add(guardLeak)) != 0 || g.Wait(six(0), "fresh", now.Add(-time.Hour)) == 0 {
		t.Error("time")
	}
	for n := range 3 * guardEntries {
		g.Failed(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), "x", now)
	}
	if n := len(g.mu.entries); n != guardEntries || g.mu.order.Len() != n {
		t.Errorf("%d entries", n)
	}
}

// TestUnknownNamesLookAlike: the salt of a name that is none stays, also after a
// restart, and differs from name to name.
func TestUnknownNamesLookAlike(t *testing.T) {
	t.Parallel()
	hash, err := Hash("secret", true)
	if err != nil {
		t.Fatal(err)
	}
	challenge := func(name string) string {
		b := NewBook(nil)
		b.Configure([]User{{Name: "erp", Password: hash}})
		x, err := b.SCRAMSignIn(peer, Binding{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := x.Step("n,,n=" + name + ",r=abc")
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(s, ",")
		return rest
	}
	first, again, other := challenge("a"), challenge("a"), challenge("b")
	if first != again || first == other {
		t.Error("the salts of unknown names tell them")
	}
	if a, erp := challenge("a"), challenge("erp"); len(a) != len(erp) || a[strings.LastIndex(a, ","):] != erp[strings.LastIndex(erp, ","):] {
		t.Errorf("%s and %s", a, erp)
	}
}

// TestSCRAMOffered only when every user has its keys.
func TestSCRAMOffered(t *testing.T) {
	t.Parallel()
	keys, err := Hash("x", true)
	if err != nil {
		t.Fatal(err)
	}
	b := NewBook(nil)
	for _, c := range []struct {
		users []User
		want  bool
	}{{nil, false}, {[]User{{Name: "a", Password: keys}}, true}, {[]User{{Name: "a", Password: keys}, {Name: "b", Password: cheap(t, "x")}}, false}} {
		if b.Configure(c.users); b.SCRAM() != c.want {
			t.Errorf("%d users: %v", len(c.users), b.SCRAM())
		}
	}
}
