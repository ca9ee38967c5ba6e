package doctor

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/mta"
	"mailout/internal/mtatest"
)

// natted is a world behind NAT: 10.0.0.5 inside, seen as 203.0.113.5.
func natted(t *testing.T) (*fakeWorld, *street, Identity) {
	w := newWorld(t)
	w.local = []netip.Addr{netip.MustParseAddr("10.0.0.5")}
	id := goodIdentity()
	id.Sources, id.PublicIP = nil, nil
	s := newStreet(t, w)
	id.Probes = s.two("203.0.113.5")
	return w, s, id
}

func TestCheck_address_public(t *testing.T) {
	public := func(t *testing.T, w *fakeWorld, id Identity, subject string) Check {
		t.Helper()
		return find(t, examineFor(t, w, id, "address.public"), "address.public", subject)
	}
	t.Run("pass", func(t *testing.T) {
		public(t, newWorld(t), goodIdentity(), "192.0.2.10").mustBe(t, Pass, "192.0.2.10 (configured, the interface)")
	})
	t.Run("pass behind NAT", func(t *testing.T) {
		w, _, id := natted(t)
		public(t, w, id, "203.0.113.5").mustBe(t, Pass, "203.0.113.5 (198.51.100.25 said, 198.51.100.26 said)", "behind NAT, the interface has 10.0.0.5")
	})
	t.Run("fail when configured otherwise", func(t *testing.T) {
		w, _, id := natted(t)
		id.PublicIP = []netip.Addr{netip.MustParseAddr("203.0.113.9")}
		public(t, w, id, "203.0.113.5").mustBe(t, Fail, "otherwise: configured 203.0.113.9", "config set identity.public_ip 203.0.113.5")
	})
	t.Run("fail when the source is not here", func(t *testing.T) {
		id := goodIdentity()
		id.Sources = []mta.Source{{IP: netip.MustParseAddr("192.0.2.77")}}
		public(t, newWorld(t), id, "192.0.2.10").mustBe(t, Fail, "no interface with 192.0.2.77")
	})
	t.Run("warn when witnesses differ", func(t *testing.T) {
		w, s, id := natted(t)
		s.open("198.51.100.27:25", "220 mx ESMTP\r\n", usual, "203.0.113.6")
		id.Probes = append(id.Probes, "198.51.100.27")
		public(t, w, id, "203.0.113.5").mustBe(t, Warn, "otherwise: 198.51.100.27 said 203.0.113.6", "one fixed outgoing address")
	})
	t.Run("pass with a mail server that sees its own balancer", func(t *testing.T) {
		w, s, id := natted(t)
		s.open("198.51.100.24:25", "220 mx ESMTP\r\n", usual, "10.9.9.9")
		id.Probes = append([]string{"198.51.100.24"}, id.Probes[:1]...)
		public(t, w, id, "203.0.113.5").mustBe(t, Pass, "198.51.100.24 could not tell", "10.9.9.9")
	})
	t.Run("pass with a mail server of the inner network", func(t *testing.T) {
		w, s, id := natted(t)
		s.open("10.0.0.25:25", "220 mx ESMTP\r\n", usual, "10.0.0.5")
		id.Probes = append([]string{"10.0.0.25"}, id.Probes[:1]...)
		public(t, w, id, "203.0.113.5").mustBe(t, Pass, "otherwise: 10.0.0.25 said 10.0.0.5")
	})
	t.Run("warn without anybody outside", func(t *testing.T) {
		id := goodIdentity()
		id.PublicIP = nil
		public(t, newWorld(t), id, "192.0.2.10").mustBe(t, Warn, "nobody else confirmed it", "identity.reflectors")
	})
	t.Run("warn at a private address", func(t *testing.T) {
		w, _, id := natted(t)
		id.Probes, id.PublicIP = nil, w.local
		public(t, w, id, "10.0.0.5").mustBe(t, Warn, "that is a private address")
	})
	t.Run("warn at a provider's shared network", func(t *testing.T) {
		w, _, id := natted(t)
		w.local = []netip.Addr{netip.MustParseAddr("100.64.3.4")}
		public(t, w, id, "203.0.113.5").mustBe(t, Warn, "carrier-grade NAT", "an address of your own")
	})
	t.Run("unknown", func(t *testing.T) {
		w, _, id := natted(t)
		id.Probes = nil
		public(t, w, id, "10.0.0.5").mustBe(t, Unknown, "nobody could tell", "identity.public_ip")
		w.local = nil
		public(t, w, id, "IPv4").mustBe(t, Unknown, "no way out")
	})
	t.Run("skip", func(t *testing.T) {
		id := goodIdentity()
		id.Router = Router{Host: "smtp.provider.example", Use: "always"}
		if c := public(t, newWorld(t), id, ""); c.Status != Skip {
			t.Errorf("%+v", c)
		}
	})
}

