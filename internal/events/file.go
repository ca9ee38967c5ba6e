package events

// The file of events: one JSON object a line, appended, synced, and only then
// counted as written. When it is large or old enough it is renamed, compressed
// and, in its turn, removed.
//
// A crash may leave a line that is torn; the next start cuts it off. It may
// leave lines that the cursor does not know of; their last one tells where to go
// on, so the file has no line twice either. A file that is rotated and not
// compressed is compressed at the next occasion.
//
// Whoever else moves the file away (logrotate) is noticed before the next write.

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"mailout/internal/mta"
	"mailout/internal/spool"
)

// File is where events are written as lines.
type File struct {
	Path     string        // empty: nowhere
	Size     int64         // octets at which the file is rotated
	Age      time.Duration // of the oldest line, likewise
	Keep     int           // rotated files at most
	KeepSize int64         // octets of them at most
	Filter   Filter
}

func (f *File) equal(o *File) bool {
	return f.Path == o.Path && f.Size == o.Size && f.Age == o.Age && f.Keep == o.Keep && f.KeepSize == o.KeepSize && f.Filter.equal(&o.Filter)
}

// rotatedTime is the form of the time in the name of a rotated file.
const rotatedTime = "20060102T150405.000Z"

// compressed is what is appended to the name of a compressed file.
const compressed = ".zst"

// fileOutput writes the file.
type fileOutput struct {
	conf  File
	f     *os.File
	size  int64     // of what is safe
	begun time.Time // when its first line was written; zero: it has none
}

func newFileFollower(o *Options, conf File) *liner {
	return &liner{
		name: "file", feed: o.Feed, filter: conf.Filter, log: o.Logger, told: &telling{kind: "file", name: conf.Path},
		out: &fileOutput{conf: conf}, as: func(s *Settings) bool { return s.File.equal(&conf) },
	}
}

// render implements output.
func (o *fileOutput) render(at spool.Position, r *mta.Record) ([]byte, error) {
	text, err := appendEvent(nil, at, r)
	return append(text, '\n'), err
}

// last implements output.
func (o *fileOutput) last() spool.Position {
	if o.open() != nil || o.size == 0 {
		return spool.Position{}
	}
	text, err := lastLine(o.f, o.size)
	if err != nil {
		return spool.Position{}
	}
	var e struct{ ID string }
	if json.Unmarshal(text, &e) != nil || len(e.ID) <= mta.IDLength+1 {
		return spool.Position{}
	}
	at, err := spool.ParsePosition(e.ID[mta.IDLength+1:])
	if err != nil {
		return spool.Position{}
	}
	return at
}

// open opens the file, makes it when it is not there, and cuts off a line that
// a crash has torn.
func (o *fileOutput) open() error {
	if o.f != nil {
		return nil
	}
	dir := filepath.Dir(o.conf.Path)
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	if info, err := os.Stat(o.conf.Path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", o.conf.Path)
	}
	f, err := os.OpenFile(o.conf.Path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return err
	}
	if err := o.adopt(f); err != nil {
		_ = f.Close()
		return err
	}
	return nil
}

// adopt looks at what an opened file has.
func (o *fileOutput) adopt(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	whole, err := wholeLines(f, info.Size())
	if err != nil {
		return err
	}
	if whole, err = mend(f, whole, info.Size()); err != nil {
		return err
	}
	// What a run that was cut short wrote may not be safe yet, nor the name.
	if err := f.Sync(); err != nil {
		return err
	}
	if err := syncDir(filepath.Dir(o.conf.Path)); err != nil {
		return err
	}
	o.f, o.size, o.begun = f, whole, time.Time{}
	if whole > 0 {
		o.begun = firstTime(f, info.ModTime())
	}
	return nil
}

// mend makes a file end with a line end: it cuts off what was torn, and ends
// what is not of our making.
func mend(f *os.File, whole, size int64) (int64, error) {
	if whole == size {
		return whole, nil
	}
	const begins = `{"id":"`
	tail := make([]byte, min(size-whole, int64(len(begins))))
	if _, err := f.ReadAt(tail, whole); err != nil {
		return 0, err
	}
	if !strings.HasPrefix(begins, string(tail)) {
		_, err := f.WriteAt([]byte{'\n'}, size)
		return size + 1, err
	}
	return whole, f.Truncate(whole)
}

