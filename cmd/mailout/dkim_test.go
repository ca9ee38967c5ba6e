package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"mailout/internal/admin"
	"mailout/internal/config"
	"mailout/internal/dkim"
)

// dkimRun executes one "mailout dkim" line.
func dkimRun(file string, args ...string) (stdout, stderr string, status int) {
	var out, errs bytes.Buffer
	status = run(append(append([]string{"dkim"}, args...), "--config", file), strings.NewReader(""), &out, &errs)
	return out.String(), errs.String(), status
}

// dkimConfig is a configuration whose DNS answers nothing.
func dkimConfig(t *testing.T) string {
	return configFile(t, "# ours\n[dns]\nservers = [\"127.0.0.1:1\"]\n")
}

func TestDKIMNew(t *testing.T) {
	t.Parallel()
	file := dkimConfig(t)
	out, errs, status := dkimRun(file, "new", "Widget.COM.", "--algorithm", "both", "--selector", "S1")
	if status != 0 || errs != "" {
		t.Fatalf("%d %s%s", status, out, errs)
	}
	c, err := config.Load(file)
	if err != nil || len(c.DKIM) != 2 {
		t.Fatal(err, c)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "# ours\n") {
		t.Errorf("%s", text)
	}
	records, errs, status := dkimRun(file, "record")
	if status != 0 || errs != "" {
		t.Fatal(status, errs)
	}
	if !strings.Contains(out, "\n"+records) || strings.Contains(out, "takes its place") {
		t.Errorf("new printed\n%s\nand record\n%s", out, records)
	}
	for i, kind := range []dkim.Algorithm{dkim.RSA, dkim.Ed25519} {
		k := c.DKIM[i]
		key, err := dkim.Load(k.Key)
		if err != nil || key.Algorithm() != kind || !key.Strong() || k.Domain != "widget.com" || k.Selector != []string{"s1", "s1-ed25519"}[i] ||
			k.Key != filepath.Join(filepath.Dir(file), "dkim", "widget.com."+k.Selector+".pem") {
			t.Fatalf("%+v %v", k, err)
		}
		if info, err := os.Stat(k.Key); err != nil || info.Mode().Perm() != 0o600 {
			t.Error(info.Mode(), err)
		}
		rr, err := wire.NewRR(strings.Split(records, "\n")[i])
		if err != nil || rr.Header().Name != k.Selector+"._domainkey.widget.com." {
			t.Fatal(err, rr)
		}
		r, err := dkim.ParseRecord(strings.Join(rr.(*wire.TXT).Txt, ""))
		if err != nil || !key.Matches(r) {
			t.Errorf("%v does not fit: %v", rr, err)
		}
	}
	pem, err := os.ReadFile(c.DKIM[1].Key)
	if err != nil {
		t.Fatal(err)
	}
	if secret := strings.Split(string(pem), "\n")[1]; strings.Contains(out+records, secret) {
		t.Error("the private key is shown")
	}
	// A third key comes behind, under a selector of its own.
	if out, errs, status = dkimRun(file, "new", "widget.com", "--bits", "3072"); status != 0 {
		t.Fatal(status, out, errs)
	}
	if !strings.Contains(out, "has a key of this kind (s1): ") || strings.Contains(out, "(s1-ed25519)") {
		t.Error(out)
	}
	c, _ = config.Load(file)
	if k, err := dkim.Load(c.DKIM[2].Key); err != nil || k.Bits() != 3072 || c.DKIM[2].Selector != time.Now().Format("m2006") {
		t.Errorf("%+v %v", c.DKIM[2], err)
	}
}

// TestDKIMNewRefuses: what is not possible leaves no trace.
// TestDKIMNewAtOnce: keys that are made at the same moment are all there.
func TestDKIMNewAtOnce(t *testing.T) {
	t.Parallel()
	file := dkimConfig(t)
	var wg sync.WaitGroup
	for _, d := range []string{"a.example", "b.example", "c.example", "d.example"} {
		wg.Go(func() {
			if _, errs, status := dkimRun(file, "new", d, "--algorithm", "ed25519"); status != 0 {
				t.Error(errs)
			}
		})
	}
	wg.Wait()
	if c, err := config.Load(file); err != nil || len(c.DKIM) != 4 {
		t.Error(err, c)
	}
}

