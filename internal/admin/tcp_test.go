package admin

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/danielgtaylor/huma/v2"

	"mailout/internal/account"
	"mailout/internal/rest"
)

// staff are users with a key each, by name; erp has a password too.
func staff(t *testing.T) (*account.Book, map[string]string) {
	t.Helper()
	password, err := account.ParseVerifier("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$" + pencil)
	if err != nil {
		t.Fatal(err)
	}
	book, keys := account.NewBook(nil), map[string]string{}
	var users []account.User
	for name, scopes := range map[string][]account.Scope{
		"erp": nil, "prom": {account.ScopeRead}, "desk": {account.ScopeControl}, "op": {account.ScopeAdmin},
	} {
		u := account.User{Name: name, Scopes: scopes}
		keys[name], u.Key = account.NewKey()
		if name == "erp" {
			u.Password = password
		}
		users = append(users, u)
	}
	book.Configure(users)
	return book, keys
}

// pencil is the argon2id hash of "pencil" with the salt and costs of staff.
const pencil = "XHglrCuS7fcUjDxfjHTrheVKDtCcGXK2inXdCZEEhfI"

// served starts everything on loopback and gives its base URL.
func served(t *testing.T, change func(*TCP)) (string, map[string]string) {
	t.Helper()
	book, keys := staff(t)
	tcp := TCP{Address: "127.0.0.1:0", Users: book, Names: []string{"mailout.example.com"}}
	if change != nil {
		change(&tcp)
	}
	s := everything(tcp)
	s.opts.Socket = filepath.Join(t.TempDir(), "sock")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := s.Stop(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String(), keys
}

func fetch(t *testing.T, r *http.Request) (*http.Response, string) {
	t.Helper()
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func request(t *testing.T, method, url string, headers ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return r
}

// TestStrangersGetNothing: without a token, every operation of the document and
// every other path is 401, in the form of a problem; only health is told.
func TestStrangersGetNothing(t *testing.T) {
	t.Parallel()
	base, keys := served(t, nil)
	_, text := fetch(t, request(t, "GET", base+"/openapi.json", "Authorization", "Bearer "+keys["erp"]))
	var doc struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal([]byte(text), &doc); err != nil || len(doc.Paths) < 15 {
		t.Fatal(err, text)
	}
	targets := map[string]bool{"GET /": true, "GET /v1/nothing": true, "POST /emails": true, "OPTIONS /v1/messages": true, "DELETE /healthzz": true, "GET /v1/../metrics": true}
	for path, item := range doc.Paths {
		for method := range item {
			targets[strings.ToUpper(method)+" "+fill(path)] = true
		}
	}
	for target := range targets {
		method, path, _ := strings.Cut(target, " ")
		resp, body := fetch(t, request(t, method, base+path))
		if path == "/healthz" || path == "/readyz" {
			if resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %d %s", target, resp.StatusCode, body)
			}
			continue
		}
		var p Problem
		if path == "/emails" { // its clients expect another form
			p.Status = resp.StatusCode
		} else if err := json.Unmarshal([]byte(body), &p); err != nil {
			t.Error(target, err, body)
		}
		if resp.StatusCode != http.StatusUnauthorized || p.Status != http.StatusUnauthorized || resp.Header.Get("WWW-Authenticate") != rest.Challenge {
			t.Errorf("%s: %d %s %v", target, resp.StatusCode, body, resp.Header)
		}
	}
}

// TestTokens: every way to send a token, and what scopes allow with it.
func TestTokens(t *testing.T) {
	t.Parallel()
	base, keys := served(t, nil)
	basic := func(name, password string) string {
		r := request(t, "GET", base)
		r.SetBasicAuth(name, password)
		return r.Header.Get("Authorization")
	}
	for _, c := range []struct {
		header, value, path string
		status              int
	}{
		{"Authorization", "Bearer " + keys["erp"], "/v1/deliveries", 200},
		{"Authorization", "bearer  " + keys["erp"], "/v1/deliveries", 200},
		{"Authorization", "Bearer erp:pencil", "/v1/deliveries", 200},
		{"Authorization", "Bearer pencil", "/v1/deliveries", 200},
		{"Authorization", basic("erp", "pencil"), "/v1/deliveries", 200},
		{"Authorization", basic("erp", keys["erp"]), "/v1/deliveries", 200},
		{"X-Postmark-Server-Token", keys["erp"], "/v1/deliveries", 200},
		{"Authorization", "Bearer " + keys["erp"], "/metrics", 403},
		{"Authorization", "Bearer " + keys["prom"], "/metrics", 200},
		{"Authorization", "Bearer " + keys["prom"], "/v1/queues", 200},
		{"Authorization", "Bearer " + keys["desk"], "/v1/queues", 403},
		{"Authorization", "Bearer " + keys["op"], "/v1/nothing", 404},
		{"Authorization", "Bearer " + keys["op"], "/v1/doctor", 200},
		{"Authorization", "Bearer", "/v1/deliveries", 401},
		{"Authorization", "Bearer " + keys["erp"] + "x", "/v1/deliveries", 401},
		{"Authorization", basic("prom", keys["erp"]), "/v1/deliveries", 401},
		{"Authorization", "Basic !!!", "/v1/deliveries", 401},
		{"Authorization", "Digest username=erp", "/v1/deliveries", 401},
		{"Authorization", keys["erp"], "/v1/deliveries", 401},
		{"X-Postmark-Server-Token", "x", "/v1/deliveries", 401},
		{"Cookie", "token=" + keys["op"], "/v1/deliveries", 401},
	} {
		resp, body := fetch(t, request(t, "GET", base+c.path, c.header, c.value))
		if resp.StatusCode != c.status {
			t.Errorf("%s: %.20s… %s: %d %s", c.header, c.value, c.path, resp.StatusCode, body)
		}
		if resp.Header.Get("Access-Control-Allow-Origin") != "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Error(resp.Header)
		}
	}
	if resp, body := fetch(t, request(t, "GET", base+"/v1/deliveries?token="+keys["op"])); resp.StatusCode != 401 {
		t.Error("a token in the address, which stands in logs, is taken:", body)
	}
}

