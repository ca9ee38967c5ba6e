package dkim

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Record is a published public key (RFC 6376 3.6.1).
type Record struct {
	Algorithm Algorithm
	Key       []byte   // of "p="; empty: revoked
	Hashes    []string // of "h="; nil: any
	Services  []string // of "s="; nil: any
	Flags     []string // of "t="
	Spaced    bool     // there is white space inside the key, which some receivers stumble over
}

// Name is where a key's record is published, without a trailing dot.
func Name(selector, domain string) string { return selector + "._domainkey." + domain }

// TXT is the text of the record that publishes the key. Split cuts it for DNS.
func (k *Key) TXT() string {
	return "v=DKIM1; k=" + string(k.Algorithm()) + "; p=" + base64.StdEncoding.EncodeToString(k.public())
}

// maxString is the longest string in a TXT record (RFC 1035 3.3).
const maxString = 255

// Split cuts the text of a TXT record into strings of at most 255 octets, which
// readers join without anything between them (RFC 6376 3.6.2.2).
func Split(text string) []string {
	out := make([]string, 0, 1+len(text)/maxString)
	for len(text) > maxString {
		out, text = append(out, text[:maxString]), text[maxString:]
	}
	return append(out, text)
}

// ParseRecord reads a published record. The error says what is wrong with it;
// Damage may know how that came about.
func ParseRecord(text string) (*Record, error) {
	tags, order, err := parseTags(text)
	if err != nil {
		return nil, err
	}
	if v, ok := tags["v"]; ok && (v != "DKIM1" || order[0] != "v") { // RFC 6376 3.6.1
		return nil, fmt.Errorf("the record does not begin with v=DKIM1")
	}
	p, ok := tags["p"]
	if !ok {
		return nil, errors.New("the record has no key (p=)")
	}
	r := &Record{Algorithm: RSA, Hashes: list(tags, "h"), Services: list(tags, "s"), Flags: list(tags, "t")}
	if k := tags["k"]; k != "" {
		r.Algorithm = Algorithm(strings.ToLower(k))
	}
	bare := withoutSpace(p)
	r.Spaced = bare != p
	if r.Key, err = base64.StdEncoding.DecodeString(bare); err != nil {
		return nil, errors.New("the key (p=) is not base64 to its end")
	}
	if len(r.Key) == 0 {
		return r, nil
	}
	_, err = r.public()
	return r, err
}

// parseTags reads "a=b; c=d" (RFC 6376 3.2).
func parseTags(text string) (tags map[string]string, order []string, err error) {
	tags = map[string]string{}
	for field := range strings.SplitSeq(text, ";") {
		if strings.Trim(field, " \t\r\n") == "" {
			continue
		}
		name, value, ok := strings.Cut(field, "=")
		name = strings.Trim(name, " \t\r\n")
		if !ok || name == "" {
			return nil, nil, fmt.Errorf("%q is no TAG=VALUE", strings.TrimSpace(field))
		}
		if _, twice := tags[name]; twice {
			return nil, nil, fmt.Errorf("the tag %s= stands there twice", name)
		}
		tags[name] = strings.Trim(value, " \t\r\n")
		order = append(order, name)
	}
	if len(order) == 0 {
		return nil, nil, errors.New("the record is empty")
	}
	return tags, order, nil
}

func list(tags map[string]string, name string) []string {
	v, ok := tags[name]
	if !ok {
		return nil
	}
	var out []string
	for item := range strings.SplitSeq(v, ":") {
		out = append(out, strings.ToLower(strings.Trim(item, " \t\r\n")))
	}
	return out
}

func withoutSpace(s string) string {
	return strings.Map(func(c rune) rune {
		if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
			return -1
		}
		return c
	}, s)
}

// public is the key to verify with.
func (r *Record) public() (crypto.PublicKey, error) {
	switch r.Algorithm {
	case Ed25519:
		if len(r.Key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("the Ed25519 key has %d octets and not %d", len(r.Key), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(r.Key), nil
	case RSA:
		if k, err := x509.ParsePKIXPublicKey(r.Key); err == nil {
			if k, ok := k.(*rsa.PublicKey); ok {
				return k, nil
			}
			return nil, errors.New("the key is not one of RSA, as k= says")
		}
		k, err := x509.ParsePKCS1PublicKey(r.Key)
		if err != nil {
			return nil, errors.New("the key (p=) is no public key of RSA, or not all of it")
		}
		return k, nil
	}
	return nil, fmt.Errorf("%q is no algorithm of DKIM", r.Algorithm)
}

// Revoked reports that the owner has withdrawn the key (an empty "p=").
func (r *Record) Revoked() bool { return len(r.Key) == 0 }

// Testing reports the flag "t=y": receivers treat signatures as if they were
// not there.
func (r *Record) Testing() bool { return slices.Contains(r.Flags, "y") }

// Usable says why signatures over mail with SHA-256 do not count under this
// record, or "".
func (r *Record) Usable() string {
	switch {
	case r.Hashes != nil && !slices.Contains(r.Hashes, "sha256"):
		return "h= does not allow sha256, the only hash that receivers take (RFC 8301)"
	case r.Services != nil && !slices.Contains(r.Services, "*") && !slices.Contains(r.Services, "email"):
		return "s= does not allow email"
	}
	return ""
}

// Damage says what happened to a record on its way into DNS, compared with the
// text that belongs there, or "" when it is no damage that is known.
func Damage(published, want string) string {
	bare := withoutSpace(published)
	switch {
	case strings.Contains(published, "-----BEGIN"):
		return "the PEM file was published: the record holds the key's base64 alone"
	case strings.Contains(published, `"`):
		return "there are quotation marks inside the record: the web form adds them itself, or the cut between two strings was entered as text"
	case strings.Contains(published, `\`):
		return "there are backslashes inside the record: the semicolons must be entered as they are"
	case strings.HasPrefix(bare, "("):
		return "the parentheses of a zone file were entered as text"
	case strings.Contains(bare, "_domainkey"):
		return "the record's name was entered as part of its text"
	case strings.ContainsAny(published, "\r\n"):
		return "the lines were wrapped: there are line ends inside the record"
	case wrapped(published) && keyOf(bare) == keyOf(want):
		return "the lines were wrapped: there is white space inside the key"
	case len(bare) < len(withoutSpace(want)) && strings.HasPrefix(withoutSpace(want), bare):
		return fmt.Sprintf("the record was cut off after %d characters: it is longer than 255 and must be published as several strings", len(published))
	case keyOf(bare) != "" && keyOf(bare) != keyOf(want) && strings.HasPrefix(keyOf(want), keyOf(bare)):
		return fmt.Sprintf("the record was cut off after %d characters: it is longer than 255 and must be published as several strings", len(published))
	}
	return ""
}

// wrapped reports white space between the octets of "p=".
func wrapped(text string) bool {
	_, key, _ := strings.Cut(text, "p=")
	return strings.ContainsAny(strings.TrimSpace(key), " \t")
}

// keyOf is what follows "p=".
func keyOf(text string) string {
	_, key, _ := strings.Cut(withoutSpace(text), "p=")
	return key
}
