package submit

import (
	"strings"
	"testing"
)

// TestStreamNamesArePlain: a stream's name becomes a part of the store's keys,
// where a NUL ends it, and of log lines and listings.
func TestStreamNamesArePlain(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"a b", "a/b", "a\x00b", "a\nb", "ü", strings.Repeat("x", MaxStream+1)} {
		if err := checkStream(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	for _, good := range []string{"", "default", "news_2.a-B", strings.Repeat("x", MaxStream)} {
		if err := checkStream(good); err != nil {
			t.Errorf("%q is refused: %v", good, err)
		}
	}
	w := newWorld()
	r := request()
	r.Stream = "a\x00b"
	if _, err := w.Begin(t.Context(), r); err == nil {
		t.Error("intake takes a stream with a NUL")
	}
	if w.store.live != 0 {
		t.Error("a draft is left behind")
	}
}
