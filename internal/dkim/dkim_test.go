package dkim

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// The message and the published keys of RFC 8463, appendix A.
const (
	rfcEd25519 = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
	rfcRSA     = "v=DKIM1; k=rsa; p=MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDkHlOQoBTzWRiGs5V6NpP3idY6Wk08a5qhdR6wy5bdOKb2jLQiY/J16JYi0Qvx/byYzCNb3W91y3FutACDfzwQ/BC/e/8uBsCR+yz1Lxj+PL6lHvqMKrM3rG4hstT5QjvHO9PzoxZyVYLzBfO2EeC3Ip3G+2kryOTIKT+l/K4w3QIDAQAB"
)

const rfcMessage = "From: Joe SixPack <joe@football.example.com>\r\nTo: Suzie Q <suzie@shopping.example.net>\r\n" +
	"Subject: Is dinner ready?\r\nDate: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n" +
	"Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n\r\n"

func key(t *testing.T, a Algorithm) *Key {
	t.Helper()
	k, err := Generate(a, 0)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// verify asks a verifier that is not ours about the one signature of a message.
func verify(t *testing.T, message, record string) error {
	t.Helper()
	lookUp := func(string) ([]string, error) { return []string{record}, nil }
	found, err := msgauth.VerifyWithOptions(strings.NewReader(message), &msgauth.VerifyOptions{LookupTXT: lookUp})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d signatures, %v", len(found), err)
	}
	return found[0].Err
}

func TestKeysSignVerifyAndSurviveTheirFile(t *testing.T) {
	for _, a := range []Algorithm{RSA, Ed25519} {
		k := key(t, a)
		sig, err := Sign(nil, Octets(rfcMessage+" \tx  y \r\n\r\n\r\n"), []SigningKey{{"widget.com", "m1", k}}, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if err := verify(t, string(sig)+rfcMessage+" x y\r\n", k.TXT()); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		if err := verify(t, string(sig)+rfcMessage+" x y\r\n", key(t, a).TXT()); err == nil {
			t.Errorf("%s: another key verified", a)
		}
		text, err := k.PEM()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "k.pem")
		if err := os.WriteFile(path, append([]byte("a comment\n"), text...), 0o600); err != nil {
			t.Fatal(err)
		}
		again, err := Load(path)
		if err != nil || again.TXT() != k.TXT() || again.Algorithm() != a || !again.Strong() {
			t.Errorf("%s: %v, %v", a, again, err)
		}
		if r, err := ParseRecord(k.TXT()); err != nil || !k.Matches(r) || key(t, a).Matches(r) {
			t.Errorf("%s: %+v, %v", a, r, err)
		}
	}
}

func TestLoadPKCS1AndWeakKeys(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	k, err := Parse(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(weak)}))
	if err != nil || k.Bits() != 1024 || k.Strong() {
		t.Fatalf("%v, %v", k, err)
	}
	r, err := ParseRecord("p=" + base64.StdEncoding.EncodeToString(x509.MarshalPKCS1PublicKey(&weak.PublicKey)))
	if err != nil || !k.Matches(r) {
		t.Errorf("the short form of the key (erratum 3017): %+v, %v", r, err)
	}
	if _, err := Generate(RSA, 1024); err == nil {
		t.Error("a weak key was made")
	}
	if _, err := Generate("dsa", 0); err == nil {
		t.Error("a DSA key was made")
	}
}

