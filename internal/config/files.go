package config

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// checkFiles looks at the files that the configuration names.
func (l *loader) checkFiles() {
	if file := l.cfg.TLS.CAFile; file != "" && l.sound("tls.ca_file") {
		if err := checkRoots(file); err != nil {
			l.accuse("tls", "ca_file", 0, err.Error())
		}
	}
	if file := l.cfg.Identity.DNSUpdate.KeySecretFile; file != "" && l.sound("identity.dns_update.key_secret_file") {
		if err := checkSecretFile(file); err != nil {
			l.accuse("identity.dns_update", "key_secret_file", 0, err.Error())
		}
	}
	l.checkListenerFiles()
	l.checkHTTPFiles()
	l.checkUnsubscribeFiles()
	l.checkACMEFiles()
	l.readPasswords()
	l.checkCredentialFiles()
	l.readWebhookSecrets()
	l.checkRouteFiles()
	l.readSourcePasswords()
	l.checkAnchors()
	// The default may be missing: not every system has a hosts file.
	if file := l.cfg.DNS.HostsFile; file != "" && l.cfg.given["dns.hosts_file"] {
		if _, err := os.Stat(file); err != nil {
			l.accuse("dns", "hosts_file", 0, quote(file)+" cannot be read: "+reason(err)+` (write "" for none)`)
		}
	}
}

// maxRoots bounds a file of root certificates, in octets.
const maxRoots = 16 << 20

// checkRoots tells whether a file holds at least one certificate.
func checkRoots(file string) error {
	data, err := readBounded(file, maxRoots)
	if err != nil {
		return err
	}
	for rest := data; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return fmt.Errorf("%s holds no certificate in PEM form", quote(file))
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("%s holds a broken certificate: %w", quote(file), err)
		}
		return nil
	}
}

func readBounded(file string, most int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %s", quote(file), reason(err))
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %s", quote(file), reason(err))
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is longer than %s", quote(file), formatSize(most))
	}
	return data, nil
}

// maxSecret bounds a secret, in octets.
const maxSecret = 4096

// readPrivate reads a small file that not every user of the system may read.
func readPrivate(file string) ([]byte, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be read: %s", quote(file), reason(err))
	}
	if info.Mode()&fs.ModeType == 0 && info.Mode().Perm()&0o004 != 0 && permissionsMean {
		return nil, fmt.Errorf("%s can be read by everybody (chmod o-r it)", quote(file))
	}
	return readBounded(file, maxSecret)
}

// ReadSecret gives the first and only line of a *_file: a password or a key's
// text of at most 4096 octets. It refuses an empty file, more than one line,
// and a file that every user of the system may read.
func ReadSecret(file string) (string, error) {
	data, err := readPrivate(file)
	if err != nil {
		return "", err
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", errors.New(quote(file) + " is empty")
	}
	if bytes.ContainsAny(data, "\r\n\x00") {
		return "", errors.New(quote(file) + " holds more than one line")
	}
	return string(data), nil
}
