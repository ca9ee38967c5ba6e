package config

import (
	"os"
	"path/filepath"
	"testing"
)

// TestBegin: the text stands in a new file alone, and a wrong change leaves no
// file behind.
func TestBegin(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "mailout.toml")
	if err := Begin(path, "# ours\n", Change{Key: "hostname", Value: "a_b"}); err == nil {
		t.Error("an impossible name was taken")
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Fatal("a file was written:", err)
	}
	if err := Begin(path, "# ours\n", Change{Key: "hostname", Value: "mailout.example.com"}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "# ours\nhostname = \"mailout.example.com\"\n" {
		t.Errorf("%q %v", got, err)
	}
	if err := Begin(path, "# theirs\n", Change{Key: "hostname", Value: "other.example.com"}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "# ours\nhostname = \"other.example.com\"\n" {
		t.Errorf("%q %v", got, err)
	}
}
