package config

import (
	"net/netip"
	"slices"
	"testing"
	"time"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	const listens = "[[listen]]\naddress = \"127.0.0.1:25\"\ntrusted = []\n[[listen]]\naddress = \"127.0.0.1:26\"\nbare_lf = \"repair\"\n"
	for _, c := range []struct {
		name, old, new   string
		applied, restart []string
	}{
		{"nothing", host, host + "# a comment\nspool = \"/var/lib/mailout\"\n", nil, nil},
		{"live", host, "hostname = \"new.example.com\"\n[delivery]\nexpire = \"6d\"\n[dns]\nservers = [\"192.0.2.1\"]\n[limits]\nrecipients = 500\n",
			[]string{"hostname", "dns.servers", "delivery.expire", "limits.recipients"}, nil},
		{"router", host, host + "[router]\nhost = \"h\"\n", []string{"router.host"}, nil},
		{"restart", host, host + "spool = \"/x\"\n[limits]\nmemory = \"2GB\"\nspool_free = \"1GB\"\n", nil, []string{"spool", "limits.memory", "limits.spool_free"}},
		{"socket", host, host + "[http]\nsocket = \"/x\"\n", nil, []string{"http.socket"}},
		{"routes", host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"h\"\n", host + "[[route]]\ndomains = [\"b.example\"]\nhost = \"h\"\nport = 26\n", []string{"route.1.domains", "route.1.port"}, nil},
		{"route more", host, host + "[[route]]\ndomains = [\"a.example\"]\nhost = \"h\"\n", []string{"route"}, nil},
		{"listeners in another order", host + listens, host + "[[listen]]\naddress = \"127.0.0.1:26\"\nbare_lf = \"repair\"\n[[listen]]\naddress = \"127.0.0.1:25\"\ntrusted = []\n", nil, nil},
		{"listener's own", host + listens, host + "[[listen]]\naddress = \"127.0.0.1:26\"\n[[listen]]\naddress = \"127.0.0.1:25\"\ntrusted = []\nrecipients = 200\n", []string{"listen.1.bare_lf", "listen.2.recipients"}, nil},
		{"listener moves", host + "[[listen]]\naddress = \"127.0.0.1:25\"\n", host + "[[listen]]\naddress = \"127.0.0.1:26\"\n", nil, []string{"listen"}},
		{"listener more", host, host + "[[listen]]\naddress = \"127.0.0.1:26\"\n", nil, []string{"listen"}},
		{"follower set alike", host, host + "[[listen]]\naddress = \"127.0.0.1:26\"\n[http]\nsocket = \"/var/lib/mailout/mailout.sock\"\n", nil, []string{"listen"}},
	} {
		applied, restart := Diff(parsed(t, c.old), parsed(t, c.new))
		if !slices.Equal(applied, c.applied) || !slices.Equal(restart, c.restart) {
			t.Errorf("%s: applied %q, restart %q", c.name, applied, restart)
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	old := parsed(t, host+"[[listen]]\naddress = \"127.0.0.1:25\"\n[[listen]]\naddress = \"127.0.0.1:26\"\n")
	new := parsed(t, host+"spool = \"/x\"\n[delivery]\nexpire = \"6d\"\n[limits]\nmemory = \"2GB\"\n[[listen]]\naddress = \"127.0.0.1:26\"\nrecipients = 300\n[[listen]]\naddress = \"127.0.0.1:27\"\n")
	m := Merge(old, new)
	if m.Spool != "/var/lib/mailout" || m.HTTP.Socket != "/var/lib/mailout/mailout.sock" || m.Limits.Memory != 1e9 {
		t.Error("a restart's value was taken over:", m.Spool, m.HTTP.Socket, m.Limits.Memory)
	}
	if m.Delivery.Expire != 144*time.Hour {
		t.Error("expire", m.Delivery.Expire)
	}
	if len(m.Listen) != 2 || m.Listen[0].Recipients != 1000 || m.Listen[1].Recipients != 300 || m.Listen[1].Address != netip.MustParseAddrPort("127.0.0.1:26") {
		t.Errorf("%+v", m.Listen)
	}
	back := "[returns]\ndomain = \"b.example.com\"\n[[listen]]\naddress = \"127.0.0.1:25\"\n"
	one, two := "[[listen]]\naddress = \"127.0.0.1:26\"\n", "returns = true\n"
	for _, swap := range []bool{false, true} {
		was, is := parsed(t, host+back+one+two), parsed(t, host+back+two+one)
		if swap {
			was, is = is, was
		}
		if m := Merge(was, is); m.Listen[0].Returns != was.Listen[0].Returns || m.Listen[1].Returns != was.Listen[1].Returns {
			t.Errorf("what listeners serve was taken over: %+v", m.Listen)
		}
	}
	if new.Spool != "/x" || old.Listen[1].Recipients != 1000 {
		t.Error("Merge changed its arguments")
	}
	applied, restart := Diff(m, new)
	if len(applied) != 0 || !slices.Equal(restart, []string{"spool", "limits.memory", "listen"}) && !slices.Equal(restart, []string{"spool", "listen", "limits.memory"}) {
		t.Error("after the reload:", applied, restart)
	}
}
