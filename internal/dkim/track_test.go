package dkim

import (
	"strings"
	"testing"
	"time"
)

// TestObserve plays looks at one record, "+" there, "-" gone, "?" no answer, "r"
// gone for a resolver, "x" withdrawn, a minute apart.
func TestObserve(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ looks, visible string }{
		{"-+", "01"},
		{"+---+", "11111"},
		{"+----+", "111101"},
		{"+--+---+", "11111111"},
		{"+-?-?--", "1111100"},
		{"+-??????", "11111111"},
		{"+x", "10"},
		{"+x+", "101"},
		{"+xx-", "1000"},
		{"?????", "00000"},
		{"+" + strings.Repeat("r", 32), strings.Repeat("1", 31) + "00"},
		{"+rrrr-", "111110"}, // the zone's servers confirm what was heard
	} {
		n := &track{}
		now, got := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), ""
		for _, look := range c.looks {
			s := Sight{Finding: Absent, Authority: look != 'r', Settled: true}
			switch look {
			case '+':
				s.Finding = Published
			case '?':
				s = Sight{}
			case 'x':
				s.Finding = Withdrawn
			}
			could := n.visible()
			e := n.observe(now, s)
			if can := n.visible(); (e == appeared) != (!could && can) || (e == vanished || e == revoked) != (could && !can) {
				t.Errorf("%s: %d tells of %t to %t", c.looks, e, could, can)
			}
			if n.visible() {
				got += "1"
			} else {
				got += "0"
			}
			if at := n.next(); !at.After(now) || at.Sub(now) > hourly {
				t.Errorf("%s: next look in %s", c.looks, at.Sub(now))
			}
			now = now.Add(time.Minute)
		}
		if got != c.visible {
			t.Errorf("%s: %s, want %s", c.looks, got, c.visible)
		}
	}
}
