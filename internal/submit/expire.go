package submit

import (
	"strconv"
	"strings"
	"time"
)

// maxSpan is more than any stream keeps a message.
const maxSpan = 366 * 24 * time.Hour

var spans = [...]struct {
	unit string
	span time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// ParseExpire reads when a message is to be given up, as doors that read JSON
// take it: a time of RFC 3339, or a span of at most a year ("30m", "2h", "3d")
// that counts from the time to send on. Exactly one of both is given, or ok is
// false.
func ParseExpire(text string) (at time.Time, after time.Duration, ok bool) {
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, 0, true
	}
	for _, u := range spans {
		digits, ends := strings.CutSuffix(text, u.unit)
		n, err := strconv.ParseUint(digits, 10, 31)
		if ends && err == nil && n > 0 && n <= uint64(maxSpan/u.span) && digits[0] != '+' {
			return time.Time{}, time.Duration(n) * u.span, true
		}
	}
	return time.Time{}, 0, false
}
