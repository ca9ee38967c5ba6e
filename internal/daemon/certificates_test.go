package daemon

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"mailout/internal/config"
	"mailout/internal/mtatest"
)

// writePair writes a certificate of an authority and its key.
func writePair(t *testing.T, dir string, life bool, name string) {
	t.Helper()
	ca, err := mtatest.NewAuthority()
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Certificate(life, name)
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}))
	writeFile(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

func writeFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	// The virtual clock is not that of the file system: the stamps must differ.
	now := time.Now()
	if err := os.Chtimes(path, now, now); err != nil {
		t.Fatal(err)
	}
}

// TestCertificatesAreWatched: a renewed pair is taken within a minute, a pair
// that is half written or broken leaves the one before, and what is wrong with a
// certificate is told once a day.
func TestCertificatesAreWatched(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		writePair(t, dir, true, "mail.example.com")
		var mu sync.Mutex
		var log bytes.Buffer
		d := New(Options{Config: &config.Config{Hostname: "mail.example.com"}, Logger: slog.New(slog.NewTextHandler(locked{&mu, &log}, nil))})
		l := config.Listener{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
		d.mu.config.Listen = []config.Listener{l}
		own := &certificate{}
		if err := own.use("mail.example.com", l, nil, d.log); err != nil {
			t.Fatal(err)
		}
		d.doors = []door{{listener: l, certificate: own}}
		ctx, stop := context.WithCancel(context.Background())
		go d.watchCertificates(ctx)
		told := func() string {
			mu.Lock()
			defer mu.Unlock()
			defer log.Reset()
			return log.String()
		}
		after := func(wait time.Duration) string {
			time.Sleep(wait)
			synctest.Wait()
			return told()
		}
		if s := after(10 * time.Minute); s != "" {
			t.Errorf("told of nothing: %s", s)
		}
		first := own.current.Load()
		writePair(t, dir, true, "mail.example.com")
		if s := after(certificatesEvery); !strings.Contains(s, "certificate read") || own.current.Load() == first {
			t.Errorf("the renewed pair is not taken: %s", s)
		}
		second := own.current.Load()
		writeFile(t, l.Cert, []byte("half"))
		if s := after(certificatesEvery); !strings.Contains(s, "cannot be used; the one before stays") || own.current.Load() != second {
			t.Errorf("a broken pair: %s", s)
		}
		writePair(t, dir, false, "other.example.com")
		if s := after(certificatesEvery); !strings.Contains(s, "has expired") || !strings.Contains(s, "does not cover the host name") {
			t.Errorf("an expired pair: %s", s)
		}
		if s := after(certificatesWarn); strings.Count(s, "has expired") != 1 {
			t.Errorf("a day later: %s", s)
		}
		stop()
		synctest.Wait()
	})
}

type locked struct {
	mu *sync.Mutex
	to *bytes.Buffer
}

func (l locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.to.Write(p)
}

// TestOldTLS: a device that knows nothing newer than TLS 1.0 gets through where
// the listener says so, and nowhere else; RC4 nowhere.
func TestOldTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	writePair(t, dir, true, "mail.example.com")
	own := &certificate{}
	l := config.Listener{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	if err := own.use("mail.example.com", l, nil, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	var rc4 []uint16
	for _, s := range tls.InsecureCipherSuites() {
		if strings.Contains(s.Name, "_RC4_") {
			rc4 = append(rc4, s.ID)
		}
	}
	for _, c := range []struct {
		oldest, speaks uint16
		ciphers        []uint16
		ok             bool
	}{
		{tls.VersionTLS10, tls.VersionTLS10, nil, true},
		{tls.VersionTLS10, tls.VersionTLS11, nil, true},
		{tls.VersionTLS10, tls.VersionTLS13, nil, true},
		{tls.VersionTLS11, tls.VersionTLS10, nil, false},
		{tls.VersionTLS12, tls.VersionTLS10, nil, false},
		{tls.VersionTLS12, tls.VersionTLS11, nil, false},
		{tls.VersionTLS12, tls.VersionTLS12, nil, true},
		{tls.VersionTLS13, tls.VersionTLS12, nil, false},
		{tls.VersionTLS10, tls.VersionTLS10, rc4, false},
	} {
		version, err := shake(doorTLS(c.oldest, own), &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: c.speaks, CipherSuites: c.ciphers, InsecureSkipVerify: true})
		if (err == nil) != c.ok || c.ok && version != c.speaks {
			t.Errorf("%s, spoken to with %s: %s, %v", tls.VersionName(c.oldest), tls.VersionName(c.speaks), tls.VersionName(version), err)
		}
	}
}

// shake plays a handshake and gives its version.
func shake(server, client *tls.Config) (uint16, error) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	go func() {
		tls.Server(a, server).Handshake()
		a.Close()
	}()
	c := tls.Client(b, client)
	if err := c.Handshake(); err != nil {
		return 0, fmt.Errorf("handshake: %w", err)
	}
	return c.ConnectionState().Version, nil
}

// TestDoorCounts: each door has its own.
func TestDoorCounts(t *testing.T) {
	d := started(t)
	dial(t, d, 1).say("QUIT", "221")
	counts := d.DoorCounts()
	if len(counts) != 2 || counts[0].Connections != 0 || counts[1].Connections != 1 || counts[1].Listener != d.doors[1].listener.Address.String() {
		t.Errorf("%+v", counts)
	}
	stopped, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := d.Stop(stopped); err != nil {
		t.Error(err)
	}
}
