package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"mailout/internal/account"
)

// listenersSecure: TLS needs a certificate, and a certificate TLS.
func (l *loader) listenersSecure() {
	for i, own := range l.cfg.Listen {
		full := findTable("listen").full(i)
		if !l.sound(full+".tls", full+".cert", full+".key") {
			continue
		}
		switch {
		case own.TLS != ListenClear && own.Cert == "" && !own.ACME:
			l.accuse("listen", "tls", i, quote(own.TLS.String())+" needs a certificate (write cert and key, or acme = true)")
		case own.Cert != "" && own.Key == "":
			l.accuse("listen", "cert", i, "needs its private key (write key)")
		case own.Key != "" && own.Cert == "":
			l.accuse("listen", "key", i, "needs its certificate (write cert)")
		case own.TLS == ListenClear && own.Cert != "":
			l.accuse("listen", "tls", i, `"none" uses no certificate (write "offered", or remove cert and key)`)
		}
	}
}

// String gives the word of the configuration file.
func (t ListenTLS) String() string { return listenTLS.word(t) }

// String gives the word of the configuration file.
func (a ListenAuth) String() string { return listenAuth.word(a) }

// usersComplete: each user has one password, and each name one user.
func (l *loader) usersComplete() {
	first := map[string]int{}
	for i, u := range l.cfg.Users {
		full := findTable("user").full(i)
		if l.sound(full+".name") && u.Name != "" {
			if j, twice := first[u.Name]; twice {
				line, _ := l.doc.position(l.at(findTable("user").key("name"), j))
				l.accuse("user", "name", i, quote(u.Name)+" stands twice, first on line "+itoa(line))
			} else {
				first[u.Name] = i
			}
		}
		switch given := u.Password.String() != ""; {
		case !l.sound(full+".password", full+".password_file"):
		case given && u.PasswordFile != "":
			l.accuse("user", "password_file", i, "stands beside password (keep one of them)")
		case !given && u.PasswordFile == "" && u.Key.IsZero() && l.sound(full+".key"):
			l.accuse("user", "password", i, "is missing, and so is key (`mailout config password` or `mailout config key` makes one)")
		}
	}
}

// readPasswords takes the hashes of password_file.
func (l *loader) readPasswords() {
	for i := range l.cfg.Users {
		u := &l.cfg.Users[i]
		if u.PasswordFile == "" || !l.sound(findTable("user").full(i)+".password_file") {
			continue
		}
		text, err := ReadSecret(u.PasswordFile)
		if err != nil {
			l.accuse("user", "password_file", i, err.Error())
			continue
		}
		if u.Password, err = account.ParseVerifier(text); err != nil {
			l.accuse("user", "password_file", i, "the line of "+quote(u.PasswordFile)+" "+err.Error())
		}
	}
}

// checkListenerFiles looks at the certificates of listeners.
func (l *loader) checkListenerFiles() {
	for i, own := range l.cfg.Listen {
		full := findTable("listen").full(i)
		if own.Cert == "" || own.Key == "" || !l.sound(full+".cert", full+".key") {
			continue
		}
		if _, err := ReadCertificate(own.Cert, own.Key); err != nil {
			if isKeyFault(err) {
				l.accuse("listen", "key", i, err.Error())
			} else {
				l.accuse("listen", "cert", i, err.Error())
			}
		}
	}
}

// isKeyFault reports whether the private key's file is at fault.
func isKeyFault(err error) bool {
	var bad *KeyFileError
	return errors.As(err, &bad)
}

// maxPEM bounds a file of certificates or of a key, in octets.
const maxPEM = 1 << 20

// KeyFileError says that the file of a private key is at fault.
type KeyFileError struct{ Err error }

// Error implements error.
func (e *KeyFileError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *KeyFileError) Unwrap() error { return e.Err }

// ReadCertificate reads a certificate and its private key from PEM files, with
// Leaf filled in. It refuses files of more than 1 MiB, a key that every user of
// the system may read, and a key of another certificate. It does not look at
// dates and names: those pass, and are warned of.
func ReadCertificate(cert, key string) (tls.Certificate, error) {
	chain, err := readBounded(cert, maxPEM)
	if err != nil {
		return tls.Certificate{}, err
	}
	if info, err := os.Stat(key); err == nil && info.Mode()&fs.ModeType == 0 && info.Mode().Perm()&0o004 != 0 && permissionsMean {
		return tls.Certificate{}, &KeyFileError{fmt.Errorf("%s can be read by everybody (chmod o-r it)", quote(key))}
	}
	secret, err := readBounded(key, maxPEM)
	if err != nil {
		return tls.Certificate{}, &KeyFileError{err}
	}
	pair, err := tls.X509KeyPair(chain, secret)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%s and %s do not make a certificate with its key: %w", quote(cert), quote(key), err)
	}
	if pair.Leaf == nil {
		if pair.Leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return tls.Certificate{}, fmt.Errorf("%s holds a broken certificate: %w", quote(cert), err)
		}
	}
	return pair, nil
}
