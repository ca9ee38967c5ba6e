//go:build unix

package drop

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// noFollow refuses a symbolic link, and does not wait for the writer of a FIFO.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// ours reports whether a file is the process's user's; root takes all.
func ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	euid := os.Geteuid()
	return !ok || euid == 0 || int(st.Uid) == euid
}

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

// links is how many names a file has.
func links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink) //nolint:unconvert // its type differs by system
	}
	return 1
}

// ownerOf names the account that a file belongs to.
func ownerOf(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	uid := strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return u.Username
	}
	return "uid " + uid
}
