package account

import (
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
	"golang.org/x/crypto/argon2"
)

// The costs of new hashes. Those of argon2id are the second choice of RFC 9106
// 4 scaled to what a mail server can spend on a sign-in (19 MiB, about 20 ms);
// SCRAM's are paid by the client and by PLAIN, and more than 65,536 iterations
// are refused by some clients (Cyrus SASL).
const (
	argonMemory = 19 << 10 // KiB
	argonTime   = 2
	argonLanes  = 1
	hashOctets  = 32
	saltOctets  = 16

	scramIterations = 50_000
)

// What a hash of the configuration may cost at most: one check holds that much
// memory and time.
const (
	maxArgonMemory     = 256 << 10 // KiB
	maxArgonTime       = 16
	maxArgonLanes      = 16
	minScramIterations = 4096 // RFC 7677 4
	maxScramIterations = 10_000_000
	maxHash            = 64
	minSalt, maxSalt   = 8, 64
)

// MaxPassword is the longest password that is checked or hashed, in octets
// (RFC 4616 2 says 255 characters at least).
const MaxPassword = 1024

// Verifier is what is kept of a password, in one of two forms:
//
//	$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH
//	$scram-sha-256$i=50000$SALT$STOREDKEY$SERVERKEY
//
// with base64 without padding. The first serves every mechanism that hands the
// password over, the second SCRAM-SHA-256 (RFC 5802, 7677) as well. The zero
// value fits no password.
type Verifier struct {
	text  string // as written; empty: the zero value
	argon *argonHash
	scram *scram.StoredCredentials
}

type argonHash struct {
	memory, time uint32
	lanes        uint8
	salt, hash   []byte
}

// errForm says that a text is no verifier. The text is never repeated: it may
// be a password.
var errForm = errors.New("is not a password hash (`mailout config password` makes one)")

// ParseVerifier reads a hash. Its errors never repeat the text.
func ParseVerifier(s string) (Verifier, error) {
	parts := strings.Split(s, "$")
	if len(s) > 1024 || len(parts) < 2 || parts[0] != "" {
		return Verifier{}, errForm
	}
	switch {
	case parts[1] == "argon2id" && len(parts) == 6:
		return parseArgon(s, parts[2:])
	case parts[1] == "scram-sha-256" && len(parts) == 6:
		return parseScram(s, parts[2:])
	}
	return Verifier{}, errForm
}

func parseArgon(text string, parts []string) (Verifier, error) {
	if parts[0] != "v="+strconv.Itoa(argon2.Version) {
		return Verifier{}, errors.New("is an argon2id hash of another version than 19")
	}
	var n [3]uint64
	costs := strings.Split(parts[1], ",")
	if len(costs) != 3 {
		return Verifier{}, errForm
	}
	for i, c := range [3]struct {
		key  string
		most uint64
	}{{"m=", maxArgonMemory}, {"t=", maxArgonTime}, {"p=", maxArgonLanes}} {
		digits, ok := strings.CutPrefix(costs[i], c.key)
		var err error
		if n[i], err = strconv.ParseUint(digits, 10, 32); !ok || err != nil {
			return Verifier{}, errForm
		}
		if n[i] < 1 || n[i] > c.most {
			return Verifier{}, fmt.Errorf("is an argon2id hash with %s%d (1 to %d are possible)", c.key, n[i], c.most)
		}
	}
	h := &argonHash{memory: uint32(n[0]), time: uint32(n[1]), lanes: uint8(n[2])}
	var err error
	if h.salt, err = decode(parts[2], minSalt, maxSalt); err != nil {
		return Verifier{}, err
	}
	if h.hash, err = decode(parts[3], 16, maxHash); err != nil {
		return Verifier{}, err
	}
	return Verifier{text: text, argon: h}, nil
}

func parseScram(text string, parts []string) (Verifier, error) {
	digits, ok := strings.CutPrefix(parts[0], "i=")
	n, err := strconv.ParseUint(digits, 10, 32)
	if !ok || err != nil {
		return Verifier{}, errForm
	}
	if n < minScramIterations || n > maxScramIterations {
		return Verifier{}, fmt.Errorf("is a SCRAM hash of %d iterations (%d to %d are possible)", n, minScramIterations, maxScramIterations)
	}
	salt, err := decode(parts[1], minSalt, maxSalt)
	if err != nil {
		return Verifier{}, err
	}
	c := &scram.StoredCredentials{KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: int(n)}}
	if c.StoredKey, err = decode(parts[2], hashOctets, hashOctets); err != nil {
		return Verifier{}, err
	}
	if c.ServerKey, err = decode(parts[3], hashOctets, hashOctets); err != nil {
		return Verifier{}, err
	}
	return Verifier{text: text, scram: c}, nil
}

func decode(s string, least, most int) ([]byte, error) {
	b, err := base64.RawStdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) < least || len(b) > most || strings.ContainsAny(s, "\r\n") {
		return nil, errForm
	}
	return b, nil
}

// String gives the hash as it was written.
func (v Verifier) String() string { return v.text }

// SCRAM reports whether SCRAM-SHA-256 works with this hash.
func (v Verifier) SCRAM() bool { return v.scram != nil }

// Check reports whether a password fits, in a time that does not depend on how
// wrong it is. It takes the memory and time that the hash asks for.
func (v Verifier) Check(password string) bool {
	if password == "" || len(password) > MaxPassword {
		return false
	}
	switch {
	case v.argon != nil:
		h := v.argon
		got := argon2.IDKey([]byte(password), h.salt, h.time, h.memory, h.lanes, uint32(len(h.hash)))
		return hmac.Equal(got, h.hash)
	case v.scram != nil:
		got, err := scramKeys(password, v.scram.KeyFactors)
		return err == nil && hmac.Equal(got.StoredKey, v.scram.StoredKey)
	}
	return false
}

func scramKeys(password string, f scram.KeyFactors) (scram.StoredCredentials, error) {
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return scram.StoredCredentials{}, err
	}
	return client.GetStoredCredentialsWithError(f)
}

// Hash makes a verifier of a new password, with fresh salt: argon2id, or the
// keys of SCRAM-SHA-256.
func Hash(password string, forSCRAM bool) (Verifier, error) {
	switch {
	case password == "":
		return Verifier{}, errors.New("the password is empty")
	case len(password) > MaxPassword:
		return Verifier{}, fmt.Errorf("the password is longer than %d octets", MaxPassword)
	case strings.ContainsRune(password, 0):
		return Verifier{}, errors.New("the password has a NUL, which no mail program can send")
	}
	salt := make([]byte, saltOctets)
	if _, err := rand.Read(salt); err != nil {
		return Verifier{}, fmt.Errorf("random salt: %w", err)
	}
	enc := base64.RawStdEncoding.EncodeToString
	if !forSCRAM {
		hash := argon2.IDKey([]byte(password), salt, argonTime, argonMemory, argonLanes, hashOctets)
		return ParseVerifier(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonTime, argonLanes, enc(salt), enc(hash)))
	}
	keys, err := scramKeys(password, scram.KeyFactors{Salt: string(salt), Iters: scramIterations})
	if err != nil {
		return Verifier{}, fmt.Errorf("the password cannot be used with SCRAM: %w", err)
	}
	return ParseVerifier(fmt.Sprintf("$scram-sha-256$i=%d$%s$%s$%s", scramIterations, enc(salt), enc(keys.StoredKey), enc(keys.ServerKey)))
}
