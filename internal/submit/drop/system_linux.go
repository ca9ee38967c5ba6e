package drop

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"mailout/internal/submit/filedoor"
)

// syncName makes the name of a file that was just renamed durable. Whoever may
// not read the directory cannot open it for a sync of its own; then the whole
// file system is synced, which needs no more than a file of it.
func syncName(dir string, file *os.File) error {
	err := filedoor.SyncDirectory(dir)
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
