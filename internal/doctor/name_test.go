package doctor

import (
	"errors"
	"net/netip"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
	"mailout/internal/mta"
)

func TestCheck_name_form(t *testing.T) {
	judge := func(t *testing.T, name string, want Status, texts ...string) {
		t.Helper()
		id := Identity{Hostname: name}
		find(t, Examine(t.Context(), id, newWorld(t).world(), Options{Only: []string{"name.form"}, Offline: true}), "name.form", name).mustBe(t, want, texts...)
	}
	t.Run("pass", func(t *testing.T) {
		for _, name := range []string{"mailout.ofc.widget.com", "a.b", "deadbeef.example.com", "facebookfeed.example.com"} {
			judge(t, name, Pass)
		}
	})
	t.Run("warn", func(t *testing.T) {
		judge(t, "3f2b9c1d7e6a.widget.com", Warn, "container", "config set hostname")
	})
	t.Run("fail", func(t *testing.T) {
		for name, text := range map[string]string{
			"localhost": "every machine", "mail": "no domain", "3f2b9c1d7e6a": "no domain", "mail_out.widget.com": "underscore",
			"192.0.2.10": "is an address", "mailout.local": "inner network", "host.home.arpa": "inner network", "ip-10-0-0-5.ec2.internal": "inner network",
			"-a.widget.com": "hyphen",
		} {
			judge(t, name, Fail, text, "publish its address record")
		}
	})
	t.Run("every source", func(t *testing.T) {
		id := goodIdentity()
		id.Sources = append(id.Sources, mta.Source{IP: netip.MustParseAddr("192.0.2.11"), Hostname: "localhost"}, mta.Source{IP: netip.MustParseAddr("192.0.2.12")})
		r := examineFor(t, newWorld(t), id, "name.form")
		find(t, r, "name.form", "mailout.ofc.widget.com").mustBe(t, Pass)
		find(t, r, "name.form", "localhost").mustBe(t, Fail)
		if len(r.Checks) != 2 {
			t.Errorf("%+v", r.Checks)
		}
	})
}

func TestCheck_name_cname(t *testing.T) {
	const name = "mailout.ofc.widget.com"
	t.Run("pass", func(t *testing.T) {
		find(t, examineFor(t, newWorld(t), goodIdentity(), "name"), "name.cname", name).mustBe(t, Pass)
	})
	t.Run("fail", func(t *testing.T) {
		w := newWorld(t)
		w.withdraw(name, wire.TypeA)
		w.publish(name+". 300 CNAME real.widget.com.", "real.widget.com. 300 A 192.0.2.10")
		find(t, examineFor(t, w, goodIdentity(), "name"), "name.cname", name).mustBe(t, Fail,
			"alias of real.widget.com", name+". IN A 192.0.2.10")
	})
	t.Run("skip", func(t *testing.T) {
		id := goodIdentity()
		id.Hostname, id.Sources = "localhost", nil
		find(t, examineFor(t, newWorld(t), id, "name"), "name.cname", "localhost").mustBe(t, Skip)
		id = goodIdentity()
		id.Router = Router{Host: "smtp.provider.example", Use: "always"}
		if c := find(t, examineFor(t, newWorld(t), id, "name"), "name.cname", name); c.Status != Skip {
			t.Errorf("with a router: %+v", c)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		w := newWorld(t)
		w.ask = func(dns.Probe) (*wire.Msg, error) { return nil, errors.New("i/o timeout") }
		find(t, examineFor(t, w, goodIdentity(), "name"), "name.cname", name).mustBe(t, Unknown, "i/o timeout")
	})
}
