package unsubscribe

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

// served starts a server for a desk, and gives its base URL.
func served(t *testing.T, d *Desk, change ...func(*ServerOptions)) (*Server, string) {
	t.Helper()
	o := ServerOptions{Address: "127.0.0.1:0"}
	for _, c := range change {
		c(&o)
	}
	s := NewServer(d, o)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(t.Context()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	return s, "http://" + s.Addr().String()
}

// client follows no redirects, keeps no connections, and is the only one of its
// test.
func client(t *testing.T) *http.Client {
	c := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, Transport: &http.Transport{DisableKeepAlives: true}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func do(t *testing.T, method, url, kind, body string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	resp, err := client(t).Do(r)
	if err != nil {
		t.Fatal(method, url, err)
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(page)
}

const (
	form    = "application/x-www-form-urlencoded"
	clicked = "List-Unsubscribe=One-Click"
)

func multi(t *testing.T, name, value string) (kind, body string) {
	t.Helper()
	var b bytes.Buffer
	w := multipart.NewWriter(&b)
	if err := errors.Join(w.WriteField(name, value), w.Close()); err != nil {
		t.Fatal(err)
	}
	return w.FormDataContentType(), b.String()
}

// TestOneClick: POST says it, in either kind of form and as often as one likes;
// GET asks, and changes nothing.
func TestOneClick(t *testing.T) {
	t.Parallel()
	d, b := newDesk(t)
	_, at := served(t, d)
	token := func(stream, address string) string {
		return (*d.keys.Load()).token(t, leave{stream, address, letter.ID})
	}
	ann := at + "/u/" + token("news", "ann@example.com")
	for range 3 {
		resp, page := do(t, "GET", ann, "", "")
		if resp.StatusCode != 200 || !strings.Contains(page, `<form method="post">`) || !strings.Contains(page, `name="List-Unsubscribe" value="One-Click"`) || strings.Contains(page, "ann") || strings.Contains(page, "news") {
			t.Error(resp.Status, page)
		}
	}
	if len(b.listed) != 0 {
		t.Fatal("fetching a link unsubscribes:", b.listed)
	}
	for i := range 2 {
		resp, page := do(t, "POST", ann, form, clicked)
		if resp.StatusCode != 200 || !strings.Contains(page, "Unsubscribed") || fmt.Sprint(b.listed) != fmt.Sprint(map[string]mta.ID{"ann@example.com/news": letter.ID}) {
			t.Error(i, resp.Status, b.listed)
		}
		for _, h := range []string{"Set-Cookie", "Location", "Access-Control-Allow-Origin"} {
			if resp.Header.Get(h) != "" {
				t.Error(h, resp.Header)
			}
		}
		if h := resp.Header; h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Error(h)
		}
	}
	kind, body := multi(t, "List-Unsubscribe", "One-Click")
	for url, c := range map[string][2]string{
		"/u/" + token("news", "b@example.com"): {kind, body}, "/" + token("news", "c@example.com"): {"", clicked},
		"/an/older/path/" + token("loop", "d@example.com") + "?utm_source=x": {form + "; charset=utf-8", "x=1&List-Unsubscribe=one-click&y=2"},
	} {
		if resp, page := do(t, "POST", at+url, c[0], c[1]); resp.StatusCode != 200 {
			t.Error(url, resp.Status, page)
		}
	}
	if len(b.listed) != 4 || b.listed["d@example.com/loop"].IsZero() {
		t.Error(b.listed)
	}
	if n := d.Counts(); n.Left != 4 || n.Again != 1 || n.Shown != 3 || n.Unknown+n.Malformed+n.Limited+n.Trouble != 0 {
		t.Errorf("%+v", n)
	}
}

// TestNotOneClick: nothing else unsubscribes, and what is wrong is said with a
// status and the same few words.
func TestNotOneClick(t *testing.T) {
	t.Parallel()
	d, b := newDesk(t)
	other, _ := newDesk(t)
	_, at := served(t, d)
	l := leave{"news", "ann@example.com", letter.ID}
	token := (*d.keys.Load()).token(t, l)
	kind, body := multi(t, "List-Unsubscribe", "Two-Click")
	for _, c := range []struct {
		method, path, kind, body string
		status                   int
	}{
		{"HEAD", "/u/" + token, "", "", 405}, {"PUT", "/u/" + token, form, clicked, 405}, {"DELETE", "/u/" + token, "", "", 405}, {"OPTIONS", "/u/" + token, "", "", 405}, {"PROPFIND", "/", "", "", 405},
		{"POST", "/u/" + token, form, "", 400}, {"POST", "/u/" + token, form, "List-Unsubscribe=", 400}, {"POST", "/u/" + token, form, "One-Click", 400},
		{"POST", "/u/" + token + "?" + clicked, form, "", 400}, {"GET", "/u/" + token + "?" + clicked, "", "", 200},
		{"POST", "/u/" + token, kind, body, 400}, {"POST", "/u/" + token, "multipart/form-data", clicked, 400}, {"POST", "/u/" + token, "multipart/form-data; boundary=x", "--x", 400},
		{"POST", "/u/" + token, "application/json", `{"List-Unsubscribe":"One-Click"}`, 415}, {"POST", "/u/" + token, "a/b; c", clicked, 415},
		{"POST", "/u/" + token, form, "x=" + strings.Repeat("x", maxBody) + "&" + clicked, 413},
		{"POST", "/u/" + token + "x", form, clicked, 404}, {"POST", "/u/" + token[:len(token)-1], form, clicked, 404}, {"POST", "/u/" + token + "/", form, clicked, 404},
		{"POST", "/u/" + (*other.keys.Load()).token(t, l), form, clicked, 404}, {"GET", "/u/" + token[1:], "", "", 404}, {"GET", "/", "", "", 404}, {"GET", "/v1/queues", "", "", 404}, {"GET", "/healthz", "", "", 404},
		{"GET", "//evil.example/..", "", "", 404}, {"POST", "/../u/x", form, clicked, 404},
	} {
		resp, page := do(t, c.method, at+c.path, c.kind, c.body)
		if resp.StatusCode != c.status || strings.Contains(page, "example.com") {
			t.Errorf("%s %s (%s, %.40q): %s", c.method, c.path, c.kind, c.body, resp.Status)
		}
		if c.status == 405 && resp.Header.Get("Allow") != "GET, POST" {
			t.Error(resp.Header)
		}
		if c.status == 404 && page != pageUnknown {
			t.Errorf("%s tells more than others: %s", c.path, page)
		}
	}
	if len(b.listed) != 0 {
		t.Error("unsubscribed:", b.listed)
	}
	b.broken["list"] = errors.New("no space left on device")
	if resp, _ := do(t, "POST", at+"/"+token, form, clicked); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Error("what was not stored is answered with", resp.Status)
	}
}

// TestGuesses: who tries many links that are none is put off; who has one is not,
// from the same address.
func TestGuesses(t *testing.T) {
	t.Parallel()
	d, b := newDesk(t)
	s := NewServer(d, ServerOptions{Now: func() time.Time { return noon }})
	ask := func(peer, method, path string) int {
		r := httptest.NewRequest(method, "http://news.widget.example"+path, strings.NewReader(clicked))
		r.RemoteAddr = peer
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code == 429 && w.Header().Get("Retry-After") == "" {
			t.Error("no time to come again")
		}
		return w.Code
	}
	for i := range guessBurst + 5 {
		if got := ask(fmt.Sprintf("[2001:db8::%x]:1", i), "POST", "/u/AQAA"); got != 404 && i < guessBurst || got != 429 && i >= guessBurst {
			t.Error(i, got)
		}
	}
	if got := ask("[2001:db8:0:1::1]:1", "GET", "/u/AQAA"); got != 404 {
		t.Error("another network:", got)
	}
	if got := ask("[2001:db8::1]:1", "POST", "/u/"+(*d.keys.Load()).token(t, leave{"news", "ann@example.com", letter.ID})); got != 200 || len(b.listed) != 1 {
		t.Error("a good link:", got)
	}
	if n := d.Counts(); n.Limited != 5 || n.Unknown != guessBurst+1 {
		t.Errorf("%+v", n)
	}
}

// TestGuessesAreForgotten: with time, and the memory of peers is bounded.
func TestGuessesAreForgotten(t *testing.T) {
	t.Parallel()
	now := noon
	g := newGuesses(func() time.Time { return now })
	peer := netip.MustParsePrefix("192.0.2.1/32")
	spend := func() (n int) {
		for g.allow(peer) {
			n++
		}
		return n
	}
	if n := spend(); n != guessBurst {
		t.Error(n)
	}
	now = now.Add(3 * guessEvery)
	if n := spend(); n != 3 {
		t.Error(n)
	}
	now = now.Add(generation) // into the older generation, and paid for
	if n := spend(); n != guessBurst {
		t.Error(n)
	}
	now = now.Add(generation - 1)
	g.allow(netip.MustParsePrefix("192.0.2.2/32"))
	if now = now.Add(1); g.allow(peer) != true {
		t.Error("one that has waited")
	}
	for i := range 5 * maxPeers {
		g.allow(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32))
		if n := len(g.mu.young) + len(g.mu.old); n > 2*maxPeers {
			t.Fatal(n, "peers are remembered")
		}
	}
}

