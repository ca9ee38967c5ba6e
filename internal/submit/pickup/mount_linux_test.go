package pickup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRoomOnAnotherFileSystem: files could not be moved there in one step.
func TestRoomOnAnotherFileSystem(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	room := filepath.Join(dir, "bad")
	if err := os.Mkdir(room, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", room, "tmpfs", 0, "size=1m"); err != nil {
		t.Skip("no file system can be mounted here: ", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(room, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	_, _, err := open(dir, "bad", "", nil)
	if !errors.Is(err, ErrDirectory) || !strings.Contains(err.Error(), "on another file system") {
		t.Error(err)
	}
}
