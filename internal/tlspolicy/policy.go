package tlspolicy

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The bounds of a policy.
const (
	// MaxPolicy is the longest policy taken, in octets (RFC 8461 3.3).
	MaxPolicy = 64 << 10
	// MaxAge is the longest life of a policy (RFC 8461 3.2): a year and a bit.
	MaxAge = 31557600 * time.Second
)

// Policy is an MTA-STS policy (RFC 8461 3.2). It is immutable.
type Policy struct {
	Mode   Mode
	MaxAge time.Duration
	MX     []string // patterns: a host's name, or "*." and the name above it; lower case
}

// ParsePolicy reads a policy. Keys that it does not know are passed over; of one
// given twice the first counts, but for mx (RFC 8461 3.2). The error says what
// makes the policy invalid, in one line.
func ParsePolicy(text []byte) (*Policy, error) {
	if len(text) > MaxPolicy {
		return nil, fmt.Errorf("it has more than %d octets", MaxPolicy)
	}
	p := &Policy{}
	seen := map[string]bool{}
	for n, line := range strings.Split(strings.TrimSuffix(string(text), "\n"), "\n") {
		if n == 0 && line == "" {
			return nil, errors.New("it is empty")
		}
		line = strings.TrimRight(strings.TrimSuffix(line, "\r"), " \t")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimLeft(value, " \t")
		if !ok || !isFieldName(name) || !printable(value) {
			return nil, fmt.Errorf("line %d is no key and value", n+1)
		}
		if seen[name] && name != "mx" {
			continue
		}
		seen[name] = true
		if err := p.set(name, value); err != nil {
			return nil, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	return p, p.complete(seen)
}

// set takes in one field.
func (p *Policy) set(name, value string) error {
	switch name {
	case "version":
		if value != "STSv1" {
			return errors.New("the version is not STSv1")
		}
	case "mode":
		var ok bool
		if p.Mode, ok = ParseMode(value); !ok {
			return errors.New("the mode is none of enforce, testing and none")
		}
	case "max_age":
		if len(value) > 10 || !onlyDigits(value) {
			return errors.New("max_age is no number of seconds")
		}
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return errors.New("max_age is no number of seconds")
		}
		p.MaxAge = time.Duration(min(seconds, int64(MaxAge/time.Second))) * time.Second
	case "mx":
		pattern := strings.ToLower(value)
		if !isPattern(pattern) {
			return errors.New("mx is neither a host name nor \"*.\" and a name")
		}
		p.MX = append(p.MX, pattern)
	}
	return nil
}

// complete reports what the policy lacks.
func (p *Policy) complete(seen map[string]bool) error {
	for _, name := range []string{"version", "mode", "max_age"} {
		if !seen[name] {
			return fmt.Errorf("%s is missing", name)
		}
	}
	if p.Mode != ModeNone && len(p.MX) == 0 {
		return errors.New("mx is missing")
	}
	return nil
}

// Names reports whether a pattern matches a host (RFC 8461 4.1): "*" stands for
// one label, the left-most.
func (p *Policy) Names(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	for _, pattern := range p.MX {
		if pattern == host {
			return true
		}
		above, wild := strings.CutPrefix(pattern, "*.")
		if _, rest, ok := strings.Cut(host, "."); wild && ok && rest == above {
			return true
		}
	}
	return false
}

// Lines are the policy's, as reports show them.
func (p *Policy) Lines() []string {
	out := []string{"version: STSv1", "mode: " + p.Mode.String()}
	for _, mx := range p.MX {
		out = append(out, "mx: "+mx)
	}
	return append(out, "max_age: "+strconv.FormatInt(int64(p.MaxAge/time.Second), 10))
}

// isFieldName: a letter or digit, and up to 31 letters, digits and "_-.".
func isFieldName(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlnum(c) && (i == 0 || c != '_' && c != '-' && c != '.') {
			return false
		}
	}
	return true
}

// printable reports visible characters and spaces.
func printable(s string) bool {
	for _, c := range s {
		if c < ' ' || c == 0x7f || c == '\ufffd' {
			return false
		}
	}
	return true
}

func isAlnum(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func onlyDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isPattern checks an mx value in lower case: a domain of RFC 5321 4.1.2, maybe
// behind "*.".
func isPattern(s string) bool {
	name := strings.TrimPrefix(s, "*.")
	if name == "" || len(name) > 253 {
		return false
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || !isAlnum(label[0]) || !isAlnum(label[len(label)-1]) {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !isAlnum(c) && c != '-' && c != '_' {
				return false
			}
		}
	}
	return true
}

// ParseRecord reads the TXT records of _mta-sts.DOMAIN (RFC 8461 3.1). Those that
// do not begin with the version do not count; it reports false unless exactly one
// is left and is well formed.
func ParseRecord(records []string) (id string, ok bool) {
	found := 0
	var one string
	for _, text := range records {
		if rest, is := strings.CutPrefix(text, "v=STSv1"); is && strings.HasPrefix(strings.TrimLeft(rest, " \t"), ";") {
			found++
			one = rest
		}
	}
	if found != 1 {
		return "", false
	}
	fields := strings.Split(one, ";")[1:]
	if last := len(fields) - 1; strings.Trim(fields[last], " \t") == "" {
		fields = fields[:last]
	}
	has := false
	for _, field := range fields {
		name, value, ok := strings.Cut(strings.Trim(field, " \t"), "=")
		if !ok || !isFieldName(name) || !isFieldValue(value) {
			return "", false
		}
		if name != "id" || has {
			continue
		}
		if !isID(value) {
			return "", false
		}
		id, has = value, true
	}
	return id, has
}

// isFieldValue checks a value of the record: visible, without ";" and "=".
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == ';' || c == '=' {
			return false
		}
	}
	return s != ""
}

// isID: 1 to 32 letters and digits.
func isID(s string) bool {
	for i := range len(s) {
		if !isAlnum(s[i]) {
			return false
		}
	}
	return s != "" && len(s) <= 32
}
