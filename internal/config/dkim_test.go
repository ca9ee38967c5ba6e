package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLooseKeys: a key that everybody may read is a warning with its place.
func TestLooseKeys(t *testing.T) {
	t.Parallel()
	if !permissionsMean {
		t.Skip("no modes here")
	}
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"open": 0o604, "shut": 0o640} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "mailout.toml")
	text := host
	for _, name := range []string{"shut", "open", "gone"} {
		text += "[[dkim]]\ndomain = \"a.example\"\nselector = \"" + name + "\"\nkey = \"" + filepath.Join(dir, name) + "\"\n"
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	loose := c.LooseKeys()
	if len(loose) != 1 || !strings.HasPrefix(loose[0].Error(), file+":6:1: [[dkim]] key: ") || !strings.Contains(loose[0].Error(), "chmod 600 "+filepath.Join(dir, "open")) {
		t.Error(loose)
	}
}
