package doctor

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"mailout/internal/dkim"
)

const keyName = "m1._domainkey.widget.com"

func TestCheck_dkim_key(t *testing.T) {
	_, good := keyFile(t, dkim.RSA, 0o600)
	_, open := keyFile(t, dkim.Ed25519, 0o644)
	_, group := keyFile(t, dkim.Ed25519, 0o640)
	dir := t.TempDir()
	weakKey, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	weak := write("weak.pem", string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(weakKey)})), 0o600)
	with := func(path string) func(*fakeWorld, *Identity) {
		return func(_ *fakeWorld, id *Identity) {
			id.DKIM = []DKIMKey{{"widget.com", "m1", path}, {"example.com", "m1", path}}
		}
	}
	try(t, "dkim.key", []step{
		{name: "pass", change: with(good), subject: good, want: Pass, seen: "RSA of 2048 bits"},
		{name: "pass readable by the group", change: with(group), subject: group, want: Pass, seen: "Ed25519"},
		{name: "warn without a key", subject: "mailout.ofc.widget.com", want: Warn, seen: "no DKIM key is configured", text: "signed as soon as every server"},
		{name: "warn readable by all", change: with(open), want: Warn, seen: "mode 0644"},
		{name: "fail missing", change: with(filepath.Join(dir, "none")), want: Fail, seen: "no such file"},
		{name: "fail short", change: with(weak), want: Fail, seen: "RSA of 1024 bits"},
		{name: "fail no key", change: with(write("text.pem", "hello", 0o600)), want: Fail, seen: "no key in PEM form"},
	})
	t.Run("unknown", func(t *testing.T) { // root may read every file, so it is not tried with one
		c := judgeLoaded("k.pem", nil, nil, &fs.PathError{Op: "open", Path: "k.pem", Err: fs.ErrPermission})
		if c.Status != Unknown || !strings.Contains(c.Seen, "permission") || !strings.Contains(c.Fix.Text, "mailout serve") {
			t.Errorf("%+v", c)
		}
	})
}

// published gives an identity with a key, and its record changed in a way.
func withKey(t *testing.T, change func(text string) string) (func(*fakeWorld, *Identity), *dkim.Key) {
	key, path := keyFile(t, dkim.RSA, 0o600)
	return func(w *fakeWorld, id *Identity) {
		id.DKIM = []DKIMKey{{"widget.com", "m1", path}}
		if change != nil {
			w.publish(textRecord(keyName, change(key.TXT())))
		}
	}, key
}

// withKey lets a step begin with a key, published as change makes of it, and
// gives that key.
func (s *step) withKey(t *testing.T, change func(string) string) *dkim.Key {
	t.Helper()
	prepare, key := withKey(t, change)
	more := s.change
	s.change = func(w *fakeWorld, id *Identity) {
		prepare(w, id)
		if more != nil {
			more(w, id)
		}
	}
	return key
}

func TestCheck_dkim_record(t *testing.T) {
	other, _ := keyFile(t, dkim.RSA, 0o600)
	var steps []step
	add := func(s step, change func(string) string) {
		key := s.withKey(t, change)
		if s.subject = keyName; s.want == "warn" || s.want == "fail" {
			s.record = textRecord(keyName, key.TXT())
		}
		steps = append(steps, s)
	}
	same := func(s string) string { return s }
	add(step{name: "pass", want: Pass, seen: "ours"}, same)
	add(step{name: "pass without version", want: Pass}, func(s string) string { return strings.TrimPrefix(s, "v=DKIM1; ") })
	add(step{name: "warn testing", want: Warn, seen: "t=y"}, func(s string) string { return s + "; t=y" })
	add(step{name: "warn wrapped", want: Warn, seen: "wrapped"}, func(s string) string { return s[:90] + "\n" + s[90:] })
	add(step{name: "warn spaced", want: Warn, seen: "white space"}, func(s string) string { return s[:90] + " " + s[90:] })
	add(step{name: "fail missing", want: Fail, seen: "NXDOMAIN"}, nil)
	add(step{name: "fail another key", want: Fail, seen: "another one"}, func(string) string { return other.TXT() })
	add(step{name: "fail revoked", want: Fail, seen: "revoked"}, func(string) string { return "v=DKIM1; p=" })
	add(step{name: "fail cut off", want: Fail, seen: "cut off after 255"}, func(s string) string { return s[:255] })
	add(step{name: "fail quotes inside", want: Fail, seen: "quotation marks"}, func(s string) string { return s[:255] + `" "` + s[255:] })
	add(step{name: "fail backslashes", want: Fail, seen: "backslashes"}, func(s string) string { return strings.ReplaceAll(s, ";", `\;`) })
	add(step{name: "fail rubbish", want: Fail, seen: "no TAG=VALUE"}, func(string) string { return "hello" })
	add(step{name: "fail hash", want: Fail, seen: "sha256"}, func(s string) string { return "v=DKIM1; h=sha1" + strings.TrimPrefix(s, "v=DKIM1") })
	add(step{name: "fail two", want: Fail, seen: "2 records", change: func(w *fakeWorld, _ *Identity) { w.publish(textRecord(keyName, other.TXT())) }}, same)
	add(step{name: "unknown", want: Unknown, seen: "SERVFAIL", change: deaf(keyName+".", wire.TypeTXT)}, same)
	add(step{name: "unknown without the private key", want: Unknown, seen: "dkim.key", change: func(_ *fakeWorld, id *Identity) { id.DKIM[0].Path = "/nonexistent/key.pem" }}, same)
	steps = append(steps, step{name: "skip", want: Skip, seen: "dkim.key"})
	try(t, "dkim.record", steps)
}

