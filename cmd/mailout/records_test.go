package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"mailout/internal/doctor"
	"mailout/internal/mtatest"
)

// recordsPlan has a record in each status, a long text, and a reverse record.
func recordsPlan() *doctor.Plan {
	record := func(name, kind, value, what string, s doctor.RecordStatus, now ...string) doctor.Record {
		return doctor.Record{Name: name, Type: kind, Value: value, For: what, Status: s, Zone: "widget.com", Now: now}
	}
	return &doctor.Plan{
		Records: []doctor.Record{
			record("mailout.ofc.widget.com", "A", "203.0.113.5", "host name", doctor.RecordDiffers, "203.0.113.4"),
			record("widget.com", "TXT", "v=spf1 ip4:203.0.113.5 ~all", "SPF", doctor.RecordPublished),
			record("m1._domainkey.widget.com", "TXT", strings.Repeat("k", 300), "DKIM", doctor.RecordMissing),
		},
		Reverse: []doctor.Reverse{{
			Record: doctor.Record{Name: "5.113.0.203.in-addr.arpa", Type: "PTR", Value: "mailout.ofc.widget.com", For: "reverse record", Status: doctor.RecordMissing},
			Addr:   netip.MustParseAddr("203.0.113.5"), Words: "Write: “Please set it.”",
		}},
		Notes: []string{"Something was left out."},
	}
}

func printed(t *testing.T, cmd recordsCmd) (out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	if err := cmd.print(&globals{Stdout: &o, Stderr: &e}, recordsPlan()); err != nil {
		t.Fatal(err)
	}
	return o.String(), e.String()
}

// TestRecordsOfOthersSayNothingToTheTerminal: what stands in DNS is others' text.
func TestRecordsOfOthersSayNothingToTheTerminal(t *testing.T) {
	const evil = "v=spf1 x=\x1b]0;owned\a\u009b2J\x7f\n\revil é -all"
	r := doctor.Record{Name: "widget.com", Type: "TXT", Value: evil, For: "SPF", Status: doctor.RecordDiffers, Zone: "widget.com", Now: []string{evil}}
	plan := &doctor.Plan{Records: []doctor.Record{r}, Reverse: []doctor.Reverse{{Record: doctor.Record{Name: "x", Type: "PTR", Value: "x"}, Words: evil}}, Notes: []string{evil}}
	for _, cmd := range []recordsCmd{{}, {Zone: true}, {JSON: true}} {
		var o, e bytes.Buffer
		if err := cmd.print(&globals{Stdout: &o, Stderr: &e}, plan); err != nil {
			t.Fatal(err)
		}
		if out := o.String() + e.String(); strings.ContainsAny(out, "\x1b\a\r\u009b\x7f") {
			t.Errorf("%+v: %q", cmd, out)
		}
		var list []doctor.Record
		if cmd.JSON && (json.Unmarshal(o.Bytes(), &list) != nil || list[0].Value != evil) {
			t.Errorf("%s", o.String())
		}
		if cmd.Zone && strings.Contains(o.String(), "\nevil") {
			t.Errorf("%q", o.String())
		}
	}
}

func TestRecordsZone(t *testing.T) {
	out, errs := printed(t, recordsCmd{Zone: true})
	want := "; host name: differs\n; in place of: mailout.ofc.widget.com. IN A 203.0.113.4\nmailout.ofc.widget.com. IN A 203.0.113.5\n" +
		"\n; SPF: published\nwidget.com. IN TXT \"v=spf1 ip4:203.0.113.5 ~all\"\n" +
		"\n; DKIM: missing\nm1._domainkey.widget.com. IN TXT \"" + strings.Repeat("k", 255) + "\" \"" + strings.Repeat("k", 45) + "\"\n" +
		"\n; reverse record: missing\n; 5.113.0.203.in-addr.arpa. IN PTR mailout.ofc.widget.com.\n; Write: “Please set it.”\n\n; Something was left out.\n"
	if out != want || errs != "" {
		t.Errorf("%s\n%s", out, errs)
	}
}

func TestRecordsJSON(t *testing.T) {
	out, errs := printed(t, recordsCmd{JSON: true})
	var list []map[string]any
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 4 || strings.Count(out, "\n") != 1 {
		t.Fatal(err, out)
	}
	for _, r := range list {
		if len(r) != 5 || r["name"] == "" || r["type"] == "" || r["value"] == "" || r["for"] == "" || r["status"] == "" {
			t.Errorf("%v", r)
		}
	}
	if list[3]["type"] != "PTR" || errs != "Something was left out.\n" {
		t.Errorf("%v %q", list[3], errs)
	}
}