func TestDKIMNewRefuses(t *testing.T) {
	t.Parallel()
	file := dkimConfig(t)
	taken := keyPath(file, "widget.com", "taken")
	if err := os.MkdirAll(filepath.Dir(taken), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(taken, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"new", "no domain"}, exitUsage, "is no domain"},
		{[]string{"new", "*.widget.com"}, exitUsage, "is no domain"},
		{[]string{"new", "widget.com", "--selector", "../x"}, exitUsage, "--selector"},
		{[]string{"new", "widget.com", "--selector", "a b"}, exitUsage, "--selector"},
		{[]string{"new", "widget.com", "--selector", "x\"\n[http]"}, exitUsage, "--selector"},
		{[]string{"new", "widget.com", "--selector", "taken"}, exitFailure, "not overwritten"},
		{[]string{"new", "widget.com", "--bits", "512"}, exitUsage, "2048 to 4096"},
		{[]string{"new", "widget.com", "--bits", "2048", "--algorithm", "ed25519"}, exitUsage, "--bits"},
		{[]string{"new", "widget.com", "--algorithm", "dsa"}, exitUsage, "dsa"},
		{[]string{"rotate", "widget.com"}, exitFailure, "mailout dkim new widget.com"},
		{[]string{"rotate", "widget.com", "--finish", "--keep", "soon"}, exitUsage, "--keep soon is no span"},
		{[]string{"rotate", "widget.com", "--keep", "1d"}, exitUsage, "--keep goes with --finish"},
		{[]string{"rotate", "widget.com", "--finish", "--wait"}, exitUsage, "--finish makes none"},
		{[]string{"rotate", "widget.com", "--finish", "--selector", "s"}, exitUsage, "--finish makes none"},
		{[]string{"rotate", "widget.com", "--algorithm", "dsa"}, exitUsage, "rsa, ed25519 or both, not \"dsa\""},
		{[]string{"rotate", "widget.com", "--wait", "--timeout", "-1s"}, exitUsage, "--timeout"},
		{[]string{"record"}, exitFailure, "mailout dkim new"},
		{[]string{"record", "widget.com"}, exitFailure, "widget.com"},
	} {
		if out, errs, status := dkimRun(file, c.args...); status != c.status || !strings.Contains(errs, c.says) {
			t.Errorf("%q: %d %s%s", c.args, status, out, errs)
		}
	}
	if out, _, status := dkimRun(file, "list"); status != 0 || !strings.Contains(out, "no key") {
		t.Error(status, out)
	}
	after, _ := os.ReadFile(file)
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(taken), "*"))
	hidden, _ := filepath.Glob(filepath.Join(filepath.Dir(taken), ".*"))
	if kept, _ := os.ReadFile(taken); string(kept) != "precious" || !bytes.Equal(before, after) || len(files) != 1 || len(hidden) != 0 {
		t.Error(string(kept), string(after), files, hidden)
	}
	// A configuration that cannot take the key: the list is of another form.
	odd := configFile(t, "dkim = [{domain = \"a.example\", selector = \"s\", key = \"k\"}]\n")
	if out, errs, status := dkimRun(odd, "new", "widget.com"); status == 0 {
		t.Error(out, errs)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(odd), "dkim", "*.pem")); len(left) != 0 {
		t.Error(left)
	}
}

// tellsDKIM is a daemon that tells of keys, and counts reloads.
type tellsDKIM struct {
	mu      sync.Mutex
	keys    []admin.DKIMKey
	reloads int
	// onReload, when set, changes what it tells.
	onReload func(d *tellsDKIM)
}

// listen makes the socket of a configuration answer.
func (d *tellsDKIM) listen(t *testing.T, file string) {
	t.Helper()
	socket, err := config.Socket(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/dkim", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		json.NewEncoder(w).Encode(admin.DKIMKeys{Keys: d.keys})
	})
	mux.HandleFunc("POST /v1/config/reload", func(w http.ResponseWriter, _ *http.Request) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.reloads++; d.onReload != nil {
			d.onReload(d)
		}
		w.Write([]byte("{}"))
	})
	s := &http.Server{Handler: mux}
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// set changes what it tells.
func (d *tellsDKIM) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *tellsDKIM) reloaded() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reloads
}

func liveKey(selector string, s dkim.State, since time.Time) admin.DKIMKey {
	return admin.DKIMKey{Domain: "widget.com", Selector: selector, Algorithm: "ed25519", Bits: 256, State: string(s), Record: "published",
		Since: since.UTC().Format(time.RFC3339), Name: selector + "._domainkey.widget.com"}
}

