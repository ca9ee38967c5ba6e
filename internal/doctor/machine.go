package doctor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Machine is what the checks ask of this machine itself. A nil field asks the
// system; an error that is errors.ErrUnsupported says that it cannot tell.
type Machine struct {
	// ClockKept reports whether something keeps the clock right.
	ClockKept func() (bool, error)
	// FileSystem tells about the one that a directory is on.
	FileSystem func(dir string) (FileSystem, error)
	// SyncTime is how long a sync of a few fresh octets takes in a directory,
	// the median of several. It leaves nothing behind.
	SyncTime func(ctx context.Context, dir string) (time.Duration, error)
	// OpenFiles is how many files this process may have open.
	OpenFiles func() (uint64, error)
}

// FileSystem is what a file system says of itself.
type FileSystem struct {
	Kind       string   // "ext4"; empty: not known
	Options    []string // of its mount
	Free       uint64   // octets for this user
	Inodes     uint64   // in all; 0: it has no fixed number
	FreeInodes uint64
}

// fill puts the system where a test has put nothing.
func (m Machine) fill() Machine {
	if m.ClockKept == nil {
		m.ClockKept = clockKept
	}
	if m.FileSystem == nil {
		m.FileSystem = fileSystem
	}
	if m.SyncTime == nil {
		m.SyncTime = syncTime
	}
	if m.OpenFiles == nil {
		m.OpenFiles = openFiles
	}
	return m
}

func machineProbes() []probe {
	return []probe{
		{ids: []string{"clock"}, offline: true, run: clockCheck},
		{ids: []string{"spool.sync"}, offline: true, run: spoolSync},
		{ids: []string{"spool.space"}, offline: true, run: spoolSpace},
		{ids: []string{"files.limit"}, offline: true, run: filesLimit},
	}
}

// The bounds of a sync's time. No device that keeps what it confirms commits a
// grown file faster than the first: two writes and a flush. Past the second
// every accepted message waits noticeably.
const (
	unbelievable = 15 * time.Microsecond
	slowSync     = 100 * time.Millisecond
)