func TestRecordsTable(t *testing.T) {
	out, _ := printed(t, recordsCmd{})
	for _, part := range []string{
		"Records to enter for the domain widget.com\n", "  differs    host name\n    name   mailout.ofc\n    type   A\n    value  203.0.113.5\n    in place of  203.0.113.4\n",
		"name   @\n", "value  \"kkk", "Reverse record of 203.0.113.5: mailout.ofc.widget.com (missing)\n  Write:", "Something was left out.\n",
		"Of 4 records 1 is published, 1 differs, 2 are missing. A name",
	} {
		if !strings.Contains(out, part) {
			t.Errorf("no %q in\n%s", part, out)
		}
	}
}

func TestRecordsUsage(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "mailout.toml")
	if err := os.WriteFile(file, []byte(doctorConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--zone", "--json"}, {"--timeout", "0s"}} {
		var out, errs bytes.Buffer
		if status := run(append([]string{"records", "--config", file}, args...), strings.NewReader(""), &out, &errs); status != exitUsage || out.Len() != 0 {
			t.Errorf("%v: %d %q %q", args, status, out.String(), errs.String())
		}
	}
	var out, errs bytes.Buffer
	if status := run([]string{"records", "--config", file + ".not"}, strings.NewReader(""), &out, &errs); status != exitConfig || !strings.Contains(errs.String(), "mailout setup") {
		t.Errorf("%d %q", status, errs.String())
	}
}

// TestRecordsAsksDNS runs the command against a name server: what is published
// is compared, and after what it says is published, all of it is.
func TestRecordsAsksDNS(t *testing.T) {
	t.Parallel()
	names := mtatest.NewDNS()
	if err := names.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(names.Stop)
	err := names.Add("widget.example. SOA ns.widget.example. h.widget.example. 1 7200 3600 604800 300\nwidget.example. NS ns.widget.example.\nns.widget.example. A 203.0.113.53\n" +
		"widget.example. MX 10 mx.widget.example.\nwidget.example. TXT \"v=spf1 include:s.example -all\"\ns.example. TXT \"v=spf1 ip4:198.51.100.0/24 -all\"")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "mailout.toml")
	text := fmt.Sprintf("hostname = \"mailout.ofc.widget.example\"\nspool = \"spool\"\npostmaster = \"postmaster@widget.example\"\n[dns]\nservers = [%q]\nhosts_file = \"\"\n"+
		"[delivery]\nipv6 = false\n[[source]]\nip = \"127.0.0.1\"\n[identity]\npublic_ip = [\"203.0.113.5\"]\nreflectors = []\nprobes = []\n", names.Addr())
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	records := func() map[string]string {
		var out, errs bytes.Buffer
		if status := run([]string{"records", "--config", file, "--json"}, strings.NewReader(""), &out, &errs); status != 0 {
			t.Fatalf("%d %s", status, errs.String())
		}
		var list []doctor.Record
		if err := json.Unmarshal(out.Bytes(), &list); err != nil {
			t.Fatal(err, out.String())
		}
		got := map[string]string{}
		for _, r := range list {
			got[r.Zoned()] = string(r.Status)
		}
		return got
	}
	first := records()
	for record, status := range map[string]string{
		"mailout.ofc.widget.example. IN A 203.0.113.5":                                             "missing",
		"mailout.ofc.widget.example. IN TXT \"v=spf1 a -all\"":                                     "missing",
		"widget.example. IN TXT \"v=spf1 ip4:203.0.113.5 include:s.example -all\"":                 "differs",
		"_dmarc.widget.example. IN TXT \"v=DMARC1; p=none; rua=mailto:postmaster@widget.example\"": "missing",
		"5.113.0.203.in-addr.arpa. IN PTR mailout.ofc.widget.example.":                             "missing",
	} {
		if first[record] != status {
			t.Errorf("%s is %q, want %s, among %v", record, first[record], status, first)
		}
	}
	names.Remove("widget.example", 16) // TXT: the old SPF record goes
	for record := range first {
		if err := names.Add(record); err != nil {
			t.Fatal(err)
		}
	}
	for record, status := range records() {
		if status != "published" {
			t.Errorf("%s is %s after it was published", record, status)
		}
	}
}