func TestParseRefuses(t *testing.T) {
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(curve)
	if err != nil {
		t.Fatal(err)
	}
	block := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	for problem, text := range map[string]string{
		"holds no key in PEM form":            "hello",
		"the private one is needed":           block("PUBLIC KEY", []byte("x")),
		"protected by a pass phrase":          block("ENCRYPTED PRIVATE KEY", []byte("x")),
		`holds a "CERTIFICATE"`:               block("CERTIFICATE", []byte("x")),
		"cannot be read":                      block("PRIVATE KEY", []byte("x")),
		"DKIM has only RSA and Ed25519":       block("PRIVATE KEY", der),
		"cannot be read: asn1":                block("RSA PRIVATE KEY", []byte("x")),
		"is protected by a pass phrase: keep": "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\neA==\n-----END RSA PRIVATE KEY-----\n",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%v, want %q", err, problem)
		}
	}
	big := filepath.Join(t.TempDir(), "big")
	if err := os.WriteFile(big, bytes.Repeat([]byte("x"), maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(big); err == nil || !strings.Contains(err.Error(), "larger than any key") {
		t.Error(err)
	}
}

func TestParseRecord(t *testing.T) {
	for text, problem := range map[string]string{
		"":                               "empty",
		"v=DKIM1; k=rsa":                 "no key (p=)",
		"k=rsa; v=DKIM1; p=":             "begin with v=DKIM1",
		"v=DKIM2; p=":                    "begin with v=DKIM1",
		"v=DKIM1; p=a; p=b":              "twice",
		"v=DKIM1; rubbish; p=":           "no TAG=VALUE",
		"v=DKIM1; p=!!":                  "not base64",
		"v=DKIM1; p=AAAA":                "no public key of RSA",
		"v=DKIM1; k=ed25519; p=AAAA":     "3 octets",
		"v=DKIM1; k=dsa; p=AAAA":         "no algorithm",
		"v=DKIM1\\; k=rsa\\; p=AAAA\\;x": "",
	} {
		if _, err := ParseRecord(text); err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%q: %v, want %q", text, err, problem)
		}
	}
	r, err := ParseRecord("v=DKIM1; h=sha1; s=tlsrpt; t=y:s; p=")
	if err != nil || !r.Revoked() || !r.Testing() || r.Usable() == "" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := ParseRecord(strings.Replace(rfcRSA, "QDk", "QD \t k", 1)); err != nil || !r.Spaced || r.Usable() != "" || r.Testing() {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestDamage(t *testing.T) {
	want := key(t, RSA).TXT()
	for text, sign := range map[string]string{
		want:                                 "",
		key(t, RSA).TXT():                    "",
		want[:255]:                           "cut off after 255",
		want[:255] + `" "` + want[255:]:      "quotation marks",
		`"` + want + `"`:                     "quotation marks",
		strings.ReplaceAll(want, ";", `\;`):  "backslashes",
		want[:255] + " " + want[255:]:        "wrapped",
		want[:100] + "\n" + want[100:]:       "wrapped",
		"( " + want + " )":                   "parentheses",
		"m1._domainkey IN TXT " + want:       "name",
		"v=DKIM1; p=-----BEGIN PUBLIC KEY--": "PEM",
		"k=rsa; " + keyedTo(want, 200):       "cut off after",
	} {
		if got := Damage(text, want); sign == "" && got != "" || !strings.Contains(got, sign) {
			t.Errorf("%s: %q, want %q", text, got, sign)
		}
	}
}

func keyedTo(want string, n int) string { return want[strings.Index(want, "p="):][:n] }

func TestSplit(t *testing.T) {
	for n, parts := range map[int]int{0: 1, 1: 1, 255: 1, 256: 2, 510: 2, 511: 3} {
		got := Split(strings.Repeat("x", n))
		if len(got) != parts || strings.Join(got, "") != strings.Repeat("x", n) || len(got[0]) > 255 {
			t.Errorf("%d octets: %q", n, got)
		}
	}
	if Name("m1", "widget.com") != "m1._domainkey.widget.com" {
		t.Error(Name("m1", "widget.com"))
	}
}

func FuzzParseRecord(f *testing.F) {
	for _, s := range []string{rfcRSA, rfcEd25519, "v=DKIM1; h=sha256:sha1; s=*; t=y; p=", "p=\r\n AA AA"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := ParseRecord(text)
		if err == nil && !r.Revoked() {
			if _, err := r.public(); err != nil {
				t.Fatalf("%q was read and has no key: %v", text, err)
			}
		}
		Damage(text, rfcRSA)
	})
}

// TestShortKeysAreRefused is RFC 8301 3.2.
func TestShortKeysAreRefused(t *testing.T) {
	t.Setenv("GODEBUG", "rsa1024min=0")
	short, err := rsa.GenerateKey(rand.Reader, 768)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(short)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range []*pem.Block{{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(short)}, {Type: "PRIVATE KEY", Bytes: der}} {
		if _, err := Parse(pem.EncodeToMemory(b)); err == nil || !strings.Contains(err.Error(), "768 bits") {
			t.Errorf("%s: %v", b.Type, err)
		}
	}
}
