package bounce

import (
	"strings"
	"testing"
)

func TestOwnRules(t *testing.T) {
	t.Parallel()
	c, err := New().WithOwn([]Own{
		{Class: IPBlocked, Code: "55", Enhanced: "5.7.*", Text: `Our Mail (desk|office)\b`},
		{Class: Greylisted, Code: "4", MX: []string{"*.slow.example", "mx.other.example"}},
		{Class: Virus, Enhanced: "X.9.9"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		r    Reply
		want Class
	}{
		{Reply{554, "5.7.1", "refused by OUR\r\n  mail office", ""}, IPBlocked},
		{Reply{554, "5.7.1", "refused by our mail offices: no such user", ""}, UserUnknown},
		{Reply{554, "5.1.1", "our mail desk: no such user", ""}, UserUnknown},
		{Reply{454, "5.7.1", "our mail desk: mailbox full", ""}, MailboxFull},
		{Reply{451, "", "mailbox full", "MX1.slow.example"}, Greylisted},
		{Reply{451, "", "mailbox full", "mx.other.example"}, Greylisted},
		{Reply{451, "", "mailbox full", "slow.example"}, MailboxFull},
		{Reply{451, "", "mailbox full", "x.mx.other.example"}, MailboxFull},
		{Reply{551, "", "mailbox full", "mx1.slow.example"}, MailboxFull},
		{Reply{451, "", "mailbox full", ""}, MailboxFull},
		{Reply{250, "2.9.9", "", ""}, Virus},
	} {
		if got := c.Classify(v.r); got != v.want {
			t.Errorf("%+v is %s, want %s", v.r, got, v.want)
		}
	}
	if got := New().Classify(Reply{554, "5.7.1", "our mail desk: no such user", ""}); got != UserUnknown {
		t.Errorf("the shipped rules are changed: %s", got)
	}
}

// TestOwnRulesAreChecked: what fits everything, names nothing or is beyond the
// bounds is refused with a word on what is wrong.
func TestOwnRulesAreChecked(t *testing.T) {
	t.Parallel()
	for want, rule := range map[string]Own{
		`"moved" is not a class`:        {Class: "moved", Code: "5"},
		"needs code, enhanced or text":  {Class: Policy, MX: []string{"*"}},
		`code "6"`:                      {Class: Policy, Code: "6"},
		`code "5x"`:                     {Class: Policy, Code: "5x"},
		`code "5500"`:                   {Class: Policy, Code: "5500"},
		`enhanced "5.7"`:                {Class: Policy, Enhanced: "5.7"},
		`enhanced "5.7.1234"`:           {Class: Policy, Enhanced: "5.7.1234"},
		"text is no regular expression": {Class: Policy, Text: "(unfinished"},
		"more than 1000":                {Class: Policy, Text: strings.Repeat("x", MaxPattern+1)},
	} {
		if err := rule.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %s", rule, err, want)
		}
	}
	for _, good := range []Own{{Class: Policy, Code: "5"}, {Class: Policy, Enhanced: "x.*"}, {Class: Policy, Enhanced: "4.7.10*"}, {Class: Other, Text: strings.Repeat("x", MaxPattern)}} {
		if err := good.Check(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	if _, err := New().WithOwn(make([]Own, MaxOwn+1)); err == nil {
		t.Error("too many rules are taken")
	}
}

// TestHostilePatternIsLinear: a pattern that would take other engines for ever
// ends with the text it is given.
func TestHostilePatternIsLinear(t *testing.T) {
	t.Parallel()
	c, err := New().WithOwn([]Own{{Class: Policy, Text: `(a*)*(a|aa)+b$`}})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Classify(Reply{Text: strings.Repeat("a", 1<<20)}); got != Other {
		t.Errorf("%s", got)
	}
}
