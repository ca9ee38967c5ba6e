// Package internal holds no code: its test keeps the house in order. It reads
// the imports of every package and fails when one reaches up a floor, or
// sideways where no neighbour is named; and it fails when a package does not
// say what it does, what it must not do and who owns its goroutines.
package internal

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
)

const module = "mailout/"

// floors gives every package its floor (docs/design.md, section 5). A package
// that is missing here fails the test: decide where it belongs first.
var floors = map[string]int{
	"internal/mta":      0,
	"internal/smtp":     0,
	"internal/header":   0,
	"internal/dsn":      0,
	"internal/eightbit": 0,
	"internal/lint":     0,
	"internal/retry":    0,
	"internal/shape":    0,
	"internal/spf":      0,

	"client": 1,

	"internal/account":           1,
	"internal/bounce":            0,
	"internal/compose":           1,
	"internal/dkim":              1,
	"internal/dns":               1,
	"internal/dnssec":            1,
	"internal/dnsupdate":         1,
	"internal/keyring":           1,
	"internal/lookup":            1,
	"internal/spool":             1,
	"internal/spool/conformance": 1,
	"internal/spool/pebble":      1,
	"internal/smtpclient":        1,
	"internal/tlspolicy":         1,

	"internal/acme":            2,
	"internal/oauth":           2,
	"internal/route":           2,
	"internal/transport":       2,
	"internal/queue":           2,
	"internal/control":         2,
	"internal/events":          2,
	"internal/submit":          2,
	"internal/submit/drop":     2,
	"internal/submit/dropin":   2,
	"internal/rest":            2,
	"internal/submit/filedoor": 2,
	"internal/submit/pickup":   2,
	"internal/submit/httpapi":  2,
	"internal/submit/smtpd":    2,
	"internal/suppress":        2,
	"internal/returns":         2,
	"internal/unsubscribe":     2,
	"internal/journal":         2,
	"internal/doctor":          2,
	"internal/standing":        2,
	"internal/tlsrpt":          2,
	"internal/warmup":          2,

	"internal/admin":  3,
	"internal/config": 3,
	"internal/daemon": 3,
	"internal/setup":  3,

	"internal/mtatest": 4,
	"cmd/mailout":      5,
}

// neighbours names the imports inside one floor that are allowed, each with
// its reason. Everyone may import internal/mta.
var neighbours = map[[2]string]string{
	{"internal/header", "internal/smtp"}:                    "a Received field and a From made from the envelope use the address grammar",
	{"internal/dsn", "internal/smtp"}:                       "reports print and parse addresses and xtext",
	{"internal/dsn", "internal/header"}:                     "reports are made of header fields",
	{"internal/eightbit", "internal/header"}:                "conversion reads Content-* fields",
	{"internal/lint", "internal/header"}:                    "a message is judged by its header fields",
	{"internal/lint", "internal/smtp"}:                      "addresses are judged by the grammar of the envelope",
	{"internal/tlspolicy", "internal/dns"}:                  "TLSA and TXT records, and addresses of policy hosts, are asked for",
	{"internal/dns", "internal/dnssec"}:                     "answers of servers that nobody vouches for are checked",
	{"internal/dnsupdate", "internal/dns"}:                  "the servers of a zone are asked as the doctor asks them",
	{"internal/dkim", "internal/dns"}:                       "a key signs when the servers of its zone have its record",
	{"internal/spool/pebble", "internal/spool"}:             "an engine implements the contract",
	{"internal/spool/pebble", "internal/spool/conformance"}: "an engine's test runs the suite",
	{"internal/spool/conformance", "internal/spool"}:        "the suite tests the contract",
	{"internal/tlsrpt", "internal/submit"}:                  "reports are handed to intake, as messages are",
	{"internal/submit", "internal/queue"}:                   "the reporter implements the queue's interface",
	{"internal/rest", "internal/submit"}:                    "a refusal of intake is told as a problem",
	{"internal/submit/httpapi", "internal/rest"}:            "a door registers its operations",
	{"internal/submit/dropin", "internal/rest"}:             "a door registers its operations",
	{"internal/returns", "internal/submit"}:                 "what comes back is taken by a door, as messages are",
	{"internal/returns", "internal/queue"}:                  "the report that goes on is asked for as the queue asks",
	{"internal/returns", "internal/suppress"}:               "addresses that came back are put on the list",
	{"internal/suppress", "internal/rest"}:                  "the list registers its operations",
	{"internal/events", "internal/rest"}:                    "the feed registers its operations",
	{"internal/submit/dropin", "internal/rest"}:             "endpoints are registered and refuse as the others do",
	{"internal/submit/dropin", "internal/submit/httpapi"}:   "requests of other shapes become messages of that door",
	{"internal/submit/drop", "internal/submit"}:             "a door hands messages to intake",
	{"internal/submit/drop", "internal/submit/filedoor"}:    "doors that take files share how",
	{"internal/submit/httpapi", "internal/submit"}:          "a door hands messages to intake",
	{"internal/submit/httpapi", "internal/rest"}:            "a door of the HTTP API shares its problems and scopes",
	{"internal/submit/pickup", "internal/submit"}:           "a door hands messages to intake",
	{"internal/submit/pickup", "internal/submit/filedoor"}:  "doors that take files share how",
	{"internal/submit/filedoor", "internal/submit"}:         "files are handed to intake",
	{"internal/submit/smtpd", "internal/submit"}:            "a door hands messages to intake",
	{"internal/transport", "internal/queue"}:                "the carrier implements the queue's interface; queue never imports transport",
	{"internal/control", "internal/queue"}:                  "commands are orders that the queue carries out",
	{"internal/daemon", "internal/admin"}:                   "the daemon builds all parts",
	{"internal/daemon", "internal/config"}:                  "the daemon builds all parts from the configuration",
	{"internal/setup", "internal/config"}:                   "the set-up drafts and writes a configuration",
	{"internal/admin", "internal/config"}:                   "the control API reports configuration errors with their positions",
}

