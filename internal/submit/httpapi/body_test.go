package httpapi

import (
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

// TestABodyThatTakesAllTheMemory: a request of unknown size whose share grows
// beyond what there is in all gets all there is, and does not wait for its own.
func TestABodyThatTakesAllTheMemory(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := &Sender{memory: memory{total: 4 * bodyStart}}
		text := strings.Repeat("x", 10*bodyStart)
		r := httptest.NewRequest("POST", "/v1/messages", strings.NewReader(text))
		r.ContentLength = -1
		b, err := newBody(r, int64(len(text)))
		if err != nil {
			t.Fatal(err)
		}
		got, release, err := s.readAll(b)
		if err != nil || string(got) != text {
			t.Fatalf("%d octets, %v", len(got), err)
		}
		if s.memory.mu.used != s.memory.total {
			t.Errorf("%d octets are held", s.memory.mu.used)
		}
		if release(); s.memory.mu.used != 0 {
			t.Errorf("%d octets stay held", s.memory.mu.used)
		}
	})
}
