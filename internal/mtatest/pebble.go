package mtatest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// pebbleModule is Let's Encrypt's small authority for tests.
const pebbleModule = "github.com/letsencrypt/pebble/v2/cmd/pebble@v2.10.1"

// Pebble is an ACME authority in a process of its own.
type Pebble struct {
	Directory string // URL of the ACME directory
	CAFile    string // root of its HTTPS certificate

	manage string
	client *http.Client
	cmd    *exec.Cmd
	log    bytes.Buffer
	ended  chan struct{}
}

// PebbleConfig says how a Pebble looks at challenges, and what it gives.
type PebbleConfig struct {
	Dir      string // for its files
	DNS      string // name server that tells it where names are
	HTTPPort int    // of http-01
	TLSPort  int    // of tls-alpn-01
	Validity time.Duration
}

// FindPebble gives the program: from PATH, else built into the user's cache, for
// which the module proxy is asked once. The error says why there is none.
func FindPebble() (string, error) {
	if path, err := exec.LookPath("pebble"); err == nil {
		return path, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("pebble is not in PATH, and there is no folder to build it in: %w", err)
	}
	dir := filepath.Join(cache, "mailout-test", filepath.Base(pebbleModule))
	path := filepath.Join(dir, "pebble")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "install", pebbleModule)
	build.Dir = os.TempDir() // outside of this module
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("pebble is not in PATH and cannot be built: %w: %.300s", err, out)
	}
	return path, nil
}

// StartPebble runs the program. The caller ends it with Stop.
func StartPebble(program string, c PebbleConfig) (*Pebble, error) {
	ca, err := NewAuthority()
	if err != nil {
		return nil, err
	}
	pair, err := ca.Certificate(true, "127.0.0.1")
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return nil, err
	}
	acmePort, err := FreePort()
	if err != nil {
		return nil, err
	}
	managePort, err := FreePort()
	if err != nil {
		return nil, err
	}
	file := func(name string) string { return filepath.Join(c.Dir, "pebble-"+name) }
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", acmePort), "managementListenAddress": fmt.Sprintf("127.0.0.1:%d", managePort),
		"certificate": file("cert.pem"), "privateKey": file("key.pem"), "httpPort": c.HTTPPort, "tlsPort": c.TLSPort,
		"keyAlgorithm": "ecdsa", "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "x", "validityPeriod": int(c.Validity.Seconds())}},
	}})
	if err != nil {
		return nil, err
	}
	for name, data := range map[string][]byte{
		"config.json": config, "ca.pem": ca.PEM(),
		"cert.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}),
		"key.pem":  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
	} {
		if err := os.WriteFile(file(name), data, 0o600); err != nil {
			return nil, err
		}
	}
	p := &Pebble{
		Directory: fmt.Sprintf("https://127.0.0.1:%d/dir", acmePort), CAFile: file("ca.pem"), manage: fmt.Sprintf("https://127.0.0.1:%d", managePort),
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}},
		ended:  make(chan struct{}),
	}
	p.cmd = exec.Command(program, "-config", file("config.json"), "-dnsserver", c.DNS)
	// A tenth of the nonces is refused, as authorities do: it has to be asked again.
	p.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=10")
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	EndTogether(p.cmd)
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait()
	}()
	return p, nil
}

// Roots gives the root of the certificates that it issues; it waits until the
// authority answers, or ctx ends.
func (p *Pebble) Roots(ctx context.Context) (*x509.CertPool, error) {
	for {
		if text, err := p.get(ctx, p.manage+"/roots/0"); err == nil {
			pool := x509.NewCertPool()
			if !pool.AppendCertsFromPEM(text) {
				return nil, errors.New("pebble gave no root")
			}
			return pool, nil
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-p.ended:
			return nil, fmt.Errorf("pebble ended: %s", p.log.String())
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *Pebble) get(ctx context.Context, url string) ([]byte, error) {
	q, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	r, err := p.client.Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	return io.ReadAll(io.LimitReader(r.Body, 1<<20))
}

// Stop ends the process and gives what it logged.
func (p *Pebble) Stop() string {
	p.cmd.Process.Kill()
	<-p.ended
	return p.log.String()
}