// TestDKIMListAsksTheDaemon: its states, and a note where it does not answer.
func TestDKIMListAsksTheDaemon(t *testing.T) {
	t.Parallel()
	file := dkimConfig(t)
	for _, s := range []string{"old", "new", "unread"} {
		if _, errs, status := dkimRun(file, "new", "widget.com", "--algorithm", "ed25519", "--selector", s); status != 0 {
			t.Fatal(errs)
		}
	}
	out, errs, status := dkimRun(file, "list")
	if status != 0 || !strings.Contains(errs, "what DNS says now") || strings.Count(out, "pending") != 3 {
		t.Errorf("%d %s%s", status, out, errs)
	}
	since := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d := &tellsDKIM{keys: []admin.DKIMKey{liveKey("old", dkim.StateRetired, since), liveKey("new", dkim.StateActive, since)}}
	d.listen(t, file)
	out, errs, status = dkimRun(file, "list", "widget.com", "--json")
	if status != 0 || errs != "" || strings.Count(out, "\n") != 3 {
		t.Fatalf("%d %s%s", status, out, errs)
	}
	for i, line := range strings.Split(strings.TrimSpace(out), "\n") {
		var k shownKey
		if err := json.Unmarshal([]byte(line), &k); err != nil || !k.Live || k.State != []string{"retired", "active", "pending"}[i] {
			t.Errorf("%s %v", line, err)
		}
	}
	out, _, _ = dkimRun(file, "list")
	for _, part := range []string{"widget.com  old  (ed25519, 256 bits)  retired since 2026-03-01T12:00:00Z", "mail from widget.com and the domains under it", "has not read it yet", "--finish"} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
	if out, _, _ := dkimRun(file, "list", "other.example"); !strings.Contains(out, "no key") {
		t.Error(out)
	}
}

func TestToRotate(t *testing.T) {
	t.Parallel()
	key := func(a dkim.Algorithm, s dkim.State) shownKey {
		return shownKey{Live: true, DKIMKey: admin.DKIMKey{Domain: "widget.com", Selector: string(a) + "-" + string(s), Algorithm: string(a), State: string(s), Record: "absent"}}
	}
	unknown := key(dkim.RSA, dkim.StatePending)
	unknown.Live, unknown.Record = false, "unknown"
	for _, c := range []struct {
		name    string
		keys    []shownKey
		wanted  []dkim.Algorithm
		fresh   string
		waiting string
		fails   bool
	}{
		{"one", []shownKey{key(dkim.RSA, dkim.StateActive)}, nil, "[rsa]", "", false},
		{"both", []shownKey{key(dkim.RSA, dkim.StateActive), key(dkim.Ed25519, dkim.StateActive)}, nil, "[rsa ed25519]", "", false},
		{"one of both", []shownKey{key(dkim.RSA, dkim.StateActive), key(dkim.Ed25519, dkim.StateActive)}, []dkim.Algorithm{dkim.Ed25519}, "[ed25519]", "", false},
		{"under way", []shownKey{key(dkim.RSA, dkim.StateActive), key(dkim.RSA, dkim.StatePending)}, nil, "[]", "rsa-pending", false},
		{"half under way", []shownKey{key(dkim.Ed25519, dkim.StateActive), key(dkim.RSA, dkim.StatePending)}, nil, "[ed25519]", "rsa-pending", false},
		{"nobody knows", []shownKey{unknown}, nil, "", "", true},
		{"gone", []shownKey{key(dkim.RSA, dkim.StateGone)}, nil, "[rsa]", "", false},
		{"another kind", []shownKey{key(dkim.RSA, dkim.StateActive)}, []dkim.Algorithm{dkim.Ed25519}, "", "", true},
		{"unreadable", []shownKey{key("", dkim.StateMissing)}, nil, "", "", true},
	} {
		fresh, waiting, err := toRotate(c.keys, c.wanted)
		var names []string
		for _, k := range waiting {
			names = append(names, k.Selector)
		}
		if (err != nil) != c.fails || err == nil && fmt.Sprint(fresh) != c.fresh || strings.Join(names, " ") != c.waiting {
			t.Errorf("%s: %v, %q, %v", c.name, fresh, names, err)
		}
	}
}

