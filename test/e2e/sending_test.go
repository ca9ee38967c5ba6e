package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// snippet is an example of docs/sending.md that is run.
type snippet struct{ kind, text, subject string }

// snippets reads the examples that the page marks to be run.
func snippets(t *testing.T) []snippet {
	t.Helper()
	page, err := os.ReadFile("../../docs/sending.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []snippet
	for _, m := range regexp.MustCompile("(?s)<!-- run: (\\w+) -->\n```\\w+\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		subject := regexp.MustCompile(`from [a-zA-Z]+( [a-zA-Z]+)*`).FindString(strings.ReplaceAll(m[2], "from email.message", ""))
		all = append(all, snippet{m[1], m[2], subject})
	}
	if n := strings.Count(string(page), "<!-- run:"); n != len(all) || n < 10 {
		t.Fatalf("%d of %d examples are read", len(all), n)
	}
	return all
}

// TestSendingExamples runs the examples of docs/sending.md as they stand there,
// but for the ports, and reads what arrives.
func TestSendingExamples(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	mx := w.mx(mtatest.MXConfig{}, "example.com")
	d := w.daemon("")
	key, line := newKey(t)
	http := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	text, err := os.ReadFile(d.config)
	if err != nil {
		t.Fatal(err)
	}
	d.write(string(text) + fmt.Sprintf("\n[http]\naddress = %q\n[[user]]\nname = \"erp\"\n%s\nfrom = [\"*@widget.com\"]\n", http, line))
	d.start()
	names := filepath.Join(d.dir, "names")
	for _, name := range []string{"mailout", "sendmail"} {
		if err := os.MkdirAll(names, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(binary, filepath.Join(names, name)); err != nil {
			t.Fatal(err)
		}
	}
	_, port, _ := strings.Cut(d.smtp, ":")
	ports := strings.NewReplacer(`127.0.0.1:8025`, http, `127.0.0.1:25`, d.smtp, `"127.0.0.1", 25`, `"127.0.0.1", `+port, `port: 25`, `port: `+port)
	all := snippets(t)
	ran := 0
	for i, s := range all {
		t.Run(fmt.Sprintf("%d-%s-%s", i, s.kind, strings.ReplaceAll(s.subject, " ", "-")), func(t *testing.T) {
			argv, env := s.command(t, ports.Replace(s.text), names)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
			cmd.Dir = t.TempDir()
			if s.kind == "go" {
				cmd.Dir = "."
			}
			cmd.Env = append(append(os.Environ(), "MAILOUT_CONFIG="+d.config, "MAILOUT_KEY="+key, "PATH="+names+":"+os.Getenv("PATH")), env...)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s\n%s", err, out, d.log())
			}
			ran++
			mtatest.Eventually(t, 30*time.Second, s.subject, func() bool { return arrived(mx.Messages(), s.subject) })
		})
	}
	if ran < 8 {
		t.Errorf("%d examples ran", ran)
	}
	d.stop()
	if v := mx.Violations(); len(v) > 0 {
		t.Error(v)
	}
}

// command writes the example into a file and says how it is run.
func (s snippet) command(t *testing.T, text, names string) (argv, env []string) {
	t.Helper()
	write := func(name string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	need := func(program string) string {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Skip(err)
		}
		return path
	}
	switch s.kind {
	case "sh":
		if strings.Contains(text, "curl ") {
			need("curl")
		}
		return []string{need("sh"), "-e", write("example.sh")}, nil
	case "python":
		return []string{need("python3"), write("example.py")}, nil
	case "php":
		return []string{need("php"), "-d", "sendmail_path=" + filepath.Join(names, "sendmail") + " -t -i", write("example.php")}, nil
	case "node":
		return []string{need("node"), write("example.cjs")}, nil
	case "nodemailer":
		return []string{need("node"), write("example.cjs")}, []string{"NODE_PATH=" + npmModules(t)}
	case "go":
		return []string{need("go"), "run", write("example.go")}, nil
	case "java":
		return []string{need("java"), write("Send.java")}, nil
	}
	t.Fatalf("nobody runs %q", s.kind)
	return nil, nil
}

// arrived reports a message with the subject and the greeting as its text.
func arrived(all []*mtatest.Message, subject string) bool {
	for _, m := range all {
		msg, err := mail.ReadMessage(bytes.NewReader(m.Data))
		if err != nil {
			continue
		}
		if msg.Header.Get("Subject") == subject && strings.TrimSpace(firstText(msg.Header.Get, msg.Body)) == "Grüße" {
			return true
		}
	}
	return false
}

// firstText decodes a text, or the first part of a message of several.
func firstText(field func(string) string, body io.Reader) string {
	kind, params, _ := mime.ParseMediaType(field("Content-Type"))
	if strings.HasPrefix(kind, "multipart/") {
		part, err := multipart.NewReader(body, params["boundary"]).NextRawPart()
		if err != nil {
			return err.Error()
		}
		return firstText(part.Header.Get, part)
	}
	switch strings.ToLower(field("Content-Transfer-Encoding")) {
	case "base64":
		body = base64.NewDecoder(base64.StdEncoding, body)
	case "quoted-printable":
		body = quotedprintable.NewReader(body)
	}
	text, err := io.ReadAll(body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// newKey gives an HTTP key and its line for [[user]].
func newKey(t *testing.T) (key, line string) {
	t.Helper()
	out, err := exec.Command(binary, "config", "key").Output()
	if err != nil {
		t.Fatal(err)
	}
	key = regexp.MustCompile(`mo_\w+`).FindString(string(out))
	line = regexp.MustCompile(`key = "sha256:\w+"`).FindString(string(out))
	if key == "" || line == "" {
		t.Fatalf("%s", out)
	}
	return key, line
}