// Reasons to doubt a spool's file system.
var (
	inMemory  = []string{"tmpfs", "ramfs", "rootfs", "devtmpfs", "mfs"}
	layered   = []string{"overlay", "aufs", "unionfs", "fuse-overlayfs"}
	remote    = []string{"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ncpfs", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs"}
	unordered = []string{"nobarrier", "barrier=0", "barrier=off", "volatile", "nosync"}
)

const whySync = "Mail is accepted only once it is on stable storage. Where a sync does nothing, a power cut loses accepted mail without a trace."

// spoolSync tells whether what is synced to the spool stays.
func spoolSync(ctx context.Context, x *exam) []Check {
	c := Check{ID: "spool.sync", Subject: x.id.Spool, Status: Unknown, Why: whySync, Asked: "how long a sync takes in the spool directory, and what file system it is on"}
	if !localSpool(x.id.Spool) {
		c.Status, c.Seen = Skip, "the spool is no directory of this machine"
		return []Check{c}
	}
	m := x.world.Machine.fill()
	fs, fsErr := m.FileSystem(existing(x.id.Spool))
	if fsErr != nil {
		fs = FileSystem{}
	}
	took, err := m.SyncTime(ctx, x.id.Spool)
	doubt := fs.doubt()
	switch {
	case doubt != "":
		c.Status, c.Seen = Warn, doubt
		c.mend("", "Put the spool on a local disk (spool = \"/var/lib/mailout\"), in a container on a volume.", You)
	case err != nil && errors.Is(err, os.ErrNotExist):
		c.Seen = "the directory does not exist yet; mailout serve makes it"
	case err != nil:
		c.Seen = "it could not be tried: " + err.Error()
	case took < unbelievable:
		c.Status, c.Seen = Warn, fmt.Sprintf("a sync takes %s%s: no disk is that fast, so it does nothing", took, on(fs))
		c.mend("", "Let syncs reach the disk: no eatmydata or libeatmydata, no sync=disabled (ZFS), no write cache without a battery set to \"unsafe\" in the virtual machine.", You)
	case took > slowSync:
		c.Status, c.Seen = Warn, fmt.Sprintf("a sync takes %s%s: every accepted message waits that long", took.Round(time.Millisecond), on(fs))
		c.mend("", "Move the spool to a faster disk, or find out what else keeps this one busy.", You)
	default:
		c.Status, c.Seen = Pass, fmt.Sprintf("a sync takes %s%s", took.Round(time.Microsecond), on(fs))
	}
	return []Check{c}
}

// mend says what to do, and who.
func (c *Check) mend(command, text string, who Who) {
	c.Fix, c.Who = &Fix{Command: command, Text: text}, who
}

// on names the file system in a sentence.
func on(fs FileSystem) string {
	if fs.Kind == "" {
		return ""
	}
	return " on " + fs.Kind
}

// doubt says why what is synced to a file system may be lost; empty when there
// is no reason to think so.
func (fs FileSystem) doubt() string {
	for _, o := range fs.Options {
		if slices.Contains(unordered, o) {
			return fmt.Sprintf("%s is mounted with %s: what is synced may still be lost", fs.Kind, o)
		}
	}
	switch {
	case slices.Contains(inMemory, fs.Kind):
		return fmt.Sprintf("the spool is on %s, in memory: a restart of the machine loses it", fs.Kind)
	case slices.Contains(layered, fs.Kind):
		return fmt.Sprintf("the spool is on %s, usually a container's own layer: it is lost when the container is replaced", fs.Kind)
	case slices.Contains(remote, fs.Kind):
		return fmt.Sprintf("the spool is on %s, over a network: locks and syncs are as good as that server's, and mail stands still without it", fs.Kind)
	}
	return ""
}

// localSpool reports whether the spool is a directory, not a database.
func localSpool(spool string) bool { return spool != "" && !strings.Contains(spool, "://") }

// existing is the directory, or the nearest above that exists: the file system
// on which it would be made.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) || filepath.Dir(dir) == dir {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

// Fewer free inodes than this are a reason to look. A message takes few files,
// but the store's own work needs some at any time.
const (
	fewInodes = 10_000
	noInodes  = 500
)

const whySpace = "Below limits.spool_free new mail is refused with 452 4.3.1; on a full disk nothing can be accepted, and history cannot be written."

// spoolSpace compares free space and inodes with what the spool wants.
func spoolSpace(_ context.Context, x *exam) []Check {
	c := Check{ID: "spool.space", Subject: x.id.Spool, Status: Unknown, Why: whySpace, Asked: "free space and inodes of the spool's file system"}
	if !localSpool(x.id.Spool) {
		c.Status, c.Seen = Skip, "the spool is no directory of this machine"
		return []Check{c}
	}
	fs, err := x.world.Machine.fill().FileSystem(existing(x.id.Spool))
	if err != nil {
		c.Seen = "the system does not tell: " + err.Error()
		return []Check{c}
	}
	need := uint64(max(x.id.SpoolFree, 0))
	c.Seen = fmt.Sprintf("%s free, new mail is refused below %s", octets(fs.Free), octets(need))
	if fs.Inodes > 0 {
		c.Seen += fmt.Sprintf("; %d of %d inodes free", fs.FreeInodes, fs.Inodes)
	}
	few := fs.Inodes > 0 && fs.FreeInodes < fewInodes
	switch {
	case fs.Free < need || fs.Free == 0 || few && fs.FreeInodes < noInodes:
		c.Status = Fail
	case fs.Free < 2*need || few:
		c.Status = Warn
	default:
		c.Status = Pass
		return []Check{c}
	}
	text := "Free space on the file system of " + x.id.Spool + ", or move the spool to a larger one."
	if few {
		text = "Many small files have used up the inodes of the file system of " + x.id.Spool + ": remove some, or move the spool to another."
	}
	c.mend("", text, You)
	return []Check{c}
}

// octets gives a size for people.
func octets(n uint64) string {
	const unit = 1000
	names := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	f, i := float64(n), 0
	for f >= unit && i < len(names)-1 {
		f, i = f/unit, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, names[i])
}

const whyFiles = "Every connection and every file of the store is an open file. Without any left, \"too many open files\" ends deliveries and refuses clients when there is most to do."

// filesLimit compares the limit of open files with what the configuration may
// need.
func filesLimit(_ context.Context, x *exam) []Check {
	c := Check{ID: "files.limit", Subject: x.id.Hostname, Status: Unknown, Why: whyFiles,
		Asked: "the limit of open files (RLIMIT_NOFILE) of this process, and what the configured connections need"}
	limit, err := x.world.Machine.fill().OpenFiles()
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		c.Status, c.Seen = Skip, "this system has no such limit"
	case err != nil:
		c.Seen = "the system does not tell: " + err.Error()
	case x.id.MaxFiles == 0:
		c.Seen = fmt.Sprintf("the limit is %d; what is needed is not known", limit)
	case limit >= x.id.MaxFiles:
		c.Status, c.Seen = Pass, fmt.Sprintf("the limit is %d, needed are at most %d", limit, x.id.MaxFiles)
	default:
		c.Status, c.Seen = Warn, fmt.Sprintf("the limit is %d, needed are up to %d", limit, x.id.MaxFiles)
		if limit < x.id.MaxFiles/4 {
			c.Status = Fail
		}
		c.mend(fmt.Sprintf("systemctl edit mailout   # [Service] LimitNOFILE=%d", x.id.MaxFiles),
			fmt.Sprintf("Raise the limit to %d where the service is started (LimitNOFILE= of systemd, ulimit -Hn elsewhere), or lower the numbers of connections.", x.id.MaxFiles), You)
	}
	return []Check{c}
}
