package admin

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"mailout/internal/dkim"
)

// keyring is a Signing with a key that signs and one that cannot be read.
type keyring struct{}

func (keyring) DKIMKeys() []dkim.KeyStatus {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return []dkim.KeyStatus{
		{Entry: dkim.Entry{Domain: "widget.com", Selector: "m1", Path: "/k/m1.pem"}, Algorithm: dkim.RSA, Bits: 2048, TXT: "v=DKIM1; k=rsa; p=AAAA", State: dkim.StateActive,
			Record: dkim.Sight{Finding: dkim.Published, Authority: true, Why: "ns1: the record is there"}, Since: at, Seen: at, Signed: at},
		{Entry: dkim.Entry{Domain: "widget.com", Selector: "m2", Path: "/k/m2.pem"}, State: dkim.StateMissing, Trouble: "no such file"},
	}
}

func (keyring) DKIMLooks() dkim.LookCounts {
	return dkim.LookCounts{Published: 3, Missing: 2, Unknown: 1}
}

func (keyring) DKIMSigned() dkim.Counts { return dkim.Counts{Signed: 9, Unsigned: 8, Failed: 7} }

func (keyring) Unaligned() (accepted, refused int64) { return 5, 4 }

func TestDKIMKeys(t *testing.T) {
	t.Parallel()
	s := New(Options{Store: &store{}, History: bookless{&store{}}, Queue: scheduler{}, Signing: keyring{}, Logger: slog.New(slog.DiscardHandler)})
	w := httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/dkim", nil))
	var list DKIMKeys
	if err := json.Unmarshal(w.Body.Bytes(), &list); w.Code != 200 || err != nil || len(list.Keys) != 2 {
		t.Fatal(w.Code, w.Body, err)
	}
	if k := list.Keys[0]; k.State != "active" || k.Since != "2026-03-01T12:00:00.000Z" || k.Retired != "" || k.Name != "m1._domainkey.widget.com" || k.Record != "published" || !k.Authority {
		t.Errorf("%+v", k)
	}
	if k := list.Keys[1]; k.State != "missing" || k.Record != "unknown" || k.Algorithm != "" || k.Trouble == "" {
		t.Errorf("%+v", k)
	}
	w = httptest.NewRecorder()
	s.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, line := range []string{
		`mailout_dkim_key{algorithm="rsa",domain="widget.com",selector="m1",state="active"} 1`,
		`mailout_dkim_key{algorithm="",domain="widget.com",selector="m2",state="missing"} 1`,
		`mailout_dkim_record_checks_total{result="published"} 3`, `mailout_dkim_record_checks_total{result="missing"} 2`,
		`mailout_unaligned_messages_total{result="accepted"} 5`, `mailout_unaligned_messages_total{result="refused"} 4`,
	} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	if _, there := operations(s.api.OpenAPI())["GET /v1/dkim"]; !there {
		t.Error("the document does not have it")
	}
	var _ prometheus.Collector = newKeyMetrics(keyring{})
}

// TestDKIMKeysAreForAdmins: who may only read metrics is not told where keys are.
func TestDKIMKeysAreForAdmins(t *testing.T) {
	t.Parallel()
	s := New(Options{Store: &store{}, History: bookless{&store{}}, Queue: scheduler{}, Signing: keyring{}, Logger: slog.New(slog.DiscardHandler)})
	op := operations(s.api.OpenAPI())["GET /v1/dkim"]
	text, err := json.Marshal(op)
	if err != nil || !strings.Contains(string(text), "admin") || strings.Contains(string(text), `"read"`) {
		t.Errorf("%s %v", text, err)
	}
}
