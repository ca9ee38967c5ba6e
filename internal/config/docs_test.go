package config

import (
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the tables of docs/configuration.md anew")

const page = "../../docs/configuration.md"

var marked = regexp.MustCompile(`(?s)<!-- (keys:[\w.]*) -->\n.*?<!-- end -->`)

// TestDocs: the page's tables are those of the schema, and every key stands in
// an example.
func TestDocs(t *testing.T) {
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	want := marked.ReplaceAllStringFunc(string(data), func(old string) string {
		name := marked.FindStringSubmatch(old)[1]
		seen[name] = true
		body := docTable(findTable(strings.TrimPrefix(name, "keys:")))
		return "<!-- " + name + " -->\n" + body + "<!-- end -->"
	})
	for _, tbl := range schema {
		if !seen["keys:"+tbl.name] {
			t.Errorf("no place for the keys of %q", tbl.label())
		}
	}
	if *update && want != string(data) {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(data) {
		t.Error("the tables are not those of the schema (go test ./internal/config -run TestDocs -update)")
	}
}

// docTable is the Markdown of a table's keys.
func docTable(tbl *table) string {
	var b strings.Builder
	b.WriteString("\n" + tbl.doc + "\n\n| key | type | default | applied by | meaning |\n| --- | --- | --- | --- | --- |\n")
	for _, k := range tbl.keys {
		def := "`" + k.def + "`"
		if k.required != "" {
			def = "required"
		} else if k.derive != nil {
			def = k.defWords
		}
		by := "reload"
		if !k.live {
			by = "restart"
		}
		b.WriteString("| `" + k.name + "` | " + strings.ReplaceAll(k.kindName, `"`, "`") + " | " + def + " | " + by + " | " + k.doc + " |\n")
	}
	return b.String() + "\n"
}

// TestDocsExamples: every example is accepted, and together they hold every key.
func TestDocsExamples(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]bool{}
	for _, m := range regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllStringSubmatch(string(data), -1) {
		text := m[1]
		if !strings.Contains(text, "hostname = \"mailout.") || strings.HasPrefix(text, "[[source]]") {
			text = host + text
		}
		c, err := Parse("f", []byte(text))
		if err != nil {
			t.Errorf("%s\n%v", text, err)
			continue
		}
		for full := range c.given {
			given[full] = true
		}
	}
	for _, tbl := range schema {
		for _, k := range tbl.keys {
			if !given[k.full(0)] && !given[k.full(1)] {
				t.Errorf("%s stands in no example", k.label())
			}
		}
	}
	if !strings.Contains(string(data), example) {
		t.Error("the least example is another than that of a missing file's error")
	}
}
