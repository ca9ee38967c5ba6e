package account

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/xdg-go/scram"
)

// exchangeSeeds are first and final messages; NONCE in the final one becomes the
// server's nonce, GS2 and BOUND the header of the first message in base64, alone
// and with the binding's value, and PROOF the proof that belongs to it all.
var exchangeSeeds = [][2]string{
	{"n,,n=erp,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"n,a=erp,n=erp,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"n,a=boss,n=erp,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"n,,n=erp,r=abc,x=ext", "c=GS2,r=NONCE,x=ext,p=PROOF"},
	{"y,,n=erp,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"p=tls-exporter,,n=erp,r=abc", "c=BOUND,r=NONCE,p=PROOF"},
	{"p=tls-exporter,,n=erp,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"p=tls-unique,,n=erp,r=abc", "c=BOUND,r=NONCE,p=PROOF"},
	{"p=nonsense,,n=erp,r=abc", "c=BOUND,r=NONCE,p=PROOF"},
	{"n,,n=nobody,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"n,,n=er=70p,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"n,,n==2C=3D,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"n,,m=ext,n=erp,r=abc", "c=GS2,r=NONCE,p=PROOF"},
	{"n,,n=erp,r=", "c=GS2,r=NONCE,p=PROOF"},
	{"n,,n=erp,r=abc", "c=GS2,r=abc,p=PROOF"},
	{"n,,n=erp,r=abc", "c=!,r=NONCE,p=!"},
	{"n,,n=erp,r=abc", "c=GS2,r=NONCE,p="},
	{"", ""}, {"n,,", ","}, {",,,,", ",,,"}, {"n,,n=erp\x00,r=\xff", "c=\x00,r=\xff,p="},
}

// FuzzSCRAMExchange plays any two messages to an exchange. They open it only
// when their proof is right, of the user that they name and no other, and the
// binding is as the mechanism demands.
func FuzzSCRAMExchange(f *testing.F) {
	for _, s := range exchangeSeeds {
		for _, plus := range []bool{false, true} {
			f.Add(s[0], s[1], plus, true)
			f.Add(s[0], s[1], plus, false)
		}
	}
	keys, err := scram.SHA256.NewClient("", "secret", "")
	if err != nil {
		f.Fatal(err)
	}
	known, err := keys.GetStoredCredentialsWithError(scram.KeyFactors{Salt: "saltsaltsaltsalt", Iters: 4096})
	if err != nil {
		f.Fatal(err)
	}
	// The client's key is the proof's other half (RFC 5802 3).
	clientKey := clientKeyOf("secret", "saltsaltsaltsalt", 4096)
	if sum := sha256.Sum256(clientKey); !hmac.Equal(sum[:], known.StoredKey) {
		f.Fatal("the keys of this test are wrong")
	}
	f.Fuzz(func(t *testing.T, first, final string, plus, bound bool) {
		binding := Binding{Plus: plus}
		if bound {
			binding.Exporter = []byte("exporter of this connection 1234")
		}
		b := NewBook(nil)
		b.Configure([]User{{Name: "erp", Password: Verifier{text: "x", scram: &known}}})
		x, err := b.SCRAMSignIn(peer, binding)
		if (err != nil) != (plus && !bound) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		challenge, err := x.Step(first)
		if err != nil {
			if _, err := x.Done(); err == nil {
				t.Error("an exchange that failed is done")
			}
			return
		}
		final = fillIn(final, first, challenge, string(binding.Exporter), clientKey, known.StoredKey)
		_, failed := x.Step(final)
		user, err := x.Done()
		if err == nil && failed != nil {
			t.Error("an exchange that failed is done")
		}
		if err != nil {
			return
		}
		flag, rest, _ := strings.Cut(first, ",")
		act, rest, _ := strings.Cut(rest, ",")
		name, _, _ := strings.Cut(rest, ",")
		if user.Name != "erp" || name != "n=erp" || act != "" && act != "a=erp" {
			t.Errorf("%q opens as %s", first, user.Name)
		}
		if plus != (flag == "p=tls-exporter") || plus && !bound || flag == "y" && bound {
			t.Errorf("%q opens; PLUS chosen %v, offered %v", first, plus, bound)
		}
		if value := string(binding.Exporter); plus && !strings.Contains(final, base64.StdEncoding.EncodeToString([]byte(flag+","+act+","+value))) {
			t.Errorf("%q opens without the binding's value", final)
		}
	})
}

// fillIn puts what only the exchange tells into a final message.
func fillIn(final, first, challenge, exporter string, clientKey, storedKey []byte) string {
	fields := strings.SplitN(first, ",", 3)
	if len(fields) < 3 {
		return final
	}
	nonce, _, _ := strings.Cut(strings.TrimPrefix(challenge, "r="), ",")
	enc := base64.StdEncoding.EncodeToString
	gs2 := fields[0] + "," + fields[1] + ","
	final = strings.NewReplacer("NONCE", nonce, "GS2", enc([]byte(gs2)), "BOUND", enc([]byte(gs2+exporter))).Replace(final)
	i := strings.LastIndex(final, ",")
	if i < 0 {
		return final
	}
	signature := hmac.New(sha256.New, storedKey)
	signature.Write([]byte(fields[2] + "," + challenge + "," + final[:i]))
	proof := signature.Sum(nil)
	for n := range proof {
		proof[n] ^= clientKey[n]
	}
	return strings.ReplaceAll(final, "PROOF", enc(proof))
}

// clientKeyOf is ClientKey of RFC 5802 3, by PBKDF2 with one block.
func clientKeyOf(password, salt string, iterations int) []byte {
	mac := hmac.New(sha256.New, []byte(password))
	mac.Write([]byte(salt + "\x00\x00\x00\x01"))
	u := mac.Sum(nil)
	salted := append([]byte(nil), u...)
	for range iterations - 1 {
		mac.Reset()
		mac.Write(u)
		u = mac.Sum(u[:0])
		for i := range salted {
			salted[i] ^= u[i]
		}
	}
	key := hmac.New(sha256.New, salted)
	key.Write([]byte("Client Key"))
	return key.Sum(nil)
}
