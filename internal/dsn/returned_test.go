package dsn

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailout/internal/bounce"
)

// told puts what was read into a line for each recipient.
func told(r *Returned) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s from %s", r.Outcome, r.Reporter)
	for _, f := range r.Failed {
		class := bounce.New().Classify(bounce.Reply{Code: f.Code, Enhanced: f.Status.String(), Text: f.Text})
		fmt.Fprintf(&b, "; %s %d %s %s", strings.Join(f.Addresses, "="), f.Code, f.Status, class)
	}
	if fb := r.Feedback; fb.Type != "" {
		fmt.Fprintf(&b, "; %s of %s by %s", fb.Type, fb.MailFrom, strings.Join(fb.Recipients, ","))
	}
	if r.Feedback.Attached {
		b.WriteString("; attached")
	}
	if r.Original != nil {
		if f, ok := r.Original.Get("Return-Path"); ok {
			b.WriteString("; path " + strings.TrimSpace(f.Text()))
		}
	}
	return b.String()
}

const path = "; path <b+aaaa@bounces.widget.example>"

func TestReadReturn(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"postfix":     "failure from mx.example.net; ann@inner.example.com=ann@example.com 550 5.1.1 user_unknown" + path,
		"delayed":     "delay from mx.example.net",
		"success":     "success from mx.example.net",
		"exchange":    "failure from EX01.corp.example.com; ann@corp.example.com 550 5.1.10 user_unknown; attached" + path,
		"exim":        "failure from mx.example.org; ann@example.com 550  user_unknown" + path,
		"qmail":       "failure from mail.example.jp; ann@example.jp 550 5.1.1 user_unknown; bob@example.jp 0 5.1.1 user_unknown" + path,
		"domino":      "failure from notes.example.com; ann@notes.example.com 0  user_unknown",
		"french":      "failure from exemple.example.fr; ann@exemple.example.fr 550 5.1.1 user_unknown",
		"german":      "failure from beispiel.example.de; ann@beispiel.example.de 550  user_unknown",
		"plain":       "failure from old.example.com; ann@old.example.com 550 5.1.1 user_unknown",
		"exim-delay":  "delay from mx.example.org",
		"vacation":    "auto-reply from example.com",
		"answer":      "nothing from example.com",
		"spam":        "nothing from spam.example",
		"arf":         "complaint from isp.example; abuse of b+aaaa@bounces.widget.example by ann@isp.example" + path,
		"arf-opt-out": "complaint from isp.example; opt-out of  by ann@isp.example" + path,
		"jmrp":        "nothing from hotmail.example; attached" + path,
	}
	files, err := filepath.Glob("testdata/returned/*.eml")
	if err != nil || len(files) != len(want) {
		t.Fatalf("%d samples, %d expectations, %v", len(files), len(want), err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".eml")
		for _, form := range []string{string(content), strings.ReplaceAll(string(content), "\n", "\r\n")} {
			if got := told(ReadReturn([]byte(form))); got != want[name] {
				t.Errorf("%s:\ngot  %s\nwant %s", name, got, want[name])
			}
		}
	}
}

func FuzzReadReturn(f *testing.F) {
	files, err := filepath.Glob("testdata/returned/*.eml")
	if err != nil || len(files) == 0 {
		f.Fatal("no seeds", err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		r := ReadReturn(content)
		if r.Outcome > Complaint || (r.Outcome == Failure) != (len(r.Failed) > 0) || len(r.Failed) > maxFailed {
			t.Fatalf("%+v", r)
		}
		for _, one := range r.Failed {
			if len(one.Text) > maxSaid || strings.ContainsAny(one.Text, "\r\n") {
				t.Fatalf("%q", one.Text)
			}
			for _, a := range one.Addresses {
				if a == "" || len(a) > maxAddress || strings.ContainsAny(a, "\r\n") {
					t.Fatalf("address %q", a)
				}
			}
		}
	})
}

// TestReadReturnSearchesBeginnings: a header of a megabyte, which anybody may
// send, is not searched for words to its end.
func TestReadReturnSearchesBeginnings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		content string
		want    Outcome
	}{
		"a subject":     {"From: MAILER-DAEMON@example.com\r\nSubject: x Undelivered\r\n\r\nsee below\r\n", Failure},
		"a long one":    {"From: MAILER-DAEMON@example.com\r\nSubject: " + strings.Repeat("x ", maxWords) + "Undelivered\r\n\r\nsee below\r\n", Nothing},
		"a long From":   {"From: " + strings.Repeat("x ", maxWords) + "MAILER-DAEMON@example.com\r\nSubject: Undelivered\r\n\r\nsee below\r\n", Nothing},
		"markup":        {"From: MAILER-DAEMON@example.com\r\nContent-Type: text/html\r\n\r\n" + strings.Repeat("<p>", 9_000) + "user unknown\r\n", Failure},
		"a lot of that": {"From: MAILER-DAEMON@example.com\r\nContent-Type: text/html\r\n\r\n" + strings.Repeat("<p>", maxMarkup) + "user unknown\r\n", Nothing},
	} {
		if r := ReadReturn([]byte(c.content)); r.Outcome != c.want || len(r.Reporter) > maxWords {
			t.Errorf("%s: %s from %.80q", name, r.Outcome, r.Reporter)
		}
	}
}

// TestReadReturnCodes: numbers that are no refusal are no code.
func TestReadReturnCodes(t *testing.T) {
	t.Parallel()
	r := ReadReturn([]byte("From: MAILER-DAEMON@example.com\r\nSubject: Undelivered Mail\r\n\r\n<ann@example.com>:\r\nThe server (after 240 attempts in 250 minutes) says:\r\n550 5.1.1 User unknown\r\n"))
	if got := told(r); got != "failure from example.com; ann@example.com 550 5.1.1 user_unknown" {
		t.Error(got)
	}
}
