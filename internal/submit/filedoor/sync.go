package filedoor

import "os"

// PageOfNames is how many names of a directory are read at once.
const PageOfNames = 1000

// SyncDirectory makes the names in a directory durable.
func SyncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
