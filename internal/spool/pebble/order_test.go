package pebble

import (
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A crash right behind the creation of a marker finds the manifest that it
// names.
func TestTheManifestIsThereBeforeItsMarker(t *testing.T) {
	mem := vfs.NewCrashableMem()
	if err := mem.MkdirAll("db", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syncDir(mem, ""); err != nil {
		t.Fatal(err)
	}
	fs := orderedFS{mem}
	for _, name := range []string{"db/MANIFEST-000002", "db/marker.manifest.000001.MANIFEST-000002"} {
		file, err := fs.Create(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := mem.CrashClone(vfs.CrashCloneCfg{}).Stat("db/MANIFEST-000002"); err != nil {
		t.Error(err)
	}
}
