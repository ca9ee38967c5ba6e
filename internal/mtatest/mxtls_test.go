package mtatest

import (
	"crypto/tls"
	"testing"
)

func TestMXStartTLS(t *testing.T) {
	t.Parallel()
	ca, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Certificate(true, "mx.test.example")
	if err != nil {
		t.Fatal(err)
	}
	m, c := start(t, MXConfig{Certificate: cert})
	if _, ok := c.Extensions["STARTTLS"]; !ok {
		t.Fatal("not offered")
	}
	if err := c.StartTLS(&tls.Config{RootCAs: ca.Pool(), ServerName: "mx.test.example"}); err != nil {
		t.Fatal(err)
	}
	if r, err := c.Cmd("MAIL FROM:<s@b.example>"); err != nil || r.Code != 503 {
		t.Errorf("MAIL before the second EHLO: %v %v", r, err)
	}
	if err := c.Hello("client.example"); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.Extensions["STARTTLS"]; ok {
		t.Error("offered twice")
	}
	if _, err := c.Send("s@b.example", []string{"u@d.example"}, []byte(mail)); err != nil {
		t.Fatal(err)
	}
	if got := m.Messages()[0]; got.TLS == nil || got.TLS.Version != tls.VersionTLS13 || got.TLS.ServerName != "mx.test.example" {
		t.Errorf("TLS %+v", got.TLS)
	}
}

func TestMXBreaksTLS(t *testing.T) {
	t.Parallel()
	ca, err := NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ca.Certificate(false, "mx.test.example")
	if err != nil {
		t.Fatal(err)
	}
	trust := &tls.Config{RootCAs: ca.Pool(), ServerName: "mx.test.example"}
	for name, rule := range map[string]Rule{
		"expired":     {},
		"injected":    {Stage: StageStartTLS, Action: Action{After: "250 evil\r\n"}},
		"refused":     {Stage: StageStartTLS, Action: Action{Reply: "454 4.7.0 no TLS now"}},
		"garbage":     {Stage: StageHandshake, Action: Action{Raw: "HTTP/1.1 400 no\r\n"}},
		"dropped":     {Stage: StageHandshake, Action: Action{Drop: true}},
		"wrong words": {Stage: StageStartTLS, Action: Action{Raw: "garbage\r\n"}},
	} {
		m, c := start(t, MXConfig{Certificate: cert, Rules: []Rule{rule}})
		if err := c.StartTLS(trust); err == nil {
			t.Errorf("%s: the handshake worked", name)
		}
		c.Close()
		m.Stop()
	}
}
