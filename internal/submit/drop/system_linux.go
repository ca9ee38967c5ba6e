package drop

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// syncName makes the name of a file that was just renamed durable. Whoever may
// not read the directory cannot open it for a sync of its own; then the whole
// file system is synced, which needs no more than a file of it.
func syncName(dir string, file *os.File) error {
	err := syncDirectory(dir)
	if errors.Is(err, fs.ErrPermission) {
		return unix.Syncfs(int(file.Fd()))
	}
	return err
}

// freeSpace is what others than root may still write, in octets.
func freeSpace(dir string) (int64, bool) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, false
	}
	return int64(st.Bavail) * st.Bsize, true
}

// watch signals files that get a name in the directory, until the function it
// gives is called. nil, nil when the system cannot: then polling must do.
func watch(dir string, signal chan<- struct{}) (stop func()) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil
	}
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MOVED_TO); err != nil {
		unix.Close(fd)
		return nil
	}
	file := os.NewFile(uintptr(fd), "inotify")
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 16<<10)
		for {
			if _, err := file.Read(buf); err != nil { // closed
				return
			}
			select {
			case signal <- struct{}{}:
			default: // one is pending
			}
		}
	}()
	return func() {
		file.Close()
		<-done
	}
}
