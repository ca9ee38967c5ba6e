package tlsrpt

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func posting(t *testing.T, w *world, to string) attempt {
	t.Helper()
	life, end := context.WithCancel(t.Context())
	defer end()
	c := w.reports().newClient(life, &w.settings)
	return c.post(t.Context(), &made{packed: []byte("report")}, to, "mailout", time.Now())
}

// TestPostGoesWhereMailMay: a record does not make us speak to the machines
// beside us, by name, by number or by a redirect.
func TestPostGoesWhereMailMay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		inside := &webSink{}
		cases := map[string]netip.Addr{
			"lo.example": netip.MustParseAddr("127.0.0.1"), "mapped.example": netip.MustParseAddr("::ffff:10.0.0.9"), "private.example": netip.MustParseAddr("10.0.0.1"),
			"local.example": netip.MustParseAddr("fe80::1"), "cloud.example": netip.MustParseAddr("169.254.169.254"), "six.example": netip.MustParseAddr("fd00::1"), "all.example": netip.MustParseAddr("0.0.0.0"),
			"nat64.example": netip.MustParseAddr("64:ff9b::a00:1"), "6to4.example": netip.MustParseAddr("2002:7f00:1::1"),
		}
		for name, addr := range cases {
			w.serve(name, addr, inside)
			w.serve(name, addr.Unmap(), inside)
			w.resolver.addrs[name] = []netip.Addr{addr}
			if a := posting(t, w, "https://"+name+"/"); a.err == nil || !strings.Contains(a.err.Error(), addr.String()) {
				t.Errorf("%s: %v", name, a.err)
			}
		}
		for _, literal := range []string{"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "10.0.0.1", "[fe80::1%25eth0]", "[64:ff9b::7f00:1]"} {
			if a := posting(t, w, "https://"+literal+"/"); a.err == nil {
				t.Errorf("%s was posted to", literal)
			}
		}
		w.web.will("307 Over there\r\nLocation: https://lo.example/")
		if a := posting(t, w, "https://r.example.com/"); a.err == nil {
			t.Error("a redirect inside was followed")
		}
		if len(inside.got()) != 0 {
			t.Error("something inside was spoken to")
		}
		w.settings.PrivateNetworks = true
		if a := posting(t, w, "https://private.example/"); a.err != nil || len(inside.got()) != 1 {
			t.Errorf("with private_networks: %v", a.err)
		}
	})
}

func TestPostVerifies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.resolver.addrs["other.example"] = []netip.Addr{webAddr} // shows a certificate for another name
		if a := posting(t, w, "https://other.example/"); a.err == nil || a.final {
			t.Errorf("another's certificate: %+v", a)
		}
		w.settings.Roots = nil
		if a := posting(t, w, "https://r.example.com/"); a.err == nil {
			t.Error("an unknown authority was trusted")
		}
		if len(w.web.got()) != 0 {
			t.Error("a report went to somebody else")
		}
	})
}

func TestPostRedirects(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		answers []string
		posts   int
		ok      bool
	}{
		"the same request elsewhere": {[]string{"307 There\r\nLocation: /there", "308 There\r\nLocation: https://r.example.com/x"}, 3, true},
		"a page":                     {[]string{"303 See\r\nLocation: /thanks"}, 1, false},
		"no TLS":                     {[]string{"307 There\r\nLocation: http://r.example.com/"}, 1, false},
		"in a circle":                {[]string{"307 A\r\nLocation: /a", "307 B\r\nLocation: /b", "307 A\r\nLocation: /a", "307 B\r\nLocation: /b", "307 A\r\nLocation: /a"}, 4, false},
		"201":                        {[]string{"201 Created"}, 1, true},
		"204":                        {[]string{"204 Nothing to say"}, 1, true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.web.will(c.answers...)
				a := posting(t, w, "https://r.example.com/start")
				if (a.err == nil) != c.ok || len(w.web.got()) != c.posts {
					t.Errorf("%d posts: %v", len(w.web.got()), a.err)
				}
				for _, p := range w.web.got() {
					if string(p.body) != "report" || !strings.HasPrefix(p.path, "POST ") {
						t.Errorf("posted %q to %s", p.body, p.path)
					}
				}
			})
		})
	}
}

// TestPostIsBounded: a receiver that says nothing, or hangs up, takes its time
// and no more.
func TestPostIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.web.silent = true
		begin := time.Now()
		if a := posting(t, w, "https://r.example.com/"); a.err == nil || time.Since(begin) > postTime {
			t.Errorf("after %s: %v", time.Since(begin), a.err)
		}
		w.web.silent, w.web.broken = false, true
		if a := posting(t, w, "https://r.example.com/"); a.err == nil || a.final {
			t.Errorf("hung up: %+v", a)
		}
		var many []netip.Addr
		for i := range 100 {
			a := netip.AddrFrom4([4]byte{203, 0, 113, byte(100 + i)})
			many = append(many, a)
			w.net.Silence(netip.AddrPortFrom(a, 443), true)
		}
		w.resolver.addrs["many.example"] = many
		begin = time.Now()
		if a := posting(t, w, "https://many.example/"); a.err == nil || time.Since(begin) > postTime {
			t.Errorf("after %s: %v", time.Since(begin), a.err)
		}
		w.net.Close()
	})
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "120": 2 * time.Minute, "-5": 0, "soon": 0, "99999999999999999999": 0, "9999999": GiveUp, now.Add(time.Hour).Format(http.TimeFormat): time.Hour, now.Add(-time.Hour).Format(http.TimeFormat): 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q means %s, want %s", value, got, want)
		}
	}
}

// TestPostOverTheWire posts to a server of the standard library, by HTTP/2.
func TestPostOverTheWire(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body := make([]byte, 100)
		n, _ := r.Body.Read(body)
		got <- r.Proto + " " + r.Method + " " + r.Header.Get("Content-Type") + " " + string(body[:n])
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	w := newWorld(t)
	w.settings.PrivateNetworks = true
	pool := server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	w.settings.Roots = pool
	r := w.reports()
	r.opts.Dial = nil
	c := r.newClient(t.Context(), &w.settings)
	if a := c.post(context.Background(), &made{packed: []byte("report")}, server.URL, "mailout", time.Now()); a.err != nil {
		t.Fatal(a.err)
	}
	if text := <-got; text != "HTTP/2.0 POST application/tlsrpt+gzip report" {
		t.Errorf("the server got %q", text)
	}
}
