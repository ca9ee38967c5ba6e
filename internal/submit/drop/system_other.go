//go:build !linux

package drop

import (
	"errors"
	"io/fs"
	"os"

	"mailout/internal/submit/filedoor"
)

// syncName makes the name of a file that was just renamed durable, as far as
// the system lets whoever may not read the directory.
func syncName(dir string, file *os.File) error {
	err := filedoor.SyncDirectory(dir)
	if errors.Is(err, fs.ErrPermission) {
		return file.Sync()
	}
	return err
}

func freeSpace(string) (int64, bool) { return 0, false }
