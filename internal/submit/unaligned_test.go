package submit

import (
	"fmt"
	"strings"
	"testing"

	"mailout/internal/mta"
)

// TestUnalignedFrom: what becomes of a message whose From domain no key is for,
// by what the operator chose.
func TestUnalignedFrom(t *testing.T) {
	t.Parallel()
	covered := func(domain string) bool {
		return domain == "example.com" || strings.HasSuffix(domain, ".example.com") || domain == "xn--bcher-kva.example"
	}
	for _, c := range []struct {
		name, from, sender, asked string
		ours, fine                bool
	}{
		{name: "covered", from: "From: a@example.com\r\n", asked: "example.com", fine: true},
		{name: "below", from: "From: A <a@News.Example.COM>\r\n", asked: "news.example.com", fine: true},
		{name: "IDN", from: "From: a@b\u00fccher.example\r\n", asked: "xn--bcher-kva.example", fine: true},
		{name: "other", from: "From: a@other.test\r\n", asked: "other.test"},
		{name: "unreadable", from: "From: nobody\r\n", asked: ""},
		{name: "two authors", from: "From: a@other.test, b@example.com\r\n", asked: "other.test"},
		{name: "two authors, one sender", from: "From: a@other.test, b@example.com\r\nSender: b@example.com\r\n", asked: "example.com", fine: true},
		{name: "made of the return path", sender: "a@other.test", asked: "other.test"},
		{name: "made of a covered return path", sender: "a@example.com", asked: "example.com", fine: true},
		{name: "the daemon's own", fine: true},
		{name: "our report", from: "From: a@other.test\r\n", ours: true, fine: true},
	} {
		for _, policy := range []Unaligned{UnalignedAccepted, UnalignedWarned, UnalignedRefused} {
			t.Run(fmt.Sprint(c.name, " ", policy), func(t *testing.T) {
				w := newWorld()
				var asked, told []string
				w.Intake.covered = func(domain string) bool { asked = append(asked, domain); return covered(domain) }
				w.Intake.tellUnaligned = func(domain string, _ mta.ID) { told = append(told, domain) }
				s := *w.Intake.settings.Load()
				s.Unaligned = policy
				w.Intake.Configure(s)
				r := request()
				r.Envelope.Sender, r.Ours = c.sender, c.ours
				_, _, err := w.submit(t, r, c.from+"Subject: x\r\n\r\nx\r\n", 0)
				accepted, refused := w.Intake.Unaligned()
				bad := !c.fine && policy != UnalignedAccepted
				if (err != nil) != (bad && policy == UnalignedRefused) || (len(told) == 1) != (bad && policy == UnalignedWarned) ||
					(accepted == 1) != (bad && policy == UnalignedWarned) || (refused == 1) != (bad && policy == UnalignedRefused) {
					t.Errorf("%v; told %q, %d accepted, %d refused", err, told, accepted, refused)
				}
				if err != nil {
					wantRefusal(t, err, 550, "5.7.1", "the From ")
				}
				if len(asked) > 1 || len(asked) == 1 && (asked[0] != c.asked || policy == UnalignedAccepted) {
					t.Errorf("asked %q, want %q", asked, c.asked)
				}
			})
		}
	}
}

// TestNobodyToAsk: without keys nothing is refused.
func TestNobodyToAsk(t *testing.T) {
	t.Parallel()
	w := newWorld()
	s := *w.Intake.settings.Load()
	s.Unaligned = UnalignedRefused
	w.Intake.Configure(s)
	if _, _, err := w.submit(t, request(), "From: a@other.test\r\n\r\nx\r\n", 0); err != nil {
		t.Error(err)
	}
}
