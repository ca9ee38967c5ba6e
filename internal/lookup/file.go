package lookup

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// The bounds of a file.
const (
	MaxLine   = 4096       // octets of one line
	MaxLines  = 10_000_000 // of one file, empty ones and comments included
	MaxValues = 65_536     // different values in one file
)

// FileOptions say what a table is made of.
type FileOptions[T any] struct {
	Path string
	// Key gives the form of a key in which Get is asked. Two lines with the same
	// key and different values are an error.
	Key func(text string) (string, error)
	// Value reads what stands behind the key, without white space at its ends. It
	// is called once for each different text.
	Value func(text string) (T, error)
}

// File is a table in a text file: a line has a key, white space and a value;
// empty lines and lines that begin with "#" do not count. What was read once
// stays until the file has changed and could be read again. It is safe for
// concurrent use.
type File[T any] struct {
	options FileOptions[T]
	lines   int                         // MaxLines; less in tests
	now     atomic.Pointer[contents[T]] // nil: nothing was ever read

	mu struct {
		sync.Mutex
		looked stamp // at the last look
		tried  stamp // that was read last, well or not
		told   string
		err    error
	}
}

type contents[T any] struct {
	store  *store
	values []T
}

// stamp tells a file from the same one changed.
type stamp struct {
	size int64
	time time.Time
	file os.FileInfo // of the same system file or not
}

func (s stamp) same(t stamp) bool {
	return s.file != nil && t.file != nil && s.size == t.size && s.time.Equal(t.time) && os.SameFile(s.file, t.file)
}

// LineError says what is wrong in a file.
type LineError struct {
	Path string
	Line int
	Text string
}

// Error gives "path:line: text".
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.Path, e.Line, e.Text) }

// NewFile makes a table of which nothing is read yet.
func NewFile[T any](o FileOptions[T]) *File[T] { return &File[T]{options: o, lines: MaxLines} }

// Get gives the value of a key and the line that it stands on. Before anything
// was read it finds nothing: ask Err.
func (f *File[T]) Get(key string) (value T, line int, ok bool) {
	c := f.now.Load()
	if c == nil {
		return value, 0, false
	}
	n, line, ok := c.store.get(key)
	if ok {
		value = c.values[n]
	}
	return value, line, ok
}

// Len gives the number of keys.
func (f *File[T]) Len() int {
	if c := f.now.Load(); c != nil {
		return c.store.count
	}
	return 0
}

// Ready reports whether the file could be read ever.
func (f *File[T]) Ready() bool { return f.now.Load() != nil }

// Err says why the file as it is now is not the table: nil when it is. A
// *LineError stands for a line that cannot be understood.
func (f *File[T]) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.mu.err
}

// Refresh looks at the file and reads it when it is another one than that read
// last. A file that is still being written (it changed since the last look) is
// left for the next look. It reports whether the table is a new one, and an
// error only when it is not the one of the last call.
func (f *File[T]) Refresh() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	changed, f.mu.err = f.look()
	text := ""
	if f.mu.err != nil {
		text = f.mu.err.Error()
	}
	if text == f.mu.told {
		return changed, nil
	}
	f.mu.told = text
	return changed, f.mu.err
}

// look is Refresh without its memory of errors.
func (f *File[T]) look() (changed bool, err error) {
	// Before it is opened: to open a pipe is to wait for who writes into it.
	if info, err := os.Stat(f.options.Path); err == nil && !info.Mode().IsRegular() {
		return false, fmt.Errorf("%s is no regular file", f.options.Path)
	}
	file, err := os.Open(f.options.Path)
	if err != nil {
		f.mu.looked, f.mu.tried = stamp{}, stamp{}
		return false, err
	}
	defer file.Close()
	before, err := stampOf(file)
	if err != nil {
		return false, err
	}
	last := f.mu.looked
	f.mu.looked = before
	if before.same(f.mu.tried) || f.Ready() && !before.same(last) {
		return false, f.mu.err
	}
	c, err := f.read(file)
	if after, serr := stampOf(file); serr == nil && !after.same(before) && f.Ready() {
		f.mu.looked = after
		return false, f.mu.err // it was written meanwhile
	}
	f.mu.tried = before
	if err != nil {
		return false, err
	}
	f.now.Store(c)
	return true, nil
}

func stampOf(file *os.File) (stamp, error) {
	info, err := file.Stat()
	if err != nil {
		return stamp{}, err
	}
	return stamp{size: info.Size(), time: info.ModTime(), file: info}, nil
}

// read reads a whole table.
func (f *File[T]) read(r io.Reader) (*contents[T], error) {
	c := &contents[T]{store: newStore()}
	known := map[string]uint32{} // texts of values
	lines := bufio.NewReaderSize(r, 64<<10)
	for n := 1; ; n++ {
		text, err := line(lines)
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil && n > f.lines {
			err = fmt.Errorf("more than %d lines", f.lines)
		}
		if err == nil {
			err = f.add(c, known, text, n)
		}
		if err != nil {
			return nil, &LineError{Path: f.options.Path, Line: n, Text: err.Error()}
		}
	}
	c.store.close()
	return c, nil
}

// line gives the next line without its end, good until the next call.
func line(r *bufio.Reader) ([]byte, error) {
	text, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) || len(text) > MaxLine {
		return nil, fmt.Errorf("longer than %d octets", MaxLine)
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(text) == 0) {
		return nil, err
	}
	return bytes.TrimSpace(text), nil
}

// add takes in one line.
func (f *File[T]) add(c *contents[T], known map[string]uint32, text []byte, n int) error {
	if len(text) == 0 || text[0] == '#' {
		return nil
	}
	if !utf8.Valid(text) || bytes.IndexByte(text, 0) >= 0 {
		return errors.New("this is no text in UTF-8")
	}
	end := bytes.IndexAny(text, " \t")
	if end < 0 {
		return fmt.Errorf("%q has nothing behind it", cut(string(text)))
	}
	key, err := f.options.Key(string(text[:end]))
	if err != nil {
		return err
	}
	raw := bytes.TrimLeft(text[end:], " \t")
	value, ok := known[string(raw)]
	if !ok {
		if value, err = f.value(c, string(raw)); err != nil {
			return err
		}
		known[string(raw)] = value
	}
	return c.store.put(key, value, n)
}

func (f *File[T]) value(c *contents[T], raw string) (uint32, error) {
	if len(c.values) == MaxValues {
		return 0, fmt.Errorf("more than %d different values", MaxValues)
	}
	v, err := f.options.Value(raw)
	if err != nil {
		return 0, err
	}
	c.values = append(c.values, v)
	return uint32(len(c.values) - 1), nil
}

// cut shortens what is quoted in an error.
func cut(s string) string {
	const most = 80
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
