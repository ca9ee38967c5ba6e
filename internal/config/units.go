package config

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// unit is the suffix of a number and what it multiplies.
type unit struct {
	name string
	size int64
}

// durationUnits are the units of a duration, the largest first.
var durationUnits = []unit{
	{"d", int64(24 * time.Hour)},
	{"h", int64(time.Hour)},
	{"m", int64(time.Minute)},
	{"s", int64(time.Second)},
	{"ms", int64(time.Millisecond)},
}

// sizeUnits are the units of a size: KB, MB and GB count in thousands, KiB,
// MiB and GiB in 1024s.
var sizeUnits = []unit{
	{"GiB", 1 << 30}, {"GB", 1e9},
	{"MiB", 1 << 20}, {"MB", 1e6},
	{"KiB", 1 << 10}, {"KB", 1e3},
	{"B", 1},
}

// durationWords are other ways to write a unit, for suggestions only.
var durationWords = map[string]int64{
	"msec": 1e6, "msecs": 1e6, "millisecond": 1e6, "milliseconds": 1e6,
	"sec": 1e9, "secs": 1e9, "second": 1e9, "seconds": 1e9,
	"min": 60e9, "mins": 60e9, "minute": 60e9, "minutes": 60e9,
	"hr": 3600e9, "hrs": 3600e9, "hour": 3600e9, "hours": 3600e9,
	"day": 86400e9, "days": 86400e9,
	"w": 604800e9, "week": 604800e9, "weeks": 604800e9,
	"ms": 1e6, "s": 1e9, "m": 60e9, "h": 3600e9, "d": 86400e9,
}

// sizeWords are other ways to write a unit, for suggestions only.
var sizeWords = map[string]int64{
	"": 1, "b": 1, "byte": 1, "bytes": 1, "octets": 1,
	"k": 1e3, "kb": 1e3, "kilobyte": 1e3, "kilobytes": 1e3, "kib": 1 << 10,
	"m": 1e6, "mb": 1e6, "meg": 1e6, "megs": 1e6, "megabyte": 1e6, "megabytes": 1e6, "mib": 1 << 20,
	"g": 1e9, "gb": 1e9, "gig": 1e9, "gigs": 1e9, "gigabyte": 1e9, "gigabytes": 1e9, "gib": 1 << 30,
	"t": 1e12, "tb": 1e12, "terabyte": 1e12, "terabytes": 1e12, "tib": 1 << 40,
}

// ParseDuration reads a time span as the configuration writes it: 500ms, 30s,
// 15m, 12h, 5d, and sums of them.
func ParseDuration(s string) (time.Duration, error) {
	d, ok := parseDuration(s)
	if !ok {
		return 0, fmt.Errorf("%q is not a time span (30s, 15m, 12h, 5d)", s)
	}
	return d, nil
}

// parseDuration reads one or more numbers with a unit, the larger unit first:
// "5d", "1h30m", "250ms".
func parseDuration(s string) (time.Duration, bool) {
	total, last := int64(0), len(durationUnits)
	for s != "" {
		n, rest, ok := leadingNumber(s)
		if !ok {
			return 0, false
		}
		letters := strings.IndexFunc(rest, func(r rune) bool { return r < 'a' || r > 'z' })
		if letters < 0 {
			letters = len(rest)
		}
		at := unitIndex(durationUnits, rest[:letters])
		if at < 0 || last < len(durationUnits) && at <= last {
			return 0, false
		}
		size := durationUnits[at].size
		if n > (math.MaxInt64-total)/size {
			return 0, false
		}
		total += n * size
		last, s = at, rest[letters:]
		if s == "" {
			return time.Duration(total), true
		}
	}
	return 0, false
}

// parseSize reads a number and a unit: "50MB", "64KiB".
func parseSize(s string) (int64, bool) {
	n, rest, ok := leadingNumber(s)
	at := unitIndex(sizeUnits, rest)
	if !ok || at < 0 || n > math.MaxInt64/sizeUnits[at].size {
		return 0, false
	}
	return n * sizeUnits[at].size, true
}

func unitIndex(units []unit, name string) int {
	for i, u := range units {
		if u.name == name {
			return i
		}
	}
	return -1
}

// leadingNumber splits the decimal digits off the front.
func leadingNumber(s string) (n int64, rest string, ok bool) {
	i := 0
	for i < len(s) && '0' <= s[i] && s[i] <= '9' {
		i++
	}
	n, err := strconv.ParseInt(s[:i], 10, 64)
	return n, s[i:], err == nil
}

// formatDuration writes whole milliseconds so that parseDuration reads the
// same; what is finer is cut off.
func formatDuration(d time.Duration) string {
	var b strings.Builder
	left := int64(d)
	for _, u := range durationUnits {
		if n := left / u.size; n > 0 {
			b.WriteString(strconv.FormatInt(n, 10) + u.name)
			left %= u.size
		}
	}
	if b.Len() == 0 {
		return "0s"
	}
	return b.String()
}

// formatSize writes a size with the unit that leaves the shortest number.
func formatSize(n int64) string {
	best := strconv.FormatInt(n, 10) + "B"
	if n == 0 {
		return best
	}
	for _, u := range sizeUnits {
		if n%u.size != 0 {
			continue
		}
		if s := strconv.FormatInt(n/u.size, 10) + u.name; len(s) < len(best) {
			best = s
		}
	}
	return best
}

// guessDuration tells how somebody who wrote s ("5 days", "1.5h") should have
// written it; empty when that is unclear.
func guessDuration(s string) string {
	total, ok := guessTotal(s, durationWords)
	if !ok || total < float64(time.Millisecond) || total > math.MaxInt64/2 {
		return ""
	}
	return formatDuration(time.Duration(math.Round(total/1e6)) * time.Millisecond)
}

// guessSize does the same for sizes.
func guessSize(s string) string {
	total, ok := guessTotal(s, sizeWords)
	if !ok || total < 1 || total > math.MaxInt64/2 {
		return ""
	}
	return formatSize(int64(math.Round(total)))
}

// guessTotal adds up numbers and unit words in any spelling.
func guessTotal(s string, words map[string]int64) (float64, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	total := 0.0
	for s != "" {
		digits := strings.IndexFunc(s, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if digits < 0 {
			digits = len(s)
		}
		n, err := strconv.ParseFloat(s[:digits], 64)
		if err != nil {
			return 0, false
		}
		s = strings.TrimLeft(s[digits:], " _-")
		letters := strings.IndexFunc(s, func(r rune) bool { return r < 'a' || r > 'z' })
		if letters < 0 {
			letters = len(s)
		}
		size, ok := words[s[:letters]]
		if !ok {
			return 0, false
		}
		total += n * float64(size)
		s = strings.TrimLeft(s[letters:], " ,")
	}
	return total, total > 0
}