func TestVisibleAddressIsLearntFromDeliveries(t *testing.T) {
	w, _, id := natted(t)
	id.Probes = nil
	seen := func(visible, from string, age time.Duration) Learned {
		return Learned{Source: w.local[0], Visible: netip.MustParseAddr(visible), From: from, Time: w.now.Add(-age)}
	}
	w.learned = []Learned{
		seen("203.0.113.1", "old.example", 2*time.Hour), seen("203.0.113.5", "mx.example.net", 12*time.Minute),
		seen("203.0.113.5", "mx.example.org", 3*time.Minute), seen("203.0.113.4", "mx.example.org", 30*time.Minute),
		{Source: netip.MustParseAddr("10.0.0.6"), Visible: netip.MustParseAddr("203.0.113.6"), From: "b.example", Time: w.now},
	}
	find(t, examineFor(t, w, id, "address.public"), "address.public", "203.0.113.5").mustBe(t, Pass,
		"203.0.113.5 (mx.example.org said 3 min ago in a delivery, mx.example.net said 12 min ago in a delivery); behind NAT")
}

// TestOneReceiverProvesNothing: whoever gets mail from us can say anything of our
// address. One alone neither outweighs the configuration nor passes unnoticed.
func TestOneReceiverProvesNothing(t *testing.T) {
	w, _, id := natted(t)
	id.Probes = nil
	w.learned = []Learned{{Source: w.local[0], Visible: netip.MustParseAddr("203.0.113.66"), From: "mx.liar.example", Time: w.now}}
	find(t, examineFor(t, w, id, "address.public"), "address.public", "203.0.113.66").mustBe(t, Warn, "nobody else confirmed it")
	id.PublicIP = []netip.Addr{netip.MustParseAddr("203.0.113.5")}
	find(t, examineFor(t, w, id, "address.public"), "address.public", "203.0.113.5").mustBe(t, Warn, "otherwise: mx.liar.example said", "203.0.113.66")
}

// TestTwoSourcesBehindOneNAT: each has a check of its own.
func TestTwoSourcesBehindOneNAT(t *testing.T) {
	w, _, id := natted(t)
	w.local = append(w.local, netip.MustParseAddr("10.0.0.6"))
	id.Sources = []mta.Source{{IP: w.local[0]}, {IP: w.local[1]}}
	r := examineFor(t, w, id, "address.public")
	find(t, r, "address.public", "203.0.113.5 from 10.0.0.5").mustBe(t, Pass)
	find(t, r, "address.public", "203.0.113.5 from 10.0.0.6").mustBe(t, Pass)

	only := Examine(t.Context(), id, w.world(), Options{Only: []string{"address.public"}, Sources: w.local[1:]})
	find(t, only, "address.public", "").mustBe(t, Pass, "10.0.0.6")
}

