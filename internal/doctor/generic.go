package doctor

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// dynamicWords are parts of names that providers give to lines of homes and
// to addresses that change.
var dynamicWords = []string{
	"dyn", "dynamic", "dynip", "dynamicip", "dhcp", "dial", "dialup", "dialin", "dip", "dsl", "adsl", "vdsl", "sdsl", "xdsl",
	"cable", "cablemodem", "catv", "docsis", "broadband", "ppp", "pppoe", "pool", "pools", "res", "residential", "home",
	"ftth", "fttp", "gpon", "gprs", "umts", "lte", "wimax", "unassigned", "unknown", "unused", "revip",
}

// genericSign says what makes a reverse name look made by a machine; empty
// when nothing does.
func genericSign(name string, addr netip.Addr) string {
	name = strings.ToLower(name)
	if hasAddress(name, addr) {
		return "has the address in it"
	}
	labels := strings.Split(name, ".")
	for _, label := range labels[:max(0, len(labels)-2)] { // below the registered domain, as far as one can tell
		for word := range strings.FieldsFuncSeq(label, func(r rune) bool { return r < 'a' || r > 'z' }) {
			if slices.Contains(dynamicWords, word) {
				return fmt.Sprintf("has %q in it", word)
			}
		}
	}
	return ""
}

// hasAddress finds an address in a name, as providers write it: the octets in
// either order, joined by anything, padded or not, in hexadecimal, or three
// of them in a row. Two would be found in too many honest names.
func hasAddress(name string, addr netip.Addr) bool {
	if addr.Is6() {
		return hasAddress6(name, addr)
	}
	b := addr.As4()
	if strings.Contains(name, hex.EncodeToString(b[:])) || strings.Contains(name, fmt.Sprintf("%03d%03d%03d%03d", b[0], b[1], b[2], b[3])) {
		return true
	}
	var numbers []string
	for _, n := range strings.FieldsFunc(name, func(r rune) bool { return r < '0' || r > '9' }) {
		numbers = append(numbers, strings.TrimLeft(n, "0")+zeroIf(n))
	}
	var octets []string
	for _, o := range b {
		octets = append(octets, fmt.Sprint(o))
	}
	for _, part := range [][]string{octets, octets[1:], octets[:3]} {
		back := slices.Clone(part)
		slices.Reverse(back)
		if holds(numbers, part) || holds(numbers, back) {
			return true
		}
	}
	return false
}

// zeroIf keeps a number that is nothing but zeros.
func zeroIf(n string) string {
	if strings.Trim(n, "0") == "" {
		return "0"
	}
	return ""
}

// holds reports whether part stands in all, in one piece.
func holds(all, part []string) bool {
	for i := 0; i+len(part) <= len(all); i++ {
		if slices.Equal(all[i:i+len(part)], part) {
			return true
		}
	}
	return false
}

// hasAddress6 looks for the last 64 bits in any grouping, or the address in
// its short form with the colons replaced.
func hasAddress6(name string, addr netip.Addr) bool {
	digits := strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' || 'a' <= r && r <= 'f' {
			return r
		}
		return -1
	}, name)
	b := addr.As16()
	full := hex.EncodeToString(b[:])
	tail := full[16:]
	if strings.Trim(tail[:12], "0") != "" && strings.Contains(digits, tail) {
		return true
	}
	short := strings.ReplaceAll(addr.String(), ":", "-")
	if len(short) < 8 {
		return false
	}
	return strings.Contains(digits, full) || strings.Contains(name, short) || strings.Contains(name, strings.ReplaceAll(short, "--", "-"))
}
