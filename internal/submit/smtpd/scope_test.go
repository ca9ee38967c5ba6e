package smtpd

import (
	"encoding/base64"
	"strings"
	"testing"

	"mailout/internal/account"
)

// TestScopeOfSending: a user who may only look at things over HTTP does not send
// over SMTP; an HTTP key is a password here.
func TestScopeOfSending(t *testing.T) {
	t.Parallel()
	key, hash := account.NewKey()
	book := account.NewBook(nil)
	book.Configure([]account.User{
		{Name: "erp", Password: cheapHash(t, "secret"), From: account.Senders{"*"}, Scopes: []account.Scope{account.ScopeRead}},
		{Name: "web", Key: hash, From: account.Senders{"*"}, Scopes: []account.Scope{account.ScopeSend}},
	})
	a := &intake{}
	s, _ := startSecure(t, a, func(set *Settings) { set.Auth, set.Users = AuthAlways, book })
	c := dialClient(t, s)
	wantCode(t, c, 235, plainErp)
	if r := wantCode(t, c, 550, "MAIL FROM:<erp@example.com>"); !strings.Contains(r.String(), "5.7.1 erp may not send") {
		t.Error(r)
	}
	wantCode(t, c, 550, "MAIL FROM:<>")
	web := dialClient(t, s)
	wantCode(t, web, 235, "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00web\x00"+key)))
	send(t, web, "web@example.com")
	if len(a.taken()) != 1 {
		t.Error(a.taken())
	}
}
