package doctor

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEveryCheckIsDocumented holds the table of docs/doctor.md: a row for each
// check, in the order in which they are shown, with the statuses that it can
// have and the test that shows it in each of them.
func TestEveryCheckIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/doctor.md")
	if err != nil {
		t.Fatal(err)
	}
	uses := identifiers(t)
	row := regexp.MustCompile("(?m)^\\| `([a-z0-9.]+)` \\| [^|]+ \\| ([a-z, ]+) \\| [^|]*\\| `(\\w+)` \\|$")
	var order []string
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		id, statuses, test := m[1], strings.Split(m[2], ", "), m[3]
		order = append(order, id)
		if want := "TestCheck_" + strings.ReplaceAll(id, ".", "_"); test != want {
			t.Errorf("%s: the test is to be called %s, not %s", id, want, test)
		}
		if uses[test] == nil {
			t.Errorf("%s: there is no %s", id, test)
			continue
		}
		reached := reach(uses, test)
		for _, status := range statuses {
			if name := statusNames[status]; name == "" || !reached[name] {
				t.Errorf("%s can be %s, says the page, and %s does not show it", id, status, test)
			}
		}
	}
	var want []string
	for _, e := range IDs {
		want = append(want, e.ID)
	}
	if !slices.Equal(order, want) {
		t.Errorf("the table has\n%q\nwant\n%q", order, want)
	}
}

// statusNames are the constants by which tests name the statuses.
var statusNames = map[string]string{"pass": "Pass", "warn": "Warn", "fail": "Fail", "skip": "Skip", "unknown": "Unknown"}

// identifiers are those that each function of the tests uses.
func identifiers(t *testing.T) map[string]map[string]bool {
	t.Helper()
	files, err := filepath.Glob("*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]bool{}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Name.Name == "mustBe" {
				continue
			}
			used := map[string]bool{}
			ast.Inspect(fn, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					used[id.Name] = true
				}
				return true
			})
			out[fn.Name.Name] = used
		}
	}
	return out
}

// reach adds what the functions use that a function calls.
func reach(uses map[string]map[string]bool, name string) map[string]bool {
	out := map[string]bool{}
	queue := []string{name}
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		for id := range uses[next] {
			if !out[id] {
				out[id] = true
				if uses[id] != nil {
					queue = append(queue, id)
				}
			}
		}
	}
	return out
}