// ioBans are standard packages that floor 0 must not import, each with its
// reason: pure code is tested without a world around it.
var ioBans = map[string]string{
	"os": "no files", "net": "no network (net/netip is a value)", "net/http": "no network",
	"log": "no log", "log/slog": "no log", "math/rand": "no randomness", "math/rand/v2": "no randomness",
	"crypto/rand": "no randomness", "crypto/tls": "no network", "os/exec": "no processes", "syscall": "no system", "sync": "no goroutines",
}

type pkg struct {
	path    string // relative to the module
	doc     string
	imports map[string][]string // import path → files, tests left out
	gos     []string            // positions of go statements
}

func TestImportsStayOnTheirFloor(t *testing.T) {
	for _, p := range packages(t) {
		floor, known := floors[p.path]
		if !known {
			t.Errorf("%s has no floor: add it to floors in internal/floors_test.go", p.path)
			continue
		}
		for imp, files := range p.imports {
			if why := forbidden(p.path, floor, imp); why != "" {
				t.Errorf("%s imports %s (%s): %s", p.path, imp, strings.Join(files, ", "), why)
			}
		}
	}
}

// forbidden gives the reason why a package may not import another, or "".
func forbidden(path string, floor int, imp string) string {
	if floor == 0 {
		if why, banned := ioBans[imp]; banned {
			return "floor 0 is pure: " + why
		}
	}
	target, ours := strings.CutPrefix(imp, module)
	if !ours || target == "internal/mta" && path != "client" {
		return ""
	}
	if target == "internal/mtatest" && path != "cmd/mailout" {
		return "mtatest serves tests, `mailout demo` and `mailout sink` only"
	}
	if path == "internal/mta" {
		return "mta imports the standard library only"
	}
	if path == "client" {
		return "client is for programs elsewhere, and imports the standard library only"
	}
	up, known := floors[target]
	switch {
	case !known:
		return "the imported package has no floor"
	case up > floor:
		return fmt.Sprintf("floor %d may not import floor %d", floor, up)
	case up == floor && neighbours[[2]string{path, target}] == "":
		return fmt.Sprintf("both are on floor %d and the pair is not among the named neighbours", floor)
	}
	return ""
}

func TestFloorZeroStartsNoGoroutine(t *testing.T) {
	for _, p := range packages(t) {
		if floors[p.path] == 0 && len(p.gos) > 0 {
			t.Errorf("%s is pure and starts goroutines at %s", p.path, strings.Join(p.gos, ", "))
		}
	}
}

