package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"mailout/internal/config"
)

// noteBook keeps notes in memory.
type noteBook struct {
	mu    sync.Mutex
	notes map[string][]byte
}

func (n *noteBook) Note(_ context.Context, name string) ([]byte, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.notes[name], nil
}

func (n *noteBook) Notes(context.Context, string, string, func(string, []byte) bool) error {
	return nil
}

func (n *noteBook) SetNotes(_ context.Context, changes map[string][]byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for k, v := range changes {
		n.notes[k] = v
	}
	return nil
}

func secretFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path+".new", []byte(content+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

func parsed(t *testing.T, text string) *config.Config {
	t.Helper()
	c, err := config.Parse("/c/mailout.toml", []byte("hostname = \"mailout.example.com\"\n"+text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCredentialsFollowFiles: one object while nothing changes, another when it
// does, and the one before while a file cannot be read.
func TestCredentialsFollowFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := secretFile(t, dir, "pass", "one")
	c := parsed(t, fmt.Sprintf("[router]\nhost = \"192.0.2.1\"\nusername = \"u\"\npassword_file = %q\n[[route]]\ndomains = [\"a.example\"]\nhost = \"192.0.2.2\"\nusername = \"u\"\npassword = \"one\"\n", file))
	var log strings.Builder
	r := newRouters(slog.New(slog.NewTextHandler(&log, nil)), &noteBook{notes: map[string][]byte{}}, nil)
	first := r.settings(t.Context(), c)
	if first.Router.Auth == nil || first.Router.Auth.Password != "one" || first.Rules[0].Auth.Password != "one" {
		t.Fatalf("%+v", first.Router.Auth)
	}
	if again := r.settings(t.Context(), c); again.Router.Auth != first.Router.Auth || r.changed() {
		t.Error("the same credentials are another object")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if !r.changed() {
		t.Error("a file that is gone was not noticed")
	}
	for range 3 {
		if gone := r.settings(t.Context(), c); gone.Router.Auth != first.Router.Auth {
			t.Error("a file that is gone took the credentials away")
		}
	}
	if n := strings.Count(log.String(), "level=ERROR"); n != 1 || r.readSome() {
		t.Errorf("told %d times: %s", n, log.String())
	}
	secretFile(t, dir, "pass", "two!")
	if second := r.settings(t.Context(), c); !(second.Router.Auth.Password == "two!") || second.Router.Auth == first.Router.Auth || second.Rules[0].Auth != first.Rules[0].Auth {
		t.Errorf("%+v", second.Router.Auth)
	}
	if !r.readSome() {
		t.Error("the mended file does not count as read")
	}
	r.settle()
	if len(r.mu.keys) != 2 {
		t.Errorf("%d keys", len(r.mu.keys))
	}
	if strings.Contains(log.String(), "two!") {
		t.Error("the log tells a password")
	}
}

// TestNoFileAtFirst: without credentials nothing is sent, also not without them.
func TestNoFileAtFirst(t *testing.T) {
	t.Parallel()
	c := parsed(t, "[router]\nhost = \"192.0.2.1\"\nusername = \"u\"\npassword_file = \"/nowhere/pass\"\n")
	r := newRouters(slog.New(slog.DiscardHandler), nil, nil)
	if s := r.settings(t.Context(), c); s.Router.Auth == nil || !strings.Contains(s.Router.Auth.Trouble, "/nowhere/pass") {
		t.Errorf("%+v", s.Router.Auth)
	}
	if auth, trouble := r.current(); auth != nil || trouble == nil || !trouble.Known {
		t.Errorf("%+v %+v", auth, trouble)
	}
}

// TestRefreshTokenSurvives: a refresh token that replaced the granted one is used
// after a restart, and no more once another is granted.
func TestRefreshTokenSurvives(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		asked = append(asked, r.Form.Get("refresh_token"))
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": "a", "token_type": "Bearer", "expires_in": 60, "refresh_token": fmt.Sprintf("rotated-%d", len(asked))})
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	file := secretFile(t, dir, "refresh", "granted")
	c := parsed(t, fmt.Sprintf("[router]\nhost = \"192.0.2.1\"\nusername = \"u\"\noauth = \"custom\"\noauth_client_id = \"i\"\noauth_token_url = %q\noauth_refresh_token_file = %q\n", server.URL, file))
	notes := &noteBook{notes: map[string][]byte{}}
	use := func() {
		r := newRouters(slog.New(slog.DiscardHandler), notes, nil)
		if _, err := r.settings(t.Context(), c).Router.Auth.Token(t.Context(), false); err != nil {
			t.Error(err)
		}
		r.close()
	}
	use()
	use()
	secretFile(t, dir, "refresh", "granted anew")
	use()
	use()
	if got := fmt.Sprint(asked); got != "[granted rotated-1 granted anew rotated-3]" {
		t.Error(got)
	}
	for name := range notes.notes {
		if !strings.HasPrefix(name, "router/") || strings.Contains(name, "granted") {
			t.Error(name)
		}
	}
}
