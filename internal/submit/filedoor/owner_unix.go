//go:build unix

package filedoor

import (
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"mailout/internal/mta"
)

// NoFollow refuses a symbolic link, and does not wait for the writer of a FIFO.
const NoFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

// Ours reports whether a file is the process's user's; root takes all.
func Ours(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	euid := os.Geteuid()
	return !ok || euid == 0 || int(st.Uid) == euid
}

// Links is how many names a file has.
func Links(info fs.FileInfo) uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Nlink) //nolint:unconvert // its type differs by system
	}
	return 1
}

// Identity tells files apart that have the same name one after the other.
func Identity(info fs.FileInfo) [2]uint64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return [2]uint64{uint64(st.Dev), uint64(st.Ino)} //nolint:unconvert // their types differ by system
	}
	return [2]uint64{}
}

// OwnerOf names the account that a file belongs to, as mta.LocalUser does.
func OwnerOf(info fs.FileInfo) string {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return ""
	}
	uid := strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(uid); err == nil {
		return mta.LocalUser(u.Username)
	}
	return mta.LocalUser("uid " + uid)
}
