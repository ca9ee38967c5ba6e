package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// Field is one field of a header.
type Field struct{ Name, Value string }

// signed are the fields of a sample that its signature covers, in order.
const signed = "from:to:subject:date:message-id"

// Sign gives the value of a DKIM-Signature field, relaxed/relaxed, over a small
// message. It is for samples: From must be there once, and no field may stand
// there twice.
func (k *Key) Sign(domain, selector string, header []Field, body string) (string, error) {
	bh := sha256.Sum256([]byte(relaxBody(body)))
	unsigned := fmt.Sprintf("v=1; a=%s-sha256; c=relaxed/relaxed; d=%s; s=%s; h=%s; bh=%s; b=",
		k.Algorithm(), domain, selector, signed, base64.StdEncoding.EncodeToString(bh[:]))
	hash := sha256.Sum256([]byte(relaxHeader(header, strings.Split(signed, ":"), unsigned)))
	var sig []byte
	var err error
	switch s := k.signer.(type) {
	case ed25519.PrivateKey:
		sig = ed25519.Sign(s, hash[:]) // RFC 8463 3: over the hash
	default:
		sig, err = s.Sign(rand.Reader, hash[:], crypto.SHA256)
	}
	return unsigned + base64.StdEncoding.EncodeToString(sig), err
}

// Verify checks the signature of a sample against the text of the record, as a
// receiver would (RFC 6376 6.1): relaxed/relaxed, SHA-256, without "l=".
func Verify(signature string, header []Field, body, record string) error {
	tags, _, err := parseTags(signature)
	if err != nil {
		return fmt.Errorf("the signature: %w", err)
	}
	r, err := ParseRecord(record)
	if err != nil {
		return err
	}
	switch {
	case r.Revoked():
		return errors.New("the key is revoked")
	case r.Usable() != "":
		return errors.New(r.Usable())
	case tags["c"] != "relaxed/relaxed" || tags["l"] != "":
		return errors.New("the signature is of a kind that samples do not have")
	case tags["a"] != string(r.Algorithm)+"-sha256":
		return fmt.Errorf("the signature is made with %s and the record is for %s", tags["a"], r.Algorithm)
	}
	bh := sha256.Sum256([]byte(relaxBody(body)))
	if withoutSpace(tags["bh"]) != base64.StdEncoding.EncodeToString(bh[:]) {
		return errors.New("the body's hash differs")
	}
	sig, err := base64.StdEncoding.DecodeString(withoutSpace(tags["b"]))
	if err != nil {
		return errors.New("the signature is not base64")
	}
	hash := sha256.Sum256([]byte(relaxHeader(header, list(tags, "h"), withoutB(signature))))
	return r.verify(hash[:], sig)
}

func (r *Record) verify(hash, sig []byte) error {
	key, err := r.public()
	if err != nil {
		return err
	}
	switch key := key.(type) {
	case ed25519.PublicKey:
		if !ed25519.Verify(key, hash, sig) {
			return errors.New("the signature is of another key")
		}
	case *rsa.PublicKey:
		if key.N.BitLen() < 1024 {
			return fmt.Errorf("the published key has only %d bits (RFC 8301 3.2)", key.N.BitLen())
		}
		if rsa.VerifyPKCS1v15(key, crypto.SHA256, hash, sig) != nil {
			return errors.New("the signature is of another key")
		}
	}
	return nil
}

// withoutB empties the tag "b=" and leaves the rest as it is (RFC 6376 3.7).
func withoutB(signature string) string {
	var out []string
	for field := range strings.SplitSeq(signature, ";") {
		if name, _, _ := strings.Cut(field, "="); strings.Trim(name, " \t\r\n") == "b" {
			field = field[:strings.IndexByte(field, '=')+1]
		}
		out = append(out, field)
	}
	return strings.Join(out, ";")
}

// relaxHeader is what is hashed: the named fields, each from below, and the
// signature's own without an end of line (RFC 6376 3.4.2, 5.4.2).
func relaxHeader(header []Field, names []string, signature string) string {
	var b strings.Builder
	used := map[int]bool{}
	for _, name := range names {
		for i := len(header) - 1; i >= 0; i-- {
			if !used[i] && strings.EqualFold(header[i].Name, name) {
				used[i] = true
				b.WriteString(name + ":" + relaxValue(header[i].Value) + "\r\n")
				break
			}
		}
	}
	b.WriteString("dkim-signature:" + relaxValue(signature))
	return b.String()
}

// relaxValue unfolds and makes each run of white space one space.
func relaxValue(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(c rune) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }), " ")
}

// relaxBody is RFC 6376 3.4.4: white space inside lines made one space, none
// at their ends, no empty lines at the end of the body.
func relaxBody(body string) string {
	lines := strings.Split(body, "\r\n")
	for i, line := range lines {
		end := strings.TrimRight(line, " \t")
		var b strings.Builder
		space := false
		for _, c := range []byte(end) {
			blank := c == ' ' || c == '\t'
			if !blank {
				b.WriteByte(c)
			} else if !space {
				b.WriteByte(' ')
			}
			space = blank
		}
		lines[i] = b.String()
	}
	for len(lines) > 0 && lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	if len(lines) == 0 {
		return ""
	}
	return strings.Join(lines, "\r\n") + "\r\n"
}
