//go:build unix

package drop

import (
	"io/fs"
	"syscall"
)

// reading says by which right the daemon reads a file.
type reading uint8

const (
	readByNobody reading = iota
	readByOwner          // it is its own file, or it is root
	readByGroup          // once the group may
)

func readers(room, file fs.FileInfo) reading {
	r, ok := room.Sys().(*syscall.Stat_t)
	f, ok2 := file.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !ok2 || r.Uid == f.Uid || r.Uid == 0:
		return readByOwner
	case r.Gid == f.Gid:
		return readByGroup
	}
	return readByNobody
}
