package internal

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The tables in docs/rfc say for each requirement of an RFC where it is met, and
// by which test that is held:
//
//	| § | requirement | where | test |
//	| 3.1 | MUST: … | tlsrpt/record.go | `TestParseRecords` |
//
// Files are those of internal/ or of the repository. A requirement that is none of
// ours says "not applicable: why" in its last column.

var (
	rfcFile = regexp.MustCompile(`[\w./-]+\.(?:go|sh|tsv|py|pl)\b`)
	rfcTest = regexp.MustCompile("`((?:Test|Fuzz|Benchmark|Example)\\w*)`")
)

// TestRequirementTables holds that each file and each test that is named exists,
// and that no requirement is without.
func TestRequirementTables(t *testing.T) {
	pages, err := filepath.Glob("../docs/rfc/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no tables: %v", err)
	}
	tests := testNames(t)
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		rows := rfcRows(string(text))
		if len(rows) == 0 {
			t.Errorf("%s has no table", page)
		}
		for _, cells := range rows {
			for _, wrong := range wrongRow(cells, tests) {
				t.Errorf("%s: § %s: %s", page, cells[0], wrong)
			}
		}
	}
}

// rfcRows gives the rows of the tables of a page, without their heads.
func rfcRows(text string) (rows [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		line = strings.ReplaceAll(strings.Trim(line, "|"), `\|`, "\x00")
		cells := strings.Split(line, "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(strings.ReplaceAll(cells[i], "\x00", "|"))
		}
		if cells[0] == "§" || strings.Trim(cells[0], "-: ") == "" {
			continue
		}
		rows = append(rows, cells)
	}
	return rows
}

// wrongRow says what is wrong with a row.
func wrongRow(cells []string, tests map[string]bool) (wrong []string) {
	if len(cells) != 4 {
		return []string{"the row does not have four columns"}
	}
	if cells[0] == "" || cells[1] == "" {
		wrong = append(wrong, "no section or no requirement")
	}
	if why, is := strings.CutPrefix(cells[3], "not applicable:"); is {
		if strings.TrimSpace(why) == "" {
			wrong = append(wrong, "no reason why it is not applicable")
		}
		return wrong
	}
	files := rfcFile.FindAllString(cells[2], -1)
	if len(files) == 0 {
		wrong = append(wrong, "no file is named")
	}
	for _, file := range files {
		if !exists(file) && !exists("../"+file) {
			wrong = append(wrong, "there is no "+file)
		}
	}
	named := rfcTest.FindAllStringSubmatch(cells[3], -1)
	if len(named) == 0 {
		wrong = append(wrong, "no test is named")
	}
	for _, m := range named {
		if !tests[m[1]] {
			wrong = append(wrong, "there is no "+m[1])
		}
	}
	return wrong
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// testNames are the names of all test functions of the module.
func testNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	walkGo(t, func(path string, _ *token.FileSet, f *ast.File) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names[fn.Name.Name] = true
			}
		}
	})
	return names
}

// TestRequirementTablesCanFail shows each fault of a row to be seen.
func TestRequirementTablesCanFail(t *testing.T) {
	tests := map[string]bool{"TestGood": true}
	for row, want := range map[string]string{
		"| 1 | MUST x | rfc_test.go | `TestGood` |":                          "",
		"| 1 | MUST x | internal/rfc_test.go, floors_test.go | `TestGood` |": "",
		"| 1 | MUST x | | not applicable: we receive no mail |":              "",
		"| 1 | MUST x | | not applicable: |":                                 "no reason why it is not applicable",
		"| 1 | MUST x | gone.go | `TestGood` |":                              "there is no gone.go",
		"| 1 | MUST x | here | `TestGood` |":                                 "no file is named",
		"| 1 | MUST x | rfc_test.go | `TestGone` |":                          "there is no TestGone",
		"| 1 | MUST x | rfc_test.go | |":                                     "no test is named",
		"| 1 | MUST x | rfc_test.go |":                                       "the row does not have four columns",
		"| 1 | | rfc_test.go | `TestGood` |":                                 "no section or no requirement",
	} {
		rows := rfcRows("| § | requirement | where | test |\n| --- | --- | --- | --- |\n" + row + "\n")
		if len(rows) != 1 {
			t.Fatalf("%s has %d rows", row, len(rows))
		}
		if got := strings.Join(wrongRow(rows[0], tests), "; "); got != want {
			t.Errorf("%s\ngot  %q\nwant %q", row, got, want)
		}
	}
}
