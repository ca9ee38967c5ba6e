package lookup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func texts(path string) *File[string] {
	return NewFile(FileOptions[string]{Path: path,
		Key: func(s string) (string, error) {
			if s == "bad" {
				return "", errors.New("bad key")
			}
			return strings.ToLower(s), nil
		},
		Value: func(s string) (string, error) {
			if s == "bad" {
				return "", errors.New("bad value")
			}
			return s, nil
		}})
}

// write replaces a file, and makes its time another one whatever the clock does.
func write(t *testing.T, path, text string) {
	t.Helper()
	old, _ := os.Stat(path)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	if old != nil {
		at = old.ModTime().Add(time.Second)
	}
	if err := os.Chtimes(path, at, at); err != nil {
		t.Fatal(err)
	}
}

func TestFileLines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	long := strings.Repeat("v", MaxLine-2)
	for _, c := range []struct{ text, want, wrong string }{
		{text: "", want: "map[]"},
		{text: "# only\n\n  \r\n\t# comments", want: "map[]"},
		{text: "A one\r\nb\t two three \nc one", want: "map[a:one@1 b:two three@2 c:one@3]"},
		{text: "a one\nA one\n", want: "map[a:one@1]"},
		{text: "a one\nb two\na three\n", wrong: `:3: "a" stands on line 1 already, with another value`},
		{text: "a one\nalone\n", wrong: `:2: "alone" has nothing behind it`},
		{text: "\nbad one\n", wrong: ":2: bad key"},
		{text: "x bad\n", wrong: ":1: bad value"},
		{text: "x \xff\n", wrong: ":1: this is no text in UTF-8"},
		{text: "x a\x00b\n", wrong: ":1: this is no text in UTF-8"},
		{text: "k " + long + "\n", wrong: ":1: longer than 4096 octets"},
		{text: "k " + long, want: "map[k:" + long + "@1]"},
	} {
		write(t, path, c.text)
		f := texts(path)
		changed, err := f.Refresh()
		if c.wrong != "" {
			var at *LineError
			if err == nil || !errors.As(err, &at) || err.Error() != path+c.wrong || changed || f.Ready() || f.Err() == nil {
				t.Errorf("%.40q: %v %v", c.text, changed, err)
			}
			continue
		}
		got := map[string]string{}
		for _, key := range []string{"a", "b", "c", "k"} {
			if v, line, ok := f.Get(key); ok {
				got[key] = fmt.Sprintf("%s@%d", v, line)
			}
		}
		if err != nil || !changed || fmt.Sprint(got) != c.want || f.Len() != len(got) {
			t.Errorf("%.40q: %v %v %v", c.text, changed, err, got)
		}
	}
}

