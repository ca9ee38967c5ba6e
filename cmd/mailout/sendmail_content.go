package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
)

// errTooLarge says that a message passes [limits] message_size.
var errTooLarge = errors.New("too large")

// inMemory is how much of a message is kept in memory; more goes to a file
// without a name. It is more than any header that intake takes.
const inMemory = 2 << 20

// kept holds one message until the daemon or the drop folder has it: it may
// have to be sent twice, and nothing is sent before all of it is there.
type kept struct {
	limit int64
	mem   []byte
	file  *os.File // what is beyond mem; nil: nothing
	size  int64
}

func newKept(limit int64) *kept { return &kept{limit: limit} }

// Write implements io.Writer.
func (k *kept) Write(p []byte) (int, error) {
	if k.size+int64(len(p)) > k.limit {
		return 0, errTooLarge
	}
	n := min(len(p), inMemory-len(k.mem))
	k.mem = append(k.mem, p[:n]...)
	k.size += int64(n)
	if n == len(p) {
		return n, nil
	}
	if k.file == nil {
		f, err := os.CreateTemp("", "mailout-")
		if err != nil {
			return n, err
		}
		k.file = f
		os.Remove(f.Name()) // where the system cannot yet, Close does
	}
	more, err := k.file.Write(p[n:])
	k.size += int64(more)
	return n + more, err
}

// from gives the content from an offset within mem; each call begins anew.
func (k *kept) from(at int) io.Reader {
	if k.file == nil {
		return bytes.NewReader(k.mem[at:])
	}
	return io.MultiReader(bytes.NewReader(k.mem[at:]), io.NewSectionReader(k.file, 0, k.size-int64(len(k.mem))))
}

// Close frees the file.
func (k *kept) Close() {
	if k.file != nil {
		k.file.Close()
		os.Remove(k.file.Name())
	}
}

// dotEnd reads until a line that is a dot alone, or to the end.
type dotEnd struct {
	in    *bufio.Reader
	line  []byte // what is left of the line being given out
	start bool   // the next octet begins a line
	ended bool
}

func newDotEnd(r io.Reader) *dotEnd {
	return &dotEnd{in: bufio.NewReaderSize(r, 64<<10), start: true}
}

// Read implements io.Reader.
func (d *dotEnd) Read(p []byte) (int, error) {
	for len(d.line) == 0 {
		if d.ended {
			return 0, io.EOF
		}
		// A line longer than the buffer comes in pieces; only the first can be a
		// dot alone.
		line, err := d.in.ReadSlice('\n')
		if d.start && string(bytes.TrimRight(line, "\r\n")) == "." {
			d.ended = true
			return 0, io.EOF
		}
		d.start = len(line) > 0 && line[len(line)-1] == '\n'
		d.line = line
		switch {
		case errors.Is(err, io.EOF):
			d.ended = true
		case err != nil && !errors.Is(err, bufio.ErrBufferFull):
			return 0, err
		}
	}
	n := copy(p, d.line)
	d.line = d.line[n:]
	return n, nil
}
