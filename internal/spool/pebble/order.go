package pebble

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// orderedFS makes the names in a directory durable before a marker is created
// there. pebble creates a manifest and then the marker that names it, and syncs
// the directory once, behind both: a file system that keeps names in another
// order than they were made could have the marker alone after a crash, and the
// store would not open. Manifests change seldom; it costs a sync each time.
type orderedFS struct{ vfs.FS }

// markerPrefix is what pebble's marker files begin with.
const markerPrefix = "marker."

// Create implements vfs.FS.
func (f orderedFS) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if strings.HasPrefix(f.PathBase(name), markerPrefix) {
		if err := syncDir(f.FS, f.PathDir(name)); err != nil {
			return nil, err
		}
	}
	return f.FS.Create(name, category)
}

// Unwrap implements vfs.FS.
func (f orderedFS) Unwrap() vfs.FS { return f.FS }
