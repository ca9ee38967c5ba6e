package daemon

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"mailout/internal/config"
)

// TestReloadMakesNoOpenRelay: a door that takes mail does not become one that
// serves everybody by a reload, nor the other way round: that needs a restart.
func TestReloadMakesNoOpenRelay(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "mailout.toml")
	write := func(ordinary, back string) *config.Config {
		t.Helper()
		text := fmt.Sprintf("hostname = \"mail.example.com\"\nspool = %q\n[dns]\nservers = [\"127.0.0.1:9\"]\ntimeout = \"100ms\"\nhosts_file = \"\"\n"+
			"[returns]\ndomain = \"bounces.example.com\"\n[[listen]]\naddress = \"127.0.0.1:0\"\ntrusted = []\n%s\n[[listen]]\naddress = \"127.0.0.2:0\"\ntrusted = [\"127.0.0.0/8\"]\n%s\n",
			filepath.Join(dir, "spool"), ordinary, back)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := config.Load(path)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	d := New(Options{ConfigPath: path, Config: write("", "returns = true"), Logger: slog.New(slog.DiscardHandler)})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stopped, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Stop(stopped); err != nil {
			t.Error(err)
		}
	}()
	look := func(when string) {
		t.Helper()
		for i, want := range []string{"550 5.7.1", "550 5.1.1"} {
			c := dial(t, d, i)
			c.say("HELO stranger", "250")
			c.say("MAIL FROM:<a@elsewhere.example>", "250")
			if got := c.say("RCPT TO:<b@victim.example>", ""); len(got) < len(want) || got[:len(want)] != want {
				t.Errorf("%s: door %d answers %q", when, i, got)
			}
			c.conn.Close()
		}
	}
	look("at first")
	write("returns = true", "")
	r, err := d.Reload(t.Context())
	if err != nil || !slices.Equal(r.NeedsRestart, []string{"listen.1.returns", "listen.2.returns"}) {
		t.Errorf("%+v, %v", r, err)
	}
	look("after a reload")
	write("returns = true", "")
	if _, err := d.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	look("after another")
}
