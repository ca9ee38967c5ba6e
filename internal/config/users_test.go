package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const hash = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0c2FsdA$sqM4wVGmUOB1DVTLkWZZVEkdBTmsP/r9bV81hgPL83o"

// listenOn is a [[listen]] with its keys.
func listenOn(keys string) string { return host + "[[listen]]\naddress = \"127.0.0.1:25\"\n" + keys }

var userFiles = []badFile{
	{"TLS without certificate", listenOn("tls = \"required\"\n"), []string{`f:4:7: [[listen]] tls: "required" needs a certificate (write cert and key, or acme = true)`}},
	{"certificate without key", listenOn("cert = \"c\"\n"), []string{`f:4:8: [[listen]] cert: needs its private key (write key)`}},
	{"key without certificate", listenOn("key = \"c\"\n"), []string{`f:4:7: [[listen]] key: needs its certificate (write cert)`}},
	{"certificate for nothing", listenOn("tls = \"none\"\ncert = \"c\"\nkey = \"k\"\n"), []string{`f:4:7: [[listen]] tls: "none" uses no certificate (write "offered", or remove cert and key)`}},
	{"ACME without agreement", listenOn("acme = true\n"), []string{`f:4:8: [[listen]] acme: needs your agreement to the authority's terms (write agree = true in [acme])`}},
	{"ACME beside files", listenOn("acme = true\ncert = \"c\"\nkey = \"k\"\n[acme]\nagree = true\n"), []string{`f:4:8: [[listen]] acme: stands beside cert (keep one of them)`}},
	{"ACME for nothing", listenOn("acme = true\ntls = \"none\"\n[acme]\nagree = true\n"), []string{`f:5:7: [[listen]] tls: "none" uses no certificate (write "offered", or remove acme)`}},
	{"ACME of the API", host + "[http]\naddress = \"192.0.2.1:443\"\nacme = true\n", []string{`f:4:8: [http] acme: needs your agreement to the authority's terms (write agree = true in [acme])`}},
	{"ACME of the API beside files", host + "[http]\naddress = \"192.0.2.1:443\"\nacme = true\ncert = \"c\"\nkey = \"k\"\n[acme]\nagree = true\n", []string{`f:4:8: [http] acme: stands beside cert (keep one of them)`}},
	{"ACME", host + "[acme]\nnames = []\nemail = \"x\"\ndirectory = \"http://a.example\"\nchallenge = \"dns-01\"\naddress = \":80\"\n", []string{
		`f:3:9: [acme] names: is empty (write ["mailout.example.com"])`,
		`f:4:9: [acme] email: "x" is not a mailbox (write for example "postmaster@example.com")`,
		`f:5:13: [acme] directory: "http://a.example" is not the URL of an ACME directory (write for example "https://acme-v02.api.letsencrypt.org/directory")`,
		`f:6:13: [acme] challenge: "dns-01" is not "http-01" or "tls-alpn-01"`,
		`f:7:11: [acme] address: ":80" is not an address and port (write "0.0.0.0:80" or "[::]:80" for every address of the machine)`,
	}},
	{"words", listenOn("tls = \"starttls\"\ntls_min = 1.2\nauth = \"plain\"\nproxy = \"10.0.0.1\"\n"), []string{
		`f:4:7: [[listen]] tls: "starttls" is not "none", "offered", "required" or "implicit"`,
		`f:5:11: [[listen]] tls_min: 1.2 is not "1.0", "1.1", "1.2" or "1.3"`,
		`f:6:8: [[listen]] auth: "plain" is not "tls", "always" or "never"`,
		`f:7:9: [[listen]] proxy: "10.0.0.1" is not a list (write ["10.0.0.1"])`,
	}},
	{"user without anything", host + "[[user]]\n", []string{
		`f:2:1: [[user]] name: is missing (write name = "erp")`,
		`f:2:1: [[user]] from: is missing (write from = ["*@example.com"])`,
		`f:2:1: [[user]] password: is missing, and so is key (` + "`mailout config password` or `mailout config key`" + ` makes one)`,
	}},
	{"user", host + "[[user]]\nname = \"a b\"\npassword = \"secret\"\nfrom = [\"example.com\", \"*@*\"]\nrate = \"1000\"\nstream = \"a b\"\n", []string{
		`f:3:8: [[user]] name: "a b" is not a user name: it contains " "`,
		`f:4:12: [[user]] password: is not a password hash (` + "`mailout config password`" + ` makes one)`,
		`f:5:9: [[user]] from: "example.com" has no @ (write "*@example.com" for every address of the domain)`,
		`f:5:24: [[user]] from: "*@*" is every address (write "*")`,
		`f:6:8: [[user]] rate: "1000" is not a rate (write for example "1000/h": messages a second, minute, hour or day are /s, /m, /h and /d)`,
		`f:7:10: [[user]] stream: "a b" is not a stream name: it contains " "`,
	}},
	{"two passwords, two names", host + "[[user]]\nname = \"erp\"\nfrom = [\"*\"]\npassword = \"" + hash + "\"\npassword_file = \"p\"\n[[user]]\nname = \"erp\"\nfrom = [\"*\"]\npassword = \"" + hash + "\"\n", []string{
		`f:6:17: [[user]] password_file: stands beside password (keep one of them)`,
		`f:8:8: [[user]] name: "erp" stands twice, first on line 3`,
	}},
}

