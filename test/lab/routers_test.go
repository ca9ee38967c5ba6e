package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"mailout/internal/mtatest"
)

// routerPassword has characters that careless servers take apart.
const routerPassword = "right horse,=battery%"

// routersUp starts the routers, and the token server that Dovecot asks whether a
// token is good.
func routersUp(t *testing.T) (good func(token string)) {
	t.Helper()
	needLab(t)
	var mu sync.Mutex
	token := ""
	listener, err := net.Listen("tcp", "127.0.1.70:8070")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/token" {
			_ = json.NewEncoder(w).Encode(map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": 3600})
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"active": r.Form.Get("token") == token, "username": "widget"})
	})}}
	server.Start()
	t.Cleanup(server.Close)
	cmd := exec.Command("bash", filepath.Join(os.Getenv("LAB_DIR"), "bin", "routers.sh"), routerPassword, "http://127.0.1.70:8070/introspect")
	cmd.Env = append(os.Environ(), "LAB="+os.Getenv("LAB_DIR"))
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(state("log", "routers.log")) //nolint:errcheck // it may not be there
		t.Fatalf("the routers do not start: %v\n%s", err, log)
	}
	for _, address := range []string{"127.0.1.1:587", "127.0.1.1:588", "127.0.1.2:587"} {
		mtatest.Eventually(t, 20*time.Second, "a router at "+address, func() bool {
			conn, err := net.Dial("tcp", address)
			if err == nil {
				conn.Close()
			}
			return err == nil
		}, func() string {
			log, _ := os.ReadFile(state("log", "routers.log")) //nolint:errcheck // it may not be there
			more, _ := os.ReadFile(state("log", "router-dovecot.log"))
			return string(log) + string(more)
		})
	}
	return func(good string) {
		mu.Lock()
		defer mu.Unlock()
		token = good
	}
}

// TestRealRouters: real servers take us by each of their mechanisms, refuse a
// wrong password without harm to the mail, and take what waits once it is right.
func TestRealRouters(t *testing.T) {
	good := routersUp(t)
	for i, c := range []struct {
		host      string
		port      int
		mechanism string // empty: the strongest that is offered
		used      string // as the server logs it
		log       string
		wrong     bool // begin with a wrong password
	}{
		{"mx.pf.test", 587, "PLAIN", "PLAIN", "router-dovecot.log", false},
		{"mx.pf.test", 587, "LOGIN", "LOGIN", "router-dovecot.log", false},
		{"mx.pf.test", 587, "CRAM-MD5", "CRAM-MD5", "router-dovecot.log", false},
		{"mx.pf.test", 587, "", "SCRAM-SHA-256", "router-dovecot.log", true},
		{"mx.pf.test", 587, "XOAUTH2", "XOAUTH2", "router-dovecot.log", false},
		{"mx.pf.test", 587, "OAUTHBEARER", "OAUTHBEARER", "router-dovecot.log", false},
		{"mx.pf.test", 588, "PLAIN", "PLAIN", "router-cyrus.log", false},
		{"mx.pf.test", 588, "LOGIN", "LOGIN", "router-cyrus.log", false},
		{"mx.pf.test", 588, "CRAM-MD5", "CRAM-MD5", "router-cyrus.log", true},
		{"mx.pf.test", 588, "SCRAM-SHA-256", "SCRAM-SHA-256", "router-cyrus.log", false},
		{"mx.exim.test", 587, "PLAIN", "plain", "exim/router-mainlog", false},
		{"mx.exim.test", 587, "LOGIN", "login", "exim/router-mainlog", true},
		{"mx.exim.test", 587, "", "cram", "exim/router-mainlog", false},
	} {
		t.Run(fmt.Sprintf("%s:%d %s", c.host, c.port, c.used), func(t *testing.T) {
			user, byToken := "widget", strings.Contains(c.mechanism, "OAUTH") || strings.Contains(c.mechanism, "XOAUTH")
			if c.port == 588 {
				user = "widget@far.test"
			}
			name := fmt.Sprintf("router-%d", i)
			if err := os.MkdirAll(state("mailout-"+name), 0o755); err != nil {
				t.Fatal(err)
			}
			secret, signIn := state("mailout-"+name, "pass"), ""
			write := func(text string) {
				if err := os.WriteFile(secret+".new", []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				if err := os.Rename(secret+".new", secret); err != nil {
					t.Fatal(err)
				}
			}
			mend := func() { write(routerPassword) }
			good("token-good")
			switch {
			case byToken:
				signIn = "oauth = \"custom\"\noauth_client_id = \"i\"\noauth_token_url = \"http://127.0.1.70:8070/token\"\noauth_client_secret_file = \"pass\"\n"
				write("secret")
				mend = func() {}
			case c.wrong:
				write("wrong")
				signIn = "password_file = \"pass\"\n"
			default:
				mend()
				signIn = "password_file = \"pass\"\n"
			}
			if c.mechanism != "" {
				signIn += fmt.Sprintf("mechanisms = [%q]\n", c.mechanism)
			}
			m, err := startMailout(name, fmt.Sprintf("127.0.1.8:%d", 2700+i), fmt.Sprintf("[tls]\nca_file = %q\n[router]\nhost = %q\nport = %d\nusername = %q\n%s", state("pki", "ca.pem"), c.host, c.port, user, signIn))
			if err != nil {
				t.Fatal(err)
			}
			defer m.process.Kill()
			t.Cleanup(func() {
				if t.Failed() {
					log, _ := os.ReadFile(state("log", c.log)) //nolint:errcheck // it may not be there
					t.Logf("serve's log:\n%s\nthe router's log:\n%s", m.process.Log(40), log)
				}
			})
			messageID := fmt.Sprintf("<%s@origin.test>", name)
			id := m.send(t, "app@origin.test", "From: app@origin.test\nMessage-ID: "+messageID+"\nSubject: x\n\nhello\n", "ann@far.test")
			if c.wrong {
				if r := m.await(t, id, "", "deferred"); !strings.HasPrefix(r.text("reply"), "535") && r["code"] != 535.0 {
					t.Errorf("deferred by %v", r)
				}
				mend()
			}
			m.await(t, id, "", "relayed")
			mailbox(t, strings.TrimPrefix(map[bool]string{true: "router-exim", false: strings.TrimSuffix(c.log, ".log")}[c.host == "mx.exim.test"], "")+"/all", messageID)
			log, err := os.ReadFile(state("log", c.log))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(log), "sasl_method="+c.used+", sasl_username=widget") && !strings.Contains(string(log), "A="+c.used+":widget") {
				t.Errorf("the router did not note %s of widget:\n%s", c.used, log)
			}
			for _, r := range m.trace(t, id) {
				if e := r.text("event"); e == "failed" || e == "bounced" || e == "expired" {
					t.Errorf("%v", r)
				}
			}
			if strings.Contains(m.process.Log(0), routerPassword) || strings.Contains(m.process.Log(0), "token-good") {
				t.Error("the log tells a secret")
			}
		})
	}
}
