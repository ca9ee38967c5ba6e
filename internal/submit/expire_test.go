package submit

import (
	"testing"
	"time"
)

func TestParseExpire(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"90s": 90 * time.Second, "30m": 30 * time.Minute, "2h": 2 * time.Hour, "366d": 366 * 24 * time.Hour} {
		if at, after, ok := ParseExpire(text); !ok || after != want || !at.IsZero() {
			t.Errorf("%s: %v, %v, %v", text, at, after, ok)
		}
	}
	if at, after, ok := ParseExpire("2026-03-01T12:00:00+01:00"); !ok || after != 0 || at.UTC().Hour() != 11 {
		t.Errorf("%v, %v, %v", at, after, ok)
	}
	for _, text := range []string{"", "0s", "1", "s", "-1h", "+1h", "1.5h", "1h30m", "367d", "99999999999d", "2026-03-01", "1w"} {
		if at, after, ok := ParseExpire(text); ok {
			t.Errorf("%s: %v, %v", text, at, after)
		}
	}
}