func TestCheck_dkim_verifies(t *testing.T) {
	other, _ := keyFile(t, dkim.RSA, 0o600)
	var steps []step
	add := func(s step, change func(string) string) {
		key := s.withKey(t, change)
		if s.want == Fail {
			s.record = textRecord(keyName, key.TXT())
		}
		steps = append(steps, s)
	}
	same := func(s string) string { return s }
	add(step{name: "pass", subject: keyName, want: Pass}, same)
	add(step{name: "pass with white space", want: Pass}, func(s string) string { return s[:90] + " " + s[90:] })
	add(step{name: "fail another key", want: Fail, seen: "did not verify"}, func(string) string { return other.TXT() })
	add(step{name: "fail revoked", want: Fail, seen: "revoked"}, func(string) string { return "v=DKIM1; p=" })
	add(step{name: "fail cut off", want: Fail}, func(s string) string { return s[:255] })
	add(step{name: "skip without a record", want: Skip, seen: "dkim.record"}, nil)
	add(step{name: "unknown", want: Unknown, change: deaf(keyName+".", wire.TypeTXT)}, same)
	add(step{name: "skip without the private key", want: Skip, change: func(_ *fakeWorld, id *Identity) { id.DKIM[0].Path = "/nonexistent/key.pem" }}, same)
	heir, heirPath := keyFile(t, dkim.RSA, 0o600)
	add(step{name: "warn replaced", subject: keyName, want: Warn, seen: "m2 signs in its place", change: func(w *fakeWorld, id *Identity) {
		id.DKIM = append(id.DKIM, DKIMKey{"widget.com", "m2", heirPath})
		w.publish(textRecord("m2._domainkey.widget.com", heir.TXT()))
	}}, func(string) string { return other.TXT() })
	steps = append(steps, step{name: "skip without a key", want: Skip})
	try(t, "dkim.verifies", steps)
}

func TestCheck_dkim_alignment(t *testing.T) {
	signing := func(domain string) func(*fakeWorld, *Identity) {
		return func(_ *fakeWorld, id *Identity) {
			id.Domains, id.DKIM = []string{"news.widget.com"}, []DKIMKey{{domain, "m1", "k"}}
		}
	}
	try(t, "dkim.alignment", []step{
		{name: "pass", change: signing("news.widget.com"), subject: "news.widget.com", want: Pass, seen: "d=news.widget.com"},
		{name: "pass related by a record", records: []string{`_dmarc.widget.com. 300 TXT "v=DMARC1; p=none"`}, change: signing("widget.com"), want: Pass, seen: "same organization"},
		{name: "pass related by the list of suffixes", change: signing("widget.com"), want: Pass, seen: "same organization"},
		{name: "warn", change: signing("example.com"), want: Warn, text: `domain = "news.widget.com"`},
		{name: "warn about a domain of its own", records: []string{`_dmarc.news.widget.com. 300 TXT "v=DMARC1; p=none; psd=n"`}, change: signing("widget.com"), want: Warn},
		{name: "warn of a key below", change: signing("a.news.widget.com"), want: Warn},
		{name: "warn of a key beside", change: signing("shop.widget.com"), want: Warn},
		{name: "fail strict", records: []string{`_dmarc.widget.com. 300 TXT "v=DMARC1; p=none; adkim=s"`}, change: signing("widget.com"), want: Fail, seen: "adkim=s"},
		{name: "skip", want: Skip},
		{name: "unknown", change: func(w *fakeWorld, id *Identity) {
			signing("widget.com")(w, id)
			deaf("_dmarc.news.widget.com.", wire.TypeTXT)(w, id)
		}, want: Unknown},
	})
}

