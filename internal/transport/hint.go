package transport

import "strings"

// Hints are kept between these bounds, in seconds; a longer wait is better
// left to the schedule. retry decides how often a short one is followed.
const (
	minHint = 1
	maxHint = 4 * 60 * 60
)

// retryHint finds in a temporary reply when the receiver wants us back, in
// seconds within minHint and maxHint; 0 when it does not say. It knows
// "try again in 5 minutes", "greylisted for 300 seconds", "retry in 00:05:00"
// and their like: a word that speaks of coming back, and a time after it or,
// failing that, anywhere.
func retryHint(text string) int {
	lower := strings.ToLower(text)
	first := firstWord(lower, comeBack)
	if first < 0 {
		return 0
	}
	seconds := findTime(lower[first:])
	if seconds == 0 {
		seconds = findTime(lower)
	}
	if seconds == 0 {
		return 0
	}
	return min(max(seconds, minHint), maxHint)
}

var comeBack = []string{"again", "retry", "greylist", "graylist", "grey-list", "gray-list", "wait", "come back", "later"}

var greyWords = []string{"greylist", "graylist", "grey-list", "gray-list", "grey list", "gray list", "postgrey"}

// greylists reports whether a reply's text in lower case speaks of greylisting.
func greylists(lower string) bool { return firstWord(lower, greyWords) >= 0 }

// namesTime reports whether a reply's text in lower case says when to return.
func namesTime(lower string) bool { return retryHint(lower) != 0 }

// blamesIPv6PTR reports whether a refusal in lower case blames the missing
// reverse DNS of our IPv6 address.
func blamesIPv6PTR(lower string) bool {
	return strings.Contains(lower, "ptr") || strings.Contains(lower, "reverse dns") ||
		strings.Contains(lower, "rdns") || strings.Contains(lower, "reverse hostname")
}

// firstWord is the least index of any of the words, or -1.
func firstWord(s string, words []string) int {
	first := -1
	for _, w := range words {
		if i := strings.Index(s, w); i >= 0 && (first < 0 || i < first) {
			first = i
		}
	}
	return first
}

// findTime reads the first "5 minutes", "300s" or "00:05:00" of s as seconds;
// 0 when there is none.
func findTime(s string) int {
	for i := 0; i < len(s); {
		if !digit(s[i]) || i > 0 && (digit(s[i-1]) || s[i-1] == '.' || s[i-1] == ':' || s[i-1] == '-' || letter(s[i-1])) {
			i++
			continue
		}
		n, rest := number(s[i:])
		if seconds := clock(n, rest); seconds > 0 {
			return seconds
		}
		if seconds := n * unit(strings.TrimLeft(rest, " -")); seconds > 0 {
			return seconds
		}
		i = len(s) - len(rest)
	}
	return 0
}

// number reads digits; a number beyond a million is as good as a million.
func number(s string) (int, string) {
	n := 0
	for s != "" && digit(s[0]) {
		n = min(n*10+int(s[0]-'0'), 1_000_000)
		s = s[1:]
	}
	return n, s
}

// clock reads the rest of "hh:mm:ss" after its hours.
func clock(hours int, rest string) int {
	if len(rest) < 6 || rest[0] != ':' || rest[3] != ':' {
		return 0
	}
	m, left := number(rest[1:3])
	s, right := number(rest[4:6])
	if left != "" || right != "" || len(rest) > 6 && (digit(rest[6]) || rest[6] == ':') {
		return 0
	}
	return hours*3600 + m*60 + s
}

// unit gives the seconds of the unit that s begins with, or 0.
func unit(s string) int {
	end := 0
	for end < len(s) && letter(s[end]) {
		end++
	}
	switch s[:end] {
	case "s", "sec", "secs", "second", "seconds":
		return 1
	case "m", "min", "mins", "minute", "minutes", "mn":
		return 60
	case "h", "hr", "hrs", "hour", "hours":
		return 3600
	}
	return 0
}

func digit(c byte) bool  { return '0' <= c && c <= '9' }
func letter(c byte) bool { return 'a' <= c && c <= 'z' }