// TestStoringIsBounded: more at once than the bound are asked to come again.
func TestStoringIsBounded(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)
	s := NewServer(d, ServerOptions{})
	for range maxStoring {
		s.storing <- struct{}{}
	}
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "http://x.example/"+(*d.keys.Load()).token(t, leave{"news", "ann@example.com", letter.ID}), strings.NewReader(clicked))
	r.Header.Set("Content-Type", form)
	s.ServeHTTP(w, r)
	if w.Code != 503 || d.Counts().Limited != 1 {
		t.Error(w.Code)
	}
}

// TestTLS: with a certificate there is nothing but TLS, 1.2 or newer.
func TestTLS(t *testing.T) {
	t.Parallel()
	example := httptest.NewUnstartedServer(nil)
	example.StartTLS()
	pair := example.TLS.Certificates[0]
	example.Close()
	d, _ := newDesk(t)
	s, at := served(t, d, func(o *ServerOptions) {
		o.Certificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }
	})
	c := client(t)
	c.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true}
	resp, err := c.Get("https://" + s.Addr().String() + "/u/x")
	if err != nil || resp.StatusCode != 404 || resp.ProtoMajor != 1 {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
	if resp, _ := do(t, "GET", at+"/u/x", "", ""); resp.StatusCode != 400 {
		t.Error("clear text is answered with", resp.Status)
	}
	if old, err := tls.Dial("tcp", s.Addr().String(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		old.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

// TestHeadersAreBounded: 16 KB.
func TestHeadersAreBounded(t *testing.T) {
	t.Parallel()
	d, _ := newDesk(t)
	_, at := served(t, d)
	r, err := http.NewRequestWithContext(t.Context(), "GET", at+"/u/x", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X", strings.Repeat("x", maxHeader+8192))
	resp, err := client(t).Do(r)
	if err != nil || resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatal(resp, err)
	}
	resp.Body.Close()
}

// peers is a listener whose connections come from where they are told.
type peers struct {
	next   chan string
	hung   chan string // who was hung up on
	closed chan struct{}
}

type visitor struct {
	net.Conn
	from string
	hung chan string
}

func (v *visitor) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(v.from))
}

func (v *visitor) Close() error { v.hung <- v.from; return nil }

func (p *peers) Accept() (net.Conn, error) {
	select {
	case from := <-p.next:
		return &visitor{from: from, hung: p.hung}, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *peers) Close() error   { close(p.closed); return nil }
func (p *peers) Addr() net.Addr { return &net.TCPAddr{} }

// TestCrowd: a peer has a quarter of the places, a proxy on loopback all, nobody
// more than there are.
func TestCrowd(t *testing.T) {
	t.Parallel()
	p := &peers{next: make(chan string, 20), hung: make(chan string, 20), closed: make(chan struct{})}
	c := newCrowd(p, 8)
	accept := func() net.Conn {
		t.Helper()
		conn, err := c.Accept()
		if err != nil {
			t.Fatal(err)
		}
		return conn
	}
	for _, from := range []string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.1:3", "[2001:db8::1]:1"} {
		p.next <- from
	}
	first := accept()
	accept()
	if from := accept().RemoteAddr().String(); from != "[2001:db8::1]:1" || <-p.hung != "192.0.2.1:3" {
		t.Error(from)
	}
	first.Close()
	first.Close() // gives its place up once
	p.next <- "192.0.2.1:4"
	if from := accept().RemoteAddr().String(); from != "192.0.2.1:4" {
		t.Error(from)
	}
	for range 5 {
		p.next <- "127.0.0.1:1"
		accept()
	}
	if len(c.places) != 8 {
		t.Fatal(len(c.places))
	}
	ended := make(chan error)
	go func() {
		_, err := c.Accept()
		ended <- err
	}()
	p.next <- "192.0.2.9:1" // has to wait
	c.Close()
	c.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}
