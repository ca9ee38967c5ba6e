package doctor

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

func clockKept() (bool, error) { return false, errors.ErrUnsupported }

func fileSystem(dir string) (FileSystem, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return FileSystem{}, err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(path, &free, nil, nil); err != nil {
		return FileSystem{}, &os.PathError{Op: "GetDiskFreeSpaceEx", Path: dir, Err: err}
	}
	return FileSystem{Free: free}, nil
}

func openFiles() (uint64, error) { return 0, errors.ErrUnsupported }
