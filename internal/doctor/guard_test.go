package doctor

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"mailout/internal/mta"
)

var (
	inner = netip.MustParseAddr("10.0.0.2")
	seen  = netip.MustParseAddr("203.0.113.5")
)

// stand is a stance of the one source that the system takes: "id status" texts.
func stand(kind wayKind, texts ...string) stance {
	s := stance{face: face{Hostname: "h.example", Local: inner, Visible: seen, Ways: []way{{kind: kind, Visible: seen}}}, checks: map[string]Check{}}
	for _, t := range texts {
		f := strings.Fields(t)
		if f[0] == "stale" {
			s.stale = true
			continue
		}
		s.checks[f[0]] = Check{ID: f[0], Subject: "s", Status: Status(f[1])}
	}
	return s
}

// blind is a stance of the same source while nobody tells its address.
func blind() stance {
	s := stand(wayReflector)
	s.face.Visible, s.face.Ways = netip.Addr{}, nil
	return s
}

// torn is one whose address two witnesses see differently.
func torn(texts ...string) stance {
	s := stand(wayReflector, texts...)
	s.face.Ways = append(s.face.Ways, way{kind: wayReflector, Visible: netip.MustParseAddr("203.0.113.9")})
	return s
}

// TestGuardByWhatItSees: each line is one history of examinations, and after
// each what holds the source ("-": nothing).
func TestGuardByWhatItSees(t *testing.T) {
	t.Parallel()
	type look struct {
		s    stance
		want string
	}
	seenBy := func(kind wayKind, want string, texts ...string) look { return look{stand(kind, texts...), want} }
	now := func(want string, texts ...string) look { return seenBy(wayReflector, want, texts...) }
	for name, history := range map[string][]look{
		"a failure closes, passing opens": {now("-", "address.record pass"), now("address.record", "address.record fail"), now("-", "address.record pass")},
		"unknown never closes":            {now("-", "address.record unknown", "address.public unknown")},
		"unknown does not open":           {now("address.record", "address.record fail"), now("address.record", "address.record unknown"), now("-", "address.record pass")},
		"a warning opens":                 {now("address.record", "address.record fail"), now("-", "address.record warn")},
		"caches with the old record do not open": {now("address.record", "address.record fail"), now("address.record", "address.record warn", "stale"),
			now("-", "address.record pass", "stale")},
		"for ever": {now("address.record", "address.record fail"), now("address.record", "address.record warn", "stale"),
			now("address.record", "address.record unknown"), now("address.record", "address.record warn", "stale"),
			now("address.record", "address.record warn", "stale"), now("address.record", "address.record warn", "stale"), now("-", "address.record warn", "stale")},
		"caches with the old record do not close": {now("-", "address.record warn", "stale")},
		"the configured address is another":       {now("address.record", "address.public fail", "address.record fail"), now("-", "address.public fail", "address.record pass")},
		"another cause keeps it closed":           {now("address.record", "address.record fail"), now("name.form", "address.record pass", "name.form fail")},
		"a reverse record that never was":         {now("-", "ptr.exists fail"), now("-", "ptr.exists fail")},
		"a reverse record that vanished":          {now("-", "ptr.exists pass"), now("-", "ptr.exists unknown"), now("ptr.exists", "ptr.exists fail"), now("-", "ptr.exists pass")},
		"a reverse record that leads elsewhere":   {now("-", "ptr.confirmed pass"), now("ptr.confirmed", "ptr.confirmed fail"), now("-", "ptr.confirmed warn")},
		"hearsay does not close":                  {seenBy(wayLearned, "-", "address.record fail")},
		"hearsay does not open":                   {now("address.record", "address.record fail"), seenBy(wayLearned, "address.record", "address.record fail")},
		"the configuration's word closes":         {seenBy(wayConfigured, "address.record", "address.record fail")},
		"silent reflectors neither close":         {now("-", "address.record pass"), seenBy(wayInterface, "-", "address.record fail"), now("address.record", "address.record fail")},
		"nor open": {now("address.record", "address.record fail"), seenBy(wayInterface, "address.record", "address.record pass"),
			now("-", "address.record pass")},
		"but the name is known without them":                 {now("name.form", "name.form fail"), seenBy(wayInterface, "-", "name.form pass")},
		"the interface's word, where nobody else ever spoke": {seenBy(wayInterface, "address.record", "address.record fail"), seenBy(wayInterface, "-", "address.record pass")},
		"a reverse record, while its address is not known": {now("-", "ptr.exists pass"), now("ptr.exists", "ptr.exists fail"),
			{blind(), "ptr.exists"}, now("ptr.exists", "ptr.exists fail"), now("-", "ptr.exists pass")},
		"witnesses that differ do not close": {{torn("address.record fail"), "-"}, now("address.record", "address.record fail")},
		"and do not open what fails":         {now("address.record", "address.record fail"), {torn("address.record fail"), "address.record"}},
		"other checks do not close":          {now("-", "spf.pass fail", "port25 fail", "blocklist fail")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := guard{}
			at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
			for i, l := range history {
				holds := g.judge(Identity{Reflectors: []string{"https://reflector.example/"}}, &Report{stances: []stance{l.s}}, at.Add(time.Duration(i)*2*time.Minute))
				got := "-"
				if len(holds) > 0 {
					got = holds[0].Check.ID
				}
				if got != l.want {
					t.Fatalf("look %d: held by %s, want %s", i+1, got, l.want)
				}
			}
		})
	}
}

