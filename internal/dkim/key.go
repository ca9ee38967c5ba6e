package dkim

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
)

// Algorithm is the kind of a key, as "k=" names it.
type Algorithm string

// The algorithms (RFC 6376 3.3, RFC 8463).
const (
	RSA     Algorithm = "rsa"
	Ed25519 Algorithm = "ed25519"
)

const (
	// MinBits is the size below which RSA keys are too weak (RFC 8301 3.2 has
	// signers use 2048).
	MinBits = 2048
	// DefaultBits is the size of new RSA keys. A record of 4096 does not fit
	// into one UDP answer everywhere.
	DefaultBits = 2048
	// maxFile bounds a key file; one of 16,384 bits has 13 KB.
	maxFile = 64 << 10
)

// Key is a private key. It does not change and may be used by many at once.
type Key struct {
	signer crypto.Signer
	quick  bool // of Ed25519: see ofEd25519
}

// Load reads a key file. The error says what to do when the file holds
// something else.
func Load(path string) (*Key, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than any key (%d KB)", path, maxFile>>10)
	}
	k, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s %w", path, err)
	}
	return k, nil
}

// Parse reads a private key in PEM: PKCS #1 (RSA) or PKCS #8 (RSA, Ed25519).
// What stands around the first such block is skipped.
func Parse(text []byte) (*Key, error) {
	seen := ""
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil, refuse(seen)
		}
		switch block.Type {
		case "RSA PRIVATE KEY":
			if block.Headers["DEK-Info"] != "" {
				return nil, errors.New("is protected by a pass phrase: keep it without one, readable by mailout alone")
			}
			k, err := x509.ParsePKCS1PrivateKey(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("cannot be read: %w", err)
			}
			return ofRSA(k)
		case "PRIVATE KEY":
			return parse8(block.Bytes)
		}
		seen, text = block.Type, rest
	}
}

func refuse(seen string) error {
	switch seen {
	case "":
		return errors.New("holds no key in PEM form (-----BEGIN PRIVATE KEY-----)")
	case "ENCRYPTED PRIVATE KEY":
		return errors.New("is protected by a pass phrase: keep it without one, readable by mailout alone")
	case "PUBLIC KEY", "RSA PUBLIC KEY":
		return errors.New("holds the public key, and the private one is needed")
	}
	return fmt.Errorf("holds a %q and no private key of RSA or Ed25519", seen)
}

// ofRSA refuses keys that must not sign (RFC 8301 3.2).
func ofRSA(k *rsa.PrivateKey) (*Key, error) {
	if n := k.N.BitLen(); n < MinSigningBits {
		return nil, fmt.Errorf("holds an RSA key of %d bits, which nobody accepts: make a new one (mailout dkim new)", n)
	}
	return &Key{signer: k}, nil
}

func parse8(der []byte) (*Key, error) {
	k, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("cannot be read: %w", err)
	}
	switch k := k.(type) {
	case *rsa.PrivateKey:
		return ofRSA(k)
	case ed25519.PrivateKey:
		return ofEd25519(k), nil
	}
	return nil, fmt.Errorf("holds a %T, and DKIM has only RSA and Ed25519", k)
}

// Generate makes a new key. bits counts for RSA; 0 takes DefaultBits.
func Generate(a Algorithm, bits int) (*Key, error) {
	switch a {
	case Ed25519:
		_, k, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		return ofEd25519(k), nil
	case RSA:
		if bits == 0 {
			bits = DefaultBits
		}
		if bits < MinBits || bits > 4096 {
			return nil, fmt.Errorf("an RSA key has %d to 4096 bits, not %d", MinBits, bits)
		}
		k, err := rsa.GenerateKey(rand.Reader, bits)
		return &Key{signer: k}, err
	}
	return nil, fmt.Errorf("%q is no DKIM algorithm (rsa, ed25519)", a)
}

// PEM is the private key in PKCS #8.
func (k *Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k.signer)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// Algorithm is the key's kind.
func (k *Key) Algorithm() Algorithm {
	if _, ok := k.signer.(*rsa.PrivateKey); ok {
		return RSA
	}
	return Ed25519
}

// Bits is the size of an RSA key's modulus, and 256 for Ed25519.
func (k *Key) Bits() int {
	if r, ok := k.signer.(*rsa.PrivateKey); ok {
		return r.N.BitLen()
	}
	return 256
}

// Strong reports whether receivers take the key for safe.
func (k *Key) Strong() bool { return k.Algorithm() == Ed25519 || k.Bits() >= MinBits }

// public is the key as "p=" holds it: SubjectPublicKeyInfo for RSA, 32 octets
// for Ed25519 (RFC 8463 4).
func (k *Key) public() []byte {
	if p, ok := k.signer.Public().(ed25519.PublicKey); ok {
		return p
	}
	der, err := x509.MarshalPKIXPublicKey(k.signer.Public())
	if err != nil {
		panic("dkim: an RSA key that cannot be printed: " + err.Error())
	}
	return der
}

// Matches reports whether a published record holds this key's public half. RSA
// keys may stand there in two forms (RFC 6376, erratum 3017).
func (k *Key) Matches(r *Record) bool {
	if r.Algorithm != k.Algorithm() {
		return false
	}
	if bytes.Equal(r.Key, k.public()) {
		return true
	}
	p, ok := k.signer.Public().(*rsa.PublicKey)
	return ok && bytes.Equal(r.Key, x509.MarshalPKCS1PublicKey(p))
}
