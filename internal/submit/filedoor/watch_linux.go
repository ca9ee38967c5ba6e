package filedoor

import (
	"bytes"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// Watch calls seen for what happens to names in the directory, as far as it is
// in want, until the function that it gives is called; that waits for the last
// call to end. nil: the system cannot, and polling must do. On a network file
// system only what this machine does is seen.
func Watch(dir string, want Event, seen func(name string, what Event)) (stop func()) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	if _, err := unix.InotifyAddWatch(fd, dir, mask(want)); err != nil {
		unix.Close(fd)
		return nil
	}
	file := os.NewFile(uintptr(fd), "inotify")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := file.Read(buf)
			if err != nil { // closed
				return
			}
			readEvents(buf[:n], seen)
		}
	}()
	return func() {
		file.Close()
		<-done
	}
}

func mask(want Event) (m uint32) {
	for _, e := range []struct {
		event Event
		mask  uint32
	}{
		{Arrived, unix.IN_MOVED_TO},
		{Written, unix.IN_CLOSE_WRITE},
		{Changed, unix.IN_CREATE | unix.IN_MODIFY | unix.IN_MOVED_FROM | unix.IN_DELETE},
	} {
		if want&e.event != 0 {
			m |= e.mask
		}
	}
	return m
}

// readEvents takes apart what inotify gave: a header of 16 octets, then the
// name, filled up with NULs.
func readEvents(b []byte, seen func(string, Event)) {
	for len(b) >= unix.SizeofInotifyEvent {
		bits := binary.NativeEndian.Uint32(b[4:])
		size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:]))
		if size > len(b) {
			return
		}
		name, _, _ := bytes.Cut(b[unix.SizeofInotifyEvent:size], []byte{0})
		b = b[size:]
		switch {
		case bits&unix.IN_Q_OVERFLOW != 0:
			seen("", Missed)
		case bits&unix.IN_MOVED_TO != 0:
			seen(string(name), Arrived)
		case bits&unix.IN_CLOSE_WRITE != 0:
			seen(string(name), Written)
		case len(name) > 0:
			seen(string(name), Changed)
		}
	}
}
