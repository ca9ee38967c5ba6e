package smtpd

import (
	"bytes"
	"errors"
	"sync"
)

// The sizes of a session's read buffer: small while it waits for commands,
// large while content flows. 1,000 idle sessions hold 4 MB.
const (
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
)

var (
	smallPool = sync.Pool{New: func() any { return new([smallBuffer]byte) }}
	largePool = sync.Pool{New: func() any { return new([largeBuffer]byte) }}
)

// errLineTooLong says that a command line was beyond its limit; it has been
// read to its end.
var errLineTooLong = errors.New("command line too long")

// input is a session's read buffer. It does not know the connection: fill is
// given by the session, which flushes replies and sets deadlines first.
type input struct {
	small *[smallBuffer]byte
	large *[largeBuffer]byte // nil while not in use
	buf   []byte             // the whole of small or large
	r, w  int                // buf[r:w] is unread
}

func (in *input) init() {
	in.small = smallPool.Get().(*[smallBuffer]byte)
	in.buf = in.small[:]
}

// release gives the buffers back; nothing may be read any more.
func (in *input) release() {
	if in.large != nil {
		largePool.Put(in.large)
		in.large = nil
	}
	smallPool.Put(in.small)
	in.small, in.buf, in.r, in.w = nil, nil, 0, 0
}

// buffered is what can be read without waiting.
func (in *input) buffered() []byte { return in.buf[in.r:in.w] }

func (in *input) consume(n int) {
	in.r += n
	if in.r == in.w {
		in.r, in.w = 0, 0
	}
}

// grow goes over to the large buffer.
func (in *input) grow() {
	if in.large != nil {
		return
	}
	in.large = largePool.Get().(*[largeBuffer]byte)
	in.w = copy(in.large[:], in.buffered())
	in.r, in.buf = 0, in.large[:]
}

// shrink goes back to the small buffer as soon as what is unread fits.
func (in *input) shrink() {
	if in.large == nil || in.w-in.r > smallBuffer/2 {
		return
	}
	in.w = copy(in.small[:], in.buffered())
	in.r, in.buf = 0, in.small[:]
	largePool.Put(in.large)
	in.large = nil
}

// free makes room and gives it; it is empty only when the buffer is full of
// unread octets.
func (in *input) free() []byte {
	if in.r > 0 {
		in.w = copy(in.buf, in.buffered())
		in.r = 0
	}
	return in.buf[in.w:]
}

// line takes the next line, its LF included, from the buffer. It reports
// false when there is none yet; a line longer than limit is errLineTooLong,
// and skipping is true until its end has been seen.
func (in *input) line(limit int, skipping *bool) (line []byte, ok bool, err error) {
	b := in.buffered()
	i := bytes.IndexByte(b, '\n')
	switch {
	case *skipping && i < 0:
		in.consume(len(b))
		return nil, false, nil
	case *skipping:
		in.consume(i + 1)
		*skipping = false
		return nil, true, errLineTooLong
	case i >= limit:
		in.consume(i + 1)
		return nil, true, errLineTooLong
	case i >= 0:
		in.consume(i + 1)
		return b[:i+1], true, nil
	case len(b) >= limit:
		*skipping = true
		in.consume(len(b))
	}
	return nil, false, nil
}
