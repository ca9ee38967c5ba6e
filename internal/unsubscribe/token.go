package unsubscribe

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"mailout/internal/keyring"
	"mailout/internal/mta"
)

// A token says who leaves what. It holds that itself, so that a link works for as
// long as there is its key, with no record of every message sent; and it is
// sealed, so that no address stands in the logs of proxies and scanners. It is
// base64url without padding of
//
//	1   version: 1
//	1   number of the key
//	16  HMAC-SHA-256 of the two octets before and of what is sealed, cut off
//	n   sealed with AES-256 in counter mode, which starts at these 16 octets:
//	    1     length of the stream's name; plus 128 when an ID follows it
//	    …     the stream's name
//	    16    ID of the message, when there is room for it
//	    …     the recipient's address
//
// The hash is both the proof that we made it and the start of the counter (the
// construction of SIV, RFC 5297, with HMAC): no random number can be drawn twice,
// and a message that is tried again has the same link, so that its signature can
// be the same. Both secrets are of one key of the ring, by labels of their own.
//
// Nobody can make one without the key, change one, or read what is in it. Its
// length tells that of address and stream. Who has one may use it: the recipient,
// and whoever the recipient showed the mail.

// MaxURL bounds a link, in octets.
const MaxURL = 499

const (
	tokenVersion = 1
	markLen      = 16
	headLen      = 2 + markLen
	withID       = 0x80
	maxStream    = 64
	maxAddress   = 254 // RFC 5321 4.5.3.1.3, without the brackets
	maxSealed    = 1 + maxStream + len(mta.ID{}) + maxAddress
)

// maxToken is the length of the longest token.
const maxToken = ((headLen+maxSealed)*8 + 5) / 6

var tokens = base64.RawURLEncoding.Strict()

// leave is what a token says.
type leave struct {
	stream  string
	address string // canonical
	message mta.ID // zero: the link had no room for it
}

// sealer makes and opens the tokens of one key. It is never changed.
type sealer struct {
	number byte
	mark   []byte // the key of marks
	block  cipher.Block
}

func newSealer(k *keyring.Key) (*sealer, error) {
	block, err := aes.NewCipher(k.Derive("mailout unsubscribe 1: seal"))
	if err != nil {
		return nil, err
	}
	return &sealer{number: k.Number(), mark: k.Derive("mailout unsubscribe 1: mark"), block: block}, nil
}

// sealers are those of a ring, the one in use first.
type sealers []*sealer

func newSealers(r keyring.Ring) (sealers, error) {
	out := make(sealers, 0, len(r))
	for i := range r {
		s, err := newSealer(r[len(r)-1-i])
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// sum is the mark of a token: of its first two octets and what is not sealed yet.
func (s *sealer) sum(plain []byte) []byte {
	h := hmac.New(sha256.New, s.mark)
	h.Write([]byte{tokenVersion, s.number})
	h.Write(plain)
	return h.Sum(nil)[:markLen]
}

// appendToken makes a token of at most so many octets; false when it would be
// longer, also without the ID.
func (s *sealer) appendToken(dst []byte, l leave, room int) ([]byte, bool) {
	if len(l.stream) > maxStream || len(l.address) > maxAddress {
		return dst, false
	}
	var space [headLen + maxSealed]byte
	raw := space[:headLen]
	raw[0], raw[1] = tokenVersion, s.number
	raw = append(append(raw, byte(len(l.stream))), l.stream...)
	if !l.message.IsZero() && tokens.EncodedLen(len(raw)+len(l.message)+len(l.address)) <= room {
		raw[headLen] |= withID
		raw = append(raw, l.message[:]...)
	}
	raw = append(raw, l.address...)
	if tokens.EncodedLen(len(raw)) > room {
		return dst, false
	}
	mark := s.sum(raw[headLen:])
	copy(raw[2:], mark)
	cipher.NewCTR(s.block, mark).XORKeyStream(raw[headLen:], raw[headLen:])
	return tokens.AppendEncode(dst, raw), true
}

// open reads a token; false when it is none of ours. How long that takes depends
// on its length alone.
func (all sealers) open(token string) (l leave, ok bool) {
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") { // which base64 passes over
		return l, false
	}
	raw, err := tokens.DecodeString(token)
	if err != nil || len(raw) <= headLen || raw[0] != tokenVersion {
		return l, false
	}
	s := all.numbered(raw[1])
	if s == nil {
		return l, false
	}
	mark, plain := raw[2:headLen], raw[headLen:]
	cipher.NewCTR(s.block, mark).XORKeyStream(plain, plain)
	if !hmac.Equal(mark, s.sum(plain)) {
		return l, false
	}
	return readLeave(plain)
}

func (all sealers) numbered(n byte) *sealer {
	for _, s := range all {
		if s.number == n {
			return s
		}
	}
	return nil
}

// readLeave reads what was sealed.
func readLeave(plain []byte) (l leave, ok bool) {
	n := int(plain[0] &^ withID)
	rest := plain[1:]
	if len(rest) < n {
		return l, false
	}
	l.stream, rest = string(rest[:n]), rest[n:]
	if plain[0]&withID != 0 {
		if len(rest) < len(l.message) {
			return l, false
		}
		rest = rest[copy(l.message[:], rest):]
	}
	l.address = string(rest)
	return l, true
}

// Fits reports whether the links of a stream are within MaxURL for every address,
// below the URL that they begin with.
func Fits(url, stream string) bool {
	return len(url)+1+tokens.EncodedLen(headLen+1+len(stream)+maxAddress) <= MaxURL
}