func TestUserErrors(t *testing.T) {
	t.Parallel()
	for _, c := range userFiles {
		_, err := Parse("f", []byte(c.text))
		if err == nil {
			t.Errorf("%s: accepted", c.name)
			continue
		}
		if got := strings.Split(err.Error(), "\n"); !slices.Equal(got, c.want) {
			t.Errorf("%s: got\n  %s\nwant\n  %s", c.name, strings.Join(got, "\n  "), strings.Join(c.want, "\n  "))
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("a password stands in the error: %v", err)
		}
	}
}

// TestUserHidden: show and get do not tell the hash.
func TestUserHidden(t *testing.T) {
	t.Parallel()
	c, err := Parse("f", []byte(host+"[[user]]\nname = \"erp\"\nfrom = [\"*@Example.com\"]\nrate = \"10/m\"\npassword = \""+hash+"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Get(c, "user.1.password")
	if err != nil || strings.Contains(got+Show(c), "argon2id") {
		t.Errorf("%q %v\n%s", got, err, Show(c))
	}
	if u := c.Users[0]; u.From.String() != "*@example.com" || u.Rate.String() != "10/m" || u.Password.String() != hash {
		t.Errorf("%+v", u)
	}
}

// keyPair writes a certificate and its key.
func keyPair(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"mailout.example.com"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "c.pem"), filepath.Join(dir, "k.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}

// TestUserFiles: certificates and hashes are read when the file is loaded.
func TestUserFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	keyPair(t, dir)
	other := filepath.Join(dir, "other")
	os.Mkdir(other, 0o700)
	_, foreign := keyPair(t, other)
	pass := filepath.Join(dir, "p")
	file := filepath.Join(dir, "mailout.toml")
	load := func(key string) (*Config, error) {
		text := host + "[[listen]]\naddress = \"127.0.0.1:25\"\ncert = \"c.pem\"\nkey = \"" + key + "\"\n[[user]]\nname = \"erp\"\nfrom = [\"*\"]\npassword_file = \"p\"\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Load(file)
	}
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
	}
	write(pass, hash+"\n", 0o600)
	c, err := load("k.pem")
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen[0].TLS != ListenOffered || c.Listen[0].TLSMin != tls.VersionTLS12 || c.Users[0].Password.String() != hash {
		t.Errorf("%+v %+v", c.Listen[0], c.Users[0])
	}
	for want, try := range map[string]func() (*Config, error){
		"do not make a certificate with its key":        func() (*Config, error) { return load(foreign) },
		`"` + dir + `/none" cannot be read`:             func() (*Config, error) { return load("none") },
		`k.pem" can be read by everybody (chmod o-r it`: func() (*Config, error) { os.Chmod(filepath.Join(dir, "k.pem"), 0o644); return load("k.pem") },
	} {
		_, err := try()
		var all Errors
		if !errors.As(err, &all) || len(all) != 1 || !strings.Contains(err.Error(), want) || !strings.HasPrefix(all[0].Key, "[[listen]] ") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	os.Chmod(filepath.Join(dir, "k.pem"), 0o600)
	write(pass, "hunter2\n", 0o600)
	if _, err := load("k.pem"); err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "is not a password hash") {
		t.Error(err)
	}
	write(pass, hash+"\n", 0o644)
	if _, err := load("k.pem"); err == nil || !strings.Contains(err.Error(), "can be read by everybody") {
		t.Error(err)
	}
}