// TestOneWitnessOneVote: who is asked in two ways is still one, and cannot
// outvote another nor confirm itself.
func TestOneWitnessOneVote(t *testing.T) {
	w, s, id := natted(t)
	s.open("198.51.100.27:25", "220 mx ESMTP\r\n", usual, "203.0.113.6")
	id.Probes = []string{id.Probes[0], "198.51.100.27"}
	id.Reflectors = []string{"smtp:198.51.100.27", "smtp:198.51.100.27:25"}
	find(t, examineFor(t, w, id, "address.public"), "address.public", "203.0.113.5").mustBe(t, Warn, "198.51.100.27 said 203.0.113.6")

	id.Probes = []string{"198.51.100.27"}
	r := Examine(t.Context(), id, w.world(), Options{Only: []string{"address"}})
	if got := agreed(r.stances); len(got) != 1 || !strings.Contains(got[0].Why, "only one says") {
		t.Errorf("%+v", got)
	}
}

func TestConfiguredAddressesBelongToSources(t *testing.T) {
	t.Parallel()
	a := netip.MustParseAddr
	faces := []face{{Local: a("10.0.0.5")}, {Local: a("10.0.0.6")}, {Local: a("2001:db8::5"), V6: true}}
	for _, c := range []struct{ given, want string }{
		{"203.0.113.5", "203.0.113.5 203.0.113.5 -"},
		{"203.0.113.5 203.0.113.6", "203.0.113.5 203.0.113.6 -"},
		{"203.0.113.5 2001:db8::1 203.0.113.6", "203.0.113.5 203.0.113.6 2001:db8::1"},
		{"203.0.113.5 203.0.113.6 203.0.113.7", "- - -"},
		{"203.0.113.5 10.0.0.6 203.0.113.7", "- 10.0.0.6 -"},
		{"", "- - -"},
	} {
		x := &exam{}
		for _, s := range strings.Fields(c.given) {
			x.id.PublicIP = append(x.id.PublicIP, a(s))
		}
		var got []string
		for _, f := range faces {
			if v := x.configuredWay(f, faces).Visible; v.IsValid() {
				got = append(got, v.String())
			} else {
				got = append(got, "-")
			}
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %s, want %s", c.given, got, c.want)
		}
	}
}

func TestReflectors(t *testing.T) {
	w, s, id := natted(t)
	id.Probes = nil
	zone := mtatest.NewDNS()
	if err := zone.Add("myip.example. 60 IN A 203.0.113.5\nwho.example. 60 IN TXT \"you are 203.0.113.5\"\nwho6.example. 60 IN AAAA 2001:db8::5\nmute.example. 60 IN TXT \"hello\""); err != nil {
		t.Fatal(err)
	}
	s.net.Handle(netip.MustParseAddrPort("198.51.100.1:53"), zone.ServeConn)
	s.net.Handle(netip.MustParseAddrPort("198.51.100.80:80"), page("203.0.113.5\n", 200))
	s.net.Handle(netip.MustParseAddrPort("198.51.100.81:8080"), page("<html>Current IP Address: 203.0.113.5</html>", 200))
	s.net.Handle(netip.MustParseAddrPort("198.51.100.82:80"), page("203.0.113.9", 503))
	s.open("198.51.100.29:2525", "220 x ESMTP\r\n", usual, "203.0.113.5")
	w.publish("ip.example.com. 60 A 198.51.100.80", "ns.reflect.example. 60 A 198.51.100.1")
	for text, want := range map[string]string{
		"dns:myip.example/A@ns.reflect.example": "",
		"dns:myip.example/a@198.51.100.1:53":    "",
		"dns:who.example/TXT@198.51.100.1":      "",
		"dns:who6.example/AAAA@198.51.100.1":    "other family",
		"dns:mute.example/TXT@198.51.100.1":     "does not say",
		"dns:none.example/A@198.51.100.1":       "does not say",
		"dns:myip.example/A@none.widget.com":    "NXDOMAIN",
		"dns:myip.example/MX@198.51.100.1":      "is no reflector",
		"dns:myip.example@198.51.100.1":         "is no reflector",
		"http://ip.example.com/":                "",
		"http://198.51.100.81:8080/checkip":     "",
		"http://198.51.100.82/":                 "503",
		"http://198.51.100.83/":                 "refused",
		"https://ip.example.com/":               "refused",
		"smtp:198.51.100.29:2525":               "",
		"smtp:198.51.100.30":                    "refused",
		"ftp://ip.example.com/":                 "is no reflector",
	} {
		x := &exam{id: id, world: w.world()}
		got := x.reflectorWay(t.Context(), face{Hostname: id.Hostname, Local: w.local[0]}, text)
		switch {
		case want == "" && (got.Err != nil || got.Visible != netip.MustParseAddr("203.0.113.5")):
			t.Errorf("%s: %+v", text, got)
		case want != "" && (got.Err == nil || !strings.Contains(got.Err.Error(), want)):
			t.Errorf("%s: %+v, want an error with %q", text, got, want)
		}
	}
	id.Reflectors = []string{"http://ip.example.com/"}
	find(t, examineFor(t, w, id, "address.public"), "address.public", "203.0.113.5").mustBe(t, Pass, "203.0.113.5 (http://ip.example.com/)")
}