// TestPlainText: what the DNS library escapes comes out as it is on the wire.
func TestPlainText(t *testing.T) {
	w := newWorld(t, textRecord("x.widget.com", "one \"two\" \\ three\n"))
	x := &exam{id: goodIdentity(), world: w.world()}
	if got := x.look(t.Context(), "x.widget.com", wire.TypeTXT).texts(); fmt.Sprint(got) != "[one \"two\" \\ three\n]" {
		t.Errorf("%q", got)
	}
}

// TestKeyToCome: a record that is not there yet is a warning while an older key
// of the same kind signs, as in a rotation.
func TestKeyToCome(t *testing.T) {
	t.Parallel()
	older, olderPath := keyFile(t, dkim.Ed25519, 0o600)
	key, path := keyFile(t, dkim.Ed25519, 0o600)
	rsa, rsaPath := keyFile(t, dkim.RSA, 0o600)
	for _, c := range []struct {
		name      string
		first     string
		published map[string]string
		want      Status
	}{
		{"the older one signs", olderPath, map[string]string{"m0": older.TXT()}, Warn},
		{"none signs", olderPath, nil, Fail},
		{"one of another kind signs", rsaPath, map[string]string{"m0": rsa.TXT()}, Fail},
		{"the record is another one", olderPath, map[string]string{"m0": older.TXT(), "m1": rsa.TXT()}, Fail},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for selector, text := range c.published {
				w.publish(textRecord(selector+"._domainkey.widget.com", text))
			}
			id := goodIdentity()
			id.DKIM = []DKIMKey{{"widget.com", "m0", c.first}, {"widget.com", "m1", path}}
			for _, check := range Examine(t.Context(), id, w.world(), Options{Only: []string{"dkim.record"}}).Checks {
				if check.Subject != keyName {
					continue
				}
				if check.Status != c.want || check.Fix.Record != textRecord(keyName, key.TXT()) || (c.want == Warn) != strings.Contains(check.Seen, "m0 signs until then") {
					t.Errorf("%+v", check)
				}
			}
		})
	}
}

// TestReplacedKeys: what is wrong with the record of a key is a warning once a
// later one of its kind signs; nothing publishes a revoked key again.
func TestReplacedKeys(t *testing.T) {
	t.Parallel()
	old, oldPath := keyFile(t, dkim.Ed25519, 0o600)
	heir, heirPath := keyFile(t, dkim.Ed25519, 0o600)
	other, otherPath := keyFile(t, dkim.RSA, 0o600)
	id := goodIdentity()
	for _, c := range []struct {
		name    string
		second  string
		records map[string]string
		want    Status
		planned bool
	}{
		{"revoked, and replaced", heirPath, map[string]string{"m1": dkim.Revocation(old.Algorithm()), "m2": heir.TXT()}, Warn, false},
		{"gone, and replaced", heirPath, map[string]string{"m2": heir.TXT()}, Warn, true},
		{"gone, the other waits", heirPath, map[string]string{}, Fail, true},
		{"gone, the other is of another kind", otherPath, map[string]string{"m2": other.TXT()}, Fail, true},
		{"all there", heirPath, map[string]string{"m1": old.TXT(), "m2": heir.TXT()}, Pass, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			for selector, text := range c.records {
				w.publish(textRecord(selector+"._domainkey.widget.com", text))
			}
			id.DKIM = []DKIMKey{{"widget.com", "m1", oldPath}, {"widget.com", "m2", c.second}}
			r := Examine(t.Context(), id, w.world(), Options{Only: []string{"dkim.record", "dkim.verifies"}})
			for _, check := range r.Checks {
				if check.Subject != keyName || check.Status == Skip {
					continue
				}
				if check.Status != c.want {
					t.Errorf("%+v", check)
				}
				if c.want == Warn && !strings.Contains(check.Fix.Command, "--finish") {
					t.Errorf("%+v", check.Fix)
				}
			}
			p := PlanRecords(t.Context(), id, w.world(), Options{})
			planned := slices.ContainsFunc(p.Records, func(r Record) bool { return r.Name == keyName })
			if planned != c.planned || !planned && !strings.Contains(strings.Join(p.Notes, " "), "revoked") {
				t.Errorf("planned: %t; %q", planned, p.Notes)
			}
		})
	}
}
