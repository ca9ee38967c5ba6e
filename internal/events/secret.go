package events

import (
	"encoding/base64"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	webhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// The lengths of a secret in octets that Standard Webhooks allows.
const (
	leastSecret = 24
	mostSecret  = 64
)

// checkSecret tells whether a text without its prefix can sign.
func checkSecret(key string) error {
	raw, err := base64.StdEncoding.DecodeString(key)
	if err != nil || len(raw) < leastSecret || len(raw) > mostSecret {
		return errSecret
	}
	return nil
}

// Secrets sign; the first is the newest. They are never logged.
type Secrets struct{ keys []string }

// Errors of ParseSecrets.
var (
	errNoSecret    = errors.New(`is empty (write "whsec_" and base64 of 24 to 64 random octets; openssl rand -base64 32 makes such)`)
	errSecret      = errors.New(`is not a secret (write "whsec_" and base64 of 24 to 64 random octets; openssl rand -base64 32 makes such)`)
	errManySecrets = errors.New("holds more than 10 secrets")
)

const maxSecrets = 10

// ParseSecrets reads secrets of Standard Webhooks, with or without "whsec_",
// separated by spaces or line ends. Errors do not show them.
func ParseSecrets(s string) (Secrets, error) {
	var out Secrets
	for text := range strings.FieldsSeq(s) {
		key := strings.TrimPrefix(text, "whsec_")
		if err := checkSecret(key); err != nil {
			return Secrets{}, err
		}
		out.keys = append(out.keys, key)
	}
	switch {
	case len(out.keys) == 0:
		return out, errNoSecret
	case len(out.keys) > maxSecrets:
		return Secrets{}, errManySecrets
	}
	return out, nil
}

// Empty reports whether there is none.
func (s Secrets) Empty() bool { return len(s.keys) == 0 }

// Equal reports whether both are the same secrets in the same order.
func (s Secrets) Equal(o Secrets) bool { return slices.Equal(s.keys, o.keys) }

// String gives what ParseSecrets reads.
func (s Secrets) String() string {
	var b strings.Builder
	for i, k := range s.keys {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString("whsec_" + k)
	}
	return b.String()
}

// LogValue implements slog.LogValuer.
func (Secrets) LogValue() slog.Value { return slog.StringValue("(secret)") }

// sign gives the value of webhook-signature: one signature a secret.
func (s Secrets) sign(id string, at time.Time, body []byte) (string, error) {
	var all []string
	for _, k := range s.keys {
		w, err := webhooks.NewWebhook(k)
		if err != nil {
			return "", err
		}
		one, err := w.Sign(id, at, body)
		if err != nil {
			return "", err
		}
		all = append(all, one)
	}
	return strings.Join(all, " "), nil
}