func TestPackagesHaveDocs(t *testing.T) {
	for _, p := range packages(t) {
		doc := strings.ToLower(p.doc)
		if len(doc) < 120 {
			t.Errorf("%s: the package doc must say what it does, what it must not do, and who owns its goroutines", p.path)
			continue
		}
		if !strings.Contains(doc, "goroutine") && !strings.Contains(doc, "pure") {
			t.Errorf("%s: the package doc does not say who owns its goroutines", p.path)
		}
	}
}

func TestTheFloorsTestCanFail(t *testing.T) {
	cases := []struct{ path, imp string }{
		{"internal/queue", "mailout/internal/transport"},
		{"internal/mta", "mailout/internal/smtp"},
		{"client", "mailout/internal/mta"},
		{"internal/smtp", "net"},
		{"internal/spool", "mailout/internal/queue"},
		{"internal/submit", "mailout/internal/mtatest"},
		{"internal/dns", "mailout/internal/config"},
	}
	for _, c := range cases {
		if forbidden(c.path, floors[c.path], c.imp) == "" {
			t.Errorf("%s importing %s was not refused", c.path, c.imp)
		}
	}
}

// TestNoTestSleeps holds the rule that tests use virtual time or a signal.
func TestNoTestSleeps(t *testing.T) {
	walkGo(t, func(path string, _ *token.FileSet, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, isIdent := sel.X.(*ast.Ident); isIdent && x.Name == "time" && sel.Sel.Name == "Sleep" {
				if !strings.HasSuffix(path, "_test.go") || !usesSyncTest(f) {
					t.Errorf("%s calls time.Sleep; use a timer with a context, or virtual time in tests", path)
				}
			}
			return true
		})
	})
}

// usesSyncTest reports whether a file's sleeps are in virtual time.
func usesSyncTest(f *ast.File) bool {
	for _, imp := range f.Imports {
		if imp.Path.Value == `"testing/synctest"` {
			return true
		}
	}
	return false
}

// TestFuzzTargetsHaveSeeds fails when a fuzz target has neither a committed
// corpus nor an f.Add.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	walkGo(t, func(path string, _ *token.FileSet, f *ast.File) {
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || !strings.HasPrefix(fn.Name.Name, "Fuzz") || fn.Recv != nil || !strings.HasSuffix(path, "_test.go") {
				continue
			}
			dir := filepath.Join(filepath.Dir(path), "testdata", "fuzz", fn.Name.Name)
			entries, _ := os.ReadDir(dir) //nolint:errcheck // a missing folder is an empty one
			if len(entries) == 0 && !callsAdd(fn) {
				t.Errorf("%s: %s has no committed seeds", path, fn.Name.Name)
			}
		}
	})
}

func callsAdd(fn *ast.FuncDecl) bool {
	found := false
	ast.Inspect(fn, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
			found = true
		}
		return !found
	})
	return found
}

// packages reads every package of the module except test-only folders.
func packages(t *testing.T) []*pkg {
	t.Helper()
	byPath := map[string]*pkg{}
	walkGo(t, func(path string, fset *token.FileSet, f *ast.File) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "../test/") || strings.HasPrefix(path, "../bench/") {
			return
		}
		dir := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(path, "../")))
		p := byPath[dir]
		if p == nil {
			p = &pkg{path: dir, imports: map[string][]string{}}
			byPath[dir] = p
		}
		if f.Doc != nil {
			p.doc += f.Doc.Text()
		}
		for _, imp := range f.Imports {
			name, err := strconv.Unquote(imp.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			p.imports[name] = append(p.imports[name], filepath.Base(path))
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if g, ok := n.(*ast.GoStmt); ok {
				p.gos = append(p.gos, fset.Position(g.Pos()).String())
			}
			return true
		})
	})
	var out []*pkg
	for _, p := range byPath {
		out = append(out, p)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].path < out[j].path })
	return out
}

// walkGo parses every Go file of the module.
func walkGo(t *testing.T, visit func(path string, fset *token.FileSet, f *ast.File)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", "testdata", "root", "state", "debs":
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		fset := token.NewFileSet()
		f, perr := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if perr != nil {
			return perr
		}
		visit(filepath.ToSlash(path), fset, f)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
