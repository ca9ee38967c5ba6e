package submit

import (
	"errors"
	"strings"
	"testing"

	"mailout/internal/account"
	"mailout/internal/header"
)

// TestCheckFrom: every author of every From field must be one of the user's.
func TestCheckFrom(t *testing.T) {
	t.Parallel()
	u := &account.User{Name: "erp", From: account.Senders{"*@example.com"}}
	for value, ok := range map[string]bool{
		"erp@example.com":                                  true,
		"=?utf-8?q?B=C3=BCro?= <Erp@EXAMPLE.com>":          true,
		"a@example.com, \"b, c\" <b@example.com>":          true,
		"\r\n\tErp <erp@example.com> (boss@other.example)": true,
		"boss@other.example":                               false,
		"\"erp@example.com\" <boss@other.example>":         false,
		"a@example.com, boss@other.example":                false,
		"Team: a@example.com, boss@other.example;":         false,
		"<erp@example.com>@other.example":                  false,
		"erp@example.com <boss@other.example>":             false,
		"erp":                                              false,
		"nobody at all,,,":                                 false,
		"Team:;":                                           false,
	} {
		h, _, err := header.Parse([]byte("From: "+value+"\r\n\r\n"), header.Limits{})
		if err != nil || h.Len() != 1 {
			t.Fatal(value, err)
		}
		err = checkFrom(u, h.Field(0))
		if (err == nil) != ok {
			t.Errorf("%q: %v", value, err)
		}
		var r *Refusal
		if err != nil && (!errors.As(err, &r) || r.Reply.Code != 550 || r.Reply.Enhanced.String() != "5.7.1" || !strings.Contains(r.Reply.Text, "(allowed: *@example.com)")) {
			t.Errorf("%q: %v", value, err)
		}
		if checkFrom(nil, h.Field(0)) != nil || checkFrom(&account.User{From: account.Senders{"*"}}, h.Field(0)) != nil {
			t.Errorf("%q is refused to one who may send from anything", value)
		}
	}
}

// TestNobodySpeaksForTheDaemon: a From that would be made of the daemon's own
// name is not given to users.
func TestNobodySpeaksForTheDaemon(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		user   *account.User
		sender string
		ok     bool
	}{
		{nil, "", true},
		{&account.User{Name: "erp", From: account.Senders{"*"}}, "", true},
		{&account.User{Name: "erp", From: account.Senders{"*@example.com"}}, "", false},
		{&account.User{Name: "erp", From: account.Senders{"*@example.com"}}, "a@example.com", true},
	} {
		r := request()
		r.User, r.Envelope.Sender = c.user, c.sender
		_, _, err := newWorld().submit(t, r, "Subject: x\r\n\r\nx\r\n", 0)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
