package doctor

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dns"
)

// listWorld is a world with one list of addresses and one of names, both in
// order, and an exam whose faces are known.
func listWorld(t *testing.T, lists []string, records ...string) (*fakeWorld, func(visible ...string) *Report) {
	t.Helper()
	w := newWorld(t, "2.0.0.127.bl.example. 60 A 127.0.0.2", "test.dbl.example. 60 A 127.0.1.2")
	w.publish(records...)
	return w, func(visible ...string) *Report {
		id := goodIdentity()
		id.BlockLists = lists
		x := &exam{id: id, world: w.world()}
		x.visible.get(struct{}{}, func() []face {
			var out []face
			for _, v := range visible {
				a, _ := netip.ParseAddr(v) // "": a face that nobody could tell
				out = append(out, face{Hostname: id.Hostname, Local: netip.MustParseAddr("10.0.0.1"), Visible: a, V6: a.Is6()})
			}
			return out
		})
		return &Report{Checks: x.conduct(t.Context(), listProbes()[0])}
	}
}

func TestCheck_blocklist(t *testing.T) {
	t.Parallel()
	both := []string{"bl.example", "domain:dbl.example"}
	t.Run("pass", func(t *testing.T) {
		t.Parallel()
		_, examine := listWorld(t, both)
		r := examine("192.0.2.10", "2001:db8::25")
		for _, subject := range []string{"192.0.2.10", "2001:db8::25", "mailout.ofc.widget.com", "widget.com"} {
			if c := find(t, r, "blocklist", subject); c.Status != Pass || c.Fix != nil {
				t.Errorf("%+v", c)
			}
		}
	})
	t.Run("fail", func(t *testing.T) {
		t.Parallel()
		v6 := "5.2.0.0." + strings.Repeat("0.", 20) + "8.b.d.0.1.0.0.2"
		_, examine := listWorld(t, both, "10.2.0.192.bl.example. 60 A 127.0.0.4", `10.2.0.192.bl.example. 60 TXT "see https://bl.example/?192.0.2.10"`,
			v6+".bl.example. 60 A 127.0.0.3", "widget.com.dbl.example. 60 A 127.0.1.4")
		r := examine("192.0.2.10", "2001:db8::25")
		c := find(t, r, "blocklist", "192.0.2.10")
		if c.Status != Fail || !strings.Contains(c.Seen, "127.0.0.4") || !strings.Contains(c.Seen, "https://bl.example/") || c.Fix == nil || c.Who != ListOperator {
			t.Errorf("%+v", c)
		}
		for _, subject := range []string{"2001:db8::25", "widget.com"} {
			if c := find(t, r, "blocklist", subject); c.Status != Fail {
				t.Errorf("%+v", c)
			}
		}
		if c := find(t, r, "blocklist", "mailout.ofc.widget.com"); c.Status != Pass {
			t.Errorf("%+v", c)
		}
	})
	t.Run("skip", func(t *testing.T) {
		t.Parallel()
		_, examine := listWorld(t, nil)
		if c := find(t, examine("192.0.2.10"), "blocklist", ""); c.Status != Skip {
			t.Errorf("%+v", c)
		}
	})
	t.Run("unknown", func(t *testing.T) {
		t.Parallel()
		testUnknownLists(t)
	})
}

// testUnknownLists holds that a list which cannot be believed neither clears
// nor condemns.
func testUnknownLists(t *testing.T) {
	listed := "10.2.0.192.bl.example. 60 A 127.0.0.4"
	cases := []struct {
		name, says string
		set        func(w *fakeWorld)
		fix        bool
	}{
		{"no test entry", "its own test entry", func(w *fakeWorld) { w.withdraw("2.0.0.127.bl.example", wire.TypeA) }, false},
		{"lists everything", "lists everything", func(w *fakeWorld) { w.publish(listed, "1.0.0.127.bl.example. 60 A 127.0.0.2") }, false},
		{"refuses the test", "public resolver", func(w *fakeWorld) {
			w.withdraw("2.0.0.127.bl.example", wire.TypeA)
			w.publish("2.0.0.127.bl.example. 60 A 127.255.255.254")
		}, true},
		{"refuses the question", "no listing", func(w *fakeWorld) { w.publish("10.2.0.192.bl.example. 60 A 127.255.255.255") }, true},
		{"answers as no list does", "no block list's answer", func(w *fakeWorld) { w.publish("10.2.0.192.bl.example. 60 A 203.0.113.80") }, false},
		{"no answer", "no answer", func(w *fakeWorld) {
			w.ask = func(p dns.Probe) (*wire.Msg, error) {
				if strings.HasPrefix(p.Name, "10.2.0.192.") {
					return nil, errors.New("i/o timeout")
				}
				return nil, nil
			}
		}, false},
	}
	for _, c := range cases {
		w, examine := listWorld(t, []string{"bl.example"})
		c.set(w)
		got := find(t, examine("192.0.2.10"), "blocklist", "192.0.2.10")
		if got.Status != Unknown || !strings.Contains(got.Seen, c.says) || (got.Fix != nil) != c.fix {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
	_, examine := listWorld(t, []string{"bl.example"})
	if got := find(t, examine(""), "blocklist", ""); got.Status != Unknown {
		t.Errorf("an address that nobody could tell: %+v", got)
	}
}

// TestOneBadListHidesNoListing: a listing counts although another list is dead.
func TestOneBadListHidesNoListing(t *testing.T) {
	t.Parallel()
	_, examine := listWorld(t, []string{"dead.example", "bl.example", "bl.example."}, "10.2.0.192.bl.example. 60 A 127.0.0.4")
	c := find(t, examine("192.0.2.10", "192.0.2.10"), "blocklist", "192.0.2.10")
	if c.Status != Fail || !strings.Contains(c.Seen, "dead.example: ") {
		t.Errorf("%+v", c)
	}
}

// TestAPolicyListingIsSaidToBeOne: the PBL lists an address for its kind.
func TestAPolicyListingIsSaidToBeOne(t *testing.T) {
	t.Parallel()
	for code, policy := range map[string]bool{"127.0.0.10": true, "127.0.0.11": true, "127.0.0.4": false} {
		_, examine := listWorld(t, []string{"zen.spamhaus.org"}, "2.0.0.127.zen.spamhaus.org. 60 A 127.0.0.2", "10.2.0.192.zen.spamhaus.org. 60 A "+code)
		c := find(t, examine("192.0.2.10"), "blocklist", "192.0.2.10")
		if c.Status != Fail || strings.Contains(c.Fix.Text, "not for mail that was sent") != policy || !strings.Contains(c.Fix.Text, "https://check.spamhaus.org/") {
			t.Errorf("%s: %+v", code, c)
		}
	}
}

// TestListsAreTestedOnce: the test entries are asked for once a list, however
// many addresses there are.
func TestListsAreTestedOnce(t *testing.T) {
	t.Parallel()
	w, examine := listWorld(t, []string{"bl.example"})
	examine("192.0.2.10", "192.0.2.11", "192.0.2.12")
	n := 0
	for _, p := range w.asked {
		if strings.HasPrefix(p.Name, "2.0.0.127.") {
			n++
		}
	}
	if n != 1 {
		t.Errorf("asked %d times", n)
	}
}