// TestGuessingIsPutOff: with 429 and the time to wait.
func TestGuessingIsPutOff(t *testing.T) {
	t.Parallel()
	base, keys := served(t, nil)
	var resp *http.Response
	for range 8 {
		resp, _ = fetch(t, request(t, "GET", base+"/v1/queues", "Authorization", "Bearer erp:wrong"))
	}
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Error(resp.StatusCode, resp.Header)
	}
	if resp, body := fetch(t, request(t, "GET", base+"/v1/deliveries", "Authorization", "Bearer "+keys["erp"])); resp.StatusCode != http.StatusOK {
		t.Error("the key is locked out:", body)
	}
}

// TestPagesFromElsewhere: a page in a browser reaches nothing, neither across
// origins nor with a name that was pointed to loopback.
func TestPagesFromElsewhere(t *testing.T) {
	t.Parallel()
	base, keys := served(t, nil)
	token := "Bearer " + keys["op"]
	for _, c := range []struct {
		host    string
		method  string
		headers []string
		status  int
	}{
		{"", "POST", []string{"Origin", "https://evil.example"}, 403},
		{"", "POST", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"", "POST", []string{"Origin", "null"}, 403},
		{"", "POST", nil, 200},
		{"", "POST", []string{"Sec-Fetch-Site", "same-origin"}, 200},
		{"evil.example", "GET", nil, 421},
		{"evil.example:8025", "GET", nil, 421},
		{"127.0.0.1.evil.example", "GET", nil, 421},
		{"localhost.evil.example", "GET", nil, 421},
		{"localhost:8025", "GET", nil, 200},
		{"[::1]:8025", "GET", nil, 200},
		{"192.0.2.1", "GET", nil, 200},
		{"MAILOUT.example.com.", "GET", nil, 200},
	} {
		r := request(t, c.method, base+"/v1/doctor", append([]string{"Authorization", token}, c.headers...)...)
		if c.host != "" {
			r.Host = c.host
		}
		if resp, body := fetch(t, r); resp.StatusCode != c.status {
			t.Errorf("%+v: %d %s", c, resp.StatusCode, body)
		}
	}
	// Not only for those who have a token.
	r := request(t, "GET", base+"/healthz")
	r.Host = "evil.example"
	if resp, body := fetch(t, r); resp.StatusCode != http.StatusMisdirectedRequest {
		t.Error(resp.StatusCode, body)
	}
	// Of other addresses than loopback nobody knows all names.
	away := httptest.NewRequest("GET", "http://whatever.example/", nil)
	tcp := TCP{}
	for addr, want := range map[string]bool{"192.0.2.1:80": true, "127.0.0.1:80": false, "[::1]:80": false, "[::ffff:127.0.0.1]:80": false} {
		local := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
		r := away.WithContext(contextWithLocal(t, local))
		if (tcp.rebound(r) == nil) != want {
			t.Error(addr)
		}
	}
}

