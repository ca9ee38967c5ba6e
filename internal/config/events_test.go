package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const hookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

func TestEventsRefused(t *testing.T) {
	t.Parallel()
	hook := func(keys ...string) string {
		return "\n[[webhook]]\nname = \"a\"\nurl = \"https://x.example/\"\n" + strings.Join(keys, "\n") + "\n"
	}
	secret := `secret = "` + hookSecret + `"`
	for text, want := range map[string]string{
		hook():                             "secret: is missing",
		hook(`secret = "hush"`):            "is not a secret",
		hook(`secret = 5`):                 "is not a text",
		hook(secret, `secret_file = "/x"`): "stands beside secret",
		hook(secret, `events = ["sent"]`):  `is not "accepted"`,
		hook(secret, `batch = 0`):          "out of range",
		hook(secret, `concurrency = 100`):  "out of range",
		hook(secret) + hook(secret):        "stands twice",
		"\n[[webhook]]\nname = \"a b\"\nurl = \"https://x.example/\"\n" + secret:  "is not a name",
		"\n[[webhook]]\nname = \"a\"\nurl = \"x.example\"\n" + secret:             "is not a URL",
		"\n[[webhook]]\nname = \"a\"\nurl = \"ftp://x.example\"\n" + secret:       "http or https",
		"\n[[webhook]]\nname = \"a\"\nurl = \"https://u:p@x.example\"\n" + secret: "user name",
		"\n[[webhook]]\nname = \"a\"\nurl = \"https://x.example/#a\"\n" + secret:  `behind "#"`,
		"\n[[webhook]]\nname = \"a\"\nurl = \"https:///path\"\n" + secret:         "is not a URL",
		"\n[events]\nsyslog = \"/dev/log\"\n":                                     "is no place for syslog",
		"\n[events]\nrotate_age = \"1s\"\n":                                       "out of range",
		hook(`secret_file = "/nowhere/secret"`):                                   "cannot be read",
		"\n[events]\nevents = [\"delivered\", \"delivred\"]\n":                    `did you mean "delivered"`,
	} {
		_, err := loadText(t, host+text)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n%v\nwant %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "MfKQ") {
			t.Errorf("the secret is shown: %v", err)
		}
	}
}

// loadText loads a configuration from a file.
func loadText(t *testing.T, text string) (*Config, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mailout.toml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return Load(file)
}

// TestWebhookSecretFile: several secrets in a file, which only some may read.
func TestWebhookSecretFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "secret")
	text := host + fmt.Sprintf("\n[[webhook]]\nname = \"a\"\nurl = \"http://10.0.0.1:8080/\"\nsecret_file = %q\n", file)
	for content, ok := range map[string]bool{
		hookSecret: true, hookSecret + "\n": true, hookSecret + "\n" + hookSecret + "\n": true,
		"": false, "\n": false, hookSecret + "\nnonsense\n": false, strings.Repeat(hookSecret+"\n", 20): false,
	} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := loadText(t, text)
		if (err == nil) != ok || err != nil && strings.Contains(err.Error(), "MfKQ") {
			t.Errorf("%q: %v", content, err)
		}
		if ok {
			got, err := Get(c, "webhook.1.secret")
			if text := Show(c); strings.Contains(text, "MfKQ") || !strings.Contains(text, "\nsecret = \"\"  # default\n") || got != "" || err != nil {
				t.Errorf("%q %v: %s", got, err, text)
			}
		}
		if ok && strings.Fields(c.Webhooks[0].Secret.String())[0] != hookSecret {
			t.Errorf("%q: the secret is %s", content, c.Webhooks[0].Secret)
		}
	}
	if err := os.WriteFile(file, []byte(hookSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadText(t, text); permissionsMean && (err == nil || !strings.Contains(err.Error(), "read by everybody")) {
		t.Errorf("a secret for everybody: %v", err)
	}
}

// TestWebhookSecretIsNotShown: neither by show nor by get.
func TestWebhookSecretIsNotShown(t *testing.T) {
	t.Parallel()
	c, err := loadText(t, host+"\n[[webhook]]\nname = \"a\"\nurl = \"https://x.example/\"\nsecret = \""+hookSecret+"\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if text := Show(c); strings.Contains(text, "MfKQ") || !strings.Contains(text, "[[webhook]]") {
		t.Errorf("show: %s", text)
	}
}