// TestFileChanges: what was read stays until the file is another one that can be
// read; a fault is told once; a file that is being written is left alone.
func TestFileChanges(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	f := texts(path)
	step := func(what string, changed bool, failing, want string) {
		t.Helper()
		did, err := f.Refresh()
		if did != changed || (err != nil) != (failing != "") || err != nil && !strings.Contains(err.Error(), failing) {
			t.Fatalf("%s: %v %v", what, did, err)
		}
		if v, _, _ := f.Get("a"); v != want {
			t.Fatalf("%s: %q", what, v)
		}
	}
	step("none", false, "no such file", "")
	step("none, again", false, "", "")
	write(t, path, "a one\n")
	step("first", true, "", "one")
	step("the same", false, "", "one")
	write(t, path, "a two\n")
	step("just changed", false, "", "one")
	write(t, path, "a three\n")
	step("changed once more", false, "", "one")
	step("still for one look", true, "", "three")
	write(t, path, "a four\nb\n")
	step("broken, just changed", false, "", "three")
	step("broken", false, ":2: ", "three")
	step("broken, again", false, "", "three")
	if f.Err() == nil {
		t.Error("it is broken, and nobody says so")
	}
	write(t, path, "a five\nc\n")
	step("broken otherwise", false, "", "three")
	step("broken otherwise", false, ":2: ", "three")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	step("gone", false, "no such file", "three")
	write(t, path, "a six\n")
	step("back", false, "", "three")
	step("back", true, "", "six")
	if f.Err() != nil {
		t.Error(f.Err())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	step("a folder", false, "no regular file", "six")
}

// TestFileIsAMap: whatever stands in a file is found, and nothing else.
func TestFileIsAMap(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.MapOfN(rapid.StringMatching(`[a-z]{1,3}(\.[a-z]{1,200})?`), rapid.SampledFrom([]string{"x", "y", "z w"}), 0, 300).Draw(t, "lines")
		var b strings.Builder
		for k, v := range want {
			b.WriteString(k + " " + v + "\n")
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		delete(want, "bad")
		f := texts(path)
		if _, err := f.Refresh(); err != nil && !strings.Contains(err.Error(), "bad key") {
			t.Fatal(err)
		} else if err != nil {
			return
		}
		for k, v := range want {
			if got, _, ok := f.Get(k); !ok || got != v {
				t.Fatalf("%q: %q %v", k, got, ok)
			}
			if _, _, ok := f.Get(k + "-"); ok {
				t.Fatalf("%q is there", k+"-")
			}
		}
		if f.Len() != len(want) {
			t.Fatalf("%d of %d", f.Len(), len(want))
		}
	})
}

// TestFileMemory: a line costs its key and about 16 octets.
func TestFileMemory(t *testing.T) {
	const lines = 300_000
	path := filepath.Join(t.TempDir(), "table")
	var b strings.Builder
	keys := 0
	for i := range lines {
		key := fmt.Sprintf("domain%d.example", i)
		keys += len(key)
		b.WriteString(key + " mx.example:2525\n")
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Reset()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f := texts(path)
	if _, err := f.Refresh(); err != nil || f.Len() != lines {
		t.Fatal(f.Len(), err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	got := int64(after.HeapAlloc) - int64(before.HeapAlloc)
	if most := int64(keys + 18*lines + 2*chunkSize); got > most {
		t.Errorf("%d octets for %d lines with %d octets of keys", got, lines, keys)
	}
	if v, line, ok := f.Get("domain299999.example"); !ok || line != lines || v != "mx.example:2525" {
		t.Error(v, line, ok)
	}
	runtime.KeepAlive(f)
}

// TestFileIsBounded: lines and values beyond the bounds are refused.
func TestFileIsBounded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "table")
	var b strings.Builder
	for i := range MaxValues + 1 {
		fmt.Fprintf(&b, "k%d v%d\n", i, i)
	}
	write(t, path, b.String())
	if _, err := texts(path).Refresh(); err == nil || !strings.HasSuffix(err.Error(), fmt.Sprintf(":%d: more than %d different values", MaxValues+1, MaxValues)) {
		t.Error(err)
	}
	few := texts(path)
	if few.lines != MaxLines {
		t.Error(few.lines)
	}
	few.lines = 100
	write(t, path, strings.Repeat("\n", 100))
	if _, err := few.Refresh(); err != nil {
		t.Error(err)
	}
	few = texts(path)
	few.lines = 99
	if _, err := few.Refresh(); err == nil || !strings.HasSuffix(err.Error(), ":100: more than 99 lines") {
		t.Error(err)
	}
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{"a one\nb two\n", "# c\r\n\r\n", "a\tb\n", "a b\na c\n", "\xff x\n", "a" + strings.Repeat(" ", 5000) + "b", "a b"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "table")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		table := texts(path)
		_, err := table.Refresh()
		var at *LineError
		if err != nil && (!errors.As(err, &at) || at.Line < 1) {
			t.Fatal(err)
		}
		if (err == nil) != table.Ready() || table.Len() > strings.Count(string(data), "\n")+1 {
			t.Fatal(err, table.Len())
		}
	})
}
