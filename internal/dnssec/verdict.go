package dnssec

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/dns"
)

// Status is what an answer is worth (RFC 4035 4.3).
type Status uint8

// The statuses, from the one that says least.
const (
	// Indeterminate: what it takes to know cannot be had now.
	Indeterminate Status = iota
	// Bogus: it should be signed and is not, or wrongly.
	Bogus
	// Insecure: it is proved that nobody signs it, or not in a way that is
	// checked here, or no anchor is above it.
	Insecure
	// Secure: signed, all the way from an anchor.
	Secure
)

var statusWords = [...]string{"indeterminate", "bogus", "insecure", "secure"}

// String gives the status' word.
func (s Status) String() string {
	if int(s) < len(statusWords) {
		return statusWords[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Verdict is what became of a message.
type Verdict struct {
	Status Status
	// Why is why it is not secure: one clause for people that names the record
	// or zone. It holds no text of strangers but names.
	Why string
	// Until is when it is to be checked anew; zero for other than secure ones.
	Until time.Time
}

// Source asks name servers for records with their signatures (the DO bit),
// until good accepts a message or nobody is left to ask. The error says that no
// message came at all.
type Source func(ctx context.Context, name string, qtype uint16, good func(*dns.Msg) bool) error

// trouble is why something is not secure, while it goes up.
type trouble struct {
	status Status
	why    string
}

func (t *trouble) Error() string { return t.why }

func bogus(format string, args ...any) *trouble {
	return &trouble{Bogus, fmt.Sprintf(format, args...)}
}

func insecure(format string, args ...any) *trouble {
	return &trouble{Insecure, fmt.Sprintf(format, args...)}
}

// verdictOf makes the verdict of an error; unknown means indeterminate.
func verdictOf(err error) Verdict {
	var t *trouble
	if errors.As(err, &t) {
		return Verdict{Status: t.status, Why: t.why}
	}
	return Verdict{Status: Indeterminate, Why: err.Error()}
}
