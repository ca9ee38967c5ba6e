package control_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/control"
	"mailout/internal/mta"
	"mailout/internal/queue"
)

// vias counts the deliveries by their own routes.
func (d *desk) vias() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := make(map[string]int)
	for _, x := range d.open {
		out[x.Destination.Via]++
	}
	return out
}

// TestReroutesLast: a selection's route is stored with it; a destination's is a
// rule, kept in the file, replaced, ended by default and at its time, also when
// that passes while nothing runs, and takes the place of its deliveries' own.
func TestReroutesLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		d := newDesk(30)
		c := d.controller(t, dir)
		c.Start(t.Context())
		defer func() { c.Stop() }()
		reroute := func(to string, sel control.Selector, expires time.Duration, once bool) control.Result {
			t.Helper()
			r, err := c.Run(t.Context(), control.Request{Verb: queue.VerbReroute, To: to, By: "ann", Reason: "so", Select: sel, Expires: expires, Once: once}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		two := control.Selector{Destination: "two.example"}
		reroute("x.example", control.Selector{Sender: "a@out.example", Destination: "two.example"}, 0, false)
		reroute("y.example", control.Selector{Destination: "one.example"}, 0, true)
		if v := d.vias(); fmt.Sprint(v) != "map[:5 x.example:5 y.example:20]" || len(d.rules) != 0 {
			t.Fatalf("%v %v", v, d.rules)
		}
		r := reroute("z.example:26", two, time.Hour, false)
		if r.Matched != 10 || r.Changed != 10 || r.Reroute == nil || r.Reroute.To != "z.example:26" || !strings.Contains(r.Reroute.String(), "rerouted to z.example:26 by ann since ") {
			t.Errorf("%+v", r)
		}
		if v := d.vias(); fmt.Sprint(v) != "map[:10 y.example:20]" || len(d.rules) != 1 {
			t.Errorf("%v %v", v, d.rules)
		}
		reroute("direct", two, 2*time.Hour, false) // in its place
		reroute("router", control.Selector{Destination: "two.example", Stream: "codes"}, 0, false)
		c.Stop()
		c = d.controller(t, dir)
		c.Start(t.Context())
		if len(d.rules) != 2 || d.rules[0].To != "direct" || len(c.Reroutes()) != 2 {
			t.Errorf("after a restart: %v", d.rules)
		}
		<-time.After(3 * time.Hour)
		synctest.Wait()
		if len(d.rules) != 1 || d.rules[0].To != "router" || len(c.Reroutes()) != 1 {
			t.Errorf("after the expiry: %v", d.rules)
		}
		if r := reroute(control.Default, two, 0, false); r.RoutesEnded != 1 || len(d.rules) != 0 || r.Changed != 0 { // of another stream
			t.Errorf("%+v %v", r, d.rules)
		}
		reroute("direct", two, time.Minute, false)
		c.Stop()
		<-time.After(time.Hour) // nothing runs
		c = d.controller(t, dir)
		if len(d.rules) != 0 {
			t.Errorf("an expired route counts after a restart: %v", d.rules)
		}
		c.Start(t.Context())
		synctest.Wait()
		reroute("direct", two, 0, false)
		if r := reroute(control.Default, control.Selector{All: true}, 0, false); r.RoutesEnded != 1 || r.Changed != 30 || fmt.Sprint(d.vias()) != "map[:30]" {
			t.Errorf("%+v %v", r, d.vias())
		}
		reroute("direct", two, 0, false)
		if n, sample, err := c.Preview(t.Context(), control.Request{Verb: queue.VerbReroute, To: control.Default, Select: control.Selector{All: true}}); err != nil || n != 10 || sample[0].Destination.Domain != "two.example" {
			t.Errorf("%d %v", n, err)
		}
		for _, want := range []int64{10, 0} { // the others' mail is not sent before its time
			if r := reroute(control.Default, control.Selector{All: true}, 0, false); r.Changed != want {
				t.Errorf("%+v", r)
			}
		}
		if rules, err := control.ReadReroutes(filepath.Join(dir, control.ReroutesFile)); err != nil || len(rules) != 0 {
			t.Errorf("%v %v", rules, err)
		}
	})
}

// TestReroutesAreRefused: what cannot be meant, what cannot be kept, and more
// than there may be.
func TestReroutesAreRefused(t *testing.T) {
	t.Parallel()
	d := newDesk(3)
	c := d.controller(t, t.TempDir())
	one := control.Selector{Destination: "one.example"}
	for name, x := range map[string]struct {
		r    control.Request
		want error
	}{
		"no target":            {control.Request{Select: one}, control.ErrTo},
		"a long target":        {control.Request{Select: one, To: strings.Repeat("x", mta.MaxVia+1)}, control.ErrTo},
		"nothing selected":     {control.Request{To: "direct"}, control.ErrNothing},
		"once with expiry":     {control.Request{Select: one, To: "direct", Once: true, Expires: 1}, control.ErrExpires},
		"default with expiry":  {control.Request{Select: one, To: control.Default, Expires: 1}, control.ErrExpires},
		"an id with an expiry": {control.Request{Select: control.Selector{ID: d.open[0].Message.ID}, To: "direct", Expires: 1}, control.ErrExpires},
	} {
		x.r.Verb = queue.VerbReroute
		if _, err := c.Run(t.Context(), x.r, nil); !errors.Is(err, x.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, control.ReroutesFile)
	rules := make([]queue.Reroute, control.MaxReroutes-1)
	for i := range rules {
		rules[i] = queue.Reroute{Destination: fmt.Sprintf("d%d.example", i), To: "direct", Since: time.Now()}
	}
	data, err := json.Marshal(rules)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	full := d.controller(t, dir)
	for i, want := range []error{nil, control.ErrTooMany} {
		r := control.Request{Verb: queue.VerbReroute, To: "direct", Select: control.Selector{Destination: fmt.Sprintf("e%d.example", i)}}
		if _, err := full.Run(t.Context(), r, nil); !errors.Is(err, want) || len(d.rules) != control.MaxReroutes {
			t.Errorf("%d rules, %v", len(d.rules), err)
		}
	}
	if err := os.WriteFile(file, []byte(`[{"destination":"x.exam`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := control.ReadReroutes(file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
}