// TestGuardKeepsWhatItCannotSee: a line that is down while it gets its new
// address must not open the source; a source that the configuration has no
// more, or a router, must.
func TestGuardKeepsWhatItCannotSee(t *testing.T) {
	t.Parallel()
	g := guard{}
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	first := g.judge(Identity{}, &Report{stances: []stance{stand(wayReflector, "address.record fail")}}, at)
	again := g.judge(Identity{}, &Report{}, at.Add(time.Hour))
	if len(first) != 1 || len(again) != 1 || again[0].Since != at {
		t.Fatalf("%+v, %+v", first, again)
	}
	routed := Identity{Router: Router{Host: "smart.example", Use: "always"}}
	if holds := g.judge(routed, &Report{}, at); len(holds) != 0 {
		t.Errorf("%+v", holds)
	}
	g.judge(Identity{}, &Report{stances: []stance{stand(wayReflector, "address.record fail")}}, at)
	partly := Identity{Router: routed.Router, Routes: []Route{{Domains: []string{"partner.example"}}}}
	if holds := g.judge(partly, &Report{}, at); len(holds) != 1 {
		t.Errorf("some mail is delivered directly: %+v", holds)
	}
	named := Identity{Sources: []mta.Source{{IP: inner}}}
	if holds := g.judge(named, &Report{}, at); len(holds) != 0 {
		t.Errorf("%+v", holds)
	}
}

// TestGuardOutlivesARestart: what was in force stays until it is seen to be
// right, also a reverse record that this process never saw.
func TestGuardOutlivesARestart(t *testing.T) {
	t.Parallel()
	for _, id := range []string{"address.record", "ptr.exists"} {
		old := Hold{Hostname: "h.example", Visible: seen, Check: Check{ID: id, Status: Fail}}
		for status, want := range map[string]int{"fail": 1, "unknown": 1, "pass": 0} {
			g := guard{}
			g.seed([]Hold{old})
			if holds := g.judge(Identity{}, &Report{stances: []stance{stand(wayReflector, id+" "+status)}}, time.Now()); len(holds) != want {
				t.Errorf("%s %s: %+v", id, status, holds)
			}
		}
	}
}

