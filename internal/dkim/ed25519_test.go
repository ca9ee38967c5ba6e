package dkim

import (
	"bytes"
	"crypto/ed25519"
	"testing"

	"pgregory.net/rapid"
)

// TestQuickSignaturesAreTheStandardOnes: for any key and message.
func TestQuickSignaturesAreTheStandardOnes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		private := ed25519.NewKeyFromSeed(rapid.SliceOfN(rapid.Byte(), ed25519.SeedSize, ed25519.SeedSize).Draw(t, "seed"))
		message := rapid.SliceOf(rapid.Byte()).Draw(t, "message")
		k := ofEd25519(private)
		if !k.quick {
			t.Fatal("the two libraries do not agree")
		}
		slow := &Key{signer: private}
		for _, k := range []*Key{k, slow} {
			got, err := k.sign(message)
			if err != nil || !bytes.Equal(got, ed25519.Sign(private, message)) {
				t.Fatalf("quick %v: %x, %v", k.quick, got, err)
			}
		}
	})
}
