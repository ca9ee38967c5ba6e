package returns

import (
	"crypto/hmac"
	"encoding/base32"
	"strings"

	"mailout/internal/keyring"
	"mailout/internal/mta"
)

// A return path is "b+" and the tag, at the domain of the returns. The tag is in
// base32, in lower case, and read in any: 56 characters of these 35 octets:
//
//	1   number of the key, and a bit: the sender wants no report
//	16  ID of the message
//	5   whom it speaks of: keyed hash of the recipient, or of the domain when the
//	    transaction had several recipients
//	13  HMAC-SHA-256 of the octets before, cut off: 104 bits
//
// So a tag is worth nothing for another message, another recipient or another
// domain, and nobody can make one without the key. Whoever was sent one may use
// it: the recipient's own servers.

const (
	tagPrefix = "b+"
	whoLen    = 5
	macLen    = 13
	bodyLen   = 1 + 16 + whoLen
	tagLen    = (bodyLen + macLen) / 5 * 8
	quietBit  = 0x80
)

var alphabet = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// who is whom a tag speaks of.
type who [whoLen]byte

// tag is a tag that was found genuine.
type tag struct {
	id    mta.ID
	who   who
	quiet bool // the sender wants no report
	key   key
}

// The purposes of keyed hashes.
const (
	forTag       = 't'
	forRecipient = 'r'
	forDomain    = 'd'
)

// recipient is the hash of one recipient.
func (k key) recipient(address string) (w who) {
	copy(w[:], k.Sum(forRecipient, []byte(strings.ToLower(address))))
	return w
}

// domain is the hash of all recipients of a domain.
func (k key) domain(domain string) (w who) {
	copy(w[:], k.Sum(forDomain, []byte(strings.ToLower(domain))))
	return w
}

// local makes the local part of a return path.
func (k key) local(id mta.ID, w who, quiet bool) string {
	raw := make([]byte, 0, bodyLen+macLen)
	first := k.Number()
	if quiet {
		first |= quietBit
	}
	raw = append(append(append(raw, first), id[:]...), w[:]...)
	raw = append(raw, k.Sum(forTag, raw)[:macLen]...)
	return tagPrefix + alphabet.EncodeToString(raw)
}

// open reads the local part of a return path; nil when it is none of ours.
func (r keyRing) open(local string) *tag {
	local = strings.ToLower(local)
	text, ok := strings.CutPrefix(local, tagPrefix)
	if !ok || len(text) != tagLen {
		return nil
	}
	raw, err := alphabet.DecodeString(text)
	if err != nil || len(raw) != bodyLen+macLen {
		return nil
	}
	k := keyring.Ring(r).Numbered(raw[0] &^ quietBit)
	if k == nil || !hmac.Equal(raw[bodyLen:], k.Sum(forTag, raw[:bodyLen])[:macLen]) {
		return nil
	}
	t := &tag{quiet: raw[0]&quietBit != 0, key: key{k}}
	copy(t.id[:], raw[1:])
	copy(t.who[:], raw[1+len(t.id):])
	return t
}

// speaksOf reports whether a tag speaks of a recipient of its message, and
// whether of it alone.
func (t *tag) speaksOf(address string) (yes, alone bool) {
	if hmac.Equal(t.who[:], one(t.key.recipient(address))) {
		return true, true
	}
	return hmac.Equal(t.who[:], one(t.key.domain(domainOf(address)))), false
}

func one(w who) []byte { return w[:] }

func domainOf(address string) string { return address[strings.LastIndexByte(address, '@')+1:] }
