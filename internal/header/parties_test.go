package header

import (
	"errors"
	"slices"
	"testing"
)

func TestParties(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		in     string
		to     []string
		author string // empty: ErrNoAuthor
	}{
		"plain":                 {"From: A <a@x.example>\nTo: b@x.example,\n c@x.example\nCc: d@x.example\nBcc: e@x.example\n", []string{"b@x.example, c@x.example", "d@x.example", "e@x.example"}, "a@x.example"},
		"sender":                {"From: a@x.example, b@x.example\nSender: c@x.example\n", nil, "c@x.example"},
		"two authors":           {"From: a@x.example, b@x.example\n", nil, ""},
		"nobody":                {"Subject: x\n", nil, ""},
		"broken":                {"From: <a@x.example\n", nil, ""},
		"resent":                {"Resent-From: r@x.example\nResent-To: s@x.example\nFrom: a@x.example\nTo: b@x.example\n", []string{"s@x.example"}, "r@x.example"},
		"resent twice":          {"Resent-From: r2@x.example\nResent-To: s2@x.example\nResent-From: r1@x.example\nResent-To: s1@x.example\nTo: b@x.example\n", []string{"s2@x.example"}, "r2@x.example"},
		"resent, then received": {"Resent-To: s@x.example\nReceived: x\nResent-From: r@x.example\nFrom: a@x.example\n", []string{"s@x.example"}, ""},
	} {
		h, _, err := Parse([]byte(c.in+"\n"), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		to, err := h.Recipients()
		if err != nil || !slices.Equal(to, c.to) {
			t.Errorf("%s: %q, %v", name, to, err)
		}
		author, err := h.Author()
		if author != c.author || (err != nil) != (c.author == "") || err != nil && !errors.Is(err, ErrNoAuthor) {
			t.Errorf("%s: author %q, %v", name, author, err)
		}
	}
	h, _, _ := Parse([]byte("To: a b <c\n\n"), Limits{})
	if to, err := h.Recipients(); err == nil {
		t.Errorf("%q", to)
	}
}
