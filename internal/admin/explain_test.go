package admin

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestExplainAnswers(t *testing.T) {
	t.Parallel()
	var asked ExplainRequest
	var failure error
	s := New(Options{Logger: slog.New(slog.DiscardHandler), Explain: func(_ context.Context, r ExplainRequest) (*Explanation, error) {
		asked = r
		return &Explanation{Recipient: r.Address.String()}, failure
	}})
	w := get(s, "/v1/explain", url.Values{"address": {" <A@Example.NET> "}, "rcpt": {"true"}})
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), `"recipient":"A@example.net"`) || !asked.Probe || !asked.Rcpt {
		t.Errorf("%d %s, %+v", w.Code, w.Body, asked)
	}
	get(s, "/v1/explain", url.Values{"address": {"a@example.net"}, "probe": {"maybe"}})
	if asked.Probe || asked.Rcpt {
		t.Errorf("%+v", asked)
	}
	for _, bad := range []string{"", "a", "a@b", "a@-x.example"} {
		w := get(s, "/v1/explain", url.Values{"address": {bad}})
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"field":"recipient"`) {
			t.Errorf("%q: %d %s", bad, w.Code, w.Body)
		}
	}
	get(s, "/v1/explain", url.Values{"address": {"a@example.net"}})
	if m := asked.Mail; m.Sender != UnknownSender || m.Stream != "default" || m.User != "" || m.Tags != nil {
		t.Errorf("%+v", m)
	}
	get(s, "/v1/explain", url.Values{"address": {"a@example.net"}, "sender": {"<B@Example.ORG>"}, "stream": {"news"}, "user": {"unix:root"}, "tag": {"a b", "c"}})
	if m := asked.Mail; m.Sender != "B@example.org" || m.Stream != "news" || m.User != "unix:root" || len(m.Tags) != 2 || m.Tags[0] != "a b" {
		t.Errorf("%+v", m)
	}
	get(s, "/v1/explain", url.Values{"address": {"a@example.net"}, "sender": {"<>"}})
	if asked.Mail.Sender != "" {
		t.Errorf("%+v", asked.Mail)
	}
	get(s, "/v1/explain", url.Values{"address": {"a@example.net"}, "require_tls": {"true"}, "tls_required_no": {"false"}})
	if !asked.Mail.RequireTLS || asked.Mail.AnyTLS {
		t.Errorf("%+v", asked.Mail)
	}
	if w := get(s, "/v1/explain", url.Values{"address": {"a@example.net"}, "require_tls": {"true"}, "tls_required_no": {"true"}}); w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "RFC 8689") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	for field, bad := range map[string][]string{
		"sender": {"a", "a@", "a b@example.net"}, "stream": {"a\x07b", strings.Repeat("x", 65)}, "user": {"\x1b", strings.Repeat("x", 201)}, "tag": {"\n", strings.Repeat("x", 65)},
		"require_tls": {"maybe"}, "tls_required_no": {"2"},
	} {
		for _, value := range bad {
			w := get(s, "/v1/explain", url.Values{"address": {"a@example.net"}, field: {value}})
			if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), `"field":"`+field+`"`) {
				t.Errorf("%s %q: %d %s", field, value, w.Code, w.Body)
			}
		}
	}
	failure = errors.New("no")
	if w := get(s, "/v1/explain", url.Values{"address": {"a@example.net"}}); w.Code != http.StatusInternalServerError {
		t.Errorf("%d", w.Code)
	}
	if w := get(newServer(&store{}), "/v1/explain", url.Values{"address": {"a@example.net"}}); w.Code != http.StatusNotFound {
		t.Errorf("without an explainer: %d", w.Code)
	}
}