// TestGuardTellsSourcesApart: two sources with one name, of which the record
// lacks one address; the other's mail goes on.
func TestGuardTellsSourcesApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	second := netip.MustParseAddr("192.0.2.11")
	w.local = append(w.local, second)
	id := goodIdentity()
	id.Sources = append(id.Sources, mta.Source{IP: second, Hostname: id.Hostname})
	id.PublicIP = append(id.PublicIP, second)
	r := Examine(t.Context(), id, w.world(), Options{Only: guardIDs})
	if find(t, r, "address.record", "").Status != Fail {
		t.Fatalf("%+v", r.Checks)
	}
	g := guard{}
	holds := g.judge(id, r, w.now)
	if len(holds) != 1 || holds[0].Source != second {
		t.Fatalf("%+v", holds)
	}
	w.publish("mailout.ofc.widget.com. 300 A 192.0.2.11")
	if holds := g.judge(id, Examine(t.Context(), id, w.world(), Options{Only: guardIDs}), w.now); len(holds) != 0 {
		t.Errorf("%+v", holds)
	}
}

// TestGuardWaitsForCaches: the zone has the new record, the resolver the old.
func TestGuardWaitsForCaches(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := goodIdentity()
	moved := netip.MustParseAddr("192.0.2.99")
	w.local, id.PublicIP, id.Sources = []netip.Addr{moved}, nil, nil
	w.publish("99.2.0.192.in-addr.arpa. 300 PTR mailout.ofc.widget.com.")
	g := guard{}
	look := func() []Hold {
		return g.judge(id, Examine(t.Context(), id, w.world(), Options{Only: guardIDs}), w.now)
	}
	if holds := look(); len(holds) != 1 {
		t.Fatalf("%+v", holds)
	}
	w.withdrawAt(authoritative, "mailout.ofc.widget.com", 1)
	w.publishAt(authoritative, "mailout.ofc.widget.com. 300 A 192.0.2.99")
	if holds := look(); len(holds) != 1 {
		t.Error("caches have the old record and the mail goes out")
	}
	w.withdrawAt(recursive, "mailout.ofc.widget.com", 1)
	w.publishAt(recursive, "mailout.ofc.widget.com. 300 A 192.0.2.99")
	if holds := look(); len(holds) != 0 {
		t.Errorf("%+v", holds)
	}
}

func TestLearnerIsBounded(t *testing.T) {
	t.Parallel()
	var l Learner
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if !l.Learn(Learned{Source: inner, Visible: seen, From: "mx.example", Time: at}) {
		t.Error("the first is no news")
	}
	if l.Learn(Learned{Source: inner, Visible: seen, From: "other.example", Time: at}) {
		t.Error("the same again is news")
	}
	for i := range 1000 {
		l.Learn(Learned{Source: inner, Visible: seen, From: fmt.Sprintf("mx%d.example", i%100), Time: at.Add(time.Duration(i) * time.Second)})
	}
	all := l.All()
	if len(all) != keptLearned || all[0].From != "mx99.example" {
		t.Errorf("%+v", all)
	}
	for i := range 1000 {
		source := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
		l.Learn(Learned{Source: source, Visible: seen, From: "mx.example", Time: at.Add(time.Hour + time.Duration(i)*time.Second)})
	}
	if all := l.All(); len(all) != learnedSources || all[0].Source.String() != "10.1.3.231" {
		t.Errorf("%d, %+v", len(all), all[0])
	}
}

// TestLearnerIgnoresWhatCannotBe: an inner server sees an inner address, which
// says nothing of what the internet sees.
func TestLearnerIgnoresWhatCannotBe(t *testing.T) {
	t.Parallel()
	var l Learner
	for _, visible := range []string{"10.0.0.5", "127.0.0.1", "::1", "fe80::1", "224.0.0.1", "0.0.0.0", "2001:db8::5"} {
		if l.Learn(Learned{Source: inner, Visible: netip.MustParseAddr(visible), From: "mx.example"}) {
			t.Errorf("%s is learned", visible)
		}
	}
	if l.Learn(Learned{Source: inner}) || len(l.All()) != 0 {
		t.Error("nothing is learned")
	}
	if !l.Learn(Learned{Source: netip.MustParseAddr("::ffff:10.0.0.2"), Visible: netip.MustParseAddr("::ffff:203.0.113.5")}) || l.All()[0].Visible != seen {
		t.Errorf("%+v", l.All())
	}
}
