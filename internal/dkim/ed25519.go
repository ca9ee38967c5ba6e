package dkim

import (
	"bytes"
	"crypto/ed25519"

	voi "github.com/oasisprotocol/curve25519-voi/primitives/ed25519"
)

// ofEd25519 makes a key, which is signed with quickly where that gives what the
// standard library gives: the key's own sample tells, so that a processor on which
// the quick code errs costs time and no mail (docs/decisions/0010).
func ofEd25519(k ed25519.PrivateKey) *Key {
	sample := []byte("a sample, signed when a key is read")
	return &Key{signer: k, quick: bytes.Equal(quickly(k, sample), ed25519.Sign(k, sample))}
}

// quickly signs in half the time that the standard library takes. Signatures of
// Ed25519 are determined by key and message (RFC 8032 5.1.6).
func quickly(k ed25519.PrivateKey, message []byte) []byte {
	return voi.Sign(voi.PrivateKey(k), message)
}
