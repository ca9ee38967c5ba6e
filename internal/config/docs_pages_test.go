package config

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// secrets stand in the pages as dots.
var secrets = strings.NewReplacer(
	"sha256:…", "sha256:"+strings.Repeat("0", 64),
	"whsec_…", "whsec_"+strings.Repeat("MfKQ", 8),
)

// TestDocsFragments: what any page or the README shows as configuration is
// accepted. docs/design.md shows what is to come too.
func TestDocsFragments(t *testing.T) {
	t.Parallel()
	for _, file := range pages(t) {
		if filepath.Base(file) == "design.md" {
			continue
		}
		for _, m := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(read(t, file), -1) {
			text := secrets.Replace(m[1])
			if !regexp.MustCompile(`(?m)^hostname\s`).MatchString(beforeTables(text)) {
				text = host + text
			}
			if _, err := Parse("f", []byte(text)); err != nil {
				t.Errorf("%s:\n%s\n%v", filepath.Base(file), m[1], err)
			}
		}
	}
}

// TestDocsKeys: a key that a guide from another mailer names is there.
func TestDocsKeys(t *testing.T) {
	t.Parallel()
	keys := 0
	for _, file := range pages(t) {
		if !strings.HasPrefix(filepath.Base(file), "coming-from-") {
			continue
		}
		for _, m := range regexp.MustCompile("`(\\[\\[?[a-z.]+\\]\\]?) ([a-z_]+)( = [^`]*)?`").FindAllStringSubmatch(read(t, file), -1) {
			keys++
			tbl := findTable(strings.Trim(m[1], "[]"))
			if tbl == nil || tbl.key(m[2]) == nil {
				t.Errorf("%s: there is no %s %s", filepath.Base(file), m[1], m[2])
			}
		}
	}
	if keys < 30 {
		t.Errorf("%d keys found: is the pattern still right?", keys)
	}
}

// beforeTables is the text up to the first table.
func beforeTables(text string) string {
	if i := regexp.MustCompile(`(?m)^\[`).FindStringIndex(text); i != nil {
		return text[:i[0]]
	}
	return text
}

func pages(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(list) < 10 {
		t.Fatalf("%d pages, %v", len(list), err)
	}
	return append(list, "../../README.md")
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
