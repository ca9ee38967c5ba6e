// Command summary reads `go test -json` on standard input and prints what a
// person wants of it: a line a package, the output of what failed, each
// distinct reason for a skip, and at the end "N passed, N failed, N skipped".
// It ends with status 1 when anything failed or no test ran. It starts no
// goroutine.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sort"
	"strings"
)

type event struct {
	Action  string
	Package string
	Test    string
	Elapsed float64
	Output  string
}

type tally struct {
	passed, failed, skipped int
	output                  map[string][]string // test → its lines, until it ends
	skips                   map[string][]string // reason → tests
	out                     io.Writer
}

func main() {
	t := &tally{output: map[string][]string{}, skips: map[string][]string{}, out: os.Stdout}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 64<<10), 16<<20)
	for in.Scan() {
		var e event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Fprintln(t.out, in.Text()) // build errors are plain text
			continue
		}
		t.take(e)
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, "summary: reading the test output:", err)
		os.Exit(1)
	}
	t.close()
	if t.failed > 0 || t.passed == 0 {
		os.Exit(1)
	}
}

func (t *tally) take(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output", "build-output":
		t.output[key] = append(t.output[key], e.Output)
	case "pass", "fail", "skip":
		t.end(e, key)
		delete(t.output, key)
	}
}

func (t *tally) end(e event, key string) {
	if e.Test == "" {
		t.endPackage(e, key)
		return
	}
	switch e.Action {
	case "pass":
		t.passed++
		t.results(key)
	case "fail":
		t.failed++
		fmt.Fprintf(t.out, "--- FAIL %s %s\n%s", e.Package, e.Test, strings.Join(t.output[key], ""))
	case "skip":
		t.skipped++
		t.skips[skipReason(t.output[key])] = append(t.skips[skipReason(t.output[key])], e.Test)
	}
}

func (t *tally) endPackage(e event, key string) {
	word := map[string]string{"pass": "ok  ", "fail": "FAIL", "skip": "none"}[e.Action]
	fmt.Fprintf(t.out, "%s %-40s %6.1f s\n", word, e.Package, e.Elapsed)
	if e.Action == "fail" {
		fmt.Fprint(t.out, strings.Join(t.output[key], ""))
		if e.Test == "" {
			t.failed++ // a build error or a crash, or counted beside its tests
		}
		return
	}
}

// results prints what a test says of itself: "result: … lost=0 doubled=3".
func (t *tally) results(key string) {
	for _, line := range t.output[key] {
		if strings.HasPrefix(line, "result: ") {
			fmt.Fprint(t.out, line)
		}
	}
}

// skipReason takes the last line that t.Skip printed, its position cut off.
func skipReason(lines []string) string {
	for i := len(lines) - 1; i >= 0; i-- {
		line := strings.TrimSpace(lines[i])
		if line == "" || strings.HasPrefix(line, "---") || strings.HasPrefix(line, "===") {
			continue
		}
		if _, text, found := strings.Cut(line, ".go:"); found {
			if _, text, found = strings.Cut(text, ": "); found {
				return text
			}
		}
		return line
	}
	return "no reason given"
}

func (t *tally) close() {
	reasons := make([]string, 0, len(t.skips))
	for r := range t.skips {
		reasons = append(reasons, r)
	}
	sort.Strings(reasons)
	for _, r := range reasons {
		fmt.Fprintf(t.out, "skipped %d: %s (%s)\n", len(t.skips[r]), r, strings.Join(first(t.skips[r], 3), ", "))
	}
	fmt.Fprintf(t.out, "%d passed, %d failed, %d skipped\n", t.passed, t.failed, t.skipped)
}

func first(s []string, n int) []string {
	if len(s) > n {
		return append(s[:n:n], "…")
	}
	return s
}
