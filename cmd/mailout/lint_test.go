package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mailout/internal/lint"
)

func lintMessage(subject string) string {
	return "Date: " + time.Now().Format(time.RFC1123Z) + "\r\nFrom: a@widget.com\r\nTo: b@example.net\r\nMessage-ID: <1@widget.com>\r\n" + subject + "\r\n\r\ntext\r\n"
}

func TestLint(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "message.eml")
	cases := []struct {
		name, content, id string
		args              []string
		status            int
	}{
		{"nothing", lintMessage("Subject: hello"), "", []string{file}, 0},
		{"a warning", lintMessage("Subject:"), "subject.missing", []string{file}, 1},
		{"an error", lintMessage("Subject: Gr\xfc\xdfe"), "header.8bit", []string{file}, 2},
		{"standard input", lintMessage("Subject: Gr\xfc\xdfe"), "header.8bit", []string{"-"}, 2},
		{"the return path", lintMessage("Subject: hello"), "return-path.alignment", []string{"-f", "x@other.example", file}, 1},
	}
	for _, c := range cases {
		if err := os.WriteFile(file, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		var out, plain, stderr bytes.Buffer
		status := run(append([]string{"lint", "--json"}, c.args...), strings.NewReader(c.content), &out, &stderr)
		var found []lint.Finding
		if err := json.Unmarshal(out.Bytes(), &found); err != nil || found == nil {
			t.Fatalf("%s: %q: %v", c.name, out.String(), err)
		}
		if status != c.status || (len(found) == 1) != (c.id != "") || c.id != "" && found[0].ID != c.id || stderr.Len() > 0 {
			t.Errorf("%s: status %d, %+v, %s", c.name, status, found, stderr.String())
		}
		if again := run(append([]string{"lint"}, c.args...), strings.NewReader(c.content), &plain, &stderr); again != c.status || !strings.Contains(plain.String(), c.id) || (plain.Len() == 0) != (c.id == "") {
			t.Errorf("%s: status %d, %q", c.name, again, plain.String())
		}
	}
}

func TestLintWithoutAnAddress(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"nonsense", "a@", "a@b@c"} {
		var out, stderr bytes.Buffer
		status := run([]string{"lint", "-f", from, "-"}, strings.NewReader(lintMessage("Subject: x")), &out, &stderr)
		if status != exitUsage || out.Len() > 0 || !strings.Contains(stderr.String(), "--from") {
			t.Errorf("%s: status %d, %q %q", from, status, out.String(), stderr.String())
		}
	}
	for _, from := range []string{"", "<>", "<a@widget.com>"} {
		var out, stderr bytes.Buffer
		if status := run([]string{"lint", "-f", from, "-"}, strings.NewReader(lintMessage("Subject: x")), &out, &stderr); status != 0 {
			t.Errorf("%s: status %d, %q %q", from, status, out.String(), stderr.String())
		}
	}
}

func TestLintWithoutAFile(t *testing.T) {
	t.Parallel()
	var out, stderr bytes.Buffer
	status := run([]string{"lint", filepath.Join(t.TempDir(), "none")}, nil, &out, &stderr)
	if status != exitNoInput || out.Len() > 0 || !strings.Contains(stderr.String(), "no such file") {
		t.Errorf("status %d, %q %q", status, out.String(), stderr.String())
	}
}
