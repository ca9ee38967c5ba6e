package submit

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestCleanPrefix compares with a look at every octet.
func TestCleanPrefix(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	parts := []string{"\r\n", "\r\n", "\r\n", "ab", "a line of text", ".", "\r", "\n"}
	for range 20000 {
		var b strings.Builder
		few := 3 + rng.IntN(6) // of parts: the first ones alone are always clean
		for range rng.IntN(12) {
			b.WriteString(parts[rng.IntN(few)%len(parts)])
		}
		s := b.String()
		n, lines := cleanPrefix([]byte(s))
		wantN, wantLines := 0, int64(0)
		for wantN < len(s) {
			switch {
			case strings.HasPrefix(s[wantN:], "\r\n"):
				wantN += 2
				wantLines++
				continue
			case s[wantN] != '\r' && s[wantN] != '\n':
				wantN++
				continue
			}
			break
		}
		if n != wantN || lines != wantLines {
			t.Fatalf("%q: %d octets and %d lines are clean, want %d and %d", s, n, lines, wantN, wantLines)
		}
	}
}

// BenchmarkLineCheck judges pieces as the door gives them, of lines as mail has
// them.
func BenchmarkLineCheck(b *testing.B) {
	piece := []byte(strings.Repeat(strings.Repeat("x", 76)+"\r\n", 32<<10/78))
	b.SetBytes(int64(len(piece)))
	for b.Loop() {
		var l lineCheck
		if err := l.next(piece, func([]byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}
