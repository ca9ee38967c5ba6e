package doctor

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// clockKept asks the kernel: a time service clears STA_UNSYNC, and the kernel
// sets it again when the service has been silent for long.
func clockKept() (bool, error) {
	var t unix.Timex
	if _, err := unix.Adjtimex(&t); err != nil {
		return false, fmt.Errorf("adjtimex: %w", err)
	}
	return t.Status&unix.STA_UNSYNC == 0, nil
}

func fileSystem(dir string) (FileSystem, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return FileSystem{}, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	fs := FileSystem{Free: s.Bavail * uint64(s.Bsize), Inodes: s.Files, FreeInodes: s.Ffree}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	if abs, err := filepath.Abs(dir); err == nil {
		dir = abs
	}
	if table, err := os.ReadFile("/proc/self/mountinfo"); err == nil {
		fs.Kind, fs.Options = mountOf(string(table), dir)
	}
	return fs, nil
}

// mountOf finds the mount that a path is on in the text of mountinfo (proc(5)):
// of the longest mount points that contain it the last, which covers the
// others.
func mountOf(table, path string) (kind string, options []string) {
	longest := -1
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		sep := 6
		for sep < len(fields) && fields[sep] != "-" { // optional fields
			sep++
		}
		if sep+3 >= len(fields) {
			continue
		}
		point := unescapeMount(fields[4])
		if !below(path, point) || len(point) < longest {
			continue
		}
		longest = len(point)
		kind = fields[sep+1]
		options = append(strings.Split(fields[5], ","), strings.Split(fields[sep+3], ",")...)
	}
	return kind, options
}

func below(path, point string) bool {
	return path == point || strings.HasPrefix(path, strings.TrimSuffix(point, "/")+"/")
}

// unescapeMount undoes the octal form of white space in mount points.
func unescapeMount(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func openFiles() (uint64, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("getrlimit: %w", err)
	}
	return r.Cur, nil // the runtime has raised it as far as it may go
}