// wholeLines is the size of a file without a torn last line.
func wholeLines(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(int64(len(buf)), end)
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// lastLine is the last line of whole lines.
func lastLine(f io.ReaderAt, size int64) ([]byte, error) {
	begin, err := wholeLines(f, size-1)
	if err != nil {
		return nil, err
	}
	const most = 16 << 20
	text := make([]byte, min(size-1-begin, most))
	_, err = f.ReadAt(text, begin)
	return text, err
}

// firstTime is the time of a file's first line; or instead, when it has none.
func firstTime(f io.ReaderAt, instead time.Time) time.Time {
	head := make([]byte, 4<<10)
	n, _ := f.ReadAt(head, 0)
	_, rest, ok := bytes.Cut(head[:n], []byte(`"timestamp":"`))
	if !ok {
		return instead
	}
	text, _, _ := bytes.Cut(rest, []byte{'"'})
	t, err := time.Parse(time.RFC3339, string(text))
	if err != nil {
		return instead
	}
	return t
}

// write implements output: all lines are safe, or none.
func (o *fileOutput) write(ctx context.Context, lines []line) (int, error) {
	if err := o.current(); err != nil {
		return 0, err
	}
	if err := o.rotateIfDue(ctx); err != nil {
		return 0, err
	}
	if o.begun.IsZero() {
		o.begun = time.Now()
	}
	var text bytes.Buffer
	for _, l := range lines {
		text.Write(l.text)
	}
	if err := o.append(text.Bytes()); err != nil {
		o.close() // the next open cuts off what was half written
		return 0, err
	}
	return len(lines), nil
}

// append writes behind what is safe, and makes it safe. What a failed try left
// there is written over.
func (o *fileOutput) append(text []byte) error {
	_, err := o.f.WriteAt(text, o.size)
	if err == nil {
		err = o.f.Sync()
	}
	if err != nil {
		_ = o.f.Truncate(o.size)
		return err
	}
	o.size += int64(len(text))
	return nil
}

// current makes sure that the file at the path is the one that is open.
func (o *fileOutput) current() error {
	if o.f != nil {
		there, err := os.Stat(o.conf.Path)
		ours, err2 := o.f.Stat()
		if err != nil || err2 != nil || !os.SameFile(there, ours) || ours.Size() != o.size {
			o.close()
		}
	}
	return o.open()
}

// tick implements output.
func (o *fileOutput) tick(ctx context.Context) error {
	if err := o.current(); err != nil {
		return err
	}
	if err := o.rotateIfDue(ctx); err != nil {
		return err
	}
	return o.tidy(ctx)
}

// rotateIfDue renames the file when it is large or old enough.
func (o *fileOutput) rotateIfDue(ctx context.Context) error {
	if o.size == 0 || o.size < o.conf.Size && time.Since(o.begun) < o.conf.Age {
		return nil
	}
	o.close()
	now := time.Now().UTC()
	name := o.rotated(now)
	for taken(name) || taken(name+compressed) {
		now = now.Add(time.Millisecond)
		name = o.rotated(now)
	}
	if err := os.Rename(o.conf.Path, name); err != nil {
		return err
	}
	if err := o.open(); err != nil { // syncs the directory
		return err
	}
	return o.tidy(ctx)
}

func taken(name string) bool {
	_, err := os.Lstat(name)
	return !errors.Is(err, fs.ErrNotExist)
}

// rotated is the name of a file that is rotated now.
func (o *fileOutput) rotated(now time.Time) string {
	ext := filepath.Ext(o.conf.Path)
	return strings.TrimSuffix(o.conf.Path, ext) + "-" + now.Format(rotatedTime) + ext
}

// isRotated reports whether a name in the file's directory is one of ours.
func (o *fileOutput) isRotated(name string) bool {
	base := filepath.Base(o.conf.Path)
	ext := filepath.Ext(base)
	name = strings.TrimSuffix(name, compressed)
	rest, ok := strings.CutPrefix(name, strings.TrimSuffix(base, ext)+"-")
	if !ok {
		return false
	}
	if rest, ok = strings.CutSuffix(rest, ext); !ok {
		return false
	}
	_, err := time.Parse(rotatedTime, rest)
	return err == nil
}

// tidy compresses what is rotated, and removes the oldest of it.
func (o *fileOutput) tidy(ctx context.Context) error {
	dir := filepath.Dir(o.conf.Path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string // oldest first: so the times sort
	for _, e := range entries {
		switch name := e.Name(); {
		case o.isRotated(name):
			names = append(names, name)
		case strings.HasSuffix(name, tempSuffix) && o.isRotated(strings.TrimSuffix(name, tempSuffix)):
			_ = os.Remove(filepath.Join(dir, name)) // left by a crash
		}
	}
	for i, name := range names {
		if strings.HasSuffix(name, compressed) {
			continue
		}
		full := filepath.Join(dir, name)
		if err := compress(ctx, full); err != nil {
			return err
		}
		names[i] = name + compressed
	}
	slices.Sort(names)
	return o.removeOldest(dir, slices.Compact(names))
}

// removeOldest leaves as many rotated files as may stay.
func (o *fileOutput) removeOldest(dir string, names []string) error {
	var octets int64
	for i := len(names) - 1; i >= 0; i-- {
		full := filepath.Join(dir, names[i])
		info, err := os.Lstat(full)
		if err != nil {
			continue
		}
		octets += info.Size()
		if len(names)-i > o.conf.Keep || octets > o.conf.KeepSize {
			if err := os.Remove(full); err != nil {
				return err
			}
		}
	}
	return nil
}

// tempSuffix ends the name of a file that is being compressed.
const tempSuffix = ".tmp"

// compress makes NAME.zst of NAME: whole, safe, and only then without NAME.
func compress(ctx context.Context, name string) (err error) {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	temp := name + compressed + tempSuffix
	out, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = out.Close()
			_ = os.Remove(temp)
		}
	}()
	z, err := zstd.NewWriter(out, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if _, err = io.Copy(z, untilDone{ctx, in}); err != nil {
		_ = z.Close()
		return err
	}
	if err = z.Close(); err != nil {
		return err
	}
	if err = out.Sync(); err != nil {
		return err
	}
	if err = out.Close(); err != nil {
		return err
	}
	if err = os.Rename(temp, name+compressed); err != nil {
		return err
	}
	if err = syncDir(filepath.Dir(name)); err != nil {
		return err
	}
	return os.Remove(name)
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (u untilDone) Read(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(p)
}

// syncDir makes the names in a directory durable. Systems without such a thing
// refuse it, and keep names anyway.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrInvalid) && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// close implements output.
func (o *fileOutput) close() {
	if o.f != nil {
		_ = o.f.Close() // what was written was synced
		o.f = nil
	}
}