// TestTLS: with a certificate there is nothing but TLS.
func TestTLS(t *testing.T) {
	t.Parallel()
	example := httptest.NewUnstartedServer(nil)
	example.StartTLS()
	pair := example.TLS.Certificates[0]
	example.Close()
	base, keys := served(t, func(tcp *TCP) {
		tcp.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	})
	address := strings.TrimPrefix(base, "http://")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(request(t, "GET", "https://"+address+"/v1/queues", "Authorization", "Bearer "+keys["prom"]))
	if err != nil || resp.StatusCode != http.StatusOK || resp.TLS == nil {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	if resp, _ := fetch(t, request(t, "GET", base+"/v1/queues", "Authorization", "Bearer "+keys["prom"])); resp.StatusCode != http.StatusBadRequest {
		t.Error("clear text is answered", resp.StatusCode)
	}
	old, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
	if err == nil {
		old.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

// TestHeadersAreBounded: 64 KB, for whoever it is.
func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	base, keys := served(t, nil)
	conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v1/queues HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nX: %s\r\n\r\n", keys["prom"], strings.Repeat("x", maxHeader+8192))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
}

// TestBodiesAreBounded: also for a handler that reads without looking.
func TestBodiesAreBounded(t *testing.T) {
	t.Parallel()
	book, keys := staff(t)
	s := New(Options{
		TCP: TCP{Address: "127.0.0.1:0", Users: book, Body: 1000}, Socket: filepath.Join(t.TempDir(), "sock"), Queue: scheduler{},
		Logger: quiet(), Routes: []func(huma.API){func(api huma.API) {
			rest.Raw[none, none](api, rest.Operation(huma.Operation{OperationID: "swallow", Method: "POST", Path: "/swallow", Summary: "x"}, account.ScopeSend),
				func(w http.ResponseWriter, r *http.Request) {
					n, err := io.Copy(io.Discard, r.Body)
					if err != nil {
						writeProblem(w, problemOf(err))
						return
					}
					fmt.Fprint(w, n)
				})
		}},
	})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() { http.DefaultClient.CloseIdleConnections(); s.Stop(t.Context()) }()
	for size, status := range map[int]int{0: 200, 1000: 200, 1001: 413, 10_000_000: 413} {
		r, _ := http.NewRequestWithContext(t.Context(), "POST", "http://"+s.Addr().String()+"/swallow", strings.NewReader(strings.Repeat("x", size)))
		r.Header.Set("Authorization", "Bearer "+keys["erp"])
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			if size > 1_000_000 {
				continue // the server hung up before all was sent
			}
			t.Fatal(size, err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Error(size, resp.StatusCode)
		}
	}
}
