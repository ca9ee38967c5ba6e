package smtpd

import (
	"crypto/tls"
	"encoding/base64"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/xdg-go/scram"

	"mailout/internal/mtatest"
)

// secureClient is a client that has gone over to TLS.
func secureClient(t testing.TB, s *Server, rules *tls.Config) (*mtatest.Client, *tls.Conn) {
	t.Helper()
	c := dialClient(t, s)
	if err := c.StartTLS(rules); err != nil {
		t.Fatal(err)
	}
	hello(t, c)
	conn, ok := c.Conn().(*tls.Conn)
	if !ok {
		t.Fatalf("the client speaks over %T", c.Conn())
	}
	return c, conn
}

// converse plays a SCRAM exchange of the library's client.
func converse(t testing.TB, c *mtatest.Client, mechanism string, conv *scram.ClientConversation) mtatest.Reply {
	t.Helper()
	enc := base64.StdEncoding
	first, err := conv.Step("")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Cmd("AUTH %s %s", mechanism, enc.EncodeToString([]byte(first)))
	for err == nil && r.Code == 334 {
		challenge, bad := enc.DecodeString(r.Lines[0])
		if bad != nil {
			t.Fatal(bad)
		}
		answer, bad := conv.Step(string(challenge))
		if bad != nil {
			t.Fatal(bad)
		}
		r, err = c.Cmd("%s", enc.EncodeToString([]byte(answer)))
	}
	if err != nil {
		t.Fatal(err)
	}
	if r.Code == 235 && !conv.Valid() {
		t.Error("the server's signature is wrong")
	}
	return r
}

// TestSCRAM with the client of the library, right and wrong.
func TestSCRAM(t *testing.T) {
	t.Parallel()
	s, rules := startSecure(t, &intake{}, nil)
	for _, try := range []struct {
		name, password, act string
		want                int
	}{{"erp", "wrong", "", 535}, {"nobody", "secret", "", 535}, {"erp", "secret", "boss", 535}, {"erp", "secret", "", 235}} {
		c, _ := secureClient(t, s, rules)
		client, err := scram.SHA256.NewClient(try.name, try.password, try.act)
		if err != nil {
			t.Fatal(err)
		}
		if r := converse(t, c, "SCRAM-SHA-256", client.NewConversation()); r.Code != try.want {
			t.Errorf("%+v: %v", try, r)
		}
	}
}

// TestSCRAMPlus: an exchange is good only over the connection that it names,
// and who was told that there is no PLUS learns that somebody lied.
func TestSCRAMPlus(t *testing.T) {
	t.Parallel()
	s, rules := startSecure(t, &intake{}, func(set *Settings) { set.Users = testUsers(t, true) })
	client, err := scram.SHA256.NewClient("erp", "secret", "")
	if err != nil {
		t.Fatal(err)
	}
	binding := func(conn *tls.Conn) scram.ChannelBinding {
		state := conn.ConnectionState()
		b, err := scram.NewTLSExporterBinding(&state)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	_, elsewhere := secureClient(t, s, rules)
	for _, try := range []struct {
		name, mechanism string
		conv            func(conn *tls.Conn) *scram.ClientConversation
		want            int
	}{
		{"bound", "SCRAM-SHA-256-PLUS", func(conn *tls.Conn) *scram.ClientConversation {
			return client.NewConversationWithChannelBinding(binding(conn))
		}, 235},
		{"bound to another connection", "SCRAM-SHA-256-PLUS", func(*tls.Conn) *scram.ClientConversation {
			return client.NewConversationWithChannelBinding(binding(elsewhere))
		}, 535},
		{"PLUS without a binding", "SCRAM-SHA-256-PLUS", func(*tls.Conn) *scram.ClientConversation { return client.NewConversation() }, 535},
		{"a binding without PLUS", "SCRAM-SHA-256", func(conn *tls.Conn) *scram.ClientConversation {
			return client.NewConversationWithChannelBinding(binding(conn))
		}, 535},
		{"PLUS was hidden", "SCRAM-SHA-256", func(*tls.Conn) *scram.ClientConversation {
			return client.NewConversationAdvertisingChannelBinding()
		}, 535},
		{"knows no binding", "SCRAM-SHA-256", func(*tls.Conn) *scram.ClientConversation { return client.NewConversation() }, 235},
	} {
		c, conn := secureClient(t, s, rules)
		if !slices.Contains(strings.Fields(c.Extensions["AUTH"]), "SCRAM-SHA-256-PLUS") {
			t.Fatalf("AUTH %s", c.Extensions["AUTH"])
		}
		if r := converse(t, c, try.mechanism, try.conv(conn)); r.Code != try.want {
			t.Errorf("%s: %v, want %d", try.name, r, try.want)
		}
	}
}

// TestSCRAMPlusNeedsTLS13: with TLS 1.2 PLUS is not there, so that "I could
// bind, but you cannot" is true.
func TestSCRAMPlusNeedsTLS13(t *testing.T) {
	t.Parallel()
	s, rules := startSecure(t, &intake{}, nil)
	rules.MaxVersion = tls.VersionTLS12
	c, _ := secureClient(t, s, rules)
	if c.Extensions["AUTH"] != "SCRAM-SHA-256 PLAIN LOGIN" {
		t.Errorf("AUTH %s", c.Extensions["AUTH"])
	}
	wantCode(t, c, 504, "AUTH SCRAM-SHA-256-PLUS")
	client, err := scram.SHA256.NewClient("erp", "secret", "")
	if err != nil {
		t.Fatal(err)
	}
	if r := converse(t, c, "SCRAM-SHA-256", client.NewConversationAdvertisingChannelBinding()); r.Code != 235 {
		t.Error(r)
	}
}

// TestGsasl: the client of GNU SASL, which shares nothing with our library,
// with and without a binding.
func TestGsasl(t *testing.T) {
	t.Parallel()
	gsasl, err := exec.LookPath("gsasl")
	if err != nil {
		t.Skip("gsasl is not installed")
	}
	for _, mode := range []string{"SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", "PLAIN", "LOGIN"} {
		s, _ := startSecure(t, &intake{}, nil)
		host, port, err := net.SplitHostPort(s.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		for password, ok := range map[string]bool{"secret": true, "wrong": false} {
			args := []string{"--client", "--smtp", "--starttls", "--mechanism", mode, "--authentication-id", "erp", "--authorization-id=", "--password", password,
				"--x509-ca-file=", "--connect", host + ":" + port}
			if mode == "SCRAM-SHA-256" { // it does not leave PLUS aside of itself
				args = append(args, "--no-cb")
			}
			cmd := exec.CommandContext(t.Context(), gsasl, args...)
			cmd.Stdin = strings.NewReader("")
			out, err := cmd.CombinedOutput()
			if strings.Contains(string(out), "2.7.0 Authentication successful") != ok {
				t.Errorf("%s with %s: %v\n%s", mode, password, err, out)
			}
		}
	}
}