// TestReplaced: a key is revoked when a later one of its kind signs, and its
// record has stayed long enough.
func TestReplaced(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	key := func(selector string, s dkim.State, ago time.Duration, live bool) shownKey {
		return shownKey{Live: live, DKIMKey: liveKey(selector, s, now.Add(-ago))}
	}
	const week = 7 * 24 * time.Hour
	active := key("new", dkim.StateActive, week, true)
	other := key("new", dkim.StateActive, week, true)
	other.Algorithm = "rsa"
	for _, c := range []struct {
		name    string
		keys    []shownKey
		keep    time.Duration
		old     string
		blocked string
	}{
		{"ready", []shownKey{key("a", dkim.StateRetired, week, true), active}, week, "a", ""},
		{"too early", []shownKey{key("a", dkim.StateRetired, week-time.Second, true), active}, week, "", "2026-03-10T12:00:01Z"},
		{"at once", []shownKey{key("a", dkim.StateRetired, 0, true), active}, 0, "a", ""},
		{"never signed", []shownKey{key("a", dkim.StateStandby, week-time.Second, true), active}, week, "", "a: it is standby"},
		{"no daemon", []shownKey{key("a", dkim.StateStandby, week, false), active}, week, "", "--keep 0s"},
		{"no daemon, at once", []shownKey{key("a", dkim.StateStandby, week, false), active}, 0, "a", ""},
		{"several", []shownKey{key("a", dkim.StateRetired, week, true), key("b", dkim.StateGone, 0, true), key("c", dkim.StateRevoked, 0, true), key("d", dkim.StateRetired, 0, true), active}, week, "a b c", "d: "},
		{"the new one is not seen", []shownKey{key("a", dkim.StateActive, week, true), key("new", dkim.StatePending, 0, true)}, 0, "", ""},
		{"the last is gone", []shownKey{key("a", dkim.StateActive, week, true), key("new", dkim.StateGone, 0, true)}, 0, "", ""},
		{"another kind", []shownKey{key("a", dkim.StateActive, week, true), other}, 0, "", ""},
		{"the last one", []shownKey{active}, 0, "", ""},
	} {
		old, blocked := replaced(c.keys, nil, c.keep, now)
		var names []string
		for _, k := range old {
			names = append(names, k.Selector)
		}
		if strings.Join(names, " ") != c.old || c.blocked == "" && len(blocked) > 0 || !strings.Contains(strings.Join(blocked, " "), c.blocked) {
			t.Errorf("%s: %q, blocked %q", c.name, names, blocked)
		}
	}
}

