package internal

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// trapRows is how many rows docs/traps.md has; the list only grows.
const trapRows = 46

var (
	trapTest  = regexp.MustCompile("`([a-z0-9]+)\\.(Test[A-Za-z0-9_]+)(?:/([a-z0-9-]+))?`")
	ticked    = regexp.MustCompile("`[^`]*`")
	rowNumber = regexp.MustCompile(`^TestTrap(\d+)(?:_(\d+)_)?`)
)

// TestTrapsAreTested: every row of docs/traps.md names tests, or what is to
// come, and every test that it names is in the tree.
func TestTrapsAreTested(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../docs/traps.md")
	if err != nil {
		t.Fatal(err)
	}
	known := testsOfTheTree(t)
	row := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		n, err := strconv.Atoi(strings.TrimSpace(cells[0]))
		if err != nil {
			continue // no row
		}
		if row++; n != row || len(cells) != 4 {
			t.Fatalf("row %d of %d cells stands where row %d of 4 should", n, len(cells), row)
		}
		checkRow(t, n, strings.TrimSpace(cells[3]), known)
	}
	if row < trapRows {
		t.Errorf("%d rows of %d", row, trapRows)
	}
}

func checkRow(t *testing.T, n int, cell string, known map[string]string) {
	t.Helper()
	later := strings.HasPrefix(cell, "later: ")
	named := trapTest.FindAllStringSubmatch(cell, -1)
	if len(named) == 0 && !later {
		t.Errorf("row %d names no test", n)
	}
	if !later && len(named) != len(ticked.FindAllString(cell, -1)) {
		t.Errorf("row %d: not all of %s are tests", n, cell)
	}
	ours := 0
	for _, m := range named {
		dir, ok := known[m[1]+"."+m[2]]
		if !ok {
			t.Errorf("row %d: there is no %s in package directory %s", n, m[2], m[1])
			continue
		}
		if number := strconv.Itoa(n); belongs(m[2], number) || strings.HasPrefix(m[3], "trap"+number+"-") {
			ours++
		}
		if m[3] == "" {
			continue
		}
		if files, _ := filepath.Glob(filepath.Join(dir, "testdata", "*", m[3]+".*")); len(files) == 0 {
			t.Errorf("row %d: %s has no file for %s/%s", n, dir, m[2], m[3])
		}
	}
	if ours == 0 && !later {
		t.Errorf("row %d has no test of its own name", n)
	}
}

// belongs reports whether a test's name says that it is a row's.
func belongs(name, row string) bool {
	m := rowNumber.FindStringSubmatch(name)
	return m != nil && (strings.TrimLeft(m[1], "0") == row || strings.TrimLeft(m[2], "0") == row)
}

// testsOfTheTree gives the directory of every test function by "DIR.TestName",
// where DIR is the last part of the directory's name.
func testsOfTheTree(t *testing.T) map[string]string {
	t.Helper()
	known := make(map[string]string)
	for _, root := range []string{".", "../cmd", "../test"} {
		err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			dir := filepath.Dir(path)
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
					known[filepath.Base(dir)+"."+fn.Name.Name] = dir
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return known
}
