package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
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

// relaxHeader is what is hashed: the named fields and the signature's own
// without an end of line (RFC 6376 3.4.2).
func relaxHeader(header []Field, names []string, signature string) string {
	var b strings.Builder
	for _, name := range names {
		for _, f := range header {
			if strings.EqualFold(f.Name, name) {
				b.WriteString(name + ":" + relaxValue(f.Value) + "\r\n")
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
