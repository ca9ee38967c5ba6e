package smtpd

import (
	"net/netip"
	"testing"
)

// TestREQUIRETLS: the extension is offered and obeyed under TLS, and not
// before it (RFC 8689 2, 4.1).
func TestREQUIRETLS(t *testing.T) {
	t.Parallel()
	a := &intake{}
	s, client := startSecure(t, a, func(set *Settings) { set.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	c := dialClient(t, s)
	if _, there := c.Extensions["REQUIRETLS"]; there {
		t.Error("offered in clear text")
	}
	wantCode(t, c, 555, "MAIL FROM:<a@example.com> REQUIRETLS")
	if err := c.StartTLS(client); err != nil {
		t.Fatal(err)
	}
	hello(t, c)
	if value, there := c.Extensions["REQUIRETLS"]; !there || value != "" {
		t.Errorf("under TLS: %v", c.Extensions)
	}
	wantCode(t, c, 555, "MAIL FROM:<a@example.com> REQUIRETLS=yes")
	for _, param := range []string{" REQUIRETLS", "", " size=100 requiretls"} {
		wantCode(t, c, 250, "MAIL FROM:<a@example.com>"+param)
		wantCode(t, c, 250, "RCPT TO:<b@example.net>")
		wantCode(t, c, 354, "DATA")
		wantCode(t, c, 250, "Subject: x\r\n\r\nx\r\n.")
	}
	got := a.taken()
	if len(got) != 3 || !got[0].request.Envelope.RequireTLS || got[1].request.Envelope.RequireTLS || !got[2].request.Envelope.RequireTLS {
		t.Errorf("%+v", got)
	}
}
