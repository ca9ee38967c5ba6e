//go:build !linux && !darwin && !freebsd && !windows

package doctor

import "errors"

func clockKept() (bool, error) { return false, errors.ErrUnsupported }

func fileSystem(string) (FileSystem, error) { return FileSystem{}, errors.ErrUnsupported }

func openFiles() (uint64, error) { return 0, errors.ErrUnsupported }