// TestDKIMRotate goes the whole way: a new key behind the old one, published by
// DNS update, waited for; and in the end the old one revoked and taken out.
func TestDKIMRotate(t *testing.T) {
	t.Parallel()
	primary, file := applied(t)
	const domain = "widget.example"
	if _, errs, status := dkimRun(file, "new", domain, "--algorithm", "ed25519", "--selector", "old"); status != 0 {
		t.Fatal(errs)
	}
	c, err := config.Load(file)
	if err != nil {
		t.Fatal(err)
	}
	oldKey, err := dkim.Load(c.DKIM[0].Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := primary.Add(zoned("old._domainkey."+domain, oldKey.TXT())); err != nil {
		t.Fatal(err)
	}
	key := func(selector string, s dkim.State, since time.Time) admin.DKIMKey {
		k := liveKey(selector, s, since)
		k.Domain, k.Name = domain, selector+"._domainkey."+domain
		return k
	}
	d := &tellsDKIM{keys: []admin.DKIMKey{key("old", dkim.StateActive, time.Now())}}
	d.onReload = func(d *tellsDKIM) {
		d.keys = []admin.DKIMKey{key("old", dkim.StateRetired, time.Now()), key("next", dkim.StateActive, time.Now())}
	}
	d.listen(t, file)
	out, errs, status := dkimRun(file, "rotate", domain, "--selector", "next", "--wait")
	if status != 0 || !strings.Contains(out, "next signs now") || d.reloaded() != 1 {
		t.Fatalf("%d %s%s", status, out, errs)
	}
	c, err = config.Load(file)
	if err != nil || len(c.DKIM) != 2 || c.DKIM[1].Selector != "next" {
		t.Fatal(err, c.DKIM)
	}
	newKey, err := dkim.Load(c.DKIM[1].Key)
	if err != nil || newKey.Algorithm() != dkim.Ed25519 {
		t.Fatal(err)
	}
	records := func(want map[string]string) {
		t.Helper()
		for selector, text := range want {
			if got := primary.Records(selector+"._domainkey."+domain, wire.TypeTXT); !slices.Equal(got, []string{`"` + text + `"`}) {
				t.Errorf("%s: %q", selector, got)
			}
		}
	}
	records(map[string]string{"old": oldKey.TXT(), "next": newKey.TXT()})
	if out, _, status = dkimRun(file, "rotate", domain, "--finish"); status != exitTemporary || !strings.Contains(out, "old: it is retired") {
		t.Errorf("%d %s", status, out)
	}
	records(map[string]string{"old": oldKey.TXT(), "next": newKey.TXT()})
	d.set(func() { d.onReload = nil })
	if out, errs, status = dkimRun(file, "rotate", domain, "--finish", "--keep", "0s"); status != 0 || d.reloaded() != 2 {
		t.Fatalf("%d %s%s", status, out, errs)
	}
	records(map[string]string{"old": dkim.Revocation(oldKey.Algorithm()), "next": newKey.TXT()})
	old := c.DKIM[0].Key
	if c, err = config.Load(file); err != nil || len(c.DKIM) != 1 || c.DKIM[0].Selector != "next" {
		t.Error(err, c.DKIM)
	}
	if k, err := dkim.Load(aside(old)); err != nil || !bytes.Equal([]byte(k.TXT()), []byte(oldKey.TXT())) {
		t.Error("the key was not kept aside:", err)
	}
	if out, _, status = dkimRun(file, "rotate", domain, "--finish", "--keep", "0s"); status != 0 || !strings.Contains(out, "no key that was replaced") {
		t.Errorf("%d %s", status, out)
	}
	// Somebody's record stands where the next one is to be: it is not touched.
	if err := primary.Add("s9._domainkey." + domain + ". TXT \"somebody's\""); err != nil {
		t.Fatal(err)
	}
	if out, errs, status = dkimRun(file, "rotate", domain, "--selector", "s9"); status != exitFailure || !strings.Contains(out, "another record") {
		t.Errorf("%d %s%s", status, out, errs)
	}
	records(map[string]string{"s9": "somebody's"})
}

// TestDKIMRotateByHand: without DNS update the records are printed, and a wait
// ends.
func TestDKIMRotateByHand(t *testing.T) {
	t.Parallel()
	file := dkimConfig(t)
	if _, errs, status := dkimRun(file, "new", "widget.com", "--algorithm", "ed25519", "--selector", "old"); status != 0 {
		t.Fatal(errs)
	}
	d := &tellsDKIM{keys: []admin.DKIMKey{liveKey("old", dkim.StateActive, time.Now())}}
	d.onReload = func(d *tellsDKIM) { d.keys = append(d.keys, liveKey("next", dkim.StatePending, time.Now())) }
	d.listen(t, file)
	out, errs, status := dkimRun(file, "rotate", "widget.com", "--selector", "next", "--wait", "--timeout", "1ms")
	if status != exitTemporary || !strings.Contains(out, "next._domainkey.widget.com. IN TXT \"v=DKIM1; k=ed25519; p=") || !strings.Contains(out, "next: pending") {
		t.Fatalf("%d %s%s", status, out, errs)
	}
	// Again: the key that waits is the one, and no other is made.
	out, errs, status = dkimRun(file, "rotate", "widget.com")
	if c, _ := config.Load(file); status != 0 || len(c.DKIM) != 2 || !strings.Contains(out, "waits for its record already") {
		t.Errorf("%d %s%s", status, out, errs)
	}
	d.set(func() {
		d.keys = []admin.DKIMKey{liveKey("old", dkim.StateRetired, time.Now().AddDate(0, 0, -8)), liveKey("next", dkim.StateActive, time.Now())}
		d.onReload = nil
	})
	out, errs, status = dkimRun(file, "rotate", "widget.com", "--finish")
	if c, _ := config.Load(file); status != 0 || len(c.DKIM) != 1 || !strings.Contains(out, "old._domainkey.widget.com. IN TXT \"v=DKIM1; k=ed25519; p=\"") {
		t.Errorf("%d %s%s", status, out, errs)
	}
}

// TestDKIMRotateDoneAgain: a run that was broken off once the configuration named
// the new key goes on where it was, with the same command.
func TestDKIMRotateDoneAgain(t *testing.T) {
	t.Parallel()
	file := dkimConfig(t)
	for _, s := range []string{"old", "next"} { // and no reload
		if _, errs, status := dkimRun(file, "new", "widget.com", "--algorithm", "ed25519", "--selector", s); status != 0 {
			t.Fatal(errs)
		}
	}
	d := &tellsDKIM{keys: []admin.DKIMKey{liveKey("old", dkim.StateActive, time.Now())}}
	d.onReload = func(d *tellsDKIM) {
		d.keys = []admin.DKIMKey{liveKey("old", dkim.StateRetired, time.Now()), liveKey("next", dkim.StateActive, time.Now())}
	}
	d.listen(t, file)
	if out, errs, status := dkimRun(file, "rotate", "widget.com", "--selector", "other"); status != exitFailure || d.reloaded() != 0 {
		t.Errorf("%d %s%s", status, out, errs)
	}
	out, errs, status := dkimRun(file, "rotate", "widget.com", "--selector", "next", "--wait", "--timeout", "1m")
	if c, _ := config.Load(file); status != 0 || d.reloaded() != 1 || len(c.DKIM) != 2 || !strings.Contains(out, "next signs now") {
		t.Errorf("%d %s%s", status, out, errs)
	}
}
