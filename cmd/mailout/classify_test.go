package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	rules := filepath.Join(t.TempDir(), "rules.tsv")
	if err := os.WriteFile(rules, []byte("user_moved\t-\t-\tno such user\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	wrong := filepath.Join(t.TempDir(), "rules.tsv")
	if err := os.WriteFile(wrong, []byte("\nmoved\t-\t-\tno such user\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(t.TempDir(), "mailout.toml")
	if err := os.WriteFile(own, []byte("hostname = \"out.example.com\"\n[[classify]]\nclass = \"virus\"\ntext = \"such (user|thing)\"\nmx = [\"*.example\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(t.TempDir(), "mailout.toml")
	if err := os.WriteFile(bad, []byte("hostname = \"out.example.com\"\n[[classify]]\nclass = \"virus\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		name, in, out, errs string
		args                []string
		status              int
	}{
		{"columns", "550\t5.1.1\tno such user here\tmore\n\t4.7.1\tGreylisted\n", "user_unknown\tremove\ngreylisted\tretry\n", "", nil, 0},
		{"replies", "550 5.1.1 no such user\n452-4.2.2 mailbox full\r\nsomething\n\n", "user_unknown\tremove\nmailbox_full\tretry\nother\tunclear\nother\tunclear\n", "", nil, 0},
		{"nothing", "", "", "", nil, 0},
		{"own rules", "550 no such user\n", "user_moved\tremove\n", "", []string{"--rules", rules}, 0},
		{"configured, another server", "550 no such user\n", "user_unknown\tremove\n", "", []string{"--config", own}, 0},
		{"configured", "550 No such USER\n", "virus\tcontent\n", "", []string{"--config", own, "--mx", "mx.example"}, 0},
		{"rules before configured", "550 no such user\n", "user_moved\tremove\n", "", []string{"--config", own, "--mx", "mx.example", "--rules", rules}, 0},
		{"wrong configuration", "", "", "mailout: " + bad + ":3:9: [[classify]] class: stands without code, enhanced or text: it would fit every reply (write one of them)\n", []string{"--config", bad}, exitConfig},
		{"no configuration", "", "", "mailout: open " + bad + "x: no such file or directory\n", []string{"--config", bad + "x"}, exitConfig},
		{"wrong rules", "550 no such user\n", "", "mailout: " + wrong + ": line 2: \"moved\" is not a class\n", []string{"--rules", wrong}, exitData},
	} {
		t.Run(v.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			status := run(append([]string{"classify"}, v.args...), strings.NewReader(v.in), &out, &errs)
			if out.String() != v.out || errs.String() != v.errs || status != v.status {
				t.Errorf("%q, %q, %d", out.String(), errs.String(), status)
			}
		})
	}
}
