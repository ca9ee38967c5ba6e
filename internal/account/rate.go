package account

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Rate is so many messages in a time. The zero value bounds nothing.
type Rate struct {
	Messages int
	Per      time.Duration // a second, a minute, an hour or a day
}

var units = [...]struct {
	word string
	per  time.Duration
}{{"s", time.Second}, {"m", time.Minute}, {"h", time.Hour}, {"d", 24 * time.Hour}}

// MaxRate is the largest number in a Rate.
const MaxRate = 1_000_000_000

// ParseRate reads "1000/h"; empty is no bound.
func ParseRate(s string) (Rate, error) {
	if s == "" {
		return Rate{}, nil
	}
	number, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(number, 10, 32)
	for _, u := range units {
		if err == nil && u.word == unit && n >= 1 && n <= MaxRate && number[0] != '0' && number[0] != '+' {
			return Rate{Messages: int(n), Per: u.per}, nil
		}
	}
	return Rate{}, errors.New(`is not a rate (write for example "1000/h": messages a second, minute, hour or day are /s, /m, /h and /d)`)
}

// String gives "1000/h", or nothing.
func (r Rate) String() string {
	for _, u := range units {
		if u.per == r.Per && r.Messages > 0 {
			return strconv.Itoa(r.Messages) + "/" + u.word
		}
	}
	return ""
}

// limiter makes the bucket: as many at once as in the whole time, filled again
// evenly.
func (r Rate) limiter() *rate.Limiter {
	if r.Messages == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(float64(r.Messages)/r.Per.Seconds()), r.Messages)
}