// page is a web server that answers once.
func page(body string, status int) func(net.Conn) {
	return func(conn net.Conn) {
		buf := make([]byte, 4096)
		if _, err := conn.Read(buf); err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", status, http.StatusText(status), len(body), body)
	}
}

// TestSilentServersDoNotHoldAnExaminationUp: all wait at the same time, and not
// beyond the bound of one.
func TestSilentServersDoNotHoldAnExaminationUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, s, id := natted(t)
		id.Probes = []string{"198.51.100.1", "198.51.100.2", "198.51.100.3"}
		for _, p := range id.Probes {
			s.net.Silence(netip.MustParseAddrPort(p+":25"), true)
		}
		// One that accepts the connection and then says nothing.
		s.net.Handle(netip.MustParseAddrPort("198.51.100.4:25"), func(conn net.Conn) { _, _ = conn.Read(make([]byte, 1)) })
		id.Probes = append(id.Probes, "198.51.100.4")
		start := time.Now()
		r := examineFor(t, w, id, "address.public", "port25")
		if took := time.Since(start); took > greetTimeout {
			t.Errorf("took %v", took)
		}
		find(t, r, "address.public", "10.0.0.5").mustBe(t, Unknown)
		find(t, r, "port25", "10.0.0.5").mustBe(t, Pass, "198.51.100.1: no answer", "198.51.100.4: connected, then")
	})
}

func TestDecide(t *testing.T) {
	t.Parallel()
	a, b := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	bad := errors.New("x")
	for name, c := range map[string]struct {
		ways []way
		want netip.Addr
	}{
		"nobody":                              {nil, netip.Addr{}},
		"the outside beats the inside":        {[]way{{kind: wayReflector, Visible: a}, {kind: wayConfigured, Visible: b}, {kind: wayInterface, Visible: b}}, a},
		"most votes":                          {[]way{{kind: wayGreeting, Visible: a}, {kind: wayGreeting, Visible: b}, {kind: wayReflector, Visible: b}}, b},
		"mail servers first when it is equal": {[]way{{kind: wayGreeting, Visible: a}, {kind: wayReflector, Visible: b}}, a},
		"errors do not vote":                  {[]way{{kind: wayGreeting, Visible: a, Err: bad}, {kind: wayInterface, Visible: b}}, b},
		"now before lately":                   {[]way{{kind: wayReflector, Visible: a}, {kind: wayLearned, Visible: b}, {kind: wayLearned, Visible: b}}, a},
		"configured before interface":         {[]way{{kind: wayConfigured, Visible: a}, {kind: wayInterface, Visible: b}}, a},
	} {
		if got := decide(c.ways); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
