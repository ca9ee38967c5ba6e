package bounce

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

func table(t *testing.T, name string) [][]string {
	t.Helper()
	data, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")[1:] {
		rows = append(rows, strings.Split(line, "\t"))
	}
	return rows
}

// TestClasses: the classes and their actions are those agreed on.
func TestClasses(t *testing.T) {
	t.Parallel()
	rows := table(t, "classes.tsv")
	for _, row := range rows {
		if c := Class(row[0]); !c.Known() || string(c.Action()) != row[1] {
			t.Errorf("%s calls for %s, want %s", c, c.Action(), row[1])
		}
	}
	if len(rows) != len(actions) {
		t.Errorf("%d classes, want %d", len(actions), len(rows))
	}
	if Class("nonsense").Action() != Unclear {
		t.Error("what is no class calls for something")
	}
}

// TestReplies: of the labelled replies (those that are whole ones, not
// fragments) so many are named right, so many call for the right action, and
// hardly any good address would be removed.
func TestReplies(t *testing.T) {
	t.Parallel()
	c := New()
	var n, exact, action, falseRemove int
	for _, row := range table(t, "replies.tsv") {
		if strings.HasPrefix(row[4], "frag:") {
			continue
		}
		code, _ := strconv.Atoi(row[0])
		got, want := c.Classify(Reply{Code: code, Enhanced: row[1], Text: row[2]}), Class(row[3])
		n++
		if got == want {
			exact++
		} else {
			t.Logf("%s, want %s: %.200q", got, want, row[2])
		}
		if got.Action() == want.Action() {
			action++
		} else if got.Action() == Remove {
			falseRemove++
		}
	}
	if n < 500 || exact*100 < n*92 || action*100 < n*96 || falseRemove*100 >= n {
		t.Errorf("of %d: %d exact, %d with the right action, %d falsely removed", n, exact, action, falseRemove)
	}
}

// TestNoRuleQuotesAReply: rules are phrases, so that they fit what nobody has
// seen yet.
func TestNoRuleQuotesAReply(t *testing.T) {
	t.Parallel()
	whole := map[string]bool{}
	for _, row := range table(t, "replies.tsv") {
		if !strings.HasPrefix(row[4], "frag:") && len(strings.Fields(row[2])) > 4 {
			whole[Normal(row[2])] = true
		}
	}
	for _, r := range New().rules {
		for _, w := range r.words {
			if whole[w] || len(strings.Fields(w)) > 8 {
				t.Errorf("%s: %q is a reply, or too long for a phrase", r.class, w)
			}
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"nonsense\t550":               `line 1: "nonsense" is not a class`,
		"# one\n\nvirus\t-\t-\t-":     "line 3: the rule for virus fits everything",
		"virus":                       "line 1: the rule for virus fits everything",
		"policy\t550\n other\t5\r\nx": `line 3: "x" is not a class`,
	} {
		if _, err := Parse(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestRules(t *testing.T) {
	t.Parallel()
	c, err := Parse("greylisted\t45\tx.7.1\tcome * later | wait\nvirus\t-\t5.9.*\npolicy\t-\t4.9.9\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		r    Reply
		want Class
	}{
		{Reply{Code: 451, Enhanced: "4.7.1", Text: "Please Come\r\n  back   later"}, Greylisted},
		{Reply{Code: 451, Enhanced: "4.7.1", Text: "please wait"}, Greylisted},
		{Reply{Code: 551, Enhanced: "5.7.1", Text: "please wait"}, Other},
		{Reply{Code: 451, Enhanced: "", Text: "please wait"}, Other},
		{Reply{Code: 0, Enhanced: "", Text: "451 4.7.1 please wait"}, Greylisted},
		{Reply{Code: 451, Enhanced: "4.7.1", Text: "come " + strings.Repeat("x", 61) + " later"}, Other},
		{Reply{Code: 0, Enhanced: "5.9.1", Text: ""}, Virus}, {Reply{Code: 0, Enhanced: "5.99.1", Text: ""}, Other}, {Reply{Code: 0, Enhanced: "", Text: "failed (#5.9.12)"}, Virus},
		{Reply{Code: 0, Enhanced: "4.9.9", Text: ""}, Policy}, {Reply{Code: 0, Enhanced: "4.9.91", Text: ""}, Other}, {Reply{}, Other},
	} {
		if got := c.Classify(v.r); got != v.want {
			t.Errorf("%+v is %s, want %s", v.r, got, v.want)
		}
	}
	own, err := New().With("user_moved\t-\t-\tmailbox full")
	if err != nil {
		t.Fatal(err)
	}
	if got := own.Classify(Reply{Code: 552, Enhanced: "5.2.2", Text: "mailbox full"}); got != UserMoved {
		t.Errorf("the operator's own rule gives way: %s", got)
	}
	if got := New().Classify(Reply{Code: 552, Enhanced: "5.2.2", Text: "mailbox full"}); got != MailboxFull {
		t.Errorf("the shipped rules are changed: %s", got)
	}
}

func FuzzClassify(f *testing.F) {
	f.Add(550, "5.1.1", "no such user")
	f.Add(0, "", "451 4.7.1 come back in 00:05:00")
	f.Add(-1, "x.", "\xff\x00*|\t")
	c := New()
	f.Fuzz(func(t *testing.T, code int, enhanced, text string) {
		got := c.Classify(Reply{Code: code, Enhanced: enhanced, Text: text})
		if !got.Known() {
			t.Errorf("%q", got)
		}
		if again := c.Classify(Reply{Code: code, Enhanced: enhanced, Text: strings.ToUpper(text)}); again != got && isASCII(text) {
			t.Errorf("%s in capitals is %s", got, again)
		}
	})
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > 127 }) < 0
}

func BenchmarkClassify(b *testing.B) {
	c := New()
	r := Reply{Code: 550, Enhanced: "5.7.1", Text: "Our system has looked at this mail for a long time and does not want it at all, for reasons of its own"}
	for b.Loop() {
		c.Classify(r)
	}
}
