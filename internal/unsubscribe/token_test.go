package unsubscribe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"mailout/internal/keyring"
	"mailout/internal/mta"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)

func ring(t testing.TB) sealers {
	t.Helper()
	r, err := keyring.Open(filepath.Join(t.TempDir(), "keys"), noon, keyring.Use{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := newSealers(r)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (all sealers) token(t testing.TB, l leave) string {
	t.Helper()
	token, ok := all[0].appendToken(nil, l, 400)
	if !ok {
		t.Fatalf("no token for %+v", l)
	}
	return string(token)
}

// TestTokens: 100,000 of them are all different, each says what was put into it,
// fits a URL as it is, and shows nothing of that.
func TestTokens(t *testing.T) {
	t.Parallel()
	all := ring(t)
	seen := make(map[string]bool, 100_000)
	for i := range 100_000 {
		l := leave{stream: "news", address: "ann.example+" + string(rune('a'+i%26)) + "@example.com", message: mta.NewID(noon.Add(time.Duration(i/26)*time.Millisecond), [10]byte{byte(i)})}
		token := all.token(t, l)
		if seen[token] {
			t.Fatalf("%d: %s was made before", i, token)
		}
		seen[token] = true
		if got, ok := all.open(token); !ok || got != l {
			t.Fatalf("%d: %+v of %+v", i, got, l)
		}
		if i == 0 && (len(token) > 120 || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" || token != all.token(t, l)) {
			t.Errorf("%s: too long, not for a URL, or another one the second time", token)
		}
	}
}

// TestAnyToken: whatever address and stream there are, the token says them, within
// its room; without the ID where there is no room for that.
func TestAnyToken(t *testing.T) {
	t.Parallel()
	all := ring(t)
	rapid.Check(t, func(rt *rapid.T) {
		l := leave{stream: rapid.StringN(0, -1, maxStream).Draw(rt, "stream"), address: rapid.StringN(0, -1, maxAddress).Draw(rt, "address")}
		copy(l.message[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(rt, "id"))
		room := rapid.IntRange(0, 480).Draw(rt, "room")
		token, ok := all[0].appendToken([]byte("x"), l, room)
		if !ok {
			if room >= tokens.EncodedLen(headLen+1+len(l.stream)+len(l.address)) {
				rt.Fatal("there was room")
			}
			return
		}
		got, opened := all.open(string(token[1:]))
		if !opened || got.stream != l.stream || got.address != l.address || len(token)-1 > room {
			rt.Fatalf("%d octets in %d: %+v, %v", len(token)-1, room, got, opened)
		}
		if full := tokens.EncodedLen(headLen + 1 + len(l.stream) + 16 + len(l.address)); got.message != l.message && room >= full {
			rt.Fatal("the message is left out, and there was room")
		}
	})
	if _, ok := all[0].appendToken(nil, leave{stream: strings.Repeat("s", 65), address: "a@b.example"}, 1000); ok {
		t.Error("a stream's name that does not fit is taken")
	}
	if _, ok := all[0].appendToken(nil, leave{address: strings.Repeat("a", 255)}, 1000); ok {
		t.Error("an address that does not fit is taken")
	}
}

// TestForgedTokens: nothing but what was made opens: no change of any character,
// nothing cut off or added, no other key, version or alphabet.
func TestForgedTokens(t *testing.T) {
	t.Parallel()
	all, other := ring(t), ring(t)
	token := all.token(t, leave{stream: "news", address: "ann@example.com", message: mta.ID{1, 2, 3}})
	refuse := func(what, forged string) {
		t.Helper()
		if l, ok := all.open(forged); ok {
			t.Errorf("%s: %s says %+v", what, forged, l)
		}
	}
	for i := range token {
		refuse("cut off", token[:i])
		refuse("cut off before", token[i+1:])
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
			if byte(c) != token[i] {
				refuse("changed", token[:i]+string(c)+token[i+1:])
			}
		}
	}
	if _, ok := other.open(token); ok {
		t.Error("a token of another instance opens")
	}
	for what, forged := range map[string]string{
		"longer": token + "A", "padded": token + "=", "with a line end": token + "\n", "with a line end inside": token[:40] + "\r\n" + token[40:],
		"huge": strings.Repeat("A", 1<<20), "empty": "", "another alphabet": strings.NewReplacer("-", "+", "_", "/").Replace(token) + "+",
	} {
		refuse(what, forged)
	}
	raw, err := tokens.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	raw[0] = 2
	refuse("another version", tokens.EncodeToString(raw))
}

// TestLastBits: of the bits that base64 leaves over none may be set, so that a
// token has one spelling.
func TestLastBits(t *testing.T) {
	t.Parallel()
	all := ring(t)
	for n := range 3 {
		token := all.token(t, leave{stream: "news", address: strings.Repeat("a", n) + "@example.com"})
		opened := 0
		for _, c := range "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" {
			if _, ok := all.open(token[:len(token)-1] + string(c)); ok {
				opened++
			}
		}
		if opened != 1 {
			t.Errorf("%d spellings", opened)
		}
	}
}

// TestOldKeys: a link works for years, over changes of the key.
func TestOldKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	at := noon
	desk := func() *Desk {
		d, err := New(Options{Keys: path, Settings: Settings{URL: "https://news.example.com/u"}, Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	token := (*desk().keys.Load()).token(t, leave{stream: "news", address: "ann@example.com"})
	for range 12 { // three years of restarts
		at = at.Add(keyring.Life)
		if _, err := desk().open(token); err != nil {
			t.Fatal(at, err)
		}
	}
	at = at.AddDate(50, 0, 0) // a clock that is wrong for a moment
	desk()
	at = at.AddDate(-50, 0, 0)
	if _, err := desk().open(token); err != nil {
		t.Error("a wrong clock ends links:", err)
	}
	if newest := (*desk().keys.Load()); newest.token(t, leave{stream: "news", address: "ann@example.com"}) == token {
		t.Error("the key in use is the first one")
	}
}

// TestFits: what the check of the configuration promises holds for the longest
// address.
func TestFits(t *testing.T) {
	t.Parallel()
	all := ring(t)
	for n := range 200 {
		url, stream := "https://"+strings.Repeat("u", n), strings.Repeat("s", 40)
		token, ok := all[0].appendToken(nil, leave{stream: stream, address: strings.Repeat("a", maxAddress)}, MaxURL-len(url)-1)
		if ok != Fits(url, stream) || ok && len(url)+1+len(token) > MaxURL {
			t.Errorf("%d: a token is made: %v, promised: %v", n, ok, Fits(url, stream))
		}
	}
	if !Fits("https://news.example.com/u", strings.Repeat("s", maxStream)) {
		t.Error("a usual URL does not fit")
	}
}

// FuzzOpen: no text opens but what was made, and none does harm.
func FuzzOpen(f *testing.F) {
	all := ring(f)
	token := all.token(f, leave{stream: "news", address: "ann@example.com", message: mta.ID{1}})
	f.Add("")
	f.Add("AQA")
	f.Add(token[1:])
	f.Add(strings.Repeat("A", 471))
	f.Add("AQ" + strings.Repeat("_", 60))
	f.Fuzz(func(t *testing.T, s string) {
		if l, ok := all.open(s); ok {
			t.Fatalf("%q says %+v", s, l)
		}
	})
}

// FuzzReadLeave: what is sealed is read within its bounds, whatever it is.
func FuzzReadLeave(f *testing.F) {
	f.Add([]byte{4, 'n', 'e', 'w', 's', 'a', '@', 'b'})
	f.Add([]byte{0x84, 'n', 'e', 'w', 's', 1, 2, 3})
	f.Add([]byte{0xff})
	f.Add(append([]byte{withID}, make([]byte, 16)...))
	f.Fuzz(func(t *testing.T, plain []byte) {
		if len(plain) == 0 {
			return
		}
		l, ok := readLeave(plain)
		if n := 1 + len(l.stream) + len(l.address); ok && n != len(plain) && n+16 != len(plain) {
			t.Fatalf("%x: %+v", plain, l)
		}
	})
}

// TestTokenVector: a link that went out is read for ever, so the format of this
// version never changes.
func TestTokenVector(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("5 1768046400 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r, err := keyring.Open(path, noon, keyring.Use{})
	if err != nil {
		t.Fatal(err)
	}
	all, err := newSealers(r)
	if err != nil {
		t.Fatal(err)
	}
	l := leave{"news", "ann@example.com", mta.ID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}}
	const want = "AQXD4kh4otCyDhkmoDmxrA2uvzclfQlzgjhz_1p3gc44ABoPpS-AkIR56Z6ye8YotxjPbPRZ"
	if got := all.token(t, l); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, ok := all.open(want); !ok || got != l {
		t.Errorf("%+v, %v", got, ok)
	}
}
